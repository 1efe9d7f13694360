//! What can be set, with its defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_core::budget::Limits;
use mainstay_core::config::TableReader;
use mainstay_core::log::{RULES_MAX, Redaction};
use mainstay_core::policy::Glob;

use crate::host::changes::{PATTERNS_MAX, is_pattern};
use crate::host::filesystems::FilesystemSettings;

use super::notify::{Target, read_targets};
use super::otlp::{OtlpSettings, read_otlp};

/// Least and most CPU of the budget, as shares of one core.
const CPU_MIN: f64 = 0.001;
const CPU_MAX: f64 = 4.0;

/// Most CPUs that can be told one by one: eight series each.
const EACH_CPU_MAX: u64 = 512;

/// Most labels of a host: each is repeated in what is stored of it.
const LABELS_MAX: usize = 32;

/// Longest name or value of a label.
const LABEL_BYTES_MAX: usize = 63;

/// Everything that agent.toml can say.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `[labels]`: role, zone and the like, by which signed rules select hosts. Empty: those of the enrolment token.
    pub labels: BTreeMap<String, String>,
    /// `[sampling] every`: how often the host is read (default 1 s, up to 10 s). Detection slows down with it.
    pub sample_every: Duration,
    /// `[sampling] each_cpu_up_to`: most CPUs that summaries and OTLP tell one by one (default 16). More are told together; `/metrics`
    /// tells each of any number.
    pub each_cpu_up_to: usize,
    /// `[budget]`: what the agent may take of its host (defaults 10% of a core and 128 MiB). Above it, it reads less, says so
    /// and goes on healing.
    pub budget: Limits,
    /// `[filesystems]`
    pub filesystems: FilesystemSettings,
    /// `[journal]`
    pub journal: JournalSettings,
    /// `[changes]`
    pub changes: ChangeSettings,
    /// `[metrics] listen`: where `/metrics` is served (default 127.0.0.1:7445); `None` for `off`.
    pub metrics: Option<SocketAddr>,
    /// `[otlp]`: where metrics are sent (default nowhere).
    pub otlp: Option<OtlpSettings>,
    /// `[state]`
    pub state: StateSettings,
    /// `[collector] address`: used instead of the one in the enrolment token.
    pub collector: Option<String>,
    /// `[log]`
    pub log: LogSettings,
    /// `[notify.NAME]`: who can be told, by the name that policies use.
    pub notify: BTreeMap<String, Target>,
}

/// `[journal]`: whether the host's log is followed, and what must not leave the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// Whether the journal is read (default true). Without it what the log says is unknown.
    pub follow: bool,
    /// Words, as globs, that are left out of templates, examples and lines besides passwords, keys and addresses of mail; what
    /// follows a key that matches is left out too (default none).
    pub redact: Vec<Glob>,
    /// Whether lines, redacted, may leave the host: a unit's last ones from before it is restarted, and those that an
    /// operator asks for (default true).
    pub lines: bool,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { follow: true, redact: Vec::new(), lines: true }
    }
}

impl JournalSettings {
    /// What must not be seen of a line that leaves the host; `None` where no line may.
    #[must_use]
    pub fn redaction(&self) -> Option<Redaction> {
        self.lines.then(|| Redaction::new(self.redact.clone()))
    }
}

/// `[changes]`: whether it is told what somebody changes on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSettings {
    /// Whether packages, files, units, the kernel and the policy are watched (default true).
    pub watch: bool,
    /// Files to watch besides unit files, as absolute paths in which `*` stands for any text, folders included
    /// (default none).
    pub files: Vec<String>,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self { watch: true, files: Vec::new() }
    }
}

/// `[state]`: what is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// Folder of identity, policy, ledger, spool and what was learned (default /var/lib/mainstay).
    pub dir: PathBuf,
    /// Most bytes of the ledger (default 64 MiB, from 4 MiB): the oldest shards go first once the collector has them.
    pub ledger_bytes_max: u64,
    /// Most bytes of what waits to be sent (default 64 MiB, from 4 MiB): oldest samples are dropped first, records never.
    pub spool_bytes_max: u64,
    /// How often what the detectors learned is saved (default 5 min).
    pub save_every: Duration,
}

