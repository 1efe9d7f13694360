//! A collector for tests of the command line: five hosts, their series in memory, and what happened on one of them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use mainstay_core::id::{ActionId, BootId, DecisionId, HostId};
use mainstay_core::record::{Author, Body, Ended, Outcome, Record};
use mainstay_core::time;
use mainstay_promql::{Labels, Limits, Memory, NAME, Span, Value, evaluate, parse};
use mainstay_proto::convert::encode_record;
use mainstay_proto::v1::query_service_server::{QueryService, QueryServiceServer};
use mainstay_proto::v1::{self, decision::Choice, step::Of as StepOf, subject::Of};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// So many seconds after the hour at which everything here happens: 2027-01-15, 08:00 UTC.
pub(crate) fn at_ms(seconds: i64) -> i64 {
    1_800_000_000_000 + seconds * 1_000
}

const HOSTS: u8 = 5;

/// An operator's folder, and the collector that it leads to.
pub(crate) struct Seat {
    folder: TempDir,
}

impl Seat {
    /// A collector of its own, on a port of its own.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca_pem, server, operator) = papers();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        write(folder.path(), "collector", &listener.local_addr().unwrap().to_string());
        write(folder.path(), "ca.crt", &ca_pem);
        write(folder.path(), "operator.crt", &operator.0);
        write(folder.path(), "operator.key", &operator.1);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(server.0, server.1))
            .client_ca_root(Certificate::from_pem(ca_pem));
        // It serves until the test's process ends.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let service = QueryServiceServer::new(Collector { series: series() });
                let server = Server::builder().tls_config(tls).unwrap().add_service(service);
                server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
            });
        });
        Self { folder }
    }

    /// Runs `mainstay args…` to its end.
    pub(crate) fn mainstay(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(args)
            .env_remove("MAINSTAY_COLLECTOR")
            .env("MAINSTAY_CONFIG", self.folder.path())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .output()
            .unwrap()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// A CA's certificate, and two with their keys under it: the server's and the operator's.
fn papers() -> (String, (String, String), (String, String)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server, operator) = (leaf(mainstay_proto::COLLECTOR_NAME), leaf("ops"));
    (ca_pem, server, operator)
}

/// The last twenty minutes of five hosts, every ten seconds: `web-1` uses more CPU and memory than the others.
fn series() -> Memory {
    let mut memory = Memory::default();
    for n in 1..=HOSTS {
        let host = format!("web-{n}");
        let mut add = |name: &str, more: &[(&str, &str)], value: &dyn Fn(f64) -> f64| {
            let labels = [&[(NAME, name), ("host", &host), ("role", "web")], more].concat();
            let seconds = (-1_200..=0).step_by(10).map(|at: i32| (at_ms(at.into()), value(f64::from(at + 1_200))));
            memory.add(Labels::from_text(&labels), seconds);
        };
        let rate = if n == 1 { 0.8 } else { 0.1 + f64::from(n) * 0.008 };
        add("mainstay_unit_cpu_seconds_total", &[("unit", "app.service")], &|t| rate * t);
        add("mainstay_unit_cpu_seconds_total", &[("unit", "idle.service")], &|_| 0.0);
        add("mainstay_unit_tasks:mean", &[("unit", "app.service")], &|_| 8.0);
        add("node_memory_MemTotal_bytes:mean", &[], &|_| 1_000.0);
        add("node_memory_MemAvailable_bytes:mean", &[], &|_| if n == 1 { 250.0 } else { 500.0 });
        if n == 1 {
            add("mainstay_unit_tasks:mean", &[("unit", "only.service")], &|_| 3.0);
        }
    }
    memory
}

fn id(n: u8) -> Vec<u8> {
    [n; 16].to_vec()
}

fn host(n: u8) -> v1::HostView {
    let label = v1::Label { name: "role".into(), value: "web".into() };
    let lost = v1::Gap {
        seq_from: 1,
        seq_to: 9,
        wall_from_ms: at_ms(-60),
        wall_to_ms: at_ms(-30),
        reason: "spool full".into(),
    };
    v1::HostView {
        host_id: id(n),
        facts: Some(v1::HostFacts { hostname: format!("web-{n}"), labels: vec![label], ..v1::HostFacts::default() }),
        state: if n == HOSTS { "silent" } else { "online" }.into(),
        last_seen_ms: if n == HOSTS { at_ms(-240) } else { at_ms(4) },
        enrolled_ms: at_ms(-86_400),
        gaps: if n == 2 { vec![lost] } else { Vec::new() },
        ..v1::HostView::default()
    }
}

