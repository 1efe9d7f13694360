//! A collector set back to a backup, and an agent (spool, ledger and uplink are the real ones) that has gone on meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use mainstay_agent::enrol::{Existing, enrol};
use mainstay_agent::identity::Identity;
use mainstay_agent::ledger::{Ledger, LedgerSettings};
use mainstay_agent::spool::{SpoolHandle, SpoolSettings};
use mainstay_agent::uplink::{self, Inbound, OutMessage, PolicyStanding, Sources, UplinkHandle, UplinkSettings};
use mainstay_collector::clock::now;
use mainstay_collector::collector::Collector;
use mainstay_collector::store::keys::{FindingByTimeKey, FindingKey, LedgerKey, TokenKey};
use mainstay_collector::store::piece::Piece;
use mainstay_core::decision::PolicyRef;
use mainstay_core::finding::{Finding, FindingKind, FindingState, Severity};
use mainstay_core::id::{BootId, DecisionId, Epoch, FindingId};
use mainstay_core::policy::bundle::{Bundle, bundle_hash};
use mainstay_core::record::{Body, Record};
use mainstay_core::sample::HostFacts;
use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::subject::Subject;
use mainstay_core::time::Now;
use mainstay_core::token::Token;
use mainstay_proto::convert::encode_record;
use mainstay_proto::v1;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::backup::{create, restored};
use crate::world::{SOON, World, local, until};

/// A host with all that an agent keeps.
struct Host {
    state: TempDir,
    identity: Identity,
    ledger: Ledger,
    spool: SpoolHandle,
    /// When it began: not long ago, so that retention leaves it alone.
    begin_ms: i64,
    /// The moments of its summaries.
    summaries: Vec<i64>,
}

fn facts() -> HostFacts {
    HostFacts { hostname: "web-1".to_owned(), agent_version: "0.1.0".to_owned(), ..HostFacts::default() }
}

fn spool(state: &Path, identity: &Identity, epoch: u64, countersigned: u64) -> SpoolHandle {
    let root = state.join(format!("spool-{epoch}"));
    let (host, new_epoch) = (identity.host, Epoch(epoch));
    SpoolHandle::open(SpoolSettings { root, host, bytes_max: 64 << 20, new_epoch, countersigned }, now()).unwrap()
}

impl Host {
    async fn enrolled(world: &World) -> Self {
        let state = tempfile::tempdir().unwrap();
        let made = world.token(2, 600_000).await;
        let ca_fingerprint = made.ca_fingerprint.try_into().unwrap();
        let (address, secret) = (made.address, made.secret);
        let token = Token { address, ca_fingerprint, secret, policy_keys: None, labels: Vec::new() };
        let identity = enrol(&token, &facts(), b"machine", state.path(), Existing::Keep).await.unwrap();
        let settings = LedgerSettings { root: state.path().join("ledger"), host: identity.host, bytes_max: 64 << 20 };
        let ledger = Ledger::open(&settings).unwrap();
        let spool = spool(state.path(), &identity, 7, 0);
        Self { state, identity, ledger, spool, begin_ms: now().wall_ms - 600_000, summaries: Vec::new() }
    }

    /// Starts the uplink to whoever listens at an address.
    fn connect(&self, address: String) -> (UplinkHandle, mpsc::Receiver<Inbound>) {
        let settings = UplinkSettings {
            identity: self.identity.clone(),
            state: self.state.path().to_owned(),
            address: Some(address),
            facts: facts(),
            seed: 7,
            clock: now,
        };
        let sources = Sources { spool: self.spool.clone(), ledger: self.ledger.reader(), heads: self.ledger.heads() };
        let (tell, told) = mpsc::channel(1_024);
        (uplink::spawn(settings, sources, tell), told)
    }

    /// A second of its life: a record, a summary, a finding.
    fn live(&mut self, n: u64) {
        let body = Body::Started { boot: BootId([1; 16]), version: format!("0.{n}") };
        let head = self.ledger.append(&[encode_record(&Record { at: now(), body })]).unwrap();
        self.spool.refer(head.index, now()).unwrap();
        let wall_ms = self.begin_ms + i64::try_from(n).unwrap() * 10_000;
        let gauge = Point::Gauge { last: 1.0, min: 1.0, max: 1.0, mean: 1.0 };
        let points = vec![(SeriesKey::new("node_load1", &[]).into(), gauge)];
        let summary = Summary { at: Now { wall_ms, ..now() }, window_ms: 10_000, samples: 10, points };
        self.spool.push_summary(summary, now()).unwrap();
        self.summaries.push(wall_ms);
        let finding = Finding {
            id: FindingId(n),
            kind: FindingKind::ServiceFailed,
            subject: Subject::Unit(format!("app-{n}.service").parse().unwrap()),
            severity: Severity::Critical,
            confidence: 1.0,
            state: FindingState::Open,
            opened: now(),
            changed: now(),
            evidence: Vec::new(),
            effect_of: None,
        };
        self.spool.push_finding(&finding, now()).unwrap();
    }