/// `[log]`: what goes to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// One line for people or one JSON object for machines.
    pub format: LogFormat,
    /// Least severity, or a filter by module such as `info,mainstay_agent::uplink=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `unit=nginx.service restart held`
    Text,
    /// `{"level":"INFO","unit":"nginx.service",…}`
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            sample_every: Duration::from_secs(1),
            each_cpu_up_to: 16,
            budget: Limits::default(),
            filesystems: FilesystemSettings::default(),
            journal: JournalSettings::default(),
            changes: ChangeSettings::default(),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 7445))),
            otlp: None,
            state: StateSettings::default(),
            collector: None,
            log: LogSettings::default(),
            notify: BTreeMap::new(),
        }
    }
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/mainstay"),
            ledger_bytes_max: 64 << 20,
            spool_bytes_max: 64 << 20,
            save_every: Duration::from_secs(300),
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Settings {
    /// The tables whose changes count only from the next start on, out of those that differ.
    #[must_use]
    pub fn needing_restart(&self, new: &Self) -> Vec<&'static str> {
        let differing = [
            ("labels", self.labels != new.labels),
            ("journal", self.journal != new.journal),
            ("changes", self.changes != new.changes),
            ("metrics", self.metrics != new.metrics),
            ("otlp", self.otlp != new.otlp),
            ("state", self.state != new.state),
            ("collector", self.collector != new.collector),
            ("log", self.log != new.log),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(table, _)| table).collect()
    }
}

/// Reads the whole document. Mistakes are noted in the reader; nothing may be used if there are any.
pub fn read(mut top: TableReader<'_>) -> Option<Settings> {
    let mut settings = Settings::default();
    read_labels(&mut top, &mut settings);
    if let Some(mut table) = top.opt_table("sampling") {
        let every = table.opt_duration("every");
        let every = table.within("every", every, Duration::from_secs(1)..=Duration::from_secs(10));
        set(&mut settings.sample_every, every);
        let each = table.opt_u64("each_cpu_up_to");
        let each = table.within("each_cpu_up_to", each, 0..=EACH_CPU_MAX);
        if let Some(each) = each {
            settings.each_cpu_up_to = usize::try_from(each.value).unwrap_or(usize::MAX);
        }
        table.finish();
    }
    if let Some(table) = top.opt_table("budget") {
        read_budget(table, &mut settings.budget);
    }
    if let Some(table) = top.opt_table("filesystems") {
        read_filesystems(table, &mut settings.filesystems);
    }
    if let Some(table) = top.opt_table("journal") {
        read_journal(table, &mut settings.journal);
    }
    if let Some(table) = top.opt_table("changes") {
        read_changes(table, &mut settings.changes);
    }
    if let Some(table) = top.opt_table("metrics") {
        read_metrics(table, &mut settings.metrics);
    }
    settings.otlp = read_otlp(&mut top);
    if let Some(table) = top.opt_table("state") {
        read_state(table, &mut settings.state);
    }
    if let Some(mut table) = top.opt_table("collector") {
        settings.collector = read_address(&mut table);
        table.finish();
    }
    if let Some(mut table) = top.opt_table("log") {
        set(
            &mut settings.log.format,
            table.opt_choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
        );
        read_level(&mut table, &mut settings.log.level);
        table.finish();
    }
    settings.notify = read_targets(&mut top);
    top.finish();
    Some(settings)
}

fn read_labels(top: &mut TableReader<'_>, settings: &mut Settings) {
    let Some(labels) = top.opt_str_map("labels") else { return };
    if labels.value.len() > LABELS_MAX {
        top.problem(&labels.place, format!("`labels` has {} labels, at most {LABELS_MAX}", labels.value.len()));
    }
    for (name, value) in labels.value {
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) || name.len() > LABEL_BYTES_MAX {
            let rule = format!("lower-case letters, digits and _, at most {LABEL_BYTES_MAX}");
            top.problem(&value.place, format!("`{name}` is not the name of a label ({rule})"));
        } else if value.is_empty() || value.len() > LABEL_BYTES_MAX {
            top.problem(&value.place, format!("label `{name}` must have 1 to {LABEL_BYTES_MAX} bytes"));
        } else {
            settings.labels.insert(name, value.value);
        }
    }
}

