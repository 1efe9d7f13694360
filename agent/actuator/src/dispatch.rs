//! From a request to its reply: who asks, was it done before, may it be done, do it, write down how it ended.
//!
//! Nothing acts before its beginning is durable in the journal, and no id acts twice. Root's file is read afresh for every
//! request, so that a change of it, or the hold file, holds at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_core::config::Problem;
use mainstay_core::verb::{ActionStatus, Detail, Pong, Refusal, RefusalReason, Reply, Request, Verb};

use crate::gate::{self, Peer};
use crate::journal::{Begin, Journal, request_hash};
use crate::load::{self, Ownership};
use crate::reclaim::{self, Context, Places};
use crate::settings::Settings;
use crate::units::UnitControl;
use crate::{clock, limits, log, probe, processes, scene, stacks};

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Root's file.
    pub config: PathBuf,
    /// When this is there, nothing acts.
    pub hold: PathBuf,
    /// The actuator's own folder.
    pub state: PathBuf,
    /// Root's definitions of probe commands.
    pub probes: PathBuf,
    /// The kernel's processes.
    pub proc: PathBuf,
    /// The kernel's control groups.
    pub cgroup: PathBuf,
    /// Who reads kernel stacks.
    pub stacks: PathBuf,
    /// Places whose contents can be made again.
    pub places: Places,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            config: load::CONFIG_PATH.into(),
            hold: "/etc/mainstay/hold".into(),
            state: "/var/lib/mainstay-actuator".into(),
            probes: "/etc/mainstay/probes.d".into(),
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            stacks: stacks::SOCKET.into(),
            places: Places::default(),
        }
    }
}

/// The actuator, without its socket.
pub struct Actuator {
    paths: Paths,
    ownership: Ownership,
    units: Box<dyn UnitControl>,
    /// Opened when it is first needed; tried again each time it could not be.
    journal: Mutex<Option<Journal>>,
    /// One reclaim, undo or purge at a time.
    reclaiming: Mutex<()>,
    serial: AtomicU64,
}

