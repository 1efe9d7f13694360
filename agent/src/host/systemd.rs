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
    /// So many are not followed because there are more than [`UNITS_MAX`].
    LeftOut(u64),
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
    let to_ask = ToAsk { list: true, ..ToAsk::default() };
    let mut session = Session {
        bus,
        units: Units::default(),
        to_ask,
        reloading: false,
        loaded: false,
        left_out: (0, 0),
        tell: Vec::new(),
    };
    session.run(&mut messages, events).await
}

struct Session {
    bus: Connection,
    units: Units,
    to_ask: ToAsk,
    /// systemd is loading all unit files anew: it removes every unit and adds it again.
    reloading: bool,
    /// Every unit has been read once.
    loaded: bool,
    /// Units that were listed and are not followed; how many that were when it was last said.
    left_out: (u64, u64),
    /// What is to be handed on.
    tell: Vec<UnitsEvent>,
}

/// What systemd is still to be asked, one question after the other.
#[derive(Debug, Default)]
struct ToAsk {
    /// Which units there are.
    list: bool,
    /// The properties of these.
    units: BTreeSet<UnitName>,
    /// The properties of these, not before then.
    later: BTreeMap<UnitName, Instant>,
}

impl ToAsk {
    fn next_due(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }

    fn take_due(&mut self, now: Instant) {
        let due: Vec<UnitName> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.later.remove(&name);
            self.units.insert(name);
        }
    }

    fn forget(&mut self, name: &UnitName) {
        self.units.remove(name);
        self.later.remove(name);
    }
}

