//! Where Prometheus 2 answers otherwise than 3 does, whose meaning is ours.
//!
//! In: a query and two answers that differ. Out: why they may. What 2 makes of a query is said in the words of 3 where that
//! can be done, and we are asked that too: it is excused if this answer is theirs. The rest is excused for what the query
//! has in it, and has to be next to nothing: see `tally`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use mainstay_promql::{Span, duration_ms};

use super::compare::{Answer, Named, Points, difference};

/// Why answers may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Excuse {
    why: &'static str,
    /// Whether the difference itself was shown to be that.
    pub(crate) is_shown: bool,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.why, if self.is_shown { "" } else { ", as far as the query tells" })
    }
}

const NAMED: &str = "atan2 keeps the name";
const DEVIATION: &str = "the deviation of one NaN or infinity is 0";
const MOVED: &str = "the range of predict_linear with @ begins later at each step";
const MEANS: &str = "means are rounded otherwise";
const RATES: &str = "rates near zero are extrapolated otherwise";
const ORDER: &str = "what is added up in another order has another last digit, and % makes the first of it";

/// Why two answers may differ; `ask` asks us another question. Where series do not come to both in one order (`added_alike`),
/// sums of them have other last digits.
pub(crate) fn excuse(
    (query, span): (&str, Span),
    ours: &Answer,
    theirs: &Answer,
    in_order: bool,
    added_alike: bool,
    ask: impl Fn(&str, Span) -> Result<Answer>,
) -> Result<Option<Excuse>> {
    let has = |part: &str| query.contains(part);
    let same = |ours: &Answer| {
        let theirs = if has("atan2") { unnamed(theirs, ours) } else { theirs.clone() };
        difference(ours, &theirs, in_order).is_ok()
    };
    let shown = |why| Ok(Some(Excuse { why, is_shown: true }));
    if same(ours) {
        return shown(NAMED);
    }
    let deviation = with_deviation_of_one(query);
    if let Some(read) = &deviation
        && same(&ask(read, span)?)
    {
        return shown(DEVIATION);
    }
    for read in [Some(query), deviation.as_deref()].into_iter().flatten() {
        if let Some(moved) = with_shrinking_window(read, span, &ask)?
            && same(&moved)
        {
            return shown(MOVED);
        }
    }
    let is_of_values = same_moments(ours, theirs);
    let why = match () {
        () if is_moved_within_subqueries(query, span, ours, theirs) => MOVED,
        // No series comes near zero: what is made of them may.
        () if is_of_values && (has("rate((") || has("increase((")) => RATES,
        // A last digit decides whether two means are equal, or where a whole number begins.
        () if is_of_values && has("avg") && ["resets((", "changes((", "%"].iter().any(|op| has(op)) => MEANS,
        () if is_of_values && !added_alike && has("%") && ["stddev", "stdvar"].iter().any(|op| has(op)) => ORDER,
        () => return Ok(None),
    };
    Ok(Some(Excuse { why, is_shown: false }))
}

/// Whether only values differ.
fn same_moments(ours: &Answer, theirs: &Answer) -> bool {
    let (Answer::Series { series: ours, .. }, Answer::Series { series: theirs, .. }) = (ours, theirs) else {
        return false;
    };
    let moments = |points: &Points| points.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| a.0 == b.0 && moments(a.1) == moments(b.1))
}

/// Whether `predict_linear` with `@` is of a subquery or in one: it sees what it can of moments that are not asked for. Of a
/// subquery it is right at the first step.
fn is_moved_within_subqueries(query: &str, span: Span, ours: &Answer, theirs: &Answer) -> bool {
    let Some((before, call)) = query.split_once("predict_linear(") else { return false };
    if !call.contains(" @ ") || !call.contains(':') {
        return false;
    }
    let first = |answer: &Answer| match (answer, span) {
        (Answer::Series { series, .. }, Span::Range { start_ms, .. }) => {
            let points = series.iter().filter_map(|(labels, points)| Some((labels.clone(), *points.first()?)));
            let first = points.filter(|(_, (at, _))| *at == start_ms).map(|(labels, point)| (labels, vec![point]));
            Some(Answer::Series { kind: "matrix".to_owned(), series: first.collect(), order: Vec::new() })
        }
        _ => None,
    };
    let is_within = before.ends_with("((") && call.contains("))[");
    is_within || first(ours).zip(first(theirs)).is_some_and(|(ours, theirs)| difference(&ours, &theirs, false).is_ok())
}

