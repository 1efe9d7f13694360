//! Watches one resource for leaks: which units or filesystems use more and more of it, and when it
//! will be used up.
//!
//! In: for every subject what is used of the resource and what is left until its limit. Out: a
//! verdict for every subject whose [`LeakModel`] shows a leak that reaches the limit before long.
//! What the resources differ in stands in a [`Resource`]. A restart of the subject begins anew.

use std::fmt::Display;
use std::time::Duration;

use super::clock::Millis;
use super::codec::{Reader, Writer};
use super::leak::{Leak, LeakModel};
use super::learned::{Learned, LearnedModel, LearnedSubject, Since, Subjects, size};
use super::lifecycle::{Case, Round, SubjectRef, Verdict};
use super::settings::Settings;
use super::snapshot::Part;
use super::words::{duration, measured, percent, said, seconds};
use crate::finding::{FindingKind, Severity};
use crate::ordered::{Adopt, Ordered};
use crate::subject::{PathBytes, UnitName};

/// Most subjects that are followed for one resource. Each takes some 1.6 KiB once it has moved.
const SUBJECTS_MAX: usize = 1_024;

/// Nothing is known of a subject before it was watched for this long.
const WATCHED_MIN: Millis = 3_600_000;
/// What grows within its first day may be warming up.
const WARM_AFTER: Millis = 24 * 3_600_000;

/// The limit within this time is critical.
const CRITICAL: Duration = Duration::from_secs(3_600);

/// What can leak.
#[derive(Debug)]
pub(crate) struct Resource {
    /// What a leak of it is.
    pub(crate) kind: FindingKind,
    /// What grows, as evidence words it.
    pub(crate) noun: &'static str,
    /// The used share of the limit, as conditions of policies name it.
    pub(crate) used_measure: &'static str,
    /// An amount in words.
    pub(crate) show: fn(f64) -> String,
    /// Growth that matters: small programs may do as they like.
    pub(crate) growth_min: f64,
    /// Of a count, the growth that matters once more: what has never moved by this much needs no model, as
    /// most units have always the same number of threads. Zero where everything moves.
    pub(crate) flat: f64,
    /// The version of its state up to which every subject had a model; 0 where that never was so.
    pub(crate) models_until: u8,
    /// What reaches its limit within this time leaks.
    pub(crate) within: fn(&Settings) -> Duration,
}

/// A detector of its own out of the histories of one resource.
macro_rules! detector {
    ($(#[$doc:meta])* $name:ident: $key:ty, $resource:ident, $part:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name($crate::detect::leak_watch::LeakWatch<$key>);

        impl Default for $name {
            fn default() -> Self {
                Self($crate::detect::leak_watch::LeakWatch::new(&$resource))
            }
        }

        impl $crate::detect::snapshot::Kept for $name {
            const PART: $crate::detect::snapshot::Part = $part;

            fn save(&self, writer: &mut $crate::detect::codec::Writer) {
                self.0.save(writer);
            }

            fn load(version: u8, reader: &mut $crate::detect::codec::Reader<'_>) -> Option<Self> {
                $crate::detect::leak_watch::LeakWatch::load(&$resource, reader, version).map(Self)
            }
        }

        impl $crate::detect::learned::Learns for $name {
            fn learned(
                &self,
                since: $crate::detect::learned::Since,
                settings: &$crate::detect::Settings,
                to: &mut $crate::detect::learned::Learned,
            ) {
                self.0.learned(<Self as $crate::detect::snapshot::Kept>::PART, since, settings, to);
            }

            fn matching(&self, which: $crate::detect::learned::Subjects<'_>) -> usize {
                self.0.matching(which)
            }

            fn reset(&mut self, which: $crate::detect::learned::Subjects<'_>) {
                self.0.reset(which);
            }
        }
    };
}
pub(crate) use detector;

/// What is used by one subject, and what is left.
#[derive(Debug)]
pub(crate) struct Reading<L> {
    pub(crate) used: f64,
    /// Until the limit.
    pub(crate) left: f64,
    /// The limit.
    pub(crate) of: f64,
    /// The limit, as evidence words it.
    pub(crate) limit: L,
}

/// What a subject is known by.
pub(crate) trait Key: Ord + Clone + Adopt {
    fn subject(&self) -> SubjectRef<'_>;
    /// As people write it.
    fn name(&self) -> String;
    fn save(&self, writer: &mut Writer);
    fn load(reader: &mut Reader<'_>) -> Option<Self>;
}

impl Key for UnitName {
    fn subject(&self) -> SubjectRef<'_> {
        SubjectRef::Unit(self)
    }

    fn name(&self) -> String {
        self.to_string()
    }

    fn save(&self, writer: &mut Writer) {
        writer.str(self.as_str());
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        reader.unit()
    }
}

impl Key for PathBytes {
    fn subject(&self) -> SubjectRef<'_> {
        SubjectRef::Mount(self)
    }

    fn name(&self) -> String {
        self.to_string()
    }

    fn save(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }

    fn load(reader: &mut Reader<'_>) -> Option<Self> {
        reader.bytes().map(|bytes| Self(bytes.to_vec()))
    }
}

