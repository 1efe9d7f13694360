//! Records this host as an agent samples it, once a second, for the measurements of what stored values take.
//!
//! In: a file to write and a number of seconds. Out: a recording (`bench/recording.rs` says what it looks like). Series
//! that come later than the first second are left out, and counted.
//!
//! ```text
//! cargo run -p mainstay-agent --example record -- FILE SECONDS [ADDRESS|exporter]
//! ```
//!
//! With an ADDRESS, such as 127.0.0.1:9100, it records what an exporter shows there instead (`bench/exposed.rs`); with the
//! word `exporter` what Debian's node_exporter shows, which it starts itself, of the 750 series that a host has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mainstay_agent::host::filesystems::FilesystemSettings;
use mainstay_agent::host::{Host, clock};
use mainstay_core::readings::{SeriesKind, readings};
use mainstay_core::series::SeriesKey;

#[path = "exposed.rs"]
mod exposed;
#[allow(dead_code)] // others start more
#[path = "peers.rs"]
mod peers;

use peers::Peer;

/// Longest until an exporter answers.
const READY_MAX: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, seconds, address) = match &arguments[..] {
        [file, seconds] => (file, seconds, None),
        [file, seconds, address] => (file, seconds, Some(address)),
        _ => bail!("usage: record FILE SECONDS [ADDRESS|exporter]"),
    };
    let (address, _exporter) = match address.map(String::as_str) {
        Some("exporter") => {
            let exporter = node_exporter()?;
            (Some(exporter.at.to_string()), Some(exporter))
        }
        other => (other.map(str::to_owned), None),
    };
    let seconds: u32 = seconds.parse().with_context(|| format!("`{seconds}` is no number of seconds"))?;
    let mut out = BufWriter::new(File::create(file).with_context(|| format!("cannot write {file}"))?);
    let mut host = Host::at(Path::new("/"), FilesystemSettings::default());
    // The first look starts what answers later, such as filesystems.
    host.sample(clock::now());
    let mut columns: Option<Vec<SeriesKey>> = None;
    let mut late = 0;
    let started = Instant::now();
    for second in 1..=seconds {
        sleep((started + Duration::from_secs(u64::from(second))).saturating_duration_since(Instant::now()));
        let now = clock::now();
        let mut values: BTreeMap<SeriesKey, (SeriesKind, f64)> = BTreeMap::new();
        match &address {
            Some(address) => values = exposed::fetch(address)?,
            None => readings(&host.sample(now), &mut |reading| {
                values.insert(SeriesKey::new(reading.name, reading.labels), (reading.kind, reading.value));
            }),
        }
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let name = |(key, (kind, _)): (&SeriesKey, &(SeriesKind, f64))| {
                    format!("\t{}:{key}", if *kind == SeriesKind::Gauge { 'g' } else { 'c' })
                };
                writeln!(out, "at_ms{}", values.iter().map(name).collect::<String>())?;
                columns.insert(values.keys().cloned().collect())
            }
        };
        write!(out, "{}", now.wall_ms)?;
        for column in columns {
            match values.remove(column) {
                Some((_, value)) => write!(out, "\t{value:?}")?,
                None => write!(out, "\t")?,
            }
        }
        late += values.len();
        writeln!(out)?;
        out.flush()?;
    }
    println!(
        "{seconds} seconds of {} series in {file}; {late} values of series that came later are left out",
        columns.map_or(0, |c| c.len())
    );
    Ok(())
}

/// Debian's node_exporter with what else a host has, answering.
fn node_exporter() -> Result<Peer> {
    let program = peers::program("prometheus-node-exporter").context("Debian's node_exporter cannot be had")?;
    let exporter = Peer::spawn(&program, |_, at| {
        let switches = [
            "--collector.interrupts",
            "--collector.processes",
            "--collector.tcpstat",
            "--collector.vmstat.fields=.*",
            "--collector.netstat.fields=^(Ip|IpExt|Tcp|TcpExt|Udp)_.*$",
        ];
        switches.into_iter().map(str::to_owned).chain([format!("--web.listen-address={at}")]).collect()
    })?;
    let started = Instant::now();
    while let Err(error) = exposed::fetch(&exporter.at.to_string()) {
        ensure!(started.elapsed() < READY_MAX, "node_exporter does not answer within {READY_MAX:?}: {error}");
        sleep(Duration::from_millis(100));
    }
    Ok(exporter)
}
