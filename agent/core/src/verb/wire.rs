//! The fields of each message, in their order on the wire. Codes are never used again for something else.

use std::time::Duration;

use super::codec::{Reader, WireError, Writer, invalid};
use super::counts::{read_deleted, read_process_counts, write_deleted, write_process_counts};
use super::reply::{
    ActionStatus, Conflict, Detail, Failure, JobResult, PlaceDone, Pong, ProbeDone, PurgeDone, ReclaimDone, Refusal,
    RefusalReason, Reply, SkipCount, SkipReason, StopReason, UndoDone, UnitDone,
};
use super::{Request, Verb};
use crate::id::{ActionId, DecisionId};
use crate::plan::{AgedFiles, DiskReclaim, ReclaimPlace, ResetFailed, Undo};
use crate::processes::Inspected;
use crate::scene::{ProcessScene, SocketScene, UnitScene};
use crate::subject::UnitName;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

impl Request {
    /// The request as a frame, ready to be sent.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], or a list or string beyond its bound.
    pub fn to_frame(&self) -> Result<Vec<u8>, WireError> {
        let mut w = Writer::new(REQUEST);
        w.u64(self.action.0);
        w.option(self.decision, |w, id| w.u64(id.0));
        w.option(self.invocation, |w, id| w.id(&id));
        write_verb(&mut w, &self.verb);
        w.into_frame()
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`WireError`] for anything that [`Self::to_frame`] would not have written.
    pub fn from_body(body: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body, REQUEST)?;
        let action = ActionId(r.u64("action")?);
        let decision = r.option("decision", |r| r.u64("decision").map(DecisionId))?;
        let invocation = r.option("invocation", |r| r.id("invocation"))?;
        let verb = read_verb(&mut r)?;
        r.finish()?;
        Ok(Self { action, decision, invocation, verb })
    }
}

