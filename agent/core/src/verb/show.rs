//! Replies in words: for the ledger, the log and the screen.

use std::fmt;

use super::reply::{ActionStatus, Detail, PlaceDone, ReclaimDone, Reply, SkipReason, StopReason};

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(detail) => detail.fmt(f),
            Self::Refused(refusal) => write!(f, "refused ({}): {}", refusal.reason, refusal.text),
            Self::Failed(failure) => f.write_str(&failure.text),
            Self::Status(status) => match status {
                ActionStatus::NotSeen => f.write_str("not seen"),
                ActionStatus::Running => f.write_str("running"),
                ActionStatus::Interrupted => f.write_str("interrupted; what was done is not known"),
                ActionStatus::Finished(reply) => reply.fmt(f),
            },
        }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(done) => {
                write!(f, "job {} in {:.2} s", done.job, seconds(done.elapsed_ms))?;
                done.main_pid.map_or(Ok(()), |pid| write!(f, ", main PID {pid}"))
            }
            Self::Reclaim(done) => write_reclaim(f, done),
            Self::Undo(done) => {
                write!(f, "{} files restored", done.restored_files)?;
                if done.conflicts_total > 0 {
                    write!(f, ", {} left in hold because of conflicts", done.conflicts_total)?;
                }
                Ok(())
            }
            Self::Purge(done) => {
                write!(f, "{} files of {} actions purged, {} bytes", done.files, done.actions, done.bytes)
            }
            Self::Probe(done) if done.timed_out => write!(f, "timed out after {} ms", done.elapsed_ms),
            Self::Probe(done) => write!(f, "exit status {} in {} ms", done.exit_status, done.elapsed_ms),
            Self::Scene(scene) => {
                write!(f, "{} processes and {} sockets seen", scene.processes.len(), scene.sockets.len())
            }
            Self::Processes(seen) => {
                write!(f, "{} processes counted, {} hold deleted files", seen.processes.len(), seen.deleted.len())
            }
            Self::Pong(pong) => {
                write!(f, "actuator {}{}", pong.version, if pong.is_held { ", held" } else { "" })
            }
        }
    }
}

/// `freed 41.2 MiB, used 95.0 % -> 79.8 %, target_met (journal 30.0 MiB, logs 11.2 MiB)`. Where the target was not met, what
/// was left follows, as that is what somebody has to look at: `; left in logs: 3 open, 12 would_not_shrink`.
fn write_reclaim(f: &mut fmt::Formatter<'_>, done: &ReclaimDone) -> fmt::Result {
    let (before, after) = (done.used_ratio_before * 100.0, done.used_ratio_after * 100.0);
    write!(f, "freed {:.1} MiB, used {before:.1} % -> {after:.1} %, {}", mebibytes(done.freed_bytes), done.stopped)?;
    let worked = done.places.iter().filter(|place| place.purged_files + place.held_files > 0);
    for (at, place) in worked.enumerate() {
        let separator = if at == 0 { " (" } else { ", " };
        write!(f, "{separator}{} {:.1} MiB", place.name, mebibytes(place.freed_bytes))?;
    }
    let any = done.places.iter().any(|place| place.purged_files + place.held_files > 0);
    f.write_str(if any { ")" } else { "" })?;
    let is_met = matches!(done.stopped, StopReason::TargetMet | StopReason::NothingToDo);
    done.places.iter().filter(|_| !is_met).try_for_each(|place| write_left(f, place))
}

/// Files with other names were never meant, so they are not counted here.
fn write_left(f: &mut fmt::Formatter<'_>, place: &PlaceDone) -> fmt::Result {
    let left = place.skipped.iter().filter(|skip| skip.reason != SkipReason::Unlisted);
    for (at, skip) in left.enumerate() {
        match at {
            0 => write!(f, "; left in {}: ", place.name)?,
            _ => f.write_str(", ")?,
        }
        write!(f, "{} {}", skip.files, skip.reason)?;
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