fn moment(seconds: i64) -> Option<v1::Now> {
    Some(v1::Now { boot_ns: 0, wall_ms: at_ms(seconds) })
}

fn finding(kind: &str, of: Of, state: &str, (opened, changed): (i64, i64), why: &str) -> v1::FindingView {
    let finding = v1::Finding {
        kind: kind.into(),
        subject: Some(v1::Subject { of: Some(of) }),
        severity: "critical".into(),
        confidence: 1.0,
        state: state.into(),
        opened: moment(opened),
        changed: moment(changed),
        evidence: vec![v1::Evidence { text: why.into(), measure: None }],
        ..v1::Finding::default()
    };
    v1::FindingView { host_id: id(1), hostname: "web-1".into(), finding: Some(finding), incident: None }
}

fn decision() -> v1::DecisionView {
    let restart = v1::UnitStep { unit: "nginx.service".into(), ..v1::UnitStep::default() };
    let step = Some(v1::Step { of: Some(StepOf::UnitRestart(restart)) });
    let planned = v1::PlannedStep { step: step.clone(), ..v1::PlannedStep::default() };
    let decision = v1::Decision {
        id: 7,
        at: moment(-300),
        kind: "service.failed".into(),
        subject: Some(v1::Subject { of: Some(Of::Unit("nginx.service".into())) }),
        rule: Some("web".into()),
        choice: Some(Choice::Act(v1::Plan { steps: vec![planned], ..v1::Plan::default() })),
        ..v1::Decision::default()
    };
    let outcome = v1::Outcome { ended: "done".into(), elapsed_ms: 180, ..v1::Outcome::default() };
    v1::DecisionView {
        decision: Some(decision),
        steps: vec![v1::StepView { step, outcome_at: moment(-300), outcome: Some(outcome), ..v1::StepView::default() }],
        verification: Some(v1::Verification { recovered: true, text: "active for 30 s".into(), down_ms: None }),
        verified_at: moment(-270),
        ..v1::DecisionView::default()
    }
}

struct Collector {
    series: Memory,
}

type Answer<T> = Result<Response<T>, Status>;

fn unasked<T>() -> Answer<T> {
    Err(Status::unimplemented("none of these commands asks that"))
}

#[tonic::async_trait]
impl QueryService for Collector {
    type ReadLedgerStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::LedgerChunk, Status>>>;

