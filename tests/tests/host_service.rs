//! Services on real hosts, with real systemd and the real packages: what fails is repaired under policy, and explained.

use std::time::Duration;

use anyhow::{Result, ensure};
use mainstay_tests::hosts::{self, Fleet, listen::Listener, packages, wait::wait_for, wait_until};
use mainstay_tests::site::Site;
use mainstay_tests::site::services::{self, COUNTED, SLEEPER};

/// Longest that a repair with its verification may take before the test calls it missing.
const HEALED_MAX: Duration = Duration::from_secs(90);

/// Longest until the seconds around a finding are at the collector: a minute after it is recorded first.
const SEEN_MAX: Duration = Duration::from_secs(150);

const RESTART: &str = r#"
version = 1
description = "restart what fails"

[[probe]]
unit = "nginx.service"
http = "http://127.0.0.1/"
every = "1s"
timeout = "1s"
fails = 3

[[rule]]
name = "services"
on = ["service.failed", "service.hung"]
units = ["sleeper.service", "nginx.service"]
mode = "auto"
confidence = 0.9
cooldown = "5s"
budget = "5 per 1h"
ladder = [{ do = "unit.restart" }]
verify = { stable_for = "3s" }
"#;

#[test]
fn a_killed_service_is_active_again_and_the_decision_is_explained() -> Result<()> {
    if !hosts::may_run("a_killed_service_is_active_again_and_the_decision_is_explained") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, "sleeper.service", SLEEPER)?;
    site.enforce(&[("services.toml", RESTART)], &["web-1"])?;

    let before = host.unit_property("sleeper.service", "MainPID")?;
    services::kill(host, "sleeper.service")?;
    wait_for(HEALED_MAX, "sleeper.service to run again", || {
        let now = host.unit_property("sleeper.service", "MainPID")?;
        Ok(now != "0" && now != before)
    })?;

    let decision = site.wait_decision("web-1", "a restart that helped", HEALED_MAX, |decision| {
        decision.is_about("service.failed", "sleeper.service") && decision.helped()
    })?;
    assert_eq!(decision.rule.as_deref(), Some("services"));
    assert_eq!(decision.steps.len(), 1, "{decision:?}");
    assert_eq!(decision.steps[0].kind, "unit.restart");
    let text = site.explain(&decision.id)?;
    for word in ["sleeper.service", "web-1", "service.failed", "SIGKILL", "unit.restart", "services", "verified"] {
        assert!(text.contains(word) || (word == "SIGKILL" && text.contains("KILL")), "`{word}` is missing in:\n{text}");
    }
    shows_what_was_seen(&site, &decision.id)
}

/// The scene before the restart and the seconds around the finding are at the collector, and the host tells its last minutes.
fn shows_what_was_seen(site: &Site, decision: &str) -> Result<()> {
    wait_for(SEEN_MAX, "the scene and the seconds", || {
        let seen: serde_json::Value =
            serde_json::from_str(&site.mainstay(&["-o", "json", "explain", decision, "--evidence"])?.ok()?)?;
        let rows = seen["recording"]["at"].as_array().map_or(0, Vec::len);
        Ok(!seen["scenes"][0]["journal"].is_null() && rows > 60)
    })
    .map_err(|error| error.context(site.host("web-1").agent_story()))?;
    let text = site.mainstay(&["explain", decision, "--evidence"])?.ok()?;
    for word in ["before ", "Main process exited", "it had no process", "seconds ", "CPUs busy", "^ found"] {
        assert!(text.contains(word), "`{word}` is missing in:\n{text}");
    }
    assert!(!text.contains("not seen:"), "{text}");
    let lately = site.mainstay(&["host", "record", "web-1", "--last", "1m", "--series", "*sleeper.service*"])?.ok()?;
    assert!(lately.contains("mainstay_unit_state{state=\"active\",unit=\"sleeper.service\"}"), "{lately}");
    Ok(())
}

#[test]
fn a_host_with_no_policy_observes_and_says_what_it_would_do() -> Result<()> {
    if !hosts::may_run("a_host_with_no_policy_observes_and_says_what_it_would_do") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, "sleeper.service", SLEEPER)?;
    services::kill(host, "sleeper.service")?;
    let decision = site.wait_decision("web-1", "a decision to hold", HEALED_MAX, |decision| {
        decision.is_about("service.failed", "sleeper.service")
    })?;
    assert_eq!(decision.choice, "hold", "{decision:?}");
    assert!(decision.steps.is_empty(), "{decision:?}");
    assert_eq!(host.unit_property("sleeper.service", "ActiveState")?, "failed");
    Ok(())
}

