//! A host for the tests of the uplink: enrolled, with a ledger and a spool in a folder of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_agent::enrol::{Existing, enrol};
use mainstay_agent::identity::Identity;
use mainstay_agent::ledger::{Ledger, LedgerSettings};
use mainstay_agent::spool::{SpoolHandle, SpoolSettings};
use mainstay_agent::uplink::{self, Inbound, Sources, UplinkHandle, UplinkSettings};
use mainstay_core::change::{Change, ChangeKind};
use mainstay_core::finding::{Finding, FindingKind, FindingState, Severity};
use mainstay_core::id::{ActionId, BootId, DecisionId, Epoch, FindingId};
use mainstay_core::record::{Body, Record};
use mainstay_core::recording::{FindingRecording, Recording};
use mainstay_core::sample::HostFacts;
use mainstay_core::scene::{Scene, SceneLine, UnitScene};
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::subject::Subject;
use mainstay_core::time::Now;
use mainstay_proto::convert::encode_record;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::fake::Fake;

pub(crate) fn clock() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (ns, ms) = (u64::try_from(since.as_nanos()).unwrap(), i64::try_from(since.as_millis()).unwrap());
    Now { boot_ns: ns, wall_ms: ms }
}

pub(crate) fn facts() -> HostFacts {
    HostFacts { hostname: "web-1".to_owned(), agent_version: "0.1.0".to_owned(), ..HostFacts::default() }
}

pub(crate) struct Host {
    pub(crate) state: TempDir,
    pub(crate) identity: Identity,
    pub(crate) ledger: Ledger,
    pub(crate) spool: SpoolHandle,
}

impl Host {
    /// A host that was enrolled at the collector.
    pub(crate) async fn enrolled(fake: &Fake) -> Self {
        let state = tempfile::tempdir().unwrap();
        let identity = enrol(&fake.token(), &facts(), b"machine", state.path(), Existing::Keep).await.unwrap();
        let root = state.path().join("ledger");
        let ledger = Ledger::open(&LedgerSettings { root, host: identity.host, bytes_max: 64 << 20 }).unwrap();
        let spool = SpoolSettings {
            root: state.path().join("spool"),
            host: identity.host,
            bytes_max: 64 << 20,
            new_epoch: Epoch(0xe),
            countersigned: 0,
        };
        let spool = SpoolHandle::open(spool, clock()).unwrap();
        Self { state, identity, ledger, spool }
    }

    /// Starts the uplink.
    pub(crate) fn connect(&self) -> (UplinkHandle, mpsc::Receiver<Inbound>) {
        let settings = UplinkSettings {
            identity: self.identity.clone(),
            state: self.state.path().to_owned(),
            address: None,
            facts: facts(),
            seed: 7,
            clock,
        };
        let sources = Sources { spool: self.spool.clone(), ledger: self.ledger.reader(), heads: self.ledger.heads() };
        let (tell, told) = mpsc::channel(64);
        (uplink::spawn(settings, sources, tell), told)
    }

    pub(crate) fn summary(&self, value: f64) {
        let key = SeriesKey::new("node_load1", &[]).into();
        let gauge = Point::Gauge { last: value, min: value, max: value, mean: value };
        let summary = Summary { at: clock(), window_ms: 10_000, samples: 10, points: vec![(key, gauge)] };
        self.spool.push_summary(summary, clock()).unwrap();
    }

    pub(crate) fn finding(&self, id: u64) {
        let finding = Finding {
            id: FindingId(id),
            kind: FindingKind::ServiceFailed,
            subject: Subject::Unit("nginx.service".parse().unwrap()),
            severity: Severity::Critical,
            confidence: 1.0,
            state: FindingState::Open,
            opened: clock(),
            changed: clock(),
            evidence: Vec::new(),
            effect_of: None,
        };
        self.spool.push_finding(&finding, clock()).unwrap();
    }

    /// The seconds around a finding.
    pub(crate) fn recording(&self, finding: u64) {
        let recording = Recording { at: vec![clock()], ..Recording::default() };
        let kept = FindingRecording { finding: FindingId(finding), opened_ms: 5, recording };
        self.spool.push_recording(&kept, clock()).unwrap();
    }

    /// What was seen before an action.
    pub(crate) fn scene(&self, action: u64) {
        let line = SceneLine { text: "cannot go on".to_owned(), ..SceneLine::default() };
        let scene = Scene {
            action: ActionId(action),
            decision: DecisionId(1),
            unit: "nginx.service".parse().unwrap(),
            at: clock(),
            elapsed_ms: 12,
            lines: vec![line],
            processes: UnitScene::default(),
            notes: Vec::new(),
        };
        self.spool.push_scene(&scene, clock()).unwrap();
    }

    pub(crate) fn change(&self, path: &str) {
        let change = Change::new(ChangeKind::FileChanged, path, clock().wall_ms, clock().wall_ms);
        self.spool.push_change(&change, clock()).unwrap();
    }

    pub(crate) fn record(&mut self, version: &str) {
        let body = Body::Started { boot: BootId([1; 16]), version: version.to_owned() };
        let head = self.ledger.append(&[encode_record(&Record { at: clock(), body })]).unwrap();
        self.spool.refer(head.index, clock()).unwrap();
    }
}

/// The next thing told that is wanted; everything else is passed over.
pub(crate) async fn told<T>(
    inbound: &mut mpsc::Receiver<Inbound>,
    what: &str,
    wanted: impl Fn(Inbound) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            if let Some(found) = wanted(inbound.recv().await.expect("the uplink ended")) {
                return found;
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), wait).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
