//! Works through the places of a plan until the filesystem is under its target.
//!
//! In: a plan that [`crate::gate`] let through. Out: what was freed, place by place, and why it stopped. It looks at the
//! filesystem after every file and stops at the first look that shows the target met.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::id::ActionId;
use mainstay_core::plan::{DiskReclaim, Undo};
use mainstay_core::verb::{Detail, PlaceDone, ReclaimDone, Refusal, RefusalReason, Reply, SkipReason, StopReason};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, fcntl_lock, fstat, openat2, syncfs, unlinkat,
};

use super::Context;
use super::hold::{Hold, HoldError};
use super::root::{Root, RootError, device, open_absolute};
use super::space::Space;
use super::take::{Limits, Taken, take};
use super::target::{Keep, Target, target};
use super::walk::{Skips, find, newest_s};
use crate::journald;
use crate::settings::Settings;

/// Where drop-ins of the actuator's unit lie.
const DROP_INS: &str = "/etc/systemd/system/mainstay-actuator.service.d";

/// journald syncs what it archived in a thread of its own, and closes it no sooner than with the next rotation after
/// that: until then it is open and stays. So often it is asked, and so long is waited in between.
const ROTATIONS_MAX: u32 = 4;
const ROTATION_PAUSE: Duration = Duration::from_secs(1);

/// Carries out a reclaim.
pub fn run(reclaim: &DiskReclaim, action: ActionId, settings: &Settings, context: &Context<'_>) -> Reply {
    let begun = Instant::now();
    match Engine::prepare(reclaim, action, settings, context, begun).map(|engine| engine.map(Engine::run)) {
        Ok(Ok(reply)) => reply,
        Ok(Err(done)) => Reply::Done(Detail::Reclaim(done)),
        Err(refusal) => Reply::Refused(refusal),
    }
}

struct Engine<'e> {
    settings: &'e Settings,
    context: &'e Context<'e>,
    action: ActionId,
    until: f64,
    undo: Undo,
    mount: OwnedFd,
    before: Space,
    begun: Instant,
    targets: Vec<(Target, Option<Root>)>,
    files: u64,
    /// Disk bytes of the files taken, for filesystems that free them later.
    taken_bytes: u64,
    no_leases: bool,
}

impl<'e> Engine<'e> {
    /// Opens and checks everything before anything is touched. The inner error is a reclaim with nothing to do.
    fn prepare(
        reclaim: &DiskReclaim,
        action: ActionId,
        settings: &'e Settings,
        context: &'e Context<'e>,
        begun: Instant,
    ) -> Result<Result<Self, ReclaimDone>, Refusal> {
        let path = crate::gate::clean_components(&reclaim.mount.0).unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| Refusal {
            reason: RefusalReason::BadRequest,
            text: format!("cannot look at mount {}: {error}", reclaim.mount),
        };
        let mount = open_absolute(&path).map_err(|error| failed(&error))?;
        let before = Space::of(&mount).map_err(|error| failed(&error))?;
        let dev = device(&fstat(&mount).map_err(|error| failed(&error))?);
        let mut targets = Vec::new();
        for place in &reclaim.from {
            let target = target(place, reclaim.undo, settings, context.places)?;
            let root = open_root(&target, dev, context.owner)?;
            targets.push((target, root));
        }
        if before.excess_bytes(reclaim.until_used_ratio) == 0 {
            return Ok(Err(nothing_to_do(before, begun)));
        }
        let (until, undo) = (reclaim.until_used_ratio, reclaim.undo);
        let (files, taken_bytes, no_leases) = (0, 0, false);
        Ok(Ok(Self {
            settings,
            context,
            action,
            until,
            undo,
            mount,
            before,
            begun,
            targets,
            files,
            taken_bytes,
            no_leases,
        }))
    }

    fn run(mut self) -> Reply {
        let targets = std::mem::take(&mut self.targets);
        let mut places = Vec::with_capacity(targets.len());
        let mut held = 0;
        let mut stopped = None;
        let mut trouble = None;
        for (number, (target, root)) in targets.iter().enumerate() {
            let at = self.look();
            let (mut place, why) = match root {
                Some(root) => self.place_and_archive(number, target, root, &mut held, &mut trouble),
                None => (left_alone(&target.name, SkipReason::OtherFilesystem), None),
            };
            place.freed_bytes = self.look().freed_since(&at);
            places.push(place);
            stopped = why;
            if stopped.is_some() {
                break;
            }
        }
        self.reply(places, held, stopped.unwrap_or(StopReason::PlacesExhausted), trouble)
    }

