//! The Mainstay agent: samples this host, finds trouble, repairs what policy allows.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mainstay_agent::config::{self, Settings};
use mainstay_agent::enrol::Existing;
use mainstay_agent::host::own;
use mainstay_agent::host::scrape::Scraper;
use mainstay_agent::run::{self, Ending, Paths};
use mainstay_agent::{actuate, log, metrics};
use mainstay_core::host_query::top::TopBy;
use mainstay_core::host_query::{ConnectionsQuery, TopQuery};
use mainstay_core::policy::Glob;
use tokio::runtime::{Builder, Runtime};

/// Watches this host and repairs what policy allows.
#[derive(Parser)]
#[command(version, about)]
struct Args {
    /// Folder of agent.toml, agent.d, policy.d and the hold file.
    #[arg(long, global = true, default_value = "/etc/mainstay", value_name = "DIR")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run until told to stop (the default).
    Run,
    /// Name every mistake in the settings, with file, line and column. Exit status 1 if there is one.
    CheckConfig,
    /// Show what the running agent sees, decided and would do.
    Status,
    /// Show what the running agent has learned to be usual on this host.
    Models {
        /// Only metrics with their labels, mount points and units that this glob matches.
        #[arg(long, default_value = "", value_name = "GLOB")]
        metric: String,
    },
    /// Show which processes and units use most, which are stuck, and who holds deleted files.
    Top {
        /// In which order: cpu, memory, io or fds.
        #[arg(long, default_value = "cpu", value_name = "WHAT")]
        by: TopBy,
        /// Most processes and most units.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
        /// Only units that this glob matches.
        #[arg(long, default_value = "", value_name = "GLOB")]
        unit: String,
    },
    /// Show who listens on this host, and who talks to whom and how slowly.
    Connections {
        /// Most peers; 0 is as many as the agent says at once.
        #[arg(long, default_value_t = 40, value_name = "N")]
        limit: u32,
        /// Only units that this glob matches.
        #[arg(long, default_value = "", value_name = "GLOB")]
        unit: String,
    },
    /// Show what `/metrics` shows: the host, read now, and what the running agent says of itself.
    Metrics {
        /// Where the host's files are: `/`, or a copy of another host's.
        #[arg(long, default_value = "/", value_name = "DIR")]
        root: PathBuf,
    },
    /// Ask the collector for an identity. The running agent takes it up by itself.
    Enrol {
        /// File with the token, `-` for standard input.
        #[arg(long, value_name = "PATH")]
        token_file: PathBuf,
        /// Replace the identity that the host has.
        #[arg(long)]
        force: bool,
    },
}

/// How long a thread that has nothing to do is kept: longer than it takes until the next summary.
const BESIDE_FOR: Duration = Duration::from_secs(25);

fn main() -> ExitCode {
    own::set_up_heap();
    let args = Args::parse();
    let paths = Paths { etc: args.config, ..Paths::default() };
    let settings = match config::load(&paths.settings()) {
        Ok(settings) => settings,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime().and_then(|runtime| runtime.block_on(command(args.command.unwrap_or(Command::Run), paths, settings)))
    {
        Ok(Ending::Stopped) => ExitCode::SUCCESS,
        Ok(Ending::Enrolled) => begin_anew(),
        Err(error) => {
            eprintln!("mainstay-agent: {}", actuate::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// One thread, and one beside it for what waits for the disk, which stays from summary to summary instead of being made anew.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().thread_keep_alive(BESIDE_FOR).build()?)
}

async fn command(command: Command, paths: Paths, settings: Settings) -> anyhow::Result<Ending> {
    match command {
        Command::Run => {
            log::start(&settings.log);
            return run::run(paths, settings).await;
        }
        Command::CheckConfig => {}
        Command::Status => print!("{}", run::ask_status(&paths).await?),
        Command::Models { metric } => print!("{}", run::ask_models(&paths, &metric).await?),
        Command::Top { by, limit, unit } => {
            let query = TopQuery { by, unit: Glob::new(&unit), limit };
            print!("{}", run::ask_top(&paths, &query).await?);
        }
        Command::Connections { limit, unit } => {
            let query = ConnectionsQuery { unit: Glob::new(&unit), limit };
            print!("{}", run::ask_connections(&paths, &query).await?);
        }
        Command::Metrics { root } => {
            // What the agent says is of this host, not of the one that a copy is of.
            let own = if root == Path::new("/") { run::ask_metrics(&paths).await } else { Ok(String::new()) };
            let own = own.unwrap_or_else(|error| {
                eprintln!("mainstay-agent: the host alone is shown: {}", actuate::chain(error.as_ref()));
                String::new()
            });
            print!("{}", metrics::once(Scraper::at(root), &settings.filesystems, &own).await);
        }
        Command::Enrol { token_file, force } => {
            let existing = if force { Existing::Replace } else { Existing::Keep };
            println!("{}", run::enrol(&paths, &settings, &token_file, existing).await?);
        }
    }
    Ok(Ending::Stopped)
}

/// The same process, from its beginning: systemd sees no restart.
fn begin_anew() -> ExitCode {
    let mut words = std::env::args_os();
    let error = std::process::Command::new(words.next().unwrap_or_default()).args(words).exec();
    eprintln!("mainstay-agent: cannot begin anew: {error}");
    ExitCode::FAILURE
}
