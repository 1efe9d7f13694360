//! Power cuts and full disks: the real program on an ext4 image.
//!
//! A cut is SIGKILL and a copy of the image as it is then: what was only in the page cache of the
//! mounted filesystem is not in it. The filesystem commits by itself only every 300 s, so what
//! survives is what was synced. `MAINSTAY_POWER_CUTS` says how often (10 unless told).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_collector::clock;
use mainstay_collector::store::Store;
use mainstay_collector::store::keys::PieceKey;
use mainstay_collector::store::series::hour_of;
use mainstay_proto::v1;
use mainstay_proto::v1::agent_message::Of as Say;
use mainstay_proto::v1::collector_message::Of as Hear;

use crate::agent::{Agent, Book, EPOCH, definitions, hello, item, repair, summary};
use crate::program::{Program, Site};
use crate::world::{Papers, SOON};

const WALL: i64 = 1_780_000_000_000;
/// Between two summaries: what is pushed between two cuts crosses the end of a slot, and of three the end of an hour.
const SUMMARY_EVERY_MS: i64 = 30_000;
/// Repairs, and summaries, between two cuts.
const GROWN: usize = 40;
/// Longest from the start of the program to being ready, after a cut.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// Says that a test is skipped, which is a failure where `CI` is `true`.
fn is_skipped(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs root");
    eprintln!("skipped, it mounts an image and needs root: {test}");
    true
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An ext4 filesystem in a file, mounted.
struct Disk {
    folder: PathBuf,
    cuts: usize,
}

impl Disk {
    fn make(folder: &Path, mib: u64) -> Self {
        let disk = Self { folder: folder.to_owned(), cuts: 0 };
        std::fs::create_dir(disk.mount()).unwrap();
        let image = disk.image();
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0", image.to_str().unwrap()]);
        disk.mount_image();
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.join(format!("{}.img", self.cuts))
    }

    fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn mount_image(&self) {
        let (image, mount) = (self.image(), self.mount());
        run("mount", &["-o", "loop,commit=300", image.to_str().unwrap(), mount.to_str().unwrap()]);
    }

    /// Everything that is not on the disk is gone.
    fn cut(&mut self) {
        let before = self.image();
        self.cuts += 1;
        run("cp", &["--sparse=always", before.to_str().unwrap(), self.image().to_str().unwrap()]);
        run("umount", &[self.mount().to_str().unwrap()]);
        std::fs::remove_file(before).unwrap();
        self.mount_image();
    }

    fn sync(&self) {
        rustix::fs::syncfs(std::fs::File::open(self.mount()).unwrap()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !Command::new("umount").arg(self.mount()).status().is_ok_and(|status| status.success()) {
            let _ = Command::new("umount").arg("-l").arg(self.mount()).status();
        }
    }
}

/// What an agent has in its spool, and how much of it was acknowledged.
struct Spool {
    book: Book,
    items: Vec<v1::Item>,
    acknowledged: u64,
    /// When the summaries are of, and the gauge in each.
    summaries: Vec<(i64, f64)>,
}

impl Spool {
    fn new(papers: &Papers) -> Self {
        Self { book: Book::new(papers.host_id), items: Vec::new(), acknowledged: 0, summaries: Vec::new() }
    }

    /// One more repair.
    fn grow(&mut self) {
        let seq = self.items.len() as u64 + 1;
        let records = repair(&mut self.book, seq, seq, WALL + seq.cast_signed());
        self.items.extend((seq..).zip(records).map(|(seq, of)| item(seq, of)));
    }

    /// One more summary, some time after the last one.
    fn summarize(&mut self, first_ms: i64) {
        let (n, seq) = (self.summaries.len() as i64, self.items.len() as u64 + 1);
        let at_ms = first_ms + n * SUMMARY_EVERY_MS;
        self.items.push(item(seq, v1::item::Of::Summary(summary(n, at_ms))));
        self.summaries.push((at_ms, n as f64));
    }

    /// Pushes all that is not there yet in a session of its own. Whether all of it was acknowledged.
    async fn push_all(&self, address: &str, papers: &Papers) -> bool {
        // A session writes too: it is refused for as long as a push would be.
        let Ok((mut agent, welcome)) = Agent::try_open(address, papers, hello("web-1")).await else { return false };
        assert!(welcome.durable_seq >= self.acknowledged);
        let rest = usize::try_from(welcome.durable_seq).unwrap();
        matches!(agent.push(self.items[rest..].to_vec()).await,
            Some(Hear::Ack(ack)) if ack.durable_seq == self.items.len() as u64)
    }

    /// Pushes what follows `seq`, and a little of what comes before it, in parts and without waiting for answers. Ends
    /// when `acks` have come, with parts still on their way, or with the session.
    async fn push(&mut self, agent: &mut Agent, seq: u64, acks: usize) {
        let from = usize::try_from(seq.saturating_sub(3)).unwrap();
        let mut define = definitions();
        for part in self.items[from..].chunks(8) {
            let define = std::mem::take(&mut define);
            agent.say(Say::Push(v1::Push { epoch: EPOCH, define, items: part.to_vec(), ..Default::default() })).await;
        }
        for _ in 0..acks {
            let Some(Hear::Ack(ack)) = agent.hear().await else { return };
            self.acknowledged = self.acknowledged.max(ack.durable_seq);
        }
    }
}

/// A program with its data on the disk.
fn site(folder: &Path, disk: &Disk, min_free: &str) -> Site {
    let mut site = Site::below(folder).with_data(disk.mount().join("data"));
    site.config = format!("min_free = \"{min_free}\"\n");
    site
}

/// So long a push may take before it counts as not answered.
const UNANSWERED: Duration = Duration::from_secs(3);

fn cuts() -> usize {
    std::env::var("MAINSTAY_POWER_CUTS").map_or(10, |text| text.parse().expect("MAINSTAY_POWER_CUTS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_power_cuts_what_was_acknowledged_is_there_and_nothing_twice() {
    if is_skipped("after_power_cuts_what_was_acknowledged_is_there_and_nothing_twice") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::make(folder.path(), 512);
    let site = site(folder.path(), &disk, "16MiB");
    let mut program = Program::start(&site).await;
    let papers = program.enrol().await;
    let mut spool = Spool::new(&papers);
    let (mut slowest, mut lost) = (Duration::ZERO, 0);
    let lasting_ms = (cuts() * GROWN) as i64 * SUMMARY_EVERY_MS;
    let first_ms = clock::wall_ms() - lasting_ms - 3_600_000;
    for cut in 0..cuts() {
        let (mut agent, welcome) = Agent::open(&program.address, &papers, hello("web-1")).await;
        lost += spool.acknowledged.saturating_sub(welcome.durable_seq);
        assert!(
            welcome.durable_seq >= spool.acknowledged,
            "cut {cut}: {} of {} acknowledged are there",
            welcome.durable_seq,
            spool.acknowledged
        );
        for _ in 0..GROWN {
            spool.grow();
            spool.summarize(first_ms);
        }
        // Another point of the work at every cut.
        spool.push(&mut agent, welcome.durable_seq, 1 + cut % 17).await;
        program.kill();
        disk.cut();
        program = Program::start(&site).await;
        slowest = slowest.max(program.ready_after);
        assert!(program.ready_after < RECOVERY_MAX, "cut {cut}: ready after {:?}", program.ready_after);
    }
    let (mut agent, welcome) = Agent::open(&program.address, &papers, hello("web-1")).await;
    assert!(welcome.durable_seq >= spool.acknowledged);
    let all = spool.items.len() as u64;
    let (mut durable_seq, mut define) = (0, definitions());
    for part in spool.items.chunks(10_000) {
        durable_seq = agent.acked_defined(std::mem::take(&mut define), part.to_vec()).await.durable_seq;
    }
    assert_eq!(durable_seq, all);
    program.expect_ledger(&spool.book).await;
    let span = (first_ms, first_ms + lasting_ms);
    assert_eq!(program.points("node_load1", span).await, spool.summaries, "every summary is there once");
    assert!(program.stop());
    let store = Store::open(&disk.mount().join("data/db"), 32 << 20, 0).unwrap();
    let (mut slots, mut hours) = (0, 0);
    for hour in hour_of(span.0)..=hour_of(span.1) {
        let heads = PieceKey::heads(hour);
        for head in store.scan::<PieceKey>(&heads, &heads) {
            *(if head.unwrap().0.slot == PieceKey::WHOLE { &mut hours } else { &mut slots }) += 1;
        }
    }
    assert!(slots + hours > 0, "summaries were sealed between the cuts");
    println!(
        "{} power cuts: {} of {all} records and summaries had been acknowledged, {lost} of them lost (goal 0), ledger and series have each once (in {hours} hours, {slots} slots and open rows), ready again within {slowest:.2?} (goal {RECOVERY_MAX:?})",
        disk.cuts, spool.acknowledged
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncing_a_power_cut_loses_what_was_acknowledged() {
    if is_skipped("without_syncing_a_power_cut_loses_what_was_acknowledged") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::make(folder.path(), 512);
    let mut site = site(folder.path(), &disk, "16MiB");
    site.preload = Some("libeatmydata.so");
    let program = Program::start(&site).await;
    let papers = program.enrol().await;
    let mut spool = Spool::new(&papers);
    disk.sync();
    let (mut agent, welcome) = Agent::open(&program.address, &papers, hello("web-1")).await;
    for _ in 0..GROWN {
        spool.grow();
    }
    spool.push(&mut agent, welcome.durable_seq, 10).await;
    program.kill();
    disk.cut();
    let program = Program::start(&site).await;
    let (_agent, welcome) = Agent::open(&program.address, &papers, hello("web-1")).await;
    // If this fails, the cuts above cut nothing and prove nothing.
    assert!(spool.acknowledged > 0);
    assert!(welcome.durable_seq < spool.acknowledged, "{} of {}", welcome.durable_seq, spool.acknowledged);
    program.kill();
    println!(
        "a power cut without syncing, which has to lose: {} of {} acknowledged records lost",
        spool.acknowledged - welcome.durable_seq,
        spool.acknowledged
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_runs_full_under_the_store_loses_nothing_and_goes_on_when_there_is_room() {
    if is_skipped("a_disk_that_runs_full_under_the_store_loses_nothing_and_goes_on_when_there_is_room") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::make(folder.path(), 128);
    // Nothing is reserved: the store itself runs into the end of the disk.
    let site = site(folder.path(), &disk, "0");
    let mut program = Program::start(&site).await;
    let papers = program.enrol().await;
    let mut spool = Spool::new(&papers);
    let (mut agent, _) = Agent::open(&program.address, &papers, hello("web-1")).await;
    let ballast = disk.mount().join("ballast");
    fill(&ballast, 256 * 1024);
    // Either its log meets the end of the disk, and the push is refused, or its tables do, and it is not answered.
    loop {
        for _ in 0..200 {
            spool.grow();
        }
        let from = usize::try_from(spool.acknowledged).unwrap();
        match tokio::time::timeout(UNANSWERED, agent.push(spool.items[from..].to_vec())).await {
            Ok(Some(Hear::Ack(ack))) => spool.acknowledged = ack.durable_seq,
            Ok(Some(Hear::Reject(reject))) => {
                assert_eq!(reject.reason, "storage_full", "{}", reject.text);
                break;
            }
            Ok(other) => panic!("Ack or Reject was expected, not {other:?}"),
            Err(_) => break,
        }
    }
    std::fs::remove_file(&ballast).unwrap();
    // From its tables RocksDB comes back by itself. From its log it does not: the program ends, and systemd starts it
    // anew.
    let deadline = tokio::time::Instant::now() + 2 * SOON;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no push is taken again");
        if let Some(status) = program.ended() {
            assert!(!status.success());
            program = Program::start(&site).await;
        }
        if let Ok(true) = tokio::time::timeout(UNANSWERED, spool.push_all(&program.address, &papers)).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // between two looks
    }
    program.expect_ledger(&spool.book).await;
    assert!(program.stop());
}

/// Fills the disk up to a rest.
fn fill(ballast: &Path, rest: u64) {
    let file = std::fs::File::create(ballast).unwrap();
    let fs = rustix::fs::fstatvfs(&file).unwrap();
    let free = (fs.f_bavail * fs.f_frsize).saturating_sub(rest);
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free).unwrap();
}
