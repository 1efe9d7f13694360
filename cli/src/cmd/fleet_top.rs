//! `mainstay top`: which hosts, units or containers use the most of something, of all that is stored. What the processes of one host
//! use this moment is `mainstay host top`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use mainstay_core::config::nearest;
use mainstay_proto::v1::HostView;
use serde::Serialize;

use super::HostSelector;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::{self, Completeness, Row};
use crate::output;
use crate::signals::{self, By, Measure, SIGNALS};
use crate::{connect, draw, view, words};

/// Over how long without --over.
const OVER: Duration = Duration::from_secs(300);
/// Columns of the bar.
const BAR_WIDTH: usize = 24;

/// Arguments of `mainstay top`.
#[derive(Debug, Args)]
#[command(after_long_help = signals::help())]
pub(crate) struct TopArgs {
    /// A signal, such as memory (--help lists them), or any PromQL expression of your own
    #[arg(value_name = "SIGNAL|PROMQL", default_value = "cpu")]
    asked: String,
    /// A row for each host, or for each unit or container of each host [default: host]
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Over how long it is meant [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = crate::arguments::duration)]
    over: Option<Duration>,
    /// Most rows to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    selector: HostSelector,
    /// Say what is asked, as PromQL
    #[arg(short, long)]
    verbose: bool,
}

/// A question, made out of the arguments.
#[derive(Debug, PartialEq)]
struct Question {
    /// `None` of an expression of the operator's own.
    by: Option<By>,
    over: Option<Duration>,
    measure: Measure,
    part: &'static str,
    /// A row for each host or unit.
    promql: String,
}

#[derive(Debug, Serialize)]
struct TopDoc {
    asked: String,
    by: Option<By>,
    over_s: Option<u64>,
    unit: &'static str,
    promql: String,
    at: Option<String>,
    /// How many rows there are, shown or not.
    of: usize,
    rows: Vec<TopRow>,
    #[serde(flatten)]
    seen: Completeness,
}

/// One host or unit in a line.
#[derive(Debug, Serialize)]
struct TopRow {
    host: String,
    /// The unit; of a host, which of its things has the most.
    which: Option<String>,
    value: f64,
    labels: BTreeMap<String, String>,
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    bar: String,
}

impl output::Row for TopRow {
    const HEADINGS: &'static [&'static str] = &["HOST", "WHICH", "VALUE", "", "LABELS"];
    const WIDE_FROM: usize = 4;

    fn cells(&self) -> Vec<String> {
        let labels: Vec<_> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let which = self.which.clone().unwrap_or_else(|| "–".to_owned());
        vec![self.host.clone(), which, self.shown.clone(), self.bar.clone(), labels.join(" ")]
    }
}

/// Asks and prints.
pub(crate) async fn run(args: &TopArgs, context: &Context) -> Result<Exit, Failure> {
    // What is wrong with the question is said before anybody is asked.
    question(args, "")?;
    let mut queries = connect::queries(context).await?;
    let (hosts, now_ms) = fleet::hosts(&mut queries, args.selector.to_wire()).await?;
    let question = question(args, &matchers(args, &hosts))?;
    if args.verbose {
        output::say(&question.promql);
    }
    let from_ms = now_ms.saturating_sub(fleet::millis(question.over.unwrap_or(OVER)));
    let mut seen = Completeness::of(&hosts, from_ms, now_ms);
    let most = format!("topk({}, {})", args.limit, question.promql);
    let found = fleet::ask(&mut queries, &most, now_ms, &mut seen).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let of = if found.len() < limit {
        found.len()
    } else {
        let count = fleet::ask(&mut queries, &format!("count({})", question.promql), now_ms, &mut seen).await?;
        count.first().map_or(found.len(), |row| whole(row.value)).max(found.len())
    };
    let rows = rows(found, &question, &hosts);
    if context.format.is_for_people() {
        print(context, rows, of, &question)?;
        seen.footnotes();
        return Ok(Exit::Success);
    }
    let doc = TopDoc {
        asked: args.asked.clone(),
        by: question.by,
        over_s: question.over.map(|over| over.as_secs()),
        unit: question.measure.name(),
        promql: question.promql,
        at: view::moment(now_ms),
        of,
        rows,
        seen,
    };
    output::document(context, &doc)?;
    Ok(Exit::Success)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of rows")]
fn whole(count: f64) -> usize {
    count.max(0.0) as usize
}

/// The hosts that are meant, for PromQL. One host goes by its name: it may have been given by its id.
fn matchers(args: &TopArgs, hosts: &[HostView]) -> String {
    let selector = args.selector.to_wire();
    let labels = selector.labels.iter().map(|label| signals::matcher(&label.name, &label.value));
    let only =
        hosts.first().filter(|_| !selector.host.is_empty()).map(|host| signals::matcher("host", fleet::name(host)));
    labels.chain(only).collect::<Vec<_>>().join(",")
}

/// The question that the arguments stand for, of hosts that fit `on`.
fn question(args: &TopArgs, on: &str) -> Result<Question, Failure> {
    let Some(signal) = signals::named(&args.asked) else { return own(args) };
    let by = args.by.unwrap_or(By::Host);
    let form = signal.form(by).ok_or_else(|| {
        let have: Vec<_> =
            SIGNALS.iter().filter(|signal| signal.form(by).is_some()).map(|signal| signal.name).collect();
        Failure::usage(format!("`{}` is not known of {}s; what is: {}", signal.name, by.noun(), have.join(", ")))
    })?;
    let over = fleet::over(args.over.unwrap_or(OVER))?;
    let promql = if by == By::Container { form.of_containers(on, over) } else { form.promql(on, over) };
    Ok(Question { by: Some(by), over: Some(over), measure: form.measure, part: form.part, promql })
}

/// An expression of the operator's own, as it is: what narrows it down stands within it.
fn own(args: &TopArgs) -> Result<Question, Failure> {
    let asked = args.asked.trim();
    if asked.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
        let names = || SIGNALS.iter().map(|signal| signal.name);
        let hint = match nearest(asked, names()) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::usage(format!("`{asked}` is no signal; {hint} (a metric of that name is `{asked}{{}}`)")));
    }
    let selector = args.selector.to_wire();
    if args.by.is_some() || args.over.is_some() || !selector.labels.is_empty() || !selector.host.is_empty() {
        return Err(Failure::usage(
            "--by, --over, --selector and --host go with a signal; in an expression of your own they are written out, as in \
             'sum by (host) (rate(node_forks_total{role=\"web\"}[5m]))'",
        ));
    }
    let promql = format!("({asked})");
    Ok(Question { by: None, over: None, measure: Measure::Number, part: "", promql })
}

