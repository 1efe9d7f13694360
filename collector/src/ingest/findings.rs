//! Findings on their way into the store.

use mainstay_core::id::{FindingId, HostId};
use mainstay_proto::v1;

use crate::store::Batch;
use crate::store::keys::{FindingByTimeKey, FindingKey, ended};
use crate::store::values::{ended_ms, opened_ms};

/// Puts a finding into a batch, in place of what was told of it before.
pub(super) fn store(batch: &mut Batch, host: HostId, finding: &v1::Finding, now_ms: i64) {
    let (opened_ms, id) = (opened_ms(finding).unwrap_or(now_ms), FindingId(finding.id));
    batch.put(&FindingKey { host, finding: id }, finding);
    batch.put_raw(&FindingByTimeKey { opened_ms, host, finding: id }, ended(ended_ms(finding)));
}
