//! `mainstay compare`: what is unusual on a host against its peers.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use mainstay_proto::v1::{HostView, Label, Selector};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::{self, Completeness, Queries, Row};
use crate::peers::{self, PEERS_MIN, Standing};
use crate::signals::{self, By, Form, SIGNALS, Signal};
use crate::{connect, output, view, words};

/// Most peers that are asked: their names stand in every question, and a hundred tell what is usual.
const PEERS_MAX: usize = 100;
/// From how many spreads on a value is shown, and from how many it is in red.
const UNUSUAL: f64 = 3.0;
const FAR: f64 = 10.0;

/// Arguments of `mainstay compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// Its peers: hosts with this label, or these hosts [default: those that share its labels, else the whole fleet]
    #[arg(long, value_name = "NAME=VALUE|HOST", value_delimiter = ',')]
    with: Vec<String>,
    /// Over how long
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::arguments::duration)]
    over: Duration,
    /// What is not unusual too
    #[arg(long)]
    all: bool,
    /// Most rows to show
    #[arg(long, default_value_t = 40)]
    limit: usize,
    /// Say what is asked, as PromQL
    #[arg(short, long)]
    verbose: bool,
}

/// Who are the peers, by the command line.
#[derive(Debug, PartialEq)]
enum With {
    SharedLabels,
    Labels(Vec<(String, String)>),
    Hosts(Vec<String>),
}

/// The peers, and in words who they are.
struct Peers {
    hosts: Vec<HostView>,
    who: String,
}

#[derive(Debug, Serialize)]
struct CompareDoc {
    host: String,
    host_id: String,
    /// In words.
    against: String,
    peers: Vec<String>,
    /// Of how many they are a choice.
    peers_of: usize,
    over_s: u64,
    at: Option<String>,
    rows: Vec<CompareRow>,
    /// What too few of the peers have to say what is usual.
    not_compared: Vec<NotCompared>,
    #[serde(flatten)]
    seen: Completeness,
}

#[derive(Debug, Serialize)]
struct NotCompared {
    signal: &'static str,
    which: Option<String>,
    peers: usize,
}

/// One signal of the host, or of one of its units.
#[derive(Debug, Serialize)]
struct CompareRow {
    signal: &'static str,
    by: By,
    /// The unit; of the host, which of its things has the most.
    which: Option<String>,
    unit: &'static str,
    value: f64,
    median: f64,
    deviation: f64,
    spread: f64,
    /// In spreads.
    away: f64,
    least: f64,
    greatest: f64,
    peers: usize,
    #[serde(skip)]
    cells: Vec<String>,
}

impl output::Row for CompareRow {
    const HEADINGS: &'static [&'static str] =
        &["SIGNAL", "WHICH", "HERE", "PEERS", "SPREAD", "AWAY", "LEAST", "GREATEST", "COMPARED", "WHAT"];
    const WIDE_FROM: usize = 6;

    fn cells(&self) -> Vec<String> {
        self.cells.clone()
    }
}

impl CompareRow {
    fn new(signal: &'static Signal, by: By, form: &Form, which: Option<String>, at: Standing) -> Self {
        let say = |value| form.measure.say(value);
        let cells = vec![
            signal.name.to_owned(),
            which.clone().unwrap_or_else(|| "–".to_owned()),
            say(at.value),
            say(at.median),
            say(at.spread),
            painted(at.away),
            say(at.least),
            say(at.greatest),
            words::count(at.peers, "peer"),
            signal.what.to_owned(),
        ];
        Self {
            signal: signal.name,
            by,
            which,
            unit: form.measure.name(),
            value: at.value,
            median: at.median,
            deviation: at.deviation,
            spread: at.spread,
            away: at.away,
            least: at.least,
            greatest: at.greatest,
            peers: at.peers,
            cells,
        }
    }

    fn is_unusual(&self) -> bool {
        self.away.abs() >= UNUSUAL
    }
}

/// How many spreads away, in the colour that fits it.
fn painted(away: f64) -> String {
    let text = match away {
        far if far > 999.0 => "> +999".to_owned(),
        far if far < -999.0 => "< -999".to_owned(),
        away => format!("{away:+.1}"),
    };
    match away.abs() {
        far if far >= FAR => output::paint("31", &text),
        far if far >= UNUSUAL => output::paint("33", &text),
        _ => text,
    }
}

