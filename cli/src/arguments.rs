//! The command line as clap sees it: the options that every command takes, and the nouns.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

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
    /// Prove that records are complete and unchanged
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
}