/// Histories of one resource, by subject.
#[derive(Debug)]
pub(crate) struct LeakWatch<K> {
    resource: &'static Resource,
    subjects: Ordered<K, Growth>,
}

/// What is remembered of a subject.
#[derive(Debug, Clone)]
struct Growth {
    invocation: Option<[u8; 16]>,
    past: Past,
    /// Nothing is known after a start of the agent; after a restart of the unit it is over until
    /// shown otherwise.
    is_restarted: bool,
}

/// What was used in the past.
#[derive(Debug, Clone)]
enum Past {
    /// Always nearly the same: since when, the least and the most.
    Flat { since: Option<Millis>, low: f64, high: f64 },
    /// It has moved.
    Model(LeakModel),
}

impl Past {
    fn new() -> Self {
        Self::Flat { since: None, low: f64::INFINITY, high: f64::NEG_INFINITY }
    }

    /// Takes what is used at `t`. Gives the leak that stands.
    fn observe(&mut self, t: Millis, used: f64, left: f64, flat: f64) -> Option<Leak> {
        if let Self::Flat { since, low, high } = self {
            let since = *since.get_or_insert(t);
            if used.max(*high) - used.min(*low) < flat {
                (*low, *high) = (low.min(used), high.max(used));
                return None;
            }
            // What it was is taken for the most that it was: the growth counts from there.
            *self = Self::Model(match flat {
                0.0 => LeakModel::new(),
                _ if high.is_finite() => LeakModel::after(since, t, *high, flat),
                _ => LeakModel::of_count(flat),
            });
        }
        match self {
            Self::Model(model) => model.observe(t, used, left),
            Self::Flat { .. } => None,
        }
    }

    /// What is known after a restart. Of memory nothing is, as every start takes another amount.
    fn restarted(&self, flat: f64) -> Self {
        match self {
            _ if flat <= 0.0 => Self::new(),
            Self::Flat { .. } => self.clone(),
            Self::Model(model) => Self::Model(model.restarted()),
        }
    }

    /// For how long it has been watched.
    fn watched(&self, t: Millis) -> Millis {
        match self {
            Self::Flat { since, .. } => since.map_or(0, |since| t.saturating_sub(since)),
            Self::Model(model) => model.watched(),
        }
    }

    fn save(&self, writer: &mut Writer) {
        match self {
            Self::Flat { since, low, high } => {
                writer.u8(0);
                writer.option(*since, Writer::i64);
                writer.f64(*low);
                writer.f64(*high);
            }
            Self::Model(model) => {
                writer.u8(1);
                model.save(writer);
            }
        }
    }

    fn load(reader: &mut Reader<'_>, flat: f64) -> Option<Self> {
        Some(match reader.u8()? {
            0 => Self::Flat { since: reader.option(Reader::i64)?, low: reader.f64()?, high: reader.f64()? },
            1 => Self::Model(LeakModel::load(reader, (flat > 0.0).then_some(flat))?),
            _ => return None,
        })
    }
}

impl<K: Key> LeakWatch<K> {
    pub(crate) fn new(resource: &'static Resource) -> Self {
        Self { resource, subjects: Ordered::default() }
    }

