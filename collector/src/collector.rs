//! The collector as a value: started from settings, running until it is stopped.
//!
//! `run` and the tests start it the same way. Nothing is bound before the store and the CA are open,
//! and nothing is left running when [`Collector::stop`] returns.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::backup;
use crate::clock;
use crate::config::{Settings, hostname};
use crate::enrol::authority::{Authority, AuthorityError};
use crate::hub::Hub;
use crate::ingest::{incidents, join, silent};
use crate::listen::{Tls, serve_admin, serve_tls};
use crate::notify;
use crate::remote::send;
use crate::store::{Store, StoreError};
use crate::{ages, scrub, survey, web};

/// How often old data is removed.
const RETAIN_EVERY: Duration = Duration::from_secs(3_600);
/// Between two turns of reading who had which series; each reads a day at most.
const TEND_EVERY: Duration = Duration::from_secs(10);
/// How often the server certificate is made anew: well within its life.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(86_400);
/// Longest that sessions and requests may take to end.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Why the collector cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A backup was not restored to its end.
    #[error("{path} holds half of a backup: restore it again with `mainstay-collector restore`, or empty the folder")]
    HalfRestored {
        /// The data folder.
        path: PathBuf,
    },
    /// The store.
    #[error("cannot open the store")]
    Store(#[source] StoreError),
    /// What the store begins with is not what was written.
    #[error(
        "{path} is damaged: {text}. Look after its disk; then put the newest good backup in its place (`mainstay backup \
         verify`, `mainstay backup restore`), or keep what can be read of it (`mainstay-collector repair`)"
    )]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What RocksDB says, with the file.
        text: String,
    },
    /// The CA.
    #[error("cannot open the CA")]
    Authority(#[from] AuthorityError),
    /// A port or the socket.
    #[error("cannot listen on {at}")]
    Listen {
        /// Where.
        at: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    /// What it knows.
    pub hub: Arc<Hub>,
    /// Where agents and operators connect.
    pub address: SocketAddr,
    /// Where `/metrics` is.
    pub http: SocketAddr,
    tls: Tls,
    serving: Vec<JoinHandle<()>>,
    tickers: Vec<JoinHandle<()>>,
}

impl StartError {
    /// Why a store cannot be used.
    fn of_store(path: &Path, error: StoreError) -> Self {
        match error {
            // RocksDB does not always say which of its files it is that names all others.
            StoreError::Damaged(text) if !text.contains(".sst") && !text.contains("MANIFEST-") => {
                let current = std::fs::read_to_string(path.join("CURRENT")).unwrap_or_default();
                Self::Damaged { path: path.to_owned(), text: format!("{text} ({})", current.trim()) }
            }
            StoreError::Damaged(text) => Self::Damaged { path: path.to_owned(), text },
            error => Self::Store(error),
        }
    }
}

impl Collector {
    /// Opens everything and starts to listen.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let data = settings.data.clone();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
        made.map_err(|source| StartError::Folder { path: data.clone(), source })?;
        if data.join(backup::restore::MARK).exists() {
            return Err(StartError::HalfRestored { path: data });
        }
        // Tables that it names would keep their room on the disk.
        let _ = std::fs::remove_dir_all(data.join(backup::create::CHECKPOINT));
        let authority = Authority::open_or_make(&data.join("ca"), clock::wall_ms())?;
        let db = data.join("db");
        let failed = |error| StartError::of_store(&db, error);
        let store = Store::open(&db, settings.cache_bytes, settings.min_free).map_err(failed)?;
        let listener = bind(settings.listen).await?;
        let http_listener = bind(settings.http).await?;
        let (address, http) = (local(&listener)?, local(&http_listener)?);
        let config = authority.server_config(&names(&settings), clock::wall_ms())?;
        let tls: Tls = Arc::new(RwLock::new(Arc::new(config)));
        let hub = Hub::start(store, authority, Arc::new(settings), address).await.map_err(failed)?;
        // Before the first row comes: what is late has to be told from the beginning.
        hub.store.arrived.follow(hub.settings().remote_write.iter().map(|to| to.name.clone()).collect());
        let admin = hub.settings().admin_socket.clone();
        let listen = |source| StartError::Listen { at: admin.display().to_string(), source };
        let serving = vec![
            serve_admin(hub.clone(), &admin).map_err(listen)?,
            serve_tls(hub.clone(), listener, tls.clone()),
            web::serve(hub.clone(), http_listener),
        ];
        let tickers = vec![
            tokio::spawn(notify::send_notices(hub.clone())),
            tokio::spawn(notify::beat(hub.clone())),
            tokio::spawn(send::to_all(hub.clone())),
            tokio::spawn(watch_silence(hub.clone())),
            tokio::spawn(incidents::keep(hub.clone())),
            tokio::spawn(retain(hub.clone())),
            tokio::spawn(survey::watch(hub.clone())),
            tokio::spawn(scrub::watch(hub.clone())),
            tokio::spawn(join_hours(hub.clone())),
            tokio::spawn(tend(hub.clone())),
            tokio::spawn(renew_certificate(hub.clone(), tls.clone())),
        ];
        tracing::info!(%address, %http, hosts = hub.state().hosts.len(), "the collector is ready");
        Ok(Self { hub, address, http, tls, serving, tickers })
    }

    /// Takes other settings: names, limits, notices and retention at once; what is bound stays.
    ///
    /// # Errors
    /// If a name cannot stand in a certificate; the old settings stay in force.
    pub fn reload(&self, settings: Settings) -> Result<(), AuthorityError> {
        let config = self.hub.authority.server_config(&names(&settings), clock::wall_ms())?;
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.hub.store.room().reserve(settings.min_free);
        self.hub.set_settings(Arc::new(settings));
        Ok(())
    }

    /// Ends sessions with a word, lets requests finish, and closes the store.
    pub async fn stop(self) {
        let Self { hub, serving, tickers, .. } = self;
        hub.ending.send_replace(true);
        for ticker in tickers {
            ticker.abort();
            let _ = ticker.await;
        }
        for mut task in serving {
            if tokio::time::timeout(STOP_MAX, &mut task).await.is_err() {
                task.abort();
            }
        }
        let socket = hub.settings().admin_socket.clone();
        let _ = std::fs::remove_file(socket);
        // Sessions hold the hub for a moment longer than their streams.
        let deadline = tokio::time::Instant::now() + STOP_MAX;
        while Arc::strong_count(&hub) > 1 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if Arc::strong_count(&hub) > 1 {
            tracing::warn!("something still uses the store; it is closed when that ends");
        }
        let _ = tokio::task::spawn_blocking(move || drop(hub)).await;
    }
}

