//! A fleet of two hundred agents goes through everything that can go wrong, and the checkers say
//! what must hold: see `mainstay_tests::sim::check`.
//!
//! The seed is that of the test's name, or SIM_SEED; a failure prints it. SIM_SEEDS=n tries n
//! more.

use mainstay_tests::sim::check::Violation;
use mainstay_tests::sim::fault::Trouble;
use mainstay_tests::sim::rng::Rng;
use mainstay_tests::sim::season::Season;
use mainstay_tests::sim::world::Event;
use mainstay_tests::sim::{Config, SECOND, World};

/// Long enough for the policy to be confirmed before anything goes wrong: a crash during its trial
/// would take it back.
const WARM_UP: u64 = 400;

/// How long things go wrong.
const ROUGH: u64 = 900;

fn seeds(name: &str) -> Vec<u64> {
    let first = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| Rng::seed_of(name));
    let more: u64 = std::env::var("SIM_SEEDS").ok().and_then(|more| more.parse().ok()).unwrap_or(0);
    (0..=more).map(|n| first.wrapping_add(n)).collect()
}

/// Lets all heal, and the fleet tell all that it has to tell.
fn settle(world: &mut World) {
    world.heal();
    for _ in 0..60 {
        world.run_for(10 * SECOND);
        if world.is_settled() {
            break;
        }
    }
    world.check_delivery();
}

fn assert_sound(world: &World, seed: u64) {
    let violations = world.checker.violations();
    assert!(violations.is_empty(), "SIM_SEED={seed}\n{}", show(&violations));
}

/// Of each promise that was broken, how often and the first few times.
fn show(violations: &[Violation]) -> String {
    let mut text = String::new();
    for of_one in violations.chunk_by(|a, b| a.rule == b.rule) {
        text += &format!("{} ({} times)\n", of_one[0].rule, of_one.len());
        of_one.iter().take(5).for_each(|violation| text += &format!("    {}\n", violation.text));
    }
    text
}

#[test]
fn a_rough_season_breaks_no_promise() {
    for seed in seeds("a_rough_season_breaks_no_promise") {
        let mut world = World::new(Config::rough(200), seed);
        world.run_for(WARM_UP * SECOND);
        world.befall(&Season::rough(), ROUGH);
        world.run_for(ROUGH * SECOND);
        settle(&mut world);
        assert_sound(&world, seed);
        assert!(world.is_settled(), "SIM_SEED={seed}: the fleet does not settle");
        assert!(world.checker.actions > 20, "SIM_SEED={seed}: only {} actions", world.checker.actions);
    }
}

#[test]
fn a_stampede_is_held_to_the_share_of_the_fleet() {
    for seed in seeds("a_stampede_is_held_to_the_share_of_the_fleet") {
        let mut world = World::new(Config::quiet(100), seed);
        world.run_for(WARM_UP * SECOND);
        world.turn_rough();
        for node in 0..100 {
            let unit = "web.service".parse().expect("a unit name");
            world.after(node as u64, Event::Trouble(node, Trouble::Kill(unit)));
        }
        world.run_for(300 * SECOND);
        assert_eq!(world.checker.actions, 10, "SIM_SEED={seed}: a tenth of the fleet acts, and at once");
        world.run_for(1_000 * SECOND);
        assert!(world.checker.actions >= 30, "SIM_SEED={seed}: the others follow, {} acted", world.checker.actions);
        settle(&mut world);
        assert_sound(&world, seed);
    }
}

#[test]
fn a_quiet_fleet_acts_zero_times() {
    for seed in seeds("a_quiet_fleet_acts_zero_times") {
        let mut world = World::new(Config::rough(200), seed);
        world.run_for(WARM_UP * SECOND);
        let season =
            Season { crash_every: 20, jump_every: 30, partition_every: 60, collector_every: 200, ..Season::default() };
        world.befall(&season, ROUGH / 2);
        world.run_for(ROUGH / 2 * SECOND);
        settle(&mut world);
        world.checker.was_quiet();
        assert_sound(&world, seed);
    }
}
