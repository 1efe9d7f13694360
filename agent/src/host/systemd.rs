//! Follows systemd's units over D-Bus, by signals and not by polling.
//!
//! One connection, opened again with backoff when it breaks; every call has a deadline. At the
//! start every unit is read once, one after the other so that PID 1 is not held up; from then on a
//! change of a unit is handed on as soon as its signal arrives. While the bus cannot be asked the
//! units are unknown ([`UnitsEvent::Lost`]), never "all fine".

pub mod units;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use mainstay_core::subject::UnitName;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::StreamExt;
use zbus::message::{Message, Type};
use zbus::zvariant::{OwnedObjectPath, Value};
use zbus::{Connection, MessageStream};

pub use units::{UNITS_MAX, UnitState};
use units::{Units, path_of_unit, type_interface, unit_of_path};

/// Longest wait for the answer to one call.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// First and longest wait before the connection is opened again.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How often a silent bus is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// A new unit is read only after this: `systemctl status` of a unit that is not loaded makes one
/// that is gone again at once, and asking for it would load it again, without an end.
const NEW_UNIT_DELAY: Duration = Duration::from_millis(250);

/// Messages that wait to be read before the connection stops reading.
const QUEUED_MAX: usize = 256;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What is to be known about units.
#[derive(Debug)]
pub enum UnitsEvent {
    /// All of them, after they were read for the first time or again.
    Loaded(BTreeMap<UnitName, UnitState>),
    /// One of them is different now.
    Changed(UnitName, Box<UnitState>),
    /// systemd has unloaded one.
    Removed(UnitName),
    /// The bus cannot be asked: from now on nothing is known.
    Lost(String),
}