/// The rows of an answer, the most first.
fn rows(mut found: Vec<Row>, question: &Question, hosts: &[HostView]) -> Vec<TopRow> {
    found.sort_by(|a, b| b.value.total_cmp(&a.value).then_with(|| a.labels.cmp(&b.labels)));
    let greatest = found.first().map_or(0.0, |row| row.value);
    let whole = if question.measure == Measure::Share { 1.0 } else { greatest };
    let of_hosts: BTreeSet<(&str, &str)> = hosts
        .iter()
        .filter_map(|host| host.facts.as_ref())
        .flat_map(|facts| facts.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())))
        .collect();
    let row = |row: Row| TopRow {
        host: row.host(),
        which: which(&row, question, &of_hosts),
        shown: question.measure.say(row.value),
        bar: draw::bar(if whole > 0.0 { row.value / whole } else { 0.0 }, BAR_WIDTH),
        value: row.value,
        labels: row.labels,
    };
    found.into_iter().map(row).collect()
}

/// What of a host the row is of.
fn which(row: &Row, question: &Question, of_hosts: &BTreeSet<(&str, &str)>) -> Option<String> {
    let part = Some(row.label(question.part)).filter(|part| !part.is_empty());
    match question.by {
        Some(By::Host) => part.map(str::to_owned),
        Some(by) => {
            let name = row.label(by.noun());
            Some(part.map_or_else(|| name.to_owned(), |part| format!("{name} ({part})")))
        }
        None => {
            let is_own = |(name, value): &(&String, &String)| {
                !matches!(name.as_str(), "host" | "host_id") && !of_hosts.contains(&(name.as_str(), value.as_str()))
            };
            let own: Vec<_> = row.labels.iter().filter(is_own).map(|(name, value)| format!("{name}={value}")).collect();
            (!own.is_empty()).then(|| own.join(" "))
        }
    }
}

