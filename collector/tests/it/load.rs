//! A small fleet at the real program, over real sessions: what `bench/load.rs` measures of a large one is right.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use crate::fleet::shapes;

#[allow(dead_code)] // the measurement uses more of it
#[path = "../../../bench/load/mod.rs"]
mod play;
#[allow(dead_code)]
#[path = "../../../bench/recording.rs"]
mod recording;
#[allow(dead_code)]
#[path = "../../../bench/values.rs"]
pub(crate) mod values;

use play::fleet::Fleet;
use play::papers::enrol;
use play::process::Process;
use play::tally::Tally;
use play::trials;
use values::Series;

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
