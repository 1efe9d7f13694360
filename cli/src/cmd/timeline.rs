//! `mainstay host timeline`: what happened on a host, on one line of time.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use mainstay_core::id::FindingId;
use mainstay_proto::v1::{
    Finding, FindingView, HostView, LedgerEntry, ListChangesRequest, ListDecisionsRequest, ListFindingsRequest,
    ListFindingsResponse, Matcher, QueryRangeRequest, ReadLedgerRequest, Search,
};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::{self, Completeness, Queries};
use crate::timeline::{self, Entry, Timeline, What};
use crate::{connect, output, told, view, words};

/// Most lines that may be asked for.
const LIMIT_MAX: u32 = 5_000;
/// Findings that are asked for: not bounded by lines, for one that opened long ago may have cleared within the time.
const FINDINGS_MAX: u32 = 5_000;
/// Records of the ledger that are looked at, from its end.
const RECORDS_MAX: u64 = 5_000;
/// The series that every host sends as long as its agent runs: where it has no points, nothing was stored.
const PULSE: &str = "node_load1";
/// Points of it that are asked for at most; over longer times one point stands for some seconds more.
const POINTS_MAX: u32 = 20_000;

/// Arguments of `mainstay host timeline`.
#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// How far back
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = crate::arguments::duration)]
    last: Duration,
    /// Most lines to show, the latest
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct TimelineDoc {
    host: String,
    host_id: String,
    state: String,
    from: Option<String>,
    to: Option<String>,
    entries: Vec<TimelineRow>,
    /// Earlier entries within the time that are left out; more where `cut` names a source.
    left_out: usize,
    /// What there is more of than was asked for.
    cut: Vec<&'static str>,
    /// Records of the ledger that could not be read.
    unread: usize,
    /// Open findings that opened before the time began.
    open_since_before: Vec<String>,
    #[serde(flatten)]
    seen: Completeness,
}

/// One line.
#[derive(Debug, Serialize)]
struct TimelineRow {
    at: Option<String>,
    until: Option<String>,
    what: What,
    subject: String,
    text: String,
    id: Option<String>,
    #[serde(skip)]
    shown_at: String,
}

impl output::Row for TimelineRow {
    const HEADINGS: &'static [&'static str] = &["AT", "WHAT", "SUBJECT", "TEXT", "ID"];
    const WIDE_FROM: usize = 4;

    fn cells(&self) -> Vec<String> {
        let id = self.id.clone().unwrap_or_else(|| "–".to_owned());
        vec![self.shown_at.clone(), painted(self.what), words::one_line(&self.subject), words::one_line(&self.text), id]
    }
}

impl From<Entry> for TimelineRow {
    fn from(entry: Entry) -> Self {
        Self {
            at: view::moment(entry.at_ms),
            until: entry.until_ms.and_then(view::moment),
            shown_at: words::date_time(entry.at_ms),
            what: entry.what,
            subject: entry.subject,
            text: entry.text,
            id: entry.id,
        }
    }
}

/// What it tells of, in the colour that fits it.
fn painted(what: What) -> String {
    match what {
        What::Found => output::paint("31", what.word()),
        What::Missing | What::Unknown | What::Held => output::paint("33", what.word()),
        What::Did | What::Verified | What::Cleared => output::paint("32", what.word()),
        _ => what.word().to_owned(),
    }
}

/// Everything that was told of the host.
struct Told {
    entries: Vec<Entry>,
    cut: Vec<&'static str>,
    unread: usize,
    open_since_before: Vec<String>,
}

