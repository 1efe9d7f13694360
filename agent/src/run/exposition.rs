//! What the agent adds to `/metrics`: its units and probes, and the agent itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use mainstay_core::agent::LEARNING_SECONDS;
use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::finding::FindingKind;
use mainstay_core::readings::{details, readings};
use mainstay_core::record::Ended;

use super::Shell;
use crate::host::clock;
use FamilyKind::{Counter, Gauge};

impl Shell {
    /// Reads nothing: units and probes are shown as the last sample had them.
    pub(super) fn exposition(&self) -> Exposition {
        let mut text = Exposition::default();
        let shown = self.host.shown();
        readings(&shown, &mut |reading| text.reading(reading));
        details(&shown, &mut |reading| text.reading(reading));
        self.own_sampling(&mut text);
        self.own_state(&mut text);
        self.own_work(&mut text);
        self.uplink.expose(&mut text);
        if let Some(otlp) = &self.otlp {
            otlp.expose(&mut text);
        }
        own_process(&mut text);
        text
    }

    fn own_sampling(&self, text: &mut Exposition) {
        let flag = |is: bool| f64::from(u8::from(is));
        text.family("mainstay_agent_info", Gauge, "Version of the agent.")
            .add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        text.counter("mainstay_agent_samples_total", "Samples taken.", count(self.counts.samples));
        text.counter("mainstay_agent_ticks_late_total", "Samples that came too late.", count(self.counts.ticks_late));
        let help = "How long the last sample took to read.";
        text.gauge("mainstay_agent_sample_duration_seconds", help, self.counts.sample_seconds);
        text.counter(
            "mainstay_agent_read_errors_total",
            "Times that something could no longer be read.",
            count(self.causes.total()),
        );
        text.gauge("mainstay_agent_sources_failing", "What cannot be read now.", size(self.causes.standing()));
        text.gauge("mainstay_agent_mounts_stuck", "Mounts that do not answer.", size(self.host.stuck_mounts()));
        let help = "Filesystems that are not watched because there are too many.";
        text.gauge("mainstay_agent_filesystems_dropped", help, count(self.host.filesystems_dropped()));
        text.gauge("mainstay_agent_dbus_connected", "1 while systemd can be asked.", flag(self.host.units().is_some()));
        text.counter(
            "mainstay_agent_dbus_lost_total",
            "Times that systemd could no longer be asked.",
            count(self.counts.bus_lost),
        );
        let (containers, left_out) = self.host.containers();
        text.gauge("mainstay_agent_containers", "Containers that run.", size(containers));
        let help = "Containers that are not followed because there are too many.";
        text.gauge("mainstay_agent_containers_dropped", help, size(left_out));
        text.gauge("mainstay_agent_units", "Units that are followed.", size(self.host.units().unwrap_or(0)));
        let help = "Units that are not followed because there are too many.";
        text.gauge("mainstay_agent_units_dropped", help, count(self.host.units_left_out()));
        self.own_budget(text);
    }

    fn own_budget(&self, text: &mut Exposition) {
        let budget = self.agent.budget();
        let help = "How many steps down the agent reads less of the host, to keep its budget; 0 is everything.";
        text.gauge("mainstay_agent_budget_step", help, f64::from(budget.depth().steps()));
        let help = "Times that it went a step down or up.";
        text.counter("mainstay_agent_budget_moves_total", help, count(budget.moves()));
        let help = "CPU that the agent used over the last minute, as a share of a core.";
        text.gauge("mainstay_agent_budget_cpu_ratio", help, budget.cpu_ratio());
        let help = "CPU that it may use.";
        text.gauge("mainstay_agent_budget_cpu_limit_ratio", help, budget.limits().cpu_ratio);
        let help = "Resident memory that it may hold.";
        text.gauge("mainstay_agent_budget_memory_limit_bytes", help, count(budget.limits().rss_bytes));
    }

