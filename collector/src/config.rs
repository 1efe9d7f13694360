//! Settings: `collector.toml` and its drop-ins, read so that every mistake is named with its place.
//!
//! In: files. Out: [`Settings`] that need no further check. Nothing is opened or bound before they
//! are valid; on SIGHUP a bad file leaves the old settings in force.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::config::{Document, Problem, Problems, TableReader};
use mainstay_core::series::SERIES_MAX;

use crate::ages::{self, Override};
use crate::hook;
use crate::remote::target::{self, RemoteWrite};
use crate::store::retention::Retention;

/// Where the settings are.
pub const CONFIG_FILE: &str = "/etc/mainstay/collector.toml";
/// Where the drop-ins are, read in order of their names.
pub const DROP_INS: &str = "/etc/mainstay/collector.d";

/// All settings of the collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where agents and operators connect (default `0.0.0.0:7443`).
    pub listen: SocketAddr,
    /// Web page, `/metrics` and health (default `127.0.0.1:7444`).
    pub http: SocketAddr,
    /// Host and port that tokens give to agents; by default the first of `names`, else the address at which the
    /// operator who asks for the token reached the collector.
    pub address: Option<String>,
    /// Names and addresses that the server certificate carries besides the fixed one.
    pub names: Vec<String>,
    /// Store and CA live below (default `/var/lib/mainstay-collector`).
    pub data: PathBuf,
    /// The folder that holds the backups (default `backups` below `data`).
    pub backups: PathBuf,
    /// Root's own socket (default `/run/mainstay-collector/admin.sock`).
    pub admin_socket: PathBuf,
    /// What RocksDB may keep in memory (default 512 MiB; at least 32 MiB).
    pub cache_bytes: usize,
    /// Bytes that stay free on the store's disk: with less, agents keep what they have (default 512 MiB).
    pub min_free: u64,
    /// How long data is kept.
    pub retention: Retention,
    /// How long series of some hosts are kept.
    pub overrides: Vec<Override>,
    /// How often the store is read through for damage (default 7 days; at least an hour).
    pub scrub_every: Duration,
    /// A host quiet for longer is silent (default 45 s; at least 20 s).
    pub silent_after: Duration,
    /// Most sessions at once (default 20,000).
    pub sessions_max: usize,
    /// Most series of one host that are stored (default 10,000; at most what an agent has, 20,000).
    pub series_per_host: usize,
    /// Most new sessions a second; more wait, or are told when to come back (default 400).
    pub sessions_per_second: u32,
    /// SHA-256 over the token with which pipelines mark deployments; without one they cannot.
    pub deploy_token: Option<[u8; 32]>,
    /// SHA-256 over the token with which others write series; without one they cannot.
    pub write_token: Option<[u8; 32]>,
    /// Whom what agents report is handed on to.
    pub remote_write: Vec<RemoteWrite>,
    /// Told about incidents that open and clear.
    pub webhook: Option<String>,
    /// Posted to every interval, so that the collector's own death is noticed outside.
    pub heartbeat: Option<Heartbeat>,
}

/// Where and how often the collector says that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The URL that is posted to.
    pub url: String,
    /// How often (default 60 s).
    pub every: Duration,
}

impl Settings {
    /// The defaults, with everything below one folder and on free ports of loopback: for tests.
    #[must_use]
    pub fn for_tests(folder: &Path) -> Self {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self {
            listen: loopback,
            http: loopback,
            address: None,
            names: Vec::new(),
            data: folder.join("data"),
            backups: folder.join("backups"),
            admin_socket: folder.join("admin.sock"),
            cache_bytes: 32 * 1024 * 1024,
            min_free: 0,
            retention: Retention::default(),
            overrides: Vec::new(),
            scrub_every: SCRUB_EVERY,
            silent_after: Duration::from_secs(45),
            sessions_max: 1_000,
            series_per_host: 10_000,
            sessions_per_second: 1_000,
            deploy_token: None,
            write_token: None,
            remote_write: Vec::new(),
            webhook: None,
            heartbeat: None,
        }
    }

