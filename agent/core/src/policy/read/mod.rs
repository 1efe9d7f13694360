//! Reads policy files and finds everything that is wrong with them, at once and with its place.
//!
//! In: names and texts. Out: a [`Policy`], or every [`Problem`]. What is accepted here can be carried out as it stands:
//! no rung that does not fit its findings, no budget of nothing, no window that never opens. docs/POLICY.md describes
//! every key.

mod ladder;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::detect::LEARNING;
use super::when::literal;
use super::{
    Depends, DetectOverrides, Dimension, Glob, Limits, Policy, PolicyFile, ProbeCheck, ProbeSpec, RULES_MAX, Selector,
    Target, Threshold,
};
use crate::config::{Document, Place, Problem, Problems, Spanned, TableReader, nearest};
use crate::detect::Settings;
use crate::plan::{AgedFiles, ReclaimPlace};
use crate::subject::PathBytes;

/// The version of the format.
const FORMAT_VERSION: u64 = 1;

/// The built-in policy as it is written: the very file that the package installs to be copied.
const BUILTIN_TEXT: &str = include_str!("../../../../../packaging/agent/usr/share/mainstay/policies/observe.toml");

/// The shortest and longest time between two runs of a probe.
const PROBE_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Places of `disk.reclaim` that need no table.
const PLACES: [(&str, ReclaimPlace); 3] = [
    ("journal", ReclaimPlace::Journal),
    ("apt-cache", ReclaimPlace::AptCache),
    ("core-dumps", ReclaimPlace::CoreDumps),
];

/// Names that must be unique in the whole policy, and where each stands first.
type Names = BTreeMap<String, Place>;

impl Policy {
    /// Reads the files of a policy: names and texts, tried in the order of their names.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of files and lines.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new();
        let mut sorted = files.to_vec();
        sorted.sort_unstable();
        let (mut rule_names, mut probe_names) = (Names::new(), Names::new());
        let mut policy = Self::default();
        for (name, text) in sorted {
            match Document::parse(name, text) {
                Ok(document) => {
                    policy.files.push(file(name, &document, &problems, &mut rule_names, &mut probe_names));
                }
                Err(found) => found.into_iter().for_each(|problem| problems.push(problem)),
            }
        }
        let rules = policy.rules().count();
        if rules > RULES_MAX {
            let first = files.first().map_or("policy", |(name, _)| name);
            problems.push(Problem::of_file(first, format!("too many rules (got {rules}, at most {RULES_MAX})")));
        }
        problems.into_result(policy)
    }
}

/// The policy of a host that has none: it observes, and says what it would do.
#[must_use]
pub fn builtin() -> Policy {
    // A test reads it; a text that is wrong would leave a policy without rules, which observes as well.
    Policy::parse(&[("built-in", BUILTIN_TEXT)]).unwrap_or_default()
}

fn file(
    name: &str,
    document: &Document,
    problems: &Problems,
    rule_names: &mut Names,
    probe_names: &mut Names,
) -> PolicyFile {
    let mut top = document.reader(problems);
    if let Some(version) = top.u64("version").filter(|version| version.value != FORMAT_VERSION) {
        let message =
            format!("policy format {} is not known (this version of Mainstay knows {FORMAT_VERSION})", version.value);
        top.problem(&version.place, message);
    }
    let description = top.opt_str("description").map_or(String::new(), Spanned::into_inner);
    let applies_to = selector(&mut top, "applies_to");
    let places = places(&mut top);
    let read = PolicyFile {
        name: name.to_owned(),
        description,
        applies_to,
        probes: top.tables("probe").into_iter().filter_map(|table| probe(table, probe_names)).collect(),
        rules: top.tables("rule").into_iter().filter_map(|table| rule::rule(table, &places, rule_names)).collect(),
        depends: top.tables("depends").into_iter().filter_map(depends).collect(),
        limits: top.opt_table("limits").map_or_else(Limits::default, limits),
        detect: top.opt_table("detect").map_or_else(DetectOverrides::default, detect),
        protected: globs(&mut top, "protected").unwrap_or_default().into_iter().map(Spanned::into_inner).collect(),
    };
    top.finish();
    read
}

