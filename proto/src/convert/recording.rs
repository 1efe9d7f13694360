//! The seconds around a finding. Their columns travel as the core writes them.

use mainstay_core::id::FindingId;
use mainstay_core::recording::{FindingRecording, Recording};

use super::ConvertError;
use crate::v1;

impl From<&FindingRecording> for v1::FindingRecording {
    fn from(kept: &FindingRecording) -> Self {
        Self { finding: kept.finding.0, opened_ms: kept.opened_ms, columns: kept.recording.encode() }
    }
}

impl TryFrom<v1::FindingRecording> for FindingRecording {
    type Error = ConvertError;

    fn try_from(kept: v1::FindingRecording) -> Result<Self, ConvertError> {
        let recording = Recording::decode(&kept.columns).map_err(|error| ConvertError::invalid("columns", error))?;
        Ok(Self { finding: FindingId(kept.finding), opened_ms: kept.opened_ms, recording })
    }
}
