//! What hangs on a host, or is far too much of it, does not keep the tick from coming: a dead network mount, a bus that was
//! stopped, a disk without room, tens of thousands of processes, mounts and units.
//!
//! The agent runs whole, its loop and all its threads, over a root of the test's own. The two that need mounts need root.

mod bus;
#[path = "../../../bench/made_host.rs"]
mod made_host;
mod running;
mod space;

use std::time::{Duration, Instant};

use mainstay_agent::config::Settings;
use mainstay_agent::host::Host;
use mainstay_agent::host::filesystems::FilesystemSettings;
use mainstay_agent::host::systemd::{UNITS_MAX, UnitsEvent};
use mainstay_core::agent::{self, Agent, Input, Restored};
use mainstay_core::budget::Limits;
use mainstay_core::detect;
use mainstay_core::policy::signed::TrustedKeys;
use mainstay_core::sample::HostFacts;
use mainstay_core::time::Now;

use bus::Bus;
use made_host::{MadeHost, Size};
use running::{Running, root_with_own_mounts};

/// The tick comes every second, so what is done in one has to be done in less.
const TICK: Duration = Duration::from_secs(1);

/// A test's own scrapes are no use of the agent's that it should keep within a budget.
fn settings() -> Settings {
    Settings { budget: Limits { cpu_ratio: 4.0, rss_bytes: 1 << 30 }, ..Settings::default() }
}

#[test]
fn a_dead_network_mount_is_unknown_and_the_tick_comes() {
    if !space::in_own_mounts("a_dead_network_mount_is_unknown_and_the_tick_comes") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, dead) = (root_with_own_mounts(folder.path()), folder.path().join("dead"));
    std::fs::create_dir(&dead).unwrap();
    let server = space::dead_mount(&dead);
    let filesystems = FilesystemSettings { network: true, ..FilesystemSettings::default() };
    let agent = Running::start(&root, Settings { filesystems, ..settings() });
    agent.until("says that the mount hangs", |seen| seen["mainstay_agent_mounts_stuck"] == 1.0);
    let slowest = agent.ticks(5.0);
    println!("a dead mount: slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
    // Its server is gone for good: whoever waited for it comes back, and it is asked again.
    drop(server);
    agent.until("says that it no longer hangs", |seen| seen["mainstay_agent_mounts_stuck"] == 0.0);
}

