//! A small fleet at the real program, over real sessions: what `bench/load.rs` measures of a large one is right.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use mainstay_collector::remote::message::WriteRequest;
use mainstay_core::series::Point;
use mainstay_core::time::Now;
use prost::Message as _;

use crate::fleet::shapes;
use crate::remote::peers::{program, programs};

#[path = "../../../bench/remote_peers.rs"]
mod peers;
#[allow(dead_code)] // the measurement uses more of it
#[path = "../../../bench/load/mod.rs"]
mod play;
#[allow(dead_code)]
#[path = "../../../bench/recording.rs"]
mod recording;
#[path = "../../../bench/remote_write.rs"]
mod remote_write;
#[allow(dead_code)]
#[path = "../../../bench/values.rs"]
pub(crate) mod values;

use play::fleet::Fleet;
use play::papers::enrol;
use play::process::Process;
use play::tally::Tally;
use play::trials;
use values::{Series, Values};

const HOSTS: usize = 60;
/// As a host of the measurement has.
const SERIES: usize = 300;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_taken_in_survives_a_crash_at_once_and_obeys() {
    let folder = tempfile::tempdir().unwrap();
    // Fewer than come at once, so that a storm is put off.
    let config = "cache = \"32MiB\"\nsessions_per_second = 4\n";
    let program = Path::new(env!("CARGO_BIN_EXE_mainstay-collector"));
    let mut process = Process::start(program, folder.path(), config).await.unwrap();
    let papers = enrol(&process, HOSTS).await.unwrap();
    let (fleet_id, key) = (papers[0].fleet, SigningKey::from_bytes(&[7; 32]));
    let fleet = Fleet::start(&process, papers, &Arc::new(Series::made(SERIES)), &key).unwrap();
    let tally = fleet.tally();
    fleet.until("a session of every host", LIMIT, |tally| Tally::get(&tally.connected) == 60).await.unwrap();
    assert!(Tally::get(&tally.put_off) > 0, "sixty at once are more than can wait at four a second");

    // More than a slot of ten minutes, so that some are sealed.
    let taken = trials::catch_up(&process, &fleet, 70, LIMIT).await.unwrap();
    assert_eq!(taken.points, 60 * 70 * SERIES as u64);
    let taken = trials::live(&process, &fleet, Duration::from_millis(500), Duration::from_secs(2)).await.unwrap();
    assert!(taken.points >= 60 * 2 * SERIES as u64, "{taken:?}");
    assert_eq!(Tally::get(&tally.acked), Tally::get(&tally.made));

    let (asked, _) = trials::asked(&process, &fleet, Duration::from_millis(500), 5).await.unwrap();
    assert!(asked.len() > 3 && asked.iter().all(|one| one.percentile(99) >= one.percentile(50)), "{asked:?}");

    let storm = trials::storm(&mut process, &fleet, LIMIT).await.unwrap();
    assert_eq!((storm.refused, storm.forgotten), (0, 0), "{storm:?}");
    let stored = trials::stored(&process, "node_context_switches_total").await.unwrap();
    assert_eq!(stored, Tally::get(&tally.made) as f64, "every summary that was acknowledged can be asked for");
    trials::live(&process, &fleet, Duration::from_millis(500), Duration::from_secs(1)).await.unwrap();
    assert_eq!(Tally::get(&tally.acked), Tally::get(&tally.made), "and they go on where they were");

    let offered = trials::offer(&process, &fleet, fleet_id, &key, 1, LIMIT).await.unwrap();
    assert_eq!(offered.effective.count(), 60);
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let refused = trials::offer(&process, &fleet, fleet_id, &stranger, 2, LIMIT).await.unwrap_err();
    assert!(refused.to_string().contains("which this host does not trust"), "{refused}");
    fleet.end().await;
}

