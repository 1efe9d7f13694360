//! All metrics of a host together.
//!
//! One metric among hundreds is always somewhere rare, so alarms per metric cannot be kept few.
//! Here every metric says how far it is from its usual ([`residual`](super::residual)), their joint
//! evidence is held against the host's own worst hours ([`joint`](super::joint)), one alarm comes
//! of it ([`alarm`](super::alarm)), and the metrics that stand out are named
//! ([`blame`](super::blame)). That is one alarm for the host, however many metrics it has. A series
//! on its own goes another way ([`single`](super::single)).

use super::alarm::{Alarm, AlarmState};
use super::blame::{self, Blame};
use super::joint::{self, Evidence, Joint};
use super::residual::{Deviation, Residual, Usual};
use super::single::Single;
use crate::detect::Learning;
use crate::detect::codec::{Reader, Writer};

/// Metrics are named from this score on, before there is an alarm: worse than an ordinary worst
/// hour.
const NAMED_FROM: f64 = 1.0;

/// All metrics of one host, by index.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostModel {
    residuals: Vec<Residual>,
    joint: Joint,
    alarm: Alarm,
    single: Option<Box<Single>>,
    learning: Learning,
    /// Of the step in hand: kept so that a step allocates nothing.
    deviations: Vec<Deviation>,
}

/// What is said of a host at one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostScore {
    /// How bad it is: in usual worst hours of this host. 0 while learning.
    pub score: f64,
    /// The score from which on there is an alarm.
    pub limit: f64,
    /// Whether there is one.
    pub alarm: AlarmState,
    /// The metrics that stand out, most suspect first. Empty while nothing is unusual.
    pub blame: Vec<Blame>,
}

impl HostModel {
    /// Judges one step and learns it. `values` are the metrics by index (`None` where one is
    /// missing), `at` is the moment in unix seconds (only the time of day is taken from it), `dt`
    /// the seconds that the step stands for, and `alarms_per_week` how many false alarms are
    /// accepted.
    pub fn observe(&mut self, values: &[Option<f64>], at: f64, dt: f64, alarms_per_week: f64) -> HostScore {
        if let ([value], []) = (values, self.residuals.as_slice()) {
            return self.single.get_or_insert_default().observe(*value, at, dt, alarms_per_week);
        }
        if self.residuals.len() < values.len() {
            self.residuals.resize_with(values.len(), Residual::default);
        }
        let learning = self.learning;
        self.deviations.clear();
        self.deviations.extend(self.residuals.iter_mut().zip(values).map(|(residual, value)| {
            let value = value.filter(|value| value.is_finite());
            value.map_or_else(Deviation::default, |value| residual.observe(value, at, dt, learning))
        }));
        let sum = |of: fn(&Deviation) -> f64| self.deviations.iter().map(|off| joint::evidence(of(off))).sum();
        let evidence = Evidence { all: sum(|off| off.distance), beyond_habit: sum(|off| off.beyond_habit) };
        let worth = self.joint.observe(evidence, dt, learning);
        let limit = self.joint.limit(alarms_per_week);
        let alarm = self.alarm.observe(worth.now, worth.faded, limit, dt);
        let blame = if worth.now >= NAMED_FROM {
            blame::rank(&self.deviations, values, &self.residuals, at)
        } else {
            Vec::new()
        };
        HostScore { score: worth.score, limit, alarm, blame }
    }

    /// Freezes what is usual, or lets it be learned again. A series on its own ([`Single`]) always
    /// learns: agents have hosts.
    pub fn set_learning(&mut self, learning: Learning) {
        self.learning = learning;
    }

    /// Sets the least change of a metric that matters, where that is known: a metric that never
    /// moved is not surprising because it moved a little.
    pub fn set_floor(&mut self, metric: usize, floor: f64) {
        if self.residuals.len() <= metric {
            self.residuals.resize_with(metric + 1, Residual::default);
        }
        self.residuals[metric].set_floor(floor);
    }

    /// For how many more seconds it learns before it says anything, in steps of `dt` seconds.
    #[must_use]
    pub fn learning_seconds(&self, dt: f64) -> f64 {
        match &self.single {
            Some(single) if self.residuals.is_empty() => single.learning_seconds(dt),
            _ => self.joint.learning_seconds(),
        }
    }

    /// What is usual for a metric at `at` (unix seconds); `None` where there is no such metric.
    #[must_use]
    pub fn usual(&self, metric: usize, at: f64) -> Option<Usual> {
        self.residuals.get(metric).map(|residual| residual.usual(at))
    }

    /// For how many seconds a metric was learned, up to the memory of two weeks.
    pub(crate) fn seen_seconds(&self, metric: usize) -> f64 {
        self.residuals.get(metric).map_or(0.0, Residual::seen_seconds)
    }

    /// Whether a metric is known well enough for anything to be said of it.
    pub(crate) fn is_warm(&self, metric: usize) -> bool {
        self.residuals.get(metric).is_some_and(Residual::is_warm)
    }

    /// The score from which on there is an alarm, by what is known of this host now.
    #[must_use]
    pub fn limit(&self, alarms_per_week: f64) -> f64 {
        self.joint.limit(alarms_per_week)
    }

    /// Bytes of state in memory that one more metric takes.
    #[must_use]
    pub fn metric_bytes(&self) -> usize {
        size_of::<Residual>() + size_of::<Deviation>()
    }

    /// Bytes of state in memory, the host's own included.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let single = self.single.as_ref().map_or(0, |_| size_of::<Single>());
        size_of::<Self>() + single + self.residuals.len() * self.metric_bytes()
    }

    /// Forgets the metrics that `keep` does not accept and moves the others up.
    pub(crate) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let residuals = std::mem::take(&mut self.residuals);
        self.residuals = (0..).zip(residuals).filter(|(at, _)| keep(*at)).map(|(_, residual)| residual).collect();
    }

    pub(crate) fn save(&self, writer: &mut Writer) {
        self.joint.save(writer);
        self.alarm.save(writer);
        writer.option(self.single.as_ref(), |w, single| single.save(w));
        writer.len(self.residuals.len());
        self.residuals.iter().for_each(|residual| residual.save(writer));
    }

    /// Reads what [`HostModel::save`] wrote; earlier versions knew no habits.
    pub(crate) fn load(reader: &mut Reader<'_>, has_habits: bool) -> Option<Self> {
        let (joint, alarm) = (Joint::load(reader, has_habits)?, Alarm::load(reader)?);
        let single = match reader.u8()? {
            0 => None,
            _ => Some(Box::new(Single::load(reader)?)),
        };
        let residuals = (0..reader.len()?).map(|_| Residual::load(reader, has_habits)).collect::<Option<_>>()?;
        Some(Self { residuals, joint, alarm, single, ..Self::default() })
    }
}
