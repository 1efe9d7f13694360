//! What of the detectors is kept over a restart and can be gone back to: a part for each detector that
//! remembers something, with a tag and a version of its own.

use super::Detectors;
use super::clock::Clock;
use super::codec::{Reader, Writer};
use super::learned::{Learned, Learns, Since, Subjects};
use super::lifecycle::Lifecycle;
use super::settings::{Learning, Settings};
use crate::time::Now;

/// The parts that no detector owns. Tags are never given anew; those of the detectors stand in their
/// files, the next free one is 25.
const CLOCK: u8 = 1;
const LIFECYCLE: u8 = 2;

/// Where a detector's state stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Never given anew.
    pub(crate) tag: u8,
    /// The oldest version that is still read, and the one that is written.
    pub(crate) versions: (u8, u8),
    /// As people know it.
    pub(crate) name: &'static str,
}

/// What is kept.
pub(crate) trait Kept: Sized {
    const PART: Part;

    fn save(&self, writer: &mut Writer);

    /// Reads what `version` wrote, one of [`Part::versions`]; `None` where it is malformed.
    fn load(version: u8, reader: &mut Reader<'_>) -> Option<Self>;
}

/// [`Kept`], whatever the detector.
pub(crate) trait AnyKept {
    fn part(&self) -> Part;
    fn write(&self, writer: &mut Writer);
    /// Puts what is read in its own place; where that is malformed nothing changes.
    fn read(&mut self, version: u8, reader: &mut Reader<'_>) -> Option<()>;
}

impl<T: Kept> AnyKept for T {
    fn part(&self) -> Part {
        Self::PART
    }

    fn write(&self, writer: &mut Writer) {
        self.save(writer);
    }

    fn read(&mut self, version: u8, reader: &mut Reader<'_>) -> Option<()> {
        *self = Self::load(version, reader)?;
        Some(())
    }
}

/// Lists fields behind one face, to be read and to be changed.
macro_rules! listed {
    ($(#[$doc:meta])* $name:ident, $name_mut:ident: [$face:ident; $n:literal], $($field:ident),+ $(,)?) => {
        $(#[$doc])*
        fn $name(&self) -> [&dyn $face; $n] {
            [$(&self.$field),+]
        }

        fn $name_mut(&mut self) -> [&mut dyn $face; $n] {
            [$(&mut self.$field),+]
        }
    };
}

impl Detectors {
    listed! {
        /// What is kept, in the order of a snapshot.
        kept, kept_mut: [AnyKept; 14],
        service_failed, crash_loop, disk_filling, memory_leak, fd_leak, task_leak, inode_leak,
        runaway, fork_storm, flapping, metric_anomalous, log_burst, service_slow, marks,
    }

    listed! {
        /// Those that learn what is usual.
        learners, learners_mut: [Learns; 10],
        disk_filling, memory_leak, fd_leak, task_leak, inode_leak, metric_anomalous, runaway, fork_storm,
        log_burst, service_slow,
    }

    /// What was learned, for people: models by name, each with its subjects by name.
    #[must_use]
    pub fn learned(&self) -> Learned {
        let (t, now) = self.clock.stands();
        let since = Since { t, wall_ms: now.wall_ms };
        let mut learned = Learned { is_frozen: self.settings.learning == Learning::Frozen, ..Learned::default() };
        for learner in self.learners() {
            learner.learned(since, &self.settings, &mut learned);
        }
        for model in &mut learned.models {
            (model.reset_ms, model.rolled_back_ms) = (self.marks.reset_ms, self.marks.rolled_back_ms);
        }
        learned
    }

    /// How many subjects of the learned models these are.
    #[must_use]
    pub fn matching(&self, which: Subjects<'_>) -> usize {
        self.learners().iter().map(|learner| learner.matching(which)).sum()
    }

    /// Forgets what was learned of these subjects: it is learned anew from the next sample on.
    pub fn reset(&mut self, which: Subjects<'_>, now: Now) {
        for learner in self.learners_mut() {
            learner.reset(which);
        }
        self.marks.reset_ms = Some(now.wall_ms);
    }

    /// Goes back to what was learned when `bytes` was saved. Findings, and what is no learned model,
    /// stay as they are; the time since then counts as a gap. Gives the models that the snapshot does
    /// not hold, or not so that this version can read them: those stay as they are.
    ///
    /// # Errors
    /// Where the bytes are damaged or no snapshot; then nothing has changed.
    pub fn roll_back(&mut self, bytes: &[u8], now: Now) -> Result<Vec<&'static str>, BadSnapshot> {
        let saved = Self::restore(bytes, self.settings.clone(), 0, now)?;
        // Detector time must not go back behind what is restored.
        let (own, (theirs, _)) = (self.clock.stands().0, saved.clock.stands());
        if theirs > own {
            self.clock = saved.clock;
        }
        let mut kept: Vec<_> = self.learners().iter().map(|learner| learner.part().name).collect();
        let mut reader = Reader::open(bytes)?;
        while let Some(mut section) = reader.section() {
            let mut learners = self.learners_mut();
            let Some(learner) = learners.iter_mut().find(|learner| learner.part().tag == section.tag) else { continue };
            let Part { versions: (oldest, newest), name, .. } = learner.part();
            if (oldest..=newest).contains(&section.version)
                && learner.read(section.version, &mut section.body).is_some()
            {
                kept.retain(|other| *other != name);
            }
        }
        self.marks.rolled_back_ms = Some(now.wall_ms);
        Ok(kept)
    }

    /// Whether a snapshot is whole, so that it can be rolled back to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(bytes: &[u8]) -> Result<(), BadSnapshot> {
        Self::restore(bytes, Settings::default(), 0, Now::default()).map(|_| ())
    }

    /// What of the saved state could not be used, so that it is learned anew, in words. The caller
    /// says so and sets the saved state aside.
    #[must_use]
    pub fn relearning(&self) -> &[String] {
        &self.relearning
    }

    /// What was learned and the findings that stand, to be restored after a restart: versioned,
    /// bounded, with a checksum. The same state gives the same bytes.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let (t, now) = self.clock.stands();
        writer.section(CLOCK, 1, |w| {
            w.i64(t);
            w.u64(now.boot_ns);
            w.i64(now.wall_ms);
        });
        writer.section(LIFECYCLE, 1, |w| self.lifecycle.save(w));
        for kept in self.kept() {
            let Part { tag, versions: (_, newest), .. } = kept.part();
            writer.section(tag, newest, |w| kept.write(w));
        }
        writer.finish()
    }