/// Follows units until the receiver is gone. Every break of the connection is told once.
pub async fn follow(events: Sender<UnitsEvent>) {
    let mut backoff = BACKOFF_MIN;
    while !events.is_closed() {
        let started = Instant::now();
        let Err(error) = session(&events).await else { return };
        if events.send(UnitsEvent::Lost(error.to_string())).await.is_err() {
            return;
        }
        if started.elapsed() > BACKOFF_MAX {
            backoff = BACKOFF_MIN;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Why a session with the bus ended.
#[derive(Debug, thiserror::Error)]
enum BusError {
    #[error("no answer from {0} within {CALL_DEADLINE:?}")]
    Late(&'static str),
    #[error("cannot talk to systemd over D-Bus: {0}")]
    Bus(#[from] zbus::Error),
    #[error("systemd answered what was not expected: {0}")]
    Value(#[from] zbus::zvariant::Error),
    #[error("the bus closed the connection")]
    Closed,
}

/// One connection, from its opening to its end. `Ok` when nobody listens any more.
async fn session(events: &Sender<UnitsEvent>) -> Result<(), BusError> {
    let opening = zbus::connection::Builder::system()?.max_queued(QUEUED_MAX).build();
    let bus = within("the bus", async { Ok(opening.await?) }).await?;
    let mut messages = MessageStream::from(&bus);
    subscribe(&bus).await?;
    let mut session = Session { bus, units: Units::default(), to_read: ToRead::default(), loaded: false };
    session.list().await?;
    session.run(&mut messages, events).await
}

struct Session {
    bus: Connection,
    units: Units,
    to_read: ToRead,
    loaded: bool,
}

/// Units whose properties are to be read: at once, or after a while.
#[derive(Debug, Default)]
struct ToRead {
    now: BTreeSet<UnitName>,
    later: BTreeMap<UnitName, Instant>,
}

impl ToRead {
    fn next_due(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }

    fn take_due(&mut self, now: Instant) {
        let due: Vec<UnitName> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.later.remove(&name);
            self.now.insert(name);
        }
    }

    fn forget(&mut self, name: &UnitName) {
        self.now.remove(name);
        self.later.remove(name);
    }
}

/// Both answers about one unit; `None` where systemd does not know it (any more).
type Reading = Option<(Message, Message)>;
type ReadingFuture = Pin<Box<dyn Future<Output = (UnitName, Result<Reading, BusError>)> + Send>>;

impl Session {
    async fn run(&mut self, messages: &mut MessageStream, events: &Sender<UnitsEvent>) -> Result<(), BusError> {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading: Option<ReadingFuture> = None;
        loop {
            if reading.is_none() {
                reading = self.to_read.now.pop_first().map(|name| read_unit(self.bus.clone(), name));
            }
            if reading.is_none() && !self.loaded {
                self.loaded = true;
                if events.send(UnitsEvent::Loaded(self.units.take_all())).await.is_err() {
                    return Ok(());
                }
            }
            let due = self.to_read.next_due();
            // Signals come first: what died must not wait for what is being read.
            let told = tokio::select! {
                biased;
                message = messages.next() => {
                    self.heard(&message.ok_or(BusError::Closed)??)?
                }
                (name, answer) = async { reading.as_mut().expect("guarded by is_some").await }, if reading.is_some() => {
                    reading = None;
                    self.read(name, answer?)?
                }
                () = async { sleep_until(due.expect("guarded by is_some")).await }, if due.is_some() => {
                    self.to_read.take_due(Instant::now());
                    None
                }
                _ = ping.tick() => {
                    self.ping_at_leisure();
                    None
                }
                () = events.closed() => return Ok(()),
            };
            if let Some(event) = told.filter(|_| self.loaded)
                && events.send(event).await.is_err()
            {
                return Ok(());
            }
        }
    }

    /// Asks for a sign of life; a bus that does not answer is closed, which ends the session.
    fn ping_at_leisure(&self) {
        let bus = self.bus.clone();
        tokio::spawn(async move {
            let path = MANAGER_PATH;
            let call = bus.call_method(Some(SYSTEMD), path, Some("org.freedesktop.DBus.Peer"), "Ping", &());
            if within("systemd", async { Ok(call.await?) }).await.is_err() {
                let _ = bus.close().await;
            }
        });
    }

    /// Asks which units there are, and has each of them read.
    async fn list(&mut self) -> Result<(), BusError> {
        type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let call = self.bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "ListUnits", &());
        let answer = within("systemd", async { Ok(call.await?) }).await?;
        let listed: Vec<Listed> = answer.body().deserialize()?;
        for (name, _, load, ..) in listed {
            if load == "loaded"
                && let Some(name) = followed(&name)
            {
                self.to_read.now.insert(name);
            }
        }
        Ok(())
    }

    /// Takes a message from the bus; says what it changed.
    fn heard(&mut self, message: &Message) -> Result<Option<UnitsEvent>, BusError> {
        let header = message.header();
        if header.message_type() != Type::Signal {
            return Ok(None);
        }
        let (Some(path), Some(member)) = (header.path(), header.member()) else { return Ok(None) };
        match member.as_str() {
            "PropertiesChanged" => {
                let Some(name) = unit_of_path(path.as_str()) else { return Ok(None) };
                self.properties_changed(&name, message)
            }
            "UnitNew" | "UnitRemoved" => {
                let body = message.body();
                let (name, _): (&str, zbus::zvariant::ObjectPath<'_>) = body.deserialize()?;
                let Some(name) = followed(name) else { return Ok(None) };
                if member.as_str() == "UnitNew" {
                    self.to_read.later.insert(name, Instant::now() + NEW_UNIT_DELAY);
                    return Ok(None);
                }
                self.to_read.forget(&name);
                Ok(self.units.remove(&name).then_some(UnitsEvent::Removed(name)))
            }
            // Unit files may say something else now.
            "UnitFilesChanged" => {
                self.read_all_again();
                Ok(None)
            }
            "Reloading" => {
                if !message.body().deserialize::<bool>()? {
                    self.read_all_again();
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn read_all_again(&mut self) {
        self.to_read.now.extend(self.units.names().cloned());
    }

    fn properties_changed(&mut self, name: &UnitName, message: &Message) -> Result<Option<UnitsEvent>, BusError> {
        if type_interface(name.as_str()).is_none() {
            return Ok(None);
        }
        let body = message.body();
        let (interface, changed, _): (&str, HashMap<&str, Value<'_>>, Vec<&str>) = body.deserialize()?;
        if !self.units.knows(name) {
            // It is alive and not yet read: a unit that was loaded and started at once.
            if !self.to_read.now.contains(name) {
                self.to_read.later.entry(name.clone()).or_insert_with(|| Instant::now() + NEW_UNIT_DELAY);
            }
            return Ok(None);
        }
        let at = message.recv_position();
        if interface != UNIT {
            self.units.type_changed(name, &changed, at);
            return Ok(None);
        }
        self.units.unit_changed(name, &changed, at);
        Ok(self.told(name))
    }

    /// What has changed about the unit. One that has come up is read again where its cgroup is not known.
    fn told(&mut self, name: &UnitName) -> Option<UnitsEvent> {
        let state = self.units.take_change(name)?;
        if state.unit.main_pid != 0 && state.control_group.is_empty() {
            self.to_read.now.insert(name.clone());
        }
        Some(UnitsEvent::Changed(name.clone(), Box::new(state)))
    }

    fn read(&mut self, name: UnitName, answer: Reading) -> Result<Option<UnitsEvent>, BusError> {
        let Some((unit, typed)) = answer else {
            return Ok(self.units.remove(&name).then_some(UnitsEvent::Removed(name)));
        };
        let (unit_body, typed_body) = (unit.body(), typed.body());
        let unit_properties: HashMap<&str, Value<'_>> = unit_body.deserialize()?;
        let typed_properties: HashMap<&str, Value<'_>> = typed_body.deserialize()?;
        self.units.fetched(&name, &unit_properties, &typed_properties, unit.recv_position());
        Ok(if self.loaded { self.told(&name) } else { None })
    }
}

/// The name, if it is of a unit that is followed.
fn followed(name: &str) -> Option<UnitName> {
    type_interface(name)?;
    name.parse().ok()
}

/// Reads both interfaces of one unit.
fn read_unit(bus: Connection, name: UnitName) -> ReadingFuture {
    Box::pin(async move {
        let path = path_of_unit(&name);
        let typed = type_interface(name.as_str()).unwrap_or(UNIT);
        let get_all = |interface: &'static str| {
            let (bus, path) = (bus.clone(), path.clone());
            within("systemd", async move {
                Ok(bus.call_method(Some(SYSTEMD), path.as_str(), Some(PROPERTIES), "GetAll", &interface).await?)
            })
        };
        let answer = async { Ok((get_all(UNIT).await?, get_all(typed).await?)) }.await;
        let answer = match answer {
            Ok(both) => Ok(Some(both)),
            // An error reply is systemd's word about this unit; the connection is well.
            Err(BusError::Bus(zbus::Error::MethodError(..))) => Ok(None),
            Err(error) => Err(error),
        };
        (name, answer)
    })
}

/// Asks the bus for the signals that matter, and systemd to send them.
async fn subscribe(bus: &Connection) -> Result<(), BusError> {
    let manager = |member| format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='{member}'");
    let changed = |interface: &str| {
        format!(
            "type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',member='PropertiesChanged',\
             path_namespace='{MANAGER_PATH}/unit',arg0='{interface}'"
        )
    };
    let rules = [
        changed(UNIT),
        changed("org.freedesktop.systemd1.Service"),
        manager("UnitNew"),
        manager("UnitRemoved"),
        manager("UnitFilesChanged"),
        manager("Reloading"),
    ];
    let dbus = "org.freedesktop.DBus";
    for rule in rules {
        let call = bus.call_method(Some(dbus), "/org/freedesktop/DBus", Some(dbus), "AddMatch", &rule);
        within("the bus", async { Ok(call.await?) }).await?;
    }
    let call = bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &());
    within("systemd", async { Ok(call.await?) }).await?;
    Ok(())
}

/// Waits for an answer, but no longer than [`CALL_DEADLINE`].
async fn within<T>(whom: &'static str, call: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    timeout(CALL_DEADLINE, call).await.map_err(|_| BusError::Late(whom))?
}
