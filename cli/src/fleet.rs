//! Questions to the fleet about this moment, and how complete their answers are: every command that compares hosts says
//! who was not heard from, what is missing, and whose clock is off.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_proto::v1::query_service_client::QueryServiceClient;
use mainstay_proto::v1::{HostFacts, HostView, ListHostsRequest, QueryRangeRequest, QueryRangeResponse, Selector};
use serde::Serialize;
use tonic::transport::Channel;

use crate::exit::{Exit, Failure};
use crate::{output, view, words};

/// The collector, for questions.
pub(crate) type Queries = QueryServiceClient<Channel>;

/// Hosts and gaps that are named below an answer; the rest is counted.
const NAMED_MAX: usize = 5;
/// A clock that is off by more than this is told.
const CLOCK_OFF_MS: u64 = 1_000;
/// The least time to look back over: hosts send every ten seconds, and a rate takes some points.
const OVER_MIN: Duration = Duration::from_secs(30);

/// The hosts that a selector means, and the moment by the collector's clock.
pub(crate) async fn hosts(queries: &mut Queries, selector: Selector) -> Result<(Vec<HostView>, i64), Failure> {
    let request = ListHostsRequest { selector: Some(selector) };
    let answer = queries.list_hosts(request).await?.into_inner();
    if answer.hosts.is_empty() {
        let text = "no host matches; `mainstay hosts -o json` lists them with their labels";
        return Err(Failure::new(Exit::NotFound, text));
    }
    Ok((answer.hosts, answer.now_ms))
}

/// A host by its name, id or the beginning of an id.
pub(crate) fn named(host: &str) -> Selector {
    Selector { host: host.to_owned(), labels: Vec::new() }
}

/// Its name; empty if it has told none yet.
pub(crate) fn name(host: &HostView) -> &str {
    host.facts.as_ref().map_or("", |facts| facts.hostname.as_str())
}

/// A time to look back over, checked.
pub(crate) fn over(time: Duration) -> Result<Duration, Failure> {
    if time < OVER_MIN {
        let least = OVER_MIN.as_secs();
        return Err(Failure::usage(format!(
            "--over is {least}s or more: hosts send what they measured every ten seconds"
        )));
    }
    Ok(time)
}

/// A length of time on the wire's clock.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// One row of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Row {
    /// A label; empty if it is not there.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The host, with its id where another has the same name.
    pub(crate) fn host(&self) -> String {
        match (self.label("host"), self.label("host_id")) {
            ("", _) => "–".to_owned(),
            (host, "") => host.to_owned(),
            (host, id) => format!("{host} ({id})"),
        }
    }
}

/// Asks PromQL at one moment. Rows without a number are left out.
pub(crate) async fn ask(
    queries: &mut Queries,
    promql: &str,
    at_ms: i64,
    seen: &mut Completeness,
) -> Result<Vec<Row>, Failure> {
    let request =
        QueryRangeRequest { from_ms: at_ms, to_ms: at_ms, promql: promql.to_owned(), ..QueryRangeRequest::default() };
    let answer = queries.query_range(request).await?.into_inner();
    seen.take(&answer);
    Ok(rows(answer))
}

fn rows(answer: QueryRangeResponse) -> Vec<Row> {
    let row = |series: mainstay_proto::v1::SeriesPoints| {
        let labels = series.key.unwrap_or_default().labels;
        let value = *series.values.last().filter(|value| value.is_finite())?;
        Some(Row { labels: labels.into_iter().map(|label| (label.name, label.value)).collect(), value })
    };
    answer.series.into_iter().filter_map(row).collect()
}