impl std::fmt::Debug for Actuator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actuator").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Actuator {
    /// An actuator over these paths and this systemd.
    pub fn new(paths: Paths, ownership: Ownership, units: Box<dyn UnitControl>) -> Self {
        let (journal, reclaiming, serial) = (Mutex::new(None), Mutex::new(()), AtomicU64::new(clock::now().boot_ns));
        Self { paths, ownership, units, journal, reclaiming, serial }
    }

    /// Root's file, as it is now.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn settings(&self) -> Result<Settings, Vec<Problem>> {
        load::load(&self.paths.config, self.ownership)
    }

    /// Answers one request.
    pub fn handle(&self, peer: Peer, request: &Request) -> Reply {
        let reply =
            gate::check_peer(peer, &request.verb).and_then(|()| self.answer(request)).unwrap_or_else(Reply::Refused);
        if request.verb.is_acting() || matches!(reply, Reply::Refused(_) | Reply::Failed(_)) {
            let decision = request.decision.map_or_else(|| "-".to_owned(), |id| id.to_string());
            let (action, verb) = (request.action, &request.verb);
            log::info(format_args!("action={action} decision={decision} verb=\"{verb}\" reply=\"{reply}\""));
        }
        reply
    }

    fn answer(&self, request: &Request) -> Result<Reply, Refusal> {
        match &request.verb {
            Verb::Ping => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Ok(Reply::Done(Detail::Pong(Pong { version, is_held: self.is_held() })))
            }
            Verb::Status { action } => {
                // A journal that cannot be read is no proof that nothing was begun.
                self.with_journal(|journal| Ok(journal.status(*action))).map(Reply::Status)
            }
            Verb::Scene { unit } => {
                let settings = self.checked(&request.verb)?;
                self.units.check(unit, &settings)?;
                let group = self.units.control_group(unit, request.invocation)?;
                // A unit whose processes are gone is seen to have none.
                let folder = group.and_then(|group| scene::folder(&self.paths.cgroup, &group));
                let ask = |pids: &[u32]| stacks::later(&self.paths.stacks, pids);
                let seen = folder.map(|folder| scene::take(&self.paths.proc, &folder, ask)).unwrap_or_default();
                Ok(Reply::Done(Detail::Scene(seen)))
            }
            Verb::Processes => Ok(Reply::Done(Detail::Processes(processes::look(&self.paths.proc)))),
            Verb::PurgeExpired => self.purge(),
            Verb::ProbeCommand { name } => {
                let settings = self.checked(&request.verb)?;
                let serial = self.serial.fetch_add(1, Ordering::Relaxed);
                Ok(probe::run(name, &self.paths.probes, self.ownership, &settings, serial))
            }
            _ => self.act(request),
        }
    }

    /// An acting verb: at most once under its id.
    fn act(&self, request: &Request) -> Result<Reply, Refusal> {
        let (action, verb) = (request.action, &request.verb);
        let hash =
            request_hash(action, verb).ok_or_else(|| refusal(RefusalReason::BadRequest, "request is too large"))?;
        // What was done before is told again, whatever holds now.
        if let Some(known) = self.with_journal(|journal| Ok(journal.known(action, hash)))? {
            return told_again(known, request);
        }
        if self.is_held() {
            return Err(refusal(RefusalReason::Held, format!("{} is there", self.paths.hold.display())));
        }
        let settings = self.checked(verb)?;
        if let Some(unit) = verb.unit() {
            self.units.check(unit, &settings)?;
        }
        let _reclaiming = self.reclaim_turn(verb)?;
        self.begin(request, hash, &settings)?.map_or_else(
            || {
                let reply = self.carry_out(request, &settings);
                if let Err(refused) = self.with_journal(|journal| journal.end(action, &reply)) {
                    log::error(format_args!("action={action} cannot journal the outcome: {}", refused.text));
                }
                Ok(reply)
            },
            |known| told_again(known, request),
        )
    }

    /// Journals the beginning, if the limits allow one more; what is known instead, if something is.
    fn begin(&self, request: &Request, hash: [u8; 32], settings: &Settings) -> Result<Option<Begin>, Refusal> {
        let (name, now) = (request.verb.name(), clock::now());
        let per_hour = settings.per_hour.get(name).copied().unwrap_or(0);
        let mut guard = self.journal()?;
        let Some(journal) = guard.as_mut() else {
            return Err(refusal(RefusalReason::JournalUnavailable, "no journal"));
        };
        // Under one lock, so that two requests cannot both be the last that is allowed.
        limits::check(name, journal.begun(name), per_hour, now)?;
        match journal.begin(request.action, hash, name, now) {
            Ok(Begin::Go) => Ok(None),
            Ok(known) => Ok(Some(known)),
            Err(error) => Err(refusal(RefusalReason::JournalUnavailable, format!("cannot write the journal: {error}"))),
        }
    }

    fn carry_out(&self, request: &Request, settings: &Settings) -> Reply {
        match &request.verb {
            Verb::DiskReclaim(plan) => {
                self.with_context(|context| reclaim::engine::run(plan, request.action, settings, context))
            }
            Verb::Undo { action } => self.with_context(|context| reclaim::restore::undo(*action, settings, context)),
            _ => self.units.run(request, settings),
        }
    }

    fn purge(&self) -> Result<Reply, Refusal> {
        let _turn = self.reclaim_turn(&Verb::PurgeExpired)?;
        // Even a broken file of root's must not keep what has expired: only the declared undo folder is missed then.
        let settings = self.settings().or_else(|problems| {
            log::warn(format_args!("purge goes on without actuator.toml: {}", shown(&problems)));
            Settings::read(&mainstay_core::config::Document::empty("actuator.toml"))
        });
        let settings = settings.map_err(bad_config)?;
        Ok(self.with_context(|context| reclaim::purge::purge(&settings, context)))
    }

    fn checked(&self, verb: &Verb) -> Result<Settings, Refusal> {
        let settings = self.settings().map_err(bad_config)?;
        gate::check(&settings, verb)?;
        Ok(settings)
    }

    fn reclaim_turn(&self, verb: &Verb) -> Result<Option<MutexGuard<'_, ()>>, Refusal> {
        if !matches!(verb, Verb::DiskReclaim(_) | Verb::Undo { .. } | Verb::PurgeExpired) {
            return Ok(None);
        }
        let busy = || refusal(RefusalReason::Busy, "another reclaim, undo or purge is being carried out");
        self.reclaiming.try_lock().map(Some).map_err(|_| busy())
    }

    fn with_context<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let owner = match self.ownership {
            Ownership::Root => 0,
            Ownership::AnyOwner => rustix::process::geteuid().as_raw(),
        };
        let (places, state_dir, hold_file) = (&self.paths.places, &self.paths.state, &self.paths.hold);
        work(&Context { places, state_dir, hold_file, owner, wall_ms: clock::wall_ms() })
    }

    fn is_held(&self) -> bool {
        // A folder that cannot be looked into holds, too.
        self.paths.hold.try_exists().unwrap_or(true)
    }

    fn journal(&self) -> Result<MutexGuard<'_, Option<Journal>>, Refusal> {
        let mut guard = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let path = self.paths.state.join("journal");
            let unavailable =
                |error| refusal(RefusalReason::JournalUnavailable, format!("cannot open {}: {error}", path.display()));
            *guard = Some(Journal::open(&path).map_err(unavailable)?);
        }
        Ok(guard)
    }

    fn with_journal<T>(&self, work: impl FnOnce(&mut Journal) -> std::io::Result<T>) -> Result<T, Refusal> {
        let mut guard = self.journal()?;
        let Some(journal) = guard.as_mut() else {
            return Err(refusal(RefusalReason::JournalUnavailable, "no journal"));
        };
        work(journal)
            .map_err(|error| refusal(RefusalReason::JournalUnavailable, format!("cannot write the journal: {error}")))
    }
}

/// The answer to a request whose id is known.
fn told_again(known: Begin, request: &Request) -> Result<Reply, Refusal> {
    let action = request.action;
    match known {
        Begin::Ended(reply) => Ok(reply),
        Begin::Running => Ok(Reply::Status(ActionStatus::Running)),
        Begin::Interrupted => {
            let text = format!("{action} was begun by an actuator that died; what it did is not known");
            Err(refusal(RefusalReason::Interrupted, text))
        }
        Begin::IdReused => Err(refusal(RefusalReason::IdReused, format!("{action} was used for another request"))),
        // `known` never says so, and `begin` does not hand it on.
        Begin::Go => Err(refusal(RefusalReason::BadRequest, "nothing is known of it")),
    }
}

fn bad_config(problems: Vec<Problem>) -> Refusal {
    refusal(RefusalReason::BadConfig, shown(&problems))
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn refusal(reason: RefusalReason, text: impl Into<String>) -> Refusal {
    Refusal { reason, text: text.into() }
}
