//! The text of `/metrics`: the host as it is now, and the agent itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use mainstay_core::finding::FindingKind;
use mainstay_core::record::Ended;

use super::Shell;
use crate::host::clock;
use crate::metrics::Exposition;

impl Shell {
    pub(super) fn exposition(&mut self) -> Exposition {
        let mut text = Exposition::default();
        text.sample(&self.host.sample(clock::now()));
        self.own(&mut text);
        text
    }

    fn own(&self, text: &mut Exposition) {
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let count = |n: usize| u32::try_from(n).map_or(f64::INFINITY, f64::from);
        text.gauge("mainstay_agent_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        text.counter("mainstay_agent_samples_total", &[], self.counts.samples);
        text.counter("mainstay_agent_ticks_late_total", &[], self.counts.ticks_late);
        text.gauge("mainstay_agent_sample_duration_seconds", &[], self.counts.sample_seconds);
        text.counter("mainstay_agent_read_errors_total", &[], self.causes.total());
        text.gauge("mainstay_agent_sources_failing", &[], count(self.causes.standing()));
        text.gauge("mainstay_agent_mounts_stuck", &[], count(self.host.stuck_mounts()));
        text.counter("mainstay_agent_filesystems_dropped", &[], self.host.filesystems_dropped());
        text.gauge("mainstay_agent_dbus_connected", &[], flag(self.host.units().is_some()));
        text.counter("mainstay_agent_dbus_lost_total", &[], self.counts.bus_lost);
        text.gauge("mainstay_agent_units", &[], count(self.host.units().unwrap_or(0)));
        text.gauge("mainstay_agent_actuator_available", &[], flag(self.actuator_state.is_ok()));
        text.gauge("mainstay_agent_observe_only", &[], flag(self.observe_only.is_some()));
        self.own_settings(text, flag);
        self.own_findings(text);
        for ((action, ended), times) in &self.counts.actions {
            text.counter("mainstay_agent_actions_total", &[("action", action), ("ended", ended_word(*ended))], *times);
        }
        text.gauge("mainstay_agent_actions_in_hand", &[], count(self.in_hand.len()));
        let kept = self.keeper.counts();
        text.counter("mainstay_agent_records_persisted_total", &[], kept.persisted.load(Ordering::Relaxed));
        text.counter("mainstay_agent_records_failed_total", &[], kept.failed.load(Ordering::Relaxed));
        text.counter("mainstay_agent_ledger_syncs_total", &[], kept.syncs.load(Ordering::Relaxed));
        text.counter("mainstay_agent_items_dropped_total", &[], kept.items_dropped.load(Ordering::Relaxed));
        let messages = self.sender.counts();
        text.counter("mainstay_agent_messages_delivered_total", &[], messages.delivered);
        text.counter("mainstay_agent_messages_failed_total", &[], messages.failed);
        text.counter("mainstay_agent_messages_given_up_total", &[], messages.given_up);
        self.uplink.expose(text);
        own_process(text);
    }

    fn own_settings(&self, text: &mut Exposition, flag: impl Fn(bool) -> f64) {
        let status = self.agent.status();
        text.gauge("mainstay_agent_config_last_reload_successful", &[], flag(!self.counts.reload_failed));
        #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 stay below 2^53")]
        text.gauge("mainstay_agent_config_last_reload_timestamp_seconds", &[], self.counts.reloaded_ms as f64 / 1e3);
        #[allow(clippy::cast_precision_loss, reason = "generations are small")]
        text.gauge("mainstay_agent_policy_generation", &[], status.in_force.generation() as f64);
        text.gauge("mainstay_agent_held", &[], flag(status.held.is_some()));
        text.gauge("mainstay_agent_uplink_connected", &[], flag(status.uplink));
    }

    fn own_findings(&self, text: &mut Exposition) {
        let mut open: BTreeMap<FindingKind, u32> = BTreeMap::new();
        for finding in self.findings.values() {
            *open.entry(finding.kind).or_default() += 1;
        }
        for (kind, findings) in open {
            text.gauge("mainstay_agent_findings_open", &[("kind", kind.as_str())], f64::from(findings));
        }
    }
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
    text.counter_f64("process_cpu_seconds_total", &[], clock::cpu_seconds());
    if let Some(rss_bytes) = rss_bytes() {
        text.gauge("process_resident_memory_bytes", &[], rss_bytes);
    }
}

fn rss_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u32 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(f64::from(pages) * f64::from(u32::try_from(rustix::param::page_size()).ok()?))
}