    /// Goes on from a snapshot where there is one that can be used, and starts with nothing learned
    /// otherwise; [`Detectors::relearning`] says why.
    #[must_use]
    pub fn restore_or_new(bytes: Option<&[u8]>, settings: Settings, seed: u64, now: Now) -> Self {
        let Some(bytes) = bytes else { return Self::new(settings, seed) };
        Self::restore(bytes, settings.clone(), seed, now).unwrap_or_else(|error| {
            let relearning = vec![format!("everything: {error}")];
            Self { relearning, ..Self::new(settings, seed) }
        })
    }

    /// Goes on from a [`Detectors::snapshot`]. Time that has passed since then counts as a gap:
    /// nothing is concluded from it. A part that another version has written is learned anew
    /// ([`Detectors::relearning`]).
    ///
    /// # Errors
    /// Where the bytes are damaged or no snapshot. The caller sets them aside, says so and starts
    /// with [`Detectors::new`].
    pub fn restore(bytes: &[u8], settings: Settings, seed: u64, now: Now) -> Result<Self, BadSnapshot> {
        let mut restored = Self::new(settings, seed);
        let mut reader = Reader::open(bytes)?;
        while !reader.is_at_end() {
            let mut section = reader.section().ok_or(BadSnapshot::Malformed { part: "sections" })?;
            let body = &mut section.body;
            match (section.tag, section.version) {
                (CLOCK, 1) => restored.clock = malformed("clock", load_clock(body, now))?,
                (LIFECYCLE, 1) => restored.lifecycle = malformed("findings", Lifecycle::load(body, seed))?,
                (CLOCK | LIFECYCLE, got) => {
                    return Err(BadSnapshot::Version { got: u16::from(got), have: 1 });
                }
                (tag, version) => {
                    let relearned = restored.restore_part(tag, version, body)?;
                    restored.relearning.extend(relearned.map(str::to_owned));
                }
            }
        }
        Ok(restored)
    }

    /// Gives the name of what has to be learned anew, if so.
    fn restore_part(
        &mut self,
        tag: u8,
        version: u8,
        body: &mut Reader<'_>,
    ) -> Result<Option<&'static str>, BadSnapshot> {
        let mut kept = self.kept_mut();
        let Some(kept) = kept.iter_mut().find(|kept| kept.part().tag == tag) else {
            return Ok(Some("a detector that this version does not know"));
        };
        let Part { versions: (oldest, newest), name, .. } = kept.part();
        if !(oldest..=newest).contains(&version) {
            return Ok(Some(name));
        }
        malformed(name, kept.read(version, body))?;
        Ok(None)
    }
}

fn load_clock(reader: &mut Reader<'_>, now: Now) -> Option<Clock> {
    let t = reader.i64()?;
    let saved = Now { boot_ns: reader.u64()?, wall_ms: reader.i64()? };
    Some(Clock::resume(t, saved, now))
}

fn malformed<T>(part: &'static str, loaded: Option<T>) -> Result<T, BadSnapshot> {
    loaded.ok_or(BadSnapshot::Malformed { part })
}

