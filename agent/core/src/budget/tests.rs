//! The steps: that they are reached, left, and never taken in haste; and what is read on each.

use proptest::prelude::*;

use super::*;
use crate::policy::Policy;

const LIMITS: Limits = Limits { cpu_ratio: 0.1, rss_bytes: 100 << 20 };

/// An agent whose use of its host is made up.
struct Life {
    budget: Budget,
    now: Now,
    cpu: Duration,
    /// When it moved, and where to.
    moves: Vec<(Now, Depth)>,
}

impl Life {
    fn new() -> Self {
        let now = Now { boot_ns: 1_000_000_000_000, wall_ms: 0 };
        Self { budget: Budget::new(LIMITS), now, cpu: Duration::ZERO, moves: Vec::new() }
    }

    /// Lives on for `seconds`, `apart` each, using so much CPU and memory as `of` says of a step.
    fn live(&mut self, seconds: u64, apart: u64, of: impl Fn(Depth) -> (f64, u64)) {
        for _ in 0..seconds / apart {
            let (cpu, mib) = of(self.budget.depth());
            self.now = self.now.plus(Duration::from_secs(apart));
            self.cpu += Duration::from_secs(apart).mul_f64(cpu);
            let before = self.budget.depth();
            let said = self.budget.observe(Usage { cpu: self.cpu, rss_bytes: Some(mib << 20) }, self.now);
            if self.budget.depth() != before {
                assert!(said, "every move is said");
                self.moves.push((self.now, self.budget.depth()));
            }
        }
    }

    fn depths(&self) -> Vec<Depth> {
        self.moves.iter().map(|(_, depth)| *depth).collect()
    }
}

#[test]
fn within_its_limits_it_reads_everything() {
    let mut life = Life::new();
    life.live(7_200, 1, |_| (0.09, 90));
    assert_eq!(life.depths(), []);
    assert!((life.budget.cpu_ratio() - 0.09).abs() < 0.001);
}

#[test]
fn a_peak_of_seconds_is_borne_and_a_minute_of_it_is_not() {
    let mut life = Life::new();
    // Five seconds at a whole core are 8.3 % of a minute.
    for _ in 0..20 {
        life.live(5, 1, |_| (1.0, 50));
        life.live(115, 1, |_| (0.0, 50));
    }
    assert_eq!(life.depths(), []);
    life.live(7, 1, |_| (1.0, 50));
    assert_eq!(life.depths(), [Depth::WithoutProcesses]);
}

#[test]
fn under_constant_load_it_goes_to_the_lowest_step_at_once_and_stays() {
    let mut life = Life::new();
    life.live(60, 1, |_| (1.0, 50));
    assert_eq!(life.depths(), [Depth::WithoutProcesses, Depth::Slower, Depth::CoreOnly]);
    assert!(!life.budget.is_beyond(), "a minute on the lowest step comes first");
    life.live(86_400, 5, |_| (1.0, 50));
    assert_eq!(life.moves.len(), 3);
    assert!(life.budget.is_beyond());
}

#[test]
fn memory_is_given_a_minute_on_every_step() {
    let mut life = Life::new();
    life.live(300, 1, |depth| (0.01, if depth >= Depth::Slower { 80 } else { 101 }));
    assert_eq!(life.depths(), [Depth::WithoutProcesses, Depth::Slower]);
    assert!(life.moves[1].0.since(life.moves[0].0) >= HOLD_MEMORY);
    assert_eq!(life.budget.over(), Some(Over::Memory { bytes: 101 << 20, limit: LIMITS.rss_bytes }));
}

#[test]
fn it_comes_back_up_step_by_step() {
    let mut life = Life::new();
    life.live(120, 1, |_| (0.5, 50));
    life.live(7_200, 1, |_| (0.05, 50));
    let up = [Depth::Slower, Depth::WithoutProcesses, Depth::Whole];
    assert_eq!(life.depths()[3..], up);
    let apart = life.moves.windows(2).skip(2).map(|pair| pair[1].0.since(pair[0].0));
    assert!(apart.clone().all(|apart| apart >= WAIT_MIN && apart < WAIT_MIN * 2), "{:?}", apart.collect::<Vec<_>>());
}

