//! The pure core of the Mainstay agent: samples in, plans and records out.
//!
//! Everything that this crate knows comes in as an argument: bytes that the shell read, the time,
//! a seed. It has no files, no sockets, no clock, no randomness and no threads, so a fleet of a
//! thousand agents is a thousand values and one queue of events. `clippy.toml` beside this crate
//! forbids what would break that.
//!
//! The modules, in the order in which data flows through them: a [`sample::Sample`] becomes
//! signals, signals a [`finding::Finding`], a finding a [`decision::Decision`], a decision a
//! [`plan::Plan`], and every step of it a [`record::Record`].
#![forbid(unsafe_code)]

pub mod agent;
pub mod budget;
pub mod canonical;
pub mod change;
pub mod columns;
pub mod config;
pub mod connections;
pub mod decide;
pub mod decision;
pub mod detect;
pub mod drawing;
pub mod exposition;
pub mod finding;
pub mod host_query;
pub mod id;
pub mod ledger;
pub mod log;
pub mod ordered;
pub mod otlp;
pub mod parse;
pub mod plan;
pub mod policy;
pub mod processes;
pub mod readings;
pub mod record;
pub mod recording;
pub mod sample;
pub mod scene;
pub mod series;
pub mod signal;
pub mod subject;
pub mod summary;
pub mod time;
pub mod token;
pub mod verb;