/// Asks, merges and prints.
pub(crate) async fn run(args: &TimelineArgs, context: &Context) -> Result<Exit, Failure> {
    let mut queries = connect::queries(context).await?;
    let (hosts, now_ms) = fleet::hosts(&mut queries, fleet::named(&args.host)).await?;
    let mut seen = Completeness::of(&hosts, now_ms.saturating_sub(fleet::millis(args.last)), now_ms);
    let host = hosts.into_iter().next().unwrap_or_default();
    let span = (now_ms.saturating_sub(fleet::millis(args.last)), now_ms);
    let told = ask(&mut queries, &host, span, args.limit, &mut seen).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let Timeline { entries, left_out } = timeline::merge(told.entries, span, limit);
    let entries: Vec<TimelineRow> = entries.into_iter().map(Into::into).collect();
    if !context.format.is_for_people() {
        let doc = TimelineDoc {
            host: fleet::name(&host).to_owned(),
            host_id: view::host_id(&host.host_id),
            state: host.state,
            from: view::moment(span.0),
            to: view::moment(span.1),
            entries,
            left_out,
            cut: told.cut,
            unread: told.unread,
            open_since_before: told.open_since_before,
            seen,
        };
        output::document(context, &doc)?;
        return Ok(Exit::Success);
    }
    if entries.is_empty() {
        output::say(&format!("nothing is known to have happened on {} in that time", fleet::name(&host)));
    } else {
        output::rows(context, &entries)?;
    }
    if let Some(note) = left_out_note(left_out, &told.cut) {
        output::say(&note);
    }
    if told.unread > 0 {
        let records = words::count(told.unread, "record");
        output::say(&format!("{records} of the ledger cannot be read by this mainstay; a newer one may"));
    }
    if !told.open_since_before.is_empty() {
        output::say(&format!("open since before: {}", told.open_since_before.join(", ")));
    }
    seen.footnotes();
    Ok(Exit::Success)
}

/// That there is more than is shown, and how to see it.
fn left_out_note(left_out: usize, cut: &[&str]) -> Option<String> {
    let counted = words::count(left_out, "earlier one");
    let more = match (left_out, cut) {
        (0, []) => return None,
        (0, _) => format!("some earlier ones of {} left out", cut.join(", ")),
        (_, []) => format!("{counted} left out"),
        (_, _) => format!("{counted} left out, and more of {}", cut.join(", ")),
    };
    Some(format!("{more}; a shorter --last or a higher --limit shows what is meant"))
}

async fn ask(
    queries: &mut Queries,
    host: &HostView,
    span: (i64, i64),
    limit: u32,
    seen: &mut Completeness,
) -> Result<Told, Failure> {
    let id = view::host_id(&host.host_id);
    let selector = Some(fleet::named(&id));
    let search = Some(Search { since_ms: span.0, ..Search::default() });
    let (mut entries, mut cut) = (Vec::new(), Vec::new());

    let (of, within) = (selector.clone(), search.clone());
    let request =
        ListFindingsRequest { selector: of, all: true, limit: FINDINGS_MAX, search: within, id: String::new() };
    let ListFindingsResponse { findings, truncated, .. } = queries.list_findings(request).await?.into_inner();
    entries.extend(told::findings(&findings));
    cut.extend(truncated.then_some("findings")); // one host's are all looked through

    let (of, within) = (selector.clone(), search.clone());
    let request = ListDecisionsRequest { selector: of, limit, acted: false, search: within };
    let decisions = queries.list_decisions(request).await?.into_inner();
    entries.extend(told::decisions(&decisions.decisions));
    cut.extend((decisions.truncated || decisions.looked_back_to_ms.is_some()).then_some("decisions"));

    let changes = queries.list_changes(ListChangesRequest { selector, limit, search }).await?.into_inner();
    entries.extend(told::changes(&changes.changes));
    cut.extend((changes.truncated || changes.looked_back_to_ms.is_some()).then_some("changes"));

    let (records, is_whole) = ledger(queries, host, &id, span.0).await?;
    let (of_ledger, unread) = told::of_ledger(&records);
    entries.extend(of_ledger);
    cut.extend((!is_whole).then_some("ledger"));

    entries.extend(told::gaps(&host.gaps));
    let silences = timeline::silences(&pulse(queries, host, span, seen).await?, (span.0.max(host.enrolled_ms), span.1));
    entries.extend(told::silences(&silences, &host.gaps));
    Ok(Told { entries, cut, unread, open_since_before: open_since_before(&findings, span.0) })
}

