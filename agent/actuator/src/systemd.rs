//! The connection to systemd over the system bus: made when it is needed, gone when the work is done.
//!
//! Nothing is cached: every property is asked for when it matters.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use mainstay_core::verb::JobResult;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, MessageIterator, Proxy};
use zbus::proxy::CacheProperties;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Longest wait for the answer to one call. Jobs are waited for apart from this.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// Signals kept while they wait to be looked at; a busy host removes some tens of jobs in a second.
const SIGNALS_MAX: usize = 1024;

/// What can go wrong between here and systemd.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The bus or systemd is not there, or the call failed.
    #[error("cannot {what}: {source}")]
    Call {
        /// What was tried.
        what: String,
        /// What zbus said. Shown with `what`, because replies carry one text.
        source: Box<zbus::Error>,
    },
    /// The job did not end in time; it goes on.
    #[error("job did not end within {0} s")]
    JobDeadline(u64),
    /// The connection ended while the job was waited for.
    #[error("connection to systemd ended before the job did")]
    ConnectionEnded,
}

/// A job that ended: its path and result word.
type JobEnd = (OwnedObjectPath, String);

/// The manager, with `JobRemoved` subscribed to from the beginning, so that no job can end unseen.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    proxy: Proxy<'static>,
    jobs: Receiver<JobEnd>,
}

impl Manager {
    /// Connects to the system bus, or to the one at `bus`, and subscribes.
    ///
    /// # Errors
    /// When the bus or systemd does not answer.
    pub fn connect(bus: Option<&str>) -> Result<Self, SystemdError> {
        let connection = bus
            .map_or_else(Builder::system, Builder::address)
            .map(|builder| builder.method_timeout(CALL_TIMEOUT))
            .and_then(Builder::build)
            .map_err(failed("connect to the system bus"))?;
        let proxy = zbus::blocking::proxy::Builder::<Proxy<'static>>::new(&connection)
            .destination(DESTINATION)
            .and_then(|builder| builder.path(MANAGER_PATH))
            .and_then(|builder| builder.interface(MANAGER))
            .map(|builder| builder.cache_properties(CacheProperties::No))
            .and_then(|builder| builder.build())
            .map_err(failed("reach systemd"))?;
        let rule = format!("type='signal',sender='{DESTINATION}',interface='{MANAGER}',member='JobRemoved'");
        let signals = MessageIterator::for_match_rule(rule.as_str(), &connection, Some(SIGNALS_MAX))
            .map_err(failed("watch systemd's jobs"))?;
        let jobs = forward_job_ends(signals);
        proxy.call_method("Subscribe", &()).map_err(failed("subscribe to systemd's signals"))?;
        Ok(Self { connection, proxy, jobs })
    }

    /// Calls a method that starts a job, and gives the job.
    ///
    /// # Errors
    /// When systemd refuses, with its words.
    pub fn start_job(&self, method: &'static str, unit: &str) -> Result<OwnedObjectPath, SystemdError> {
        self.proxy.call(method, &(unit, "replace")).map_err(failed(&format!("{method} {unit}")))
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// When it does not end in time, or the connection ends first.
    pub fn wait_for_job(&self, job: &OwnedObjectPath, deadline: Duration) -> Result<JobResult, SystemdError> {
        let begun = Instant::now();
        loop {
            match self.jobs.recv_timeout(deadline.saturating_sub(begun.elapsed())) {
                Ok((path, result)) if path == *job => return Ok(job_result(&result)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(SystemdError::JobDeadline(deadline.as_secs())),
                Err(RecvTimeoutError::Disconnected) => return Err(SystemdError::ConnectionEnded),
            }
        }
    }

    /// Clears the failure counter of a unit. One that systemd does not have loaded has none.
    ///
    /// # Errors
    /// When systemd refuses for another reason.
    pub fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        match self.proxy.call_method("ResetFailedUnit", &(unit,)) {
            Ok(_) => Ok(()),
            Err(zbus::Error::MethodError(name, ..)) if name.ends_with(".NoSuchUnit") => Ok(()),
            Err(error) => Err(failed(&format!("reset-failed {unit}"))(error)),
        }
    }

    /// Starts a transient unit of these properties, and gives its job.
    ///
    /// # Errors
    /// When systemd refuses, with its words.
    pub fn start_transient(
        &self,
        unit: &str,
        properties: &[(&str, Value<'_>)],
    ) -> Result<OwnedObjectPath, SystemdError> {
        let aux: &[(&str, Vec<(&str, Value<'_>)>)] = &[];
        self.proxy
            .call("StartTransientUnit", &(unit, "replace", properties, aux))
            .map_err(failed(&format!("StartTransientUnit {unit}")))
    }

    /// Properties of a unit, afresh. The unit is loaded if it was not.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn unit(&self, unit: &str) -> Result<UnitProxy, SystemdError> {
        let path: OwnedObjectPath = self.proxy.call("LoadUnit", &(unit,)).map_err(failed(&format!("load {unit}")))?;
        Ok(UnitProxy { connection: self.connection.clone(), path, name: unit.to_owned() })
    }
}

impl Drop for Manager {
    /// Ends the connection, and with it the thread that forwards signals.
    fn drop(&mut self) {
        let _ = self.connection.clone().close();
    }
}

/// A loaded unit.
#[derive(Debug)]
pub struct UnitProxy {
    connection: Connection,
    path: OwnedObjectPath,
    name: String,
}

impl UnitProxy {
    /// All properties of one of the unit's interfaces, such as `Unit` or `Service`.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn properties(&self, interface: &str) -> Result<BTreeMap<String, OwnedValue>, SystemdError> {
        let what = format!("read properties of {}", self.name);
        let full = format!("{DESTINATION}.{interface}");
        let reply = self
            .connection
            .call_method(Some(DESTINATION), &self.path, Some("org.freedesktop.DBus.Properties"), "GetAll", &(full,))
            .map_err(failed(&what))?;
        reply.body().deserialize().map_err(failed(&what))
    }
}

/// Hands job ends to a channel, because waiting on the bus itself has no deadline. Ends with the connection.
fn forward_job_ends(signals: MessageIterator) -> Receiver<JobEnd> {
    let (sender, receiver) = sync_channel(SIGNALS_MAX);
    std::thread::spawn(move || {
        for message in signals {
            let Ok(message) = message else { return };
            let body = message.body();
            let Ok((_, path, _, result)) = body.deserialize::<(u32, OwnedObjectPath, String, String)>() else {
                continue;
            };
            if sender.send((path, result)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn job_result(word: &str) -> JobResult {
    JobResult::ALL.iter().copied().find(|result| result.as_str() == word).unwrap_or(JobResult::Other)
}

fn failed(what: &str) -> impl FnOnce(zbus::Error) -> SystemdError {
    let what = what.to_owned();
    move |error| SystemdError::Call { what, source: Box::new(error) }
}