    /// Reads the file and its drop-ins. A file that is not there is one without settings.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn load(file: &Path, drop_ins: &Path) -> Result<Self, Vec<Problem>> {
        let mut documents = Vec::new();
        let mut problems = Vec::new();
        for path in [file.to_owned()].into_iter().chain(toml_files(drop_ins)) {
            let name = path.display().to_string();
            match fs::read_to_string(&path) {
                Ok(text) => match Document::parse(&name, &text) {
                    Ok(document) => documents.push(document),
                    Err(found) => problems.extend(found),
                },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => problems.push(Problem::of_file(&name, format!("cannot be read: {error}"))),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let document = Document::merged(documents).unwrap_or_else(|| Document::empty(&file.display().to_string()));
        read(&document)
    }
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

fn read(document: &Document) -> Result<Settings, Vec<Problem>> {
    let problems = Problems::new();
    let mut table = document.reader(&problems);
    let listen = table.opt_parsed::<SocketAddr>("listen");
    let http = table.opt_parsed::<SocketAddr>("http");
    let names: Vec<String> =
        table.opt_strs("names").map(|list| list.value.into_iter().map(|n| n.value).collect()).unwrap_or_default();
    let address = table.opt_str("address");
    let data = table.opt_str("data");
    let backups = table.opt_str("backups");
    let admin_socket = table.opt_str("admin_socket");
    let cache = table.opt_bytes("cache");
    let cache = table.within("cache", cache, 32 * MIB..=64 * 1024 * MIB);
    let min_free = table.opt_bytes("min_free");
    let silent_after = table.opt_duration("silent_after");
    let silent_after =
        table.within("silent_after", silent_after, Duration::from_secs(20)..=Duration::from_secs(86_400));
    let scrub_every = table.opt_duration("scrub_every");
    let scrub_every = table.within("scrub_every", scrub_every, HOUR..=HOUR * 24 * 3_660);
    let sessions_max = table.opt_u64("sessions_max");
    let sessions_max = table.within("sessions_max", sessions_max, 1..=1_000_000);
    let sessions_per_second = table.opt_u64("sessions_per_second");
    let sessions_per_second = table.within("sessions_per_second", sessions_per_second, 1..=100_000);
    let series_per_host = table.opt_u64("series_per_host");
    let series_per_host = table.within("series_per_host", series_per_host, 1..=SERIES_MAX as u64);
    let deploy_token = token(&mut table, "deploy_token_file");
    let write_token = token(&mut table, "write_token_file");
    let remote_write = target::read(&mut table);
    let (retention, overrides) = table.opt_table("retention").map(retention).unwrap_or_default();
    let heartbeat = table.opt_table("heartbeat").and_then(heartbeat);
    let webhook = table.opt_table("webhook").and_then(|mut table| {
        let url = url(&mut table, "url");
        table.finish();
        url
    });
    table.finish();
    let listen = listen.map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443), |l| l.value);
    let data: PathBuf = data.map_or_else(|| PathBuf::from("/var/lib/mainstay-collector"), |d| d.value.into());
    let settings = Settings {
        listen,
        http: http.map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7444), |h| h.value),
        address: address.map(|a| a.value).or_else(|| names.first().map(|name| format!("{name}:{}", listen.port()))),
        names,
        backups: backups.map_or_else(|| data.join("backups"), |b| b.value.into()),
        data,
        admin_socket: admin_socket
            .map_or_else(|| PathBuf::from("/run/mainstay-collector/admin.sock"), |s| s.value.into()),
        cache_bytes: cache.map_or(512 * MIB, |c| c.value).try_into().unwrap_or(usize::MAX),
        min_free: min_free.map_or(512 * MIB, |m| m.value),
        retention,
        overrides,
        deploy_token,
        write_token,
        remote_write,
        scrub_every: scrub_every.map_or(SCRUB_EVERY, |s| s.value),
        silent_after: silent_after.map_or(Duration::from_secs(45), |s| s.value),
        sessions_max: sessions_max.map_or(20_000, |n| n.value).try_into().unwrap_or(usize::MAX),
        sessions_per_second: sessions_per_second.map_or(400, |n| n.value).try_into().unwrap_or(u32::MAX),
        series_per_host: series_per_host.map_or(10_000, |n| n.value).try_into().unwrap_or(SERIES_MAX),
        webhook,
        heartbeat,
    };
    problems.into_result(settings)
}

