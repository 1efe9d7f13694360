//! Options that narrow findings, incidents, decisions, records and changes to what is looked for.

use std::time::Duration;

use clap::Args;
use mainstay_proto::v1::Search;

use crate::arguments::Moment;
use crate::{output, words};

/// How far back without --since.
const BACK: Duration = Duration::from_secs(24 * 3_600);

/// What is looked for; all that is given has to match.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// How far back, as 2h or '2026-11-20 03:00' [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = crate::arguments::moment)]
    since: Option<Moment>,
    /// Nothing that began later, as 2h or '2026-11-20 04:00'
    #[arg(long, value_name = "TIME", value_parser = crate::arguments::moment)]
    until: Option<Moment>,
    /// Only this kind, or all below it: disk.full or disk, package, service
    #[arg(long)]
    kind: Option<String>,
    /// Only about this unit, path, disk, interface, series or package, * and ? standing for any: nginx, '/var/*'
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only where each of these words stands somewhere in what is told of it: 'oom-kill web-1'
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
}

impl SearchArgs {
    /// Whether a time is asked for, and not only what is open.
    pub(crate) fn is_of_a_time(&self) -> bool {
        self.since.is_some()
    }

    /// All that is of the time.
    pub(crate) fn to_wire(&self) -> Search {
        let since_ms = self.since.unwrap_or(Moment::Ago(BACK)).wall_ms();
        Search { since_ms, ..self.since_ever() }
    }

    /// However long ago it began.
    pub(crate) fn since_ever(&self) -> Search {
        Search {
            kind: self.kind.clone().unwrap_or_default(),
            subject: self.subject.clone().unwrap_or_default(),
            text: self.text.clone().unwrap_or_default(),
            since_ms: 0,
            until_ms: self.until.map_or(0, Moment::wall_ms),
        }
    }

    /// That nothing was found: `nothing` where everything was looked for.
    fn none(&self, nothing: &str) -> String {
        let words = [("--kind", &self.kind), ("--subject", &self.subject), ("--text", &self.text)];
        let words = words.into_iter().filter_map(|(option, asked)| Some(format!("{option} '{}'", asked.as_ref()?)));
        let until = self.until.map(|until| format!("--until '{}'", words::date_time(until.wall_ms())));
        let asked: Vec<String> = words.chain(until).collect();
        if asked.is_empty() { nothing.to_owned() } else { format!("nothing is found by {}", asked.join(" ")) }
    }
}

/// What an answer says of itself.
pub(crate) struct Found {
    pub(crate) is_empty: bool,
    pub(crate) truncated: bool,
    pub(crate) looked_back_to_ms: Option<i64>,
}

impl Found {
    /// Says to people that nothing was found, `nothing` where everything was looked for; and to all that there is more.
    pub(crate) fn say(&self, args: &SearchArgs, is_for_people: bool, nothing: &str) {
        self.notes(args, is_for_people, nothing).iter().for_each(|note| output::say(note));
    }

    fn notes(&self, args: &SearchArgs, is_for_people: bool, nothing: &str) -> Vec<String> {
        let mut notes = Vec::new();
        match self.looked_back_to_ms.map(|back_to| words::date_time(back_to + 999)) {
            // What lies before may hold it. Times are shown in seconds: in the one that was not looked through to its beginning.
            Some(back_to) => notes.push(format!(
                "looked through as much as one answer may take, back to {back_to}; --until '{back_to}' goes on from there"
            )),
            None if self.is_empty && is_for_people => notes.push(args.none(nothing)),
            None => {}
        }
        if self.truncated {
            notes.push(
                "there are more; ask for less time, one host, a kind or a subject, or for a higher --limit".to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(subject: Option<&str>, until: Option<Moment>) -> SearchArgs {
        let subject = subject.map(ToOwned::to_owned);
        SearchArgs { since: None, until, kind: Some("disk".to_owned()), subject, text: None }
    }

    #[test]
    fn all_is_well_is_said_only_where_everything_was_looked_for() {
        let none = |args: SearchArgs| args.none("nothing is wrong");
        assert_eq!(none(SearchArgs { kind: None, ..args(None, None) }), "nothing is wrong");
        assert_eq!(none(args(Some("/var"), None)), "nothing is found by --kind 'disk' --subject '/var'");
        let until = SearchArgs { kind: None, ..args(None, Some(Moment::At(0))) };
        assert!(none(until).starts_with("nothing is found by --until '19"), "what began later was left out");
    }

    #[test]
    fn an_answer_that_did_not_look_through_all_says_where_to_go_on() {
        let found = Found { is_empty: true, truncated: false, looked_back_to_ms: Some(1_795_144_446_007) };
        let notes = found.notes(&args(None, None), true, "nothing is wrong");
        let back_to = words::date_time(1_795_144_447_000);
        assert_eq!(notes.len(), 1, "not that nothing is there: {notes:?}");
        assert!(notes[0].ends_with(&format!("back to {back_to}; --until '{back_to}' goes on from there")), "{notes:?}");
        let cut = Found { is_empty: false, truncated: true, looked_back_to_ms: None };
        assert!(cut.notes(&args(None, None), false, "")[0].starts_with("there are more; "));
    }
}