/// A snapshot that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// There are no bytes.
    #[error("detector state is empty")]
    Empty,
    /// The checksum is not that of the bytes.
    #[error("detector state is damaged (checksum {got:08x}, expected {expected:08x})")]
    Checksum {
        /// Of the bytes that were read.
        got: u32,
        /// What the snapshot says.
        expected: u32,
    },
    /// It was written by another version.
    #[error("detector state is of version {got}, this agent reads {have}")]
    Version {
        /// What it says.
        got: u16,
        /// What this code writes and reads.
        have: u16,
    },
    /// It ends early, or holds what cannot be.
    #[error("detector state is malformed in {part}")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingKind;
    use crate::sample::{ActiveState, Filesystem, FilesystemUsage, Sample, Unit};
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;

    fn now(second: u64) -> Now {
        Now { boot_ns: second * SECOND, wall_ms: i64::try_from(second).unwrap() * 1_000 }
    }

    /// A host with a failed unit and a full disk.
    fn trouble(second: u64) -> Sample {
        let usage = FilesystemUsage { size_bytes: 100, free_bytes: 2, avail_bytes: 2, ..Default::default() };
        let unit = Unit { active: ActiveState::Failed, invocation: Some([1; 16]), ..Unit::default() };
        Sample {
            at: now(second),
            filesystems: vec![Filesystem { mount: "/".into(), usage: Some(usage), ..Filesystem::default() }],
            units: Some(BTreeMap::from([("a.service".parse().unwrap(), unit)])),
            memory: Some(crate::sample::Memory::default()),
            cpu: Some(crate::sample::CpuTimes::default()),
            ..Sample::default()
        }
    }

    fn watched(seconds: std::ops::Range<u64>) -> Detectors {
        let mut detectors = Detectors::new(Settings::default(), 1);
        for second in seconds {
            detectors.observe_sample(&trouble(second), now(second));
        }
        detectors
    }

    #[test]
    fn findings_go_on_under_their_ids_after_a_restart() {
        let before = watched(0..10);
        let mut after = Detectors::restore(&before.snapshot(), Settings::default(), 2, now(60)).unwrap();
        let open = |detectors: &Detectors| detectors.open_findings().cloned().collect::<Vec<_>>();
        assert_eq!(open(&before).len(), 2);
        assert_eq!(open(&after), open(&before));
        assert_eq!(after.observe_sample(&trouble(60), now(60)), []);
        assert_eq!(after.relearning(), [""; 0]);
    }

    #[test]
    fn the_time_that_the_agent_was_down_does_not_count_as_seen() {
        let before = watched(0..3);
        // The disk has been full for 3 s when the agent stops, and is when it starts again.
        let mut after = Detectors::restore(&before.snapshot(), Settings::default(), 2, now(60)).unwrap();
        let opened: Vec<_> = (60..70)
            .flat_map(|s| after.observe_sample(&trouble(s), now(s)).into_iter().map(move |e| (s, e.finding.kind)))
            .collect();
        assert_eq!(opened, [(65, FindingKind::DiskFull)]);
    }

    #[test]
    fn the_same_state_gives_the_same_bytes_and_survives_a_round_trip() {
        let detectors = watched(0..10);
        let bytes = detectors.snapshot();
        let again = Detectors::restore(&bytes, Settings::default(), 2, now(9)).unwrap().snapshot();
        assert_eq!(bytes, again);
    }

    #[test]
    fn damaged_state_is_refused_wherever_the_damage_is() {
        let bytes = watched(0..10).snapshot();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Detectors::restore(&damaged, Settings::default(), 2, now(9)).is_err(), "byte {at}");
            assert!(Detectors::restore(&bytes[..at], Settings::default(), 2, now(9)).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn state_that_cannot_be_used_is_learned_anew_and_said() {
        let detectors = Detectors::restore_or_new(Some(b"MDET"), Settings::default(), 2, now(9));
        assert_eq!(detectors.relearning(), ["everything: detector state is malformed in header"]);
        assert_eq!(Detectors::restore_or_new(None, Settings::default(), 2, now(9)).relearning(), [""; 0]);
    }

    #[test]
    fn every_part_has_a_tag_and_a_name_of_its_own() {
        let detectors = Detectors::new(Settings::default(), 1);
        let parts = detectors.kept().map(|kept| kept.part());
        let mut tags: Vec<_> = parts.iter().map(|part| part.tag).chain([CLOCK, LIFECYCLE]).collect();
        tags.sort_unstable();
        tags.dedup();
        let mut names: Vec<_> = parts.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((tags.len(), names.len()), (parts.len() + 2, parts.len()));
        let learned = detectors.learned().models;
        assert_eq!(learned.len(), detectors.learners().len());
        for (model, learner) in learned.iter().zip(detectors.learners()) {
            let part = learner.part();
            assert_eq!((&*model.name, model.version), (part.name, u32::from(part.versions.1)));
        }
    }

    #[test]
    fn a_section_of_another_version_is_learned_anew() {
        let mut writer = Writer::default();
        writer.section(4, 200, |w| w.u64(0));
        let restored = Detectors::restore(&writer.finish(), Settings::default(), 2, now(9)).unwrap();
        assert_eq!(restored.relearning(), ["service.crash_loop"]);
    }

    #[test]
    fn the_same_samples_give_the_same_findings() {
        let open = || watched(0..10).open_findings().cloned().collect::<Vec<_>>();
        assert_eq!(open(), open());
    }
}
