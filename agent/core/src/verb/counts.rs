//! The fields of what the actuator counts process by process, in their order on the wire.

use super::codec::{Reader, WireError, Writer};
use crate::processes::{Deleted, ProcessCounts};

pub(super) fn write_process_counts(w: &mut Writer, counts: &ProcessCounts) {
    w.u32(counts.pid);
    w.u64(counts.read_bytes);
    w.u64(counts.written_bytes);
    w.u32(counts.fds);
    w.option(counts.fds_max, Writer::u64);
}

pub(super) fn read_process_counts(r: &mut Reader<'_>) -> Result<ProcessCounts, WireError> {
    Ok(ProcessCounts {
        pid: r.u32("pid")?,
        read_bytes: r.u64("read_bytes")?,
        written_bytes: r.u64("written_bytes")?,
        fds: r.u32("fds")?,
        fds_max: r.option("fds_max", |r| r.u64("fds_max"))?,
    })
}

pub(super) fn write_deleted(w: &mut Writer, deleted: &Deleted) {
    w.u32(deleted.pid);
    w.u32(deleted.device.0);
    w.u32(deleted.device.1);
    w.u32(deleted.files);
    w.u64(deleted.bytes);
}

pub(super) fn read_deleted(r: &mut Reader<'_>) -> Result<Deleted, WireError> {
    Ok(Deleted {
        pid: r.u32("pid")?,
        device: (r.u32("major")?, r.u32("minor")?),
        files: r.u32("files")?,
        bytes: r.u64("bytes")?,
    })
}
