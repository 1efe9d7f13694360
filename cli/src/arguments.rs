//! The command line as clap sees it: the options that every command takes, and the nouns.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::cmd;
use crate::output::Format;

/// Keep a fleet of Linux hosts healthy: look, ask why, allow, stop.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 done and the answer is no (diff differs, chain broken, host refused); \
2 usage, file or key; 3 collector unreachable; 4 no answer in time; 5 not permitted; 6 not found; \
7 anything else. `mainstay check` follows Nagios: 0 ok, 1 warning, 2 critical, 3 unknown.";

/// The command line's definition, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Collector to talk to, as HOST[:PORT] (default: the one in the configuration folder)
    #[arg(long, global = true, env = "MAINSTAY_COLLECTOR")]
    pub(crate) collector: Option<String>,
    /// Folder with operator.crt, operator.key, ca.crt, collector and policy.pub
    /// (default: ~/.config/mainstay; without a home /etc/mainstay/operator)
    #[arg(long, global = true, env = "MAINSTAY_CONFIG", value_name = "FOLDER")]
    pub(crate) config: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Leave the headings out
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Print anew every INTERVAL until stopped
    #[arg(long, global = true, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = duration)]
    pub(crate) watch: Option<Duration>,
    /// Longest wait for an answer
    #[arg(long, global = true, default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// Reads `30s`, `5m`, `2h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    crate::words::parse_duration(text).ok_or_else(|| format!("`{text}` is not a duration such as 30s, 5m, 2h or 7d"))
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    /// So long before now.
    Ago(Duration),
    /// In milliseconds since 1970.
    At(i64),
}

impl Moment {
    /// In milliseconds since 1970.
    pub(crate) fn wall_ms(self) -> i64 {
        match self {
            Self::Ago(ago) => cmd::since(ago),
            Self::At(wall_ms) => wall_ms,
        }
    }
}

/// Reads `2h` as so long ago, and `2026-11-20 03:14` as it is shown, in the operator's time zone; or with a zone of its own.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Some(ago) = crate::words::parse_duration(text) {
        return Ok(Moment::Ago(ago));
    }
    let here = |at: DateTime| at.to_zoned(TimeZone::system()).map(|at| at.timestamp());
    let at = text.parse::<Timestamp>().or_else(|_| text.parse::<DateTime>().and_then(here));
    at.map(|at| Moment::At(at.as_millisecond())).map_err(|_| {
        format!("`{text}` is neither so long ago, such as 30m, 2h or 7d, nor a moment such as '2026-11-20 03:00'")
    })
}

/// What can be asked and ordered.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the hosts, with what is wrong with them
    Hosts(cmd::hosts::HostsArgs),
    /// Show one host
    #[command(subcommand)]
    Host(cmd::host::HostCommand),
    /// Ask for a series over a range of time
    Query(cmd::query::QueryArgs),
    /// Show which hosts or units use the most of something
    Top(cmd::fleet_top::TopArgs),
    /// Show what is unusual on a host against its peers
    Compare(cmd::compare::CompareArgs),
    /// Foretell what will be asked for, and when that meets a limit
    Capacity(cmd::capacity::CapacityArgs),
    /// List what is wrong
    Findings(cmd::findings::FindingsArgs),
    /// List findings grouped by their likely cause
    Incidents(cmd::incidents::IncidentsArgs),
    /// List what was decided
    Decisions(cmd::decisions::DecisionsArgs),
    /// List what was changed on hosts: packages, files, units, deployments
    Changes(cmd::changes::ChangesArgs),
    /// Mark that something was deployed
    #[command(subcommand)]
    Event(cmd::event::EventCommand),
    /// Say why something was done, or was not
    Explain(cmd::explain::ExplainArgs),
    /// Answer decisions that wait for an operator
    #[command(subcommand)]
    Approvals(cmd::approvals::ApprovalsCommand),
    /// Stop acting on the fleet, a host or a unit at once
    Hold(cmd::hold::HoldArgs),
    /// List what is held
    Holds,
    /// Bring back what an action reclaimed
    Undo(cmd::undo::UndoArgs),
    /// Check, sign and push policies
    #[command(subcommand)]
    Policy(cmd::policy::PolicyCommand),
    /// Read what hosts wrote down, and prove that it is complete and unchanged
    #[command(subcommand)]
    Ledger(cmd::ledger::LedgerCommand),
    /// Make and revoke enrolment tokens
    #[command(subcommand)]
    Token(cmd::token::TokenCommand),
    /// Make operators' certificates
    #[command(subcommand)]
    Operator(cmd::operator::OperatorCommand),
    /// Copy the collector's data while it runs
    #[command(subcommand)]
    Backup(cmd::backup::BackupCommand),
    /// Answer as a Nagios plugin does
    #[command(subcommand)]
    Check(cmd::check::CheckCommand),
    /// List what operators ordered
    Audit(cmd::audit::AuditArgs),
    /// Show how the collector is: its room, damage, backups, and what goes on in the background
    Status,
    /// Write completions and man pages
    #[command(subcommand, hide = true)]
    Gen(cmd::generate::GenCommand),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        super::command().debug_assert();
    }

    #[test]
    fn help_lists_every_signal_with_what_is_asked() {
        let mut command = super::command();
        let top = command.find_subcommand_mut("top").unwrap();
        let help = top.render_long_help().to_string();
        for signal in crate::signals::SIGNALS {
            assert!(help.contains(&format!("\n  {:<16} ", signal.name)), "{} is missing in:\n{help}", signal.name);
        }
        assert!(help.contains("by unit or container: rate(mainstay_unit_cpu_seconds_total{$on}[$over])"), "{help}");
    }

    #[test]
    fn a_moment_is_so_long_ago_or_a_date_and_time() {
        assert_eq!(moment("2h"), Ok(Moment::Ago(Duration::from_secs(7_200))));
        assert_eq!(moment("2026-11-20T03:14:07Z"), Ok(Moment::At(1_795_144_447_000)));
        assert_eq!(moment("2026-11-20T04:14:07+01:00"), moment("2026-11-20T03:14:07Z"));
        // As times are shown, where this runs.
        let Ok(Moment::At(at)) = moment("2026-11-20 03:14:07") else { panic!("a date and time is a moment") };
        assert_eq!(crate::words::date_time(at), "2026-11-20 03:14:07");
        assert_eq!(moment("2026-11-20 03:14"), moment("2026-11-20 03:14:00"));
        assert_eq!(moment("2026-11-20"), moment("2026-11-20 00:00:00"));
        for wrong in ["", "yesterday", "2026-13-20", "-2h"] {
            assert!(moment(wrong).unwrap_err().contains("nor a moment such as"), "{wrong}");
        }
    }
}