/// How complete an answer is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Completeness {
    /// The least share of its range that any question found.
    completeness: f64,
    /// Whether stored series could not be read, and which, where an answer says it.
    damaged: bool,
    #[serde(skip)]
    unread: Vec<String>,
    /// The coarsest that any answer is of: `raw`, `5m` or `1h`; empty where nothing was there.
    resolution: String,
    /// Hosts that are meant and not there.
    not_heard: Vec<NotHeard>,
    /// What hosts are known to have lost within the range.
    gaps: Vec<GapDoc>,
    /// Hosts whose clocks are off.
    clocks_off: Vec<ClockOff>,
    /// Hosts of one or the other that are not named.
    hosts_more: u64,
}

#[derive(Debug, Clone, Serialize)]
struct NotHeard {
    host: String,
    state: String,
    last_seen: Option<String>,
    #[serde(skip)]
    ago: String,
}

#[derive(Debug, Clone, Serialize)]
struct GapDoc {
    host: String,
    from: Option<String>,
    to: Option<String>,
    reason: String,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug, Clone, Serialize)]
struct ClockOff {
    host: String,
    offset_ms: i64,
}

impl Completeness {
    /// Of an answer about these hosts, from `from_ms` until now.
    pub(crate) fn of(hosts: &[HostView], from_ms: i64, now_ms: i64) -> Self {
        let is_there = |host: &&HostView| matches!(host.state.as_str(), "online" | "healing");
        // A host that was taken out for good is missed by nobody, once it is past the range.
        let is_over = |host: &&HostView| host.state == "revoked" && host.last_seen_ms < from_ms;
        let not_heard = hosts.iter().filter(|host| !is_there(host) && !is_over(host)).map(|host| NotHeard {
            host: name(host).to_owned(),
            state: host.state.clone(),
            last_seen: view::moment(host.last_seen_ms),
            ago: words::ago(host.last_seen_ms, now_ms),
        });
        let gaps = hosts.iter().flat_map(|host| host.gaps.iter().map(move |gap| (host, gap)));
        let gaps = gaps.filter(|(_, gap)| gap.wall_to_ms >= from_ms).map(|(host, gap)| GapDoc {
            host: name(host).to_owned(),
            from: view::moment(gap.wall_from_ms),
            to: view::moment(gap.wall_to_ms),
            reason: gap.reason.clone(),
            shown: format!("{} to {}", words::date_time(gap.wall_from_ms), words::date_time(gap.wall_to_ms)),
        });
        let is_off = |host: &&HostView| host.clock_offset_ms.unsigned_abs() > CLOCK_OFF_MS;
        let clocks_off = hosts.iter().filter(is_there).filter(is_off);
        let clocks_off =
            clocks_off.map(|host| ClockOff { host: name(host).to_owned(), offset_ms: host.clock_offset_ms });
        Self {
            completeness: 1.0,
            damaged: false,
            unread: Vec::new(),
            resolution: String::new(),
            not_heard: not_heard.collect(),
            gaps: gaps.collect(),
            clocks_off: clocks_off.collect(),
            hosts_more: 0,
        }
    }

    /// Of one answer from a moment on, by what it says itself.
    pub(crate) fn of_answer(answer: &QueryRangeResponse, from_ms: i64) -> Self {
        let lost = answer.gaps.iter().map(|gap| HostView {
            facts: Some(HostFacts { hostname: gap.hostname.clone(), ..HostFacts::default() }),
            state: "online".to_owned(),
            gaps: gap.gap.clone().into_iter().collect(),
            ..HostView::default()
        });
        let hosts: Vec<HostView> = answer.hosts.iter().cloned().chain(lost).collect();
        Self {
            completeness: answer.completeness,
            damaged: !answer.damaged.is_empty(),
            unread: answer.damaged.clone(),
            resolution: answer.resolution.clone(),
            hosts_more: answer.hosts_more,
            ..Self::of(&hosts, from_ms, answer.now_ms)
        }
    }

    /// Counts another answer in.
    pub(crate) fn take(&mut self, answer: &QueryRangeResponse) {
        self.completeness = self.completeness.min(answer.completeness);
        self.damaged |= answer.truncated || !answer.damaged.is_empty();
        let coarseness = |resolution: &str| ["raw", "5m", "1h"].iter().position(|known| *known == resolution);
        if coarseness(&answer.resolution) > coarseness(&self.resolution) {
            self.resolution.clone_from(&answer.resolution);
        }
    }