/// Asks signal by signal, and prints what stands out.
pub(crate) async fn run(args: &CompareArgs, context: &Context) -> Result<Exit, Failure> {
    let over = fleet::over(args.over)?;
    let with = with(&args.with)?;
    let mut queries = connect::queries(context).await?;
    let (mut meant, now_ms) = fleet::hosts(&mut queries, fleet::named(&args.host)).await?;
    let host = meant.swap_remove(0);
    let from_ms = now_ms.saturating_sub(fleet::millis(over));
    if host.last_seen_ms < from_ms {
        let ago = words::ago(host.last_seen_ms, now_ms);
        return Err(Failure::usage(format!(
            "{} was last seen {ago} ago: there is nothing of this time to compare; --over goes further back",
            fleet::name(&host)
        )));
    }
    let all = peers_of(&host, &with, &mut queries).await?;
    let peers_there = all.hosts.iter().filter(|peer| peer.last_seen_ms >= from_ms && peer.state != "revoked").cloned();
    let mut chosen: Vec<HostView> = peers_there.collect();
    let peers_there = chosen.len();
    enough(&host, &all.who, peers_there)?;
    chosen.sort_by(|a, b| fleet::name(a).cmp(fleet::name(b)).then_with(|| a.host_id.cmp(&b.host_id)));
    let chosen = peers::evenly(chosen, PEERS_MAX);

    let asked: Vec<HostView> = all.hosts.iter().chain([&host]).cloned().collect();
    let mut seen = Completeness::of(&asked, from_ms, now_ms);
    let on = signals::hosts_matcher(chosen.iter().chain([&host]).map(fleet::name));
    let (mut rows, mut not_compared) = (Vec::new(), Vec::new());
    let id = view::host_id(&host.host_id);
    for (signal, by, form) in compared() {
        let promql = form.promql(&on, over);
        if args.verbose {
            output::say(&promql);
        }
        let found = fleet::ask(&mut queries, &promql, now_ms, &mut seen).await?;
        for (key, side) in sides(found, by, form, &host) {
            let Some((value, which)) = side.here else { continue };
            match peers::standing(value, &side.peers, form.floor) {
                Some(at) => rows.push((at, CompareRow::new(signal, by, form, which, at))),
                None => {
                    let which = Some(key).filter(|key| !key.is_empty());
                    not_compared.push(NotCompared { signal: signal.name, which, peers: side.peers.len() });
                }
            }
        }
    }
    rows.sort_by(|(a, _), (b, _)| peers::furthest_first(a, b));
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let against = format!("{} with {}", words::count(chosen.len(), "host"), all.who);
    if context.format.is_for_people() {
        output::line_out(&format!(
            "{} against {against}, over {}",
            fleet::name(&host),
            words::short(u64::try_from(over.as_millis()).unwrap_or(u64::MAX))
        ))?;
        if chosen.len() < peers_there {
            output::say(&format!("a choice of {peers_there}, evenly by name"));
        }
        print(args, context, rows, &not_compared)?;
        seen.footnotes();
        return Ok(Exit::Success);
    }
    let doc = CompareDoc {
        host: fleet::name(&host).to_owned(),
        host_id: id,
        against,
        peers: chosen.iter().map(|peer| fleet::name(peer).to_owned()).collect(),
        peers_of: peers_there,
        over_s: over.as_secs(),
        at: view::moment(now_ms),
        rows,
        not_compared,
        seen,
    };
    output::document(context, &doc)?;
    Ok(Exit::Success)
}

/// Every signal by which hosts are compared, of hosts and of units.
fn compared() -> impl Iterator<Item = (&'static Signal, By, &'static Form)> {
    SIGNALS
        .iter()
        .filter(|signal| signal.is_compared)
        .flat_map(|signal| [By::Host, By::Unit].into_iter().filter_map(move |by| Some((signal, by, signal.form(by)?))))
}

/// Reads `--with`: labels that all have to match, or hosts.
fn with(given: &[String]) -> Result<With, Failure> {
    if given.is_empty() {
        return Ok(With::SharedLabels);
    }
    if given.iter().any(String::is_empty) {
        return Err(Failure::usage("--with takes a label such as role=web, or hosts such as web-2,web-3,web-4"));
    }
    let labels = given.iter().filter(|one| one.contains('=')).count();
    match labels {
        0 => Ok(With::Hosts(given.to_vec())),
        all if all == given.len() => {
            let labels: Result<Vec<_>, _> = given.iter().map(|text| super::label(text)).collect();
            Ok(With::Labels(labels.map_err(Failure::usage)?))
        }
        _ => Err(Failure::usage("--with takes labels or hosts, not both at once")),
    }
}

