//! What the reader promises: every mistake, its exact place, and never a panic.

use std::time::Duration;

use proptest::prelude::*;

use super::{Document, Problems, parse_bytes, parse_duration, show_bytes, show_duration};

fn shown(problems: Problems) -> Vec<String> {
    problems.into_vec().iter().map(ToString::to_string).collect()
}

#[test]
fn names_an_unknown_key_with_its_place_and_the_likely_one() {
    let text = format!("{}[rule]\n   x=1;\n", "\n".repeat(11)).replace("   x=1;", "        cooldwon = \"2m\"");
    let doc = Document::parse("web.toml", &text).unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    let mut rule = top.table("rule").unwrap();
    assert!(rule.opt_duration("cooldown").is_none());
    rule.finish();
    top.finish();
    assert_eq!(shown(problems), ["web.toml:13:9: unknown key `cooldwon`; did you mean `cooldown`?"]);
}

#[test]
fn collects_every_mistake_of_a_file_in_order() {
    let text = "name = 3\ncount = -1\nratio = \"x\"\nwait = \"3 parsecs\"\nsize = \"12 lightyears\"\nmode = \"atuo\"\nglobs = [\"a\", 2]\n";
    let doc = Document::parse("a.toml", text).unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    top.str("name");
    top.u64("count");
    top.f64("ratio");
    top.duration("wait");
    top.bytes("size");
    top.choice("mode", &[("auto", 1), ("observe", 2)]);
    top.strs("globs");
    top.str("gone");
    top.finish();
    assert_eq!(
        shown(problems),
        [
            "a.toml:1:1: missing key `gone`",
            "a.toml:1:8: `name` must be a string, not an integer",
            "a.toml:2:9: `count` must be from 0 to 18446744073709551615, not -1",
            "a.toml:3:9: `ratio` must be a number, not a string",
            "a.toml:4:8: `wait` must be a duration such as \"30s\", \"2m\", \"6h\" or \"3d\" (units ms, s, m, h, d, w), not \"3 parsecs\"",
            "a.toml:5:8: `size` must be a size such as \"512KiB\", \"64MiB\" or \"10GB\", not \"12 lightyears\"",
            "a.toml:6:8: `mode` cannot be `atuo`; did you mean `auto`?",
            "a.toml:7:15: `globs` must hold strings only, not an integer",
        ]
    );
}

#[test]
fn lists_the_known_keys_when_none_is_near() {
    let doc = Document::parse("a.toml", "zzzzzz = 1").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    top.opt_str("name");
    top.opt_str("mode");
    top.finish();
    assert_eq!(shown(problems), ["a.toml:1:1: unknown key `zzzzzz`; known here: `mode`, `name`"]);
}

#[test]
fn shares_are_numbers_with_a_percent_sign() {
    for (text, share) in [("10%", 0.1), ("2.5 %", 0.025), ("0%", 0.0), ("400%", 4.0)] {
        assert_eq!(super::parse_share(text), Ok(share), "{text}");
    }
    for wrong in ["", "%", "10", "-1%", "1e3%", "nan%", "inf%", "1.2.3%", "ten%"] {
        assert!(super::parse_share(wrong).unwrap_err().to_string().contains("such as \"10%\""), "{wrong}");
    }
    let doc = Document::parse("a.toml", "cpu = 10\nmore = \"much\"\n").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    top.share("cpu");
    top.opt_share("more");
    top.finish();
    assert_eq!(
        shown(problems),
        [
            "a.toml:1:7: `cpu` must be a share such as \"10%\", not an integer",
            "a.toml:2:8: `more` must be a share such as \"10%\" or \"2.5%\", not \"much\"",
        ]
    );
}

#[test]
fn names_a_missing_key_at_the_head_of_its_table() {
    let doc = Document::parse("p.toml", "\n[[rule]]\non = []\n[[rule]]\nname = \"b\"\n").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    for mut rule in top.tables("rule") {
        rule.str("name");
        rule.opt_strs("on");
        rule.finish();
    }
    top.finish();
    assert_eq!(shown(problems), ["p.toml:2:1: missing key `name` in `rule`"]);
}

#[test]
fn reports_syntax_errors_with_line_and_column() {
    let problems = Document::parse("s.toml", "a = 1\nb = = 2\n").unwrap_err();
    assert_eq!((problems[0].line, problems[0].column), (2, 5), "{problems:?}");
    let problems = Document::parse("s.toml", "a = 1\na = 2\n").unwrap_err();
    assert_eq!((problems[0].line, problems[0].column), (2, 1), "{problems:?}");
}

#[test]
fn columns_count_characters() {
    let doc = Document::parse("u.toml", "t = { \"ключ\" = 1, x = 2 }").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    let mut inner = top.table("t").unwrap();
    inner.opt_u64("ключ");
    inner.finish();
    top.finish();
    assert_eq!(shown(problems), ["u.toml:1:19: unknown key `x`; known here: `ключ`"]);
}

