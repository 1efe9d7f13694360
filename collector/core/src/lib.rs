//! The pure core of the collector: what a fleet of agents comes to.
//!
//! As pure as mainstay-core: no I/O, no clock, no randomness. [`correlate`] makes incidents out of
//! findings, [`cause`] names what most likely began it, [`depends`] knows what needs what, and
//! [`dedup`] stores every item once, [`lease`] keeps acting to a share of the hosts, and
//! [`silence`] tells a silent host from one that nobody could have heard. [`block`] is how series are stored,
//! [`rollup`] what is left of them when they are old, [`presence`] who had which of them when, and [`cardinality`] how many a
//! host may bring.
#![forbid(unsafe_code)]

pub mod block;
pub mod capacity;
pub mod cardinality;
pub mod cause;
pub mod correlate;
pub mod dedup;
pub mod depends;
pub mod lease;
pub mod presence;
pub mod rollup;
pub mod silence;
