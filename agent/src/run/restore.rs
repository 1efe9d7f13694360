//! Start: opens what the agent before left behind, starts every task, and makes the core.

use std::fs::File;
use std::path::{Path, PathBuf};

use mainstay_core::agent::{self, Restored};
use mainstay_core::detect::learned::SnapshotWhy;
use mainstay_core::detect::{self, Detectors};
use mainstay_core::id::IdSource;
use mainstay_core::log::{Digest, Redaction};
use mainstay_core::record::{Body, Record};
use mainstay_core::time::Now;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::mpsc::unbounded_channel;

use super::uplink::Enrolled;
use super::*;
use crate::host::background::Backgrounds;
use crate::host::changes::Looker;
use crate::host::containers::Containers;
use crate::host::facts;
use crate::host::journal::Follower;
use crate::host::scrape::Scraper;
use crate::identity::Identity;
use crate::ledger::{Ledger, LedgerSettings};
use crate::notify::Outbox;
use crate::{durable, failpoint, panics};

/// What the detectors learned.
pub(super) fn learned_file(state: &Path) -> PathBuf {
    state.join("learned")
}

/// What was learned of the log.
pub(super) fn log_file(state: &Path) -> PathBuf {
    state.join("log")
}

/// What the host was like when it was last looked at.
fn changes_file(state: &Path) -> PathBuf {
    state.join("changes")
}

/// The policy in force, as the core wants it kept.
pub(super) fn policy_file(state: &Path) -> PathBuf {
    state.join("policy")
}

/// Brings everything up to the point where the loop can begin.
pub(super) async fn start(paths: Paths, settings: Settings, sd: SdNotify) -> anyhow::Result<(Shell, Sources)> {
    let state = settings.state.dir.clone();
    durable::make_dir(&state).with_context(|| format!("cannot make {}", state.display()))?;
    keep_others_out(&state)?;
    panics::end_on_panic(&state);
    failpoint::arm(&paths.etc, &state);
    let now = clock::now();

    let identity = Identity::load(&state).context("cannot read the identity; enrol the host anew with --force")?;
    let enrolled = identity.as_ref().map(Enrolled::of).transpose()?.unwrap_or_default();
    let host_id = enrolled.host;
    let ledger_settings = LedgerSettings {
        root: state.join("ledger"),
        host: host_id.unwrap_or_default(),
        bytes_max: settings.state.ledger_bytes_max,
    };
    let ledger = Ledger::open(&ledger_settings).context("cannot open the ledger")?;
    for note in ledger.notes() {
        warn!(note, "ledger");
    }
    let observe_only = panics::too_many(&state, now.wall_ms);
    if let Some(why) = &observe_only {
        error!(why, "observing only");
    }

    let (told, kept) = unbounded_channel();
    let stopped_cleanly = take_stopped(&state);
    let restored = restored(stopped_cleanly, &paths, &state, &ledger)?;
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("cannot draw a seed: {error}"))?;
    let mut ids = IdSource::new(u64::from_ne_bytes(seed));
    let core = core_settings(&paths, &settings, enrolled, ids.next_u64(), observe_only.clone());
    let hostname = core.facts.hostname.clone();
    let otlp = settings.otlp.as_ref();
    let otlp = otlp.map(|otlp| Otlp::start(otlp, &paths.root, &core.facts, host_id, ids.next_u64()));
    let (uplink, spool) = Uplink::start(&settings, identity, &core.facts, &ledger, &mut ids)?;
    let keeper = Keeper::start(ledger, spool, state.join("recording"), told).context("cannot start a thread")?;
    info!(host = ?host_id.map(|id| id.to_string()), hostname, records = restored.records.len(), "starting");
    let mut snapshots = Snapshots::open(&state);
    if let Some(bytes) = before_upgrade(&restored, &core.facts.agent_version) {
        snapshots.keep(SnapshotWhy::Upgrade, bytes, now.wall_ms, &keeper);
    }
    let agent = Agent::new(core, restored, now);
    if !agent.relearning().is_empty() {
        set_learned_aside(&state, agent.relearning());
    }

    let sender = open_outbox(&settings, &state)?;
    let actuator = Actuator::at(paths.actuator_socket());
    let (probe_results, probed) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (unit_events, units) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (events, event_queue) = mpsc::channel(EVENTS_QUEUED_MAX);
    let (questions, asked) = mpsc::channel(16);
    tokio::spawn(systemd::follow(unit_events));
    tokio::spawn(notify::deliver(sender.clone()));
    if let Some(address) = settings.metrics {
        let listener = metrics::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(metrics::serve(listener, questions.clone(), Scraper::at(paths.root.clone())));
    }
    status::listen(&paths.status_socket(), questions);

    let sources = Sources {
        units,
        probed,
        kept,
        events: event_queue,
        asked,
        hang_up: signal(SignalKind::hangup())?,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        tick: Ticks::every(settings.sample_every)?,
    };
    let mut host = Host::at(&paths.root, settings.filesystems.clone());
    host.tell_each_cpu_up_to(settings.each_cpu_up_to);
    if settings.journal.follow {
        host.follow(follow_journal(&paths, &settings, now)?);
    }
    host.follow_containers(Containers::follow(&paths.root).context("cannot start a thread")?);
    host.follow_background(Backgrounds::follow(&paths.root).context("cannot start a thread")?);
    let connections = Connections::follow(&paths.root).context("cannot start a thread")?;
    let changes = settings.changes.watch.then(|| watch_changes(&paths, &settings, &events)).transpose()?;
    let told = changes::Told::new(agent.status().in_force.generation());
    let watch = Watch::new(&paths.etc, &paths.actuator_socket(), &state);
    let shell = Shell {
        agent,
        host,
        probes: Probes::new(probe_results, actuator.clone()),
        actuator,
        actuator_state: Err("not asked yet".to_owned()),
        sender,
        keeper,
        uplink,
        otlp,
        watch,
        sd,
        events,
        hostname,
        observe_only,
        state_note: None,
        in_hand: BTreeMap::new(),
        findings: BTreeMap::new(),
        said: Said::default(),
        snapshots,
        reading_records: 0,
        looks: Arc::new(Semaphore::new(top::LOOKS_MAX)),
        held: top::HeldLook::default(),
        told,
        connections,
        changes,
        causes: Causes::default(),
        counts: Counts::default(),
        last_tick: None,
        own: OwnUse::default(),
        until_sample: 0,
        started: Instant::now(),
        settled: 0,
        saved: Instant::now(),
        status_line: "starting".to_owned(),
        paths,
        settings,
    };
    Ok((shell, sources))
}

