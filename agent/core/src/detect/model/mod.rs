//! The learned model: what is usual for every metric of a host, and how rare it is to be so far
//! from it.
//!
//! In: one aggregate per metric and step, with the time since the last step and the hour of the
//! day. Out: for every metric its surprise (minus the logarithm of a calibrated tail probability,
//! so that it means the same on every metric), and for the host as a whole the same again, over
//! the joint surprise of its metrics. Nothing here looks ahead, and one set of constants serves
//! every metric of every host.

mod host;
mod metric;
mod tail;

pub use host::{Blame, HostModel, HostScore};

use metric::Metric;
use tail::Tail;
