//! Waits for a condition instead of for a time. The only place of the harness that sleeps, between two looks.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks at a condition: short beside what is waited for, long beside the cost of one look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` gives a value, and returns it with no further delay.
///
/// # Errors
/// After `deadline`, naming `what` was waited for and the last error of `look`; it keeps looking through errors before.
pub fn wait_until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if began.elapsed() >= deadline {
            match seen {
                Err(error) => bail!("waited {deadline:?} for {what}; last look: {error:#}"),
                Ok(_) => bail!("waited {deadline:?} for {what}"),
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// As [`wait_until`], for a plain yes or no.
///
/// # Errors
/// As [`wait_until`].
pub fn wait_for(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_until(deadline, what, || Ok(look()?.then_some(())))
}
