//! The program: settings in, a running collector, signals until the end.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::collector::Collector;
use crate::config::{Settings, lines};
use crate::supervise::{notify, watchdog};

/// Where the settings are.
#[derive(Debug, Clone, clap::Args)]
pub struct Paths {
    /// The settings
    #[arg(long, value_name = "FILE", default_value = crate::config::CONFIG_FILE)]
    pub config: std::path::PathBuf,
    /// A folder of more settings, read in order of their names
    #[arg(long, value_name = "FOLDER", default_value = crate::config::DROP_INS)]
    pub drop_ins: std::path::PathBuf,
}

impl Paths {
    /// Reads them.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub(crate) fn load(&self) -> anyhow::Result<Settings> {
        load(&self.config, &self.drop_ins)
    }
}

fn load(config: &Path, drop_ins: &Path) -> anyhow::Result<Settings> {
    Settings::load(config, drop_ins).map_err(|problems| {
        let count = problems.len();
        anyhow::anyhow!("{}\n{count} {}", lines(&problems), if count == 1 { "error" } else { "errors" })
    })
}

/// Says whether the settings are good.
///
/// # Errors
/// Every mistake, with its place.
pub fn check_config(paths: &Paths) -> anyhow::Result<()> {
    let settings = paths.load()?;
    println!("{} is good: agents and operators on {}", paths.config.display(), settings.listen);
    Ok(())
}

/// How often it is asked whether the store takes writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many times in a row it may not, before the program ends for systemd to start it anew.
const STUCK_LOOKS_MAX: u32 = 5;

/// Runs until SIGTERM or SIGINT; SIGHUP reads the settings again.
///
/// # Errors
/// If it cannot start. It ends the program if the store no longer takes writes although there is room: opening it anew
/// mends that.
pub async fn run(paths: &Paths) -> anyhow::Result<()> {
    let collector = Collector::start(paths.load()?).await.context("the collector cannot start")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let alive = watchdog();
    let mut beat = tokio::time::interval(alive.unwrap_or(Duration::from_secs(3_600)));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut stuck = 0;
    notify("READY=1\nSTATUS=taking sessions");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&collector, paths),
            _ = looks.tick() => {
                stuck = if collector.hub.store.is_stuck() { stuck + 1 } else { 0 };
                if stuck == STUCK_LOOKS_MAX {
                    // Not in order: a write that hangs would hold it up, and what was acknowledged is on disk.
                    tracing::error!("the store takes no writes though there is room: it has to be opened anew");
                    std::process::exit(1);
                }
            }
            _ = beat.tick() => if alive.is_some() { notify("WATCHDOG=1") },
        }
    }
    notify("STOPPING=1\nSTATUS=ending sessions");
    tracing::info!("the collector is stopping");
    collector.stop().await;
    Ok(())
}

/// A bad file leaves the old settings in force, and says so where the operator looks.
fn reload(collector: &Collector, paths: &Paths) {
    notify("RELOADING=1");
    let reloaded = paths.load().and_then(|settings| Ok(collector.reload(settings)?));
    match reloaded {
        Ok(()) => {
            tracing::info!("settings are read again");
            notify("READY=1\nSTATUS=taking sessions");
        }
        Err(error) => {
            tracing::error!("the settings were not taken, the old ones stay in force:\n{error:#}");
            notify("READY=1\nSTATUS=taking sessions; the settings on disk are wrong, see the journal");
        }
    }
}