fn read_budget(mut table: TableReader<'_>, to: &mut Limits) {
    if let Some(share) = table.opt_share("cpu") {
        if (CPU_MIN..=CPU_MAX).contains(&share.value) {
            to.cpu_ratio = share.value;
        } else {
            table.problem(&share.place, "`cpu` must be a share of one core from 0.1% to 400%");
        }
    }
    let memory = table.opt_bytes("memory");
    set(&mut to.rss_bytes, table.within("memory", memory, (16 << 20)..=(16 << 30)));
    table.finish();
}

fn read_filesystems(mut table: TableReader<'_>, to: &mut FilesystemSettings) {
    set(&mut to.network, table.opt_bool("network"));
    let list = |table: &mut TableReader<'_>, key| {
        table.opt_strs(key).map(|list| list.value.into_iter().map(|item| item.value).collect()).unwrap_or_default()
    };
    to.ignore_types = list(&mut table, "ignore_types");
    to.ignore_mounts = list(&mut table, "ignore_mounts");
    let deadline = table.opt_duration("deadline");
    set(&mut to.deadline, table.within("deadline", deadline, Duration::from_millis(100)..=Duration::from_secs(60)));
    table.finish();
}

fn read_journal(mut table: TableReader<'_>, to: &mut JournalSettings) {
    set(&mut to.follow, table.opt_bool("follow"));
    set(&mut to.lines, table.opt_bool("lines"));
    if let Some(rules) = table.opt_strs("redact") {
        if rules.value.len() > RULES_MAX {
            table.problem(&rules.place, format!("`redact` has {} words, at most {RULES_MAX}", rules.value.len()));
        }
        for rule in rules.value {
            match Glob::new(&rule.value) {
                Some(glob) => to.redact.push(glob),
                None => table.problem(&rule.place, "a word to redact must not be empty"),
            }
        }
    }
    table.finish();
}

fn read_changes(mut table: TableReader<'_>, to: &mut ChangeSettings) {
    set(&mut to.watch, table.opt_bool("watch"));
    if let Some(files) = table.opt_strs("files") {
        if files.value.len() > PATTERNS_MAX {
            table.problem(&files.place, format!("`files` has {} paths, at most {PATTERNS_MAX}", files.value.len()));
        }
        for file in files.value {
            if is_pattern(&file.value) {
                to.files.push(file.value);
            } else {
                let rule = "an absolute path below a folder, such as \"/etc/nginx/*\"";
                table.problem(&file.place, format!("`files` must hold {rule}, not {:?}", file.value));
            }
        }
    }
    table.finish();
}

fn read_metrics(mut table: TableReader<'_>, to: &mut Option<SocketAddr>) {
    if let Some(listen) = table.opt_str("listen") {
        match listen.parse() {
            Ok(address) => *to = Some(address),
            Err(_) if listen.value == "off" => *to = None,
            Err(_) => {
                let got = &listen.value;
                table.problem(
                    &listen.place,
                    format!("`listen` must be an address such as \"127.0.0.1:7445\" or \"off\", not {got:?}"),
                );
            }
        }
    }
    table.finish();
}

fn read_state(mut table: TableReader<'_>, to: &mut StateSettings) {
    if let Some(dir) = table.opt_str("dir") {
        if dir.starts_with('/') {
            to.dir = PathBuf::from(dir.value);
        } else {
            table.problem(&dir.place, "`dir` must be an absolute path");
        }
    }
    let sizes = (4 << 20)..=(64 << 30);
    let ledger = table.opt_bytes("ledger_max");
    set(&mut to.ledger_bytes_max, table.within("ledger_max", ledger, sizes.clone()));
    let spool = table.opt_bytes("spool_max");
    set(&mut to.spool_bytes_max, table.within("spool_max", spool, sizes));
    let every = table.opt_duration("save_every");
    set(&mut to.save_every, table.within("save_every", every, Duration::from_secs(10)..=Duration::from_secs(3_600)));
    table.finish();
}

fn read_address(table: &mut TableReader<'_>) -> Option<String> {
    let address = table.opt_str("address")?;
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(port)) if port > 0) {
        return Some(address.value);
    }
    table.problem(&address.place, "`address` must be `host:port`");
    None
}