/// The names of the server certificate: what is configured, and what the machine is called.
fn names(settings: &Settings) -> Vec<String> {
    let mut names = settings.names.clone();
    names.extend(
        settings
            .address
            .as_ref()
            .and_then(|address| address.rsplit_once(':'))
            .map(|(host, _)| host.trim_matches(['[', ']']).to_owned()),
    );
    names.push(hostname());
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

async fn bind(at: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(at).await.map_err(|source| StartError::Listen { at: at.to_string(), source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { at: "a bound port".to_owned(), source })
}

async fn watch_silence(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(silent::LOOK_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = silent::look(&hub).await {
            tracing::warn!(%error, "silent hosts could not be stored");
        }
        hub.state().correlator.forget_old(clock::wall_ms());
    }
}

async fn retain(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(RETAIN_EVERY);
    loop {
        ticks.tick().await;
        let hosts: Vec<_> = hub.state().hosts.keys().copied().collect();
        let now_ms = clock::wall_ms();
        // After a start all are to come back first, and bring what is missing.
        if now_ms.saturating_sub(hub.started_ms) >= join::LEFT_MS {
            match join::seal_left(&hub, now_ms).await {
                Ok(0) => {}
                Ok(hosts) => tracing::info!(hosts, "what hosts have left open is sealed"),
                Err(error) => tracing::warn!(%error, "what hosts have left open could not be sealed"),
            }
        }
        if let Err(error) = join::look_at_oldest(&hub).await {
            tracing::warn!(%error, "it cannot be seen which of the oldest hours are not rolled up");
        }
        let ages = ages::of(&hub);
        if let Err(error) = hub.sources.forget_old(&hub.store, ages.longest(), clock::wall_ms()).await {
            tracing::warn!(%error, "sources that have ended could not be forgotten");
        }
        match hub.store.retain(&hosts, ages.clone(), clock::wall_ms()).await {
            Ok(gone) => tracing::info!(gone, "old data removed"),
            Err(error) => tracing::error!(%error, "old data could not be removed"),
        }
        let numbers: Vec<u32> = {
            let hosts = hub.state().hosts.values().map(|host| host.row.short).collect::<Vec<_>>();
            hosts.into_iter().chain(hub.sources.all().iter().map(|source| source.short)).collect()
        };
        let of = hub.clone();
        match tokio::task::spawn_blocking(move || of.store.thin(&numbers, &ages, clock::wall_ms())).await {
            Ok(Ok(0)) => {}
            Ok(Ok(ranges)) => tracing::info!(ranges, "series of hosts that are kept for a shorter time removed"),
            Ok(Err(error)) => {
                tracing::error!(%error, "series of hosts that are kept for a shorter time could not be removed")
            }
            Err(error) => tracing::error!(%error, "removing old series broke off"),
        }
    }
}

async fn join_hours(hub: Arc<Hub>) {
    if let Err(error) = join::look_through(&hub).await {
        tracing::warn!(%error, "it cannot be seen which hours are still in slots");
    }
    let mut turns = tokio::time::interval(join::EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = join::turn(&hub).await {
            tracing::warn!(%error, "the slots of an hour could not be joined");
        }
    }
}

async fn tend(hub: Arc<Hub>) {
    let mut turns = tokio::time::interval(TEND_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let of = hub.clone();
        match tokio::task::spawn_blocking(move || of.store.tend()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "it cannot be seen who had which series"),
            Err(error) => tracing::error!(%error, "seeing who had which series broke off"),
        }
    }
}

async fn renew_certificate(hub: Arc<Hub>, tls: Tls) {
    loop {
        tokio::time::sleep(CERTIFICATE_EVERY).await;
        match hub.authority.server_config(&names(&hub.settings()), clock::wall_ms()) {
            Ok(config) => *tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config),
            Err(error) => tracing::error!(%error, "the server certificate could not be made anew"),
        }
    }
}
