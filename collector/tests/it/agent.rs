//! An agent that is played: it says what the test wants, and keeps a ledger of its own.

use mainstay_core::id::HostId;
use mainstay_core::ledger::Head;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::agent_service_client::AgentServiceClient;
use mainstay_proto::v1::collector_message::Of as Hear;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::world::{Papers, SOON, channel};

pub(crate) const EPOCH: u64 = 77;

/// One session.
pub(crate) struct Agent {
    out: mpsc::Sender<v1::AgentMessage>,
    heard: Streaming<v1::CollectorMessage>,
}

pub(crate) fn hello(hostname: &str) -> v1::Hello {
    v1::Hello {
        version_min: 1,
        version_max: 1,
        facts: Some(v1::HostFacts { hostname: hostname.to_owned(), boot: vec![1; 16], ..Default::default() }),
        epoch: EPOCH,
        wall_ms: mainstay_collector::clock::wall_ms(),
        ..Default::default()
    }
}

impl Agent {
    /// Connects and says nothing yet.
    pub(crate) async fn connect(address: &str, papers: &Papers) -> Result<Self, tonic::Status> {
        let channel = channel(address, &papers.ca, Some(papers)).await;
        let channel = channel.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let (out, said) = mpsc::channel(64);
        let mut client = AgentServiceClient::new(channel).max_encoding_message_size(usize::MAX);
        let heard = client.session(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { out, heard })
    }

    /// Connects and says Hello.
    pub(crate) async fn open(address: &str, papers: &Papers, hello: v1::Hello) -> (Self, v1::Welcome) {
        Self::try_open(address, papers, hello).await.unwrap_or_else(|why| panic!("Welcome was expected, not {why:?}"))
    }

    /// Connects and says Hello; what is heard instead of Welcome.
    pub(crate) async fn try_open(
        address: &str,
        papers: &Papers,
        hello: v1::Hello,
    ) -> Result<(Self, v1::Welcome), Option<Hear>> {
        let mut agent = Self::connect(address, papers).await.map_err(|_| None)?;
        agent.say(Say::Hello(hello)).await;
        match agent.hear().await {
            Some(Hear::Welcome(welcome)) => Ok((agent, welcome)),
            other => Err(other),
        }
    }

    pub(crate) async fn say(&self, of: Say) {
        let _ = self.out.send(v1::AgentMessage { of: Some(of) }).await;
    }

    /// The next message; `None` when the session has ended.
    pub(crate) async fn hear(&mut self) -> Option<Hear> {
        let heard = tokio::time::timeout(SOON, self.heard.message()).await.expect("the collector says something");
        heard.ok().flatten().and_then(|message| message.of)
    }

    pub(crate) async fn push(&mut self, items: Vec<v1::Item>) -> Option<Hear> {
        self.push_defined(Vec::new(), items).await
    }

    async fn push_defined(&mut self, define: Vec<v1::SeriesDef>, items: Vec<v1::Item>) -> Option<Hear> {
        self.say(Say::Push(v1::Push { epoch: EPOCH, define, items, ..Default::default() })).await;
        self.hear().await
    }

    /// Pushes, and expects to be acknowledged.
    pub(crate) async fn acked(&mut self, items: Vec<v1::Item>) -> v1::Ack {
        self.acked_defined(Vec::new(), items).await
    }

    /// Pushes what first defines its series, and expects to be acknowledged.
    pub(crate) async fn acked_defined(&mut self, define: Vec<v1::SeriesDef>, items: Vec<v1::Item>) -> v1::Ack {
        let mut heard = self.push_defined(define, items).await;
        while let Some(Hear::Pong(_)) = heard {
            heard = self.hear().await; // it takes a while, and the collector is there
        }
        match heard {
            Some(Hear::Ack(ack)) => ack,
            other => panic!("Ack was expected, not {other:?}"),
        }
    }

    /// The refusal that comes next.
    pub(crate) async fn rejected(&mut self) -> v1::Reject {
        match self.hear().await {
            Some(Hear::Reject(reject)) => reject,
            other => panic!("Reject was expected, not {other:?}"),
        }
    }
}

pub(crate) fn item(seq: u64, of: v1::item::Of) -> v1::Item {
    v1::Item { seq, of: Some(of) }
}

