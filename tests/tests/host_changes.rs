//! What people do on a real host by hand is told, and what Mainstay does is not: a package, a file, a unit, a
//! deployment. And with all that behind them the same hosts are asked the questions that go beyond PromQL.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mainstay_tests::hosts::{self, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::services::{self, COUNTED, SLEEPER};
use serde_json::Value;

/// Longest that a change takes to be listed: a look every ten seconds, and the way.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// A package with one file, made on the host itself.
const PACKAGE: &str = "set -e; rm -rf /tmp/p; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/share/hello-change; \
    printf 'Package: hello-change\\nVersion: %s\\nArchitecture: all\\nMaintainer: T <t@localhost>\\nDescription: x\\n' \
    VERSION > /tmp/p/DEBIAN/control; date > /tmp/p/usr/share/hello-change/date; \
    dpkg-deb --build /tmp/p /tmp/p.deb; dpkg -i /tmp/p.deb";

/// A file that is watched, and a word that no line may show.
const SETTINGS: &str = "[changes]\nfiles = [\"/etc/shop/*\"]\n[journal]\nredact = [\"acct-*\"]\n";

fn changes(site: &Site) -> Result<Vec<Value>> {
    let listed = site.mainstay(&["-o", "json", "changes", "web-1", "--since", "1h"])?.ok()?;
    serde_json::from_str(&listed).context(listed)
}

/// Waits until a change of this kind and subject is listed, and gives it.
fn told(site: &Site, kind: &str, subject: &str) -> Result<Value> {
    wait_until(TOLD_MAX, &format!("{kind} {subject}"), || {
        let found = changes(site)?.into_iter().find(|row| row["kind"] == kind && row["subject"] == subject);
        Ok(found)
    })
    .with_context(|| {
        let seen = site.mainstay(&["changes", "--since", "1h"]).map(|said| said.stdout).unwrap_or_default();
        format!("changes:\n{seen}\n{}", site.host("web-1").agent_story())
    })
}

