//! Range queries: a metric by name and matchers, straight from the host blocks.
//!
//! In: a name (`name`, `name:min` …), matchers on its labels and on the host's, a range. Out: points
//! as they are stored or the last of each step, with what is missing. Only the asked series' bytes
//! of a block are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mainstay_core::id::HostId;
use mainstay_core::series::SeriesKey;
use mainstay_fleet::block::Which;
use mainstay_fleet::rollup::{Tier, is_stale, values_at};
use mainstay_promql::Label;
use mainstay_proto::v1;
use regex::Regex;
use tonic::Status;

use super::coverage::Windows;
use super::promql::interrupted;
use crate::ages;
use crate::clock;
use crate::hub::{HostState, Hub};
use crate::query::Stop;
use crate::query::standing::{NAMED_MAX, Standing};
use crate::remote::sources::Source;
use crate::store::read::Reader;
use crate::store::retention::later;
use crate::store::series::which;
use crate::store::thin::Ages;
use crate::store::values::HostRow;
use crate::store::view::View;

/// Most points of one answer.
const POINTS_MAX: usize = 1_000_000;
/// Most series of one answer.
const SERIES_MAX: usize = 10_000;
/// Longest range: blocks of more hours are not looked for.
const RANGE_MS_MAX: i64 = 400 * 86_400_000;
/// What cannot be read that is named in one answer.
const DAMAGED_MAX: usize = 100;
/// Most bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Most matchers of one query.
const MATCHERS_MAX: usize = 64;

/// What a label has to be.
enum Test {
    Is(String),
    IsNot(String),
    Matches(Regex),
    MatchesNot(Regex),
}

struct Matcher {
    label: String,
    test: Test,
}

impl Matcher {
    fn read(matcher: &v1::Matcher) -> Result<Self, Status> {
        let pattern = || {
            // As Prometheus does: the whole value has to match.
            regex::RegexBuilder::new(&format!("^(?:{})$", matcher.value))
                .size_limit(PATTERN_BYTES_MAX)
                .build()
                .map_err(|error| Status::invalid_argument(format!("{}: {error}", matcher.label)))
        };
        let test = match matcher.op.as_str() {
            "=" => Test::Is(matcher.value.clone()),
            "!=" => Test::IsNot(matcher.value.clone()),
            "=~" => Test::Matches(pattern()?),
            "!~" => Test::MatchesNot(pattern()?),
            other => return Err(Status::invalid_argument(format!("`{other}` is not a matcher (=, !=, =~, !~)"))),
        };
        Ok(Self { label: matcher.label.clone(), test })
    }

    /// A label that is not there is empty, as in Prometheus.
    fn holds(&self, value: &str) -> bool {
        match &self.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(wanted) => value != wanted,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::MatchesNot(pattern) => !pattern.is_match(value),
        }
    }
}

/// A query, checked.
struct Question<'r> {
    base: &'r str,
    suffix: &'r str,
    name: &'r str,
    matchers: Vec<Matcher>,
    from_ms: i64,
    to_ms: i64,
    step_ms: i64,
    points_max: usize,
}

impl<'r> Question<'r> {
    fn read(request: &'r v1::QueryRangeRequest) -> Result<Self, Status> {
        if request.name.is_empty() {
            return Err(Status::invalid_argument("name a metric, such as node_load1"));
        }
        if request.matchers.len() > MATCHERS_MAX {
            return Err(Status::invalid_argument(format!("a query has at most {MATCHERS_MAX} matchers")));
        }
        if request.to_ms < request.from_ms || request.to_ms.saturating_sub(request.from_ms) > RANGE_MS_MAX {
            return Err(Status::invalid_argument("the range ends before it begins, or is longer than 400 days"));
        }
        let (base, suffix) = match request.name.rsplit_once(':') {
            Some((base, suffix @ ("min" | "max" | "mean"))) => (base, suffix),
            _ => (request.name.as_str(), ""),
        };
        let points_max = usize::try_from(request.points_max).unwrap_or(POINTS_MAX);
        Ok(Self {
            base,
            suffix,
            name: &request.name,
            matchers: request.matchers.iter().map(Matcher::read).collect::<Result<_, _>>()?,
            from_ms: request.from_ms.max(0),
            to_ms: request.to_ms.max(0),
            step_ms: i64::from(request.step_ms),
            points_max: if points_max == 0 { POINTS_MAX } else { points_max.min(POINTS_MAX) },
        })
    }

    /// What of a series is asked for, by its name: what others have written may end as a gauge's least, greatest or mean.
    fn which(&self, key: &SeriesKey, gauge: bool) -> Option<Which> {
        match key.name.as_str() {
            name if name == self.name => which("", gauge),
            name if name == self.base => which(self.suffix, gauge),
            _ => None,
        }
    }

