//! What holds for every sequence of events: budgets, memory, silence without a policy.

use proptest::prelude::*;

use super::*;
use crate::decide::Fleet;

/// What may happen to a host.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes.
    Wait(u64),
    /// The wall clock is set, in either direction.
    WallJump(i64),
    /// The host goes down, for so long, and comes back with another boot id and its boot clock at zero.
    Reboot(u64),
    /// The agent starts anew and reads its ledger.
    Restart,
    /// A service fails, and is decided about.
    Fail { unit: u8, new_finding: bool },
    /// The last plan is proved, or is not.
    Prove(bool),
    /// The last step ended badly.
    Broke(Ended),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1u64..4_000).prop_map(Event::Wait),
        1 => (-10_000_000i64..10_000_000).prop_map(Event::WallJump),
        1 => (0u64..5_000).prop_map(Event::Reboot),
        1 => Just(Event::Restart),
        6 => (0u8..3, any::<bool>()).prop_map(|(unit, new_finding)| Event::Fail { unit, new_finding }),
        2 => any::<bool>().prop_map(Event::Prove),
        1 => prop_oneof![Just(Ended::Failed), Just(Ended::Refused), Just(Ended::Unknown)].prop_map(Event::Broke),
    ]
}

/// A host in a world whose true time the host does not know.
struct World {
    host: Host,
    true_seconds: u64,
    boot_seconds: u64,
    wall_ms: i64,
    boots: u8,
    findings: u64,
    last: Option<Decision>,
    acted_at: Vec<u64>,
}

impl World {
    fn new(policy: Policy, fleet: Fleet) -> Self {
        let mut host = Host::new(policy);
        host.facts.fleet = fleet;
        Self {
            host,
            true_seconds: 0,
            boot_seconds: 0,
            wall_ms: NOON_MS,
            boots: 1,
            findings: 1,
            last: None,
            acted_at: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.boot_seconds * 1_000_000_000, wall_ms: self.wall_ms }
    }

    fn wait(&mut self, seconds: u64) {
        self.true_seconds += seconds;
        self.boot_seconds += seconds;
        self.wall_ms += i64::try_from(seconds).unwrap() * 1000;
    }

