//! The loop: everything that happens becomes an input of the core, and what the core wants done is
//! carried out.
//!
//! One thread and one closed list of events ([`Event`]). Nothing in here waits: what may take long
//! has a thread or a task of its own and comes back as an event. The tick does not drift, and a
//! unit that died is handed to the core when the signal comes, not at the next tick.

mod asked;
mod changes;
mod effects;
mod enrolment;
mod exposition;
mod learned;
mod logs;
mod restore;
mod status;
mod ticks;
mod top;
mod uplink;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mainstay_core::agent::{Agent, Input, OrderId, StepStatus};
use mainstay_core::budget::Reading;
use mainstay_core::change::Change;
use mainstay_core::finding::Finding;
use mainstay_core::host_query::{ConnectionsQuery, HostReply, RecordReply, TopQuery};
use mainstay_core::id::{ActionId, FindingId};
use mainstay_core::processes::Held;
use mainstay_core::record::{Ended, Outcome};
use mainstay_core::scene::Scene;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::actuate::{self, Actuator};
use crate::config::{Files, Settings};
use crate::host::changes::Changes;
use crate::host::connections::Connections;
use crate::host::journal::Journal;
use crate::host::own::{self, OwnUse};
use crate::host::probes::{Probed, Probes};
use crate::host::sd_notify::SdNotify;
use crate::host::systemd::{self, UnitsEvent};
use crate::host::{Host, clock};
use crate::keeper::{Keeper, Kept};
use crate::log::Causes;
use crate::metrics::{self, Asked, Own};
use crate::notify::{self, Sender};
use crate::otlp::Otlp;

pub use enrolment::enrol;
use learned::Snapshots;
use status::Said;
use ticks::Ticks;
use uplink::Uplink;
use watch::Watch;

/// How long a step in hand may take to end when the agent is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// When, after the start, what only the start needed is given back: while everything is read, connected and told for the
/// first time, so that what one part of that needed is gone before the next, and when that is over.
const SETTLES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];

/// Events that wait for the loop before their makers wait.
const EVENTS_QUEUED_MAX: usize = 1_024;

/// Where everything is. [`Paths::default`] on an installed host.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What is read of the host lies below it.
    pub root: PathBuf,
    /// Settings, root's local policy, the hold file.
    pub etc: PathBuf,
    /// Sockets.
    pub run: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { root: "/".into(), etc: "/etc/mainstay".into(), run: "/run/mainstay".into() }
    }
}

impl Paths {
    /// The files of the settings.
    #[must_use]
    pub fn settings(&self) -> Files {
        Files::below(&self.etc)
    }

    /// Where `mainstay-agent status` asks.
    #[must_use]
    pub fn status_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    fn actuator_socket(&self) -> PathBuf {
        self.run.join(Path::new(actuate::SOCKET).file_name().unwrap_or_default())
    }
}

/// What a task of the shell tells the loop.
#[derive(Debug)]
enum Event {
    StepDone { action: ActionId, outcome: Outcome },
    StepStatus { action: ActionId, status: StepStatus },
    UndoDone { action: ActionId, outcome: Outcome },
    Actuator(Result<(), String>),
    SnapshotRead { id: OrderId, read: Result<(i64, Vec<u8>), String> },
    Recorded { id: u64, reply: Result<RecordReply, String> },
    Scene(Box<Scene>),
    Changed(Vec<Change>),
    Answered { id: u64, reply: Result<Box<HostReply>, String> },
    Held(Result<Vec<Held>, String>),
}

/// What the loop listens to besides its tasks.
struct Sources {
    units: Receiver<UnitsEvent>,
    probed: Receiver<Probed>,
    kept: UnboundedReceiver<Kept>,
    events: Receiver<Event>,
    asked: Receiver<Asked>,
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
    tick: Ticks,
}

