//! Posts exports, one after the other, and tries again where the protocol says that it may help.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use mainstay_core::otlp::{Verdict, verdict};
use mainstay_core::scene::word;
use mainstay_proto::otlp::{Rejected, rejected};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Shared, add};
use crate::backoff::Backoff;
use crate::config::OtlpSettings;
use crate::host::clock;
use crate::http::{self, Url};

/// Longest exchange.
const DEADLINE: Duration = Duration::from_secs(15);

/// Most attempts for one export: some minutes. Newer ones wait meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// Most bytes of an answer that are read: it says what was left out, and why.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What came of an attempt.
enum Posted {
    Taken(Option<Rejected>),
    Again { after: Duration, why: String },
    Refused(String),
}

/// Delivers for ever.
pub(super) async fn deliver(shared: Arc<Shared>, settings: OtlpSettings, seed: u64) {
    let (mut backoff, mut said) = (Backoff::new(seed), Said::default());
    loop {
        let next = shared.waiting().take();
        match next {
            Some(export) => send(&shared, &settings, &export, &mut backoff, &mut said).await,
            None => shared.wake.notified().await,
        }
    }
}

/// Sends one export, until it is taken or lost.
async fn send(shared: &Shared, settings: &OtlpSettings, export: &Bytes, backoff: &mut Backoff, said: &mut Said) {
    let counts = &shared.counts;
    for attempt in 1..=ATTEMPTS_MAX {
        match post(settings, export).await {
            Posted::Taken(rejected) => {
                backoff.reset();
                add(&counts.taken, 1);
                add(&counts.points_rejected, rejected.as_ref().map_or(0, |rejected| rejected.points));
                said.taken(rejected);
                return;
            }
            Posted::Again { after, why } => {
                add(&counts.attempts_failed, 1);
                add(&counts.given_up, u64::from(attempt == ATTEMPTS_MAX));
                said.failed(&why);
                // Also after the last: the next export would not fare better at once.
                sleep(backoff.next(after)).await;
            }
            Posted::Refused(why) => {
                add(&counts.attempts_failed, 1);
                add(&counts.refused, 1);
                said.failed(&why);
                return;
            }
        }
    }
}

async fn post(settings: &OtlpSettings, export: &Bytes) -> Posted {
    match exchange(settings, export).await {
        Ok(answer) => {
            let retry_after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
            match verdict(answer.status.as_u16(), retry_after, clock::now().wall_ms) {
                Verdict::Taken => Posted::Taken(rejected(&answer.body)),
                Verdict::Again(after) => Posted::Again { after, why: format!("answered {}", answer.status) },
                Verdict::Refused => Posted::Refused(format!("answered {}", answer.status)),
            }
        }
        Err(why) => Posted::Again { after: Duration::ZERO, why },
    }
}

async fn exchange(settings: &OtlpSettings, export: &Bytes) -> Result<http::Answer, String> {
    let url = Url::parse(&settings.url)?;
    // Files are read aside: they may lie on a disk that is slow.
    let (headers_file, ca_file, tls) = (settings.headers_file.clone(), settings.ca_file.clone(), url.tls);
    let read = tokio::task::spawn_blocking(move || {
        let headers = headers_file.map_or_else(|| Ok(Vec::new()), |file| file.headers())?;
        let roots = tls.then(|| http::trust(ca_file.as_deref()).map_err(|error| error.to_string())).transpose()?;
        Ok::<_, String>((headers, roots))
    });
    let (mut headers, roots) = read.await.map_err(|error| error.to_string())??;
    headers.push(("Content-Type".to_owned(), "application/x-protobuf".to_owned()));
    let message = http::Message { body: Some(export.clone()), headers };
    http::ask(&url, message, roots, DEADLINE, ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())
}

/// What was said in the log: each trouble once, and once that it is over.
#[derive(Debug, Default)]
struct Said {
    failed: Option<String>,
    rejected: Option<String>,
}

impl Said {
    fn failed(&mut self, why: &str) {
        if self.failed.as_deref() != Some(why) {
            warn!(error = why, "metrics are not taken by the OTLP receiver");
            self.failed = Some(why.to_owned());
        }
    }

    fn taken(&mut self, rejected: Option<Rejected>) {
        if self.failed.take().is_some() {
            info!("metrics are taken by the OTLP receiver again");
        }
        let why = rejected.as_ref().map(|rejected| word(rejected.why.as_bytes()));
        if let (Some(Rejected { points, .. }), Some(why)) = (rejected, &why)
            && self.rejected.as_ref() != Some(why)
        {
            warn!(points, why, "the OTLP receiver left out a part of the metrics");
        }
        self.rejected = why;
    }
}
