//! Probes: ask a service whether it still answers.
//!
//! http and tcp run here; a command runs in the actuator under root's own definition. One task for
//! each probe; a probe that hangs until its timeout is a failure like any other, and never two of
//! one probe run at once.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_core::policy::{ProbeCheck, ProbeSpec};
use mainstay_core::sample::Probe;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::clock;
use crate::actuate::Actuator;
use crate::http::{self, Message, Url};

/// Most probes of one host; what is beyond is not run, and said once.
pub const PROBES_MAX: usize = 128;

/// A result, by the name of the probe.
pub type Probed = (String, Probe);

/// The probes that are run.
#[derive(Debug)]
pub struct Probes {
    results: Sender<Probed>,
    actuator: Actuator,
    running: BTreeMap<String, (ProbeSpec, JoinHandle<()>)>,
}

impl Probes {
    /// None yet. Results go into `results`.
    #[must_use]
    pub fn new(results: Sender<Probed>, actuator: Actuator) -> Self {
        Self { results, actuator, running: BTreeMap::new() }
    }

    /// From now on these are run and no others. One that has not changed goes on undisturbed.
    pub fn set(&mut self, specs: Vec<ProbeSpec>) {
        let mut before = std::mem::take(&mut self.running);
        for spec in specs.into_iter().take(PROBES_MAX) {
            let task = match before.remove(&spec.name) {
                Some((same, task)) if same == spec => task,
                changed => {
                    if let Some((_, task)) = changed {
                        task.abort();
                    }
                    tokio::spawn(run(spec.clone(), self.results.clone(), self.actuator.clone()))
                }
            };
            self.running.insert(spec.name.clone(), (spec, task));
        }
        for (_, task) in before.into_values() {
            task.abort();
        }
    }

    /// Whether a probe of this name is run.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }
}

/// Runs one probe for ever.
async fn run(spec: ProbeSpec, results: Sender<Probed>, actuator: Actuator) {
    // Probes of the same interval do not all fall into one moment.
    let spread = spec.every.mul_f64(spread_of(&spec.name)).min(Duration::from_secs(5));
    let mut ticks = interval_at(Instant::now() + spread, spec.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fails = 0u32;
    loop {
        ticks.tick().await;
        let (result, latency) = once(&spec, &actuator).await;
        fails = if result.is_ok() { 0 } else { fails.saturating_add(1) };
        let probe = Probe {
            unit: spec.unit.clone(),
            at: clock::now(),
            fails,
            fails_max: spec.fails,
            latency,
            text: result.unwrap_or_else(|text| text),
        };
        if results.send((spec.name.clone(), probe)).await.is_err() {
            return;
        }
    }
}

/// Runs a probe once: what it said in words, and how long it took.
async fn once(spec: &ProbeSpec, actuator: &Actuator) -> (Result<String, String>, Duration) {
    let begun = Instant::now();
    let checked = timeout(spec.timeout, check(&spec.check, actuator, spec.timeout)).await;
    let latency = begun.elapsed();
    let late = || Err(format!("no answer within {} ms", spec.timeout.as_millis()));
    let result = checked.unwrap_or_else(|_| late()).map(|what| format!("{what} in {} ms", latency.as_millis()));
    (result, latency)
}

async fn check(check: &ProbeCheck, actuator: &Actuator, deadline: Duration) -> Result<String, String> {
    match check {
        ProbeCheck::Http { url } => {
            let url = Url::parse(url)?;
            let roots = if url.tls { Some(http::trust(None).map_err(|e| e.to_string())?) } else { None };
            let status = http::send(&url, Message::default(), roots, deadline).await.map_err(|e| e.to_string())?;
            if status.as_u16() < 400 { Ok(status.as_u16().to_string()) } else { Err(format!("answered {status}")) }
        }
        ProbeCheck::Tcp { address } => {
            let (host, port) = address.rsplit_once(':').ok_or("address has no port")?;
            let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            http::connect(host, port).await.map(|_| "accepted".to_owned()).map_err(|error| error.to_string())
        }
        ProbeCheck::Command { name } => actuator.probe(name, deadline).await,
    }
}

/// Between 0 and 1, the same for the same name at every start.
fn spread_of(name: &str) -> f64 {
    let sum = name.bytes().fold(17u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum % 1_000) / 1_000.0
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    fn spec(check: ProbeCheck) -> ProbeSpec {
        ProbeSpec {
            name: "app".to_owned(),
            unit: "app.service".parse().unwrap(),
            check,
            every: Duration::from_millis(5),
            timeout: Duration::from_millis(50),
            fails: 3,
        }
    }

    fn probes() -> (Probes, mpsc::Receiver<Probed>) {
        let (results, received) = mpsc::channel(8);
        (Probes::new(results, Actuator::at("/nonexistent/actuator.sock")), received)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn counts_failures_in_a_row_and_starts_anew_after_a_success() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (mut probes, mut results) = probes();
        probes.set(vec![spec(ProbeCheck::Http { url })]);
        let answers = ["HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 404 No\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"];
        let mut fails = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (name, probe) = results.recv().await.unwrap();
            assert_eq!((name.as_str(), probe.fails_max), ("app", 3));
            fails.push((probe.fails, probe.text));
        }
        assert_eq!(fails.iter().map(|(fails, _)| *fails).collect::<Vec<_>>(), [1, 2, 0]);
        assert!(fails[0].1.contains("500") && fails[2].1.starts_with("200 in "), "{fails:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_port_that_refuses_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (result, _) = once(&spec(ProbeCheck::Tcp { address: address.clone() }), &Actuator::at("/x")).await;
        assert!(result.unwrap().starts_with("accepted in "));
        drop(listener);
        let (result, _) = once(&spec(ProbeCheck::Tcp { address }), &Actuator::at("/x")).await;
        assert!(result.unwrap_err().contains("cannot connect"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_probe_that_is_no_longer_wanted_stops() {
        let (mut probes, mut results) = probes();
        probes.set(vec![spec(ProbeCheck::Tcp { address: "127.0.0.1:1".to_owned() })]);
        assert!(results.recv().await.is_some() && probes.runs("app"));
        probes.set(Vec::new());
        assert!(!probes.runs("app"));
        drop(probes);
        // Every sender is gone, so the channel ends after what was in it.
        while results.recv().await.is_some() {}
    }
}