    /// The agent starts: everything that it knows comes from its records.
    fn start(&mut self) {
        let mut book = Book::default();
        self.host.records.iter().for_each(|record| book.apply(record));
        self.host.book = book;
        let boot = BootId([self.boots; 16]);
        self.host.record(self.now(), Body::Started { boot, version: "1".into() });
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Wait(seconds) => self.wait(*seconds),
            Event::WallJump(seconds) => self.wall_ms += seconds * 1000,
            Event::Reboot(down) => {
                self.wait(*down);
                self.boot_seconds = 0;
                self.boots = self.boots.wrapping_add(1);
                self.start();
            }
            Event::Restart => self.start(),
            Event::Fail { unit, new_finding } => self.fail(*unit, *new_finding),
            Event::Prove(recovered) => {
                if let Some(last) = self.last.take() {
                    self.host.verified(&last, *recovered, self.now());
                }
            }
            Event::Broke(ended) => {
                if let Some(last) = self.last.take() {
                    self.host.ended(&last, *ended, self.now());
                }
            }
        }
    }

    fn fail(&mut self, unit: u8, new_finding: bool) {
        self.findings += u64::from(new_finding);
        let opened = self.now();
        let failed = Finding { id: FindingId(self.findings), opened, ..finding(&format!("u{unit}.service")) };
        let decision = self.host.decide(&failed, opened);
        if let Some(plan) = plan(&decision) {
            let step = plan.steps[0].clone();
            let intent = Body::Intent { decision: decision.id, action: step.action, step: step.step };
            self.host.record(opened, intent);
            self.acted_at.push(self.true_seconds);
            self.last = Some(decision);
        }
    }

    /// Most actions in any stretch of true time as long as this.
    fn most_within(&self, seconds: u64) -> usize {
        let within = |from: &u64| self.acted_at.iter().filter(|at| (*from..from + seconds).contains(at)).count();
        self.acted_at.iter().map(within).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn never_more_actions_than_the_budget_in_true_time(
        events in proptest::collection::vec(event(), 0..120), count in 1u32..4, per in 60u64..10_000,
    ) {
        let text = format!("budget = \"{count} per {per}s\"\ncooldown = \"0s\"\nstart_over = \"1s\"");
        let mut world = World::new(auto(&text), Fleet::Alone);
        events.iter().for_each(|event| world.happen(event));
        prop_assert!(world.most_within(per) <= count as usize, "{:?}", world.acted_at);
    }

    #[test]
    fn never_more_than_half_the_budget_without_a_collector(
        events in proptest::collection::vec(event(), 0..120), count in 1u32..8,
    ) {
        let text = format!("budget = \"{count} per 1h\"\ncooldown = \"0s\"\nstart_over = \"1s\"");
        let mut world = World::new(auto(&text), Fleet::Away);
        events.iter().for_each(|event| world.happen(event));
        prop_assert!(world.most_within(3600) <= (count as usize / 2).max(1), "{:?}", world.acted_at);
    }

    #[test]
    fn never_sooner_than_the_cooldown_in_true_time(events in proptest::collection::vec(event(), 0..120)) {
        let mut world = World::new(auto("budget = \"1000 per 1h\"\ncooldown = \"10m\"\nstart_over = \"1s\""), Fleet::Alone);
        // One subject only.
        for event in &events {
            match event {
                Event::Fail { new_finding, .. } => world.happen(&Event::Fail { unit: 0, new_finding: *new_finding }),
                other => world.happen(other),
            }
        }
        prop_assert!(world.most_within(600) <= 1, "{:?}", world.acted_at);
    }

    #[test]
    fn a_book_made_from_the_records_is_the_one_that_lived(events in proptest::collection::vec(event(), 0..120)) {
        let mut world = World::new(auto("cooldown = \"1m\"\nstart_over = \"1s\""), Fleet::Alone);
        events.iter().for_each(|event| world.happen(event));
        let mut book = Book::default();
        world.host.records.iter().for_each(|record| book.apply(record));
        prop_assert_eq!(&book, &world.host.book);
        prop_assert_eq!(Book::restore(&book.snapshot()), Ok(book));
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_read_but_never_panics(
        events in proptest::collection::vec(event(), 0..40), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
    ) {
        let mut world = World::new(auto("cooldown = \"0s\""), Fleet::Alone);
        events.iter().for_each(|event| world.happen(event));
        let mut bytes = world.host.book.snapshot();
        let at = at % bytes.len();
        prop_assert!(Book::restore(&bytes[..cut % bytes.len()]).is_err());
        bytes[at] = byte;
        let _ = Book::restore(&bytes);
    }

    #[test]
    fn without_a_policy_nothing_is_ever_done(events in proptest::collection::vec(event(), 0..120)) {
        for policy in [Policy::default(), crate::policy::builtin()] {
            let mut world = World::new(policy, Fleet::Alone);
            events.iter().for_each(|event| world.happen(event));
            prop_assert_eq!(&world.acted_at, &Vec::<u64>::new());
        }
    }

    #[test]
    fn it_acts_exactly_when_every_guard_lets_it(
        confidence in 0.0f64..=1.0, seconds in 0u64..400, down in any::<bool>(), held in any::<bool>(), unit in 0usize..3,
        mode in prop_oneof![Just("observe"), Just("suggest"), Just("approve"), Just("auto")],
    ) {
        let mut host = Host::new(policy(&format!("mode = \"{mode}\"\nfor = \"2m\"\nladder = [{{ do = \"unit.restart\" }}]")));
        host.facts.actuator_down = down.then(|| "down".to_owned());
        host.facts.hold_file = held.then(|| "/etc/mainstay/hold".to_owned());
        let unit = ["nginx.service", "dbus.socket", "systemd-udevd.service"][unit];
        let decision = host.ask(&Finding { confidence, ..finding(unit) }, at(100 + seconds));
        let first = decision.verdicts.iter().find(|verdict| !verdict.pass);
        prop_assert_eq!(reason(&decision).is_some(), first.is_some());
        let acts = mode == "auto" && !down && !held && confidence >= 0.9 && seconds >= 120 && unit == "nginx.service";
        prop_assert_eq!(plan(&decision).is_some(), acts);
    }
}