/// The peers of a host, itself left out.
async fn peers_of(host: &HostView, with: &With, queries: &mut Queries) -> Result<Peers, Failure> {
    match with {
        With::Hosts(names) => {
            let mut hosts: Vec<HostView> = Vec::new();
            for name in names {
                hosts.extend(fleet::hosts(queries, fleet::named(name)).await?.0);
            }
            hosts.sort_by(|a, b| a.host_id.cmp(&b.host_id));
            hosts.dedup_by(|a, b| a.host_id == b.host_id);
            Ok(Peers { hosts: others(hosts, host), who: "the given names".to_owned() })
        }
        With::Labels(labels) => with_labels(host, super::labels(labels), queries).await,
        With::SharedLabels => {
            let labels = host.facts.clone().unwrap_or_default().labels;
            if !labels.is_empty() {
                let alike = with_labels(host, labels, queries).await?;
                if alike.hosts.len() >= PEERS_MIN {
                    return Ok(alike);
                }
                let count = words::count(alike.hosts.len(), "other host");
                output::say(&format!("only {count} with {}: compared with the whole fleet", alike.who));
            }
            let (all, _) = fleet::hosts(queries, Selector::default()).await?;
            Ok(Peers { hosts: others(all, host), who: "any labels".to_owned() })
        }
    }
}

async fn with_labels(host: &HostView, labels: Vec<Label>, queries: &mut Queries) -> Result<Peers, Failure> {
    let who: Vec<_> = labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
    let (hosts, _) = fleet::hosts(queries, Selector { labels, host: String::new() }).await?;
    Ok(Peers { hosts: others(hosts, host), who: who.join(" ") })
}

fn others(mut hosts: Vec<HostView>, host: &HostView) -> Vec<HostView> {
    hosts.retain(|other| other.host_id != host.host_id);
    hosts
}

/// Refuses a comparison with too few.
fn enough(host: &HostView, who: &str, there: usize) -> Result<(), Failure> {
    if there >= PEERS_MIN {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} has {} with {who} that sent anything in this time; it takes {PEERS_MIN} to say what is usual \
         (--with names others, by a label or by name; `mainstay hosts` lists them)",
        fleet::name(host),
        words::count(there, "peer"),
    )))
}

/// The host's own value under a key, with which of its things that is, and the peers' values.
#[derive(Debug, Default)]
struct Side {
    here: Option<(f64, Option<String>)>,
    peers: Vec<f64>,
}

/// The rows of a question by what is compared: units by their names, and each host as a whole under no name.
fn sides(found: Vec<Row>, by: By, form: &Form, host: &HostView) -> BTreeMap<String, Side> {
    let name = fleet::name(host);
    let mut sides: BTreeMap<String, Side> = BTreeMap::new();
    for row in found {
        let key = if by == By::Unit { row.label("unit").to_owned() } else { String::new() };
        let side = sides.entry(key).or_default();
        if is_of(&row, host, form) {
            let label = if by == By::Unit { "unit" } else { form.part };
            let which = Some(row.label(label).to_owned()).filter(|which| !which.is_empty());
            side.here = Some((row.value, which));
        } else if row.label("host") != name {
            side.peers.push(row.value);
        }
    }
    sides
}

/// Whether a row is of this host, and not of another of its name: that one has another id, or other labels.
fn is_of(row: &Row, host: &HostView, form: &Form) -> bool {
    let labels = host.facts.iter().flat_map(|facts| &facts.labels);
    // A series' own label stands before the host's of that name.
    let mut labels = labels.filter(|label| label.name != form.part && label.name != "unit");
    let is_other = labels.any(|label| !["", &label.value].contains(&row.label(&label.name)));
    let is_id = ["", &view::host_id(&host.host_id)].contains(&row.label("host_id"));
    row.label("host") == fleet::name(host) && is_id && !is_other
}