/// What systemd answered.
enum Answer {
    /// Which units there are.
    Listed(Message),
    /// Both interfaces of one unit; `None` where systemd does not know it (any more).
    Read(UnitName, Option<(Message, Message)>),
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, BusError>> + Send>>;
type Pinging = Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>>;

impl Session {
    async fn run(&mut self, messages: &mut MessageStream, events: &Sender<UnitsEvent>) -> Result<(), BusError> {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asking: Option<Asking> = None;
        let mut pinging: Option<Pinging> = None;
        loop {
            if asking.is_none() {
                asking = self.next_question();
            }
            if asking.is_none() && !self.loaded {
                self.loaded = true;
                self.tell = vec![UnitsEvent::Loaded(self.units.take_all())];
            }
            self.tell_left_out();
            for event in self.tell.drain(..).filter(|_| self.loaded) {
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
            let due = self.to_ask.next_due();
            // Signals come first: what died must not wait for what is being read. And they are
            // always taken, also while an answer is awaited: it comes behind them.
            tokio::select! {
                biased;
                message = messages.next() => self.heard(&message.ok_or(BusError::Closed)??)?,
                answer = async { asking.as_mut().expect("guarded by is_some").await }, if asking.is_some() => {
                    asking = None;
                    self.answered(answer?)?;
                }
                () = async { sleep_until(due.expect("guarded by is_some")).await }, if due.is_some() => {
                    self.to_ask.take_due(Instant::now());
                }
                // Whoever is stopped closes nothing: without this the units would stay as they were for ever.
                alive = async { pinging.as_mut().expect("guarded by is_some").await }, if pinging.is_some() => {
                    pinging = None;
                    alive?;
                }
                _ = ping.tick(), if pinging.is_none() => pinging = Some(sign_of_life(self.bus.clone())),
                () = events.closed() => return Ok(()),
            }
        }
    }

    /// Says how many units are not followed, if that is another number.
    fn tell_left_out(&mut self) {
        let left_out = self.left_out.0 + self.units.dropped();
        if self.loaded && left_out != self.left_out.1 {
            self.left_out.1 = left_out;
            self.tell.push(UnitsEvent::LeftOut(left_out));
        }
    }

    fn next_question(&mut self) -> Option<Asking> {
        if std::mem::take(&mut self.to_ask.list) {
            return Some(list_units(self.bus.clone()));
        }
        self.to_ask.units.pop_first().map(|name| read_unit(self.bus.clone(), name))
    }

    fn answered(&mut self, answer: Answer) -> Result<(), BusError> {
        match answer {
            Answer::Listed(message) => self.listed(&message),
            Answer::Read(name, None) => {
                self.removed(name);
                Ok(())
            }
            Answer::Read(name, Some((unit, typed))) => {
                let (unit_body, typed_body) = (unit.body(), typed.body());
                let unit_properties: HashMap<&str, Value<'_>> = unit_body.deserialize()?;
                let typed_properties: HashMap<&str, Value<'_>> = typed_body.deserialize()?;
                self.units.fetched(&name, &unit_properties, &typed_properties, unit.recv_position());
                if self.loaded {
                    self.changed(&name);
                }
                Ok(())
            }
        }
    }

    /// Has every unit read that is there, and drops those that are not.
    fn listed(&mut self, message: &Message) -> Result<(), BusError> {
        type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let listed: Vec<Listed> = message.body().deserialize()?;
        let loaded = listed.iter().filter(|(_, _, load, ..)| load == "loaded");
        let mut there: Vec<UnitName> = loaded.filter_map(|(name, ..)| followed(name)).collect();
        // Services first: they are what is healed.
        there.sort_by_cached_key(|name| (!name.as_str().ends_with(".service"), name.clone()));
        self.left_out.0 = there.len().saturating_sub(UNITS_MAX) as u64;
        self.units.forget_dropped();
        let there: BTreeSet<UnitName> = there.into_iter().take(UNITS_MAX).collect();
        let gone: Vec<UnitName> = self.units.names().filter(|name| !there.contains(*name)).cloned().collect();
        for name in gone {
            self.removed(name);
        }
        self.to_ask.units.extend(there);
        Ok(())
    }

    fn removed(&mut self, name: UnitName) {
        self.to_ask.forget(&name);
        if self.units.remove(&name) {
            self.tell.push(UnitsEvent::Removed(name));
        }
    }

    /// Takes a message from the bus.
    fn heard(&mut self, message: &Message) -> Result<(), BusError> {
        let header = message.header();
        if header.message_type() != Type::Signal {
            return Ok(());
        }
        let (Some(path), Some(member)) = (header.path(), header.member()) else { return Ok(()) };
        match member.as_str() {
            "PropertiesChanged" => {
                let Some(name) = unit_of_path(path.as_str()) else { return Ok(()) };
                self.properties_changed(&name, message)?;
            }
            "UnitNew" | "UnitRemoved" => {
                let body = message.body();
                let (name, _): (&str, zbus::zvariant::ObjectPath<'_>) = body.deserialize()?;
                match followed(name) {
                    // All of them go and come while unit files are loaded; what is true is asked afterwards.
                    _ if self.reloading => {}
                    Some(name) if member.as_str() == "UnitNew" => self.read_later(name),
                    Some(name) => self.removed(name),
                    None => {}
                }
            }
            // Unit files may say something else now.
            "UnitFilesChanged" => self.to_ask.units.extend(self.units.names().cloned()),
            "Reloading" => {
                self.reloading = message.body().deserialize::<bool>()?;
                self.to_ask.list |= !self.reloading;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_later(&mut self, name: UnitName) {
        if !self.to_ask.units.contains(&name) {
            self.to_ask.later.entry(name).or_insert_with(|| Instant::now() + NEW_UNIT_DELAY);
        }
    }

    fn properties_changed(&mut self, name: &UnitName, message: &Message) -> Result<(), BusError> {
        if type_interface(name.as_str()).is_none() {
            return Ok(());
        }
        let body = message.body();
        let (interface, changed, _): (&str, HashMap<&str, Value<'_>>, Vec<&str>) = body.deserialize()?;
        if !self.units.knows(name) {
            // It is alive and not yet read: a unit that was loaded and started at once.
            self.read_later(name.clone());
            return Ok(());
        }
        let at = message.recv_position();
        if interface == UNIT {
            self.units.unit_changed(name, &changed, at);
            self.changed(name);
        } else {
            self.units.type_changed(name, &changed, at);
        }
        Ok(())
    }

    /// Hands on what has changed about the unit. One that has come up is read again where its
    /// cgroup is not known.
    fn changed(&mut self, name: &UnitName) {
        let Some(state) = self.units.take_change(name) else { return };
        if state.unit.main_pid != 0 && state.control_group.is_empty() {
            self.to_ask.units.insert(name.clone());
        }
        self.tell.push(UnitsEvent::Changed(name.clone(), Box::new(state)));
    }
}

/// The name, if it is of a unit that is followed.
fn followed(name: &str) -> Option<UnitName> {
    type_interface(name)?;
    name.parse().ok()
}

/// Asks for a sign of life.
fn sign_of_life(bus: Connection) -> Pinging {
    Box::pin(within("systemd", async move {
        bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some("org.freedesktop.DBus.Peer"), "Ping", &()).await?;
        Ok(())
    }))
}

/// Asks which units there are.
fn list_units(bus: Connection) -> Asking {
    Box::pin(within("systemd", async move {
        let call = bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "ListUnits", &());
        Ok(Answer::Listed(call.await?))
    }))
}

/// Reads both interfaces of one unit.
fn read_unit(bus: Connection, name: UnitName) -> Asking {
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
        match answer {
            Ok(both) => Ok(Answer::Read(name, Some(both))),
            // An error reply is systemd's word about this unit; the connection is well.
            Err(BusError::Bus(zbus::Error::MethodError(..))) => Ok(Answer::Read(name, None)),
            Err(error) => Err(error),
        }
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