    /// What an operator has to know, a line each.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.completeness < 1.0 {
            // What is missing is never rounded away.
            notes.push(format!("{:.1}% of the range is here", (self.completeness * 100.0).min(99.9)));
        }
        notes.extend(words::rolled_up(&self.resolution).map(str::to_owned));
        if !self.not_heard.is_empty() {
            let one = |host: &NotHeard| format!("{} ({}, last seen {} ago)", host.host, host.state, host.ago);
            notes.push(format!(
                "not there, so that what is known of them ends then: {}",
                named_some(&self.not_heard, one)
            ));
        }
        for gap in self.gaps.iter().take(NAMED_MAX) {
            notes.push(format!("gap on {}: {} ({})", gap.host, gap.shown, gap.reason));
        }
        if self.gaps.len() > NAMED_MAX {
            notes.push(format!("and {}", words::count(self.gaps.len() - NAMED_MAX, "more gap")));
        }
        if !self.clocks_off.is_empty() {
            let off = |host: &ClockOff| {
                let sign = if host.offset_ms < 0 { "-" } else { "+" };
                format!("{} ({sign}{})", host.host, words::short(host.offset_ms.unsigned_abs()))
            };
            notes.push(format!("clocks are off, and so are the times of: {}", named_some(&self.clocks_off, off)));
        }
        if self.hosts_more > 0 {
            let more = usize::try_from(self.hosts_more).unwrap_or(usize::MAX);
            notes.push(format!("and {} that are not there, or whose clocks are off", words::count(more, "more host")));
        }
        notes.extend(self.unread.iter().map(|text| format!("cannot be read and is missing: {text}")));
        if self.damaged && self.unread.is_empty() {
            notes.push(
                "some of what is stored cannot be read and is missing; the collector's journal says what".to_owned(),
            );
        }
        notes
    }

    /// Says so, below an answer for people.
    pub(crate) fn footnotes(&self) {
        for note in self.notes() {
            output::say(&note);
        }
    }
}