/// What the loop counts for `/metrics`.
#[derive(Debug, Default)]
struct Counts {
    samples: u64,
    ticks_late: u64,
    sample_seconds: f64,
    bus_lost: u64,
    actions: BTreeMap<(&'static str, Ended), u64>,
    reload_failed: bool,
    reloaded_ms: i64,
}

struct Shell {
    paths: Paths,
    settings: Settings,
    agent: Agent,
    host: Host,
    probes: Probes,
    actuator: Actuator,
    actuator_state: Result<(), String>,
    sender: Sender,
    keeper: Keeper,
    uplink: Uplink,
    /// Where metrics are sent, if they are.
    otlp: Option<Otlp>,
    watch: Watch,
    sd: SdNotify,
    events: mpsc::Sender<Event>,
    hostname: String,
    observe_only: Option<String>,
    state_note: Option<String>,
    /// Steps that were handed over and have not come back.
    in_hand: BTreeMap<ActionId, &'static str>,
    findings: BTreeMap<FindingId, Finding>,
    said: Said,
    snapshots: Snapshots,
    /// Questions for the recording that the keeper is answering.
    reading_records: usize,
    /// Looks at all processes that may still be made at this moment.
    looks: Arc<Semaphore>,
    held: top::HeldLook,
    told: changes::Told,
    connections: Connections,
    /// The thread that looks for changes, where it is wanted.
    changes: Option<Changes>,
    causes: Causes,
    counts: Counts,
    last_tick: Option<Instant>,
    own: OwnUse,
    /// Ticks until the next sample.
    until_sample: u32,
    /// When it started, and how often since what only that needed was given back ([`SETTLES`]).
    started: Instant,
    settled: usize,
    saved: Instant,
    status_line: String,
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped,
    /// The host was enrolled: everything begins anew under its identity.
    Enrolled,
}

/// Runs the agent until it is told to stop, or has to begin anew.
///
/// # Errors
/// Where it cannot start at all: settings, state folder, ledger.
pub async fn run(paths: Paths, settings: Settings) -> anyhow::Result<Ending> {
    let sd = SdNotify::from_env();
    let (mut shell, mut sources) = restore::start(paths, settings, sd).await?;
    shell.drain();
    let ending = shell.run(&mut sources).await;
    shell.stop(&mut sources, ending).await;
    Ok(ending)
}

impl Shell {
    async fn run(&mut self, sources: &mut Sources) -> Ending {
        let mut ready = false;
        loop {
            let wakeup = self.until_wakeup();
            tokio::select! {
                biased;
                Some(event) = sources.units.recv() => self.units(event),
                Some(kept) = sources.kept.recv() => self.kept(kept),
                Some(event) = sources.events.recv() => self.event(event),
                inbound = self.uplink.recv() => self.inbound(inbound),
                _ = sources.terminate.recv() => return Ending::Stopped,
                _ = sources.interrupt.recv() => return Ending::Stopped,
                _ = sources.hang_up.recv() => self.reload(sources),
                () = sources.tick.next() => {
                    self.tick();
                    if self.watch.was_enrolled() {
                        info!("the host was enrolled");
                        return Ending::Enrolled;
                    }
                    if !ready {
                        ready = true;
                        self.tell_status();
                        self.sd.ready(&self.status_line);
                    }
                }
                Some((name, probe)) = sources.probed.recv() => self.probed(name, probe),
                () = sleep(wakeup.unwrap_or_default()), if wakeup.is_some() => self.feed(Input::Tick),
                Some(asked) = sources.asked.recv() => self.answer(asked),
            }
        }
    }

    /// Hands one thing that happened to the core and carries out what follows.
    fn feed(&mut self, input: Input) {
        self.agent.handle(input, clock::now());
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.agent.poll_effect() {
            self.carry_out(effect);
        }
    }

    /// How long until the core wants to be woken, if it does before the next input.
    fn until_wakeup(&self) -> Option<Duration> {
        let at_ns = self.agent.next_wakeup()?;
        Some(Duration::from_nanos(at_ns.saturating_sub(clock::now().boot_ns)))
    }

