//! The collector: what the agents of a fleet say, stored, put together and answered.
#![forbid(unsafe_code)]

pub mod store;
