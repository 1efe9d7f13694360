//! Questions about the fleet as an operator asks them: the real command line over mutual TLS, before a collector that
//! is made for this and answers PromQL from series in memory.

mod collector;

use std::process::Output;

use collector::{Seat, at_ms};
use serde_json::Value;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The answer for programs.
fn document(seat: &Seat, args: &[&str]) -> Value {
    let output = seat.mainstay(&[&["-o", "json"], args].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn top_shows_who_uses_the_most_and_who_is_not_there() {
    let seat = Seat::new();
    let output = seat.mainstay(&["top", "cpu", "--by", "unit", "-v"]);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines.len(), 6, "a heading and those that have any: {text}");
    assert_eq!(lines[0], "HOST WHICH VALUE");
    assert_eq!(lines[1], "web-1 app.service 0.80 CPUs ████████████████████████");
    assert_eq!(lines[2], "web-5 app.service 0.14 CPUs ████▎");
    let notes = stderr(&output);
    assert!(notes.contains("rate(mainstay_unit_cpu_seconds_total[300s])"), "{notes}");
    assert!(notes.contains("none on 5 other units"), "{notes}");
    assert!(notes.contains("97.0% of the range is here"), "{notes}");
    assert!(
        notes.contains("not there, so that what is known of them ends then: web-5 (silent, last seen 4m ago)"),
        "{notes}"
    );
    assert!(notes.contains("gap on web-2: ") && notes.contains("(spool full)"), "{notes}");

    let few = seat.mainstay(&["top", "cpu", "--by", "unit", "--limit", "2", "--no-headers"]);
    assert_eq!(stdout(&few).lines().count(), 2, "{few:?}");
    assert!(stderr(&few).contains("2 of 10 units shown; --limit shows more"), "{few:?}");
    let one = document(&seat, &["top", "memory", "--host", "0101"]);
    assert_eq!((one["of"].as_u64(), one["rows"][0]["host"].as_str()), (Some(1), Some("web-1")), "{one}");
    assert_eq!(one["rows"][0]["value"].as_f64(), Some(0.75), "{one}");
    assert!(one["promql"].as_str().is_some_and(|promql| promql.contains("{host=\"web-1\"}")), "{one}");
    assert_eq!(one["at"], "2027-01-15T08:00:05.000Z");
    let own = document(&seat, &["top", "sum by (unit) (mainstay_unit_tasks:mean)"]);
    assert_eq!(own["rows"][0]["which"], "unit=app.service", "{own}");
}

#[test]
fn compare_shows_what_stands_out_against_the_peers() {
    let seat = Seat::new();
    let output = seat.mainstay(&["compare", "web-1", "--over", "5m"]);
    let text = stdout(&output);
    assert!(text.starts_with("web-1 against 4 hosts with role=web, over 5m\n"), "{text}");
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[2], "SIGNAL WHICH HERE PEERS SPREAD AWAY");
    // The peers lie closer together than what counts as one spread.
    assert_eq!(lines[3], "cpu app.service 0.80 CPUs 0.13 CPUs 0.02 CPUs +33.6");
    assert!(lines[4].starts_with("memory – 75.0% 50.0% 2.5% +10.0"), "{text}");
    assert_eq!(lines.len(), 5, "{text}");
    let notes = stderr(&output);
    assert!(notes.contains("others within 3 spreads; --all shows them"), "{notes}");
    assert!(notes.contains("1 other that fewer than 3 of the peers have; -o json names them"), "{notes}");
    assert!(notes.contains("97.0% of the range is here") && notes.contains("web-5 (silent"), "{notes}");

    let document = document(&seat, &["compare", "web-1", "--with", "web-2,web-3,web-4", "--over", "5m"]);
    assert_eq!(document["peers"], serde_json::json!(["web-2", "web-3", "web-4"]));
    assert_eq!(document["not_compared"][0]["which"], "only.service");
    let tasks = document["rows"].as_array().unwrap().iter().find(|row| row["signal"] == "tasks").unwrap();
    assert_eq!((tasks["away"].as_f64(), tasks["peers"].as_u64()), (Some(0.0), Some(3)), "{tasks}");
}

#[test]
fn too_few_peers_and_mistyped_signals_are_refused_with_what_to_do() {
    let seat = Seat::new();
    for (args, code, says) in [
        (&["compare", "web-1", "--with", "web-2,web-3"][..], 2, "web-1 has 2 peers with the given names"),
        (&["compare", "web-1", "--with", "role=db"], 6, "`mainstay hosts -o json` lists them"),
        (&["compare", "web-1", "--over", "1s"], 2, "--over is 30s or more"),
        (&["top", "memroy"], 2, "did you mean memory?"),
        (&["top", "sum("], 2, "bad query"),
        (&["host", "timeline", "db-9"], 6, "no host is called db-9"),
    ] {
        let output = seat.mainstay(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {output:?}");
    }
}

#[test]
fn the_timeline_merges_all_that_is_told_of_a_host() {
    let seat = Seat::new();
    let output = seat.mainstay(&["host", "timeline", "web-1", "--last", "30m"]);
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "AT WHAT SUBJECT TEXT",
            "2027-01-15 07:40:00 changed nginx package.upgraded from 1.0 to 1.1",
            "2027-01-15 07:45:00 missing data nothing is stored for 5m, until 2027-01-15 07:50:00",
            "2027-01-15 07:50:00 started agent version 0.1.0",
            "2027-01-15 07:55:00 found nginx.service service.failed (critical, 1.00): status=9/KILL",
            "2027-01-15 07:55:00 decided nginx.service service.failed: unit.restart nginx.service, rule web",
            "2027-01-15 07:55:00 did nginx.service unit.restart done in 0.18s",
            "2027-01-15 07:55:30 verified nginx.service helped: active for 30 s",
            "2027-01-15 07:55:30 cleared nginx.service service.failed after 30s",
        ],
        "{output:?}"
    );
    assert!(stderr(&output).contains("open since before: disk.full /var"), "{output:?}");

    let cut = seat.mainstay(&["host", "timeline", "web-1", "--last", "30m", "--limit", "2", "--no-headers"]);
    assert_eq!(stdout(&cut).lines().count(), 2, "{cut:?}");
    assert!(stderr(&cut).contains("6 earlier ones left out; a shorter --last or a higher --limit"), "{cut:?}");
    let document = document(&seat, &["host", "timeline", "web-1", "--last", "30m"]);
    let missing = &document["entries"][1];
    assert_eq!(
        (missing["what"].as_str(), missing["until"].as_str()),
        (Some("missing"), Some("2027-01-15T07:50:00.000Z"))
    );
    assert_eq!(document["entries"][4]["id"], "d-0000000000000007", "{document}");
    assert_eq!(at_ms(0), 1_800_000_000_000);
}