    /// The labels of a series on a host, if the query means it: its own, then the host's name and labels.
    fn labels(&self, key: &SeriesKey, host: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        let mut labels = host.clone();
        labels.extend(key.labels.iter().cloned());
        let value = |label: &str| labels.get(label).map_or("", String::as_str);
        self.matchers.iter().all(|m| m.holds(value(&m.label))).then_some(labels)
    }
}

type Points = BTreeMap<i64, f64>;

/// Answers `QueryRange`.
///
/// # Errors
/// If the query is none, or the store fails.
pub fn query(hub: &Hub, request: &v1::QueryRangeRequest, stop: &Stop) -> Result<v1::QueryRangeResponse, Status> {
    if !request.promql.is_empty() {
        return super::promql::query(hub, request, stop);
    }
    let question = Question::read(request)?;
    let mut hosts: Vec<(Vec<u8>, HostState)> = {
        let state = hub.state();
        state.hosts.iter().map(|(id, host)| (id.0.to_vec(), host.clone())).collect()
    };
    // Who brings series over remote write stands for no host and is read like one.
    let sources = hub.sources.all().into_iter().filter(|source| source.until_ms() >= question.from_ms);
    hosts.extend(sources.map(|source| (Vec::new(), of_source(&source))));
    let (silence, now_ms) = (hub.silence(), clock::wall_ms());
    let mut answer = v1::QueryRangeResponse { resolution: "raw".to_owned(), now_ms, ..Default::default() };
    for (_, host) in hosts.iter().filter(|(id, host)| !id.is_empty() && is_asked_for(host, &question)) {
        let Some(standing) = Standing::of(host, silence, now_ms) else { continue };
        if answer.hosts.len() < NAMED_MAX { answer.hosts.push(standing.view()) } else { answer.hosts_more += 1 }
    }
    let mut covered = Vec::new();
    let mut points = 0;
    let view = hub.store.view();
    let mut reader = view.reader();
    let tier = finest(&view, &hosts, &ages::of(hub), &question);
    // Two machines may have one name, such as one that was installed anew: their ids tell them apart, as in PromQL.
    let mut alike: HashMap<Arc<[Label]>, usize> = HashMap::new();
    for (_, host) in hosts.iter().filter(|(id, _)| !id.is_empty()) {
        *alike.entry(host.query_labels()).or_default() += 1;
    }
    for (id, host) in &hosts {
        if let Some(why) = stop.now() {
            return Err(interrupted(why));
        }
        let mut labels = host.labels();
        let is_host = !id.is_empty();
        if is_host {
            labels.insert("host".to_owned(), host.hostname().to_owned());
            if alike.get(&host.query_labels()).is_some_and(|count| *count > 1) {
                labels.extend(
                    <[u8; 16]>::try_from(id.as_slice()).map(|id| ("host_id".to_owned(), HostId(id).to_string())),
                );
            }
        }
        // A matcher on the host's own labels decides without reading a block.
        let refused = question.matchers.iter().any(|m| m.label == "host" && !m.holds(host.hostname())) && is_host;
        if refused || is_over(host, &question) {
            continue;
        }
        let (series, share, damaged) = of_host(&mut reader, (host, tier), &labels, &question)?;
        let is_damaged = !damaged.is_empty();
        let room = DAMAGED_MAX.saturating_sub(answer.damaged.len());
        answer.damaged.extend(damaged.into_iter().take(room).map(|text| format!("{}: {text}", host.hostname())));
        if series.is_empty() {
            // What is damaged may have been all that it had.
            covered.extend(is_damaged.then_some(share));
            continue;
        }
        covered.push(share);
        if let Some(tier) = tier {
            answer.resolution = tier.name().to_owned();
        }
        answer.gaps.extend(gaps(id, host, &question));
        for (labels, found) in series {
            if answer.series.len() >= SERIES_MAX || points >= question.points_max {
                answer.truncated = true;
                break;
            }
            let room = question.points_max - points;
            answer.truncated |= found.len() > room;
            let (at_ms, values): (Vec<i64>, Vec<f64>) = found.into_iter().take(room).unzip();
            points += at_ms.len();
            let labels = labels.into_iter().map(|(name, value)| v1::Label { name, value }).collect();
            let key = v1::SeriesKey { name: question.name.to_owned(), labels };
            answer.series.push(v1::SeriesPoints { key: Some(key), at_ms, values });
        }
    }
    answer.completeness = if covered.is_empty() { 1.0 } else { covered.iter().sum::<f64>() / covered.len() as f64 };
    Ok(answer)
}

