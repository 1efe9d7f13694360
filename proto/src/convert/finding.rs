//! Findings and their evidence.

use mainstay_core::finding::{Evidence, Finding, FindingState, Measure, Severity};
use mainstay_core::id::{ActionId, FindingId};

use super::{ConvertError, all, finite, listed, optional, optional_finite, required, share, word};
use crate::v1;

/// The words for severities, in rising order.
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];
/// The words for states.
const STATES: [FindingState; 3] = [FindingState::Open, FindingState::Cleared, FindingState::Unknown];

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn state_word(state: FindingState) -> &'static str {
    match state {
        FindingState::Open => "open",
        FindingState::Cleared => "cleared",
        FindingState::Unknown => "unknown",
    }
}

impl From<&Measure> for v1::Measure {
    fn from(measure: &Measure) -> Self {
        Self { name: measure.name.clone(), value: measure.value, limit: measure.limit, expected: measure.expected }
    }
}

impl TryFrom<v1::Measure> for Measure {
    type Error = ConvertError;

    fn try_from(measure: v1::Measure) -> Result<Self, ConvertError> {
        let limit = optional_finite("limit", measure.limit)?;
        let expected = optional_finite("expected", measure.expected)?;
        Ok(Self { value: finite("value", measure.value)?, name: measure.name, limit, expected })
    }
}

impl From<&Evidence> for v1::Evidence {
    fn from(evidence: &Evidence) -> Self {
        Self { text: evidence.text.clone(), measure: evidence.measure.as_ref().map(Into::into) }
    }
}

impl TryFrom<v1::Evidence> for Evidence {
    type Error = ConvertError;

    fn try_from(evidence: v1::Evidence) -> Result<Self, ConvertError> {
        Ok(Self { text: evidence.text, measure: optional("measure", evidence.measure)? })
    }
}

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        Self {
            id: finding.id.0,
            kind: finding.kind.as_str().to_owned(),
            subject: Some((&finding.subject).into()),
            severity: severity_word(finding.severity).to_owned(),
            confidence: finding.confidence,
            state: state_word(finding.state).to_owned(),
            opened: Some(finding.opened.into()),
            changed: Some(finding.changed.into()),
            evidence: finding.evidence.iter().map(Into::into).collect(),
            effect_of: finding.effect_of.map(|action| action.0),
        }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = ConvertError;

    fn try_from(finding: v1::Finding) -> Result<Self, ConvertError> {
        Ok(Self {
            id: FindingId(finding.id),
            kind: word("kind", &finding.kind)?,
            subject: required("subject", finding.subject)?,
            severity: listed("severity", &finding.severity, &SEVERITIES, severity_word)?,
            confidence: share("confidence", finding.confidence)?,
            state: listed("state", &finding.state, &STATES, state_word)?,
            opened: required("opened", finding.opened)?,
            changed: required("changed", finding.changed)?,
            evidence: all("evidence", finding.evidence)?,
            effect_of: finding.effect_of.map(ActionId),
        })
    }
}
