//! `POST /api/v1/write`: the receiver of remote write 1.0.
//!
//! In: snappy and protobuf, with a bearer token that root has put in a file. Out: 204 once it is durable; 400 with what of
//! it was not stored and why, the rest being stored; 503 while there is no room. Without a token in the settings there is
//! no such door. Version 2.0 is refused with 415, as it asks for, so that senders go back to 1.0.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE as TYPE, HeaderName};
use hyper::{Method, Request, StatusCode};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::gather::{Dropped, Reason, gather};
use super::message::WriteRequest;
use super::{CONTENT_TYPE, ENCODING, take};
use crate::clock;
use crate::hook;
use crate::hub::Hub;
use crate::metrics::{add, count};
use crate::store::StoreError;

/// Where it is.
pub const PATH: &str = "/api/v1/write";
/// Most requests that are taken at once; the rest waits for its turn.
pub const WRITES_MAX: usize = 4;
/// Most bytes of a body, and of what it unpacks to.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
const UNPACKED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest that a body may take to come, once it is its turn.
const BODY_MAX: Duration = Duration::from_secs(30);

type Refused = (StatusCode, String);

/// Answers one request: what to say, and how.
pub async fn answer(hub: &Arc<Hub>, writes: &Semaphore, request: Request<Incoming>) -> (StatusCode, String) {
    count(&hub.metrics.remote_requests);
    match take(hub, writes, request).await {
        Ok(()) => (StatusCode::NO_CONTENT, String::new()),
        Err((status, why)) => {
            count(&hub.metrics.remote_refused);
            (status, why + "\n")
        }
    }
}

async fn take(hub: &Arc<Hub>, writes: &Semaphore, request: Request<Incoming>) -> Result<(), Refused> {
    let refuse = |status, why: &str| Err((status, why.to_owned()));
    let Some(token) = hub.settings().write_token else {
        return refuse(StatusCode::NOT_FOUND, "no write_token_file is set in collector.toml");
    };
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST is answered here");
    }
    let given = header(&request, &AUTHORIZATION).strip_prefix("Bearer ");
    // Hashes of a secret: nothing is learned from how long comparing them takes.
    if given.map(hook::hash) != Some(token) {
        return refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed, that of write_token_file");
    }
    check_kind(header(&request, &TYPE), header(&request, &CONTENT_ENCODING))?;
    hub.store.room().check().map_err(|error| failed(&error))?;
    let Ok(_turn) = writes.acquire().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the collector is stopping");
    };
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = match tokio::time::timeout(BODY_MAX, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            let text = format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes: {error}");
            return Err((StatusCode::BAD_REQUEST, text));
        }
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come within 30 s"),
    };
    let request = unpack(&body).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let now_ms = clock::wall_ms();
    let kept = i64::try_from(hub.settings().retention.series.as_millis()).unwrap_or(i64::MAX);
    let gathered = gather(request, hub.store.keys(), now_ms.saturating_sub(kept).max(0), now_ms);
    let taken = take::store(hub, gathered).await.map_err(|error| failed(&error))?;
    add(&hub.metrics.remote_samples, taken.stored);
    hub.metrics.remote_dropped(&taken.dropped);
    if taken.dropped.total() == 0 { Ok(()) } else { Err((StatusCode::BAD_REQUEST, told(taken.stored, &taken.dropped))) }
}

fn header<'r>(request: &'r Request<Incoming>, name: &HeaderName) -> &'r str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether a body is of remote write 1.0.
fn check_kind(kind: &str, encoding: &str) -> Result<(), Refused> {
    let mut parts = kind.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let proto = parts.find_map(|part| part.strip_prefix("proto="));
    let why = if !media.eq_ignore_ascii_case(CONTENT_TYPE) {
        format!("remote write 1.0 has the content type {CONTENT_TYPE}, not {kind:?}")
    } else if proto.is_some_and(|proto| proto != "prometheus.WriteRequest") {
        format!("remote write 1.0 (prometheus.WriteRequest) is taken here, not {}", proto.unwrap_or_default())
    } else if !encoding.eq_ignore_ascii_case(ENCODING) {
        format!("remote write 1.0 has the content encoding {ENCODING}, not {encoding:?}")
    } else {
        return Ok(());
    };
    Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why))
}