    async fn list_hosts(&self, request: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsResponse> {
        let wanted = request.into_inner().selector.unwrap_or_default();
        let is_web = wanted.labels.iter().all(|label| (label.name.as_str(), label.value.as_str()) == ("role", "web"));
        let is_meant = |host: &v1::HostView| {
            let facts = host.facts.as_ref().unwrap();
            let id = HostId(host.host_id.clone().try_into().unwrap()).to_string();
            wanted.host.is_empty() || facts.hostname == wanted.host || id.starts_with(&wanted.host)
        };
        let hosts: Vec<_> = (1..=HOSTS).map(host).filter(|host| is_web && is_meant(host)).collect();
        if hosts.is_empty() && !wanted.host.is_empty() {
            return Err(Status::not_found(format!("no host is called {}; `mainstay hosts` lists them", wanted.host)));
        }
        Ok(Response::new(v1::ListHostsResponse { hosts, now_ms: at_ms(5) }))
    }

    async fn query_range(&self, request: Request<v1::QueryRangeRequest>) -> Answer<v1::QueryRangeResponse> {
        let request = request.into_inner();
        let series = if request.promql.is_empty() { pulse(&request) } else { self.promql(&request)? };
        Ok(Response::new(v1::QueryRangeResponse { series, completeness: 0.97, ..v1::QueryRangeResponse::default() }))
    }

    async fn list_findings(&self, request: Request<v1::ListFindingsRequest>) -> Answer<v1::ListFindingsResponse> {
        // A search for words is answered with what was asked.
        if let v1::ListFindingsRequest { all, search: Some(search), .. } = request.into_inner()
            && !search.text.is_empty()
        {
            let v1::Search { kind, subject, text, since_ms, until_ms } = search;
            let asked =
                format!("all={all} kind={kind} subject={subject} text={text} since={since_ms} until={until_ms}");
            let findings = vec![finding("service.failed", Of::Unit(subject), "open", (0, 0), &asked)];
            let looked_back_to_ms = Some(at_ms(-3_600));
            return Ok(Response::new(v1::ListFindingsResponse {
                findings,
                now_ms: at_ms(5),
                truncated: true,
                looked_back_to_ms,
            }));
        }
        let full = finding("disk.full", Of::Mount(b"/var".to_vec()), "open", (-86_000, -86_000), "98% used");
        let unit = Of::Unit("nginx.service".into());
        let failed = finding("service.failed", unit, "cleared", (-300, -270), "status=9/KILL");
        Ok(Response::new(v1::ListFindingsResponse {
            findings: vec![failed, full],
            now_ms: at_ms(5),
            ..Default::default()
        }))
    }

    async fn list_decisions(&self, _: Request<v1::ListDecisionsRequest>) -> Answer<v1::ListDecisionsResponse> {
        Ok(Response::new(v1::ListDecisionsResponse {
            decisions: vec![decision()],
            now_ms: at_ms(5),
            ..Default::default()
        }))
    }

    async fn list_changes(&self, _: Request<v1::ListChangesRequest>) -> Answer<v1::ListChangesResponse> {
        let change = v1::Change {
            at_ms: at_ms(-1_200),
            kind: "package.upgraded".into(),
            subject: "nginx".into(),
            before: Some("1.0".into()),
            after: Some("1.1".into()),
            ..v1::Change::default()
        };
        let changes = vec![v1::ChangeView { change: Some(change), ..v1::ChangeView::default() }];
        Ok(Response::new(v1::ListChangesResponse { changes, now_ms: at_ms(5), ..Default::default() }))
    }

    async fn read_ledger(&self, _: Request<v1::ReadLedgerRequest>) -> Answer<Self::ReadLedgerStream> {
        let at = time::Now { boot_ns: 0, wall_ms: at_ms(-600) };
        let body = Body::Started { boot: BootId([1; 16]), version: "0.1.0".into() };
        let entry = v1::LedgerEntry { index: 1, record: encode_record(&Record { at, body }), hash: Vec::new() };
        let chunk = v1::LedgerChunk { entries: vec![entry], ..v1::LedgerChunk::default() };
        Ok(Response::new(tokio_stream::iter(vec![Ok(chunk)])))
    }

    async fn list_records(&self, request: Request<v1::ListRecordsRequest>) -> Answer<v1::ListRecordsResponse> {
        let search = request.into_inner().search.unwrap_or_default();
        let by = Author { name: "ann".into(), reason: format!("kind={} text={}", search.kind, search.text) };
        let hold = Body::Hold { scope: "fleet".into(), until_ms: Some(at_ms(3_600)), held: true, by };
        let outcome =
            Outcome { ended: Ended::Done, text: "job\u{1b}[2J done".into(), elapsed_ms: 180, freed_bytes: None };
        let done = Body::Outcome { decision: DecisionId(7), action: ActionId(9), outcome };
        let view = |index: u64, kind: &str, subject: &str, record: Option<v1::Record>| v1::RecordView {
            host_id: id(1),
            hostname: "web-1".into(),
            index,
            record,
            kind: kind.into(),
            subject: subject.into(),
        };
        let record = |seconds: i64, body: Body| {
            let at = time::Now { boot_ns: 0, wall_ms: at_ms(seconds) };
            Some(v1::Record::from(&Record { at, body }))
        };
        let later = Some(v1::Record { at: moment(-5), body: None });
        let records = vec![
            view(12, "hold.set", "fleet", record(-1, hold)),
            view(11, "flux.bent", "", later),
            view(10, "step.ended", "nginx.service", record(-10, done)),
            view(9, "unreadable", "", None),
        ];
        let (now_ms, looked_back_to_ms) = (at_ms(5), Some(at_ms(-3_600)));
        Ok(Response::new(v1::ListRecordsResponse { records, now_ms, truncated: true, looked_back_to_ms }))
    }

    async fn get_host(&self, _: Request<v1::GetHostRequest>) -> Answer<v1::GetHostResponse> {
        unasked()
    }

    async fn list_incidents(&self, _: Request<v1::ListIncidentsRequest>) -> Answer<v1::ListIncidentsResponse> {
        unasked()
    }

    async fn get_incident(&self, _: Request<v1::GetIncidentRequest>) -> Answer<v1::GetIncidentResponse> {
        unasked()
    }

    async fn explain(&self, _: Request<v1::ExplainRequest>) -> Answer<v1::ExplainResponse> {
        unasked()
    }

    async fn list_approvals(&self, _: Request<v1::ListApprovalsRequest>) -> Answer<v1::ListApprovalsResponse> {
        unasked()
    }

    async fn list_holds(&self, _: Request<v1::ListHoldsRequest>) -> Answer<v1::ListHoldsResponse> {
        unasked()
    }

    async fn policy_status(&self, _: Request<v1::PolicyStatusRequest>) -> Answer<v1::PolicyStatusResponse> {
        unasked()
    }

    async fn get_policy(&self, _: Request<v1::GetPolicyRequest>) -> Answer<v1::GetPolicyResponse> {
        unasked()
    }

    async fn capacity(&self, _: Request<v1::CapacityRequest>) -> Answer<v1::CapacityResponse> {
        unasked()
    }

    async fn collector_status(&self, _: Request<v1::CollectorStatusRequest>) -> Answer<v1::CollectorStatusResponse> {
        Ok(Response::new(status()))
    }

    async fn list_commands(&self, _: Request<v1::ListCommandsRequest>) -> Answer<v1::ListCommandsResponse> {
        unasked()
    }
}

/// Points of one host every ten seconds, but for five minutes in which its agent did not run.
fn pulse(request: &v1::QueryRangeRequest) -> Vec<v1::SeriesPoints> {
    let all = (request.from_ms..=request.to_ms).step_by(10_000);
    let at_ms: Vec<i64> = all.map(|at| at / 10_000 * 10_000).filter(|at| !is_hole(*at)).collect();
    let values = vec![1.0; at_ms.len()];
    vec![v1::SeriesPoints { key: None, at_ms, values }]
}

fn is_hole(at: i64) -> bool {
    at > at_ms(-900) && at < at_ms(-600)
}

impl Collector {
    #[allow(clippy::result_large_err)] // tonic's own type for it
    fn promql(&self, request: &v1::QueryRangeRequest) -> Result<Vec<v1::SeriesPoints>, Status> {
        let query = parse(&request.promql).map_err(|error| Status::invalid_argument(format!("bad query: {error}")))?;
        let span = Span::Instant { at_ms: request.to_ms };
        let answer = evaluate(&query, span, &self.series, Limits::default(), &|| None);
        let Value::Vector(rows) = answer.map_err(|error| Status::internal(error.to_string()))?.value else {
            return Err(Status::internal("not a vector"));
        };
        let series = rows.iter().map(|(labels, value)| {
            let own = labels.iter().filter(|(name, _)| *name != NAME);
            let own = own.map(|(name, value)| v1::Label { name: name.into(), value: value.into() });
            let key = Some(v1::SeriesKey { name: String::new(), labels: own.collect() });
            v1::SeriesPoints { key, at_ms: vec![request.to_ms], values: vec![*value] }
        });
        Ok(series.collect())
    }
}

/// A collector with a damaged table, whose last backup did not read back, and that is deleting a host.
fn status() -> v1::CollectorStatusResponse {
    let lost = v1::LostStretch {
        what: "series as they came".to_owned(),
        from_ms: at_ms(0),
        to_ms: at_ms(3_600),
        hosts: vec!["web-1".to_owned(), "web-2".to_owned()],
        hosts_more: 3,
    };
    let names = v1::LostStretch { what: "names of series".to_owned(), ..v1::LostStretch::default() };
    let damaged = v1::DamagedTable {
        column: "series".to_owned(),
        table: "000012.sst".to_owned(),
        said: "Corruption: block checksum mismatch".to_owned(),
        is_searched: true,
        lost: vec![lost, names],
    };
    let backup = v1::BackupState {
        made_ms: at_ms(-7_200),
        path: "/mnt/backups/20270115T060000.000Z".to_owned(),
        verified_ms: at_ms(-3_600),
        verified: "/mnt/backups/20270115T060000.000Z".to_owned(),
        problems: vec!["/mnt/backups/x/000012.sst: its hash is another; take an older one".to_owned()],
    };
    let job = v1::JobView { what: "deleting web-9 (0909)".to_owned(), since_ms: at_ms(-30), done: 12_000 };
    v1::CollectorStatusResponse {
        version: "0.1.0".to_owned(),
        now_ms: at_ms(0),
        started_ms: at_ms(-86_400),
        hosts: 5,
        sessions: 4,
        store_bytes: 3 << 30,
        free_bytes: 10 << 30,
        min_free_bytes: 512 << 20,
        damaged: vec![damaged],
        backup: Some(backup),
        jobs: vec![job],
        scrub: Some(v1::ScrubState { ended_ms: at_ms(-90_000), took_ms: 720_000, bytes: 3 << 30, damaged: 1 }),
    }
}
