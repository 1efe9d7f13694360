//! Compares two exporters on this machine by hand: `parity [PEER-URL [OUR-URL]]`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use mainstay_tests::parity::{Page, Parity};

/// Rounds until every value must have been right once.
const ROUNDS_MAX: usize = 40;

fn main() -> Result<ExitCode> {
    let mut urls = std::env::args().skip(1);
    let peer = urls.next().unwrap_or_else(|| "http://127.0.0.1:9100/metrics".to_owned());
    let ours = urls.next().unwrap_or_else(|| "http://127.0.0.1:7445/metrics".to_owned());
    let mut parity = Parity::default();
    for _ in 0..ROUNDS_MAX {
        let (before, peer, after) = (page(&ours)?, page(&peer)?, page(&ours)?);
        parity.round(&before, &peer, &after);
        if parity.is_settled() {
            break;
        }
    }
    println!("{parity}");
    let (same, counted) = parity.covered();
    Ok(if same == counted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(url: &str) -> Result<Page> {
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "9", url]).output();
    let output = output.context("is curl installed?")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Page::parse(&String::from_utf8(output.stdout)?)
}
