//! What reading a policy promises: what is right is taken, what is wrong is named, all of it, where it stands.

use std::time::Duration;

use proptest::prelude::*;

use super::builtin;
use crate::decision::Mode;
use crate::finding::FindingKind;
use crate::plan::{ReclaimPlace, ResetFailed, Undo, Verify};
use crate::policy::{Budget, Policy, ProbeCheck, RungAction};

/// The policy file of the design's sketch of the command line, as an operator writes it after ten minutes.
pub(super) const WEB: &str = r#"version = 1
description = "web tier: restart what crashes, keep disks from filling"
applies_to = { role = "web" }

[[probe]]
unit = "nginx.service"
http = "http://127.0.0.1/healthz"
every = "5s"
timeout = "2s"
fails = 3

[[rule]]
name = "web-services"
on = ["service.failed", "service.hung", "service.crash_loop"]
units = ["nginx.service", "app@*.service"]
mode = "auto"
confidence = 0.9
cooldown = "2m"
budget = "3 per 1h"
ladder = [
  { do = "unit.restart" },
  { do = "unit.restart", after = "5m", reset_failed = true },
  { do = "notify", after = "10m", to = "oncall" },
]
verify = { stable_for = "30s" }

[[rule]]
name = "log-disk"
on = ["disk.filling", "disk.full"]
mounts = ["/var"]
when = "time_to_full < 6h || used > 90%"
mode = "auto"
ladder = [{ do = "disk.reclaim", from = ["journal", "apt-cache", "logs"], until = "used < 80%", undo_for = "24h" }]   # journal and cache are purged, logs can be undone

[reclaim.logs]                 # inside what root's actuator.toml allows on the host, or the plan is refused with the reason
under = "/var/log"
files = ["*.gz", "*.1", "*.old"]
older_than = "3d"
"#;

fn problems(text: &str) -> Vec<String> {
    Policy::parse(&[("p.toml", text)]).unwrap_err().iter().map(ToString::to_string).collect()
}

/// A policy that is right but for one rule's lines.
fn rule(lines: &str) -> String {
    format!("version = 1\n[[rule]]\nname = \"r\"\n{lines}\n")
}

#[test]
fn takes_the_policy_of_the_sketch() {
    let policy = Policy::parse(&[("web.toml", WEB)]).unwrap();
    let file = &policy.files[0];
    assert_eq!(file.applies_to.to_string(), "role=web");
    let probe = &file.probes[0];
    assert_eq!((probe.name.as_str(), probe.fails, probe.every), ("nginx.service", 3, Duration::from_secs(5)));
    assert_eq!(probe.check, ProbeCheck::Http { url: "http://127.0.0.1/healthz".into() });

    let services = &file.rules[0];
    assert_eq!(services.on, [FindingKind::ServiceFailed, FindingKind::ServiceHung, FindingKind::ServiceCrashLoop]);
    assert_eq!((services.mode, services.confidence), (Mode::Auto, 0.9));
    assert_eq!(services.cooldown, Duration::from_secs(120));
    assert_eq!(services.budget, Budget { count: 3, per: Duration::from_secs(3600) });
    assert_eq!(services.verify, Verify { stable_for: Duration::from_secs(30), within: Duration::from_secs(300) });
    let rungs: Vec<_> = services.ladder.iter().map(|rung| (rung.action.clone(), rung.after.as_secs())).collect();
    assert_eq!(
        rungs,
        [
            (RungAction::UnitRestart(ResetFailed::Keep), 0),
            (RungAction::UnitRestart(ResetFailed::Clear), 300),
            (RungAction::Notify { to: "oncall".into() }, 600),
        ]
    );

    let disk = &file.rules[1];
    assert_eq!(disk.when.as_ref().unwrap().to_string(), "time_to_full < 6h || used > 90%");
    let RungAction::DiskReclaim { from, until_used_ratio, undo } = &disk.ladder[0].action else { panic!("{disk:?}") };
    assert_eq!((*until_used_ratio, *undo), (0.8, Undo::For(Duration::from_secs(86_400))));
    assert_eq!(from[..2], [ReclaimPlace::Journal, ReclaimPlace::AptCache]);
    let ReclaimPlace::Aged(logs) = &from[2] else { panic!("{from:?}") };
    assert_eq!((logs.name.as_str(), logs.under.to_string().as_str()), ("logs", "/var/log"));
    assert_eq!(logs.older_than, Duration::from_secs(3 * 86_400));
}