#[test]
fn a_frozen_service_is_found_by_its_probe_and_restarted() -> Result<()> {
    if !hosts::may_run("a_frozen_service_is_found_by_its_probe_and_restarted") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    host.must("systemctl start nginx.service")?;
    site.enforce(&[("services.toml", RESTART)], &["web-1"])?;
    // The probe must have seen it well first: what was never well is not hung.
    let page = "curl --silent --fail --max-time 1 --output /dev/null http://127.0.0.1/";
    host.must(page)?;

    // A process of its own account beside those of nginx, which are root's to the kernel.
    let of_nobody = "setsid setpriv --reuid=nobody --regid=nogroup --clear-groups sleep 3600 </dev/null >/dev/null 2>&1 & \
                     echo $! > /sys/fs/cgroup/system.slice/nginx.service/cgroup.procs";
    host.must(of_nobody)?;
    host.must("systemctl kill -s SIGSTOP nginx.service")?;
    host.run(page)?.refused()?;
    wait_for(HEALED_MAX, "nginx to answer again", || Ok(host.run(page)?.is_success()))
        .map_err(|error| error.context(host.agent_story()))?;
    let decision = site.wait_decision("web-1", "a restart that helped", HEALED_MAX, |decision| {
        decision.is_about("service.hung", "nginx.service") && decision.helped()
    })?;
    assert_eq!(decision.steps[0].kind, "unit.restart");
    shows_where_it_hung(&site, &decision.id)
}

/// Its processes were seen before the restart, and where in the kernel they stood, which only the reader of stacks may see.
fn shows_where_it_hung(site: &Site, decision: &str) -> Result<()> {
    let processes = wait_until(SEEN_MAX, "the scene", || {
        let seen: serde_json::Value =
            serde_json::from_str(&site.mainstay(&["-o", "json", "explain", decision, "--evidence"])?.ok()?)?;
        Ok(seen["scenes"][0]["processes"].as_array().filter(|all| !all.is_empty()).cloned())
    })
    .map_err(|error| error.context(site.host("web-1").agent_story()))?;
    let word = |process: &serde_json::Value, of: &str| process[of].as_str().unwrap_or_default().to_owned();
    let stopped: Vec<_> = processes.iter().filter(|process| word(process, "state").starts_with('T')).collect();
    ensure!(stopped.iter().any(|process| word(process, "name") == "sleep"), "{processes:#?}");
    for process in stopped {
        let is_told = process["stack"].as_array().is_some_and(|stack| !stack.is_empty());
        ensure!(is_told, "no stack of {process:#}\n{}", site.host("web-1").journal_tail("mainstay-actuator.service"));
    }
    Ok(())
}

/// Keeps the actuator from starting while a file is there; what asks of it waits at its socket.
const WAITS: &str = "[Service]\nExecStartPre=/bin/sh -c 'while test -e /run/keep-waiting; do sleep 0.1; done'\n";

#[test]
fn a_service_that_somebody_started_meanwhile_is_left_alone() -> Result<()> {
    if !hosts::may_run("a_service_that_somebody_started_meanwhile_is_left_alone") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, "counted.service", COUNTED)?;
    site.enforce(&[("counted.toml", &services::restart_rule(&["counted.service"], "auto"))], &["web-1"])?;
    host.push_file("/etc/systemd/system/mainstay-actuator.service.d/waits.conf", WAITS, 0o644)?;
    host.must("touch /run/keep-waiting && systemctl daemon-reload && systemctl stop mainstay-actuator.service")?;

    services::kill(host, "counted.service")?;
    wait_for(HEALED_MAX, "the restart to wait for the actuator", || {
        Ok(host.unit_property("mainstay-actuator.service", "ActiveState")? == "activating")
    })
    .map_err(|error| error.context(host.agent_story()))?;
    host.must("systemctl start counted.service && rm /run/keep-waiting")?;

    let refused = site.wait_decision("web-1", "a restart that was refused", HEALED_MAX, |decision| {
        decision.is_about("service.failed", "counted.service")
            && decision.steps.iter().any(|step| step.outcome.as_deref() == Some("refused"))
    })?;
    let text = site.explain(&refused.id)?;
    assert!(text.contains("was started anew since the decision"), "{text}");
    assert_eq!(services::starts(host)?, 2, "once by the test and once by hand\n{}", host.agent_story());
    Ok(())
}

#[test]
fn the_hold_file_stops_acting_at_once() -> Result<()> {
    if !hosts::may_run("the_hold_file_stops_acting_at_once") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, "sleeper.service", SLEEPER)?;
    site.enforce(&[("services.toml", RESTART)], &["web-1"])?;
    host.must("touch /etc/mainstay/hold")?;
    services::kill(host, "sleeper.service")?;
    let held = site.wait_decision("web-1", "a hold", HEALED_MAX, |decision| {
        decision.is_about("service.failed", "sleeper.service") && decision.choice == "hold"
    })?;
    assert!(held.steps.is_empty(), "{held:?}");
    assert_eq!(host.unit_property("sleeper.service", "ActiveState")?, "failed");

    host.must("rm /etc/mainstay/hold")?;
    host.wait_unit("sleeper.service", "active", HEALED_MAX)
}