    fn tick(&mut self) {
        let begun = Instant::now();
        if let Some(last) = self.last_tick.replace(begun)
            && begun - last >= self.settings.sample_every * 2
        {
            self.counts.ticks_late += 1;
        }
        self.sd.alive(begun);
        if SETTLES.get(self.settled).is_some_and(|after| begun.duration_since(self.started) >= *after) {
            self.settled += 1;
            own::settle();
        }
        self.look_around();
        let used = self.own.read();
        self.feed(Input::Used(used));
        self.until_sample = self.until_sample.saturating_sub(1);
        if self.until_sample == 0 {
            self.until_sample = self.host.reading().ticks(self.settings.sample_every);
            let sampling = Instant::now();
            let sample = self.host.sample_into(self.agent.spare().unwrap_or_default(), clock::now());
            self.note_errors();
            self.counts.samples += 1;
            self.counts.sample_seconds = sampling.elapsed().as_secs_f64();
            self.look_for_held(&sample);
            if let Some(otlp) = &mut self.otlp {
                otlp.sampled(&sample);
            }
            self.feed(Input::Sample(sample));
        }
        self.changed_by_now();
        if self.saved.elapsed() >= self.settings.state.save_every {
            self.save();
        }
        if let Some(bytes) = self.host.journal().and_then(Journal::saved) {
            self.keeper.file(restore::log_file(&self.settings.state.dir), bytes);
        }
    }

    /// Reads this much of the host from now on: the agent took too much of it, or takes less again.
    fn read_only(&mut self, reading: Reading) {
        if reading.depth > self.host.reading().depth {
            warn!(step = reading.depth.steps(), over = ?self.agent.budget().over(), "over budget: reading less of the host");
            own::give_back();
        } else if reading.depth < self.host.reading().depth {
            info!(step = reading.depth.steps(), "room in the budget: reading more of the host");
        }
        self.connections.set_resting(!reading.looks_around());
        if let Some(changes) = &mut self.changes {
            changes.set_resting(!reading.looks_around());
        }
        self.host.read_only(reading);
    }

    /// What root may have changed: hold file, local rules, the actuator's socket.
    fn look_around(&mut self) {
        if let Some(held) = self.watch.hold_file_changed() {
            self.feed(Input::HoldFile(held));
        }
        if !self.watch.may_have_changed() {
            return;
        }
        if let Some(files) = self.watch.local_policy_changed() {
            info!(files = files.len(), "local rules changed");
            self.feed(Input::LocalPolicyChanged(files));
        }
        match self.watch.actuator_changed() {
            Some(true) => self.ping_actuator(),
            Some(false) => self.actuator_is(Err("its socket is not there".to_owned())),
            None => {}
        }
    }

    fn ping_actuator(&self) {
        let (actuator, events) = (self.actuator.clone(), self.events.clone());
        tokio::spawn(async move {
            let _ = events.send(Event::Actuator(actuator.ping().await)).await;
        });
    }

    fn actuator_is(&mut self, state: Result<(), String>) {
        if self.actuator_state != state {
            match &state {
                Ok(()) => info!("actuator can be reached"),
                Err(why) => warn!(error = why, "actuator cannot be reached: every action is held"),
            }
        }
        let available = state.is_ok();
        if available != self.actuator_state.is_ok() || self.counts.samples == 0 {
            self.actuator_state = state;
            self.feed(Input::ActuatorAvailable(available));
        } else {
            self.actuator_state = state;
        }
    }

    fn units(&mut self, event: UnitsEvent) {
        match &event {
            UnitsEvent::Loaded(units) => {
                info!(units = units.len(), "following systemd");
                self.causes.end("dbus");
            }
            UnitsEvent::Lost(why) => {
                self.counts.bus_lost += 1;
                self.causes.begin("dbus", why);
            }
            UnitsEvent::LeftOut(units) => {
                warn!(units, followed = systemd::UNITS_MAX, "too many units: these are not followed");
            }
            UnitsEvent::Changed(..) | UnitsEvent::Removed(_) => {}
        }
        self.changed_units(&event);
        if let Some((name, unit)) = self.host.units_changed(event) {
            self.feed(Input::UnitChanged { name, unit: unit.map(Box::new) });
        }
    }