    /// Waits until a collector has all of it, as the agent heard.
    async fn acknowledged(&self) {
        until("the acknowledgement of everything", || async {
            let status = self.spool.status();
            (status.acked.0 + 1 == status.next.0).then_some(())
        })
        .await;
    }

    /// Sees that a collector has all records, summaries and findings, each once.
    fn is_whole_at(&self, collector: &Collector) {
        let (store, host) = (&collector.hub.store, self.identity.host);
        let prefix = LedgerKey::of(host);
        let stored = store.scan_values::<LedgerKey, v1::LedgerEntry>(&prefix).map(|entry| entry.unwrap());
        let records: Vec<u64> = stored.map(|(key, _)| key.index).collect();
        assert_eq!(records, (1..=self.ledger.head().index).collect::<Vec<_>>());
        let mark = collector.hub.state().hosts[&host].mark.clone();
        assert_eq!(mark.ledger.as_ref().map(|head| head.index), Some(self.ledger.head().index));
        assert_eq!(mark.ledger.map(|head| head.hash), Some(self.ledger.head().hash.to_vec()));
        assert_eq!((mark.doubts, mark.lost), (Vec::new(), 0));
        let mut times = BTreeMap::<i64, u32>::new();
        let count = |piece: &mut Piece<'_, '_>| {
            piece.times.iter().for_each(|at| *times.entry(*at).or_default() += 1);
            Ok(())
        };
        let short = collector.hub.state().hosts[&host].row.short;
        store.view().reader().host(short, None, (0, i64::MAX / 2), &mut { count }).unwrap();
        assert_eq!(times, self.summaries.iter().map(|at| (*at, 1)).collect::<BTreeMap<_, _>>());
        let findings = |prefix: &[u8]| store.scan::<FindingKey>(prefix, prefix).count();
        let by_time = store.scan::<FindingByTimeKey>(&FindingByTimeKey::all(), &FindingByTimeKey::all()).count();
        assert_eq!((findings(&FindingKey::of(host)), by_time), (self.summaries.len(), self.summaries.len()));
    }
}

/// The next thing told that is wanted.
async fn told<T>(inbound: &mut mpsc::Receiver<Inbound>, wanted: impl Fn(Inbound) -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = wanted(inbound.recv().await.expect("the uplink goes on")) {
                return found;
            }
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it is told")
}

/// Asks for a lease; whether it was granted, and what was said.
async fn lease(uplink: &UplinkHandle, inbound: &mut mpsc::Receiver<Inbound>) -> (bool, String) {
    let subject = Subject::Unit("app.service".parse().unwrap());
    uplink.send(OutMessage::Lease { decision: DecisionId(1), kind: FindingKind::ServiceFailed, subject, share: 0.1 });
    told(inbound, |said| if let Inbound::Lease { granted, text, .. } = said { Some((granted, text)) } else { None })
        .await
}

async fn policy(collector: &Path, generation: u64, fleet_id: [u8; 16]) -> Result<v1::Signed, tonic::Status> {
    let bundle = Bundle { fleet_id, generation, prev_hash: [0; 32], not_after_ms: i64::MAX / 2, files: Vec::new() };
    let signed = bundle.sign(&SigningKey::from_bytes(&[7; 32]));
    let signed =
        v1::Signed { bytes: signed.bytes, key_id: signed.key_id.0.to_vec(), signature: signed.signature.to_vec() };
    let request = v1::PushPolicyRequest { policy: Some(signed.clone()) };
    local(collector).await.push_policy(request).await.map(|_| signed)
}