#[test]
fn what_people_do_by_hand_is_listed_and_what_mainstay_does_is_not() -> Result<()> {
    if !hosts::may_run("what_people_do_by_hand_is_listed_and_what_mainstay_does_is_not") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1", "web-2", "web-3", "web-4"])?;
    let (host, other) = (site.host("web-1"), site.host("web-2"));
    host.push_file("/etc/shop/shop.conf", "threads = 1\n", 0o644)?;
    host.push_file("/etc/mainstay/agent.d/10-changes.toml", SETTINGS, 0o644)?;
    services::start(host, "sleeper.service", SLEEPER)?;
    services::start(host, "counted.service", COUNTED)?;
    services::start(other, "sleeper.service", SLEEPER)?;
    host.must("systemctl restart mainstay-agent.service")?;
    site.wait_online("web-1")?;
    site.enforce(&[("counted.toml", &services::restart_rule(&["counted.service"], "auto"))], &["web-1"])?;
    let policy = told(&site, "policy.changed", "policy")?;
    assert_eq!((policy["from"].as_str(), policy["to"].as_str()), (Some("built-in"), Some("g1")), "{policy}");

    host.must(&PACKAGE.replace("VERSION", "1.0"))?;
    let installed = told(&site, "package.installed", "hello-change")?;
    assert_eq!(installed["to"], "1.0", "{installed}");
    host.must(&PACKAGE.replace("VERSION", "1.1"))?;
    let upgraded = told(&site, "package.upgraded", "hello-change")?;
    assert_eq!((upgraded["from"].as_str(), upgraded["to"].as_str()), (Some("1.0"), Some("1.1")), "{upgraded}");
    host.must("dpkg -r hello-change")?;
    told(&site, "package.removed", "hello-change")?;

    host.push_file("/etc/shop/shop.conf", "threads = 99\n", 0o644)?;
    let edited = told(&site, "file.changed", "/etc/shop/shop.conf")?;
    assert!(edited["from"].as_str().is_some_and(|hash| hash.starts_with("sha256 ")), "{edited}");
    host.push_file("/etc/systemd/system/new.service", SLEEPER, 0o644)?;
    told(&site, "file.added", "/etc/systemd/system/new.service")?;

    host.must("systemctl restart sleeper.service")?;
    told(&site, "unit.restarted", "sleeper.service")?;
    host.must("systemctl stop sleeper.service")?;
    told(&site, "unit.stopped", "sleeper.service")?;
    host.must("systemctl start sleeper.service")?;
    told(&site, "unit.started", "sleeper.service")?;

    let marked = site.mainstay(&["event", "deploy", "shop 1.42", "--host", "web-1", "--text", "commit 1a2b"])?;
    assert!(marked.stderr.contains("marked on 1 host at"), "{marked:?}");
    marked.ok()?;
    let deployed = told(&site, "deploy", "shop 1.42")?;
    assert_eq!((deployed["by"].as_str(), deployed["text"].as_str()), (Some("ops"), Some("commit 1a2b")), "{deployed}");

    // One service fails on both hosts, and stays so: that is an incident, and it shows what was done before.
    services::kill(other, "sleeper.service")?;
    services::kill(host, "sleeper.service")?;
    let id = wait_until(TOLD_MAX, "the incident", || {
        let listed = site.mainstay(&["-o", "json", "incidents", "--all"])?.ok()?;
        let incidents: Vec<Value> = serde_json::from_str(&listed)?;
        let ours = incidents.iter().find(|incident| incident.to_string().contains("sleeper.service"));
        Ok(ours.and_then(|incident| incident["id"].as_str()).map(str::to_owned))
    })?;
    let shown = site.mainstay(&["incidents", "show", &id])?.ok()?;
    let before = shown.split_once("changed before this:").with_context(|| shown.clone())?.1;
    for word in ["shop 1.42", "hello-change", "/etc/shop/shop.conf", "sleeper.service"] {
        assert!(before.contains(word), "`{word}` is missing in:\n{shown}");
    }

    // What Mainstay restarts is not told.
    site.mainstay(&["event", "deploy", "counted 2.0", "--host", "web-1"])?.ok()?;
    services::kill(host, "counted.service")?;
    let decision = site.wait_decision("web-1", "a restart that helped", Duration::from_secs(90), |decision| {
        decision.is_about("service.failed", "counted.service") && decision.helped()
    })?;
    assert_eq!(services::starts(host)?, 2, "{}", host.agent_story());
    let all = changes(&site)?;
    assert!(!all.iter().any(|row| row["subject"] == "counted.service"), "{all:?}");
    let own = all.iter().filter(|row| row["subject"].as_str().is_some_and(|subject| subject.starts_with("mainstay-")));
    assert!(own.clone().all(|row| row["by"] == "mainstay"), "{all:?}");
    what_was_changed_before_is_told_with_the_story(&site, &decision.id)?;
    what_a_unit_said(&site)?;

    // What was done while no agent ran is told by the next one, once.
    host.must("systemctl stop mainstay-agent.service")?;
    host.must(&PACKAGE.replace("VERSION", "2.0"))?;
    host.must("systemctl start mainstay-agent.service")?;
    wait_until(TOLD_MAX, "the package of the time without an agent", || {
        // The agent may have seen its own package while dpkg was still at it, and then tell that too.
        let is_ours = |row: &&Value| row["kind"] == "package.installed" && row["subject"] == "hello-change";
        let found = changes(&site)?.iter().filter(is_ours).count();
        Ok((found == 2).then_some(()))
    })
    .with_context(|| host.agent_story())?;

    on_one_line_of_time(&site)?;
    who_uses_the_most_and_what_is_unusual(&site)?;
    who_is_not_there_is_said(&site)
}

/// The change that is about the unit comes first, then the newest, each with its time and who did it.
fn what_was_changed_before_is_told_with_the_story(site: &Site, decision: &str) -> Result<()> {
    let story = site.explain(decision)?;
    let changed: Vec<&str> = story.lines().skip_while(|line| !line.starts_with("  changed ")).take(3).collect();
    assert!(changed.len() == 3 && changed[0].contains(" before: deploy counted 2.0 (web-1), by ops"), "{story}");
    assert!(story.contains(": package.removed hello-change 1.1 → –"), "{story}");
    let asked = site.mainstay(&["-o", "json", "explain", decision])?.ok()?;
    let document: Value = serde_json::from_str(&asked)?;
    let rows = document["changes"].as_array().context("no changes")?;
    let related: Vec<_> = rows.iter().filter(|row| row["is_related"] == true).map(|row| &row["subject"]).collect();
    assert_eq!(related, ["counted 2.0"], "{asked}");
    let before: Vec<_> = rows[1..].iter().filter_map(|row| row["seconds_before"].as_f64()).collect();
    assert!(before.len() > 5 && before.is_sorted(), "{asked}");

    let id = document["finding_now"]["id"].as_str().context("no finding")?;
    let shown = site.mainstay(&["findings", "show", id])?.ok()?;
    let first = shown.split_once("changed before this:\n").with_context(|| shown.clone())?.1;
    assert!(first.lines().next().is_some_and(|line| line.contains("deploy counted 2.0")), "{shown}");
    Ok(())
}

