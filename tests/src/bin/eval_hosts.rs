//! `eval-hosts [MINUTES [WORDS]]`: faults on real hosts and what is found of them, as a table. MINUTES are for the slow faults
//! (default 75); only faults with WORDS in their names are tried.

use anyhow::{Context, Result};
use mainstay_tests::eval;

/// What the leak detectors take: windows of forty minutes at least, and a quarter of an hour to be sure.
const SLOW_MINUTES: u64 = 75;

fn main() -> Result<()> {
    let minutes = match std::env::args().nth(1) {
        Some(text) => text.parse().with_context(|| format!("`{text}` is no number of minutes"))?,
        None => SLOW_MINUTES,
    };
    let words = std::env::args().nth(2).unwrap_or_default();
    let report = eval::run(minutes, &words)?;
    println!("{}", eval::table(&report.rows));
    let minutes = report.quiet.as_secs() / 60;
    println!("false alarms in {minutes} quiet minutes of hosts: {}", report.false_alarms.len());
    for (host, found) in &report.false_alarms {
        println!("  {host}: {} {}: {}", found.kind, found.subject, found.evidence);
    }
    println!("about the machine that the hosts share: {}", report.of_the_machine.len());
    for found in &report.of_the_machine {
        println!("  {}: {}", found.kind, found.evidence);
    }
    Ok(())
}