/// Reads the file that a token stands in, which is not the settings' to hold.
fn token(table: &mut TableReader<'_>, key: &str) -> Option<[u8; 32]> {
    let file = table.opt_str(key)?;
    let problem = match fs::read_to_string(&file.value) {
        Ok(token) if token.trim().len() >= hook::TOKEN_BYTES_MIN => return Some(hook::hash(&token)),
        Ok(_) => format!("a token of at least {} bytes, such as `openssl rand -hex 32` makes", hook::TOKEN_BYTES_MIN),
        Err(error) => format!("a file that can be read: {error}"),
    };
    table.problem(&file.place, format!("`{key}` must name {problem}"));
    None
}

const MIB: u64 = 1024 * 1024;
const HOUR: Duration = Duration::from_secs(3_600);
/// Once a week.
const SCRUB_EVERY: Duration = Duration::from_secs(7 * 86_400);

/// An age: from an hour to ten years.
fn age(table: &mut TableReader<'_>, key: &str) -> Option<Duration> {
    let value = table.opt_duration(key);
    table.within(key, value, HOUR..=HOUR * 24 * 3_660).map(|age| age.value)
}

fn retention(mut table: TableReader<'_>) -> (Retention, Vec<Override>) {
    let defaults = Retention::default();
    let overrides = ages::read(&mut table, &age);
    let mut age = |key: &str, default: Duration| age(&mut table, key).unwrap_or(default);
    let retention = Retention {
        series: age("series", defaults.series),
        series_5m: age("series_5m", defaults.series_5m),
        series_1h: age("series_1h", defaults.series_1h),
        findings: age("findings", defaults.findings),
        decisions: age("decisions", defaults.decisions),
        changes: age("changes", defaults.changes),
        commands: age("commands", defaults.commands),
    };
    table.finish();
    (retention, overrides)
}

fn heartbeat(mut table: TableReader<'_>) -> Option<Heartbeat> {
    let url = url(&mut table, "url");
    let every = table.opt_duration("every");
    let every = table.within("every", every, Duration::from_secs(1)..=Duration::from_secs(86_400));
    table.finish();
    Some(Heartbeat { url: url?, every: every.map_or(Duration::from_secs(60), |e| e.value) })
}

fn url(table: &mut TableReader<'_>, key: &str) -> Option<String> {
    let text = table.str(key)?;
    match crate::notify::Target::parse(&text.value) {
        Ok(_) => Some(text.value),
        Err(error) => {
            table.problem(&text.place, format!("`{key}` {error}"));
            None
        }
    }
}