#[test]
fn names_the_mistakes_of_the_sketch_as_the_sketch_shows_them() {
    // The sketch's file with two mistakes on the lines and columns that the sketch names.
    let text = r#"version = 1
description = "web tier: restart what crashes"

[[rule]]
name = "web-services"
on = ["service.failed", "service.hung"]
units = ["nginx.service"]
mode = "auto"
ladder = [
  { do = "unit.restart" },
  { do = "notify", after = "10m", to = "oncall" },
]
confidence = 0.9
        cooldwon = "2m"
budget = "3 per 1h"

[[rule]]
name = "app"
on = ["service.failed"]
mode = "auto"
ladder = [{ do = "unit.restart" }]
  units = ["*"]
"#;
    let found: Vec<String> =
        Policy::parse(&[("web.toml", text)]).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "web.toml:14:9: unknown key `cooldwon`; did you mean `cooldown`?",
            "web.toml:22:12: unit glob \"*\" matches every unit; name units, or write all_units = true",
        ]
    );
}

#[test]
fn the_builtin_policy_is_right_and_only_observes() {
    let policy = builtin();
    assert_eq!(
        policy.rules().map(|rule| rule.name.as_str()).collect::<Vec<_>>(),
        ["services", "slow services", "disks", "host", "logs", "read-only disks"]
    );
    assert!(policy.rules().all(|rule| rule.mode == Mode::Observe));
    assert_eq!(policy.reference.generation, 0);
}

