//! The same seed twice gives the same bytes, and another seed other ones.

use mainstay_tests::sim::rng::Rng;
use mainstay_tests::sim::season::Season;
use mainstay_tests::sim::{Config, SECOND, World};

fn trace(seed: u64) -> String {
    let mut world = World::new(Config::rough(60), seed);
    world.run_for(350 * SECOND);
    world.befall(&Season::rough(), 300);
    world.run_for(300 * SECOND);
    world.heal();
    world.run_for(60 * SECOND);
    world.trace_hash()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let seed = Rng::seed_of("the_same_seed_gives_the_same_bytes");
    assert_eq!(trace(seed), trace(seed));
    assert_ne!(trace(seed), trace(seed + 1), "the trace says nothing");
}
