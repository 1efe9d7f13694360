//! What one tick of the agent costs: `tick_cost PROCESSES UNITS TICKS [STEP]` takes so many samples of a host made of files,
//! a second apart, hands each to the core, and prints `CPU_NANOSECONDS`: what its thread had of a CPU, as the kernel counts it,
//! in the ticks after the first minute. `STEP` is how far down the agent's budget is, 0 to 3.
//!
//! `bench/tick_cost.rs`, a part of `make bench`, asks valgrind for instructions as well: the difference between two numbers of
//! ticks. They are the agent's own: what the kernel does to make its files is not among them.

#[path = "../../bench/made_host.rs"]
mod made_host;

use std::io::{self, Write};
use std::time::Duration;

use mainstay_agent::host::Host;
use mainstay_agent::host::filesystems::FilesystemSettings;
use mainstay_agent::host::systemd::UnitsEvent;
use mainstay_core::agent::{self, Agent, Input, Restored};
use mainstay_core::budget::{Depth, Limits, Reading};
use mainstay_core::detect;
use mainstay_core::policy::signed::TrustedKeys;
use mainstay_core::sample::HostFacts;
use mainstay_core::time::Now;

use made_host::{MadeHost, Size};

/// Ticks after which everything was opened and read once.
const WARM: u32 = 60;

fn main() -> io::Result<()> {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (processes, units, ticks, depth) = match numbers[..] {
        [processes, units, ticks] => (processes, units, ticks, Depth::Whole),
        [processes, units, ticks, steps] => {
            let depth = Depth::ALL.into_iter().find(|depth| u32::from(depth.steps()) == steps);
            (processes, units, ticks, depth.ok_or_else(|| io::Error::other("STEP is 0 to 3"))?)
        }
        _ => return Err(io::Error::other("usage: tick_cost PROCESSES UNITS TICKS [STEP]")),
    };
    let made = MadeHost::new(Size { processes, units, mounts: 0 });
    let mut host = Host::at(made.root(), FilesystemSettings::default());
    host.units_changed(UnitsEvent::Loaded(made.units()));
    let reading = Reading { depth, healed: Vec::new() };
    let apart = reading.ticks(Duration::from_secs(1));
    host.read_only(reading);
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
    let mut now = Now { boot_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
    let mut agent = Agent::new(settings, Restored::default(), now);
    let mut before = 0;
    for tick in 0..ticks {
        if tick == WARM {
            before = on_cpu()?;
        }
        now = now.plus(Duration::from_secs(1));
        if tick.is_multiple_of(apart) {
            let sample = host.sample_into(agent.spare().unwrap_or_default(), now);
            agent.handle(Input::Sample(sample), now);
        }
        while agent.poll_effect().is_some() {}
    }
    writeln!(io::stdout(), "{}", if ticks > WARM { on_cpu()?.saturating_sub(before) } else { 0 })
}

/// Nanoseconds that this thread was on a CPU.
fn on_cpu() -> io::Result<u64> {
    let scheduled = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = scheduled.split_whitespace().next().and_then(|word| word.parse().ok());
    first.ok_or_else(|| io::Error::other(format!("schedstat says {scheduled:?}")))
}