#[test]
fn status_says_what_is_damaged_what_to_do_and_what_goes_on() {
    let seat = Seat::new();
    let output = seat.mainstay(&["status"]);
    assert_eq!(output.status.code(), Some(1), "something is wrong: {output:?}");
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "collector  0.1.0, up 24h",
            "hosts      4 of 5 connected",
            "store      3.0 GiB, 10.0 GiB free, 512.0 MiB of it reserved",
            "damaged    000012.sst of series: Corruption: block checksum mismatch",
            "           lost: series as they came, 2027-01-15 08:00:00 to 2027-01-15 09:00:00, web-1, web-2 and 3 more hosts",
            "           lost: names of series",
            "           what can be read is served; look after the disk, then put a good backup in its place or keep what is left:",
            "           `mainstay backup restore` or `mainstay-collector repair`, see \"When the store is damaged\" in OPERATING.md",
            "backup     2h ago, /mnt/backups/20270115T060000.000Z",
            "verified   60m ago, /mnt/backups/20270115T060000.000Z: 1 thing is wrong",
            "           /mnt/backups/x/000012.sst: its hash is another; take an older one",
            "scrubbed   25h ago, 3.0 GiB in 12m: 1 table was damaged",
            "going on   deleting web-9 (0909), for 30s, 12000 entries so far",
        ],
        "{text}"
    );
    let document: Value = serde_json::from_str(&stdout(&seat.mainstay(&["-o", "json", "status"]))).unwrap();
    assert_eq!(document["damaged"][0]["lost"][0]["hosts_more"], 3, "{document}");
    assert_eq!(document["backup"]["problems"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&document["scrub"]["took_ms"], &document["scrub"]["damaged"]),
        (&Value::from(720_000), &Value::from(1))
    );
}

#[test]
fn what_is_looked_for_is_asked_as_it_was_given_and_what_was_not_looked_through_is_said() {
    let seat = Seat::new();
    let asked = |args: &[&str]| {
        let output = seat.mainstay(&[&["findings", "-o", "wide", "--no-headers"], args].concat());
        assert!(output.status.success(), "{output:?}");
        (stdout(&output), stderr(&output))
    };
    let words = ["--kind", "service", "--subject", "ng*", "--text", "oom kill"];
    let (open, notes) = asked(&words);
    assert!(open.contains("all=false kind=service subject=ng* text=oom kill since=0 until=0"), "{open}");
    assert!(notes.contains("back to 2027-01-15 07:00:00; --until '2027-01-15 07:00:00' goes on from there"), "{notes}");
    assert!(notes.contains("there are more; "), "{notes}");
    let times = ["--text", "oom", "--since", "2027-01-15 06:00", "--until", "2027-01-15T07:30:00Z"];
    let (past, _) = asked(&times);
    let (since, until) = (at_ms(-7_200), at_ms(-1_800));
    assert!(past.contains(&format!("all=true kind= subject= text=oom since={since} until={until}")), "{past}");
    let wrong = seat.mainstay(&["findings", "--since", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(stderr(&wrong).contains("nor a moment such as"), "{wrong:?}");
}

#[test]
fn records_are_told_in_words_and_those_that_cannot_be_read_are_not_left_out() {
    let seat = Seat::new();
    let output = seat.mainstay(&["ledger", "list", "-o", "wide", "--kind", "hold", "--text", "ann"]);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "AT HOST NO RECORD SUBJECT TEXT ID",
            "2027-01-15 07:59:59 web-1 #12 hold.set fleet acting is stopped until 2027-01-15 09:00:00 by ann: kind=hold text=ann –",
            "2027-01-15 07:59:55 web-1 #11 flux.bent – this mainstay cannot read it; a newer one may, and `mainstay ledger verify` says whether it is damaged –",
            "2027-01-15 07:59:50 web-1 #10 step.ended nginx.service done in 0.18s: job [2J done a-0000000000000009",
            "– web-1 #9 unreadable – the collector cannot read it; a newer one may, and `mainstay ledger verify` says whether it is damaged –",
        ],
        "{text}"
    );
    assert!(stderr(&output).contains("--until '2027-01-15 07:00:00' goes on from there"), "{output:?}");
    let document = document(&seat, &["ledger", "list"]);
    assert_eq!(
        (&document[0]["index"], &document[0]["at"]),
        (&Value::from(12), &Value::from("2027-01-15T07:59:59.000Z"))
    );
    assert_eq!((&document[3]["at"], &document[2]["id"]), (&Value::Null, &Value::from("a-0000000000000009")));
}
