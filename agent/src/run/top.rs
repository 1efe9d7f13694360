//! Who uses most, and who holds deleted files: looks that are made when somebody asks, and while a filesystem is short of
//! room.
//!
//! CPU time is counted from the last look of [`crate::host::processes`], so that an answer takes a second and costs
//! nothing before it is asked for. What only root may read is asked of the actuator; without it it is unknown, and the
//! answer says why.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_core::finding::{Finding, FindingKind};
use mainstay_core::host_query::{HostReply, TopQuery, TopReply};
use mainstay_core::processes::Held;
use mainstay_core::processes::top::{ContainersSeen, Counted, Look, held, top};
use mainstay_core::sample::{Filesystem, Sample};
use mainstay_core::subject::PathBytes;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::debug;

use super::exposition::count;
use super::{Event, Shell};
use crate::actuate::Actuator;
use crate::host::clock;
use crate::host::look::{Looker, containers, forks};

/// Looks that are made at one time: each keeps a thread busy for some milliseconds.
pub(super) const LOOKS_MAX: usize = 2;

/// Over which time I/O is counted.
const IO_WINDOW: Duration = Duration::from_secs(1);

/// How often deleted files are looked for while a filesystem is said to be full or filling. The actuator is started for it and
/// reads the descriptors of all processes: some 35 ms of CPU where there are two hundred.
const HELD_EVERY: Duration = Duration::from_secs(60);

/// How often while one is merely short of room, as many are for years.
const HELD_SHORT_EVERY: Duration = Duration::from_secs(600);

/// From which share on a filesystem is short of room.
const USED_RATIO_MIN: f64 = 0.8;

/// When deleted files were last looked for.
#[derive(Debug, Default)]
pub(super) struct HeldLook {
    asked: Option<Instant>,
    is_under_way: bool,
}

impl Shell {
    /// Looks, and answers over the session.
    pub(super) fn answer_top(&self, id: u64, query: TopQuery) {
        let (look, events) = (self.top(query), self.events.clone());
        tokio::spawn(async move {
            let reply = look.await.map(|reply| Box::new(HostReply::Top(reply)));
            let _ = events.send(Event::Answered { id, reply }).await;
        });
    }

    /// The look that answers a question. Nothing of the loop is used any more when it begins.
    pub(super) fn top(&self, query: TopQuery) -> impl Future<Output = Result<TopReply, String>> + Send + use<> {
        let (root, actuator, looks) = (self.paths.root.clone(), self.actuator.clone(), Arc::clone(&self.looks));
        let (before, mounts, tasks) = (self.host.before(), self.host.mounts(), self.host.tasks());
        let (cpus, names, running) = (self.host.cpus().unwrap_or(0), self.host.container_labels(), self.host.running());
        async move {
            let _look = begin(&looks)?;
            let first = actuator.processes().await;
            let before_window = {
                let (root, running) = (root.clone(), Arc::clone(&running));
                tokio::task::spawn_blocking(move || (containers(&root, &running), forks(&root)))
            };
            let (first_containers, first_forks) = before_window.await.unwrap_or_default();
            let begun = Instant::now();
            sleep(IO_WINDOW).await;
            let counted =
                async { Ok(Counted { first: first?, window: begun.elapsed(), last: actuator.processes().await? }) };
            let counted = counted.await;
            let looked = tokio::task::spawn_blocking(move || {
                let window = begun.elapsed();
                let forked = forks(&root).zip(first_forks).and_then(|(now, first)| now.checked_sub(first));
                let containers_seen = ContainersSeen {
                    first: first_containers,
                    window,
                    last: containers(&root, &running),
                    unseen: u32::try_from(running.left_out).unwrap_or(u32::MAX),
                };
                let (seen, unseen) = Looker::at(&root).ok_or_else(no_proc)?.all();
                let ticks_per_second = rustix::param::clock_ticks_per_second();
                let look = Look {
                    at: clock::now(),
                    before,
                    ticks_per_second,
                    cpus,
                    seen,
                    unseen,
                    counted,
                    mounts,
                    containers: names,
                    containers_seen,
                    forks_per_second: forked.map(|forked| count(forked) / window.as_secs_f64()),
                    tasks,
                };
                Ok(top(&look, &query))
            });
            looked.await.unwrap_or_else(|lost| Err(lost.to_string()))
        }
    }

    /// Has deleted files looked for, if a filesystem is short of room or filling.
    pub(super) fn look_for_held(&mut self, sample: &Sample) {
        let Some(every) = wanted_every(&sample.filesystems, self.findings.values()) else {
            self.held.asked = None;
            self.host.set_held(None);
            return;
        };
        let is_due = self.held.asked.is_none_or(|asked| asked.elapsed() >= every);
        if !is_due || self.held.is_under_way {
            return;
        }
        self.held = HeldLook { asked: Some(Instant::now()), is_under_way: true };
        let (root, actuator, events) = (self.paths.root.clone(), self.actuator.clone(), self.events.clone());
        let (mounts, containers) = (self.host.mounts(), self.host.container_labels());
        tokio::spawn(async move {
            let holders = holders(actuator, root, mounts, containers).await;
            let _ = events.send(Event::Held(holders)).await;
        });
    }