/// Those that have anything at all, and how many there are besides.
fn print(context: &Context, mut rows: Vec<TopRow>, of: usize, question: &Question) -> Result<(), Failure> {
    let noun = question.by.map_or("row", By::noun);
    if rows.is_empty() {
        output::say(
            "nobody has sent any of it: `mainstay hosts` shows who is there, `mainstay top --help` what there is to ask",
        );
        return Ok(());
    }
    let found = rows.len();
    // In an expression of one's own 0 may be what is looked for.
    rows.retain(|row| row.value != 0.0 || question.by.is_none());
    let zero = found - rows.len();
    if rows.is_empty() {
        return output::line_out(&format!("of {} none has any", words::count(of, noun)));
    }
    output::rows(context, &rows)?;
    if zero > 0 {
        let rest = of - rows.len();
        output::say(&format!("none on {}", words::count(rest, &format!("other {noun}"))));
    } else if of > found {
        output::say(&format!("{found} of {} shown; --limit shows more", words::count(of, noun)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use mainstay_proto::v1::{HostFacts, Label};

    use super::*;
    use crate::output::Row as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: TopArgs,
    }

    fn args(line: &[&str]) -> TopArgs {
        Line::try_parse_from([&["top"], line].concat()).unwrap().args
    }

    #[test]
    fn a_signal_stands_for_promql_over_the_hosts_that_are_meant() {
        let asked = question(&args(&["memory", "--by", "unit", "--over", "1h"]), "role=\"web\"").unwrap();
        assert_eq!(asked.promql, "avg_over_time(mainstay_unit_memory_bytes:mean{role=\"web\"}[3600s])");
        let asked = question(&args(&["io", "--by", "container"]), "").unwrap();
        assert_eq!(
            asked.promql,
            "rate(mainstay_container_io_read_bytes_total[300s]) + rate(mainstay_container_io_written_bytes_total[300s])"
        );
        let asked = question(&args(&[]), "").unwrap();
        let cpu = "rate({__name__=~\"node_cpu_seconds_total|mainstay_cpu_seconds_total\",mode!~\"idle|iowait\"}[300s])";
        assert!(asked.promql.contains(cpu), "{}", asked.promql);
        assert_eq!((asked.by, asked.measure), (Some(By::Host), Measure::Share));
    }

    #[test]
    fn whoever_gives_an_id_is_asked_for_by_name() {
        let facts = HostFacts { hostname: "web-1".into(), ..HostFacts::default() };
        let hosts = [HostView { facts: Some(facts), ..HostView::default() }];
        assert_eq!(matchers(&args(&["-l", "role=web", "--host", "0190ab"]), &hosts), "role=\"web\",host=\"web-1\"");
        assert_eq!(matchers(&args(&["--selector", "zone=a\"b"]), &hosts), "zone=\"a\\\"b\"");
        assert_eq!(matchers(&args(&[]), &hosts), "");
    }

    #[test]
    fn an_expression_of_ones_own_is_asked_as_it_is() {
        let asked = question(&args(&["rate(node_forks_total[1m])"]), "").unwrap();
        assert_eq!((asked.promql.as_str(), asked.by), ("(rate(node_forks_total[1m]))", None));
        assert_eq!(question(&args(&["up{}"]), "").unwrap().promql, "(up{})");
        let refused = question(&args(&["node_load1", "--by", "host"]), "").unwrap_err().to_string();
        assert!(refused.contains("sum by (host)"), "{refused}");
    }

    #[test]
    fn what_is_mistyped_is_told_what_it_may_have_meant() {
        for (line, says) in [
            (&["memroy"][..], "did you mean memory?"),
            (&["temperature"], "there are: cpu, "),
            (&["swap", "--by", "unit"], "`swap` is not known of units; what is: cpu, throttled, memory"),
            (
                &["restarts", "--by", "container"],
                "`restarts` is not known of containers; what is: cpu, throttled, memory",
            ),
            (&["cpu", "--over", "5s"], "30s or more"),
        ] {
            let refused = question(&args(line), "").unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.to_string().contains(says), "{line:?}: {refused}");
        }
        assert!(Line::try_parse_from(["top", "--limit", "0"]).is_err());
    }

    fn row(labels: &[(&str, &str)], value: f64) -> Row {
        Row { labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), value }
    }

    #[test]
    fn the_most_comes_first_with_which_of_its_things_that_is() {
        let question = question(&args(&["disk"]), "").unwrap();
        let found =
            vec![row(&[("host", "a"), ("mountpoint", "/")], 0.25), row(&[("host", "b"), ("mountpoint", "/var")], 0.5)];
        let cells: Vec<_> = rows(found, &question, &[]).iter().map(|row| row.cells()[..3].join(" ")).collect();
        assert_eq!(cells, ["b /var 50.0%", "a / 25.0%"]);
    }

    #[test]
    fn of_an_expression_the_labels_that_are_not_the_hosts_are_shown() {
        let question = question(&args(&["node_load1"]), "").unwrap();
        let role = Label { name: "role".into(), value: "web".into() };
        let host =
            HostView { facts: Some(HostFacts { labels: vec![role], ..HostFacts::default() }), ..HostView::default() };
        let found = vec![row(&[("host", "a"), ("role", "web"), ("device", "vda"), ("mode", "x")], 2.0)];
        assert_eq!(rows(found, &question, &[host])[0].which.as_deref(), Some("device=vda mode=x"));
        let units = super::question(&args(&["probe", "--by", "unit"]), "").unwrap();
        let found = vec![row(&[("host", "a"), ("probe", "front"), ("unit", "app.service")], 2.0)];
        assert_eq!(rows(found, &units, &[])[0].which.as_deref(), Some("app.service (front)"));
        let containers = super::question(&args(&["memory", "--by", "container"]), "").unwrap();
        let found = vec![row(&[("host", "a"), ("container", "shop-web-1"), ("image", "nginx:1.27")], 2.0)];
        assert_eq!(rows(found, &containers, &[])[0].which.as_deref(), Some("shop-web-1"));
    }
}