/// The machine's name.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Problems as lines for a person.
#[must_use]
pub fn lines(problems: &[Problem]) -> Arc<str> {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Vec<String>> {
        let document = Document::parse("collector.toml", text)
            .map_err(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        read(&document).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_configured_gives_the_documented_defaults() {
        let settings = parse("").unwrap();
        assert_eq!(settings.listen.to_string(), "0.0.0.0:7443");
        assert_eq!(settings.http.to_string(), "127.0.0.1:7444");
        assert_eq!(settings.address, None);
        assert_eq!(settings.backups.to_str(), Some("/var/lib/mainstay-collector/backups"));
        let named = parse("names = [\"c.example\"]").unwrap();
        assert_eq!(named.address.as_deref(), Some("c.example:7443"));
        assert_eq!(settings.retention, Retention::default());
        assert_eq!(settings.scrub_every, Duration::from_secs(604_800));
        assert_eq!(parse("scrub_every = \"1d\"").unwrap().scrub_every, Duration::from_secs(86_400));
        assert!(parse("scrub_every = \"1m\"").unwrap_err()[0].contains("`scrub_every` must be from"));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let problems = parse(
            "listen = \"here\"\nlisen = 1\ncache = \"1MiB\"\n[retention]\nseries = \"1s\"\n[heartbeat]\nurl = \"ftp://x\"\n",
        )
        .unwrap_err();
        for part in ["collector.toml:1:10", "did you mean `listen`?", "3:9", "`series`", "7:7", "http"] {
            assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:#?}");
        }
        assert_eq!(problems.len(), 5, "{problems:#?}");
    }

    #[test]
    fn ages_of_some_hosts_are_read_and_mistakes_in_them_named() {
        let text =
            "[retention]\nseries = \"10d\"\n[retention.override.db]\nhosts = '{role=\"db\"}'\nseries = \"90d\"\n";
        let settings = parse(text).unwrap();
        assert_eq!(settings.retention.series, Duration::from_secs(10 * 86_400));
        let [one] = &settings.overrides[..] else { panic!("{:?}", settings.overrides) };
        assert_eq!(
            (one.name.as_str(), one.series, one.series_1h),
            ("db", Some(Duration::from_secs(90 * 86_400)), None)
        );
        let problems = parse(
            "[retention.override.a]\nhosts = \"role=db\"\nseries = \"1s\"\n[retention.override.b]\nhosts = 'up{role=\"db\"}'\nserie = \"9d\"\n[retention.override.c]\nseries_5m = \"9d\"\n",
        )
        .unwrap_err();
        for part in [
            "2:9: `hosts` must be a selector of labels of hosts such as {role=\"db\"}",
            "3:10: `series` must be from",
            "5:9: `hosts` must be",
            "hosts are kept whole",
            "unknown key `serie`; did you mean `series`?",
            "`override.b` must say `series`, `series_5m` or `series_1h`",
            "`hosts`",
        ] {
            assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:#?}");
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }

    #[test]
    fn a_token_for_pipelines_comes_from_a_file_and_is_long() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let asked = format!("deploy_token_file = {:?}\n", file.display().to_string());
        assert!(parse(&asked).unwrap_err()[0].contains("a file that can be read"));
        fs::write(&file, "short\n").unwrap();
        assert!(parse(&asked).unwrap_err()[0].contains("at least 32 bytes"));
        let token = "0123456789abcdef0123456789abcdef";
        fs::write(&file, format!("{token}\n")).unwrap();
        assert_eq!(parse(&asked).unwrap().deploy_token, Some(hook::hash(token)));
        assert_eq!(parse("").unwrap().deploy_token, None);
    }

    #[test]
    fn whom_to_hand_on_to_is_read_with_its_secrets_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        fs::write(&file, "s3cret\n").unwrap();
        let text = format!(
            "[remote_write.mimir]\nurl = \"https://mimir.example/api/v1/push\"\nsecret_file = {:?}\nuser = \"fleet\"\nheaders = {{ X-Scope-OrgID = \"a\" }}\nseries = '{{__name__=~\"node_.*\"}}'\n",
            file.display().to_string()
        );
        let to = parse(&text).unwrap().remote_write.remove(0);
        assert_eq!(
            (to.name.as_str(), to.headers.0["authorization"].to_str().unwrap()),
            ("mimir", "Basic ZmxlZXQ6czNjcmV0")
        );
        assert_eq!(to.headers.0["X-Scope-OrgID"], "a");
        let shown = format!("{to:?}");
        assert!(!shown.contains("czNjcmV0") && shown.contains("authorization"), "{shown}");
        let problems = parse(
            "[remote_write.a]\nurl = \"ftp://x\"\nuser = \"u\"\nseries = \"sum(x)\"\nheaders = { Host = \"x\" }\nca_file = \"/nowhere\"\n[remote_write.b]\n",
        )
        .unwrap_err();
        for part in
            ["2:7", "`secret_file`", "`series` must be a selector", "`Host`", "`ca_file` must name a file", "`url`"]
        {
            assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:#?}");
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }

    #[test]
    fn the_packaged_file_is_good() {
        assert!(parse(include_str!("../../packaging/collector/etc/mainstay/collector.toml")).is_ok());
    }
}