    fn kept(&mut self, kept: Kept) {
        self.feed(match kept {
            Kept::Persisted(token) => Input::Persisted { token },
            Kept::Failed(token, text) => {
                error!(error = text, "record cannot be made durable");
                Input::PersistFailed { token, text }
            }
        });
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::StepDone { action, outcome } => {
                let kind = self.in_hand.remove(&action).unwrap_or("other");
                info!(%action, kind, ended = ?outcome.ended, elapsed_ms = outcome.elapsed_ms, outcome = outcome.text, "step ended");
                *self.counts.actions.entry((kind, outcome.ended)).or_default() += 1;
                if outcome.ended != Ended::Done && kind != "notify" {
                    self.ping_actuator();
                }
                self.acted(action);
                self.feed(Input::StepDone { action, outcome });
            }
            Event::StepStatus { action, status } => {
                if !matches!(status, StepStatus::Running) {
                    self.acted(action);
                }
                self.feed(Input::StepStatus { action, status });
            }
            Event::UndoDone { action, outcome } => {
                info!(%action, ended = ?outcome.ended, outcome = outcome.text, "undo ended");
                self.feed(Input::UndoDone { action, outcome });
            }
            Event::Actuator(state) => self.actuator_is(state),
            Event::SnapshotRead { id, read } => self.feed(Input::SnapshotRead { id, read }),
            Event::Recorded { id, reply } => self.recorded(id, reply),
            Event::Scene(scene) => {
                let (action, unit, elapsed_ms) = (scene.action, &scene.unit, scene.elapsed_ms);
                info!(%action, %unit, elapsed_ms, notes = ?scene.notes, "scene taken");
                self.keeper.scene(scene);
            }
            Event::Changed(changes) => self.changed(changes),
            Event::Answered { id, reply } => self.uplink.reply(id, reply.map(|reply| *reply)),
            Event::Held(holders) => self.held_found(holders),
        }
    }

    fn probed(&mut self, name: String, probe: mainstay_core::sample::Probe) {
        // The result of a probe that was stopped meanwhile is dropped.
        if self.probes.runs(&name) {
            self.host.probed(name, probe);
        }
    }

    /// Says once what cannot be read, and once that it can be again.
    fn note_errors(&mut self) {
        let (host, causes) = (&self.host, &mut self.causes);
        let stuck = host.stuck_mounts();
        for (path, text) in host.errors().iter() {
            causes.begin(path, text);
        }
        if stuck > 0 {
            causes.begin("mounts", &format!("{stuck} do not answer; their usage is unknown"));
        }
        let failing: Vec<&str> = host.errors().iter().map(|(path, _)| path).collect();
        causes.end_all_but(|what| what == "dbus" || (what == "mounts" && stuck > 0) || failing.contains(&what));
    }

    fn answer(&mut self, asked: Asked) {
        // Whoever asked may have gone away.
        match asked {
            Asked::Metrics(answer) => {
                let own = Own { text: self.exposition(), filesystems: self.settings.filesystems.clone() };
                let _ = answer.send(own);
            }
            Asked::Ready(answer) => {
                let _ = answer.send(self.readiness());
            }
            Asked::Status(answer) => {
                let _ = answer.send(Ok(self.report()));
            }
            Asked::Models(glob, answer) => {
                let _ = answer.send(Ok(self.models_page(glob)));
            }
            Asked::Connections(query, answer) => {
                let reply = self.connections.reply(&query, clock::now());
                let _ = answer.send(reply.map(|reply| reply.page()));
            }
            Asked::Top(query, answer) => {
                let look = self.top(query);
                tokio::spawn(async move {
                    let _ = answer.send(look.await.map(|reply| reply.page()));
                });
            }
        }
    }