impl Reply {
    /// The reply as a frame, ready to be sent.
    ///
    /// # Errors
    /// [`WireError::TooLarge`], or a list or string beyond its bound.
    pub fn to_frame(&self) -> Result<Vec<u8>, WireError> {
        let mut w = Writer::new(REPLY);
        write_reply(&mut w, self);
        w.into_frame()
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    /// [`WireError`] for anything that [`Self::to_frame`] would not have written.
    pub fn from_body(body: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(body, REPLY)?;
        let reply = read_reply(&mut r, Nested::Allowed)?;
        r.finish()?;
        Ok(reply)
    }
}

fn write_verb(w: &mut Writer, verb: &Verb) {
    match verb {
        Verb::UnitStart { unit, reset_failed } => write_unit(w, 1, unit, Some(*reset_failed)),
        Verb::UnitRestart { unit, reset_failed } => write_unit(w, 2, unit, Some(*reset_failed)),
        Verb::UnitStop { unit } => write_unit(w, 3, unit, None),
        Verb::UnitReload { unit } => write_unit(w, 4, unit, None),
        Verb::DiskReclaim(reclaim) => {
            w.u8(5);
            write_reclaim(w, reclaim);
        }
        Verb::Undo { action } => {
            w.u8(6);
            w.u64(action.0);
        }
        Verb::PurgeExpired => w.u8(7),
        Verb::Status { action } => {
            w.u8(8);
            w.u64(action.0);
        }
        Verb::ProbeCommand { name } => {
            w.u8(9);
            w.text("probe", name);
        }
        Verb::Ping => w.u8(11),
        Verb::Scene { unit } => write_unit(w, 12, unit, None),
        Verb::Processes => w.u8(13),
    }
}

fn read_verb(r: &mut Reader<'_>) -> Result<Verb, WireError> {
    Ok(match r.u8("verb")? {
        1 => Verb::UnitStart { unit: read_unit(r)?, reset_failed: read_reset(r)? },
        2 => Verb::UnitRestart { unit: read_unit(r)?, reset_failed: read_reset(r)? },
        3 => Verb::UnitStop { unit: read_unit(r)? },
        4 => Verb::UnitReload { unit: read_unit(r)? },
        5 => Verb::DiskReclaim(read_reclaim(r)?),
        6 => Verb::Undo { action: ActionId(r.u64("action")?) },
        7 => Verb::PurgeExpired,
        8 => Verb::Status { action: ActionId(r.u64("action")?) },
        9 => Verb::ProbeCommand { name: r.text("probe")? },
        // 10 was `inspect`, which nobody asked.
        11 => Verb::Ping,
        12 => Verb::Scene { unit: read_unit(r)? },
        13 => Verb::Processes,
        other => return Err(unknown("verb", other)),
    })
}

fn write_unit(w: &mut Writer, code: u8, unit: &UnitName, reset: Option<ResetFailed>) {
    w.u8(code);
    w.text("unit", unit.as_str());
    match reset {
        Some(ResetFailed::Keep) => w.u8(0),
        Some(ResetFailed::Clear) => w.u8(1),
        None => {}
    }
}

fn read_unit(r: &mut Reader<'_>) -> Result<UnitName, WireError> {
    let text = r.text("unit")?;
    text.parse().map_err(|error: crate::subject::BadUnitName| invalid("unit", error.to_string()))
}

fn read_reset(r: &mut Reader<'_>) -> Result<ResetFailed, WireError> {
    Ok(if r.bool("reset_failed")? { ResetFailed::Clear } else { ResetFailed::Keep })
}

fn write_reclaim(w: &mut Writer, reclaim: &DiskReclaim) {
    w.bytes("mount", &reclaim.mount.0);
    w.list("from", &reclaim.from, write_place);
    w.f64(reclaim.until_used_ratio);
    match reclaim.undo {
        Undo::None => w.u8(0),
        Undo::For(time) => {
            w.u8(1);
            w.u64(millis(time));
        }
    }
}

fn read_reclaim(r: &mut Reader<'_>) -> Result<DiskReclaim, WireError> {
    let mount = r.path("mount")?;
    let from = r.list("from", read_place)?;
    let until_used_ratio = r.ratio("until_used_ratio")?;
    let undo = match r.u8("undo")? {
        0 => Undo::None,
        1 => Undo::For(Duration::from_millis(r.u64("undo_for")?)),
        other => return Err(unknown("undo", other)),
    };
    Ok(DiskReclaim { mount, from, until_used_ratio, undo })
}

fn write_place(w: &mut Writer, place: &ReclaimPlace) {
    match place {
        ReclaimPlace::AptCache => w.u8(1),
        ReclaimPlace::CoreDumps => w.u8(2),
        ReclaimPlace::Journal => w.u8(3),
        ReclaimPlace::Aged(aged) => {
            w.u8(4);
            w.text("name", &aged.name);
            w.bytes("under", &aged.under.0);
            w.list("files", &aged.files, |w, glob| w.text("files", glob));
            w.u64(millis(aged.older_than));
        }
    }
}

fn read_place(r: &mut Reader<'_>) -> Result<ReclaimPlace, WireError> {
    Ok(match r.u8("place")? {
        1 => ReclaimPlace::AptCache,
        2 => ReclaimPlace::CoreDumps,
        3 => ReclaimPlace::Journal,
        4 => ReclaimPlace::Aged(AgedFiles {
            name: r.text("name")?,
            under: r.path("under")?,
            files: r.list("files", |r| r.text("files"))?,
            older_than: Duration::from_millis(r.u64("older_than")?),
        }),
        other => return Err(unknown("place", other)),
    })
}

/// Whether a reply may hold another one: the answer to `status` does, once.
#[derive(Clone, Copy, PartialEq)]
enum Nested {
    Allowed,
    Refused,
}

fn write_reply(w: &mut Writer, reply: &Reply) {
    match reply {
        Reply::Done(detail) => {
            w.u8(1);
            write_detail(w, detail);
        }
        Reply::Refused(refusal) => {
            w.u8(2);
            w.u8(refusal.reason.code());
            w.text("text", &refusal.text);
        }
        Reply::Failed(failure) => {
            w.u8(3);
            w.text("text", &failure.text);
            w.option(failure.job, |w, job| w.u8(job.code()));
            w.u64(failure.elapsed_ms);
        }
        Reply::Status(status) => {
            w.u8(4);
            match status {
                ActionStatus::NotSeen => w.u8(1),
                ActionStatus::Running => w.u8(2),
                ActionStatus::Interrupted => w.u8(3),
                ActionStatus::Finished(reply) => {
                    w.u8(4);
                    write_reply(w, reply);
                }
            }
        }
    }
}

fn read_reply(r: &mut Reader<'_>, nested: Nested) -> Result<Reply, WireError> {
    Ok(match r.u8("reply")? {
        1 => Reply::Done(read_detail(r)?),
        2 => Reply::Refused(Refusal { reason: coded(r, "reason", RefusalReason::from_code)?, text: r.text("text")? }),
        3 => Reply::Failed(Failure {
            text: r.text("text")?,
            job: r.option("job", |r| coded(r, "job", JobResult::from_code))?,
            elapsed_ms: r.u64("elapsed_ms")?,
        }),
        4 if nested == Nested::Allowed => Reply::Status(match r.u8("status")? {
            1 => ActionStatus::NotSeen,
            2 => ActionStatus::Running,
            3 => ActionStatus::Interrupted,
            4 => ActionStatus::Finished(Box::new(read_reply(r, Nested::Refused)?)),
            other => return Err(unknown("status", other)),
        }),
        other => return Err(unknown("reply", other)),
    })
}

fn write_detail(w: &mut Writer, detail: &Detail) {
    match detail {
        Detail::Unit(done) => {
            w.u8(1);
            w.u8(done.job.code());
            w.u64(done.elapsed_ms);
            w.option(done.main_pid, Writer::u32);
        }
        Detail::Reclaim(done) => {
            w.u8(2);
            w.u64(done.freed_bytes);
            w.f64(done.used_ratio_before);
            w.f64(done.used_ratio_after);
            w.list("places", &done.places, write_place_done);
            w.u8(done.stopped.code());
            w.option(done.undo_until_ms, Writer::i64);
            w.u64(done.elapsed_ms);
        }
        Detail::Undo(done) => {
            w.u8(3);
            w.u64(done.restored_files);
            w.u64(done.restored_bytes);
            w.list("conflicts", &done.conflicts, |w, conflict| {
                w.bytes("path", &conflict.path.0);
                w.text("why", &conflict.why);
            });
            w.u64(done.conflicts_total);
        }
        Detail::Purge(done) => {
            w.u8(4);
            w.u64(done.actions);
            w.u64(done.files);
            w.u64(done.bytes);
        }
        Detail::Probe(done) => {
            w.u8(5);
            w.i32(done.exit_status);
            w.u64(done.elapsed_ms);
            w.bool(done.timed_out);
        }
        Detail::Pong(pong) => {
            w.u8(7);
            w.text("version", &pong.version);
            w.bool(pong.is_held);
        }
        Detail::Scene(scene) => {
            w.u8(8);
            w.list("processes", &scene.processes, write_process);
            w.u32(scene.processes_more);
            w.list("sockets", &scene.sockets, write_socket);
            w.u32(scene.sockets_more);
            w.list("limits", &scene.limits, |w, limit| w.text("limit", limit));
        }
        Detail::Processes(seen) => {
            w.u8(9);
            w.list("processes", &seen.processes, write_process_counts);
            w.u32(seen.processes_more);
            w.u32(seen.unread);
            w.list("deleted", &seen.deleted, write_deleted);
            w.u32(seen.deleted_more);
        }
    }
}

fn read_detail(r: &mut Reader<'_>) -> Result<Detail, WireError> {
    Ok(match r.u8("detail")? {
        1 => Detail::Unit(UnitDone {
            job: coded(r, "job", JobResult::from_code)?,
            elapsed_ms: r.u64("elapsed_ms")?,
            main_pid: r.option("main_pid", |r| r.u32("main_pid"))?,
        }),
        2 => Detail::Reclaim(ReclaimDone {
            freed_bytes: r.u64("freed_bytes")?,
            used_ratio_before: r.ratio("used_ratio_before")?,
            used_ratio_after: r.ratio("used_ratio_after")?,
            places: r.list("places", read_place_done)?,
            stopped: coded(r, "stopped", StopReason::from_code)?,
            undo_until_ms: r.option("undo_until_ms", |r| r.i64("undo_until_ms"))?,
            elapsed_ms: r.u64("elapsed_ms")?,
        }),
        3 => Detail::Undo(UndoDone {
            restored_files: r.u64("restored_files")?,
            restored_bytes: r.u64("restored_bytes")?,
            conflicts: r.list("conflicts", |r| Ok(Conflict { path: r.path("path")?, why: r.text("why")? }))?,
            conflicts_total: r.u64("conflicts_total")?,
        }),
        4 => Detail::Purge(PurgeDone { actions: r.u64("actions")?, files: r.u64("files")?, bytes: r.u64("bytes")? }),
        5 => Detail::Probe(ProbeDone {
            exit_status: r.i32("exit_status")?,
            elapsed_ms: r.u64("elapsed_ms")?,
            timed_out: r.bool("timed_out")?,
        }),
        // 6 was what `inspect` said.
        7 => Detail::Pong(Pong { version: r.text("version")?, is_held: r.bool("is_held")? }),
        8 => Detail::Scene(UnitScene {
            processes: r.list("processes", read_process)?,
            processes_more: r.u32("processes_more")?,
            sockets: r.list("sockets", read_socket)?,
            sockets_more: r.u32("sockets_more")?,
            limits: r.list("limits", |r| r.text("limit"))?,
        }),
        9 => Detail::Processes(Inspected {
            processes: r.list("processes", read_process_counts)?,
            processes_more: r.u32("processes_more")?,
            unread: r.u32("unread")?,
            deleted: r.list("deleted", read_deleted)?,
            deleted_more: r.u32("deleted_more")?,
        }),
        other => return Err(unknown("detail", other)),
    })
}

fn write_place_done(w: &mut Writer, place: &PlaceDone) {
    w.text("name", &place.name);
    w.u64(place.freed_bytes);
    w.u64(place.purged_files);
    w.u64(place.held_files);
    w.list("skipped", &place.skipped, |w, skip| {
        w.u8(skip.reason.code());
        w.u64(skip.files);
    });
}

fn read_place_done(r: &mut Reader<'_>) -> Result<PlaceDone, WireError> {
    Ok(PlaceDone {
        name: r.text("name")?,
        freed_bytes: r.u64("freed_bytes")?,
        purged_files: r.u64("purged_files")?,
        held_files: r.u64("held_files")?,
        skipped: r.list("skipped", |r| {
            Ok(SkipCount { reason: coded(r, "skipped", SkipReason::from_code)?, files: r.u64("files")? })
        })?,
    })
}

fn write_process(w: &mut Writer, process: &ProcessScene) {
    w.u32(process.pid);
    w.text("name", &process.name);
    w.text("state", &process.state);
    w.text("waits_in", &process.waits_in);
    w.list("stack", &process.stack, |w, call| w.text("call", call));
    w.u32(process.threads);
    w.u64(process.rss_bytes);
    w.u32(process.fds);
    w.u32(process.sockets);
}

fn read_process(r: &mut Reader<'_>) -> Result<ProcessScene, WireError> {
    Ok(ProcessScene {
        pid: r.u32("pid")?,
        name: r.text("name")?,
        state: r.text("state")?,
        waits_in: r.text("waits_in")?,
        stack: r.list("stack", |r| r.text("call"))?,
        threads: r.u32("threads")?,
        rss_bytes: r.u64("rss_bytes")?,
        fds: r.u32("fds")?,
        sockets: r.u32("sockets")?,
    })
}

fn write_socket(w: &mut Writer, socket: &SocketScene) {
    w.text("kind", &socket.kind);
    w.text("local", &socket.local);
    w.text("remote", &socket.remote);
    w.u64(socket.unread);
    w.u64(socket.unsent);
}

fn read_socket(r: &mut Reader<'_>) -> Result<SocketScene, WireError> {
    Ok(SocketScene {
        kind: r.text("kind")?,
        local: r.text("local")?,
        remote: r.text("remote")?,
        unread: r.u64("unread")?,
        unsent: r.u64("unsent")?,
    })
}

fn coded<T>(r: &mut Reader<'_>, field: &'static str, from_code: fn(u8) -> Option<T>) -> Result<T, WireError> {
    let code = r.u8(field)?;
    from_code(code).ok_or_else(|| unknown(field, code))
}

fn unknown(field: &'static str, code: u8) -> WireError {
    invalid(field, format!("code {code} is unknown"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