    /// Forgets the subjects that are no more. Those that are there come in their order.
    pub(crate) fn retain_among<'k>(&mut self, there: impl Iterator<Item = &'k K>)
    where
        K: 'k,
    {
        self.subjects.retain_among(there);
    }

    /// Forgets the subjects that are no more.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.subjects.retain(|key, _| is_there(key));
    }

    /// Takes what one subject uses; `None` where it is not known.
    pub(crate) fn observe<L: Display>(
        &mut self,
        key: &K,
        invocation: Option<[u8; 16]>,
        reading: Option<Reading<L>>,
        settings: &Settings,
        round: &mut Round<'_>,
    ) {
        let Some(reading) = reading else {
            round.judge(self.resource.kind, key.subject(), Verdict::Unknown);
            return;
        };
        if !self.subjects.contains_key(key) {
            if self.subjects.len() >= SUBJECTS_MAX {
                return;
            }
            self.subjects.insert(key.clone(), Growth::new());
        }
        let Some(growth) = self.subjects.get_mut(key) else { return };
        if growth.invocation != invocation {
            *growth = Growth { invocation, is_restarted: true, past: growth.past.restarted(self.resource.flat) };
        }
        let verdict = growth.judge(round.t, &reading, self.resource, settings);
        round.judge(self.resource.kind, key.subject(), verdict);
    }

    /// How many subjects these are.
    pub(crate) fn matching(&self, which: Subjects<'_>) -> usize {
        self.subjects.keys().filter(|key| which.matches(&key.name())).count()
    }

    /// Forgets these subjects.
    pub(crate) fn reset(&mut self, which: Subjects<'_>) {
        self.subjects.retain(|key, _| !which.matches(&key.name()));
    }

    /// Tells what was learned of every subject.
    pub(crate) fn learned(&self, part: Part, since: Since, settings: &Settings, to: &mut Learned) {
        let in_force = format!("said where the limit is reached within {}", duration((self.resource.within)(settings)));
        let subjects = self.subjects.iter().map(|(key, growth)| growth.learned(key.name(), since, self.resource));
        to.add(part, LearnedModel { in_force, ..LearnedModel::default() }, subjects);
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        writer.len(self.subjects.len());
        for (key, growth) in self.subjects.iter() {
            key.save(writer);
            writer.option(growth.invocation, |w, invocation| w.bytes(&invocation));
            growth.past.save(writer);
        }
    }

    /// Reads what [`LeakWatch::save`] wrote.
    pub(crate) fn load(resource: &'static Resource, reader: &mut Reader<'_>, version: u8) -> Option<Self> {
        let mut subjects = Ordered::default();
        for _ in 0..reader.len()?.min(SUBJECTS_MAX) {
            let key = K::load(reader)?;
            let invocation = reader.option(|r| r.bytes()?.try_into().ok())?;
            let past = if version <= resource.models_until {
                Past::Model(LeakModel::load(reader, None)?)
            } else {
                Past::load(reader, resource.flat)?
            };
            subjects.insert(key, Growth { invocation, past, is_restarted: false });
        }
        Some(Self { resource, subjects })
    }
}

impl Growth {
    fn new() -> Self {
        Self { invocation: None, past: Past::new(), is_restarted: false }
    }

    fn learned(&self, name: String, since: Since, resource: &Resource) -> LearnedSubject {
        let watched = self.past.watched(since.t);
        let trained = Duration::from_millis(u64::try_from(watched).unwrap_or(0));
        let learned_after = Duration::from_millis(WATCHED_MIN.unsigned_abs());
        let (leak, state) = match &self.past {
            Past::Model(model) => (model.leak(), model.state_bytes()),
            Past::Flat { .. } => (None, 0),
        };
        let text = match leak {
            Some(leak) => format!(
                "grew by {} in {}, {} an hour",
                (resource.show)(leak.grown),
                duration(seconds(leak.seconds)),
                (resource.show)(leak.slope * 3_600.0)
            ),
            None => "no leak".to_owned(),
        };
        LearnedSubject {
            name,
            since_ms: Some(since.wall_ms(since.t.saturating_sub(watched))),
            trained,
            learning: learned_after.checked_sub(trained).filter(|left| !left.is_zero()),
            state_bytes: size(size_of::<Self>() + state),
            text,
            ..LearnedSubject::default()
        }
    }

    fn judge<L: Display>(
        &mut self,
        t: Millis,
        reading: &Reading<L>,
        resource: &Resource,
        settings: &Settings,
    ) -> Verdict {
        let is_learned = self.past.watched(t) > WATCHED_MIN;
        let leak = self.past.observe(t, reading.used, reading.left, resource.flat);
        let Some(leak) = leak.filter(|leak| leak.grown >= resource.growth_min) else {
            return if is_learned || self.is_restarted { Verdict::Over } else { Verdict::Between };
        };
        let to_limit = reading.left / leak.slope;
        let within = (resource.within)(settings).as_secs_f64();
        if to_limit < within {
            self.holds(t, &leak, reading, resource)
        } else if to_limit < within * 2.0 {
            Verdict::Between
        } else {
            Verdict::Over
        }
    }