fn read_level(table: &mut TableReader<'_>, to: &mut String) {
    let Some(level) = table.opt_str("level") else { return };
    match crate::log::filter(&level.value) {
        Some(_) => *to = level.value,
        None => table.problem(&level.place, "`level` must be one of error, warn, info, debug and trace, or a filter"),
    }
}

fn set<T>(to: &mut T, value: Option<mainstay_core::config::Spanned<T>>) {
    if let Some(value) = value {
        *to = value.value;
    }
}

#[cfg(test)]
mod tests {
    use mainstay_core::config::{Document, Problems};

    use super::*;

    fn parsed(text: &str) -> Result<Settings, Vec<String>> {
        let document = Document::parse("agent.toml", text).unwrap();
        let problems = Problems::new();
        let settings = read(document.reader(&problems));
        problems.into_result(settings.unwrap()).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_packaged_file_says_what_the_defaults_are() {
        let packaged = include_str!("../../../packaging/agent/etc/mainstay/agent.toml");
        assert_eq!(parsed(packaged).unwrap(), Settings::default());
        // The examples in its comments are valid as well.
        let examples: String = packaged
            .lines()
            .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        let settings = parsed(&examples).unwrap();
        assert_eq!(settings.notify.len(), 2);
        assert!(!settings.labels.is_empty() && settings.otlp.is_some());
    }

    #[test]
    fn reads_what_is_set() {
        let settings = parsed(
            "[labels]\nrole = \"web\"\n[sampling]\nevery = \"2s\"\neach_cpu_up_to = 64\n[budget]\ncpu = \"2.5%\"\nmemory = \"64MiB\"\n[filesystems]\nnetwork = true\n\
             ignore_mounts = [\"/mnt\"]\n[journal]\nfollow = false\nlines = false\nredact = [\"acct-*\"]\n\
             [changes]\nwatch = false\nfiles = [\"/etc/nginx/*\"]\n\
             [metrics]\nlisten = \"off\"\n[otlp]\nendpoint = \"http://otel.example:4318\"\n[state]\nspool_max = \"8MiB\"\n\
             [collector]\naddress = \"c.example:7443\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
        )
        .unwrap();
        assert_eq!((settings.sample_every, settings.each_cpu_up_to), (Duration::from_secs(2), 64));
        assert_eq!(settings.budget, Limits { cpu_ratio: 0.025, rss_bytes: 64 << 20 });
        assert!(settings.filesystems.network);
        assert!(!settings.journal.follow && settings.journal.redact == [Glob::new("acct-*").unwrap()]);
        assert_eq!(settings.journal.redaction(), None);
        assert!(!settings.changes.watch && settings.changes.files == ["/etc/nginx/*"]);
        assert_eq!(settings.metrics, None);
        assert_eq!(settings.otlp.as_ref().map(|otlp| otlp.url.as_str()), Some("http://otel.example:4318/v1/metrics"));
        assert_eq!(settings.state.spool_bytes_max, 8 << 20);
        assert_eq!(settings.collector.as_deref(), Some("c.example:7443"));
        assert_eq!(settings.log.format, LogFormat::Json);
        let later = ["labels", "journal", "changes", "metrics", "otlp", "state", "collector", "log"];
        assert_eq!(Settings::default().needing_restart(&settings), later);
    }

    #[test]
    fn wrong_values_are_named_with_their_place() {
        let wrong = parsed(
            "[labels]\nRole = \"web\"\n[sampling]\nevery = \"1h\"\neach_cpu_up_to = 513\n[collector]\naddress = \"c.example\"\n\
             [state]\ndir = \"var\"\nspool_max = 5\n[changes]\nfiles = [\"/*\"]\n\
             [budget]\ncpu = \"0.01%\"\nmemory = \"1MiB\"\n",
        )
        .unwrap_err();
        let places: Vec<&str> = wrong.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "agent.toml:2:8",
                "agent.toml:4:9",
                "agent.toml:5:18",
                "agent.toml:7:11",
                "agent.toml:9:7",
                "agent.toml:10:13",
                "agent.toml:12:10",
                "agent.toml:14:7",
                "agent.toml:15:10"
            ]
        );
    }
}
