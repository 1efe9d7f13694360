//! What the actuator answers, verb by verb, and how that becomes the outcome of a step.

use std::fmt;

use crate::processes::Inspected;
use crate::record::{Ended, Outcome};
use crate::scene::UnitScene;
use crate::subject::PathBytes;

/// Writes an enum with a name and a stable code for each variant.
macro_rules! coded_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name, as it is shown and logged.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The stable code on the wire and in the actuator's journal.
            #[must_use]
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The value of a code.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It was carried out.
    Done(Detail),
    /// It was not begun.
    Refused(Refusal),
    /// It was begun and did not succeed.
    Failed(Failure),
    /// The answer to `status`.
    Status(ActionStatus),
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionStatus {
    /// No action of this id was ever begun here, or it is so old that it was forgotten.
    NotSeen,
    /// It is being carried out.
    Running,
    /// The actuator died while it was being carried out; how far it came is not known.
    Interrupted,
    /// It ended so.
    Finished(Box<Reply>),
}

/// What was done, by verb.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// `unit.*`
    Unit(UnitDone),
    /// `disk.reclaim`
    Reclaim(ReclaimDone),
    /// `undo`
    Undo(UndoDone),
    /// `purge`
    Purge(PurgeDone),
    /// `probe`
    Probe(ProbeDone),
    /// `ping`
    Pong(Pong),
    /// `scene`
    Scene(UnitScene),
    /// `processes`
    Processes(Inspected),
}

/// A systemd job that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitDone {
    /// The job's result, `done` or `skipped`.
    pub job: JobResult,
    /// From the call to the end of the job.
    pub elapsed_ms: u64,
    /// Main PID of the unit after it, if it has one.
    pub main_pid: Option<u32>,
}

coded_enum! {
    /// How a systemd job ended (`JobRemoved`).
    JobResult {
        /// It succeeded.
        Done = 1 "done",
        /// Another job took its place.
        Canceled = 2 "canceled",
        /// It took longer than the unit allows.
        Timeout = 3 "timeout",
        /// It failed.
        Failed = 4 "failed",
        /// Something that it needs failed.
        Dependency = 5 "dependency",
        /// There was nothing to do.
        Skipped = 6 "skipped",
        /// The unit cannot do that.
        Invalid = 7 "invalid",
        /// An `Assert…=` of the unit did not hold.
        Assert = 8 "assert",
        /// Not possible on this system.
        Unsupported = 9 "unsupported",
        /// The unit went away.
        Collected = 10 "collected",
        /// It can be started only once.
        Once = 11 "once",
        /// A word that this version does not know.
        Other = 12 "other",
    }
}

/// A reclaim that ran.
#[derive(Debug, Clone, PartialEq)]
pub struct ReclaimDone {
    /// Bytes that the filesystem has more of than before, by `statvfs`.
    pub freed_bytes: u64,
    /// Used share before, 0 to 1.
    pub used_ratio_before: f64,
    /// Used share after, 0 to 1.
    pub used_ratio_after: f64,
    /// Place by place, in the order of the plan.
    pub places: Vec<PlaceDone>,
    /// Why it stopped.
    pub stopped: StopReason,
    /// Until when it can be undone (wall clock); `None` if nothing that was taken can be brought back.
    pub undo_until_ms: Option<i64>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What was taken from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceDone {
    /// `apt-cache`, `core-dumps`, `journal`, or the name of the selection.
    pub name: String,
    /// Bytes that the filesystem gained here, by `statvfs`.
    pub freed_bytes: u64,
    /// Files that are gone and can be made again, or were not to be kept.
    pub purged_files: u64,
    /// Files that were moved away and can be brought back.
    pub held_files: u64,
    /// Files that were left, counted by reason.
    pub skipped: Vec<SkipCount>,
}

/// Files left for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkipCount {
    /// Why.
    pub reason: SkipReason,
    /// How many.
    pub files: u64,
}

coded_enum! {
    /// Why a file was left where it is.
    SkipReason {
        /// Somebody has it open or mapped.
        Open = 1 "open",
        /// It was changed too recently.
        Recent = 2 "recent",
        /// Its name is not in the selection.
        Unlisted = 3 "unlisted",
        /// It has a second hard link.
        Linked = 4 "linked",
        /// It is a symlink, a device, a socket or a pipe.
        NotRegular = 5 "not_regular",
        /// It lies on another filesystem.
        OtherFilesystem = 6 "other_filesystem",
        /// It changed, or went away, while it was looked at.
        Changed = 7 "changed",
        /// There is no room to keep it.
        NoRoomToHold = 8 "no_room_to_hold",
        /// The kernel said no; the count alone is kept.
        Error = 9 "error",
        /// It is deeper than the walk goes, or beyond the files that one action looks at.
        Bound = 10 "bound",
        /// Kept on its own disk it would free nothing: it is compressed already, or smaller than a block.
        WouldNotShrink = 11 "would_not_shrink",
    }
}

coded_enum! {
    /// Why a reclaim stopped.
    StopReason {
        /// The filesystem is at or under its target.
        TargetMet = 1 "target_met",
        /// Every place of the plan is empty of what may be taken.
        PlacesExhausted = 2 "places_exhausted",
        /// One action takes no more files.
        FilesMax = 3 "files_max",
        /// One action takes no longer.
        TimeMax = 4 "time_max",
        /// The filesystem was under its target to begin with.
        NothingToDo = 5 "nothing_to_do",
        /// The hold file appeared.
        Held = 6 "held",
    }
}