#[test]
fn what_fits_below_and_not_above_is_tried_less_and_less_often() {
    let mut life = Life::new();
    life.live(86_400, 1, |depth| (if depth == Depth::Whole { 0.4 } else { 0.05 }, 50));
    let tries = life.depths().iter().filter(|depth| **depth == Depth::Whole).count();
    assert!((20..=30).contains(&tries), "once an hour in the end: {tries}");
    // What it takes in all is little more than it may on the step that fits.
    assert!(life.cpu < Duration::from_secs(86_400).mul_f64(0.055), "{:?}", life.cpu);
}

#[test]
fn just_under_the_limit_is_no_room() {
    let mut life = Life::new();
    life.live(60, 1, |_| (1.0, 50));
    life.live(7_200, 1, |_| (0.08, 50));
    assert_eq!(life.moves.len(), 3, "the step above takes more");
    life.live(7_200, 1, |_| (0.05, 95));
    assert_eq!(life.moves.len(), 3, "nor is memory");
}

#[test]
fn more_room_by_the_operator_counts_without_a_long_wait() {
    let mut life = Life::new();
    life.live(43_200, 1, |depth| (if depth == Depth::Whole { 0.4 } else { 0.05 }, 50));
    assert_eq!(life.budget.depth(), Depth::WithoutProcesses);
    life.budget.set_limits(Limits { cpu_ratio: 0.5, ..LIMITS });
    life.live(400, 1, |depth| (if depth == Depth::Whole { 0.4 } else { 0.05 }, 50));
    assert_eq!(life.budget.depth(), Depth::Whole);
}

#[test]
fn a_time_that_was_not_seen_is_neither_load_nor_room() {
    let mut life = Life::new();
    life.live(60, 1, |_| (1.0, 50));
    life.now = life.now.plus(Duration::from_secs(40_000));
    life.live(100, 1, |_| (0.01, 50));
    assert_eq!(life.moves.len(), 3, "asleep for half a day");
    assert!(life.budget.points.len() < 128, "{}", life.budget.points.len());
}

#[test]
fn the_words_say_what_is_over_how_far_down_what_is_missed_and_what_to_do() {
    let mut life = Life::new();
    assert_eq!(evidence(&life.budget), []);
    life.live(60, 1, |_| (0.5, 50));
    let said = |life: &Life| evidence(&life.budget).into_iter().map(|e| e.text).collect::<Vec<_>>();
    let lines = said(&life);
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines[0].starts_with("the agent used ") && lines[0].ends_with("times its limit of 10.0 %"), "{lines:#?}");
    assert!(lines[1].contains("step 3 of 3;") && lines[4].contains("journal"), "{lines:#?}");
    assert!(lines[5].contains("raise `cpu` of [budget] in agent.toml"), "{lines:#?}");
    let measure = evidence(&life.budget)[0].measure.clone().unwrap();
    assert_eq!((measure.name.as_str(), measure.limit), ("own_cpu_ratio", Some(0.1)));
    life.live(30, 1, |_| (0.05, 50));
    assert_eq!(said(&life), lines, "the same until it moves");

    let mut life = Life::new();
    life.live(300, 1, |_| (0.01, 140));
    let lines = said(&life);
    assert_eq!(lines[0], "the agent holds 140.0 MiB of memory, 40.0 MiB more than its limit of 100.0 MiB");
    assert!(lines[1].contains("even so it is over"), "{lines:#?}");
}

const POLICY: &str = r#"
version = 1
[[rule]]
name = "leaks"
on = ["memory.leak", "fd.leak"]
units = ["java*.service"]
mode = "approve"
ladder = [{ do = "notify", to = "ops" }, { do = "unit.restart" }]
[[rule]]
name = "down"
on = ["service.failed"]
units = ["*.service"]
mode = "auto"
ladder = [{ do = "unit.restart" }]
[[rule]]
name = "told"
on = ["fd.exhausted"]
units = ["web.service"]
mode = "auto"
ladder = [{ do = "notify", to = "ops" }]
[[rule]]
name = "watched"
on = ["task.leak"]
units = ["db.service"]
mode = "observe"
ladder = [{ do = "unit.restart" }]
"#;