    fn holds<L: Display>(&self, t: Millis, leak: &Leak, reading: &Reading<L>, resource: &Resource) -> Verdict {
        let Reading { left, limit, of, .. } = reading;
        let used_ratio = 1.0 - left / of;
        let to_limit = left / leak.slope;
        let by = |slope: f64| if slope > 0.0 { duration(seconds(left / slope)) } else { "never".into() };
        let text = format!(
            "{} grew by {} in {} ({} an hour): {limit} in about {} ({} to {})",
            resource.noun,
            (resource.show)(leak.grown),
            duration(seconds(leak.seconds)),
            (resource.show)(leak.slope * 3_600.0),
            by(leak.slope),
            by(leak.slope_high.max(leak.slope)),
            by(leak.slope_low.min(leak.slope)),
        );
        let mut evidence = vec![
            measured(text, "time_to_limit_seconds", to_limit, None),
            measured(format!("{} of that limit is used", percent(used_ratio)), resource.used_measure, used_ratio, None),
        ];
        evidence.extend(self.usual_growth(leak, resource).map(said));
        Verdict::Holds(Case {
            severity: if to_limit < CRITICAL.as_secs_f64() { Severity::Critical } else { Severity::Warning },
            confidence: if self.past.watched(t) < WARM_AFTER { 0.7 } else { 0.9 },
            evidence,
            raise_after: Duration::ZERO,
        })
    }

    /// What the time of day explains of a leak, in words.
    fn usual_growth(&self, leak: &Leak, resource: &Resource) -> Option<String> {
        let Past::Model(model) = &self.past else { return None };
        let (usual, days) = model.at_other_days(leak)?;
        let (amount, of_days) = ((resource.show)(usual.abs()), if days == 1 { "day" } else { "days" });
        let of_those = if usual.abs() < leak.grown / 100.0 {
            "hardly changed".to_owned()
        } else if usual > 0.0 {
            format!("grew by {amount}, the time of day's part of it")
        } else {
            format!("fell by {amount}")
        };
        Some(format!("on the {days} {of_days} before it {of_those} at these hours"))
    }
}

/// What the tests of the resources share.
#[cfg(test)]
pub(crate) mod check {
    use crate::detect::{Change, Detectors, FindingEvent, Settings};
    use crate::finding::FindingKind;
    use crate::sample::Sample;
    use crate::time::Now;

    /// A curve over minutes, in whole numbers.
    pub(crate) trait Shown {
        fn shown(&self, minute: u64) -> u64;
    }

    impl<F: Fn(f64) -> f64> Shown for F {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        fn shown(&self, minute: u64) -> u64 {
            self(minute as f64) as u64
        }
    }

    /// What is collected every 20 minutes: up to half as much again.
    pub(crate) fn sawtooth(minute: f64) -> f64 {
        1.0 + 0.5 * (minute % 20.0) / 20.0
    }

    /// Shows a sample every ten seconds, which changes by the minute; gives the hours at which
    /// findings of the kind opened and cleared.
    pub(crate) fn seen(kind: FindingKind, hours: u64, sample: impl Fn(u64) -> Sample) -> Vec<(u64, FindingEvent)> {
        let mut detectors = Detectors::new(Settings::default(), 1);
        let mut seen = Vec::new();
        for tick in 0..hours * 360 {
            let now = Now { boot_ns: tick * 10_000_000_000, wall_ms: 0 };
            let mut events = detectors.observe_sample(&Sample { at: now, ..sample(tick / 6) }, now);
            events.retain(|event| event.finding.kind == kind && event.change != Change::Changed);
            seen.extend(events.into_iter().map(|event| (tick / 360, event)));
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was always the same, and then grows.
    fn grown(hours: i64) -> Past {
        let mut past = Past::new();
        for minute in 0..hours * 60 {
            #[allow(clippy::cast_precision_loss)]
            let used = 20.0 + (minute as f64 - 2_880.0).max(0.0);
            past.observe(minute * 60_000, used, 1_000.0 - used, 32.0);
        }
        past
    }

    #[test]
    fn what_never_moves_needs_no_model() {
        assert!(matches!(grown(48), Past::Flat { low: 20.0, high: 20.0, .. }));
        assert!(matches!(grown(49), Past::Model(_)));
    }

    #[test]
    fn the_flat_past_counts_as_known_when_growth_begins() {
        let mut past = grown(52);
        assert!(past.watched(52 * 3_600_000) >= 51 * 3_600_000);
        assert!(
            past.observe(52 * 3_600_000, 260.0, 740.0, 32.0).is_some(),
            "known for two days, it need not be straight as a ruler"
        );
    }

    #[test]
    fn what_was_saved_is_read_again() {
        for hours in [1, 48, 52] {
            let past = grown(hours);
            let mut writer = Writer::default();
            writer.section(1, 1, |w| past.save(w));
            let bytes = writer.finish();
            let loaded = Past::load(&mut Reader::open(&bytes).unwrap().section().unwrap().body, 32.0).unwrap();
            assert_eq!(format!("{past:?}"), format!("{loaded:?}"));
        }
    }
}
