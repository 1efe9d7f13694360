//! `mainstay host logs`: the last lines of a host's journal, asked of the host itself. Nobody keeps them.

use std::time::Duration;

use clap::Args;
use mainstay_core::host_query::logs::{LINES_MAX, LogLine, PRIORITIES, PRIORITY_MAX};
use mainstay_core::host_query::{HostQuery, HostReply, LogsQuery, LogsReply};
use mainstay_core::subject::{BadUnitName, UnitName};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{arguments, ask, output, view, words};

/// Arguments of `mainstay host logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name, id or the beginning of an id
    host: String,
    /// Only lines of this unit, with what systemd says about it (`nginx` is `nginx.service`)
    #[arg(long, value_name = "UNIT", value_parser = unit)]
    unit: Option<UnitName>,
    /// How many of the last lines
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=LINES_MAX as i64))]
    last: u32,
    /// Only lines from this long ago on; without it as far back as the journal goes
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    since: Option<Duration>,
    /// Only lines that are at least this severe: emerg, alert, crit, err, warning, notice, info or debug
    #[arg(long, default_value = "debug", value_name = "WORD", value_parser = priority)]
    priority: u8,
}

/// A unit, whose type goes without saying where it is a service.
fn unit(text: &str) -> Result<UnitName, BadUnitName> {
    text.parse().or_else(|bad| format!("{text}.service").parse().map_err(|_| bad))
}

fn priority(text: &str) -> Result<u8, String> {
    let found = PRIORITIES.iter().position(|word| *word == text).and_then(|at| u8::try_from(at).ok());
    found.ok_or_else(|| format!("`{text}` is none of {}", PRIORITIES.join(", ")))
}

/// Carries the command out.
pub(crate) async fn run(args: &LogsArgs, context: &Context) -> Result<Exit, Failure> {
    let query = LogsQuery {
        unit: args.unit.clone(),
        since: args.since.unwrap_or_default(),
        priority: args.priority,
        limit: args.last,
    };
    let answer = ask::host(context, &args.host, &HostQuery::Logs(query)).await?;
    let HostReply::Logs(reply) = answer.reply else { return Err(ask::of_another_kind(&answer.hostname)) };
    if context.format.is_for_people() {
        for line in &reply.lines {
            output::line_out(&as_text(line, args.unit.as_ref()))?;
        }
        output::say(&said(&answer.hostname, &reply, args));
    } else {
        output::document(context, &LogsDoc::new(answer.hostname, &reply))?;
    }
    Ok(Exit::Success)
}

/// A line as people read it. The unit is left out where it was asked for.
fn as_text(line: &LogLine, asked: Option<&UnitName>) -> String {
    let whose = match (line.unit.as_str(), line.from.as_str()) {
        (unit, from) if unit.is_empty() || asked.is_some_and(|asked| asked.as_str() == unit) => from.to_owned(),
        (unit, "") => unit.to_owned(),
        (unit, from) => format!("{unit} {from}"),
    };
    let word = PRIORITIES.get(usize::from(line.priority.min(PRIORITY_MAX))).copied().unwrap_or("?");
    format!("{}  {word:<7} {whose}: {}", words::date_time(line.wall_ms), line.text)
}

/// What the lines do not say themselves.
fn said(hostname: &str, reply: &LogsReply, args: &LogsArgs) -> String {
    let mut of = args.unit.as_ref().map_or_else(String::new, |unit| format!(" of {unit}"));
    if args.priority < PRIORITY_MAX {
        of.push_str(&format!(" from {} on", PRIORITIES.get(usize::from(args.priority)).copied().unwrap_or("?")));
    }
    match reply.lines.len() {
        0 => {
            format!("{hostname}: the journal has no line{of}{}", if args.since.is_some() { " since then" } else { "" })
        }
        lines if reply.has_more => {
            format!("{hostname}: the last {}{of}; there are earlier ones", words::count(lines, "line"))
        }
        lines => format!("{hostname}: {}{of}", words::count(lines, "line")),
    }
}

#[derive(Debug, Serialize)]
struct LogsDoc {
    host: String,
    lines: Vec<LineDoc>,
    has_more: bool,
}

#[derive(Debug, Serialize)]
struct LineDoc {
    at: Option<String>,
    priority: u8,
    unit: Option<String>,
    from: String,
    text: String,
}

impl LogsDoc {
    fn new(host: String, reply: &LogsReply) -> Self {
        let line = |line: &LogLine| LineDoc {
            at: view::moment(line.wall_ms),
            priority: line.priority,
            unit: Some(line.unit.clone()).filter(|unit| !unit.is_empty()),
            from: line.from.clone(),
            text: line.text.clone(),
        };
        Self { host, lines: reply.lines.iter().map(line).collect(), has_more: reply.has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(unit: &str, from: &str) -> LogLine {
        LogLine { wall_ms: 1_000, priority: 3, unit: unit.into(), from: from.into(), text: "cannot go on".into() }
    }

    #[test]
    fn a_line_says_whose_it_is_where_that_was_not_asked_for() {
        let asked = unit("app").unwrap();
        let end = |line: &LogLine, asked| as_text(line, asked).split_once("  ").unwrap().1.to_owned();
        assert_eq!(end(&line("app.service", "app"), None), "err     app.service app: cannot go on");
        assert_eq!(end(&line("app.service", "app"), Some(&asked)), "err     app: cannot go on");
        assert_eq!(end(&line("init.scope", "systemd"), Some(&asked)), "err     init.scope systemd: cannot go on");
        assert_eq!(end(&line("", "kernel"), None), "err     kernel: cannot go on");
        assert_eq!(end(&line("app.service", ""), None), "err     app.service: cannot go on");
    }

    #[test]
    fn that_there_are_earlier_lines_or_none_is_said() {
        let args = |unit: Option<&str>, priority| LogsArgs {
            host: "web-1".into(),
            unit: unit.map(|text| text.parse().unwrap()),
            last: 50,
            since: None,
            priority,
        };
        let one = LogsReply { lines: vec![line("", "")], has_more: true };
        assert_eq!(said("web-1", &one, &args(None, 7)), "web-1: the last 1 line; there are earlier ones");
        let none = LogsReply::default();
        assert_eq!(
            said("web-1", &none, &args(Some("a.timer"), 3)),
            "web-1: the journal has no line of a.timer from err on"
        );
    }

    #[test]
    fn a_service_goes_without_its_type_and_what_is_no_unit_is_refused() {
        assert_eq!(unit("nginx").unwrap().as_str(), "nginx.service");
        assert_eq!(unit("a.timer").unwrap().as_str(), "a.timer");
        assert!(unit("a b").unwrap_err().to_string().starts_with("`a b` is not a unit name"));
        assert_eq!((priority("emerg"), priority("debug")), (Ok(0), Ok(PRIORITY_MAX)));
        assert!(priority("error").unwrap_err().contains("err, warning"));
    }
}
