//! HTTP on loopback: `/metrics` for Prometheus, `/-/healthy` and `/-/ready` for whoever watches, and
//! below `/api/v1/` what Prometheus' own API answers, see [`crate::api`]. What changes anything here takes a token:
//! [`crate::hook`] and [`crate::remote::receive`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::api;
use crate::clock;
use crate::hook;
use crate::hub::Hub;
use crate::metrics::{counter, gauge};
use crate::remote::receive;

/// Most connections at once.
/// Senders of remote write hold some for good, up to 200 each.
const CONNECTIONS_MAX: usize = 512;
/// Longest that a client may take to send its request's head.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Serves a bound port until the collector ends.
#[must_use]
pub fn serve(hub: Arc<Hub>, listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let writes = Arc::new(Semaphore::new(receive::WRITES_MAX));
        let mut ending = hub.ending.subscribe();
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an HTTP connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                _ = ending.changed() => return,
            };
            let (hub, writes) = (hub.clone(), writes.clone());
            let mut ending = hub.ending.subscribe();
            tokio::spawn(async move {
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (hub, writes) = (hub.clone(), writes.clone());
                    async move {
                        Ok::<_, Infallible>(match request.uri().path() {
                            hook::PATH => {
                                let (status, said) = hook::answer(&hub, request).await;
                                text(status, said)
                            }
                            receive::PATH => {
                                let (status, said) = receive::answer(&hub, &writes, request).await;
                                text(status, said)
                            }
                            path if path.starts_with(api::PREFIX) => api::answer(hub, request).await,
                            _ => answer(&hub, &request),
                        })
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_MAX)
                    .serve_connection(TokioIo::new(stream), answer);
                let mut connection = std::pin::pin!(connection);
                let end = async move {
                    let _ = ending.wait_for(|ending| *ending).await;
                };
                let served = tokio::select! {
                    served = connection.as_mut() => served,
                    () = end => {
                        // What is being answered is answered; a connection that is kept for later ends.
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "an HTTP connection broke");
                }
                drop(permit);
            });
        }
    })
}

fn answer(hub: &Hub, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, metrics(hub)),
        "/-/healthy" => match hub.store.damages().all().len() {
            0 => text(StatusCode::OK, "the collector is healthy\n"),
            tables => text(
                StatusCode::OK,
                format!("the collector serves, but {tables} tables of its store are damaged: see `mainstay status`\n"),
            ),
        },
        "/-/ready" => match readiness(hub) {
            Ok(()) => text(StatusCode::OK, "the collector is ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "nothing here; try /metrics, /-/healthy, /-/ready or /api/v1/query\n"),
    }
}

/// When the store was read through; nothing is said if it never was.
fn scrub(hub: &Hub, out: &mut String) {
    let ended_ms = hub.scrubs.known().ended_ms;
    if ended_ms > 0 {
        let age_ms = clock::wall_ms().saturating_sub(ended_ms).max(0).unsigned_abs();
        let help = "Since the store was read through for damage.";
        gauge(out, "mainstay_collector_scrub_age_seconds", help, age_ms / 1_000);
    }
}

/// What is known of backups; nothing is said of what is not known.
fn backups(hub: &Hub, out: &mut String) {
    let known = hub.backups.known();
    if known.made_ms > 0 {
        let age_ms = clock::wall_ms().saturating_sub(known.made_ms).max(0).unsigned_abs();
        gauge(out, "mainstay_collector_backup_age_seconds", "Since the last backup was made.", age_ms / 1_000);
    }
    if known.verified_ms > 0 {
        let age_ms = clock::wall_ms().saturating_sub(known.verified_ms).max(0).unsigned_abs();
        gauge(
            out,
            "mainstay_collector_backup_verify_age_seconds",
            "Since a backup was last read back.",
            age_ms / 1_000,
        );
        let problems = known.problems.len() as u64;
        gauge(
            out,
            "mainstay_collector_backup_problems",
            "What was wrong with the backup that was read back last.",
            problems,
        );
    }
}

fn readiness(hub: &Hub) -> Result<(), String> {
    if *hub.ending.borrow() {
        return Err("the collector is stopping".to_owned());
    }
    hub.store.room().check().map_err(|error| error.to_string())
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, plain);
    response
}

fn metrics(hub: &Hub) -> String {
    let mut out = String::new();
    hub.metrics.write(&mut out);
    hub.remote_counts.write(&mut out);
    let writer = hub.store.writer_counts();
    for (name, help, value) in [
        ("mainstay_collector_store_groups_total", "Groups of batches that were synced.", &writer.groups),
        ("mainstay_collector_store_batches_total", "Batches that were written.", &writer.batches),
        ("mainstay_collector_store_bytes_total", "Bytes that were written.", &writer.bytes),
        ("mainstay_collector_store_failures_total", "Groups that could not be written.", &writer.failures),
    ] {
        counter(&mut out, name, help, value.load(Ordering::Relaxed));
    }
    gauge(&mut out, "mainstay_collector_store_live_bytes", "Bytes of table files.", hub.store.live_bytes());
    gauge(&mut out, "mainstay_collector_store_free_bytes", "Bytes free on its disk.", hub.store.room().free_bytes());
    let is_full = u64::from(hub.store.room().check().is_err());
    gauge(&mut out, "mainstay_collector_store_full", "1 while agents are told to keep what they have.", is_full);
    let damaged = hub.store.damages().all().len() as u64;
    gauge(&mut out, "mainstay_collector_store_damaged_tables", "Tables that cannot be read whole.", damaged);
    let bytes = hub.store.warm.bytes() as u64;
    gauge(&mut out, "mainstay_collector_warm_bytes", "Bytes of what questions read lately, kept for the next.", bytes);
    let bytes = hub.store.presence.bytes() as u64;
    gauge(&mut out, "mainstay_collector_presence_bytes", "Bytes of who had which series when.", bytes);
    let hours = hub.store.presence.hours() as u64;
    gauge(&mut out, "mainstay_collector_presence_hours", "Hours of which it is known who had which series.", hours);
    backups(hub, &mut out);
    scrub(hub, &mut out);
    let (hosts, over, connected, findings, incidents, dropped) = {
        let state = hub.state();
        let over = state.hosts.values().filter(|h| h.series.dropped > 0).count();
        let connected = state.hosts.values().filter(|h| h.live.is_some()).count();
        let findings: usize = state.hosts.values().map(|h| h.findings.len()).sum();
        let open = state.correlator.incidents().filter(|i| i.cleared_ms.is_none()).count();
        (state.hosts.len(), over, connected, findings, open, state.correlator.dropped())
    };
    for (name, help, value) in [
        ("mainstay_collector_hosts", "Hosts that were enrolled.", hosts),
        ("mainstay_collector_hosts_over_series", "Hosts that bring more series than they may.", over),
        ("mainstay_collector_sessions", "Sessions that are open.", connected),
        ("mainstay_collector_findings", "Findings that are open.", findings),
        ("mainstay_collector_incidents", "Incidents that are open.", incidents),
    ] {
        gauge(&mut out, name, help, value as u64);
    }
    gauge(
        &mut out,
        "mainstay_collector_remote_sources",
        "Who brings series over remote write.",
        hub.sources.len() as u64,
    );
    counter(
        &mut out,
        "mainstay_collector_uncorrelated_total",
        "Open findings dropped from correlation for lack of room.",
        dropped,
    );
    out
}
