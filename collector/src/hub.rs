//! The hub: what the collector knows at this moment, shared by sessions, services and tickers.
//!
//! The store is the truth; what stands here is read from it at the start and changed only after a
//! batch is durable. The lock is held for moments, never while waiting. What one host's stream
//! changes is ordered by that host's own lock, held from reading its marks until they are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_core::time::Now;
use mainstay_fleet::correlate::Correlator;
use mainstay_fleet::lease::{LeaseLimits, Leases};
use mainstay_fleet::silence::{Heard, Presence, SilenceSettings, presence};
use mainstay_promql::Label;
use mainstay_proto::v1;
use tokio::sync::{Notify, mpsc, watch};

use crate::backup::book::Book;
use crate::clock;
use crate::config::{Settings, hostname};
use crate::enrol::authority::Authority;
use crate::ingest::admission::Admission;
use crate::ingest::incidents::{self, Due};
use crate::ingest::session::Letter;
use crate::ingest::summary::Stored;
use crate::ingest::turns::PushTurns;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::query::Turns;
use crate::query::roster::Rosters;
use crate::remote::send::AllCounts;
use crate::remote::sources::Sources;
use crate::scrub::Scrubs;
use crate::services::ask::Asked;
use crate::services::policy::depends;
use crate::store::keys::{CounterKey, FindingKey, HostKey, LeaseKey, MarkKey, PolicyKey};
use crate::store::values::{HostRow, MarkRow, PolicyRow, RestoredRow};
use crate::store::{Batch, Store, StoreError};

/// An action that is not proved for this long no longer counts as healing.
const HEALING_MS_MAX: i64 = 900_000;

/// A live session.
#[derive(Debug, Clone)]
pub struct Live {
    /// Tells sessions of one host apart.
    pub id: u64,
    /// What is sent to the agent besides answers.
    pub sender: mpsc::Sender<Letter>,
    /// The boot that the agent named.
    pub boot: Vec<u8>,
    /// What the agent said that it can do beyond version 1.
    pub capabilities: BTreeSet<String>,
    /// When it was opened.
    pub opened_ms: i64,
    /// Tells the session to end, and why.
    pub end: Arc<watch::Sender<Option<v1::Reject>>>,
}

/// One host, as it is known now.
#[derive(Debug, Clone, Default)]
pub struct HostState {
    /// What was stored at enrolment, with its latest facts.
    pub row: HostRow,
    /// How far its stream is stored.
    pub mark: MarkRow,
    /// Its session, if it has one.
    pub live: Option<Live>,
    /// Its open findings.
    pub findings: BTreeMap<u64, v1::Finding>,
    /// Decisions that act and are not proved yet, with their times.
    pub healing: BTreeMap<u64, i64>,
    /// What of its last summary was stored.
    pub series: Stored,
    /// The slot that its rows have come to in this run, and when the first of them came, whatever the session.
    pub slot: Option<(u32, i64)>,
    /// When anything was heard of it, the unstored pings too.
    pub heard_ms: i64,
    /// Two machines have used this identity at once; when that was last seen.
    pub contested_ms: Option<i64>,
    /// Orders what its stream changes.
    pub lock: Arc<tokio::sync::Mutex<()>>,
    /// What [`Self::query_labels`] made of the row.
    pub told: OnceLock<Arc<[Label]>>,
}

impl HostState {
    /// Its name, or its id's beginning where it has none.
    #[must_use]
    pub fn hostname(&self) -> &str {
        self.row.facts.as_ref().map_or("", |facts| &facts.hostname)
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.row.facts.iter().flat_map(|facts| &facts.labels);
        labels.map(|l| (l.name.clone(), l.value.clone())).collect()
    }

    /// Its labels, and its name as `host`, as all its series have them in queries: made once, for there are many queries
    /// and ten thousand hosts.
    #[must_use]
    pub fn query_labels(&self) -> Arc<[Label]> {
        let make = || {
            let labels = self.labels().into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value)));
            labels.chain([(Arc::from("host"), Arc::from(self.hostname()))]).collect()
        };
        self.told.get_or_init(make).clone()
    }

    /// Takes another row.
    pub fn set_row(&mut self, row: HostRow) {
        self.row = row;
        self.told = OnceLock::new();
    }

    /// Whether it may connect.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.row.revoked_ms != 0
    }

    /// Whether it is there, away, unknown or silent.
    #[must_use]
    pub fn presence(&self, settings: SilenceSettings, now_ms: i64) -> Presence {
        let last = self.heard_ms.max(self.mark.last_seen_ms);
        let heard = Heard {
            last_ms: (last > 0).then_some(last),
            back_by_ms: (self.mark.back_by_ms > 0).then_some(self.mark.back_by_ms),
            connected: self.live.is_some(),
        };
        presence(heard, settings, now_ms)
    }

    /// Whether an action of it is on its way.
    #[must_use]
    pub fn is_healing(&self, now_ms: i64) -> bool {
        self.healing.values().any(|at| now_ms.saturating_sub(*at) < HEALING_MS_MAX)
    }
}