    fn reply(&self, places: Vec<PlaceDone>, held: u64, stopped: StopReason, trouble: Option<String>) -> Reply {
        if self.files == 0 && stopped == StopReason::PlacesExhausted {
            if self.no_leases {
                let text = "the filesystem has no leases, so open files cannot be told from others";
                return Reply::refused(RefusalReason::Unsupported, text);
            }
            if let Some(text) = trouble.or_else(|| would_not_shrink(&places)) {
                return Reply::refused(RefusalReason::UndoUnavailable, text);
            }
        }
        let after = self.look();
        let undo_until_ms = match self.undo {
            Undo::For(time) if held > 0 => {
                Some(self.context.wall_ms.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
            }
            _ => None,
        };
        Reply::Done(Detail::Reclaim(ReclaimDone {
            freed_bytes: after.freed_since(&self.before),
            used_ratio_before: self.before.used_ratio(),
            used_ratio_after: after.used_ratio(),
            places,
            stopped,
            undo_until_ms,
            elapsed_ms: elapsed_ms(self.begun),
        }))
    }

    /// Works through one place; through the journal twice, if what was archived did not suffice. In this order the newest
    /// evidence goes last, and on a disk without one free block journald has room for its new files.
    fn place_and_archive(
        &mut self,
        number: usize,
        target: &Target,
        root: &Root,
        held: &mut u64,
        trouble: &mut Option<String>,
    ) -> (PlaceDone, Option<StopReason>) {
        let (mut place, mut why) = self.place(number, target, root, held, trouble);
        let Some(control) = &target.rotates else { return (place, why) };
        for turn in 0..ROTATIONS_MAX {
            let is_over = turn > 0 && !place.skipped.iter().any(|skip| skip.reason == SkipReason::Open);
            if why.is_some() || is_over {
                break;
            }
            if turn > 0 {
                std::thread::sleep(ROTATION_PAUSE);
            }
            if let Err(error) = journald::rotate(control) {
                crate::log::warn(format_args!("place={} cannot have journald archive its files: {error}", target.name));
                break;
            }
            let (more, then) = self.place(number, target, root, held, trouble);
            let purged_files = place.purged_files + more.purged_files;
            (place, why) = (PlaceDone { purged_files, ..more }, then);
        }
        (place, why)
    }

    /// Works through one place.
    fn place(
        &mut self,
        number: usize,
        target: &Target,
        root: &Root,
        held: &mut u64,
        trouble: &mut Option<String>,
    ) -> (PlaceDone, Option<StopReason>) {
        let mut done = left_alone(&target.name, SkipReason::Open);
        let Some(_locks) = take_locks(target) else { return (done, None) };
        done.skipped.clear();
        let mut skips = Skips::default();
        let candidates = find(root, target, self.context.wall_ms, &mut skips);
        if candidates.is_empty() {
            done.skipped = skips.counts();
            return (done, None);
        }
        let undo_dir = self.settings.undo_dir.as_deref();
        let open = || Hold::open(root, self.action, number, target.keep, undo_dir, self.context);
        let mut hold = match open() {
            Ok(hold) => hold,
            Err(HoldError::NoSpace(_)) if target.keep == Keep::Purge => Hold::nowhere(),
            Err(error) => {
                let text = error.to_string();
                crate::log::warn(format_args!("place={} {text}", target.name));
                *trouble = Some(text);
                skips.add(SkipReason::NoRoomToHold);
                done.skipped = skips.counts();
                return (done, None);
            }
        };
        let newest_s = newest_s(target, self.context.wall_ms);
        let limits = Limits { newest_s, deadline: self.begun + self.settings.reclaim.time_max };
        let mut stopped = None;
        for candidate in &candidates {
            stopped = self.why_stop();
            if stopped.is_some() {
                break;
            }
            match take(root, target, candidate, &mut hold, limits) {
                Taken::Purged(bytes) => {
                    done.purged_files += 1;
                    self.took(bytes);
                    if hold.staging().is_none() {
                        // Now there may be room.
                        let undo_dir = self.settings.undo_dir.as_deref();
                        let opened = Hold::open(root, self.action, number, target.keep, undo_dir, self.context);
                        hold = opened.unwrap_or_else(|_| Hold::nowhere());
                    }
                }
                // What is held compressed still takes room here; how much, `statvfs` tells.
                Taken::Held(bytes) => {
                    done.held_files += 1;
                    self.took(bytes);
                }
                Taken::Left(reason) => skips.add(reason),
                Taken::NoLeases => {
                    self.no_leases = true;
                    skips.add(SkipReason::Error);
                    break;
                }
            }
        }
        *held += hold.finish();
        // Gone again if nothing is held in this root; `rmdir` refuses it otherwise.
        let _ = unlinkat(root, super::HOLD_DIR, AtFlags::REMOVEDIR);
        done.skipped = skips.counts();
        // The last file of a place may have been the one that did it.
        (done, stopped.or_else(|| self.is_target_met().then_some(StopReason::TargetMet)))
    }

    fn took(&mut self, bytes: u64) {
        self.files += 1;
        self.taken_bytes = self.taken_bytes.saturating_add(bytes);
    }

    fn why_stop(&self) -> Option<StopReason> {
        if self.is_target_met() {
            Some(StopReason::TargetMet)
        } else if self.files >= self.settings.reclaim.files_max {
            Some(StopReason::FilesMax)
        } else if self.begun.elapsed() >= self.settings.reclaim.time_max {
            Some(StopReason::TimeMax)
        } else if self.context.hold_file.exists() {
            Some(StopReason::Held)
        } else {
            None
        }
    }

    /// Whether the filesystem is under its target. One that frees late (btrfs, xfs) is synced when what was taken should
    /// have been enough, so that not more is taken than needed.
    fn is_target_met(&self) -> bool {
        if self.look().excess_bytes(self.until) == 0 {
            return true;
        }
        if self.taken_bytes < self.before.excess_bytes(self.until) {
            return false;
        }
        let _ = syncfs(&self.mount);
        self.look().excess_bytes(self.until) == 0
    }

    fn look(&self) -> Space {
        Space::of(&self.mount).unwrap_or(self.before)
    }
}

/// Opens the root of a target; `None` if there is nothing to reclaim there for this filesystem.
fn open_root(target: &Target, dev: u64, owner: u32) -> Result<Option<Root>, Refusal> {
    match Root::open(&target.root, owner) {
        Ok(root) if root.dev() != dev => Ok(None),
        Ok(root) if root.is_read_only() => {
            Err(Refusal { reason: RefusalReason::NotAllowed, text: why_read_only(root.path()) })
        }
        Ok(root) => Ok(Some(root)),
        Err(RootError::Absent) => Ok(None),
        Err(RootError::Refused(reason, text)) => Err(Refusal { reason, text }),
    }
}

/// What root has to write so that the actuator may change a folder at all.
fn why_read_only(root: &Path) -> String {
    let root = root.display();
    format!(
        "{root} is read-only for the actuator: its unit does not let it write there. As root: mkdir -p {DROP_INS} && \
         printf '[Service]\\nReadWritePaths={root}\\n' > {DROP_INS}/reclaim.conf && systemctl daemon-reload && \
         systemctl stop mainstay-actuator.service (its socket starts it again); if the filesystem itself is mounted \
         read-only, nothing can be freed on it"
    )
}

/// Locks what apt and dpkg lock while they work; `None` if they are at work.
fn take_locks(target: &Target) -> Option<Vec<File>> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut locks = Vec::with_capacity(target.locks.len());
    for path in &target.locks {
        let Ok(fd) = openat2(CWD, path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve)
        else {
            // Not there: nobody has ever locked it.
            continue;
        };
        fcntl_lock(fd.as_fd(), FlockOperation::NonBlockingLockExclusive).ok()?;
        locks.push(File::from(fd));
    }
    Some(locks)
}

