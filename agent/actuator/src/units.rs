//! `unit.start|restart|stop|reload`: one systemd job, waited for until it ends.
//!
//! In: the verb, already let through by [`crate::gate`]. Out: the job's result and the new main PID. A unit is asked for
//! its other names first, because an alias of a protected unit is protected.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mainstay_core::plan::ResetFailed;
use mainstay_core::subject::UnitName;
use mainstay_core::verb::{Detail, Failure, JobResult, Refusal, RefusalReason, Reply, Request, UnitDone, Verb};
use zbus::zvariant::OwnedValue;

use crate::gate;
use crate::settings::Settings;
use crate::systemd::{Manager, SystemdError};

/// Carries out the unit verbs. The real one is [`Systemd`]; tests have one that only counts.
pub trait UnitControl: Send + Sync {
    /// Looks at the unit before anything is journalled: does it exist, is it an alias of a protected one.
    ///
    /// # Errors
    /// Why it may not be touched.
    fn check(&self, unit: &UnitName, settings: &Settings) -> Result<(), Refusal>;

    /// The control group that the unit's processes are in, as systemd names it; `None` if it has none now. Refused where
    /// another run than the one that is meant runs by now.
    ///
    /// # Errors
    /// Why that cannot be said.
    fn control_group(&self, unit: &UnitName, meant: Option<[u8; 16]>) -> Result<Option<String>, Refusal>;

    /// Carries the verb out and waits for its job. Refused where the request is about one run of the unit and another
    /// one runs by now.
    fn run(&self, request: &Request, settings: &Settings) -> Reply;
}

/// systemd over D-Bus.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    /// Where the bus is; the system's by default.
    pub bus: Option<String>,
}

impl UnitControl for Systemd {
    fn check(&self, unit: &UnitName, settings: &Settings) -> Result<(), Refusal> {
        // Without an answer nobody knows whether this is another name of a protected unit.
        let unavailable = |error: SystemdError| Refusal {
            reason: RefusalReason::Unavailable,
            text: format!("{unit} may be another name of a protected unit, and systemd does not say: {error}"),
        };
        let manager = Manager::connect(self.bus.as_deref()).map_err(unavailable)?;
        let properties = manager.unit(unit.as_str()).and_then(|unit| unit.properties("Unit")).map_err(unavailable)?;
        let load_state = text(&properties, "LoadState");
        if matches!(load_state.as_str(), "not-found" | "masked") {
            let text = format!("{unit} is {load_state}");
            return Err(Refusal { reason: RefusalReason::BadRequest, text });
        }
        let names = properties.get("Names").and_then(|value| Vec::<String>::try_from(value.clone()).ok());
        // Every loaded unit has at least its own name: an answer without any is none.
        let names = names.filter(|names| !names.is_empty()).ok_or_else(|| Refusal {
            reason: RefusalReason::Unavailable,
            text: format!("systemd does not say by which names {unit} is known"),
        })?;
        let names = names.into_iter().chain([text(&properties, "Id")]);
        names.filter(|name| !name.is_empty()).try_for_each(|name| {
            gate::check_protected(settings, &name).map_err(|refusal| Refusal {
                text: format!("{unit} is another name of it: {}", refusal.text),
                ..refusal
            })
        })
    }

    fn control_group(&self, unit: &UnitName, meant: Option<[u8; 16]>) -> Result<Option<String>, Refusal> {
        let unavailable = |error: SystemdError| Refusal {
            reason: RefusalReason::Unavailable,
            text: format!("systemd does not say where the processes of {unit} are: {error}"),
        };
        // Other types of units have no processes of their own.
        let interface = match unit.as_str().rsplit_once('.') {
            Some((_, "service")) => "Service",
            Some((_, "scope")) => "Scope",
            _ => return Ok(None),
        };
        let manager = Manager::connect(self.bus.as_deref()).map_err(unavailable)?;
        if let Some(meant) = meant
            && invocation_of(&manager, unit).map_err(unavailable)?.is_some_and(|runs| runs != meant)
        {
            let text = format!("{unit} was started anew since the decision: its processes are others");
            return Err(Refusal { reason: RefusalReason::StartedAnew, text });
        }
        let properties =
            manager.unit(unit.as_str()).and_then(|unit| unit.properties(interface)).map_err(unavailable)?;
        Ok(Some(text(&properties, "ControlGroup")).filter(|group| !group.is_empty()))
    }

    fn run(&self, request: &Request, settings: &Settings) -> Reply {
        let begun = Instant::now();
        let Some(job) = Job::of(&request.verb) else {
            return Reply::refused(RefusalReason::BadRequest, "not a unit verb");
        };
        match job.carry_out(self.bus.as_deref(), request.invocation, settings.job_deadline) {
            Ok(Some(ended)) => job.reply(ended, elapsed_ms(begun)),
            Ok(None) => {
                let text = format!("{} was started anew since the decision, and not by it: nothing was done", job.unit);
                Reply::refused(RefusalReason::StartedAnew, text)
            }
            Err(error) => Reply::failed(error.to_string(), elapsed_ms(begun)),
        }
    }
}

