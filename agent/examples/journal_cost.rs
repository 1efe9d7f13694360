//! What following the journal costs: reads all that the journal below a root holds, as the agent would have read it line
//! by line, and says how long a line took. CPU time is taken from outside:
//!
//!     cargo build -p mainstay-agent --release --example journal_cost
//!     time target/release/examples/journal_cost /
//!
//! It goes through every file that is written to, from its first line on.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use mainstay_agent::host::clock;
use mainstay_agent::host::journal::Follower;
use mainstay_core::log::Digest;

fn main() -> io::Result<()> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    // As if it had begun in 1970: every line is new to it.
    let mut follower = Follower::new(&root, Digest::default(), 0).with_lines(10_000);
    let begun = Instant::now();
    loop {
        let before = follower.lines();
        let state = follower.round(clock::now().wall_ms);
        let lines = follower.lines();
        if lines == before {
            let each = begun.elapsed().as_nanos() / u128::from(lines.max(1));
            let reading = follower.reading(0);
            let missed = format!("{} unread, {} damaged, {} skipped", reading.unread, reading.damaged, reading.skipped);
            return writeln!(io::stdout(), "{state:?}: {lines} lines, {each} ns each; {missed}");
        }
    }
}
