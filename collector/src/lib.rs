//! The collector: what the agents of a fleet say, stored, put together and answered.
//!
//! An agent's session comes in at [`listen`], is admitted and taken apart in [`ingest`], made durable
//! in [`store`], and put together by mainstay-fleet; operators ask and order through [`services`];
//! [`query`] answers PromQL, and [`api`] does so as Prometheus would, for dashboards; [`remote`] takes in what others have collected.
//! [`enrol`] decides who is who, [`backup`] copies all of it and puts it back, [`notify`] tells people outside, [`hub`] is
//! what all of them share.
#![forbid(unsafe_code)]

pub mod ages;
pub mod api;
pub mod backup;
pub mod clock;
pub mod collector;
pub mod config;
mod connection;
pub mod enrol;
pub mod hook;
pub mod hub;
pub mod ingest;
pub mod jobs;
pub mod listen;
pub mod metrics;
pub mod notify;
pub mod query;
pub mod random;
pub mod remote;
pub mod repair;
pub mod restore;
pub mod run;
pub mod scrub;
pub mod services;
pub mod store;
pub mod supervise;
pub mod survey;
pub mod web;
mod words;