#[test]
fn names_every_mistake_where_it_stands() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["p.toml:1:1: missing key `version`"]),
        ("version = 2", &["p.toml:1:11: policy format 2 is not known (this version of Mainstay knows 1)"]),
        ("version = \"1\"", &["p.toml:1:11: `version` must be a whole number, not a string"]),
        ("version = 1\n[rule]\nname = \"r\"", &["p.toml:2:1: `rule` must be an array of tables, not a table"]),
        (
            "version = 1\napplies_to = { role = \"\" }\nprotected = [\"\"]",
            &[
                "p.toml:2:23: `role` in `applies_to` is empty and would select no host",
                "p.toml:3:14: empty glob in `protected`",
            ],
        ),
        (
            &rule("on = [\"service.faild\"]\nunits = [\"a.service\"]\nmode = \"atuo\""),
            &[
                "p.toml:4:7: unknown finding kind `service.faild`; did you mean `service.failed`?",
                "p.toml:6:8: `mode` cannot be `atuo`; did you mean `auto`?",
            ],
        ),
        (
            &rule("on = []\nmode = \"auto\""),
            &[
                "p.toml:2:1: a rule of mode `auto` needs a `ladder`",
                "p.toml:4:6: `on` is empty: name the kinds of findings that the rule is about",
            ],
        ),
        (&rule("on = [\"service.failed\"]"), &["p.toml:2:1: a rule about units needs `units`, or all_units = true"]),
        (
            &rule("on = [\"disk.full\"]"),
            &["p.toml:2:1: a rule about filesystems needs `mounts`, such as [\"/var\"] or [\"/*\"] for all"],
        ),
        (
            &rule("on = [\"service.failed\"]\nunits = [\"\", \"nginx\", \"**\"]"),
            &[
                "p.toml:5:10: empty glob in `units`",
                "p.toml:5:14: unit glob \"nginx\" matches no unit; did you mean \"nginx.service\"?",
                "p.toml:5:23: unit glob \"**\" matches every unit; name units, or write all_units = true",
            ],
        ),
        (
            &rule("on = [\"service.failed\"]\nunits = []"),
            &["p.toml:5:9: `units` is empty: name units, or write all_units = true"],
        ),
        (
            &rule("on = [\"service.failed\"]\nunits = [\"a.service\"]\nall_units = true"),
            &["p.toml:5:9: `units` and `all_units = true` exclude each other"],
        ),
        (
            &rule("on = [\"cpu.saturated\"]\nunits = [\"a.service\"]\nmounts = [\"/\"]"),
            &[
                "p.toml:5:9: `units` is given, but none of the kinds in `on` is about units",
                "p.toml:6:10: `mounts` is given, but none of the kinds in `on` is about filesystems",
            ],
        ),
        (
            &rule("on = [\"disk.full\"]\nmounts = [\"var\"]"),
            &["p.toml:5:11: mount glob \"var\" matches no mount point; it must begin with /"],
        ),
        (
            &rule("on = [\"disk.full\"]\nmounts = [\"/\"]\nwhen = \"usd > 90%\""),
            &["p.toml:6:9: `when`: unknown measure `usd`; did you mean `used`?"],
        ),
        (
            &rule("on = [\"disk.full\"]\nmounts = [\"/\"]\nwhen = \"used > 90% || time_to_full < 6\""),
            &["p.toml:6:38: `when`: `time_to_full` is compared with a duration such as 6h, not `6`"],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"a.service\"]\nbudget = \"0 per 1h\"\nconfidence = 1.5\nbackoff = 0.5\ncooldown = \"5\"",
            ),
            &[
                "p.toml:6:10: `budget` of 0 never lets the rule act; write mode = \"observe\"",
                "p.toml:7:14: `confidence` must be from 0.0 to 1.0, not 1.5",
                "p.toml:8:11: `backoff` must be from 1.0 to 10.0, not 0.5",
                "p.toml:9:12: `cooldown` must be a duration such as \"30s\", \"2m\", \"6h\" or \"3d\" (units ms, s, m, h, d, w), not \"5\"",
            ],
        ),
        (
            &rule("on = [\"service.failed\"]\nunits = [\"a.service\"]\nbudget = \"3 an hour\""),
            &["p.toml:6:10: `budget` must be such as \"3 per 1h\", not \"3 an hour\""],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"a.service\"]\nwindows = [{ days = \"mon-fry\", from = \"25:00\", to = \"5\", tz = \"Europe/Berlim\" }]",
            ),
            &[
                "p.toml:6:21: `days` must be days such as \"mon-fri\", \"sat,sun\" or \"daily\", not \"mon-fry\"",
                "p.toml:6:39: `from` must be a time of day such as \"22:00\", not \"25:00\"",
                "p.toml:6:53: `to` must be a time of day such as \"22:00\", not \"5\"",
                "p.toml:6:63: unknown time zone \"Europe/Berlim\"; use a name of the IANA database such as \"Europe/Berlin\" or \"UTC\"",
            ],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"a.service\"]\nwindows = [{ from = \"05:00\", to = \"05:00\", tz = \"UTC\" }]",
            ),
            &[
                "p.toml:6:35: window begins and ends at 05:00, so it is never open; for a whole day write from = \"00:00\", to = \"24:00\"",
            ],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"a.service\"]\nladder = [{ do = \"unit.restrat\" }, { do = \"unit.stop\", to = \"x\" }, { after = \"1m\" }]",
            ),
            &[
                "p.toml:6:18: `do` cannot be `unit.restrat`; did you mean `unit.restart`?",
                "p.toml:6:43: `unit.stop` is of risk high here and the rule allows medium; write risk = \"high\" if that is meant",
                "p.toml:6:56: unknown key `to`; did you mean `do`?",
                "p.toml:6:68: missing key `do` in `ladder`",
            ],
        ),
        (
            &rule(
                "on = [\"service.failed\", \"disk.full\"]\nunits = [\"a.service\"]\nmounts = [\"/\"]\nladder = [{ do = \"unit.restart\", after = \"5m\" }, { do = \"unit.start\" }]",
            ),
            &[
                "p.toml:4:25: no rung of the ladder fits `disk.full`",
                "p.toml:7:57: this rung is due before the one above it",
            ],
        ),
        (
            &rule("on = [\"metric.anomalous\"]\nladder = [{ do = \"unit.restart\" }]"),
            &[
                "p.toml:4:7: no rung of the ladder fits `metric.anomalous`",
                "p.toml:5:18: `unit.restart` fits none of the kinds in `on`",
            ],
        ),
        (
            &rule(
                "on = [\"disk.full\"]\nmounts = [\"/\"]\nladder = [{ do = \"disk.reclaim\", from = [\"jurnal\", \"journal\", \"journal\"], until = \"used < 8%0\", undo = \"nope\" }]",
            ),
            &[
                "p.toml:6:42: unknown reclaim place `jurnal`; did you mean `journal`?",
                "p.toml:6:63: `journal` stands in `from` twice",
                "p.toml:6:91: `until`: `used` is compared with a share such as 90%, not `8%0`",
                "p.toml:6:104: `undo` cannot be `nope`; did you mean `none`?",
            ],
        ),
        (
            &rule(
                "on = [\"disk.full\"]\nmounts = [\"/\"]\nladder = [{ do = \"disk.reclaim\", from = [], until = \"used > 80%\", undo = \"none\", undo_for = \"1h\" }]",
            ),
            &[
                "p.toml:6:41: `from` is empty: name the places that may be emptied",
                "p.toml:6:53: `until` must be such as \"used < 80%\" (1% to 99%), not \"used > 80%\"",
                "p.toml:6:74: `undo = \"none\"` and `undo_for` exclude each other",
            ],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"sshd.service\"]\nmode = \"auto\"\nladder = [{ do = \"unit.restart\" }]",
            ),
            &["p.toml:5:10: sshd.service is protected and never acted on; write mode = \"observe\""],
        ),
        (
            &rule(
                "on = [\"service.failed\"]\nunits = [\"a.service\"]\nverify = { stable_for = \"5m\", within = \"1m\" }\ncooldown = \"2h\"\ncooldown_max = \"1h\"\nstart_over = \"0s\"",
            ),
            &[
                "p.toml:6:40: `within` is shorter than `stable_for`, so nothing could ever be proved",
                "p.toml:8:16: `cooldown_max` is shorter than `cooldown`",
                "p.toml:9:14: `start_over` of 0s would never let the ladder end; leave it out for never",
            ],
        ),
        (
            "version = 1\n[reclaim.journal]\nunder = \"/\"\nfiles = []\nolder_than = \"0s\"\n[reclaim.x]\nunder = \"/a/../b\"\nfiles = [\"a/b\"]\nolder_than = \"1d\"",
            &[
                "p.toml:2:10: `journal` is a place of Mainstay's own; choose another name",
                "p.toml:3:9: `under` must be a folder such as \"/var/log\", not \"/\"",
                "p.toml:4:9: `files` is empty: name the files, such as [\"*.gz\"]",
                "p.toml:5:14: `older_than` of 0s would take files that are being written",
                "p.toml:7:9: `under` must be a folder such as \"/var/log\", not \"/a/../b\"",
                "p.toml:8:10: a glob in `files` is on the file name alone, not \"a/b\"",
            ],
        ),
        (
            "version = 1\n[[probe]]\nunit = \"nginx\"\nhttp = \"https://x/\"\nevery = \"1s\"\ntimeout = \"2s\"\nfails = 0\n[[probe]]\nunit = \"a.service\"\n[[probe]]\nunit = \"a.service\"\ntcp = \"x:0\"\ncommand = \"c\"",
            &[
                "p.toml:3:8: `unit`: `nginx` is not a unit name (expected letters, digits and :-_.\\@ with a type, such as nginx.service)",
                "p.toml:4:8: `http` must be a URL such as \"http://127.0.0.1:8080/healthz\", not \"https://x/\"",
                "p.toml:6:11: `timeout` must be longer than 0s and no longer than `every`",
                "p.toml:7:9: `fails` must be from 1 to 100, not 0",
                "p.toml:8:1: a probe needs one of `http`, `tcp` and `command`",
                "p.toml:10:1: a probe needs one of `http`, `tcp` and `command`",
                "p.toml:11:8: probe `a.service` is already defined at p.toml:9:8",
            ],
        ),
        (
            "version = 1\n[[probe]]\nunit = \"a.service\"\ntcp = \"localhost\"\n[[probe]]\nname = \"b\"\nunit = \"a.service\"\ncommand = \"../x\"",
            &[
                "p.toml:4:7: `tcp` must be an address such as \"127.0.0.1:5432\", not \"localhost\"",
                "p.toml:8:11: `command` must be the name of a file in /etc/mainstay/probes.d (letters, digits, - and _), not \"../x\"",
            ],
        ),
        (
            "version = 1\n[[depends]]\nfrom = {}\non = { host = \"\" }\n[[depends]]\nfrom = { role = \"web\" }",
            &[
                "p.toml:3:8: `from` is empty: name a `host`, a `unit` or a label",
                "p.toml:4:15: `host` in `on` is empty",
                "p.toml:5:1: missing key `on` in `depends`",
            ],
        ),
        (
            "version = 1\n[limits]\nhosts = \"0%\"\n[detect]\ndisk_ful = \"95%\"\ndisk_full_clear = \"200%\"\ncrash_loop_long = \"2\"\ncrash_loop_long_count = 1\ndisk_full_critical = \"91%\"",
            &[
                "p.toml:3:9: `hosts` must be a share of the fleet from 0.1% to 100%, such as \"10%\", not \"0%\"",
                "p.toml:4:2: `disk_full_clear` < `disk_full` < `disk_full_critical` must hold, and with the defaults they are 90%, 92%, 91%",
                "p.toml:5:1: unknown key `disk_ful`; did you mean `disk_full`?",
                "p.toml:6:19: `disk_full_clear` must be from 1% to 100%, not 200%",
                "p.toml:7:19: `crash_loop_long` must be a duration such as 6h, not \"2\"",
                "p.toml:8:25: `crash_loop_long_count` must be from 2 to 100, not 1",
            ],
        ),
        (
            "version = 1\n[detect]\nlearning = \"frozn\"",
            &["p.toml:3:12: unknown `learning` `frozn`; did you mean `frozen`?"],
        ),
        (
            "version = 1\n[detect]\nlearning = \"never\"",
            &["p.toml:3:12: unknown `learning` `never`; known are `on`, `frozen`"],
        ),
        ("version = 1\n[detect]\nlearning = false", &["p.toml:3:12: `learning` must be a string, not a boolean"]),
    ];
    let wrong: Vec<_> = cases.iter().map(|(text, expected)| (text, problems(text), expected)).collect();
    let wrong: Vec<_> = wrong.iter().filter(|(_, found, expected)| found != *expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_are_unique_over_all_files_and_files_are_tried_in_order_of_their_names() {
    let text = rule("on = [\"cpu.saturated\"]");
    let found = Policy::parse(&[("b.toml", &text), ("a.toml", &text)]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "b.toml:3:8: rule `r` is already defined at a.toml:3:8");
    let other = text.replace("\"r\"", "\"s\"");
    let policy = Policy::parse(&[("b.toml", &text), ("a.toml", &other)]).unwrap();
    assert_eq!(policy.rules().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["s", "r"]);
}

#[test]
fn fleet_wide_tables_are_taken() {
    let text = "version = 1\nprotected = [\"postgresql*.service\"]\n[[depends]]\nfrom = { role = \"web\", unit = \"app.service\" }\non = { host = \"db-1\", unit = \"postgresql.service\" }\n[limits]\nhosts = \"5%\"\n[detect]\ndisk_full = \"95%\"\ncrash_loop_long = \"10m\"\ncrash_loop_long_count = 6\n";
    let policy = Policy::parse(&[("p.toml", text)]).unwrap();
    let depends = policy.depends().next().unwrap();
    assert_eq!(depends.from.labels.to_string(), "role=web");
    assert_eq!(depends.on.host.as_ref().unwrap().as_str(), "db-1");
    assert_eq!(policy.hosts_ratio(), 0.05);
    let set: Vec<_> = policy.detect().iter().collect();
    assert_eq!(set, [("crash_loop_long", 600.0), ("crash_loop_long_count", 6.0), ("disk_full", 0.95)]);
    assert!(policy.protects(&"postgresql@15-main.service".parse().unwrap()));
    assert!(!policy.protects(&"nginx.service".parse().unwrap()));
    assert_eq!(builtin().hosts_ratio(), 0.10);
}

#[test]
fn learning_is_frozen_where_the_last_file_that_speaks_of_it_says_so() {
    use crate::detect::{Learning, Settings};
    let file = |learning: &str| format!("version = 1\n[detect]\nlearning = \"{learning}\"\n");
    let (on, frozen, silent) = (file("on"), file("frozen"), "version = 1\n[detect]\ndisk_full = \"95%\"\n".to_owned());
    for (files, learning) in [
        (vec![&frozen], Learning::Frozen),
        (vec![&frozen, &silent], Learning::Frozen),
        (vec![&frozen, &on], Learning::On),
        (vec![&on, &frozen], Learning::Frozen),
        (vec![&silent], Learning::On),
    ] {
        let named: Vec<_> = ["a.toml", "b.toml"].into_iter().zip(files.iter().map(|text| text.as_str())).collect();
        let settings = Policy::parse(&named).unwrap().detect().applied_to(Settings::default());
        assert_eq!(settings.learning, learning, "{files:?}");
    }
}

#[test]
fn the_documentation_names_every_key_kind_and_threshold() {
    let page = include_str!("../../../../../docs/POLICY.md");
    let keys = [
        "version",
        "description",
        "applies_to",
        "protected",
        "unit",
        "name",
        "http",
        "tcp",
        "command",
        "every",
        "timeout",
        "fails",
        "on",
        "units",
        "all_units",
        "mounts",
        "labels",
        "when",
        "mode",
        "confidence",
        "for",
        "cooldown",
        "backoff",
        "cooldown_max",
        "budget",
        "windows",
        "risk",
        "ladder",
        "tries",
        "start_over",
        "verify",
        "do",
        "after",
        "reset_failed",
        "to",
        "from",
        "until",
        "undo_for",
        "undo",
        "days",
        "tz",
        "under",
        "files",
        "older_than",
        "hosts",
        "stable_for",
        "within",
    ];
    let kinds = FindingKind::ALL.iter().map(|kind| kind.as_str());
    let thresholds = crate::policy::Threshold::ALL.into_iter().map(|threshold| threshold.name);
    let guards = crate::decision::Guard::ALL.iter().map(|guard| guard.as_str());
    for word in keys.into_iter().chain(kinds).chain(thresholds) {
        assert!(page.contains(&format!("`{word}`")), "docs/POLICY.md does not describe `{word}`");
    }
    let listed: Vec<&str> = guards.collect();
    let page_words = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        page_words.contains(&listed.join(", ")),
        "docs/POLICY.md lists the guards otherwise: {}",
        listed.join(", ")
    );
}

