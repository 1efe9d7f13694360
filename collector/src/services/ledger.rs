//! Reading a host's ledger as it is stored here, and what operators ordered.

use mainstay_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::find;
use super::search::limit;
use crate::hub::Hub;
use crate::store::keys::{CommandKey, Key, LedgerKey};
use crate::store::values::CommandRow;

/// Records of one chunk.
const CHUNK_RECORDS: usize = 256;
/// Most bytes of records in one chunk.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Sends the ledger of a host, from a record on. Runs on a thread of its own.
pub fn read(hub: &Hub, request: &v1::ReadLedgerRequest, out: &mpsc::Sender<Result<v1::LedgerChunk, Status>>) {
    // Nobody reads on: nothing is left to do.
    let _ = match chunks(hub, request, out) {
        Ok(()) => Ok(()),
        Err(status) => out.blocking_send(Err(status)),
    };
}

fn chunks(
    hub: &Hub,
    request: &v1::ReadLedgerRequest,
    out: &mpsc::Sender<Result<v1::LedgerChunk, Status>>,
) -> Result<(), Status> {
    let (host, empty) = {
        let state = hub.state();
        let id = find::host(&state, &request.host)?;
        let host = state.hosts.get(&id).cloned().unwrap_or_default();
        let head = v1::LedgerChunk {
            host_id: id.0.to_vec(),
            hostname: host.hostname().to_owned(),
            entries: Vec::new(),
            head: host.mark.ledger.clone(),
            doubts: host.mark.doubts.clone(),
        };
        (id, head)
    };
    let mut chunk = empty.clone();
    let mut bytes = 0;
    let from = LedgerKey { host, index: request.from_index }.encode();
    for item in hub.store.scan::<LedgerKey>(&LedgerKey::of(host), &from) {
        let (key, value) = item?;
        let entry: v1::LedgerEntry = crate::store::decode(&key.encode(), &value)?;
        bytes += entry.record.len();
        chunk.entries.push(entry);
        if chunk.entries.len() >= CHUNK_RECORDS || bytes >= CHUNK_BYTES {
            bytes = 0;
            if out.blocking_send(Ok(std::mem::replace(&mut chunk, empty.clone()))).is_err() {
                return Ok(());
            }
        }
    }
    // The last one also tells the head of a ledger without records.
    let _ = out.blocking_send(Ok(chunk));
    Ok(())
}

/// Answers `ListCommands`, newest first.
///
/// # Errors
/// If the store fails.
pub fn commands(hub: &Hub, request: &v1::ListCommandsRequest) -> Result<v1::ListCommandsResponse, Status> {
    let mut commands = Vec::new();
    for item in hub.store.scan_back::<CommandKey>(&CommandKey::all()).take(limit(request.limit)) {
        let (key, value) = item?;
        let row: CommandRow = crate::store::decode(&key.encode(), &value)?;
        let CommandRow { operator, role, command, result } = row;
        commands.push(v1::CommandView { at_ms: key.at_ms, operator, role, command, result });
    }
    Ok(v1::ListCommandsResponse { commands })
}