/// An undo that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoDone {
    /// Files that are back where they were, with owner, mode and times.
    pub restored_files: u64,
    /// Their bytes.
    pub restored_bytes: u64,
    /// Files that could not be brought back; they stay held. At most [`UndoDone::CONFLICTS_MAX`] are named.
    pub conflicts: Vec<Conflict>,
    /// All that could not be brought back.
    pub conflicts_total: u64,
}

impl UndoDone {
    /// Most conflicts named in one answer.
    pub const CONFLICTS_MAX: usize = 32;
}

/// A file that could not be brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where it was.
    pub path: PathBytes,
    /// Why it is not there again.
    pub why: String,
}

/// A purge that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeDone {
    /// Actions whose held files are gone for good.
    pub actions: u64,
    /// Those files.
    pub files: u64,
    /// Their bytes as they were held.
    pub bytes: u64,
}

/// A probe command that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeDone {
    /// Exit status; 128 plus the signal's number if a signal ended it.
    pub exit_status: i32,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Whether it was ended because its time was over.
    pub timed_out: bool,
}

/// The actuator is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// Its version.
    pub version: String,
    /// Whether the hold file is there.
    pub is_held: bool,
}

/// Why a request was not begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The same in words, naming what root's file allows.
    pub text: String,
}

coded_enum! {
    /// The closed list of reasons for refusing.
    RefusalReason {
        /// `/etc/mainstay/hold` is there.
        Held = 1 "held",
        /// The unit is one that is never touched.
        Protected = 2 "protected",
        /// Root's file does not allow the unit, the place or the probe.
        NotAllowed = 3 "not_allowed",
        /// Root's file wants files to be older.
        TooYoung = 4 "too_young",
        /// The plan selects nothing in particular, which would be everything.
        EmptySelector = 5 "empty_selector",
        /// As many actions as root's file allows in an hour were carried out.
        RateLimited = 6 "rate_limited",
        /// What is taken could not be brought back, and the plan wants that.
        UndoUnavailable = 7 "undo_unavailable",
        /// The id was used before for something else.
        IdReused = 8 "id_reused",
        /// The peer may not ask for this.
        PeerNotAllowed = 9 "peer_not_allowed",
        /// Too much is being carried out already.
        Busy = 10 "busy",
        /// The request makes no sense.
        BadRequest = 11 "bad_request",
        /// The filesystem or the kernel lacks what makes it safe.
        Unsupported = 12 "unsupported",
        /// There is nothing to undo under this id.
        NothingToUndo = 13 "nothing_to_undo",
        /// The undo time is over.
        UndoExpired = 14 "undo_expired",
        /// Root's file cannot be read or has mistakes.
        BadConfig = 15 "bad_config",
        /// The journal cannot be written, so nothing may begin.
        JournalUnavailable = 16 "journal_unavailable",
        /// It was begun before and the actuator died; it is not begun again under the same id.
        Interrupted = 17 "interrupted",
        /// What has to be asked first, such as systemd about a unit's other names, does not answer.
        Unavailable = 18 "unavailable",
        /// Somebody started the unit anew since the decision: what runs now is not what was found wanting.
        StartedAnew = 19 "started_anew",
    }
}

/// It was begun and did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, in words.
    pub text: String,
    /// How systemd's job ended, if it came to that.
    pub job: Option<JobResult>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Reply {
    /// Refuses with a reason and words.
    #[must_use]
    pub fn refused(reason: RefusalReason, text: impl Into<String>) -> Self {
        Self::Refused(Refusal { reason, text: text.into() })
    }

    /// Fails with words.
    #[must_use]
    pub fn failed(text: impl Into<String>, elapsed_ms: u64) -> Self {
        Self::Failed(Failure { text: text.into(), job: None, elapsed_ms })
    }

    /// The outcome of the step behind the request, as the ledger keeps it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let text = self.to_string();
        let (ended, elapsed_ms, freed_bytes) = match self {
            Self::Done(Detail::Unit(done)) => (Ended::Done, done.elapsed_ms, None),
            Self::Done(Detail::Reclaim(done)) => (Ended::Done, done.elapsed_ms, Some(done.freed_bytes)),
            // The command ran; what it said is what was asked.
            Self::Done(Detail::Probe(done)) if done.exit_status != 0 || done.timed_out => {
                (Ended::Failed, done.elapsed_ms, None)
            }
            Self::Done(Detail::Probe(done)) => (Ended::Done, done.elapsed_ms, None),
            Self::Done(_) => (Ended::Done, 0, None),
            // Begun under this id by an actuator that died: what it did is not known.
            Self::Refused(Refusal { reason: RefusalReason::Interrupted, .. }) => (Ended::Unknown, 0, None),
            Self::Refused(_) => (Ended::Refused, 0, None),
            Self::Failed(failure) => (Ended::Failed, failure.elapsed_ms, None),
            Self::Status(ActionStatus::Finished(reply)) => return reply.outcome(),
            Self::Status(_) => (Ended::Unknown, 0, None),
        };
        Outcome { ended, text, elapsed_ms, freed_bytes }
    }
}