fn socket(folder: &Path) -> std::path::PathBuf {
    folder.join("admin.sock")
}

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_back_to_a_backup_it_gets_everything_again_once_and_nothing_goes_backwards() {
    let mut world = World::start().await;
    let mut host = Host::enrolled(&world).await;
    let fleet = world.collector.as_ref().unwrap().hub.fleet_id;
    let (uplink, mut inbound) = host.connect(world.address());
    (1..=5).for_each(|n| host.live(n));
    host.acknowledged().await;
    policy(&socket(world.folder.path()), 3, fleet).await.unwrap();
    let backup = create(&world).await;

    // What the backup does not know.
    (6..=12).for_each(|n| host.live(n));
    host.acknowledged().await;
    let newest = policy(&socket(world.folder.path()), 4, fleet).await.unwrap();
    assert_eq!(lease(&uplink, &mut inbound).await, (true, String::new()));
    host.is_whole_at(world.collector.as_ref().unwrap());
    uplink.stop("stopping", GRACE, GRACE).await;
    world.collector.take().unwrap().stop().await;
    (13..=15).for_each(|n| host.live(n));

    let folder = tempfile::tempdir().unwrap();
    let again = Collector::start(restored(&backup, folder.path()).await.unwrap()).await.unwrap();
    let mark = again.hub.state().hosts[&host.identity.host].mark.clone();
    assert_eq!(mark.ledger.map(|head| head.index), Some(5), "it is as old as its backup");
    let (uplink, mut inbound) = host.connect(again.address.to_string());
    let hash = bundle_hash(&newest.bytes);
    let effective = PolicyRef { generation: 4, hash };
    uplink.send(OutMessage::Policy(PolicyStanding { effective, confirmed: true, ..PolicyStanding::default() }));
    told(&mut inbound, |said| matches!(said, Inbound::Connected { .. }).then_some(())).await;
    host.acknowledged().await;
    host.is_whole_at(&again);
    until("what the host says of its policy", || async {
        let state = again.hub.state();
        let said = state.hosts[&host.identity.host].mark.policy.as_ref().and_then(|said| said.effective.clone());
        said.filter(|effective| effective.generation == 4)
    })
    .await;
    uplink.stop("stopping", GRACE, GRACE).await;
    let (uplink, mut inbound) = host.connect(again.address.to_string());
    told(&mut inbound, |said| matches!(said, Inbound::Connected { .. }).then_some(())).await;

    // Leases that were granted and are forgotten count until nobody can act on one.
    let (granted, text) = lease(&uplink, &mut inbound).await;
    assert!(!granted && text.contains("set back to a backup"), "{text}");
    // A generation that hosts have seen is not given a second time.
    let floor = again.hub.restored.as_ref().unwrap().generation;
    assert!(floor >= 1_003, "{floor}");
    let refused = policy(&socket(folder.path()), 4, fleet).await.unwrap_err();
    assert!(
        refused.message().contains("got 4, have 3") && refused.message().contains("set back"),
        "{}",
        refused.message()
    );
    let next = policy(&socket(folder.path()), floor + 1, fleet).await.unwrap();
    let offered =
        told(&mut inbound, |said| if let Inbound::PolicyOffer(offer) = said { Some(offer) } else { None }).await;
    assert_eq!(offered.bytes, next.bytes, "the older one of the backup was not offered");
    // A token that was used up or revoked since would let another host in.
    assert_eq!(again.hub.store.scan::<TokenKey>(&TokenKey::all(), &TokenKey::all()).count(), 0);
    uplink.stop("stopping", GRACE, GRACE).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_again_from_the_ledger_where_the_spool_has_lost_them() {
    let mut world = World::start().await;
    let mut host = Host::enrolled(&world).await;
    let (uplink, _inbound) = host.connect(world.address());
    (1..=4).for_each(|n| host.live(n));
    host.acknowledged().await;
    let backup = create(&world).await;
    (5..=9).for_each(|n| host.live(n));
    host.acknowledged().await;
    uplink.stop("stopping", GRACE, GRACE).await;
    world.collector.take().unwrap().stop().await;
    // The spool is lost with all that was acknowledged; the ledger is not.
    host.spool = spool(host.state.path(), &host.identity, 8, 9);
    host.live(10);
    host.summaries.drain(4..9);

    let folder = tempfile::tempdir().unwrap();
    let again = Collector::start(restored(&backup, folder.path()).await.unwrap()).await.unwrap();
    let (uplink, _inbound) = host.connect(again.address.to_string());
    host.acknowledged().await;
    host.is_whole_at(&again);
    uplink.stop("stopping", GRACE, GRACE).await;
    again.stop().await;
}
