//! The collector's program: arguments, log, and what `run` does.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mainstay_collector::run::{Paths, check_config, run};
use mainstay_collector::{repair, restore};

/// Stores what Mainstay's agents report, puts it together, answers operators and carries their policies.
#[derive(Debug, Parser)]
#[command(name = "mainstay-collector", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until told to stop
    Run(Paths),
    /// Say what is wrong with the settings, if anything is
    CheckConfig(Paths),
    /// Build a damaged store anew of what can be read of it, while no collector runs
    Repair(Paths),
    /// Put a backup onto this machine, which has no collector's data yet
    Restore(restore::RestoreArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("MAINSTAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let done = match &arguments.command {
        Command::CheckConfig(paths) => check_config(paths),
        Command::Run(paths) => start(paths),
        Command::Repair(paths) => repair::run(paths),
        Command::Restore(args) => restore::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if matches!(arguments.command, Command::CheckConfig(_)) { 2 } else { 1 })
        }
    }
}

fn start(paths: &Paths) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(paths))
}