/// The first few, and how many more there are.
fn named_some<T>(all: &[T], one: impl Fn(&T) -> String) -> String {
    let named: Vec<_> = all.iter().take(NAMED_MAX).map(one).collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::{Gap, HostGap, Label, SeriesKey, SeriesPoints};

    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn host(name: &str, state: &str, seen_ago_ms: i64) -> HostView {
        HostView {
            facts: Some(HostFacts { hostname: name.into(), ..HostFacts::default() }),
            state: state.into(),
            last_seen_ms: NOW - seen_ago_ms,
            ..HostView::default()
        }
    }

    #[test]
    fn a_whole_answer_has_no_notes() {
        let seen = Completeness::of(&[host("web-1", "online", 500), host("web-2", "healing", 500)], NOW - 60_000, NOW);
        assert_eq!(seen.notes(), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_is_said() {
        let gap = |from_ms, to_ms| Gap {
            wall_from_ms: from_ms,
            wall_to_ms: to_ms,
            reason: "spool full".into(),
            ..Gap::default()
        };
        let lossy =
            HostView { gaps: vec![gap(0, 5_000), gap(NOW - 90_000, NOW - 50_000)], ..host("web-2", "online", 0) };
        let late = HostView { clock_offset_ms: -3_200, ..host("web-3", "online", 0) };
        let hosts = [lossy, late, host("web-4", "silent", 240_000), host("old", "revoked", 240_000)];
        let mut seen = Completeness::of(&hosts, NOW - 60_000, NOW);
        seen.take(&QueryRangeResponse { completeness: 0.999_99, ..QueryRangeResponse::default() });
        seen.take(&QueryRangeResponse { completeness: 1.0, truncated: true, ..QueryRangeResponse::default() });
        let notes = seen.notes();
        assert_eq!(notes.len(), 5, "{notes:#?}");
        assert_eq!(notes[0], "99.9% of the range is here");
        assert!(notes[1].ends_with(": web-4 (silent, last seen 4m ago)"), "{notes:#?}");
        assert!(notes[2].starts_with("gap on web-2: ") && notes[2].ends_with("(spool full)"), "{notes:#?}");
        assert!(notes[3].ends_with(": web-3 (-3.20s)"), "{notes:#?}");
        assert!(notes[4].contains("cannot be read"), "{notes:#?}");
    }

    #[test]
    fn the_coarsest_resolution_is_said() {
        let mut seen = Completeness::of(&[host("web-1", "online", 0)], NOW - 60_000, NOW);
        for (resolution, coarsest) in [("raw", "raw"), ("", "raw"), ("1h", "1h"), ("5m", "1h")] {
            let answer = QueryRangeResponse { completeness: 1.0, resolution: resolution.into(), ..Default::default() };
            seen.take(&answer);
            assert_eq!(seen.resolution, coarsest);
        }
        assert!(seen.notes()[0].starts_with("rolled up to 1 hour"), "{:?}", seen.notes());
    }

    #[test]
    fn many_are_named_and_counted() {
        let hosts: Vec<_> = (0..12).map(|n| host(&format!("web-{n}"), "silent", 240_000)).collect();
        let notes = Completeness::of(&hosts, 0, NOW).notes();
        assert!(notes[0].contains("web-4 (") && notes[0].ends_with(" and 7 more"), "{notes:#?}");
    }

    #[test]
    fn rows_without_a_number_are_left_out() {
        let series = |host: &str, value| SeriesPoints {
            key: Some(SeriesKey {
                name: String::new(),
                labels: vec![Label { name: "host".into(), value: host.into() }],
            }),
            at_ms: vec![NOW],
            values: vec![value],
        };
        let answer = QueryRangeResponse {
            series: vec![series("a", 1.0), series("b", f64::NAN), series("", 2.0)],
            ..QueryRangeResponse::default()
        };
        let rows: Vec<_> = rows(answer).iter().map(|row| (row.host(), row.value)).collect();
        assert_eq!(rows, [("a".to_owned(), 1.0), ("–".to_owned(), 2.0)]);
    }

    #[test]
    fn a_time_that_is_too_short_is_refused() {
        assert!(over(Duration::from_secs(10)).unwrap_err().to_string().contains("30s or more"));
        assert_eq!(over(Duration::from_secs(30)).unwrap(), Duration::from_secs(30));
    }

    #[test]
    fn an_answer_says_itself_who_is_not_there() {
        let gap =
            Gap { wall_from_ms: NOW - 60_000, wall_to_ms: NOW - 50_000, reason: "spool".into(), ..Gap::default() };
        let answer = QueryRangeResponse {
            completeness: 0.5,
            resolution: "raw".into(),
            hosts: vec![
                host("web-4", "silent", 240_000),
                HostView { clock_offset_ms: 2_000, ..host("web-5", "online", 0) },
            ],
            hosts_more: 3,
            now_ms: NOW,
            gaps: vec![HostGap { hostname: "web-1".into(), gap: Some(gap), ..HostGap::default() }],
            ..QueryRangeResponse::default()
        };
        let notes = Completeness::of_answer(&answer, NOW - 300_000).notes();
        assert_eq!(notes.len(), 5, "{notes:#?}");
        assert_eq!(notes[0], "50.0% of the range is here");
        assert!(notes[1].ends_with(": web-4 (silent, last seen 4m ago)"), "{notes:#?}");
        assert!(notes[2].starts_with("gap on web-1: ") && notes[2].ends_with("(spool)"), "{notes:#?}");
        assert!(notes[3].ends_with(": web-5 (+2s)"), "{notes:#?}");
        assert!(notes[4].starts_with("and 3 more hosts "), "{notes:#?}");
    }
}