/// What a unit verb asks of systemd.
struct Job<'v> {
    unit: &'v UnitName,
    method: &'static str,
    reset: ResetFailed,
}

impl<'v> Job<'v> {
    fn of(verb: &'v Verb) -> Option<Self> {
        let (unit, method, reset) = match verb {
            Verb::UnitStart { unit, reset_failed } => (unit, "StartUnit", *reset_failed),
            // TryRestart would leave a failed unit down; Restart starts it.
            Verb::UnitRestart { unit, reset_failed } => (unit, "RestartUnit", *reset_failed),
            Verb::UnitStop { unit } => (unit, "StopUnit", ResetFailed::Keep),
            Verb::UnitReload { unit } => (unit, "ReloadUnit", ResetFailed::Keep),
            _ => return None,
        };
        Some(Self { unit, method, reset })
    }

    /// `None` where the unit is no longer in the run that was meant. The question is the last thing before the job: what
    /// remains is the time between two calls over the bus.
    fn carry_out(
        &self,
        bus: Option<&str>,
        meant: Option<[u8; 16]>,
        deadline: Duration,
    ) -> Result<Option<Ended>, SystemdError> {
        let manager = Manager::connect(bus)?;
        if let Some(meant) = meant
            && invocation_of(&manager, self.unit)?.is_some_and(|runs| runs != meant)
        {
            return Ok(None);
        }
        if self.reset == ResetFailed::Clear {
            manager.reset_failed(self.unit.as_str())?;
        }
        let before = Service::of(&manager, self.unit);
        let job = manager.start_job(self.method, self.unit.as_str())?;
        let result = manager.wait_for_job(&job, deadline)?;
        let after = Service::of(&manager, self.unit);
        let starts = matches!(self.method, "StartUnit" | "RestartUnit");
        let was_started = !starts || after.started_us.is_none() || after.started_us != before.started_us;
        Ok(Some(Ended { job: result, main_pid: after.main_pid, was_started, why_failed: after.why_failed }))
    }

    fn reply(&self, ended: Ended, elapsed_ms: u64) -> Reply {
        let Ended { job, main_pid, was_started, why_failed } = ended;
        if matches!(job, JobResult::Done | JobResult::Skipped) {
            return Reply::Done(Detail::Unit(UnitDone { job, elapsed_ms, main_pid }));
        }
        // systemd does not say that a start limit was hit when the unit had failed before; that nothing ran does.
        let hint = match (was_started, why_failed) {
            (false, _) => "; nothing was started: its start limit (`reset_failed = true` clears it), a condition or \
                           ExecStartPre= stood against it"
                .to_owned(),
            (true, Some(why)) => format!(" ({why})"),
            (true, None) => String::new(),
        };
        let text = format!("job of {} ended {job}{hint}", self.unit);
        Reply::Failed(Failure { text, job: Some(job), elapsed_ms })
    }
}

/// The run that a unit is in, or was in last; `None` for one that was never started.
fn invocation_of(manager: &Manager, unit: &UnitName) -> Result<Option<[u8; 16]>, SystemdError> {
    let properties = manager.unit(unit.as_str())?.properties("Unit")?;
    let bytes = properties.get("InvocationID").and_then(|value| Vec::<u8>::try_from(value.clone()).ok());
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

/// How a job ended, and what the unit shows after it.
struct Ended {
    job: JobResult,
    main_pid: Option<u32>,
    was_started: bool,
    why_failed: Option<String>,
}

/// What a service shows; units of other types have none of it.
#[derive(Default)]
struct Service {
    main_pid: Option<u32>,
    /// When its main process was last started.
    started_us: Option<u64>,
    /// systemd's word for its failure.
    why_failed: Option<String>,
}

impl Service {
    fn of(manager: &Manager, unit: &UnitName) -> Self {
        if !unit.as_str().ends_with(".service") {
            return Self::default();
        }
        let properties = manager.unit(unit.as_str()).and_then(|unit| unit.properties("Service")).unwrap_or_default();
        let main_pid = properties.get("MainPID").and_then(|value| u32::try_from(value).ok()).filter(|pid| *pid != 0);
        let started_us = properties.get("ExecMainStartTimestampMonotonic").and_then(|value| u64::try_from(value).ok());
        let result = text(&properties, "Result");
        Self { main_pid, started_us, why_failed: (!result.is_empty() && result != "success").then_some(result) }
    }
}

fn text(properties: &BTreeMap<String, OwnedValue>, key: &str) -> String {
    properties.get(key).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned()
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_refused_while_nobody_can_say_whose_other_name_it_is() {
        let document = mainstay_core::config::Document::parse("a.toml", "[units]\nallow = [\"*\"]\n").unwrap();
        let settings = Settings::read(&document).unwrap();
        let systemd = Systemd { bus: Some("unix:path=/nonexistent/bus".to_owned()) };
        let refusal = systemd.check(&"sshd.service".parse().unwrap(), &settings).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Unavailable);
        assert!(refusal.text.contains("cannot connect to the system bus"), "{}", refusal.text);
    }
}
