//! Collectors `time` and `timex`.

use mainstay_core::exposition::{Exposition, FamilyKind};

use super::super::clock::{self, Timex};
use super::tree::{Tree, float};
use super::{Collected, Found};

#[allow(clippy::cast_precision_loss, reason = "an offset is less than a day")]
pub(super) fn time(tree: &Tree, out: &mut Exposition) -> Collected {
    let now = clock::wall_seconds();
    out.gauge("node_time_seconds", "The clock, in seconds since 1970.", now);
    let (zone, offset) = clock::time_zone();
    out.family("node_time_zone_offset_seconds", FamilyKind::Gauge, "How far local time is ahead of UTC.")
        .add(&[("time_zone", &zone)], offset as f64);
    const SOURCES: &str = "sys/devices/system/clocksource";
    for (folder, device) in tree.numbered(SOURCES, "clocksource") {
        let device = device.to_string();
        let help = "1 for every clock source that there is.";
        let mut family = out.family("node_time_clocksource_available_info", FamilyKind::Gauge, help);
        let available = tree.text(&format!("{SOURCES}/{folder}/available_clocksource")).unwrap_or_default();
        for source in available.split_whitespace() {
            family.add(&[("clocksource", source), ("device", &device)], 1.0);
        }
        let help = "1 for the clock source in use.";
        let mut family = out.family("node_time_clocksource_current_info", FamilyKind::Gauge, help);
        if let Some(source) = tree.text(&format!("{SOURCES}/{folder}/current_clocksource")) {
            family.add(&[("clocksource", &source), ("device", &device)], 1.0);
        }
    }
    Ok(Found::Data)
}

pub(super) fn timex(_: &Tree, out: &mut Exposition) -> Collected {
    let Some(timex) = clock::timex() else { return Ok(Found::Nothing) };
    show(&timex, out);
    Ok(Found::Data)
}

/// The kernel's unit of frequency is 2^-16 parts per million.
const FREQUENCY_UNITS_PER_ONE: f64 = 65_536.0 * 1e6;

#[allow(clippy::cast_precision_loss, reason = "errors and counts of a clock stay below 2^53")]
fn show(timex: &Timex, out: &mut Exposition) {
    let parts = if timex.nanoseconds { 1e9 } else { 1e6 };
    for (name, help, value) in [
        ("estimated_error_seconds", "How wrong the clock may be, as estimated.", timex.estimated_error_us as f64 / 1e6),
        (
            "frequency_adjustment_ratio",
            "By what the clock's own rate is multiplied.",
            1.0 + timex.frequency as f64 / FREQUENCY_UNITS_PER_ONE,
        ),
        ("loop_time_constant", "Time constant of the control loop.", timex.constant as f64),
        ("maxerror_seconds", "How wrong the clock may be at most.", timex.max_error_us as f64 / 1e6),
        ("offset_seconds", "How far the clock still is from its reference.", timex.offset as f64 / parts),
        (
            "pps_frequency_hertz",
            "Frequency by the pulses of an external clock.",
            timex.pps_frequency as f64 / FREQUENCY_UNITS_PER_ONE,
        ),
        ("pps_jitter_seconds", "Jitter of the pulses.", timex.pps_jitter as f64 / parts),
        ("pps_shift_seconds", "Interval between the pulses that are compared.", f64::from(timex.pps_shift)),
        (
            "pps_stability_hertz",
            "How much the frequency by the pulses wanders.",
            timex.pps_stability as f64 / FREQUENCY_UNITS_PER_ONE,
        ),
        ("status", "Bits of the clock's state, as adjtimex(2) has them.", f64::from(timex.status)),
        ("sync_status", "1 if the clock is synchronised.", f64::from(u8::from(timex.synchronised))),
        ("tai_offset_seconds", "How far atomic time is ahead of UTC.", f64::from(timex.tai)),
        ("tick_seconds", "Time between two ticks of the clock.", timex.tick_us as f64 / 1e6),
    ] {
        out.gauge(&format!("node_timex_{name}"), help, value);
    }
    for (name, help, count) in [
        ("pps_calibration_total", "Intervals between pulses that were compared.", timex.pps_calibrations),
        ("pps_error_total", "Intervals between pulses that were wrong.", timex.pps_errors),
        ("pps_jitter_total", "Pulses that came too early or too late.", timex.pps_jitters),
        (
            "pps_stability_exceeded_total",
            "Intervals in which the frequency wandered too much.",
            timex.pps_instabilities,
        ),
    ] {
        out.counter(&format!("node_timex_{name}"), help, float(count));
    }
}