/// Labels that select hosts; none selects every host.
fn selector(table: &mut TableReader<'_>, key: &str) -> Selector {
    let Some(labels) = table.opt_str_map(key) else { return Selector::default() };
    let mut selector = Selector::default();
    for (label, value) in labels.value {
        match Glob::new(&value.value) {
            Some(glob) => {
                selector.0.insert(label, glob);
            }
            None => table.problem(&value.place, format!("`{label}` in `{key}` is empty and would select no host")),
        }
    }
    selector
}

/// A list of globs, none of them empty.
fn globs(table: &mut TableReader<'_>, key: &str) -> Option<Vec<Spanned<Glob>>> {
    let words = table.opt_strs(key)?;
    let mut globs = Vec::with_capacity(words.value.len());
    for word in words.value {
        match Glob::new(&word.value) {
            Some(glob) => globs.push(Spanned::new(glob, word.place)),
            None => table.problem(&word.place, format!("empty glob in `{key}`")),
        }
    }
    Some(globs)
}

/// Notes a name, and the mistake if it was there before.
fn unique(table: &TableReader<'_>, names: &mut Names, what: &str, name: &Spanned<String>) {
    match names.get(&name.value) {
        Some(first) => table.problem(&name.place, format!("{what} `{}` is already defined at {first}", name.value)),
        None => {
            names.insert(name.value.clone(), name.place.clone());
        }
    }
}

fn probe(mut table: TableReader<'_>, names: &mut Names) -> Option<ProbeSpec> {
    let unit = table.parsed::<crate::subject::UnitName>("unit");
    let name = table.opt_str("name");
    let check = probe_check(&mut table);
    let every = table.opt_duration("every");
    let every = if every.is_some() { table.within("every", every, PROBE_EVERY) } else { None };
    let every = every.map_or(Duration::from_secs(10), Spanned::into_inner);
    let timeout_place = table.place_of("timeout").clone();
    let timeout = table.opt_duration("timeout").map_or(Duration::from_secs(2), Spanned::into_inner);
    if timeout.is_zero() || timeout > every {
        table.problem(&timeout_place, "`timeout` must be longer than 0s and no longer than `every`");
    }
    let fails = table.opt_u64("fails");
    let fails = table.within("fails", fails, 1..=100).map_or(3, Spanned::into_inner);
    let unit = match unit {
        Some(unit) => unit,
        None => return finished(table),
    };
    let name = name.unwrap_or_else(|| unit.clone().map(|unit| unit.to_string()));
    unique(&table, names, "probe", &name);
    table.finish();
    let fails = u32::try_from(fails).unwrap_or(u32::MAX);
    Some(ProbeSpec { name: name.value, unit: unit.value, check: check?, every, timeout, fails })
}

/// Ends a table whose problems have been noted.
fn finished<T>(table: TableReader<'_>) -> Option<T> {
    table.finish();
    None
}

