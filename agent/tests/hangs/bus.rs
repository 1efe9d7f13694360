//! A bus with a systemd on it that answers as long as it is wanted to, and then not at all, as one that was stopped.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use zbus::zvariant::serialized::{Context, Data};
use zbus::zvariant::{LE, ObjectPath, Signature, Type, Value, to_bytes};

/// What a header of the wire is: order of bytes, type, flags, version, length of the body, serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

/// Fields of a header, by number.
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;

/// A bus that serves one connection after the other.
pub(crate) struct Bus(Arc<State>);

#[derive(Default)]
struct State {
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl State {
    /// Waits while it is stopped.
    fn wait(&self) {
        let stopped = self.is_stopped.lock().unwrap();
        drop(self.changed.wait_while(stopped, |stopped| *stopped).unwrap());
    }
}

impl Bus {
    /// Listens; its systemd has so many units, all of them running.
    pub(crate) fn listen(path: &Path, units: u32) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let state: Arc<State> = Arc::default();
        let bus = Self(Arc::clone(&state));
        std::thread::spawn(move || {
            // Kept, so that none of them is closed: who is stopped closes nothing.
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                open.push(stream.try_clone().unwrap());
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(stream, units, &state));
            }
        });
        bus
    }

    /// Stops it: from now on nothing is read or answered, and nothing closed.
    pub(crate) fn stop(&self) {
        *self.0.is_stopped.lock().unwrap() = true;
    }

    /// It goes on where it was.
    pub(crate) fn go_on(&self) {
        *self.0.is_stopped.lock().unwrap() = false;
        self.0.changed.notify_all();
    }
}

fn serve(stream: UnixStream, units: u32, state: &State) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    state.wait();
    authenticate(&mut reader, &mut writer)?;
    let mut serial = 0;
    loop {
        let request = read_message(&mut reader)?;
        state.wait();
        let data = Data::new(request.as_slice(), Context::new_dbus(LE, 0));
        let (header, body_at): (Header<'_>, usize) = data.deserialize().ok()?;
        let member = header.6.iter().find(|(field, _)| *field == MEMBER).map(|(_, value)| value);
        let Some(Value::Str(member)) = member else { continue };
        let asked_for = &request[body_at.next_multiple_of(8)..];
        serial += 1;
        writer.write_all(&reply(member, asked_for, units, header.5, serial)).ok()?;
    }
}

fn authenticate(reader: &mut BufReader<UnixStream>, writer: &mut UnixStream) -> Option<()> {
    let mut line = String::new();
    loop {
        line.clear();
        (reader.read_line(&mut line).ok()? > 0).then_some(())?;
        let words: Vec<&str> = line.trim_start_matches('\0').split_whitespace().collect();
        let answer = match words[..] {
            ["BEGIN"] => return Some(()),
            ["AUTH", "EXTERNAL"] => "DATA\r\n",
            ["AUTH", "EXTERNAL", ..] | ["DATA", ..] => "OK 0123456789abcdef0123456789abcdef\r\n",
            ["NEGOTIATE_UNIX_FD"] => "AGREE_UNIX_FD\r\n",
            _ => "ERROR\r\n",
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// One message, whole.
fn read_message(reader: &mut BufReader<UnixStream>) -> Option<Vec<u8>> {
    let mut message = vec![0; 16];
    reader.read_exact(&mut message).ok()?;
    let number = |at: usize| Some(u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?) as usize);
    let (body, fields) = (number(4)?, number(12)?);
    let whole = (16 + fields).next_multiple_of(8) + body;
    message.resize(whole, 0);
    reader.read_exact(&mut message[16..]).ok()?;
    Some(message)
}

/// What the bus or systemd answers to a call.
fn reply(member: &str, asked_for: &[u8], units: u32, to: u32, serial: u32) -> Vec<u8> {
    match member {
        "Hello" => message(to, serial, &":1.7"),
        "ListUnits" => message(to, serial, &(0..units).map(listed).collect::<Vec<_>>()),
        "GetAll" => {
            let is_service = asked_for.windows(8).any(|bytes| bytes == b".Service");
            message(to, serial, &if is_service { service_properties() } else { unit_properties() })
        }
        _ => message(to, serial, &()),
    }
}

type Listed = (
    String,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    ObjectPath<'static>,
    u32,
    &'static str,
    ObjectPath<'static>,
);

fn listed(unit: u32) -> Listed {
    let root = || ObjectPath::from_static_str("/").unwrap();
    (format!("made-{unit:05}.service"), "", "loaded", "active", "running", "", root(), 0, "", root())
}

fn unit_properties() -> HashMap<&'static str, Value<'static>> {
    HashMap::from([("ActiveState", Value::from("active")), ("SubState", Value::from("running"))])
}

fn service_properties() -> HashMap<&'static str, Value<'static>> {
    HashMap::from([("Result", Value::from("success")), ("Restart", Value::from("no")), ("MainPID", Value::from(7u32))])
}

fn message<B: serde::Serialize + Type>(to: u32, serial: u32, body: &B) -> Vec<u8> {
    let context = Context::new_dbus(LE, 0);
    let body_bytes = to_bytes(context, body).unwrap();
    let mut fields = vec![(REPLY_SERIAL, Value::from(to))];
    if *B::SIGNATURE != Signature::Unit {
        fields.push((SIGNATURE, Value::Signature(B::SIGNATURE.clone())));
    }
    let length = u32::try_from(body_bytes.len()).unwrap();
    let header: Header<'_> = (b'l', 2, 1, 1, length, serial, fields);
    let mut bytes = to_bytes(context, &header).unwrap().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body_bytes);
    bytes
}