    fn own_state(&self, text: &mut Exposition) {
        let flag = |is: bool| f64::from(u8::from(is));
        let status = self.agent.status();
        let help = "How much longer the host is learned before anything unusual is told.";
        let learning = self.agent.learning().map_or(0.0, |left| left.as_secs_f64());
        text.gauge(LEARNING_SECONDS, help, learning);
        text.gauge(
            "mainstay_agent_actuator_available",
            "1 while actions can be carried out.",
            flag(self.actuator_state.is_ok()),
        );
        text.gauge(
            "mainstay_agent_observe_only",
            "1 if nothing is acted on after repeated crashes.",
            flag(self.observe_only.is_some()),
        );
        text.gauge("mainstay_agent_held", "1 while every action is held.", flag(status.held.is_some()));
        text.gauge("mainstay_agent_uplink_connected", "1 while the collector is there.", flag(status.uplink));
        #[allow(clippy::cast_precision_loss, reason = "generations are small")]
        text.gauge(
            "mainstay_agent_policy_generation",
            "Generation of the policy in force.",
            status.in_force.generation() as f64,
        );
        let help = "1 if the settings were last read without a mistake.";
        text.gauge("mainstay_agent_config_last_reload_successful", help, flag(!self.counts.reload_failed));
        let help = "When the settings were last read.";
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^53")]
        text.gauge("mainstay_agent_config_last_reload_timestamp_seconds", help, self.counts.reloaded_ms as f64 / 1e3);
        let mut open: BTreeMap<FindingKind, u32> = BTreeMap::new();
        for finding in self.findings.values() {
            *open.entry(finding.kind).or_default() += 1;
        }
        let mut family = text.family("mainstay_agent_findings_open", Gauge, "Findings that stand, by kind.");
        for (kind, findings) in open {
            family.add(&[("kind", kind.as_str())], f64::from(findings));
        }
    }

    fn own_work(&self, text: &mut Exposition) {
        let mut family = text.family("mainstay_agent_actions_total", Counter, "Steps, by action and how they ended.");
        for ((action, ended), times) in &self.counts.actions {
            family.add(&[("action", action), ("ended", ended_word(*ended))], count(*times));
        }
        text.gauge("mainstay_agent_actions_in_hand", "Steps under way.", size(self.in_hand.len()));
        let kept = self.keeper.counts();
        let messages = self.sender.counts();
        let (recorder, windows) = self.agent.recorder();
        let (windows, windows_left_out) = windows.counts();
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("records_persisted_total", "Records that the ledger took.", load(&kept.persisted)),
            ("records_failed_total", "Records that it could not take.", load(&kept.failed)),
            ("ledger_syncs_total", "Times that the ledger was synced.", load(&kept.syncs)),
            ("items_dropped_total", "Summaries left out of the spool for want of room.", load(&kept.items_dropped)),
            ("recording_minutes_total", "Minutes that the flight recorder has kept.", load(&kept.minutes)),
            ("recording_minutes_failed_total", "Minutes that it could not keep.", load(&kept.minutes_failed)),
            ("recording_series_cut_total", "Series left out of minutes that were too large.", load(&kept.minutes_cut)),
            ("recording_readings_left_out_total", "Readings not recorded for want of room.", recorder.dropped()),
            ("recording_windows_total", "Findings whose seconds were kept.", windows),
            ("recording_windows_left_out_total", "Findings whose seconds were not kept: too many.", windows_left_out),
            ("messages_delivered_total", "Messages that arrived.", messages.delivered),
            ("messages_failed_total", "Attempts to send a message that failed.", messages.failed),
            ("messages_given_up_total", "Messages that were given up.", messages.given_up),
        ] {
            text.counter(&format!("mainstay_agent_{name}"), help, count(value));
        }
    }
}

/// A count as a series has it: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub(super) fn count(value: u64) -> f64 {
    value as f64
}

fn size(value: usize) -> f64 {
    count(value as u64)
}

fn ended_word(ended: Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Failed => "failed",
        Ended::Refused => "refused",
        Ended::Unknown => "unknown",
    }
}

/// What every exporter says of its own process.
fn own_process(text: &mut Exposition) {
    text.counter("process_cpu_seconds_total", "CPU time that the agent used.", clock::cpu_time().as_secs_f64());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // Fields of proc(5), counted behind the name: 20 the start, 21 the address space.
    let stat = read("/proc/self/stat");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    if let Some(bytes) = field(20) {
        text.gauge("process_virtual_memory_bytes", "Address space of the agent.", bytes);
    }
    if let Some(pages) = field(21) {
        let bytes = pages * size(rustix::param::page_size());
        text.gauge("process_resident_memory_bytes", "Memory of the agent.", bytes);
    }
    if let Some(ticks) = field(19) {
        let seconds = clock::boot_wall_seconds() + ticks / count(rustix::param::clock_ticks_per_second());
        text.gauge("process_start_time_seconds", "When the agent was started.", seconds);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Files that the agent has open.", size(open.count().saturating_sub(1)));
    }
    // No limit is shown as the largest number that the kernel could name.
    let limit = |resource| count(rustix::process::getrlimit(resource).current.unwrap_or(u64::MAX));
    text.gauge("process_max_fds", "Most files that it may have open.", limit(rustix::process::Resource::Nofile));
    let help = "Largest address space that it may have.";
    text.gauge("process_virtual_memory_max_bytes", help, limit(rustix::process::Resource::As));
}