fn probe_check(table: &mut TableReader<'_>) -> Option<ProbeCheck> {
    let (http, tcp, command) = (table.opt_str("http"), table.opt_str("tcp"), table.opt_str("command"));
    let given = [http.is_some(), tcp.is_some(), command.is_some()].iter().filter(|given| **given).count();
    if given != 1 {
        let there = ["http", "tcp", "command"].iter().filter(|key| table.has(key)).count();
        // One that is there and of a wrong type has been named already.
        if there != 1 {
            table.problem(table.place(), "a probe needs one of `http`, `tcp` and `command`");
        }
        return None;
    }
    if let Some(url) = http {
        let ok = url.value.strip_prefix("http://").is_some_and(|rest| {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            is_host_port(host, false)
        });
        if !ok {
            table.problem(
                &url.place,
                format!("`http` must be a URL such as \"http://127.0.0.1:8080/healthz\", not {:?}", url.value),
            );
        }
        return Some(ProbeCheck::Http { url: url.value });
    }
    if let Some(address) = tcp {
        if !is_host_port(&address.value, true) {
            table.problem(
                &address.place,
                format!("`tcp` must be an address such as \"127.0.0.1:5432\", not {:?}", address.value),
            );
        }
        return Some(ProbeCheck::Tcp { address: address.value });
    }
    let name = command?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.value.is_empty() || name.value.len() > 64 || !name.value.bytes().all(plain) {
        let message = format!(
            "`command` must be the name of a file in /etc/mainstay/probes.d (letters, digits, - and _), not {:?}",
            name.value
        );
        table.problem(&name.place, message);
    }
    Some(ProbeCheck::Command { name: name.value })
}

/// `host`, `host:port` or `[::1]:port`.
fn is_host_port(text: &str, needs_port: bool) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.map_or(!needs_port, |port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_ok = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    port_ok && host_ok
}

/// The places of `disk.reclaim` that this file may name.
fn places(top: &mut TableReader<'_>) -> BTreeMap<String, ReclaimPlace> {
    let mut places: BTreeMap<_, _> = PLACES.iter().map(|(name, place)| ((*name).to_owned(), place.clone())).collect();
    for mut table in top.named_tables("reclaim") {
        let name = table.name().to_owned();
        if PLACES.iter().any(|(known, _)| *known == name) {
            table.problem(table.place(), format!("`{name}` is a place of Mainstay's own; choose another name"));
        }
        let under = table.str("under");
        let files = table.strs("files");
        let older_than = table.duration("older_than");
        if let Some(under) = &under {
            let plain = under.value.starts_with('/')
                && under.value.len() > 1
                && !under.value.split('/').any(|part| part == "..");
            if !plain {
                table.problem(
                    &under.place,
                    format!("`under` must be a folder such as \"/var/log\", not {:?}", under.value),
                );
            }
        }
        if let Some(files) = &files {
            if files.value.is_empty() {
                table.problem(&files.place, "`files` is empty: name the files, such as [\"*.gz\"]");
            }
            for glob in files.value.iter().filter(|glob| glob.value.is_empty() || glob.value.contains('/')) {
                table
                    .problem(&glob.place, format!("a glob in `files` is on the file name alone, not {:?}", glob.value));
            }
        }
        if let Some(age) = older_than.as_ref().filter(|age| age.value.is_zero()) {
            table.problem(&age.place, "`older_than` of 0s would take files that are being written");
        }
        table.finish();
        // Where something is missing the problem is noted; rules that name the place are not wrong for that.
        let under = under.map_or(String::new(), Spanned::into_inner);
        let files = files.map(Spanned::into_inner).unwrap_or_default();
        let aged = AgedFiles {
            name: name.clone(),
            under: PathBytes::from(under.trim_end_matches('/')),
            files: files.into_iter().map(Spanned::into_inner).collect(),
            older_than: older_than.map(Spanned::into_inner).unwrap_or_default(),
        };
        places.insert(name, ReclaimPlace::Aged(aged));
    }
    places
}

fn depends(mut table: TableReader<'_>) -> Option<Depends> {
    let (from, on) = (target(&mut table, "from"), target(&mut table, "on"));
    table.finish();
    Some(Depends { from: from?, on: on? })
}

