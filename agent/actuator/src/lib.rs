//! The root helper of the Mainstay agent: it carries out a closed list of typed verbs, and nothing else.
//!
//! In: [`mainstay_core::verb::Request`] over a unix socket from one unprivileged user. Out: a
//! [`mainstay_core::verb::Reply`] to each, and an entry in its own journal. Between the two every request is checked
//! against root's own `/etc/mainstay/actuator.toml`, which no policy can widen. There is no shell here, no network, no
//! search path and no file name that the caller chooses freely.
//!
//! Modules in reading order: [`client`] (the other side's half, all that the agent and the CLI link), [`settings`] (root's
//! file), [`gate`] (may it be done), [`limits`] and [`journal`] (was it done before, how often), [`units`], [`reclaim`],
//! [`journald`], [`probe`], [`processes`], [`scene`] (the verbs), [`dispatch`] (verb to module) and [`server`] (socket to dispatch).
//!
//! Unsafe code stands in [`sys`] alone.

pub mod client;

#[cfg(feature = "server")]
pub mod bytes;
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod dispatch;
#[cfg(feature = "server")]
pub mod gate;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod journald;
#[cfg(feature = "server")]
pub mod limits;
#[cfg(feature = "server")]
pub mod load;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod probe;
#[cfg(feature = "server")]
pub mod processes;
#[cfg(feature = "server")]
pub mod protect;
#[cfg(feature = "server")]
pub mod reclaim;
#[cfg(feature = "server")]
pub mod scene;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod stacks;
#[cfg(feature = "server")]
pub mod sys;
#[cfg(feature = "server")]
pub mod systemd;
#[cfg(feature = "server")]
pub mod units;
