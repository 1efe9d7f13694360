//! What the log costs once it is read: takes a million lines of twenty units, a thousand a second, with a reading and a
//! round of every detector a second. The time is taken from outside, the core having no clock:
//!
//!     cargo build -p mainstay-core --release --example log_cost
//!     time target/release/examples/log_cost
//!
//! User time divided by a thousand is the price of a second with a thousand lines.

use std::io::{self, Write};
use std::sync::Arc;

use mainstay_core::detect::{Detectors, Settings};
use mainstay_core::log::{Digest, Line, Source};
use mainstay_core::sample::Sample;
use mainstay_core::subject::UnitName;
use mainstay_core::time::Now;

const SECONDS: u32 = 1_000;
const LINES: u32 = 1_000;
const UNITS: u32 = 20;

fn message(n: u32) -> String {
    match n % 8 {
        0 => format!(
            "10.0.{}.{} - - \"GET /api/v1/items/{n} HTTP/1.1\" 200 {} 0.0{}",
            n % 256,
            n % 251,
            n % 9_999,
            n % 99
        ),
        1 => format!("level=info ts={n} msg=\"request served\" duration={}ms user=u{}", n % 500, n % 40),
        2 => format!("worker {} finished job {n:08x}-{:04x} in {}.{} s", n % 16, n % 65_536, n % 7, n % 10),
        3 => format!("cannot open /var/lib/app/{n}.dat: No such file or directory"),
        4 => format!(
            "Accepted publickey for deploy from 192.0.2.{} port {} ssh2: ED25519 SHA256:{n:x}",
            n % 256,
            n % 60_000
        ),
        5 => format!("connection from 198.51.100.{}:{} closed", n % 256, n % 60_000),
        6 => format!("[ERROR] upstream {} timed out after {} ms", n % 5, n % 3_000),
        _ => "Started Session of User root.".to_owned(),
    }
}

fn main() -> io::Result<()> {
    let units: Vec<UnitName> = (0..UNITS).filter_map(|n| format!("app-{n}.service").parse().ok()).collect();
    let lines: Vec<String> = (0..LINES * 7).map(message).collect();
    let mut digest = Digest::default();
    let mut detectors = Detectors::new(Settings::default(), 1);
    let (mut opened, mut at) = (0, 0);
    for second in 0..SECONDS {
        let now = Now { boot_ns: u64::from(second) * 1_000_000_000, wall_ms: i64::from(second) * 1_000 };
        for n in 0..LINES {
            at = (at + 1) % lines.len();
            let (message, unit) = (lines[at].as_bytes(), &units[at % units.len()]);
            let priority = if n % 50 == 0 { 3 } else { 6 };
            digest.line(Line { wall_ms: now.wall_ms, source: Source::Unit(unit), priority, message: Some(message) });
        }
        let log = Some(Arc::new(digest.reading(now.wall_ms)));
        opened += detectors.observe_sample(&Sample { at: now, log, ..Sample::default() }, now).len();
    }
    let saved = digest.snapshot().len();
    writeln!(
        io::stdout(),
        "{SECONDS} s of {LINES} lines of {UNITS} units: {opened} changes of findings, {saved} bytes to save"
    )
}
