//! Writes to stdout what the detectors have learned of a small host after three days, as they keep it.
//!
//! `tests/fixtures/learned-v*.bin` were made with it, each by the version of the day:
//! `cargo run -p mainstay-core --release --example learned_snapshot > FILE`. They are never made anew.

use std::io::Write as _;

use mainstay_core::detect::{Detectors, Settings};

#[path = "../tests/learned_state/host.rs"]
mod host;

fn main() -> std::io::Result<()> {
    let mut detectors = Detectors::new(Settings::default(), 1);
    host::Host::default().show(&mut detectors, 0..host::LEARNED_DAYS * host::DAY, |_, busy| busy);
    std::io::stdout().write_all(&detectors.snapshot())
}