#[test]
fn later_documents_override_keys_and_keep_their_own_places() {
    let base = Document::parse("base.toml", "list = [\"a\", \"b\"]\n[t]\nx = 1\ny = \"two\"\n").unwrap();
    let over = Document::parse("d/10.toml", "list = [\"c\"]\n\n[t]\ny = 7\n").unwrap();
    let doc = Document::merged([base, over]).unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    let list = top.strs("list").unwrap();
    assert_eq!(list.iter().map(|item| item.value.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(list.place.to_string(), "d/10.toml:1:8");
    let mut table = top.table("t").unwrap();
    assert_eq!(table.u64("x").unwrap().place.to_string(), "base.toml:3:5");
    table.str("y");
    table.finish();
    top.finish();
    assert_eq!(shown(problems), ["d/10.toml:4:5: `y` must be a string, not an integer"]);
}

#[test]
fn named_tables_carry_the_operators_names() {
    let doc =
        Document::parse("r.toml", "[reclaim.logs]\nunder = \"/var/log\"\n[reclaim.tmp]\nunder = \"/tmp\"\n").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    let mut seen = Vec::new();
    for mut place in top.named_tables("reclaim") {
        seen.push((place.name().to_owned(), place.str("under").unwrap().value, place.place().line));
        place.finish();
    }
    top.finish();
    assert!(problems.is_empty());
    assert_eq!(seen, [("logs".into(), "/var/log".into(), 1), ("tmp".into(), "/tmp".to_owned(), 3)]);
}

#[test]
fn refuses_values_out_of_range() {
    let doc = Document::parse("w.toml", "share = 1.5\nwait = \"2d\"\n").unwrap();
    let problems = Problems::new();
    let mut top = doc.reader(&problems);
    let share = top.f64("share");
    assert!(top.within("share", share, 0.0..=1.0).is_none());
    let wait = top.duration("wait");
    assert!(top.within("wait", wait, Duration::from_secs(1)..=Duration::from_secs(3600)).is_none());
    top.finish();
    assert_eq!(shown(problems)[0], "w.toml:1:9: `share` must be from 0.0 to 1.0, not 1.5");
}

#[test]
fn refuses_what_would_overflow_the_stack() {
    let refused = |text: &str| Document::parse("deep.toml", text).unwrap_err()[0].to_string();
    assert!(refused(&format!("{} = 1", vec!["a"; 200_000].join("."))).contains("more than 24 dots"));
    let header = format!("x = ''' . '''\n[{}]", vec!["'a'"; 200_000].join("."));
    assert!(refused(&header).starts_with("deep.toml:2:1: more than"));
    refused(&format!("a = {}", "[".repeat(200_000)));
    assert!(refused(&format!("a = {}{}", "[".repeat(60), "]".repeat(60))).contains("nested deeper"));
    // The deepest that gets through to `toml`: inline tables of dotted keys, each on its own line.
    let level = format!("{{ {} =\n", vec!["a"; 24].join("."));
    refused(&format!("a = {}1{}", level.repeat(70), " }".repeat(70)));
    let addresses = format!("a = [{}]", "'10.0.0.1', ".repeat(100));
    assert!(Document::parse("long.toml", &addresses).is_ok());
    assert!(refused(&"#".repeat(2 << 20)).starts_with("deep.toml: file is too large"));
}

#[test]
fn reads_durations_and_sizes() {
    for (text, ms) in
        [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h30m", 5_400_000), ("3d", 259_200_000), ("0s", 0)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "5", "s", "-5s", "+5s", "5 s", "5sec", "1.5h", "99999999999999999w"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    for (text, bytes) in [("0", 0), ("64MiB", 64 << 20), ("10 GB", 10_000_000_000), ("7B", 7), ("1kB", 1000)] {
        assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
    }
    for text in ["", "MiB", "1.5GiB", "-1", "64mib", "99999999999TiB"] {
        assert!(parse_bytes(text).is_err(), "{text}");
    }
    assert_eq!(show_duration(Duration::from_secs(5400)), "1h30m");
    assert_eq!(show_bytes(64 << 20), "64MiB");
}

proptest! {
    #[test]
    fn shown_durations_and_sizes_read_back(ms in 0u64..1 << 45, bytes in any::<u64>()) {
        let duration = Duration::from_millis(ms);
        prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        prop_assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
    }

    #[test]
    fn never_panics_on_any_text(text in any::<String>()) {
        let _ = Document::parse("any.toml", &text);
    }

    #[test]
    fn never_panics_on_text_that_resembles_toml(text in "([a-c]|\"|'|\\[|\\]|\\{|\\}|=|\\.|,|\n| |[0-9]|#|\\\\|é|-|\\+|:|_){0,60}") {
        if let Ok(doc) = Document::parse("any.toml", &text) {
            let problems = Problems::new();
            let mut top = doc.reader(&problems);
            top.str("a");
            top.opt_duration("b");
            top.tables("c");
            top.finish();
        }
    }

    #[test]
    fn a_planted_unknown_key_is_found_where_it_stands(
        before in 0u32..40, indent in 0usize..12, after in 0u32..5, nested in any::<bool>(),
    ) {
        let mut text = String::new();
        if nested { text.push_str("[t]\n"); }
        for i in 0..before { text.push_str(&format!("known{i} = \"é{i}\"\n")); }
        text.push_str(&format!("{}wrong_key = 1\n", " ".repeat(indent)));
        for i in 0..after { text.push_str(&format!("more{i} = 1\n")); }
        let doc = Document::parse("p.toml", &text).unwrap();
        let problems = Problems::new();
        let mut top = doc.reader(&problems);
        let mut table = if nested { top.table("t").unwrap() } else { doc.reader(&problems) };
        for i in 0..before { table.str(&format!("known{i}")); }
        for i in 0..after { table.u64(&format!("more{i}")); }
        table.finish();
        let found = problems.into_vec();
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(found[0].line, before + 1 + u32::from(nested));
        prop_assert_eq!(found[0].column as usize, indent + 1);
    }
}