#[test]
fn an_operators_hold_reaches_the_host_and_is_lifted_again() -> Result<()> {
    if !hosts::may_run("an_operators_hold_reaches_the_host_and_is_lifted_again") {
        return Ok(());
    }
    let site = Site::enrolled(&["web-1"])?;
    let host = site.host("web-1");
    services::start(host, "sleeper.service", SLEEPER)?;
    site.enforce(&[("services.toml", RESTART)], &["web-1"])?;
    let hold = ["hold", "--host", "web-1", "--unit", "sleeper.service"];
    site.mainstay(&[&hold[..], &["--for", "2h", "--reason", "somebody works on it"]].concat())?.ok()?;
    services::kill(host, "sleeper.service")?;
    let held = site.wait_decision("web-1", "a hold", HEALED_MAX, |decision| {
        decision.is_about("service.failed", "sleeper.service") && decision.choice == "hold"
    })?;
    assert!(site.explain(&held.id)?.contains("hold"), "{}", site.explain(&held.id)?);
    assert_eq!(host.unit_property("sleeper.service", "ActiveState")?, "failed");

    site.mainstay(&[&hold[..], &["--lift", "--reason", "done"]].concat())?.ok()?;
    host.wait_unit("sleeper.service", "active", HEALED_MAX)
}

/// A service whose binary always fails, and which counts its starts.
const FAILING: &str = "[Service]\nExecStart=/bin/sh -c 'echo started >> /var/lib/starts; exit 1'\n";

const ESCALATE: &str = r#"
version = 1

[[rule]]
name = "failing"
on = ["service.failed"]
units = ["failing.service"]
mode = "auto"
cooldown = "1s"
budget = "3 per 1h"
ladder = [
  { do = "unit.restart" },
  { do = "notify", after = "5s", to = "oncall" },
  { do = "notify", after = "6s", to = "mail" },
]
verify = { stable_for = "1s", within = "2s" }
"#;

#[test]
fn an_always_failing_service_is_restarted_a_bounded_number_of_times_then_held_and_escalates() -> Result<()> {
    if !hosts::may_run("an_always_failing_service_is_restarted_a_bounded_number_of_times_then_held_and_escalates") {
        return Ok(());
    }
    // Root's own rules on a host that nobody enrolled: a signed policy would be given up for the failures that it causes.
    let fleet = Fleet::boot_named(&["web-1"])?;
    let (host, operator) = (fleet.host("web-1"), fleet.operator());
    let seat = format!("{}:0", operator.address());
    let (webhook, mail) = (Listener::webhook(&operator.netns(), &seat)?, Listener::smtp(&operator.netns(), &seat)?);
    let targets = format!(
        "[notify.oncall]\ntype = \"webhook\"\nurl = \"http://{}/page\"\n\
         [notify.mail]\ntype = \"smtp\"\nhost = \"{}\"\nport = {}\ntls = \"none\"\n\
         from = \"mainstay@example.org\"\nto = [\"oncall@example.org\"]\n",
        webhook.address(),
        operator.address(),
        mail.address().port()
    );
    host.push_file("/etc/mainstay/agent.d/10-notify.toml", targets, 0o644)?;
    host.push_file("/etc/mainstay/policy.d/failing.toml", ESCALATE, 0o644)?;
    host.push_file("/etc/systemd/system/failing.service", FAILING, 0o644)?;
    host.install_deb(&packages::deb("mainstay-agent")?)?;
    host.must("systemctl daemon-reload; systemctl start --no-block failing.service")?;

    for (name, listener) in [("webhook", &webhook), ("mail", &mail)] {
        wait_for(HEALED_MAX, &format!("the {name} to be told"), || Ok(!listener.received().is_empty()))
            .map_err(|error| error.context(host.agent_story()))?;
        let told = listener.received().join("\n");
        assert!(told.contains("failing.service") && told.contains("web-1"), "the {name} was told only: {told}");
    }
    wait_for(HEALED_MAX, "a hold because the budget is spent", || {
        Ok(host.must("mainstay-agent status")?.contains("holds (budget"))
    })
    .map_err(|error| error.context(host.agent_story()))?;
    let starts: u32 = host.must("wc -l < /var/lib/starts")?.trim().parse()?;
    assert!((2..=4).contains(&starts), "started {starts} times with a budget of 3\n{}", host.agent_story());
    assert_eq!(host.unit_property("failing.service", "ActiveState")?, "failed");
    Ok(())
}