/// A host that is there alone.
async fn one_host(series: Series) -> (tempfile::TempDir, Process, Fleet) {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mainstay-collector"));
    let process = Process::start(program, folder.path(), "").await.unwrap();
    let papers = enrol(&process, 1).await.unwrap();
    let fleet = Fleet::start(&process, papers, &Arc::new(series), &SigningKey::from_bytes(&[7; 32])).unwrap();
    fleet.until("its session", LIMIT, |tally| Tally::get(&tally.connected) == 1).await.unwrap();
    (folder, process, fleet)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changing_sample_takes_less_than_its_goal_with_all_that_is_around_it() {
    let (_folder, process, fleet) = one_host(Series::made(750).with(values::Gauges::ReadOnce)).await;
    let taken = trials::wire(&process, &fleet, 60).await.unwrap();
    let each = |bytes: u64| bytes as f64 / taken.acks.count() as f64;
    assert_eq!((taken.points, taken.acks.count()), (60 * 750, 60), "{taken:?}");
    // A record of TLS 1.3, a frame of HTTP/2 and the head of a message of gRPC: what proto/tests/price.rs counts around each.
    let around = each(taken.up - taken.messages);
    assert!((30.0..40.0).contains(&around), "{around} bytes around a message: {taken:?}");
    let sample = taken.up as f64 / taken.changed as f64;
    assert!(sample > 1.0 && sample < 1.8, "{sample} bytes a series that changed: {taken:?}");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_replay_a_recording_send_what_was_recorded() {
    // A counter, a gauge that lacks a second, and one that was not there for long.
    let second = |n: i64| {
        let (some, late) = (if n == 3 { String::new() } else { format!("{n}.5") }, if n < 15 { "" } else { "1" });
        format!("{}\t{}\t{some}\t{late}\n", 1_800_000_000_000 + n * 1_000, n * 100)
    };
    let head = "at_ms\tc:node_context_switches_total\tg:node_load1\tg:node_hwmon_temp_celsius{chip=\"a\"}\n";
    let text: String = std::iter::once(head.to_owned()).chain((0..30).map(second)).collect();
    let series = Series::recorded(&text, 10).unwrap();
    let names: Vec<_> = series.keys().iter().map(|key| key.name.clone()).collect();
    assert_eq!((names.join(" "), series.recorded_len()), ("node_context_switches_total node_load1".to_owned(), 3));
    let (_folder, process, fleet) = one_host(series.some(1)).await;
    let taken = trials::catch_up(&process, &fleet, 6, LIMIT).await.unwrap();
    assert_eq!((taken.points, taken.changed), (6, 5), "of one series, twice through");
    let stored = trials::stored(&process, "node_context_switches_total").await.unwrap();
    assert_eq!(stored, 6.0);
    let series = "node_context_switches_total";
    let shown = trials::value(&process, &format!("sum_over_time({series}[3h])")).await.unwrap();
    assert_eq!(shown, 2.0 * (900.0 + 1_900.0 + 2_900.0), "the last of each ten seconds");
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_samples_cost_prometheus_and_victoria_metrics_is_told() {
    let series = Arc::new(Series::made(SERIES));
    for peer in peers::PEERS {
        if program(peer.name).is_none() {
            continue;
        }
        let cost = peer.feed(&series, 12, 20).await.unwrap();
        assert_eq!(cost.samples, 12 * 20 * SERIES as u64, "{}", peer.name);
        assert!(!cost.took.is_zero() && cost.usage.cpu_seconds > 0.0, "{}: {:?}", peer.name, cost.usage);
        assert!(cost.usage.peak_bytes > 1 << 20 && cost.disk_bytes > 0, "{}: {} bytes", peer.name, cost.disk_bytes);
    }
}

#[test]
fn bytes_of_remote_write_are_those_of_requests_with_every_last_value() {
    let series = Arc::new(Series::made(50));
    let sizes = remote_write::sizes(&mut Values::of(&series, 0), 20);
    let (mut values, mut bodies, mut changed, mut before) = (Values::of(&series, 0), 0, 0, Vec::new());
    for n in 0..=20_u64 {
        let at = Now { boot_ns: n * 10_000_000_000, wall_ms: 1_800_000_000_000 + n.cast_signed() * 10_000 };
        let (summary, _) = values.next(at, 10_000);
        let mut request = WriteRequest::default();
        remote_write::add(&mut request, &summary, "host-00000");
        let body = remote_write::body(&request);
        let read = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let read = WriteRequest::decode(&read[..]).unwrap();
        let mut last = Vec::new();
        for (sent, (key, point)) in read.timeseries.iter().zip(&summary.points) {
            let label =
                |name: &str| sent.labels.iter().find(|label| label.name == name).map(|label| label.value.as_str());
            assert_eq!((label("__name__"), label("instance")), (Some(key.name.as_str()), Some("host-00000")));
            assert!(sent.labels.is_sorted_by(|a, b| a.name < b.name) && sent.labels.len() == key.labels.len() + 2);
            let (Point::Counter(value) | Point::Gauge { last: value, .. }) = *point;
            let samples: Vec<_> =
                sent.samples.iter().map(|sample| (sample.value.to_bits(), sample.timestamp)).collect();
            assert_eq!(samples, [(value.to_bits(), at.wall_ms)]);
            last.push(*point);
        }
        assert_eq!(last.len(), 50);
        if n > 0 {
            bodies += body.len() as u64;
            changed += last.iter().zip(&before).filter(|(new, old)| new != old).count() as u64;
        }
        before = last;
    }
    assert_eq!(sizes.changed, changed);
    // Twenty requests with heads of some 211 bytes and a record of TLS each, and as many answers.
    assert!((20 * 230..20 * 236).contains(&(sizes.up - bodies)), "{} of {bodies}", sizes.up);
    assert_eq!(sizes.down, 20 * 86);
}