#[test]
fn what_a_rule_heals_by_its_readings_is_read_on_every_step() {
    let policy = Policy::parse(&[("p.toml", POLICY)]).unwrap();
    for depth in Depth::ALL {
        let reading = Reading::on(depth, &policy);
        let of = |name: &str| reading.of_unit(&name.parse().unwrap());
        assert_eq!(of("java-1.service"), OfUnit::Whole, "{depth:?}");
        let rest = match depth {
            Depth::Whole => OfUnit::Whole,
            Depth::WithoutProcesses | Depth::Slower => OfUnit::WithoutProcesses,
            Depth::CoreOnly => OfUnit::Nothing,
        };
        assert_eq!([of("web.service"), of("db.service"), of("nginx.service")], [rest; 3], "{depth:?}");
        assert_eq!(reading.counts_processes(), depth == Depth::Whole);
        assert_eq!(reading.follows_log(), depth != Depth::CoreOnly);
    }
}

#[test]
fn samples_are_never_more_than_ten_seconds_apart() {
    let slower = Reading { depth: Depth::Slower, ..Reading::default() };
    let ticks = |seconds| slower.ticks(Duration::from_secs(seconds));
    assert_eq!([1, 2, 3, 5, 6, 10].map(ticks), [5, 5, 3, 2, 1, 1]);
    assert_eq!(Reading { depth: Depth::WithoutProcesses, ..Reading::default() }.ticks(Duration::from_secs(1)), 1);
}

/// Seconds of life: CPU and memory, and how far apart they are.
fn stretch() -> impl Strategy<Value = (f64, u64, u64, u64)> {
    (prop_oneof![0.0..0.2f64, 0.0..2.0f64], prop_oneof![Just(50u64), 80..130u64], 1u64..12, 1u64..1_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn never_moves_in_haste_and_never_skips_a_step(stretches in proptest::collection::vec(stretch(), 1..40)) {
        let mut life = Life::new();
        for (cpu, mib, apart, seconds) in stretches {
            life.live(seconds, apart, |depth| (cpu / f64::from(1 + depth.steps()), mib));
        }
        let begun = (Now { boot_ns: 1_000_000_000_000, wall_ms: 0 }, Depth::Whole);
        let all: Vec<_> = std::iter::once(begun).chain(life.moves).collect();
        for pair in all.windows(2) {
            let ((before, from), (after, to)) = (pair[0], pair[1]);
            let apart = after.since(before);
            prop_assert!(apart >= HOLD, "{from:?} to {to:?} after {apart:?}");
            prop_assert_eq!(i16::from(from.steps()).abs_diff(i16::from(to.steps())), 1);
            prop_assert!(to > from || apart >= WAIT_MIN, "up after {:?}", apart);
        }
    }

    #[test]
    fn always_reaches_the_lowest_step_while_it_is_over(
        before in proptest::collection::vec(stretch(), 0..20), over in 1.1..20.0f64, by_memory: bool, apart in 1u64..11,
    ) {
        let mut life = Life::new();
        for (cpu, mib, apart, seconds) in before {
            life.live(seconds, apart, |_| (cpu, mib));
        }
        let (cpu, mib) = if by_memory { (0.0, 101) } else { (LIMITS.cpu_ratio * over, 50) };
        life.live(300, apart, |_| (cpu, mib));
        prop_assert_eq!(life.budget.depth(), Depth::CoreOnly);
    }

    #[test]
    fn always_comes_back_up_where_there_is_room(before in proptest::collection::vec(stretch(), 0..40)) {
        let mut life = Life::new();
        for (cpu, mib, apart, seconds) in before {
            life.live(seconds, apart, |_| (cpu, mib));
        }
        life.live(3 * (WAIT_MAX.as_secs() + 200), 1, |_| (0.01, 50));
        prop_assert_eq!(life.budget.depth(), Depth::Whole);
    }
}