    /// Reads the settings again. A mistake changes nothing, and is said.
    fn reload(&mut self, sources: &mut Sources) {
        self.sd.reloading(clock::now().boot_ns);
        self.counts.reloaded_ms = clock::now().wall_ms;
        match crate::config::load(&self.paths.settings()) {
            Ok(new) => {
                self.counts.reload_failed = false;
                let later = self.settings.needing_restart(&new);
                if !later.is_empty() {
                    warn!(tables = later.join(", "), "these settings count from the next start on");
                }
                self.host.set_filesystems(new.filesystems.clone());
                self.host.tell_each_cpu_up_to(new.each_cpu_up_to);
                self.sender.set_targets(new.notify.clone());
                if new.sample_every != self.settings.sample_every {
                    match Ticks::every(new.sample_every) {
                        Ok(ticks) => sources.tick = ticks,
                        Err(error) => error!(%error, "no timer: samples are taken as often as before"),
                    }
                }
                self.feed(Input::BudgetChanged(new.budget));
                // What needs a restart stays as it is, so that a later reload names it again.
                self.settings.budget = new.budget;
                self.settings.filesystems = new.filesystems;
                self.settings.notify = new.notify;
                self.settings.sample_every = new.sample_every;
                self.settings.each_cpu_up_to = new.each_cpu_up_to;
                info!("settings are in force");
                self.state_note = None;
            }
            Err(problems) => {
                self.counts.reload_failed = true;
                for problem in &problems {
                    error!(problem = %problem, "settings refused");
                }
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                self.state_note = Some(format!("old settings in force, {} mistakes: {first}", problems.len()));
            }
        }
        self.tell_status();
        self.sd.ready(&self.status_line);
    }

    /// Tells systemd how things stand, in one line.
    fn tell_status(&mut self) {
        self.status_line = self.status_text();
        self.sd.status(&self.status_line);
    }

    /// Waits for the steps in hand, within bounds, and leaves everything durable.
    async fn stop(&mut self, sources: &mut Sources, ending: Ending) {
        match ending {
            Ending::Stopped => self.sd.stopping(),
            Ending::Enrolled => self.sd.reloading(clock::now().boot_ns),
        }
        info!(steps = self.in_hand.len(), "stopping");
        let settled = async {
            while !self.agent.is_settled() {
                tokio::select! {
                    Some(kept) = sources.kept.recv() => self.kept(kept),
                    Some(event) = sources.events.recv() => self.event(event),
                    else => return,
                }
            }
        };
        if tokio::time::timeout(STOP_GRACE, settled).await.is_err() {
            warn!(
                steps = self.in_hand.len(),
                "steps in hand are left to the actuator; their outcome is asked for at the next start"
            );
        }
        self.uplink.bye().await;
        self.save();
        if let Some(tail) = self.agent.recorder().0.tail() {
            self.keeper.chunk(tail);
        }
        if let Some(bytes) = self.host.leave_journal() {
            self.keeper.file(restore::log_file(&self.settings.state.dir), bytes);
        }
        self.keeper.file(restore::stopped_file(&self.settings.state.dir), Vec::new());
        self.keeper.flush().await;
        info!("stopped");
    }
}

/// Shows what the running agent says of itself: `mainstay-agent status`.
///
/// # Errors
/// Where no agent answers.
pub async fn ask_status(paths: &Paths) -> anyhow::Result<String> {
    status::ask(&paths.status_socket(), "").await
}

/// Shows what the running agent says of itself on `/metrics`, with its units and probes.
///
/// # Errors
/// Where no agent answers.
pub async fn ask_metrics(paths: &Paths) -> anyhow::Result<String> {
    status::ask(&paths.status_socket(), status::METRICS).await
}

/// Shows which processes and units use most, and who holds deleted files: `mainstay-agent top`.
///
/// # Errors
/// Where no agent answers.
pub async fn ask_top(paths: &Paths, query: &TopQuery) -> anyhow::Result<String> {
    status::ask(&paths.status_socket(), &status::top_question(query)).await
}

/// Shows who listens, and who talks to whom and how slowly: `mainstay-agent connections`.
///
/// # Errors
/// Where no agent answers.
pub async fn ask_connections(paths: &Paths, query: &ConnectionsQuery) -> anyhow::Result<String> {
    status::ask(&paths.status_socket(), &status::connections_question(query)).await
}

/// Shows what the running agent has learned, of the metrics, mount points and units that a glob
/// matches: `mainstay-agent models`.
///
/// # Errors
/// Where no agent answers.
pub async fn ask_models(paths: &Paths, glob: &str) -> anyhow::Result<String> {
    status::ask(&paths.status_socket(), &format!("{} {glob}", status::MODELS)).await
}