    /// Takes what was found into the samples from now on.
    pub(super) fn held_found(&mut self, holders: Result<Vec<Held>, String>) {
        self.held.is_under_way = false;
        let holders = holders.inspect_err(|why| debug!(why, "who holds deleted files is unknown")).ok();
        // By now there may be room again.
        let holders = holders.filter(|_| self.held.asked.is_some());
        self.host.set_held(holders);
    }
}

/// Takes one of the looks that may be made at one time.
///
/// # Errors
/// In words, where all are.
pub(super) fn begin(looks: &Arc<Semaphore>) -> Result<tokio::sync::OwnedSemaphorePermit, String> {
    let busy = |_| format!("{LOOKS_MAX} looks at this host are being made; ask again");
    Arc::clone(looks).try_acquire_owned().map_err(busy)
}

/// Asks the actuator for holders of deleted files, and looks whose they are.
async fn holders(
    actuator: Actuator,
    root: PathBuf,
    mounts: Vec<((u32, u32), PathBytes)>,
    containers: BTreeMap<String, String>,
) -> Result<Vec<Held>, String> {
    let inspected = actuator.processes().await?;
    let looked = tokio::task::spawn_blocking(move || {
        let pids: Vec<u32> = inspected.deleted.iter().map(|deleted| deleted.pid).collect();
        let (seen, _) = Looker::at(&root).ok_or_else(no_proc)?.some(&pids);
        Ok(held(&inspected, &seen, &mounts, &containers))
    });
    looked.await.unwrap_or_else(|lost| Err(lost.to_string()))
}

fn no_proc() -> String {
    "there is no /proc".to_owned()
}

/// How often it is of use to know who holds deleted files, if it is.
fn wanted_every<'a>(filesystems: &[Filesystem], mut findings: impl Iterator<Item = &'a Finding>) -> Option<Duration> {
    if findings.any(|f| matches!(f.kind, FindingKind::DiskFilling | FindingKind::DiskFull)) {
        return Some(HELD_EVERY);
    }
    filesystems.iter().any(is_short).then_some(HELD_SHORT_EVERY)
}

/// Whether a filesystem that can be written to has little room left, as `df` counts.
#[allow(clippy::cast_precision_loss, reason = "a share")]
fn is_short(fs: &Filesystem) -> bool {
    let Some(usage) = fs.usage.filter(|_| !fs.read_only) else { return false };
    let used = usage.size_bytes.saturating_sub(usage.free_bytes);
    let usable = used.saturating_add(usage.avail_bytes);
    usable > 0 && used as f64 >= USED_RATIO_MIN * usable as f64
}

#[cfg(test)]
mod tests {
    use mainstay_core::finding::{FindingState, Severity};
    use mainstay_core::id::FindingId;
    use mainstay_core::sample::FilesystemUsage;
    use mainstay_core::subject::Subject;
    use mainstay_core::time::Now;

    use super::*;

    fn fs(used: u64, read_only: bool) -> Filesystem {
        let usage = FilesystemUsage {
            size_bytes: 100,
            free_bytes: 100 - used,
            avail_bytes: 100 - used,
            files: 0,
            files_free: 0,
        };
        Filesystem { read_only, usage: Some(usage), ..Filesystem::default() }
    }

    #[test]
    fn deleted_files_are_looked_for_while_a_filesystem_is_short_of_room_and_often_while_it_is_full_or_filling() {
        let none = || std::iter::empty();
        assert_eq!(wanted_every(&[fs(79, false)], none()), None);
        assert_eq!(wanted_every(&[fs(10, false), fs(80, false)], none()), Some(HELD_SHORT_EVERY));
        let silent = [fs(100, true), Filesystem::default()];
        assert_eq!(wanted_every(&silent, none()), None, "an image, and one that does not answer");
        let finding = |kind| Finding {
            id: FindingId(1),
            kind,
            subject: Subject::Host,
            severity: Severity::Warning,
            confidence: 1.0,
            state: FindingState::Open,
            opened: Now::default(),
            changed: Now::default(),
            evidence: Vec::new(),
            effect_of: None,
        };
        let filling = [finding(FindingKind::DiskFilling)];
        assert_eq!(wanted_every(&[fs(90, false)], filling.iter()), Some(HELD_EVERY));
        assert_eq!(wanted_every(&[], [finding(FindingKind::CpuSaturated)].iter()), None);
    }

    #[test]
    fn a_third_look_is_refused_and_one_that_has_ended_makes_room() {
        let looks = Arc::new(Semaphore::new(LOOKS_MAX));
        let (one, _two) = (begin(&looks).unwrap(), begin(&looks).unwrap());
        assert!(begin(&looks).unwrap_err().ends_with("ask again"));
        drop(one);
        assert!(begin(&looks).is_ok());
    }
}
