//! The checkers are checked: a bug that is planted around the agents is reported by the very
//! checker that is there for it, and the same world without it is sound.

use mainstay_tests::sim::check::{EXACTLY_ONCE, OVER_BUDGET, TWICE, Violation};
use mainstay_tests::sim::fault::{Fault, Trouble};
use mainstay_tests::sim::machine::Nature;
use mainstay_tests::sim::rng::Rng;
use mainstay_tests::sim::season::Season;
use mainstay_tests::sim::world::Event;
use mainstay_tests::sim::{Bug, Config, MILLI, SECOND, World};

fn rules(violations: &[Violation]) -> Vec<&'static str> {
    let mut rules: Vec<_> = violations.iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

fn settled(mut world: World) -> World {
    world.heal();
    world.run_for(300 * SECOND);
    world.check_delivery();
    world
}

/// A collector that crashes again and again just after all hosts had something to tell.
fn crashing_collector(bug: Option<Bug>) -> World {
    let mut world = World::new(Config { bug, ..Config::rough(40) }, Rng::seed_of("crashing_collector"));
    world.run_for(400 * SECOND);
    for round in 0..12 {
        let at = round * 30 * SECOND;
        for node in 0..40 {
            world.after(at, Event::Trouble(node, Trouble::Kill("web.service".parse().expect("a unit name"))));
        }
        world.after(at + (40 + 10 * round) * MILLI, Event::Fault(Fault::Collector(2 * SECOND)));
    }
    world.befall(&Season { crash_every: 60, ..Season::default() }, 360);
    world.run_for(360 * SECOND);
    settled(world)
}

#[test]
fn an_acknowledgement_before_the_commit_is_caught() {
    assert_eq!(rules(&crashing_collector(None).checker.violations()), Vec::<&str>::new());
    let world = crashing_collector(Some(Bug::AcknowledgesBeforeCommit));
    assert_eq!(rules(&world.checker.violations()), [EXACTLY_ONCE]);
}

/// One service that dies again and again, under an agent that crashes again and again.
fn dying_service(bug: Option<Bug>) -> World {
    let services = vec![("web.service", Nature::DiesAfter(std::time::Duration::from_secs(100)))];
    let config = Config { bug, services, ..Config::quiet(20) };
    let mut world = World::new(config, Rng::seed_of("dying_service"));
    world.run_for(400 * SECOND);
    for node in 0..20 {
        world.after(0, Event::Trouble(node, Trouble::Kill("web.service".parse().expect("a unit name"))));
    }
    world.befall(&Season { crash_every: 2, ..Season::default() }, 3_000);
    world.run_for(3_000 * SECOND);
    settled(world)
}

#[test]
fn an_agent_that_forgets_its_budget_is_caught() {
    assert_eq!(rules(&dying_service(None).checker.violations()), Vec::<&str>::new());
    let world = dying_service(Some(Bug::ForgetsTheBook));
    assert!(rules(&world.checker.violations()).contains(&OVER_BUDGET));
}

/// Agents that crash while their steps are carried out.
fn crashing_agents(bug: Option<Bug>) -> World {
    let config = Config { bug, crash_once_in: 20, ..Config::quiet(40) };
    let mut world = World::new(config, Rng::seed_of("crashing_agents"));
    world.run_for(400 * SECOND);
    world.befall(&Season { kill_every: 3, ..Season::default() }, 600);
    world.run_for(600 * SECOND);
    settled(world)
}

#[test]
fn a_step_that_is_run_again_is_caught() {
    assert_eq!(rules(&crashing_agents(None).checker.violations()), Vec::<&str>::new());
    let world = crashing_agents(Some(Bug::RepeatsIntents));
    assert!(rules(&world.checker.violations()).contains(&TWICE));
}
