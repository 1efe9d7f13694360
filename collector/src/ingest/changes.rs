//! Changes of hosts on their way into the store.

use mainstay_core::change::id_of;
use mainstay_core::id::HostId;
use mainstay_proto::v1;

use crate::store::Batch;
use crate::store::keys::{ChangeByTimeKey, ChangeKey};

/// Longest text of a change; agents keep well below.
const TEXT_BYTES_MAX: usize = 1_024;

/// Puts a change into a batch. One that was told before takes the same place.
///
/// # Errors
/// If it holds more than a change can.
pub(super) fn store(batch: &mut Batch, host: HostId, change: v1::Change, now_ms: i64) -> Result<(), String> {
    let optional = [&change.before, &change.after, &change.by].into_iter().flatten();
    let longest = optional.chain([&change.kind, &change.subject, &change.text]).map(String::len).max().unwrap_or(0);
    if longest > TEXT_BYTES_MAX {
        return Err(format!("a text of a change has {longest} bytes (at most {TEXT_BYTES_MAX})"));
    }
    let id = id_of(&change.kind, &change.subject, change.before.as_deref(), change.after.as_deref());
    // A host whose clock is ahead has changed nothing in a time to come.
    let at_ms = change.at_ms.min(now_ms);
    batch.put(&ChangeKey { host, at_ms, id }, &v1::Change { at_ms, ..change });
    batch.put_raw(&ChangeByTimeKey { at_ms, host, id }, Vec::new());
    Ok(())
}