/// The finest that all hosts have that a question is about, by the labels that they have.
fn finest(view: &View<'_>, hosts: &[(Vec<u8>, HostState)], ages: &Ages, question: &Question<'_>) -> Option<Tier> {
    let now_ms = clock::wall_ms();
    let asked = hosts.iter().map(|(_, host)| host).filter(|host| is_asked_for(host, question));
    let of = |host: &HostState| view.first_hours(host.row.short, ages.of(host.row.short), now_ms);
    let kept = asked.map(of).reduce(later).unwrap_or_else(|| ages.default.first_hours(now_ms));
    view.finest(question.from_ms, kept, now_ms)
}

/// Whether a question is about a host, by the labels that it has.
fn is_asked_for(host: &HostState, question: &Question<'_>) -> bool {
    let labels = host.query_labels();
    let of = |label: &str| labels.iter().find(|(name, _)| &**name == label).map_or("", |(_, value)| value);
    let holds = |matcher: &Matcher| match of(&matcher.label) {
        "" => true,
        value => matcher.holds(value),
    };
    !is_over(host, question) && question.matchers.iter().all(holds)
}

/// Whether nothing came any more in the range, of one that may not connect.
fn is_over(host: &HostState, question: &Question<'_>) -> bool {
    host.is_revoked() && host.mark.last_seen_ms < question.from_ms
}

fn of_source(source: &Source) -> HostState {
    let labels = source.row().labels;
    let facts = Some(v1::HostFacts { labels, ..Default::default() });
    let row = HostRow { short: source.short, facts, enrolled_ms: source.first_ms, ..Default::default() };
    HostState { row, ..HostState::default() }
}

type Found = (Vec<(BTreeMap<String, String>, Points)>, f64, Vec<String>);

/// The series of one host, the share of the range that its rows cover, and what cannot be read.
fn of_host(
    reader: &mut Reader<'_>,
    (host, tier): (&HostState, Option<Tier>),
    labels: &BTreeMap<String, String>,
    question: &Question<'_>,
) -> Result<Found, Status> {
    let mut series: BTreeMap<Arc<SeriesKey>, (BTreeMap<String, String>, Points)> = BTreeMap::new();
    let mut windows = Windows::default();
    let within = |at: i64| (question.from_ms..=question.to_ms).contains(&at);
    let read = reader.host(host.row.short, tier, (question.from_ms, question.to_ms), &mut |piece| {
        let before = windows.len();
        let rows = piece.times.iter().zip(piece.windows).filter(|(at, _)| within(**at));
        rows.for_each(|(at, length)| windows.add(&[*at], &[*length]));
        let schema = piece.schema;
        for (at, (key, gauge)) in schema.keys.iter().zip(&schema.gauge).enumerate() {
            let Some(which) = question.which(key, *gauge) else { continue };
            let Some(all) = question.labels(key, labels) else { continue };
            let points = &mut series.entry(key.clone()).or_insert_with(|| (all, Points::new())).1;
            let cell = if piece.tier.is_some() { values_at(at) } else { at };
            piece.each_value(cell, which, &mut |at_ms, value| {
                if within(at_ms) && !is_stale(value) {
                    points.insert(at_ms, value);
                }
            })?;
        }
        if piece.is_damaged() {
            windows.truncate(before);
        }
        Ok(())
    });
    read?;
    let damaged = reader.damaged();
    for damaged in &damaged {
        tracing::error!(host = host.hostname(), damaged, "a part of the series cannot be read");
    }
    let heard = host.heard_ms.max(host.mark.last_seen_ms);
    let share = windows.share((question.from_ms, question.to_ms), host.row.enrolled_ms, heard);
    let stepped = series.into_values().filter(|(_, points)| !points.is_empty());
    Ok((stepped.map(|(labels, points)| (labels, by_step(points, question))).collect(), share, damaged))
}

/// The last point of each step, under the step's end.
fn by_step(points: Points, question: &Question<'_>) -> Points {
    if question.step_ms == 0 {
        return points;
    }
    let end = |at: i64| {
        let steps = (at - question.from_ms + question.step_ms - 1).div_euclid(question.step_ms);
        question.from_ms + steps * question.step_ms
    };
    points.into_iter().map(|(at, value)| (end(at), value)).collect()
}

fn gaps<'h>(id: &'h [u8], host: &'h HostState, question: &Question<'_>) -> impl Iterator<Item = v1::HostGap> + use<'h> {
    let (from, to) = (question.from_ms, question.to_ms);
    let within = move |gap: &&v1::Gap| gap.wall_to_ms >= from && gap.wall_from_ms <= to;
    host.mark.gaps.iter().filter(within).map(move |gap| v1::HostGap {
        host_id: id.to_vec(),
        hostname: host.hostname().to_owned(),
        gap: Some(gap.clone()),
    })
}