/// A unit's last lines come from its host, without what is secret; that they cannot be read is said.
fn what_a_unit_said(site: &Site) -> Result<()> {
    let host = site.host("web-1");
    host.start(
        "talker",
        "echo 'login failed password=hunter2 for acct-7'; echo '<3>cannot go on'; exec sleep infinity",
    )?;
    let asked = ["host", "logs", "web-1", "--unit", "talker", "--last", "20"];
    let page = wait_until(TOLD_MAX, "the lines of the unit", || {
        let said = site.mainstay(&asked)?.ok()?;
        Ok(said.contains("cannot go on").then_some(said))
    })
    .with_context(|| format!("{:?}\n{}", site.mainstay(&asked), host.agent_story()))?;
    assert!(page.contains("login failed") && !page.contains("hunter2") && !page.contains("acct-7"), "{page}");
    assert!(page.lines().any(|line| line.contains("systemd: Started ")), "what systemd says of it too:\n{page}");
    assert!(page.lines().all(|line| !line.contains("counted.service")), "{page}");
    let errors = site.mainstay(&[&asked[..], &["--priority", "err", "--since", "1h"]].concat())?.ok()?;
    assert!(errors.contains("cannot go on") && !errors.contains("login failed"), "{errors}");
    let one = site.mainstay(&["-o", "json", "host", "logs", "web-1", "--last", "1"])?.ok()?;
    let document: Value = serde_json::from_str(&one)?;
    let lines = document["lines"].as_array().context("no lines")?;
    assert_eq!((lines.len(), document["has_more"].as_bool()), (1, Some(true)), "{one}");

    let chmod = |mode: &str| {
        host.must(&format!("for at in /var/log/journal /run/log/journal; do test ! -d $at || chmod {mode} $at; done"))
    };
    chmod("0700")?;
    let refused = site.mainstay(&asked)?.refused();
    chmod("2755")?;
    assert!(refused.as_ref().is_ok_and(|why| why.contains("web-1: cannot list ")), "{refused:?}");
    let audit = site.mainstay(&["audit"])?.ok()?;
    assert!(audit.contains("host logs web-1") && !audit.contains("cannot go on"), "{audit}");
    Ok(())
}

/// What happened on the host, merged from all that tells of it.
fn on_one_line_of_time(site: &Site) -> Result<()> {
    let asked = site.mainstay(&["-o", "json", "host", "timeline", "web-1", "--last", "1h"])?.ok()?;
    let document: Value = serde_json::from_str(&asked)?;
    let entries = document["entries"].as_array().context("no entries")?;
    let at: Vec<_> = entries.iter().map(|entry| entry["at"].as_str().unwrap_or_default()).collect();
    assert!(at.is_sorted(), "{asked}");
    let place = |what: &str, subject: &str, text: &str| {
        let is_meant = |entry: &Value| {
            entry["what"] == what
                && entry["subject"] == subject
                && entry["text"].as_str().is_some_and(|said| said.contains(text))
        };
        entries.iter().position(is_meant).with_context(|| format!("{what} {subject} {text} is missing in:\n{asked}"))
    };
    place("changed", "hello-change", "package.upgraded from 1.0 to 1.1")?;
    place("changed", "shop 1.42", "deploy by ops: commit 1a2b")?;
    place("started", "agent", "version ")?;
    let story = [
        place("found", "counted.service", "service.failed")?,
        place("decided", "counted.service", "unit.restart counted.service, rule restart")?,
        place("did", "counted.service", "unit.restart done")?,
        place("verified", "counted.service", "helped")?,
    ];
    assert!(story.is_sorted(), "{story:?}:\n{asked}");

    let cut = site.mainstay(&["host", "timeline", "web-1", "--last", "1h", "--limit", "3"])?;
    assert!(cut.stderr.contains("earlier ones left out") && cut.stderr.contains("; a shorter --last"), "{cut:?}");
    assert_eq!(cut.ok()?.lines().count(), 4, "a heading and three lines");
    let none = site.mainstay(&["host", "timeline", "web-9"])?.refused()?;
    assert!(none.contains("mainstay hosts"), "{none}");
    Ok(())
}

/// The same unit on all hosts, busy on one of them.
const IDLE: &str = SLEEPER;
const BUSY: &str = "[Service]\nExecStart=/bin/sh -c 'while :; do :; done'\nCPUQuota=40%\n";

/// Longest until a load is seen in the series: a minute that it is meant over, and the way.
const SEEN_MAX: Duration = Duration::from_secs(120);

