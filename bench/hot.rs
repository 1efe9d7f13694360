//! Writes `agent/hot.ld`: which functions of the agent run once it has started, so that the linker puts them together.
//!
//! What the kernel maps of a program it maps 64 KiB at a time, so that a function here and one there make most of it resident.
//! On a booted host, enrolled, under a policy, the agent as it was packaged is watched from two minutes after its start (`hot.c`)
//! for seven, in which nothing happens at first, and then a service is killed and healed again and again; what was entered is written
//! down in the order in which it was entered first, so that what every second needs stands together within it, without the hashes that
//! change with every build. A function that is missing there, because it is new, costs memory and nothing else.
//!
//! Run it after larger changes of what the agent does all the time: `make deb && cargo run -p mainstay-tests --bin bench-hot`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mainstay_tests::hosts::command::must;
use mainstay_tests::hosts::{Host, packages, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::churn::{AGENT, pid};
use mainstay_tests::site::services::{self, SLEEPER, restart_rule};

/// After the start, with what is read once a minute.
const SETTLE: Duration = Duration::from_secs(120);

/// How long is watched: longer than the five minutes after which what was learned is saved.
const WATCHED: Duration = Duration::from_secs(420);

/// Of that nothing is done at first: what runs every second comes first.
const QUIET: Duration = Duration::from_secs(30);

/// Kills while it is watched.
const KILLS: u32 = 3;

const UNIT: &str = "sleeper.service";

const HEAD: &str = "/*\n * What runs in the agent once it has started stands together, so that the rest needs not be resident.\n \
    * Written by bench/hot.rs; a function that is missing costs memory and nothing else.\n */\n";

fn main() -> Result<()> {
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, UNIT, SLEEPER)?;
    site.enforce(&[("hot.toml", restart_rule(&[UNIT], "auto").as_str())], &["web-1"])?;
    std::thread::sleep(SETTLE);
    watch(host)?;
    std::thread::sleep(QUIET);
    let mut healed = BTreeSet::new();
    for _ in 0..KILLS {
        let before = host.unit_property(UNIT, "MainPID")?;
        services::kill(host, UNIT)?;
        wait_until(WATCHED, "the service to run again", || {
            let now = host.unit_property(UNIT, "MainPID")?;
            Ok((now != "0" && now != before).then_some(()))
        })?;
        // Killed again before it was shown that it helped, the policy would be given up as one that does not.
        let helped = site.wait_decision("web-1", "a restart that helped", WATCHED, |decision| {
            decision.is_about("service.failed", UNIT) && decision.helped() && !healed.contains(&decision.id)
        })?;
        healed.insert(helped.id);
        host.must("mainstay-agent status && curl -s -o /dev/null http://127.0.0.1:7445/metrics")?;
    }
    wait_until(WATCHED * 2, "the watch to end", || {
        Ok((host.unit_property("hot.service", "ActiveState")? != "active").then_some(()))
    })?;
    let entered = host.must("cat /run/bench/entered")?;
    let script = script(entered.lines());
    ensure!(script.lines().count() > 500, "only so much was entered:\n{entered}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/hot.ld");
    std::fs::write(&path, &script).with_context(|| format!("cannot write {}", path.display()))?;
    println!(
        "{}: {} lines, {} functions were entered",
        path.display(),
        script.lines().count(),
        entered.lines().count()
    );
    Ok(())
}

/// Begins to watch the agent, in a unit of its own.
fn watch(host: &Host) -> Result<()> {
    let program = packages::target_dir().join("lean/mainstay-agent");
    // What has a size is a function; the linker's own marks have none, and there is no code where they are.
    let symbols = must("nm", &["--defined-only", "--print-size", &program.to_string_lossy()])?;
    let code = symbols.lines().filter_map(|line| {
        let (at, rest) = line.split_once(' ')?;
        let (_, rest) = rest.split_once(' ')?;
        let name = rest.strip_prefix("t ").or_else(|| rest.strip_prefix("T "))?;
        Some(format!("{at} {name}\n"))
    });
    host.push_file("/run/bench/symbols", code.collect::<String>(), 0o644)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/hot.c");
    let folder = tempfile::tempdir()?;
    let hot = folder.path().join("hot");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).args([&hot, &source]).status().context("cc")?;
    ensure!(built.success(), "cc ends with {built}");
    host.copy_in(&hot, "/usr/local/bin/hot", 0o755)?;
    let pid = pid(host)?;
    let maps = host.must(&format!("cat /proc/{pid}/maps"))?;
    let base =
        maps.lines().find(|line| line.ends_with("/usr/bin/mainstay-agent")).and_then(|line| line.split('-').next());
    let base = base.with_context(|| format!("{AGENT} has not mapped itself"))?;
    let seconds = WATCHED.as_secs();
    host.start("hot", &format!("exec hot {pid} {base} /run/bench/symbols {seconds} > /run/bench/entered"))
}

/// The linker's script for these functions, in their order.
fn script<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut patterns = BTreeSet::new();
    let mut script = format!("{HEAD}SECTIONS {{\n  .text.hot : {{\n");
    for pattern in names.map(pattern) {
        if patterns.insert(pattern.clone()) {
            // Writing into a string does not fail.
            let _ = writeln!(script, "    *(.text.{pattern})");
        }
    }
    script + "  }\n}\nINSERT BEFORE .text;\n"
}

/// The name of a function in any build: without the hash at its end, and without what the compiler adds to tell copies apart.
fn pattern(name: &str) -> String {
    let hashed = name.rfind("17h").filter(|at| name.as_bytes().get(at + 19) == Some(&b'E'));
    match hashed {
        Some(at) => format!("{}17h*", &name[..at]),
        None => format!("{}*", name.split('.').next().unwrap_or(name)),
    }
}