proptest! {
    #[test]
    fn never_panics_on_any_text(text in any::<String>()) {
        let _ = Policy::parse(&[("any.toml", &text)]);
    }

    #[test]
    fn never_panics_on_a_policy_with_a_piece_replaced(at in 0usize..WEB.len(), len in 0usize..40, piece in "[\\[\\]{}=\"'., a-z0-9%<>|&*é\n-]{0,12}") {
        let end = (at + len).min(WEB.len());
        let text = format!("{}{piece}{}", &WEB[..at], &WEB[end..]);
        if let Err(problems) = Policy::parse(&[("web.toml", &text)]) {
            let lines = u32::try_from(text.lines().count()).unwrap();
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.line >= 1 && problem.line <= lines + 1, "{problem}");
                prop_assert!(!problem.message.is_empty());
            }
        }
    }

    #[test]
    fn an_unknown_key_is_found_wherever_it_is_put(line in 0usize..38) {
        let mut lines: Vec<&str> = WEB.lines().collect();
        // Not inside the array of rungs, where it would be an error of syntax.
        prop_assume!(!(20..=23).contains(&line));
        lines.insert(line, "  qqqq = 1");
        let found = problems(&lines.join("\n"));
        prop_assert_eq!(found.len(), 1, "{:?}", found);
        prop_assert!(found[0].starts_with(&format!("p.toml:{}:3: unknown key `qqqq`", line + 1)), "{:?}", found);
    }
}
