//! `probe`: runs a command that root defined, as a transient unit without privileges.
//!
//! A policy names a probe; what runs is `/etc/mainstay/probes.d/NAME.toml`, which root wrote: an absolute path with
//! arguments and a deadline. It runs as a user that exists only for that time (`DynamicUser=`), without a shell, without
//! the caller's environment and without a way to gain privileges.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::config::{Document, Problem, Problems, Spanned};
use mainstay_core::verb::{Detail, JobResult, ProbeDone, RefusalReason, Reply};
use zbus::zvariant::Value;

use crate::load::{Ownership, read_text};
use crate::settings::Settings;
use crate::systemd::{Manager, SystemdError, UnitProxy};

/// Added to a probe's own deadline for systemd to set the unit up and clear it away.
const SETUP_TIME: Duration = Duration::from_secs(10);

/// A probe as root defined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Absolute path of the program, then its arguments.
    pub argv: Vec<String>,
    /// The command is ended after this long.
    pub timeout: Duration,
    /// Whether it may use the network; by default it may, as most probes ask a service.
    pub network: bool,
}

impl Probe {
    /// Loads the probe of a name.
    ///
    /// # Errors
    /// Every mistake in its file.
    pub fn load(dir: &Path, name: &str, ownership: Ownership) -> Result<Self, Vec<Problem>> {
        let path = dir.join(format!("{name}.toml"));
        let shown = path.to_string_lossy();
        let text = read_text(&path, ownership).map_err(|message| vec![Problem::of_file(&shown, message)])?;
        let probe = Self::read(&Document::parse(&shown, &text)?)?;
        if ownership == Ownership::Root {
            check_program(Path::new(&probe.argv[0])).map_err(|message| vec![Problem::of_file(&shown, message)])?;
        }
        Ok(probe)
    }

    fn read(document: &Document) -> Result<Self, Vec<Problem>> {
        let problems = Problems::new();
        let mut top = document.reader(&problems);
        let argv = top.strs("command");
        if let Some(argv) = &argv {
            let program = argv.value.first().map_or("", |word| word.value.as_str());
            if crate::gate::clean_components(program.as_bytes()).is_none() || program == "/" {
                top.problem(&argv.place, "`command` must begin with the absolute path of a program");
            }
        }
        let timeout = top.opt_duration("timeout");
        let timeout = top.within("timeout", timeout, Duration::from_millis(100)..=Duration::from_secs(60));
        let network = top.opt_bool("network").is_none_or(Spanned::into_inner);
        top.finish();
        let argv = argv.map_or_else(Vec::new, |words| words.value.into_iter().map(Spanned::into_inner).collect());
        let timeout = timeout.map_or(Duration::from_secs(5), Spanned::into_inner);
        problems.into_result(Self { argv, timeout, network })
    }
}

/// A program that somebody else could replace is not root's definition any more.
fn check_program(path: &Path) -> Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    if meta.is_file() && meta.uid() == 0 && meta.mode() & 0o022 == 0 && meta.mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(format!("{} must be a program that belongs to root and is writable by nobody else", path.display()))
}

/// Runs a probe by name.
pub fn run(name: &str, dir: &Path, ownership: Ownership, settings: &Settings, serial: u64) -> Reply {
    let probe = match Probe::load(dir, name, ownership) {
        Ok(probe) => probe,
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            let is_missing = !dir.join(format!("{name}.toml")).exists();
            let reason = if is_missing { RefusalReason::NotAllowed } else { RefusalReason::BadConfig };
            return Reply::refused(reason, texts.join("; "));
        }
    };
    let timeout = probe.timeout.min(settings.probe_deadline_max);
    let begun = Instant::now();
    match run_transient(&probe, timeout, &format!("mainstay-probe-{name}-{serial}.service")) {
        Ok(done) => Reply::Done(Detail::Probe(done)),
        Err(error) => Reply::failed(format!("probe {name}: {error}"), elapsed_ms(begun)),
    }
}

