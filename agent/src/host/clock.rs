//! The clocks of the host. Nothing else in Mainstay's agent reads one.

use std::time::Duration;

use mainstay_core::sample::ClockSync;
use mainstay_core::time::Now;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    let wall = clock_gettime(ClockId::Realtime);
    Now { boot_ns: nanos(clock_gettime(ClockId::Boottime)), wall_ms: wall.tv_sec * 1_000 + wall.tv_nsec / 1_000_000 }
}

/// CPU time that this process has used, all its threads together.
#[must_use]
pub fn cpu_time() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ProcessCPUTime)))
}

/// The wall clock in seconds since 1970.
#[must_use]
pub fn wall_seconds() -> f64 {
    let wall = clock_gettime(ClockId::Realtime);
    #[allow(clippy::cast_precision_loss, reason = "seconds since 1970 stay below 2^53")]
    let seconds = wall.tv_sec as f64 + wall.tv_nsec as f64 / 1e9;
    seconds
}

/// When the machine was started, by the wall clock of now.
#[must_use]
pub fn boot_wall_seconds() -> f64 {
    wall_seconds() - Duration::from_nanos(nanos(clock_gettime(ClockId::Boottime))).as_secs_f64()
}

/// The name of the time zone, and how many seconds it is ahead of UTC now.
#[must_use]
#[allow(unsafe_code)]
pub fn time_zone() -> (String, i64) {
    let now: libc::time_t = clock_gettime(ClockId::Realtime).tv_sec;
    // SAFETY: `tm` is a plain structure of numbers and a pointer, for which zero is a value.
    // JUSTIFICATION: the C library already knows the zone; a crate would bring a database of them.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of ours.
    // JUSTIFICATION: as above.
    let known = unsafe { !libc::localtime_r(&raw const now, &raw mut local).is_null() };
    if !known || local.tm_zone.is_null() {
        return ("UTC".to_owned(), 0);
    }
    // SAFETY: the C library keeps the names of zones for the life of the process, ended by a zero.
    // JUSTIFICATION: as above.
    let zone = unsafe { std::ffi::CStr::from_ptr(local.tm_zone) };
    (zone.to_string_lossy().into_owned(), local.tm_gmtoff)
}

/// What the kernel says of how well the clock is kept, in its own units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timex {
    /// Whether `offset` and `pps_jitter` count nanoseconds, else microseconds.
    pub nanoseconds: bool,
    /// Whether it is synchronised.
    pub synchronised: bool,
    /// Bits of its state.
    pub status: i32,
    /// How far it still is from its reference.
    pub offset: i64,
    /// By what its rate is adjusted, in 2^-16 parts per million.
    pub frequency: i64,
    /// How wrong it may be at most.
    pub max_error_us: i64,
    /// How wrong it may be, as estimated.
    pub estimated_error_us: i64,
    /// Time constant of the control loop.
    pub constant: i64,
    /// Microseconds between two ticks.
    pub tick_us: i64,
    /// How far atomic time is ahead of UTC, in seconds.
    pub tai: i32,
    /// Frequency by an external clock's pulses, in 2^-16 parts per million.
    pub pps_frequency: i64,
    /// Jitter of the pulses.
    pub pps_jitter: i64,
    /// Interval between the pulses that are compared, in seconds as a power of two.
    pub pps_shift: i32,
    /// How much that frequency wanders, in 2^-16 parts per million.
    pub pps_stability: i64,
    /// Pulses that came too early or too late.
    pub pps_jitters: u64,
    /// Intervals that were compared.
    pub pps_calibrations: u64,
    /// Intervals that were wrong.
    pub pps_errors: u64,
    /// Intervals in which the frequency wandered too much.
    pub pps_instabilities: u64,
}

/// Asks the kernel how well the clock is kept. `None` where a sandbox does not let us ask.
#[must_use]
#[allow(unsafe_code)]
pub fn timex() -> Option<Timex> {
    // SAFETY: `timex` is a plain structure of numbers, for which zero is a value.
    // JUSTIFICATION: rustix has no adjtimex.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of ours; with `modes` 0 nothing is set.
    // JUSTIFICATION: as above.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    (state >= 0).then(|| Timex {
        nanoseconds: asked.status & libc::STA_NANO != 0,
        synchronised: state != libc::TIME_ERROR,
        status: asked.status,
        offset: asked.offset,
        frequency: asked.freq,
        max_error_us: asked.maxerror,
        estimated_error_us: asked.esterror,
        constant: asked.constant,
        tick_us: asked.tick,
        tai: asked.tai,
        pps_frequency: asked.ppsfreq,
        pps_jitter: asked.jitter,
        pps_shift: asked.shift,
        pps_stability: asked.stabil,
        pps_jitters: count(asked.jitcnt),
        pps_calibrations: count(asked.calcnt),
        pps_errors: count(asked.errcnt),
        pps_instabilities: count(asked.stbcnt),
    })
}

/// How well the clock is kept, for a sample.
#[must_use]
pub fn sync() -> Option<ClockSync> {
    let timex = timex()?;
    let offset_ns = if timex.nanoseconds { timex.offset } else { timex.offset.saturating_mul(1_000) };
    Some(ClockSync { synchronised: timex.synchronised, max_error_us: timex.max_error_us, offset_ns })
}

/// How often the kernel is asked how well the clock is kept: that changes in minutes, and the question is a dear one.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// How well the clock is kept, as the kernel said it last.
#[derive(Debug, Default)]
pub struct Kept {
    last: Option<(Now, Option<ClockSync>)>,
}

impl Kept {
    /// How well the clock is kept, for a sample at `now`: no older than ten seconds.
    pub fn read(&mut self, now: Now) -> Option<ClockSync> {
        match self.last {
            Some((at, sync)) if now.since(at) < SYNC_EVERY => sync,
            _ => self.last.insert((now, sync())).1,
        }
    }
}

/// The boot clock never goes below zero.
fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_zone_has_a_name_and_is_less_than_a_day_ahead() {
        let (zone, ahead) = time_zone();
        assert!(!zone.is_empty() && ahead.abs() < 86_400, "{zone} {ahead}");
    }

    #[test]
    fn the_kernel_says_how_well_the_clock_is_kept() {
        let timex = timex().unwrap();
        assert!((9_000..=11_000).contains(&timex.tick_us), "{timex:?}");
    }

    #[test]
    fn the_clock_is_asked_for_every_ten_seconds() {
        let (mut kept, begun) = (Kept::default(), now());
        let first = kept.read(begun);
        assert!(first.is_some());
        kept.last = kept.last.map(|(at, _)| (at, None));
        assert_eq!(kept.read(begun.plus(Duration::from_secs(9))), None, "as it was");
        assert!(kept.read(begun.plus(SYNC_EVERY)).is_some());
    }

    #[test]
    fn the_boot_clock_does_not_go_back_and_the_wall_clock_is_past_2020() {
        let first = now();
        let second = now();
        assert!(second.boot_ns >= first.boot_ns && first.boot_ns > 0);
        assert!(first.wall_ms > 1_577_836_800_000);
    }
}
