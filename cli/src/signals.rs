//! The signals by which hosts, units and containers are compared: a closed list of names, with the PromQL that each stands for.
//!
//! In: a signal, whether of hosts or of units, which hosts, over how long. Out: PromQL over the series that hosts send
//! (`mainstay_core::readings`), one row for each host or unit. No query mixes two hosts: what is added up is added up
//! without the labels of its parts, never by the host's name alone. Where a host has several of a thing (disks, mount
//! points, interfaces), its row is the one that has the most, and a label says which.

use std::time::Duration;

use clap::ValueEnum;
use mainstay_core::drawing::CPU_SECONDS;
use serde::Serialize;

use crate::words;

mod list;
#[cfg(test)]
mod tests;

pub(crate) use list::SIGNALS;

/// Whose signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// A row for each host
    Host,
    /// A row for each unit of each host
    Unit,
    /// A row for each container of each host
    Container,
}

impl By {
    /// What a row is of.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Unit => "unit",
            Self::Container => "container",
        }
    }
}

/// What the series of units and of containers begin with: what both have goes by the same names behind it.
const UNIT: &str = "mainstay_unit_";
const CONTAINER: &str = "mainstay_container_";

/// Series that units have and containers have not.
const OF_UNITS_ONLY: [&str; 2] = ["mainstay_unit_restarts_total", "mainstay_unit_state"];

/// How values are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// 0 to 1.
    Share,
    /// CPUs' worth of time.
    Cpus,
    Bytes,
    BytesPerSecond,
    Seconds,
    PerSecond,
    /// How many there are, or were in the time.
    Count,
    /// Of an expression of the operator's own.
    Number,
}

impl Measure {
    /// For people.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "three digits are shown")]
    pub(crate) fn say(self, value: f64) -> String {
        let sign = if value < 0.0 { "-" } else { "" };
        let bytes = || format!("{sign}{}", words::bytes(value.abs() as u64));
        match self {
            Self::Share => format!("{:.1}%", value * 100.0),
            Self::Cpus => format!("{value:.2} CPUs"),
            Self::Bytes => bytes(),
            Self::BytesPerSecond => format!("{}/s", bytes()),
            Self::Seconds if value.abs() < 1e-3 => format!("{:.0} µs", value * 1e6),
            Self::Seconds if value.abs() < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{}/s", words::number(value)),
            // What was counted over a time is made longer by what its ends cut off: 1.02 restarts are one.
            Self::Count if (value - value.round()).abs() < 0.1 && value.abs() < 1e4 => format!("{:.0}", value.round()),
            Self::Count | Self::Number => words::number(value),
        }
    }

    /// For programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Share => "ratio",
            Self::Cpus => "cpus",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes/s",
            Self::Seconds => "s",
            Self::PerSecond => "1/s",
            Self::Count => "count",
            Self::Number => "",
        }
    }
}

/// A signal of hosts, or of units.
#[derive(Debug)]
pub(crate) struct Form {
    /// PromQL, with `$on` for the matchers of hosts, `$over` for the length of time and `$cpu` for [`CPU_SECONDS`].
    template: &'static str,
    /// The label that says which of a host's things the row is of; empty where there is but one.
    pub(crate) part: &'static str,
    pub(crate) measure: Measure,
    /// Values that differ by less than this do not differ, however alike the others are.
    pub(crate) floor: f64,
}

impl Form {
    /// The query for hosts that fit these matchers (`role="web"`, or empty for all).
    pub(crate) fn promql(&self, on: &str, over: Duration) -> String {
        let over = format!("{}s", over.as_secs().max(1));
        let text = self.template.replace("$cpu", CPU_SECONDS).replace("$on", on).replace("$over", &over);
        text.replace(",}", "}").replace("{}", "")
    }

    /// The same of containers, for a form of units that containers have too.
    pub(crate) fn of_containers(&self, on: &str, over: Duration) -> String {
        self.promql(on, over).replace(UNIT, CONTAINER)
    }

    /// Whether containers have it too.
    fn is_of_cgroups(&self) -> bool {
        self.template.contains(UNIT) && !OF_UNITS_ONLY.iter().any(|name| self.template.contains(name))
    }
}

/// Something of which hosts or units use more or less.
#[derive(Debug)]
pub(crate) struct Signal {
    /// As it is typed.
    pub(crate) name: &'static str,
    /// What it is, in a few words.
    pub(crate) what: &'static str,
    pub(crate) host: Option<Form>,
    pub(crate) unit: Option<Form>,
    /// Whether hosts are compared by it: not where it is the greatest of others.
    pub(crate) is_compared: bool,
}

impl Signal {
    /// Its form of hosts, units or containers; that of containers is the one of units, by other names.
    pub(crate) fn form(&self, by: By) -> Option<&Form> {
        match by {
            By::Host => self.host.as_ref(),
            By::Unit => self.unit.as_ref(),
            By::Container => self.unit.as_ref().filter(|form| form.is_of_cgroups()),
        }
    }
}

/// The signal of this name.
pub(crate) fn named(name: &str) -> Option<&'static Signal> {
    SIGNALS.iter().find(|signal| signal.name == name)
}

/// The matcher of one label.
pub(crate) fn matcher(label: &str, value: &str) -> String {
    format!("{label}=\"{}\"", quoted(value))
}

/// The matcher of hosts by their names.
pub(crate) fn hosts_matcher<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.map(pattern).collect();
    format!("host=~\"{}\"", quoted(&names.join("|")))
}

/// What stands between double quotes in PromQL for this text.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A pattern that matches this text and no other.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Every signal with what it stands for, as `--help` shows it.
pub(crate) fn help() -> String {
    let mut text =
        format!("Signals ($on: the matchers of --selector and --host, $over: --over, $cpu: {CPU_SECONDS}):\n");
    for signal in SIGNALS {
        text.push_str(&format!("\n  {:<16} {}\n", signal.name, signal.what));
        for by in [By::Host, By::Unit] {
            if let Some(form) = signal.form(by) {
                let more = if signal.form(By::Container).is_some() && by == By::Unit { " or container" } else { "" };
                text.push_str(&format!("      by {}{more}: {}\n", by.noun(), form.template));
            }
        }
    }
    text
}