/// What changes.
#[derive(Debug)]
pub struct State {
    /// Every host that was enrolled.
    pub hosts: BTreeMap<HostId, HostState>,
    /// Groups findings.
    pub correlator: Correlator,
    /// What of the incidents is not written yet.
    pub due: Due,
    /// Who may act now.
    pub leases: Leases,
    /// The newest policy.
    pub policy: Option<PolicyRow>,
    /// Lets sessions in at a rate.
    pub admission: Admission,
    /// The next session's number.
    pub next_session: u64,
    /// Who waits for the answer to an order, by its id.
    pub waiting: BTreeMap<u64, mpsc::Sender<v1::CommandResult>>,
    /// Questions that hosts were asked and have not answered, by their ids.
    pub asked: BTreeMap<u64, Asked>,
}

/// Everything that is shared.
#[derive(Debug)]
pub struct Hub {
    /// The store.
    pub store: Store,
    /// The CA.
    pub authority: Authority,
    /// Names the fleet in policies.
    pub fleet_id: [u8; 16],
    /// Since when this collector listens.
    pub started_ms: i64,
    /// Counters.
    pub metrics: Metrics,
    /// Which hosts have which labels, for questions.
    pub(crate) rosters: Rosters,
    /// Turns of questions about series.
    pub turns: Turns,
    /// Turns of pushes.
    pub push_turns: PushTurns,
    /// Told when something of the incidents is to be written.
    pub incidents_due: Notify,
    /// Orders the writes of incidents.
    pub writing_incidents: tokio::sync::Mutex<()>,
    /// Orders enrolments, so that a token's uses are taken one by one.
    pub enrolling: tokio::sync::Mutex<()>,
    /// Orders changes of the policy.
    pub pushing: tokio::sync::Mutex<()>,
    /// What was handed on over remote write, by target.
    pub remote_counts: AllCounts,
    /// Who brings series over remote write.
    pub sources: Sources,
    /// What is known of backups.
    pub backups: Book,
    /// When the store was read through for damage.
    pub scrubs: Scrubs,
    /// What goes on in the background.
    pub jobs: Jobs,
    /// Held while a backup is made or read.
    pub backing_up: Arc<tokio::sync::Mutex<()>>,
    /// The backup that the store was last set back to.
    pub restored: Option<RestoredRow>,
    /// Told when there is something to tell people outside.
    pub notices_due: Notify,
    /// Where agents and operators connect.
    pub bound: SocketAddr,
    /// Sessions that were admitted and have not ended.
    pub sessions_open: AtomicUsize,
    /// Turns true when the collector ends.
    pub ending: watch::Sender<bool>,
    settings: RwLock<Arc<Settings>>,
    state: Mutex<State>,
}