/// Two agents on one state folder would number their records twice.
fn keep_others_out(state: &Path) -> anyhow::Result<()> {
    let path = state.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another agent runs on {}", state.display());
    }
    // Held until the process ends.
    std::mem::forget(lock);
    Ok(())
}

/// Says that the agent stopped in order.
pub(super) fn stopped_file(state: &Path) -> PathBuf {
    state.join("stopped")
}

/// Whether the agent before stopped in order; holds for one start.
fn take_stopped(state: &Path) -> bool {
    std::fs::remove_file(stopped_file(state)).is_ok()
}

fn restored(stopped_cleanly: bool, paths: &Paths, state: &Path, ledger: &Ledger) -> anyhow::Result<Restored> {
    let read = |path: PathBuf| match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            error!(path = %path.display(), %error, "cannot be read and is left aside");
            None
        }
    };
    let records: Vec<Record> = ledger.replay().context("cannot read the ledger")?.into_iter().map(|r| r.1).collect();
    Ok(Restored {
        detectors: read(learned_file(state)),
        records,
        policy: read(policy_file(state)),
        local_policy: watch::local_policy(&paths.etc),
        hold_file: watch::is_held(&paths.etc),
        stopped_cleanly,
        begins_ledger: ledger.head().index == 0,
    })
}

/// What was learned, if another version of the agent wrote it last and this one goes on with it.
fn before_upgrade(restored: &Restored, version: &str) -> Option<Vec<u8>> {
    let last = restored.records.iter().rev().find_map(|record| match &record.body {
        Body::Started { version, .. } => Some(version),
        _ => None,
    })?;
    restored.detectors.clone().filter(|bytes| last != version && Detectors::check(bytes).is_ok())
}

/// Keeps what could not be used of the detectors' state for whoever wants to know why, under
/// another name: it is about to be written anew.
fn set_learned_aside(state: &Path, relearning: &[String]) {
    let (from, to) = (learned_file(state), state.join("learned.unreadable"));
    warn!(parts = ?relearning, kept = %to.display(), "what was learned cannot be used, learning anew");
    if let Err(error) = std::fs::rename(&from, &to) {
        warn!(%error, "cannot set it aside");
    }
}

fn core_settings(
    paths: &Paths,
    settings: &Settings,
    enrolled: Enrolled,
    ids_seed: u64,
    observe_only: Option<String>,
) -> agent::Settings {
    // Labels of this host's own file come before those of its token.
    let labels = if settings.labels.is_empty() { &enrolled.labels } else { &settings.labels };
    agent::Settings {
        ids_seed,
        host: enrolled.host,
        facts: facts::read(&paths.root, labels),
        detect: detect::Settings::default(),
        budget: settings.budget,
        operator_keys: enrolled.keys,
        fleet: enrolled.fleet,
        observe_only,
    }
}

/// Follows the journal on from where the agent before has left it.
fn follow_journal(paths: &Paths, settings: &Settings, now: Now) -> anyhow::Result<Journal> {
    let redaction = || Redaction::new(settings.journal.redact.clone());
    let path = log_file(&settings.state.dir);
    let digest = match std::fs::read(&path) {
        Ok(bytes) => Digest::restore(&bytes, redaction()).unwrap_or_else(|error| {
            warn!(path = %path.display(), %error, "what was learned of the log cannot be used, learning anew");
            Digest::new(redaction())
        }),
        Err(_) => Digest::new(redaction()),
    };
    let follower = Follower::new(&paths.root, digest, now.wall_ms);
    Journal::start(follower).context("cannot start a thread")
}

/// Looks what is changed on the host; what is found comes as an event.
fn watch_changes(paths: &Paths, settings: &Settings, events: &mpsc::Sender<Event>) -> anyhow::Result<Changes> {
    let looker = Looker::new(&paths.root, &changes_file(&settings.state.dir), &settings.changes.files);
    let events = events.clone();
    let tell = move |changes| {
        // The loop is gone: so is what this would be told for.
        let _ = events.blocking_send(Event::Changed(changes));
    };
    Changes::start(looker, tell).context("cannot start a thread")
}

fn open_outbox(settings: &Settings, state: &Path) -> anyhow::Result<Sender> {
    let folder = state.join("outbox");
    let outbox = Outbox::open(&folder).with_context(|| format!("cannot open {}", folder.display()))?;
    if outbox.damaged() > 0 {
        error!(messages = outbox.damaged(), "messages that could not be read are set aside as .bad");
    }
    Ok(Sender::new(outbox, settings.notify.clone()))
}