fn print(
    args: &CompareArgs,
    context: &Context,
    mut rows: Vec<CompareRow>,
    not_compared: &[NotCompared],
) -> Result<(), Failure> {
    let all = rows.len();
    let usual = rows.iter().filter(|row| !row.is_unusual()).count();
    if !args.all {
        rows.retain(CompareRow::is_unusual);
    }
    let standing_out = rows.len();
    rows.truncate(args.limit);
    if standing_out == 0 {
        let what = words::count(all, "signal");
        output::line_out(&format!("nothing is unusual: {what} within {UNUSUAL:.0} spreads of what the peers have"))?;
    } else {
        output::line_out("")?;
        output::rows(context, &rows)?;
    }
    if standing_out > rows.len() {
        output::say(&format!("{} of {standing_out} shown; --limit shows more", rows.len()));
    }
    if !args.all && standing_out > 0 && usual > 0 {
        output::say(&format!("{usual} others within {UNUSUAL:.0} spreads; --all shows them"));
    }
    if !not_compared.is_empty() {
        output::say(&format!(
            "{} that fewer than {PEERS_MIN} of the peers have; -o json names them",
            words::count(not_compared.len(), "other")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mainstay_proto::v1::HostFacts;

    use super::*;
    use crate::output::Row as _;

    fn row(labels: &[(&str, &str)], value: f64) -> Row {
        Row { labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), value }
    }

    fn host(name: &str) -> HostView {
        let role = Label { name: "role".into(), value: "web".into() };
        let facts = HostFacts { hostname: name.into(), labels: vec![role], ..HostFacts::default() };
        HostView { host_id: vec![1; 16], facts: Some(facts), ..HostView::default() }
    }

    #[test]
    fn peers_are_given_by_labels_or_by_name() {
        let read = |given: &[&str]| with(&given.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]).unwrap(), With::SharedLabels);
        let labels = |pairs: &[(&str, &str)]| {
            With::Labels(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(read(&["role=web", "zone=a"]).unwrap(), labels(&[("role", "web"), ("zone", "a")]));
        assert_eq!(read(&["web-2", "web-3"]).unwrap(), With::Hosts(vec!["web-2".to_owned(), "web-3".to_owned()]));
        assert!(read(&["role=web", "web-3"]).unwrap_err().to_string().contains("not both"));
        assert!(read(&["role="]).unwrap_err().to_string().contains("NAME=VALUE"));
        assert!(read(&["web-2", ""]).unwrap_err().to_string().contains("web-2,web-3"));
    }

    #[test]
    fn too_few_peers_are_refused_with_what_to_do() {
        let host = host("web-1");
        let refused = enough(&host, "role=web", 2).unwrap_err().to_string();
        assert!(refused.contains("web-1 has 2 peers with role=web") && refused.contains("--with"), "{refused}");
        assert!(enough(&host, "role=web", 3).is_ok());
    }

    #[test]
    fn units_are_compared_with_the_same_unit_and_a_namesake_is_no_peer() {
        let form = signals::named("cpu").unwrap().unit.as_ref().unwrap();
        let of = |host, id: &str, unit, value| row(&[("host", host), ("host_id", id), ("unit", unit)], value);
        let host = host("web-1");
        let id = view::host_id(&host.host_id);
        let found = vec![
            of("web-1", &id, "a.service", 1.0),
            of("web-1", "02", "a.service", 9.0),
            row(&[("host", "web-1"), ("role", "db"), ("unit", "a.service")], 9.0),
            of("web-2", "", "a.service", 2.0),
            of("web-3", "", "a.service", 3.0),
            of("web-3", "", "b.service", 4.0),
        ];
        let sides = sides(found, By::Unit, form, &host);
        assert_eq!(sides["a.service"].here, Some((1.0, Some("a.service".to_owned()))));
        assert_eq!(sides["a.service"].peers, [2.0, 3.0]);
        assert_eq!((sides["b.service"].here.clone(), sides["b.service"].peers.len()), (None, 1));
    }

    #[test]
    fn a_host_is_compared_as_a_whole_whichever_of_its_things_has_the_most() {
        let form = signals::named("disk").unwrap().host.as_ref().unwrap();
        let of = |host, mount, value| row(&[("host", host), ("mountpoint", mount)], value);
        let found = vec![of("a", "/var", 0.9), of("b", "/", 0.2), of("c", "/", 0.25), of("d", "/srv", 0.3)];
        let sides = sides(found, By::Host, form, &host("a"));
        assert_eq!(sides[""].here, Some((0.9, Some("/var".to_owned()))));
        let at = peers::standing(0.9, &sides[""].peers, form.floor).unwrap();
        let line = CompareRow::new(signals::named("disk").unwrap(), By::Host, form, Some("/var".into()), at);
        assert_eq!(line.cells()[..6], ["disk", "/var", "90.0%", "25.0%", "5.0%", "+13.0"]);
        assert!(line.is_unusual());
    }

    #[test]
    fn what_is_the_greatest_of_others_is_not_compared_besides_them() {
        assert!(compared().all(|(signal, ..)| signal.name != "pressure"));
        assert!(compared().any(|(signal, by, _)| signal.name == "memory" && by == By::Unit));
        assert_eq!(painted(2_000.0), "> +999");
    }
}