/// Open findings that opened before, in words.
fn open_since_before(findings: &[FindingView], from_ms: i64) -> Vec<String> {
    let opened_ms = |finding: &Finding| finding.opened.as_ref().map_or(0, |opened| opened.wall_ms);
    let findings = findings.iter().filter_map(|view| view.finding.as_ref());
    let before = findings.filter(|finding| finding.state == "open" && opened_ms(finding) < from_ms);
    let line = |finding: &Finding| {
        let (subject, at) = (view::subject(finding.subject.as_ref()), words::date_time(opened_ms(finding)));
        format!("{} {subject} ({}, {at})", finding.kind, FindingId(finding.id))
    };
    before.map(line).collect()
}

/// The last records of its ledger, and whether those are all that may lie within the time.
async fn ledger(
    queries: &mut Queries,
    host: &HostView,
    id: &str,
    from_ms: i64,
) -> Result<(Vec<LedgerEntry>, bool), Failure> {
    let index = host.ledger.as_ref().map_or(0, |head| head.index);
    let from_index = index.saturating_sub(RECORDS_MAX) + 1;
    let request = ReadLedgerRequest { host: id.to_owned(), from_index };
    let mut chunks = queries.read_ledger(request).await?.into_inner();
    let mut entries = Vec::new();
    // The ledger may grow meanwhile; what comes after its end is not waited for.
    while let Some(chunk) = chunks.message().await? {
        entries.extend(chunk.entries);
        if entries.len() as u64 > 2 * RECORDS_MAX {
            break;
        }
    }
    let first_ms = entries.first().and_then(|entry| mainstay_proto::convert::decode_record(&entry.record).ok());
    let is_whole = from_index == 1 || first_ms.is_none_or(|record| record.at.wall_ms < from_ms);
    Ok((entries, is_whole))
}

/// When the host's pulse was stored.
async fn pulse(
    queries: &mut Queries,
    host: &HostView,
    (from_ms, to_ms): (i64, i64),
    seen: &mut Completeness,
) -> Result<Vec<i64>, Failure> {
    // Points come every ten seconds: so many of them fit without a step.
    let spacing_ms = (to_ms - from_ms) / i64::from(POINTS_MAX);
    let step_ms = if spacing_ms <= 10_000 { 0 } else { u32::try_from(spacing_ms).unwrap_or(u32::MAX) };
    let request = QueryRangeRequest {
        name: PULSE.to_owned(),
        matchers: vec![Matcher { label: "host".into(), op: "=".into(), value: fleet::name(host).to_owned() }],
        from_ms,
        to_ms,
        step_ms,
        ..QueryRangeRequest::default()
    };
    let answer = queries.query_range(request).await?.into_inner();
    seen.take(&answer);
    // Two hosts may have one name, one after the other: what either sent is no silence of it.
    let points: BTreeMap<i64, ()> = answer.series.iter().flat_map(|one| one.at_ms.iter().map(|at| (*at, ()))).collect();
    Ok(points.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Row as _;

    #[test]
    fn a_line_stays_one_line_whatever_a_host_says() {
        let entry = Entry::new(1_000, What::Found, "a\nb", "one\r\ntwo\tthree\u{1b}[31m").under("f-1");
        let cells = TimelineRow::from(entry).cells();
        assert_eq!(cells[1..], ["found", "a b", "one  two three [31m", "f-1"]);
    }

    #[test]
    fn what_is_left_out_is_said_with_what_to_do() {
        assert_eq!(left_out_note(0, &[]), None);
        let said = |left_out, cut: &[&str]| left_out_note(left_out, cut).unwrap();
        assert!(said(7, &[]).starts_with("7 earlier ones left out; a shorter --last"));
        assert!(said(1, &["changes"]).starts_with("1 earlier one left out, and more of changes; a shorter"));
        assert!(said(0, &["ledger"]).starts_with("some earlier ones of ledger left out"));
    }

    #[test]
    fn what_is_open_all_along_is_named() {
        let finding = |state: &str, wall_ms| FindingView {
            finding: Some(Finding {
                kind: "disk.full".into(),
                state: state.into(),
                opened: Some(mainstay_proto::v1::Now { boot_ns: 0, wall_ms }),
                ..Finding::default()
            }),
            ..FindingView::default()
        };
        let all = [finding("open", 5), finding("cleared", 5), finding("open", 15)];
        let open = open_since_before(&all, 10);
        assert_eq!(open.len(), 1);
        assert!(open[0].starts_with("disk.full ? (f-"), "{open:?}");
    }
}