fn target(table: &mut TableReader<'_>, key: &str) -> Option<Target> {
    let place = table.place_of(key).clone();
    let mut words = table.str_map(key)?.value;
    if words.is_empty() {
        table.problem(&place, format!("`{key}` is empty: name a `host`, a `unit` or a label"));
    }
    for (word, value) in words.iter().filter(|(_, value)| value.value.is_empty()) {
        table.problem(&value.place, format!("`{word}` in `{key}` is empty"));
    }
    let mut glob = |word: &str| words.remove(word).and_then(|value| Glob::new(&value.value));
    let (host, unit) = (glob("host"), glob("unit"));
    let labels = words.into_iter().filter_map(|(label, value)| Some((label, Glob::new(&value.value)?))).collect();
    Some(Target { labels: Selector(labels), host, unit })
}

fn limits(mut table: TableReader<'_>) -> Limits {
    let hosts = table.opt_str("hosts");
    let hosts_ratio = hosts.and_then(|text| {
        let ratio = literal(&text.value, Dimension::Ratio).filter(|ratio| *ratio > 0.0 && *ratio <= 1.0);
        if ratio.is_none() {
            table.problem(
                &text.place,
                format!(
                    "`hosts` must be a share of the fleet from 0.1% to 100%, such as \"10%\", not {:?}",
                    text.value
                ),
            );
        }
        ratio
    });
    table.finish();
    Limits { hosts_ratio }
}

fn detect(mut table: TableReader<'_>) -> DetectOverrides {
    let mut set = DetectOverrides::default();
    for threshold in Threshold::ALL {
        let Some(value) = threshold_value(&mut table, threshold) else { continue };
        if (threshold.min..=threshold.max).contains(&value.value) {
            set.set(threshold, value.value);
        } else {
            let (min, max) = (shown(threshold, threshold.min), shown(threshold, threshold.max));
            let got = shown(threshold, value.value);
            table.problem(&value.place, format!("`{}` must be from {min} to {max}, not {got}", threshold.name));
        }
    }
    if let Some(learning) = table.opt_str("learning") {
        match LEARNING.iter().find(|(word, _)| *word == learning.value) {
            Some((_, meant)) => set.set_learning(*meant),
            None => {
                let words = LEARNING.iter().map(|(word, _)| *word);
                table.problem(&learning.place, unknown_word("`learning`", &learning.value, words));
            }
        }
    }
    let settings = set.applied_to(Settings::default());
    let order = [settings.disk_full_clear_ratio, settings.disk_full_ratio, settings.disk_full_critical_ratio];
    if !order.is_sorted_by(|lower, higher| lower < higher) {
        let shown = order.map(shown_ratio);
        let message = format!(
            "`disk_full_clear` < `disk_full` < `disk_full_critical` must hold, and with the defaults they are {}",
            shown.join(", ")
        );
        table.problem(table.place(), message);
    }
    table.finish();
    set
}

fn shown_ratio(ratio: f64) -> String {
    format!("{}%", (ratio * 1000.0).round() / 10.0)
}

fn threshold_value(table: &mut TableReader<'_>, threshold: Threshold) -> Option<Spanned<f64>> {
    if threshold.dimension == Dimension::Count {
        return table.opt_f64(threshold.name);
    }
    let text = table.opt_str(threshold.name)?;
    match literal(&text.value, threshold.dimension) {
        Some(value) => Some(Spanned::new(value, text.place)),
        None => {
            let message =
                format!("`{}` must be {}, not {:?}", threshold.name, threshold.dimension.example(), text.value);
            table.problem(&text.place, message);
            None
        }
    }
}

fn shown(threshold: Threshold, value: f64) -> String {
    match threshold.dimension {
        Dimension::Ratio => shown_ratio(value),
        Dimension::Duration => {
            crate::config::show_duration(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX))
        }
        Dimension::Count => format!("{value}"),
    }
}

/// Says that a word is not among those known, and which it might have been.
fn unknown_word<'w>(what: &str, word: &str, known: impl Iterator<Item = &'w str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("unknown {what} `{word}`; did you mean `{near}`?"),
        None => {
            let known: Vec<String> = known.map(|word| format!("`{word}`")).collect();
            format!("unknown {what} `{word}`; known are {}", known.join(", "))
        }
    }
}
