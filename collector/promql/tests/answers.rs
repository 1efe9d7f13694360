//! Queries over a few series, with answers that can be reckoned by hand.

use mainstay_promql::{
    EvalError, Fold, Interrupted, Labels, Limits, Matcher, Memory, STALE, Source, Span, Take, Value, Wanted, evaluate,
    parse,
};

const MINUTE: i64 = 60_000;

/// Two counters of requests, a gauge per host, a histogram, and a series that ends.
fn source() -> Memory {
    let mut source = Memory::default();
    let minutes = |of: fn(f64) -> f64| (0..=60i32).map(move |n| (i64::from(n) * MINUTE, of(f64::from(n))));
    source.add(labels(r#"requests_total code=200 host=a"#), minutes(|n| 60.0 * n));
    source.add(labels(r#"requests_total code=500 host=a"#), minutes(|n| 6.0 * n));
    // It began anew after half an hour.
    source.add(
        labels(r#"requests_total code=200 host=b"#),
        minutes(|n| if n < 30.0 { 30.0 * n } else { 30.0 * (n - 30.0) }),
    );
    source.add(labels("load host=a"), minutes(|n| n));
    source.add(labels("load host=b"), minutes(|_| 2.0));
    source.add(labels("up_info host=a version=1.2"), minutes(|_| 1.0));
    source.add(labels("up_info host=b version=1.3"), minutes(|_| 1.0));
    let stale = f64::from_bits(STALE);
    source.add(labels("gone host=a"), (0..=30i64).map(|n| (n * MINUTE, if n == 30 { stale } else { 7.0 })));
    source.add(labels("silent host=a"), (0..30i64).map(|n| (n * MINUTE, 7.0)));
    for (le, count) in [("0.1", 1.0), ("1", 5.0), ("10", 9.0), ("+Inf", 10.0)] {
        source.add(labels(&format!("seconds_bucket host=a le={le}")), [(50 * MINUTE, count)]);
    }
    source
}

/// `name label=value …`
fn labels(text: &str) -> Labels {
    let mut words = text.split_whitespace();
    let name = ("__name__", words.next().unwrap());
    let rest = words.map(|word| word.split_once('=').unwrap());
    Labels::from_text(&[name].into_iter().chain(rest).collect::<Vec<_>>())
}

fn ask(text: &str, span: Span) -> Result<Value, String> {
    let query = parse(text).map_err(|error| error.to_string())?;
    let answer = evaluate(&query, span, &source(), Limits::default(), &|| None);
    answer.map(|answer| answer.value).map_err(|error| error.to_string())
}

/// The answer 51 minutes and a second after the beginning, in words.
fn instant(text: &str) -> String {
    match ask(text, Span::Instant { at_ms: 51 * MINUTE + 1000 }) {
        Ok(Value::Scalar(value)) => format!("{value}"),
        Ok(Value::Text(text)) => format!("{text:?}"),
        Ok(Value::Vector(all)) => {
            all.iter().map(|(labels, value)| format!("{labels} {value}")).collect::<Vec<_>>().join("; ")
        }
        Ok(Value::Matrix(all)) => {
            all.iter().map(|(labels, points)| format!("{labels} {points:?}")).collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn answers_are_those_reckoned_by_hand() {
    let mut wrong = Vec::new();
    for (query, answer) in [
        ("1 + 2 * 3 ^ 2 ^ 0 - -1", "8"),
        (r#""text""#, r#""text""#),
        ("load", r#"load{host="a"} 51; load{host="b"} 2"#),
        (r#"load{host=~"a|c"}"#, r#"load{host="a"} 51"#),
        (r#"{__name__=~"lo.*",host!="a"}"#, r#"load{host="b"} 2"#),
        (r#"load{host="a"} offset 10m"#, r#"load{host="a"} 41"#),
        (r#"load{host="a"} @ 600"#, r#"load{host="a"} 10"#),
        (r#"load{host="a"}[2m]"#, r#"load{host="a"} [(3000000, 50.0), (3060000, 51.0)]"#),
        ("gone", ""),
        ("silent offset 20m", r#"silent{host="a"} 7"#),
        ("silent offset 17m", ""),
        (r#"rate(requests_total{host="a"}[10m])"#, r#"{code="200", host="a"} 1; {code="500", host="a"} 0.1"#),
        (r#"increase(requests_total{code="200",host="b"}[40m])"#, r#"{code="200", host="b"} 1169.230769230769"#),
        (r#"resets(requests_total{host="b"}[40m])"#, r#"{code="200", host="b"} 1"#),
        ("sum by (host) (requests_total)", r#"{host="a"} 3366; {host="b"} 630"#),
        ("sum without (host) (requests_total)", r#"{code="200"} 3690; {code="500"} 306"#),
        ("count(load) + sum(up_info)", "{} 4"),
        ("topk(1, load)", r#"load{host="a"} 51"#),
        ("sort_desc(-load)", r#"{host="b"} -2; {host="a"} -51"#),
        ("quantile(0.5, load)", "{} 26.5"),
        (r#"count_values("value", up_info)"#, r#"{value="1"} 2"#),
        ("load > 10", r#"load{host="a"} 51"#),
        ("load > bool 10", r#"{host="a"} 1; {host="b"} 0"#),
        ("10 < load", r#"load{host="a"} 51"#),
        ("load * on(host) group_left(version) up_info", r#"{host="a", version="1.2"} 51; {host="b", version="1.3"} 2"#),
        (r#"requests_total{code="500"} / ignoring(code) requests_total{code="200"}"#, r#"{host="a"} 0.1"#),
        (r#"load and up_info{version="1.2"}"#, ""),
        (r#"load and on(host) up_info{version="1.2"}"#, r#"load{host="a"} 51"#),
        (r#"load unless on(host) up_info{version="1.2"}"#, r#"load{host="b"} 2"#),
        (r#"up_info{host="a"} or on(host) load"#, r#"load{host="b"} 2; up_info{host="a", version="1.2"} 1"#),
        ("absent(load)", ""),
        (r#"absent(nothing{host="a",code=~"5.."})"#, r#"{host="a"} 1"#),
        (r#"absent_over_time(gone{host="a"}[5m])"#, r#"{host="a"} 1"#),
        ("histogram_quantile(0.5, seconds_bucket)", r#"{host="a"} 1"#),
        (r#"label_replace(load{host="a"}, "to", "x-$1", "host", "(.*)")"#, r#"load{host="a", to="x-a"} 51"#),
        (r#"label_join(load{host="a"}, "to", "-", "host", "host")"#, r#"load{host="a", to="a-a"} 51"#),
        (r#"max_over_time(rate(requests_total{code="500"}[5m])[30m:1m])"#, r#"{code="500", host="a"} 0.1"#),
        (r#"scalar(load{host="a"}) + time() - 3061"#, "51"),
        ("scalar(load)", "NaN"),
        (r#"timestamp(load{host="a"})"#, r#"{host="a"} 3060"#),
        ("hour() * 60 + minute()", "{} 51"),
        (r#"clamp(load, 3, 5)"#, r#"{host="a"} 5; {host="b"} 3"#),
        (r#"round(load{host="a"}, 10)"#, r#"{host="a"} 50"#),
        (r#"predict_linear(load{host="a"}[10m], 60)"#, r#"{host="a"} 52.016666666666666"#),
        (r#"holt_winters(load{host="a"}[10m], 0.5, 0.5)"#, r#"{host="a"} 51"#),
        (r#"double_exponential_smoothing(load{host="a"}[10m], 0.5, 0.5)"#, r#"{host="a"} 51"#),
        (r#"last_over_time(load{host="a"}[1h] offset 40m)"#, r#"load{host="a"} 11"#),
    ] {
        let found = instant(query);
        if found != answer {
            wrong.push(format!("{query}\n    is {found}\n not {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_first_of_a_window_and_the_median_distance_in_it_are_those_reckoned_by_hand() {
    let mut source = Memory::default();
    let mut add = |text: &str, values: &[f64]| source.add(labels(text), (1..).map(|n| n * MINUTE).zip(values.to_vec()));
    add("spread host=a", &[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]);
    add("hole host=a", &[1.0, 2.0, 3.0, 4.0, 5.0, f64::NAN, 7.0]);
    add("infinite host=a", &[1.0, 2.0, 3.0, 4.0, f64::INFINITY, 1.0, 3.0]);
    add("ended host=a", &[5.0, 5.0, 5.0, 5.0, 8.0, f64::from_bits(STALE), 9.0]);
    add("other host=b", &[f64::INFINITY]);
    let found = |query: &str, span: Span| {
        let answer = evaluate(&parse(query).unwrap(), span, &source, Limits::default(), &|| None).unwrap();
        match answer.value {
            Value::Vector(all) => all.iter().map(|(of, value)| format!("{of} {value}")).collect::<Vec<_>>().join("; "),
            other => format!("{other:?}"),
        }
    };
    let at = |minute: i64| Span::Instant { at_ms: minute * MINUTE };
    for (query, minute, answer) in [
        // 1 1 2 2 4 6 999: the median is 2, and the distances from it 0 0 1 1 2 4 997.
        ("mad_over_time(spread[7m])", 7, r#"{host="a"} 1"#),
        // 1 2 999: 0 1 997.
        ("mad_over_time(spread[3m])", 7, r#"{host="a"} 1"#),
        // 1 1 2 999: the median is 1.5, between two; 0.5 0.5 0.5 997.5.
        ("mad_over_time(spread[4m])", 7, r#"{host="a"} 0.5"#),
        // 2 4 6 and 1: the median is 3, and the distances 1 1 2 3, the middle between two again.
        ("mad_over_time(spread[4m])", 4, r#"{host="a"} 1.5"#),
        ("mad_over_time(spread[1m])", 7, r#"{host="a"} 0"#),
        ("mad_over_time(spread[2m] offset 2m)", 7, r#"{host="a"} 499"#),
        ("mad_over_time(spread[10m] @ 120)", 7, r#"{host="a"} 1"#),
        ("mad_over_time(spread[1m])", 9, ""),
        ("mad_over_time(hole[1m])", 7, r#"{host="a"} 0"#),
        ("mad_over_time(hole[7m])", 7, r#"{host="a"} NaN"#),
        ("mad_over_time(hole[5m])", 5, r#"{host="a"} 1"#),
        // 1 3 4 inf: the median is 3.5, and the distances 0.5 0.5 2.5 inf. Where infinity is next to the middle it is not left
        // out by weighing it with nothing, as in Prometheus.
        ("mad_over_time(infinite[4m])", 7, r#"{host="a"} 1.5"#),
        ("mad_over_time(infinite[3m])", 7, r#"{host="a"} NaN"#),
        ("mad_over_time(other[1m])", 1, r#"{host="b"} NaN"#),
        // A stale marker is no sample: 5 8 9, and 9 alone.
        ("mad_over_time(ended[4m])", 7, r#"{host="a"} 1"#),
        ("mad_over_time(ended[2m])", 7, r#"{host="a"} 0"#),
        ("mad_over_time(ended[1m])", 6, ""),
        // At minutes 3 and 6: 2 and 1.
        ("mad_over_time(spread[6m:3m])", 7, r#"{host="a"} 0.5"#),
        ("mad_over_time((spread * 2)[7m:1m])", 7, r#"{host="a"} 2"#),
        ("first_over_time(spread[7m])", 7, r#"spread{host="a"} 4"#),
        // The range is open on the left: 999 is two minutes old.
        ("first_over_time(spread[2m])", 7, r#"spread{host="a"} 1"#),
        ("first_over_time(spread[1m])", 7, r#"spread{host="a"} 2"#),
        ("first_over_time(spread[2m] offset 1m)", 7, r#"spread{host="a"} 999"#),
        ("first_over_time(spread[10m] @ 180)", 7, r#"spread{host="a"} 4"#),
        ("first_over_time(spread[1m])", 9, ""),
        ("first_over_time(hole[2m])", 7, r#"hole{host="a"} NaN"#),
        ("first_over_time(ended[3m])", 7, r#"ended{host="a"} 8"#),
        ("first_over_time(ended[2m])", 7, r#"ended{host="a"} 9"#),
        ("first_over_time(ended[1m])", 6, ""),
        ("first_over_time(spread[6m:3m])", 7, r#"spread{host="a"} 2"#),
        ("first_over_time((spread * 2)[6m:3m])", 7, r#"{host="a"} 4"#),
        (r#"first_over_time({host="b"}[7m])"#, 7, r#"other{host="b"} inf"#),
    ] {
        assert_eq!(found(query, at(minute)), answer, "{query} at {minute}");
    }
    let span = Span::Range { start_ms: 5 * MINUTE, end_ms: 10 * MINUTE, step_ms: 2 * MINUTE };
    for (query, values) in
        [("mad_over_time(spread[3m])", [1.0, 1.0, 0.0]), ("first_over_time(spread[3m])", [2.0, 999.0, 2.0])]
    {
        let answer = evaluate(&parse(query).unwrap(), span, &source, Limits::default(), &|| None).unwrap();
        let Value::Matrix(all) = answer.value else { panic!("{query} is a matrix") };
        let expected = [5, 7, 9].map(|minute| minute * MINUTE).into_iter().zip(values).collect::<Vec<_>>();
        assert_eq!(all[0].1, expected, "{query}");
    }
}

#[test]
fn every_function_that_the_manual_names_is_asked_somewhere() {
    const MANUAL: &str = include_str!("../../../docs/query.md");
    let asked = [include_str!("answers.rs"), include_str!("questions/by_hand.promql")].concat();
    let table = MANUAL.split("| kind | functions |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut names = Vec::new();
    for row in table.lines().filter(|row| row.starts_with("| of") || row.starts_with("| over")) {
        let cell = row.split('|').nth(2).unwrap();
        let words = cell.split(['(', ',']).next().unwrap().split_whitespace();
        let ending = if cell.contains("_over_time") { "_over_time" } else { "" };
        names.extend(words.take_while(|word| *word != "and").map(|word| format!("{word}{ending}")));
    }
    assert_eq!(names.len(), 10 + 13 + 15 + 10 + 9, "{names:?}");
    let angles = ["sin", "cos", "tan"].map(|name| [name.to_owned(), format!("{name}h")]).concat();
    names.extend(angles.iter().flat_map(|name| [name.clone(), format!("a{name}")]));
    let unasked = names.iter().filter(|name| !asked.contains(&format!("{name}(")));
    assert_eq!(unasked.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn what_cannot_be_answered_is_said_so() {
    let mut wrong = Vec::new();
    for (query, says) in [
        ("", "no expression"),
        ("load{", "unexpected end of input"),
        ("nosuch(load)", "unknown function"),
        (r#"load{host=~"("}"#, "illegal regex"),
        (r#"{host=~".*"}"#, "at least one non-empty matcher"),
        ("rate(load)", "expected type"),
        ("load + on(host) requests_total", "many-to-many matching not allowed"),
        ("requests_total + on(host) load", "many-to-one matching must be explicit"),
        (r#"label_replace(load, "host", "x", "host", ".*")"#, "same labelset"),
        ("histogram_count(load)", "native histograms are not supported"),
        ("limitk(1, load)", "not supported"),
        ("sort_by_label(load, \"host\")", "not supported"),
        ("1 == 1", "must use BOOL modifier"),
        ("load and 1", "set operator"),
        ("topk(NaN, load)", "overflows"),
        ("double_exponential_smoothing(load[5m], 2, 0.5)", "invalid smoothing factor"),
        ("load[5m:1m", "unexpected end of input"),
        ("load @ start() @ end()", "may not be set multiple times"),
    ] {
        let answer = instant(query);
        if !answer.contains(says) || !answer.starts_with("error") {
            wrong.push(format!("{query}\n    is {answer}\n not {says}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_range_has_a_point_for_each_step_where_there_is_a_value() {
    let span = Span::Range { start_ms: 28 * MINUTE, end_ms: 33 * MINUTE, step_ms: 2 * MINUTE };
    let found = |query: &str| match ask(query, span).unwrap() {
        Value::Matrix(all) => all.into_iter().map(|(labels, points)| (labels.to_string(), points)).collect::<Vec<_>>(),
        other => panic!("{query}: {other:?}"),
    };
    let gone = vec![(28 * MINUTE, 7.0)];
    assert_eq!(found("gone"), [(r#"gone{host="a"}"#.to_owned(), gone)]);
    let silent = [28, 30, 32].map(|n| (n * MINUTE, 7.0)).to_vec();
    assert_eq!(found("silent"), [(r#"silent{host="a"}"#.to_owned(), silent)]);
    let one = vec![(28 * MINUTE, 1.0), (30 * MINUTE, 1.0), (32 * MINUTE, 1.0)];
    assert_eq!(found("1"), [("{}".to_owned(), one)]);
    // Series that differ only in name become one where they do not meet.
    let both = [28, 30, 32].map(|n| (n * MINUTE, -7.0)).to_vec();
    assert_eq!(found(r#"(gone or silent) * -1"#), [(r#"{host="a"}"#.to_owned(), both)]);
    let at_end = [28, 30, 32].map(|n| (n * MINUTE, 33.0)).to_vec();
    assert_eq!(found(r#"load{host="a"} @ end()"#), [(r#"load{host="a"}"#.to_owned(), at_end)]);
    assert!(ask("load[5m]", span).unwrap_err().contains("must be Scalar or instant Vector"));
    assert!(ask("-(gone or silent)", span).unwrap_err().contains("same labelset"));
    assert!(ask(r#"{__name__=~"gone|silent"} * 2"#, span).unwrap_err().contains("same labelset"));
}

#[test]
fn limits_stop_a_query_and_say_which() {
    let instant = Span::Instant { at_ms: 51 * MINUTE };
    let under = |query: &str, span: Span, limits: Limits| {
        evaluate(&parse(query).unwrap(), span, &source(), limits, &|| None).unwrap_err()
    };
    let few = Limits { samples_max: 100, ..Limits::default() };
    assert_eq!(
        under("sum(requests_total[1h:1m])".replace("[1h:1m]", "").as_str(), instant, Limits { samples_max: 2, ..few }),
        EvalError::TooManySamples(2)
    );
    assert_eq!(under("rate(requests_total[1h])", instant, few), EvalError::TooManySamples(100));
    let narrow = Limits { values_max: 100, ..Limits::default() };
    let range = Span::Range { start_ms: 0, end_ms: 50 * MINUTE, step_ms: MINUTE };
    assert_eq!(under("requests_total", range, narrow), EvalError::TooManyValues(100));
    let fine = Span::Range { start_ms: 0, end_ms: 60 * MINUTE, step_ms: 100 };
    assert_eq!(under("load", fine, Limits::default()), EvalError::TooManySteps { steps: 36_001, max: 11_000 });
    let deep = under("max_over_time(load[365d:1s])", instant, Limits::default());
    assert_eq!(deep, EvalError::TooManySteps { steps: 31_536_000, max: 1_000_000 });
    for why in [Interrupted::Cancelled, Interrupted::TimedOut] {
        let query = parse("max_over_time(load[10d:1s])").unwrap();
        let stopped = evaluate(&query, instant, &source(), Limits::default(), &|| Some(why));
        assert_eq!(stopped, Err(EvalError::Interrupted(why)));
    }
}

/// One series of which only stretches of five minutes are kept, each with samples around its number: thirty, or ten in
/// every fifth.
struct Coarse;

impl Source for Coarse {
    fn series(&self, wanted: &Wanted<'_>, take: &mut Take<'_>) -> Result<(), EvalError> {
        assert_eq!(wanted.resolution_ms, 5 * MINUTE);
        let value = |n: i32| {
            let (count, n) = (if n % 5 == 0 { 10.0 } else { 30.0 }, f64::from(n));
            match wanted.fold {
                Fold::Last => n,
                Fold::Min => n - 1.0,
                Fold::Max => n + 1.0,
                Fold::Sum => count * n,
                Fold::Count => count,
            }
        };
        // The last sample of a stretch comes a little before its end.
        let stretches = (1..=100i32).map(|n| (i64::from(n) * 5 * MINUTE - 10_000, value(n)));
        let within = stretches.filter(|(at, _)| (wanted.from_ms..=wanted.to_ms).contains(at));
        let (at, values): (Vec<i64>, Vec<f64>) = within.unzip();
        take(labels("load host=a"), &at, &values)
    }

    fn resolution_ms(&self, matchers: &[Matcher], from_ms: i64) -> i64 {
        assert!(from_ms > 0 && matchers.iter().any(|matcher| matcher.holds("load")));
        5 * MINUTE
    }
}

#[test]
fn coarse_series_answer_for_what_their_stretches_hold() {
    for (text, minute, expected) in [
        ("load", 58, 11.0),
        ("load offset 3m", 58, 11.0),
        // Nothing came in the last five minutes, but the next stretch is not over.
        ("load", 64, 12.0),
        ("max_over_time(load[20m])", 58, 12.0),
        ("min_over_time(load[20m])", 58, 7.0),
        // A range of one stretch holds it and no other; a shorter one is taken for that long.
        ("max_over_time(load[5m])", 60, 13.0),
        ("min_over_time(load[1m])", 60, 11.0),
        ("present_over_time(load[10s])", 64, 1.0),
        ("last_over_time(load[5m])", 60, 12.0),
        // Stretches 8 to 11: the one of ten samples weighs a third.
        ("avg_over_time(load[20m])", 58, (30.0 * (8.0 + 9.0 + 11.0) + 10.0 * 10.0) / 100.0),
        ("avg_over_time(load[1m])", 58, 11.0),
        ("count_over_time(load[1h])", 61, 10.0 * 30.0 + 2.0 * 10.0),
        ("count_over_time(load[1m])", 58, 6.0),
        ("sum_over_time(load[15m])", 61, 30.0 * (11.0 + 12.0) + 10.0 * 10.0),
        ("increase(load[5m])", 58, 1.0),
        ("rate(load[5m]) * 300", 58, 1.0),
        ("increase(load[50m])", 58, 10.0),
    ] {
        let query = parse(text).unwrap();
        let span = Span::Instant { at_ms: minute * MINUTE };
        let answer = evaluate(&query, span, &Coarse, Limits::default(), &|| None).unwrap();
        let Value::Vector(all) = &answer.value else { panic!("{text} is a vector") };
        assert!(all.len() == 1 && (all[0].1 - expected).abs() < 1e-9, "{text}: {all:?}, not {expected}");
    }
}