fn unpack(body: &Bytes) -> Result<WriteRequest, String> {
    let bytes = snap::raw::decompress_len(body).map_err(|error| format!("the body is not snappy: {error}"))?;
    if bytes > UNPACKED_BYTES_MAX {
        return Err(format!("the body unpacks to {bytes} bytes (at most {UNPACKED_BYTES_MAX})"));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body);
    let plain = plain.map_err(|error| format!("the body is not snappy: {error}"))?;
    WriteRequest::decode(plain.as_slice()).map_err(|error| format!("the body is no WriteRequest: {error}"))
}

fn failed(error: &StoreError) -> Refused {
    match error {
        StoreError::Full(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the collector's disk is full; keep it and try again".to_owned())
        }
        StoreError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "the collector is stopping".to_owned()),
        other => {
            tracing::error!(error = %other, "what came over remote write could not be stored");
            (StatusCode::INTERNAL_SERVER_ERROR, "the collector's store failed; keep it and try again".to_owned())
        }
    }
}

fn told(stored: u64, dropped: &Dropped) -> String {
    let by_reason = Reason::ALL.into_iter().zip(dropped.samples).filter(|(_, samples)| *samples > 0);
    let by_reason: Vec<String> = by_reason.map(|(reason, samples)| format!("{} {samples}", reason.name())).collect();
    let first = dropped.first.as_deref().unwrap_or_default();
    let (lost, reasons) = (dropped.total(), by_reason.join(", "));
    format!("{lost} samples are not stored ({reasons}), {stored} are; the first: {first}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::{Label, Passed, Sample, TimeSeries};
    use super::*;
    use crate::store::intern::Interner;

    #[test]
    fn only_version_1_is_taken_and_others_are_told_so() {
        for good in ["application/x-protobuf", "application/x-protobuf;proto=prometheus.WriteRequest"] {
            assert_eq!(check_kind(good, "snappy"), Ok(()));
        }
        for (kind, encoding, says) in [
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", "io.prometheus.write.v2.Request"),
            ("application/json", "snappy", "application/json"),
            ("application/x-protobuf", "zstd", "zstd"),
            ("", "", "content type"),
        ] {
            let (status, why) = check_kind(kind, encoding).unwrap_err();
            assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason_and_a_bomb_unpacked_by_nobody() {
        let packed = |bytes: &[u8]| Bytes::from(snap::raw::Encoder::new().compress_vec(bytes).unwrap());
        assert!(unpack(&Bytes::from_static(b"\xff\xff\xff\xff")).unwrap_err().contains("not snappy"));
        assert!(unpack(&packed(b"\x0a\xff")).unwrap_err().contains("no WriteRequest"));
        let bomb = packed(&vec![0; UNPACKED_BYTES_MAX + 1]);
        assert!(bomb.len() < BODY_BYTES_MAX, "{} bytes", bomb.len());
        assert!(unpack(&bomb).unwrap_err().contains("33554433 bytes"));
    }

    const NOW_MS: i64 = 1_800_000_000_000;
    const LABEL: &str = "[a-z_]{0,8}|job|instance|host|__name__";

    /// Mostly of now.
    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![4 => NOW_MS - 1_500..NOW_MS + 10, 1 => any::<i64>()]
    }

    proptest! {
        /// What unpacks to these bytes, and these bytes themselves, with whatever a few of them are changed to.
        #[test]
        fn any_bytes_are_refused_or_taken_and_nothing_panics(
            series in prop::collection::vec(("[a-z_]{0,8}", LABEL, any::<f64>(), times(), 0_usize..3), 0..8),
            changed in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
            let timeseries = series.iter().map(|(name, other, number, timestamp, histograms)| TimeSeries {
                labels: vec![label("__name__", name), label(other, name)],
                samples: vec![Sample { value: *number, timestamp: *timestamp }],
                histograms: vec![Passed {}; *histograms],
            });
            let mut bytes = WriteRequest { timeseries: timeseries.collect() }.encode_to_vec();
            for (at, byte) in changed {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            let _ = unpack(&Bytes::from(bytes.clone()));
            let packed = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            if let Ok(request) = unpack(&Bytes::from(packed)) {
                let all: usize =
                    request.timeseries.iter().map(|one| one.samples.len() + one.histograms.len()).sum();
                let gathered = gather(request, &Interner::default(), NOW_MS - 1_000, NOW_MS);
                let kept: usize = gathered.sources.values().flat_map(|moments| moments.values()).map(Vec::len).sum();
                prop_assert_eq!(kept as u64 + gathered.dropped.total(), all as u64, "each is kept or counted");
            }
        }
    }
}