/// Their answer without the names that ours does not have; series that differ in nothing else become one.
fn unnamed(theirs: &Answer, ours: &Answer) -> Answer {
    let (Answer::Series { kind, series, order }, Answer::Series { series: ours, .. }) = (theirs, ours) else {
        return theirs.clone();
    };
    let mut unnamed: BTreeMap<Named, Points> = BTreeMap::new();
    for (labels, points) in series {
        let mut labels = labels.clone();
        if !ours.contains_key(&labels) {
            labels.remove("__name__");
        }
        unnamed.entry(labels).or_default().extend(points);
    }
    unnamed.values_mut().for_each(|points| points.sort_by_key(|(at, _)| *at));
    Answer::Series { kind: kind.clone(), series: unnamed, order: order.clone() }
}

/// The answer where the range of `predict_linear` with `@` ends where it is to end, and begins later by a step at each
/// step: which is asked step by step.
fn with_shrinking_window(
    query: &str,
    span: Span,
    ask: impl Fn(&str, Span) -> Result<Answer>,
) -> Result<Option<Answer>> {
    let Span::Range { start_ms, end_ms, step_ms } = span else { return Ok(None) };
    let at = |ms: i64| format!("@ {}.{:03}", ms / 1000, ms % 1000);
    let query = query.replace("@ start()", &at(start_ms)).replace("@ end()", &at(end_ms));
    let mut all: BTreeMap<Named, Points> = BTreeMap::new();
    for at_ms in (start_ms..=end_ms).step_by(usize::try_from(step_ms)?) {
        let read = replaced(&query, "predict_linear", |call| {
            let (before, at) = call.rsplit_once("] @ ")?;
            let (before, range) = before.rsplit_once('[')?;
            let (range, step) = range.split_once(':').map_or((range, None), |(range, step)| (range, Some(step)));
            // No sample is within a millisecond of any moment: see `series`.
            let left_ms = (duration_ms(range)? - (at_ms - start_ms)).max(1);
            let step = step.map(|step| format!(":{step}")).unwrap_or_default();
            Some(format!("{before}[{left_ms}ms{step}] @ {at}"))
        });
        let Some(read) = read else { return Ok(None) };
        let Answer::Series { series, .. } = ask(&read, Span::Instant { at_ms })? else { return Ok(None) };
        series.into_iter().for_each(|(labels, points)| all.entry(labels).or_default().extend(points));
    }
    Ok(Some(Answer::Series { kind: "matrix".to_owned(), series: all, order: Vec::new() }))
}

/// A group of one has no deviation, whatever its value.
fn with_deviation_of_one(query: &str) -> Option<String> {
    let of = |query: &str, name: &str| {
        replaced(query, name, |call| {
            let count = format!("count{}", &call[name.len()..]);
            Some(format!("(({call} and {count} > 1) or {count} * 0)"))
        })
    };
    let one = of(query, "stddev");
    of(one.as_deref().unwrap_or(query), "stdvar").or(one)
}

/// A query with the calls of a name replaced, the innermost first.
fn replaced(query: &str, name: &str, with: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut query, mut before, mut any) = (query.to_owned(), query.len(), false);
    while let Some(at) = query[..before].rfind(name) {
        before = at;
        let Some(end) = end_of_call(&query, at + name.len()) else { continue };
        let call = at..end;
        if let Some(by) = with(&query[call.clone()]) {
            query.replace_range(call, &by);
            any = true;
        }
    }
    any.then_some(query)
}

/// Behind the parentheses that come next, or after a grouping.
fn end_of_call(query: &str, from: usize) -> Option<usize> {
    let rest = &query[from..];
    let grouping = [" by (", " without ("].iter().find_map(|word| rest.strip_prefix(word));
    let rest = grouping.map_or(Some(rest), |grouped| grouped.split_once(')').map(|(_, rest)| rest))?.trim_start();
    let mut depth = 0;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (c == ')').then_some(query.len() - rest.len() + at + 1);
        }
    }
    None
}
