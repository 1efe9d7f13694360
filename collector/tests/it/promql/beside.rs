//! The same series, the same queries over HTTP: the collector's answers beside those of Debian's prometheus.
//!
//! In: the series of the evaluator's own differential test, over remote write into both. Here an hour of them is joined, the
//! next lies in slots that are joined while questions come, and the last minutes are open rows. Every value is compared.

use std::time::Duration;

use mainstay_collector::hub::Hub;
use mainstay_collector::ingest::join;
use mainstay_collector::store::keys::{OpenRowKey, PieceKey};
use mainstay_collector::store::retention::Retention;
use mainstay_collector::store::series::hour_of;

use crate::remote::{TOKEN, with_token};

#[path = "../../../promql/tests/questions/mod.rs"]
mod questions;

use questions::series::{BEGIN_MS, EVERY_MS, SAMPLES};
use questions::server::{self, Api, Prometheus};

/// Queries of the grammar, beside those by hand: some 10 s of two cores. `make bench` asks 4,000. Of these two come upon the modulus
/// of a variance: series come source by source here, not as they were brought.
const GENERATED: u64 = 600;
/// The series are of 2023.
const KEPT: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How many blocks of whole hours, blocks of slots and open rows there are.
fn stored(hub: &Hub) -> [usize; 3] {
    let hours = hour_of(BEGIN_MS)..=hour_of(BEGIN_MS + SAMPLES * EVERY_MS);
    let heads = hours.flat_map(|hour| {
        let heads = PieceKey::heads(hour);
        hub.store.scan::<PieceKey>(&heads, &heads).collect::<Vec<_>>()
    });
    let (whole, slots): (Vec<_>, Vec<_>) =
        heads.map(|head| head.unwrap().0.slot).partition(|slot| *slot == PieceKey::WHOLE);
    let rows = OpenRowKey::all();
    [whole.len(), slots.len(), hub.store.scan::<OpenRowKey>(&rows, &rows).count()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_over_http_from_blocks_and_open_rows_are_those_of_prometheus() {
    let Some(program) = server::program_or_skip().unwrap() else { return };
    let kept = Retention { series: KEPT, series_5m: KEPT, series_1h: KEPT, ..Retention::default() };
    let world = with_token(|settings| settings.retention = kept).await;
    let collector = world.collector.as_ref().unwrap();
    let (hub, at) = (collector.hub.clone(), collector.http);
    let (prometheus, ours) = tokio::task::spawn_blocking(move || {
        let prometheus = Prometheus::start(&program).unwrap();
        let ours = Api { at, token: Some(TOKEN.to_owned()) };
        let all = questions::series::all();
        prometheus.api.store(&all).unwrap();
        ours.store(&all).unwrap();
        (prometheus, ours)
    })
    .await
    .unwrap();
    while hub.store.unjoined.before(hour_of(BEGIN_MS) + 1) > 0 {
        join::turn(&hub).await.unwrap();
    }
    let sources = hub.sources.len();
    let [whole, slots, rows] = stored(&hub);
    assert!(whole >= sources && slots > 0 && rows > sources, "{whole} hours, {slots} slots, {rows} open rows");
    let tally = tokio::task::spawn_blocking(move || {
        questions::compare_all(GENERATED, false, &prometheus, |query, span| questions::ask(&ours, query, span))
    });
    let tally = tally.await.unwrap().unwrap();
    println!("{whole} blocks of hours, {slots} of slots, {rows} open rows; then {:?}", stored(&hub));
    println!("{tally}");
    tally.check().unwrap();
    // The store is closed when nobody holds it.
    drop(hub);
    world.stop().await;
}