impl Hub {
    /// Reads what the store knows.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn start(
        store: Store,
        authority: Authority,
        settings: Arc<Settings>,
        bound: SocketAddr,
    ) -> Result<Arc<Self>, StoreError> {
        let fleet_id = fleet_id(&store).await?;
        let restored = store.restored()?;
        if let Some(RestoredRow { name, made_ms, restored_ms, .. }) = &restored {
            tracing::info!(name, made_ms, restored_ms, "the store was set back to a backup");
        }
        let mut hosts = BTreeMap::new();
        for item in store.scan_values::<HostKey, HostRow>(&HostKey::all()) {
            let (key, row) = item?;
            let mark: MarkRow = store.get(&MarkKey { host: key.host })?.unwrap_or_default();
            let state = HostState { row, heard_ms: mark.last_seen_ms, mark, ..HostState::default() };
            hosts.insert(key.host, state);
        }
        for item in store.scan_values::<FindingKey, v1::Finding>(&FindingKey::all()) {
            let (key, finding) = item?;
            if let Some(host) = hosts.get_mut(&key.host).filter(|_| finding.state == "open") {
                host.findings.insert(finding.id, finding);
            }
        }
        let policy = store.scan_back::<PolicyKey>(&PolicyKey::all()).next().transpose()?;
        let policy =
            policy.map(|(key, value)| crate::store::decode(&crate::store::Key::encode(&key), &value)).transpose()?;
        let mut correlator = Correlator::new(crate::random::number(), depends(policy.as_ref()));
        let due = incidents::restore(&store, &mut correlator, &hosts)?;
        let state = State {
            hosts,
            correlator,
            due,
            leases: leases(&store, restored.as_ref())?,
            policy,
            admission: Admission::new(settings.sessions_per_second, clock::now()),
            next_session: 1,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        let sources = Sources::restored(&store)?;
        let backups = Book::restored(&store, &settings.backups)?;
        let scrubs = Scrubs::restored(&store)?;
        let hub = Self {
            store,
            authority,
            fleet_id,
            started_ms: clock::wall_ms(),
            metrics: Metrics::default(),
            rosters: Rosters::default(),
            turns: Turns::default(),
            push_turns: PushTurns::default(),
            incidents_due: Notify::new(),
            writing_incidents: tokio::sync::Mutex::default(),
            enrolling: tokio::sync::Mutex::default(),
            pushing: tokio::sync::Mutex::default(),
            remote_counts: AllCounts::default(),
            sources,
            backups,
            scrubs,
            jobs: Jobs::default(),
            backing_up: Arc::default(),
            restored,
            notices_due: Notify::new(),
            bound,
            sessions_open: AtomicUsize::new(0),
            ending: watch::Sender::new(false),
            settings: RwLock::new(settings),
            state: Mutex::new(state),
        };
        hub.incidents_due.notify_one();
        Ok(Arc::new(hub))
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes other settings. What is bound stays bound.
    pub fn set_settings(&self, settings: Arc<Settings>) {
        self.state().admission.set_rate(settings.sessions_per_second);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Where agents are told to connect: what is configured, else where the operator who asks came in, else what the
    /// collector listens on or what the machine is called.
    #[must_use]
    pub fn address(&self, reached: Option<SocketAddr>) -> String {
        if let Some(address) = &self.settings().address {
            return address.clone();
        }
        let usable = |address: &SocketAddr| !address.ip().is_unspecified();
        match reached.into_iter().chain([self.bound]).find(usable) {
            Some(address) => SocketAddr::new(address.ip().to_canonical(), address.port()).to_string(),
            None => format!("{}:{}", hostname(), self.bound.port()),
        }
    }

    /// What changes, locked. Never held over an await: the guard is not `Send`.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How silence is judged now.
    #[must_use]
    pub fn silence(&self) -> SilenceSettings {
        let after = self.settings().silent_after;
        SilenceSettings {
            after_ms: i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            listening_since_ms: self.started_ms,
        }
    }

    /// Sends something to a host if it is connected; says whether it was taken.
    pub fn send(&self, host: HostId, of: v1::collector_message::Of) -> bool {
        let sender = self.state().hosts.get(&host).and_then(|h| h.live.as_ref()).map(|live| live.sender.clone());
        sender.is_some_and(|sender| sender.try_send(Box::new(v1::CollectorMessage { of: Some(of) })).is_ok())
    }

    /// Every host that has a session.
    #[must_use]
    pub fn connected(&self) -> BTreeSet<HostId> {
        self.state().hosts.iter().filter(|(_, h)| h.live.is_some()).map(|(id, _)| *id).collect()
    }
}

/// The grants that still count. Those of another boot of this machine count from now; those that a backup does not know
/// count until a window has passed since it was restored.
fn leases(store: &Store, restored: Option<&RestoredRow>) -> Result<Leases, StoreError> {
    let now = clock::now();
    let window = LeaseLimits::default().window;
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    let mut grants = Vec::new();
    for item in store.scan_values::<LeaseKey, v1::Now>(&LeaseKey::all()) {
        let (key, at) = item?;
        let recent = now.wall_ms.saturating_sub(at.wall_ms) < window_ms;
        if let Ok(kind) = key.kind.parse()
            && recent
        {
            grants.push((kind, key.host, Now { boot_ns: at.boot_ns, wall_ms: at.wall_ms }));
        }
    }
    let leases = Leases::restored(grants, now);
    Ok(match restored.map(|row| now.wall_ms.saturating_sub(row.restored_ms).max(0)) {
        // By a clock that was set back since, it is the longer wait.
        Some(since_ms) if since_ms < window_ms => {
            leases.closed_for(window - Duration::from_millis(since_ms.unsigned_abs()), now)
        }
        _ => leases,
    })
}

async fn fleet_id(store: &Store) -> Result<[u8; 16], StoreError> {
    let key = CounterKey { name: "fleet_id".to_owned() };
    if let Some(bytes) = store.get_raw(&key)?
        && let Ok(id) = bytes.try_into()
    {
        return Ok(id);
    }
    let id = uuid::Uuid::now_v7().into_bytes();
    let mut batch = Batch::default();
    batch.put_raw(&key, id.to_vec());
    store.commit(batch).await?;
    Ok(id)
}
