//! Real Debian hosts for tests, the demo and the benchmarks.
//!
//! A [`Fleet`] boots hosts that each have a PID 1 systemd, D-Bus, journald, cgroup tree, network and disk of their own,
//! all on this machine, joined by a switch that lives in a network namespace too. Nothing of a fleet is visible outside
//! its namespaces, its names carry a run id, and dropping it (or the next run's [`sweep`], after a `kill -9`) leaves no
//! process, mount, namespace or loop device behind.
//!
//! It needs root. Without root a host test says so by name and ends ([`may_run`]), and with `CI=true` it fails instead.

pub mod base;
pub mod command;
pub mod fleet;
pub mod host;
pub mod interrupt;
pub mod listen;
pub mod machine;
pub mod netns;
pub mod packages;
pub mod sweep;
pub mod usage;
pub mod wait;

pub use base::Base;
pub use command::Output;
pub use fleet::{Fleet, FleetOptions, Operator, on_all};
pub use host::Host;
pub use machine::Machine;
pub use wait::wait_until;

use std::io::Write as _;

/// Says whether host tests can run here, and names the test that is skipped when they cannot.
///
/// # Panics
/// When `CI=true` and the test would have to be skipped: a skipped host test proves nothing.
#[must_use]
pub fn may_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let why = format!("host test {test} skipped: it boots real hosts and needs root");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    // Past the capture of the test harness, so that the name is seen although the test passes.
    let _ = writeln!(std::io::stderr(), "{why}");
    false
}

/// Folder outside the checkout where bases and runs are kept: `$XDG_CACHE_HOME/mainstay` or `~/.cache/mainstay`.
#[must_use]
pub fn cache_dir() -> std::path::PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = match set("XDG_CACHE_HOME") {
        Some(dir) => std::path::PathBuf::from(dir),
        None => std::path::PathBuf::from(set("HOME").unwrap_or_else(|| "/root".into())).join(".cache"),
    };
    base.join("mainstay")
}
