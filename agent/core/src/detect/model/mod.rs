//! The learned model: what is usual for a host, and when it is far from it.
//!
//! In: one aggregate per metric and step, with the moment and the seconds that it stands for. Out:
//! for the host as a whole a score, an alarm with one opening per incident, and the metrics to
//! blame. Nothing here looks ahead, and one set of constants serves every metric of every host.

mod alarm;
mod blame;
mod habits;
mod host;
mod joint;
mod metric;
mod residual;
mod season;
mod single;
mod sketch;

pub use alarm::AlarmState;
pub use blame::Blame;
pub use host::{HostModel, HostScore};
pub use residual::{Parts, Usual};

use metric::Metric;

#[cfg(test)]
mod single_tests;
#[cfg(test)]
mod tests;