pub(crate) fn at(wall_ms: i64) -> Option<v1::Now> {
    Some(v1::Now { boot_ns: 1, wall_ms })
}

pub(crate) fn unit(name: &str) -> Option<v1::Subject> {
    Some(v1::Subject { of: Some(v1::subject::Of::Unit(name.to_owned())) })
}

pub(crate) fn finding(id: u64, name: &str, state: &str, wall_ms: i64) -> v1::Finding {
    v1::Finding {
        id,
        kind: "service.failed".to_owned(),
        subject: unit(name),
        severity: "critical".to_owned(),
        confidence: 1.0,
        state: state.to_owned(),
        opened: at(wall_ms),
        changed: at(wall_ms),
        evidence: vec![v1::Evidence { text: "killed by SIGKILL".to_owned(), measure: None }],
        effect_of: None,
    }
}

/// A ledger as an agent keeps it.
pub(crate) struct Book {
    pub(crate) head: Head,
}

impl Book {
    pub(crate) fn new(host: [u8; 16]) -> Self {
        Self { head: Head::genesis(HostId(host)) }
    }

    pub(crate) fn add(&mut self, wall_ms: i64, body: v1::record::Body) -> v1::item::Of {
        self.bytes(v1::Record { at: at(wall_ms), body: Some(body) }.encode_to_vec())
    }

    /// A record of any bytes.
    pub(crate) fn bytes(&mut self, record: Vec<u8>) -> v1::item::Of {
        self.head = self.head.after(&record);
        v1::item::Of::Ledger(v1::LedgerEntry { index: self.head.index, record, hash: self.head.hash.to_vec() })
    }
}

/// The records of a repair that helped: decided, intent, outcome, verified.
pub(crate) fn repair(book: &mut Book, decision: u64, finding: u64, wall_ms: i64) -> Vec<v1::item::Of> {
    use v1::record::{Body, Intent, StepOutcome, Verified};
    let action = decision + 1_000;
    let step = v1::Step {
        of: Some(v1::step::Of::UnitRestart(v1::UnitStep { unit: "nginx.service".to_owned(), reset_failed: false })),
    };
    let plan = v1::Plan {
        steps: vec![v1::PlannedStep { action, step: Some(step.clone()) }],
        risk: "low".to_owned(),
        stable_for_ms: 1_000,
        within_ms: 30_000,
        rung: 0,
    };
    let decided = v1::Decision {
        id: decision,
        at: at(wall_ms),
        finding,
        kind: "service.failed".to_owned(),
        subject: unit("nginx.service"),
        confidence: 1.0,
        mode: "auto".to_owned(),
        choice: Some(v1::decision::Choice::Act(plan)),
        ..Default::default()
    };
    let outcome =
        v1::Outcome { ended: "done".to_owned(), text: "job done".to_owned(), elapsed_ms: 180, freed_bytes: None };
    let verification = v1::Verification { recovered: true, text: "active for 1 s".to_owned(), down_ms: Some(410) };
    vec![
        book.add(wall_ms, Body::Decided(decided)),
        book.add(wall_ms + 1, Body::Intent(Intent { decision, action, step: Some(step) })),
        book.add(wall_ms + 200, Body::Outcome(StepOutcome { decision, action, outcome: Some(outcome) })),
        book.add(wall_ms + 1_300, Body::Verified(Verified { decision, verification: Some(verification) })),
    ]
}

/// A summary of one counter and one gauge, with its definitions.
pub(crate) fn summary(n: i64, wall_ms: i64) -> v1::Summary {
    v1::Summary {
        at: at(wall_ms),
        window_ms: 10_000,
        samples: 10,
        counter_ids: vec![1],
        counters: vec![n as f64 * 100.0],
        gauge_ids: vec![2],
        gauges: vec![n as f64, n as f64 - 0.5, n as f64 + 0.5, n as f64 + 0.25],
        ..v1::Summary::default()
    }
}

pub(crate) fn definitions() -> Vec<v1::SeriesDef> {
    let def = |id, name: &str, labels: &[(&str, &str)]| v1::SeriesDef {
        id,
        key: Some(v1::SeriesKey {
            name: name.to_owned(),
            labels: labels.iter().map(|(n, v)| v1::Label { name: (*n).to_owned(), value: (*v).to_owned() }).collect(),
        }),
    };
    vec![def(1, "node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")]), def(2, "node_load1", &[])]
}