/// Of hosts that share a kernel, what a unit uses is its own.
fn who_uses_the_most_and_what_is_unusual(site: &Site) -> Result<()> {
    for (name, unit) in [("web-1", BUSY), ("web-2", IDLE), ("web-3", IDLE), ("web-4", IDLE)] {
        services::start(site.host(name), "worker.service", unit)?;
    }
    let top = |args: &[&str]| -> Result<Value> {
        let asked = [&["-o", "json", "top"], args].concat();
        Ok(serde_json::from_str(&site.mainstay(&asked)?.ok()?)?)
    };
    wait_until(SEEN_MAX, "the busy unit to be on top", || {
        let rows = top(&["cpu", "--by", "unit", "--over", "1m"])?["rows"].clone();
        let (first, used) = (&rows[0], rows[0]["value"].as_f64().unwrap_or_default());
        let is_ours = first["host"] == "web-1" && first["which"] == "worker.service" && used > 0.25;
        Ok(is_ours.then_some(()))
    })
    .with_context(|| format!("{:?}", site.mainstay(&["top", "cpu", "--by", "unit", "--over", "1m"])))?;
    let text = site.mainstay(&["top", "cpu", "--by", "unit", "--over", "1m", "--host", "web-1", "-v"])?;
    assert!(text.stderr.contains("rate(mainstay_unit_cpu_seconds_total{host=\"web-1\"}[60s])"), "{text:?}");
    let first = text.stdout.lines().nth(1).unwrap_or_default();
    assert!(first.starts_with("web-1") && first.contains("worker.service") && first.contains(" CPUs"), "{text:?}");
    // Every host has its memory and its root filesystem.
    for signal in ["memory", "disk"] {
        let document = top(&[signal, "-l", "role=web"])?;
        let share = |row: &Value| row["value"].as_f64().is_some_and(|value| (0.0..=1.0).contains(&value));
        let rows = document["rows"].as_array().context("no rows")?;
        assert!(rows.len() == 4 && rows.iter().all(share), "{document}");
    }
    let own = top(&["count by (host) (node_load1)"])?;
    assert_eq!((own["of"].as_u64(), own["rows"][3]["value"].as_f64()), (Some(4), Some(1.0)), "{own}");
    let refused = site.mainstay(&["top", "memroy"])?.refused()?;
    assert!(refused.contains("did you mean memory?"), "{refused}");

    let compare = |host: &str| -> Result<Value> {
        let asked = ["-o", "json", "compare", host, "--over", "1m"];
        Ok(serde_json::from_str(&site.mainstay(&asked)?.ok()?)?)
    };
    let away = |document: &Value| {
        let rows = document["rows"].as_array().into_iter().flatten();
        let found = rows.filter(|row| row["signal"] == "cpu" && row["which"] == "worker.service");
        found.filter_map(|row| row["away"].as_f64()).next()
    };
    // Peers are known a moment later than what is compared with them: a rate takes two summaries.
    let (busy, idle) = wait_until(SEEN_MAX, "the busy unit to be compared", || {
        let (busy, idle) = (compare("web-1")?, compare("web-3")?);
        Ok((away(&busy).is_some() && away(&idle).is_some()).then_some((busy, idle)))
    })?;
    assert_eq!(busy["against"], "3 hosts with role=web", "{busy}");
    assert!(away(&busy).is_some_and(|away| away > 5.0), "{busy}");
    assert!(away(&idle).is_some_and(|away| away.abs() < 3.0), "{idle}");
    let text = site.mainstay(&["compare", "web-1", "--over", "1m"])?.ok()?;
    assert!(text.starts_with("web-1 against 3 hosts with role=web, over 60s"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("cpu ") && line.contains("worker.service")), "{text}");
    let few = site.mainstay(&["compare", "web-1", "--with", "web-2,web-3"])?.refused()?;
    assert!(few.contains("it takes 3 to say what is usual"), "{few}");
    Ok(())
}

/// A host that said goodbye is named below what is answered without it.
fn who_is_not_there_is_said(site: &Site) -> Result<()> {
    site.host("web-4").must("systemctl stop mainstay-agent.service")?;
    site.wait_state("web-4", &["away"], TOLD_MAX)?;
    for asked in [&["top", "memory"][..], &["compare", "web-1", "--over", "5m"], &["host", "timeline", "web-4"]] {
        let said = site.mainstay(asked)?;
        assert!(said.stderr.contains("web-4 (away, last seen "), "{said:?}");
        said.ok()?;
    }
    Ok(())
}