/// The words for a reclaim that found nothing but files which free nothing while they are kept on their own disk.
fn would_not_shrink(places: &[PlaceDone]) -> Option<String> {
    let skipped = places.iter().flat_map(|place| &place.skipped);
    let files: u64 = skipped.filter(|skip| skip.reason == SkipReason::WouldNotShrink).map(|skip| skip.files).sum();
    (files > 0).then(|| {
        format!(
            "{files} files would free nothing while they are kept for undo on their own disk, being compressed already or \
             smaller than a block: name a folder on another filesystem as `undo.dir` in actuator.toml, or say \
             `undo = \"none\"` in the rule"
        )
    })
}

fn left_alone(name: &str, reason: SkipReason) -> PlaceDone {
    let mut skips = Skips::default();
    skips.add(reason);
    PlaceDone { name: name.to_owned(), freed_bytes: 0, purged_files: 0, held_files: 0, skipped: skips.counts() }
}

fn nothing_to_do(space: Space, begun: Instant) -> ReclaimDone {
    ReclaimDone {
        freed_bytes: 0,
        used_ratio_before: space.used_ratio(),
        used_ratio_after: space.used_ratio(),
        places: Vec::new(),
        stopped: StopReason::NothingToDo,
        undo_until_ms: None,
        elapsed_ms: elapsed_ms(begun),
    }
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