#[test]
fn a_bus_that_was_stopped_is_unknown_and_followed_again_and_the_tick_comes() {
    let test = "a_bus_that_was_stopped_is_unknown_and_followed_again_and_the_tick_comes";
    let Some(path) = space::with_own_bus(test) else { return };
    let bus = Bus::listen(&path, 20);
    bus.stop();
    let made = MadeHost::new(Size::default());
    let agent = Running::start(made.root(), settings());
    // It accepts, and says nothing: the call is given up after its deadline.
    let connected =
        |is: f64| move |seen: &std::collections::BTreeMap<String, f64>| seen["mainstay_agent_dbus_connected"] == is;
    agent.until("gives the bus up", |seen| seen["mainstay_agent_dbus_lost_total"] >= 1.0);
    assert!(agent.page().contains("units unknown (no D-Bus)"), "{}", agent.page());
    let slowest = agent.ticks(3.0);
    println!("a silent bus: slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
    bus.go_on();
    agent.until("follows the units", connected(1.0));
    agent.until("has all units", |seen| seen["mainstay_agent_units"] == 20.0);
    // In the middle of it: after half a minute of silence it is asked for a sign of life, in vain.
    bus.stop();
    agent.until("notices the silence", connected(0.0));
    let slowest = agent.ticks(3.0);
    println!("a bus that was stopped: slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
    bus.go_on();
    agent.until("follows the units again", connected(1.0));
}

#[test]
fn a_full_disk_below_the_state_folder_costs_what_cannot_be_kept_and_no_tick() {
    if !space::in_own_mounts("a_full_disk_below_the_state_folder_costs_what_cannot_be_kept_and_no_tick") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, state) = (root_with_own_mounts(folder.path()), folder.path().join("state"));
    std::fs::create_dir(&state).unwrap();
    space::small_disk(&state, 96 << 20);
    let mut settings = settings();
    settings.state.dir.clone_from(&state);
    (settings.state.ledger_bytes_max, settings.state.spool_bytes_max) = (4 << 20, 4 << 20);
    // Every look is followed by an attempt to save.
    settings.state.save_every = Duration::from_secs(1);
    let agent = Running::start(&root, settings);
    agent.until("has saved what it learned", |_| state.join("learned").exists());
    let filled = fill(&state.join("filler"));
    assert!(filled > 1 << 20, "{filled} bytes were free");
    std::fs::remove_file(state.join("learned")).unwrap();
    let _ = fill(&state.join("filler-2"));
    let slowest = agent.ticks(5.0);
    println!("a full disk: slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
    assert!(!state.join("learned").exists(), "there is no room for it");
    // With room again, it is kept again.
    std::fs::remove_file(state.join("filler")).unwrap();
    agent.until("saves again", |_| state.join("learned").exists());
}

/// Writes until there is no room; gives how much there was.
fn fill(path: &std::path::Path) -> u64 {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let mut bytes = 0;
    for size in [1 << 16, 1 << 12] {
        while file.write_all(&vec![1; size]).is_ok() {
            bytes += size as u64;
        }
    }
    bytes
}

#[test]
fn twenty_thousand_processes_and_five_thousand_mounts_cost_no_tick() {
    let made = MadeHost::new(Size { processes: 20_000, mounts: 5_000, units: 0 });
    let agent = Running::start(made.root(), settings());
    let slowest = agent.ticks(12.0);
    println!("20,000 processes and 5,000 mounts: slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
    agent.until("leaves mounts out and says so", |seen| {
        seen["mainstay_agent_filesystems_dropped"] >= 4_700.0 && seen["mainstay_agent_ticks_late_total"] == 0.0
    });
}

#[test]
fn ten_thousand_units_on_the_bus_cost_no_tick() {
    let Some(path) = space::with_own_bus("ten_thousand_units_on_the_bus_cost_no_tick") else { return };
    let _bus = Bus::listen(&path, 10_000);
    let made = MadeHost::new(Size::default());
    let agent = Running::start(made.root(), settings());
    let begun = Instant::now();
    let seen = agent.until("follows the units", |seen| seen["mainstay_agent_units"] > 0.0);
    #[allow(clippy::cast_precision_loss)]
    let most = UNITS_MAX as f64;
    assert_eq!((seen["mainstay_agent_units"], seen["mainstay_agent_units_dropped"]), (most, 10_000.0 - most));
    let (read, slowest) = (begun.elapsed(), agent.ticks(5.0));
    println!("10,000 units: read in {read:?}, slowest tick {slowest:?}");
    assert!(slowest < TICK, "{slowest:?}");
}

/// The reading of cgroups and everything that follows from a sample: what the loop does in one tick.
#[test]
fn a_sample_of_as_many_units_as_are_followed_is_taken_and_judged_within_a_tick() {
    let units = u32::try_from(UNITS_MAX).unwrap();
    let made = MadeHost::new(Size { units, processes: 200, mounts: 20 });
    let mut host = Host::at(made.root(), FilesystemSettings::default());
    host.units_changed(UnitsEvent::Loaded(made.units()));
    let settings = agent::Settings {
        ids_seed: 1,
        host: None,
        facts: HostFacts::default(),
        detect: detect::Settings::default(),
        budget: Limits::default(),
        operator_keys: TrustedKeys::default(),
        fleet: [0; 16],
        observe_only: None,
    };
    let mut agent = Agent::new(settings, Restored::default(), Now::default());
    let mut slowest = [Duration::ZERO; 2];
    for second in 1..=12 {
        let now = Now::default().plus(Duration::from_secs(second));
        let begun = Instant::now();
        let sample = host.sample(now);
        let read = begun.elapsed();
        assert_eq!(sample.units.as_ref().map(|units| units.len()), Some(UNITS_MAX));
        agent.handle(Input::Sample(Box::new(sample)), now);
        while agent.poll_effect().is_some() {}
        let judged = begun.elapsed() - read;
        // The first one opens everything.
        if second > 1 {
            slowest = [slowest[0].max(read), slowest[1].max(judged)];
        }
    }
    println!("{UNITS_MAX} units: read within {:?}, judged within {:?}", slowest[0], slowest[1]);
    assert!(slowest[0] + slowest[1] < TICK, "{slowest:?}");
}