fn run_transient(probe: &Probe, timeout: Duration, unit: &str) -> Result<ProbeDone, SystemdError> {
    let manager = Manager::connect(None)?;
    let begun = Instant::now();
    // `oneshot`: the job ends when the command has, so its end is all there is to wait for.
    let job = manager.start_transient(unit, &properties(probe, timeout))?;
    let result = manager.wait_for_job(&job, timeout + SETUP_TIME)?;
    let elapsed_ms = elapsed_ms(begun);
    // It is loaded for as long as it has failed, or `CollectMode` takes it away at once: then the job's word is all.
    let ended = manager.unit(unit).and_then(|unit| exit_of(&unit));
    let _ = manager.reset_failed(unit);
    let (exit_status, timed_out) = match (result, ended) {
        (JobResult::Done, _) => (0, false),
        (_, Ok(ended)) => ended,
        (_, Err(error)) => return Err(error),
    };
    Ok(ProbeDone { exit_status, elapsed_ms, timed_out })
}

fn properties(probe: &Probe, timeout: Duration) -> Vec<(&'static str, Value<'static>)> {
    let argv = probe.argv.clone();
    let program = argv.first().cloned().unwrap_or_default();
    let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    let mut properties: Vec<(&'static str, Value<'static>)> = vec![
        ("Description", Value::from("Mainstay probe")),
        ("Type", Value::from("oneshot")),
        ("ExecStart", Value::from(vec![(program, argv, false)])),
        ("TimeoutStartUSec", Value::from(micros)),
        ("TimeoutStopUSec", Value::from(1_000_000u64)),
        ("DynamicUser", Value::from(true)),
        ("NoNewPrivileges", Value::from(true)),
        ("CapabilityBoundingSet", Value::from(0u64)),
        ("ProtectSystem", Value::from("strict")),
        ("ProtectHome", Value::from("yes")),
        ("ProtectKernelTunables", Value::from(true)),
        ("ProtectKernelModules", Value::from(true)),
        ("ProtectControlGroups", Value::from(true)),
        ("PrivateDevices", Value::from(true)),
        ("PrivateTmp", Value::from(true)),
        ("RestrictSUIDSGID", Value::from(true)),
        ("RestrictRealtime", Value::from(true)),
        ("LockPersonality", Value::from(true)),
        ("MemoryMax", Value::from(256u64 << 20)),
        ("TasksMax", Value::from(64u64)),
        ("StandardInput", Value::from("null")),
        ("StandardOutput", Value::from("journal")),
        ("StandardError", Value::from("journal")),
    ];
    if !probe.network {
        properties.push(("PrivateNetwork", Value::from(true)));
    }
    properties
}

/// Exit status as a shell would show it, and whether the time was over.
fn exit_of(unit: &UnitProxy) -> Result<(i32, bool), SystemdError> {
    let service = unit.properties("Service")?;
    let number = |key: &str| service.get(key).and_then(|value| i32::try_from(value).ok()).unwrap_or(-1);
    let result = service.get("Result").and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned();
    // `CLD_EXITED` is 1; the others tell the number of a signal.
    let status = number("ExecMainStatus");
    let exit_status = if number("ExecMainCode") == 1 { status } else { status.saturating_add(128) };
    Ok((exit_status, result == "timeout"))
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Probe, String> {
        let document = Document::parse("p.toml", text).unwrap();
        Probe::read(&document).map_err(|problems| problems[0].to_string())
    }

    #[test]
    fn a_probe_is_a_program_by_its_absolute_path() {
        let probe = read("command = [\"/usr/bin/pg_isready\", \"-q\"]\ntimeout = \"2s\"\n").unwrap();
        assert_eq!((probe.argv.len(), probe.timeout, probe.network), (2, Duration::from_secs(2), true));
        for wrong in
            ["command = []", "command = [\"pg_isready\"]", "command = [\"/bin/../x\"]", "command = \"/bin/x\"", ""]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_keys_are_named() {
        assert_eq!(
            read("command = [\"/x\"]\ntimeuot = \"2s\"\n").unwrap_err(),
            "p.toml:2:1: unknown key `timeuot`; did you mean `timeout`?"
        );
    }
}
