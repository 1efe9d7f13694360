//! The journal of a real host, written by its own journald: bursts and new kinds of errors are found by unit, nothing
//! secret is shown, and a journal that cannot be read is unknown. The kernel's own lines need recorded journals
//! (`agent/src/host/journal/`): a host here has no kernel log of its own. No collector is needed for any of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mainstay_core::log::{Digest, Line, Redaction, Source};
use mainstay_core::subject::UnitName;
use mainstay_tests::hosts::{self, Fleet, Host, packages, wait_until};
use mainstay_tests::site::services;

/// Longest that anything in the log takes to be found.
const FOUND_MAX: Duration = Duration::from_secs(60);

/// Says what the file holds, then empties it: what a line says is up to the test.
const SPEAKER: &str = "[Service]\nExecStart=/bin/sh -c 'while :; do if test -s /run/say; then cat /run/say; : > /run/say; \
    fi; sleep 0.2; done'\n";

const UNIT: &str = "speaker.service";

/// What an agent has learned that has heard the unit say the same for two hours up to now.
fn learned(now_ms: i64) -> Result<Vec<u8>> {
    let unit: UnitName = UNIT.parse()?;
    let mut digest = Digest::new(Redaction::default());
    for n in 0..240 {
        let message = format!("served {n} requests");
        let wall_ms = now_ms - (240 - n) * 30_000;
        digest.line(Line { wall_ms, source: Source::Unit(&unit), priority: 6, message: Some(message.as_bytes()) });
    }
    Ok(digest.snapshot())
}

fn say(host: &Host, lines: &str) -> Result<()> {
    host.push_file("/run/say.new", lines, 0o644)?;
    host.must("mv /run/say.new /run/say").map(drop)
}

/// Waits until the agent says all of these words of itself; gives the page.
fn said(host: &Host, words: &[&str]) -> Result<String> {
    wait_until(FOUND_MAX, &format!("{words:?}"), || {
        let page = host.must("mainstay-agent status")?;
        ensure!(words.iter().all(|word| page.contains(word)), "{page}");
        Ok(Some(page))
    })
    .with_context(|| host.agent_story())
}

fn counted(host: &Host, line: &str) -> Result<()> {
    wait_until(FOUND_MAX, line, || {
        let metrics = host.must("curl --silent --fail http://127.0.0.1:7445/metrics")?;
        let log = metrics.lines().filter(|line| line.starts_with("mainstay_log_")).collect::<Vec<_>>().join("\n");
        ensure!(metrics.lines().any(|have| have == line), "{log}");
        Ok(Some(()))
    })
    .with_context(|| host.agent_story())
}

#[test]
fn bursts_and_new_errors_of_a_unit_are_found_and_nothing_secret_is_shown() -> Result<()> {
    if !hosts::may_run("bursts_and_new_errors_of_a_unit_are_found_and_nothing_secret_is_shown") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    services::start(host, UNIT, SPEAKER)?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    let started = host.unit_property(UNIT, "InvocationID")?;

    // Two hours of experience, as an agent that ran so long would have it.
    let now_ms: i64 = host.must("date +%s%3N")?.trim().parse()?;
    host.must("systemctl stop mainstay-agent.service")?;
    host.push_file("/var/lib/mainstay/log", learned(now_ms)?, 0o600)?;
    host.must("chown mainstay: /var/lib/mainstay/log && systemctl start mainstay-agent.service")?;
    said(host, &["journal 1 file", "units "])?;

    // Fewer than a burst, but new.
    say(host, &"<3>lost connection to db-1 password=hunter2 of jane@example.org\n".repeat(4))?;
    let page = said(host, &["log.pattern speaker.service", "new: lost connection to <*>"])?;
    assert!(!page.contains("hunter2") && !page.contains("jane"), "{page}");

    let burst: String = (0..200).map(|n| format!("<3>cannot open /srv/{n}.dat: no such file\n")).collect();
    say(host, &burst)?;
    said(host, &["log.burst speaker.service", "errors in the last minute", "cannot open <*>"])?;
    counted(host, &format!("mainstay_log_lines_total{{priority=\"err\",unit=\"{UNIT}\"}} 204"))?;
    counted(host, "mainstay_log_entries_damaged_total 0")?;

    // What was rotated away is read to its end, and the next file from its beginning.
    say(host, "<3>before\n")?;
    wait_until(FOUND_MAX, "the speaker to have spoken", || {
        Ok(host.run("test ! -s /run/say")?.is_success().then_some(()))
    })?;
    host.must("journalctl --rotate")?;
    say(host, "<3>after\n")?;
    counted(host, &format!("mainstay_log_lines_total{{priority=\"err\",unit=\"{UNIT}\"}} 206"))?;

    // Whoever writes to a log brings nothing about; no rule can want it otherwise.
    assert_eq!(host.unit_property(UNIT, "InvocationID")?, started);

    // Templates outlive the agent: what was new is not new again.
    host.must("systemctl restart mainstay-agent.service")?;
    said(host, &["journal 1 file"])?;
    host.must("test -s /var/lib/mainstay/log").map(drop)
}

#[test]
fn a_journal_that_may_not_be_read_is_unknown_until_it_may() -> Result<()> {
    if !hosts::may_run("a_journal_that_may_not_be_read_is_unknown_until_it_may") {
        return Ok(());
    }
    let fleet = Fleet::boot_named(&["web-1"])?;
    let host = fleet.host("web-1");
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    let change = |mode: &str| {
        host.must(&format!("for at in /var/log/journal /run/log/journal; do test ! -d $at || chmod {mode} $at; done"))
    };
    said(host, &["journal 1 file"])?;
    change("0700")?;
    said(host, &["journal unknown: cannot list"])?;
    change("2755")?;
    said(host, &["journal 1 file"]).map(drop)
}
