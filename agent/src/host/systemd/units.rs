//! What systemd has said about its units so far: properties in, [`Unit`]s out.
//!
//! Answers and signals may be handled in another order than the one in which the bus delivered
//! them, so every reading carries its place in that order and an older one never overwrites a newer
//! one.
//!
//! Whether somebody asked for a stop is known from the `Job` property: systemd sends a unit's last
//! change before it removes the job that brought it about, so a unit that goes down while it has a
//! job was taken down on request, and one that goes down without a job died.

use std::collections::{BTreeMap, HashMap};

use mainstay_core::sample::{ActiveState, Unit};
use mainstay_core::subject::UnitName;
use zbus::message::Sequence;
use zbus::zvariant::Value;

/// Most units that are followed. A host with more has them left out, and says so.
pub const UNITS_MAX: usize = 4_096;

/// The types of units that are followed: those that can fail.
const TYPES: [(&str, &str); 6] = [
    (".service", "org.freedesktop.systemd1.Service"),
    (".socket", "org.freedesktop.systemd1.Socket"),
    (".mount", "org.freedesktop.systemd1.Mount"),
    (".swap", "org.freedesktop.systemd1.Swap"),
    (".timer", "org.freedesktop.systemd1.Timer"),
    (".path", "org.freedesktop.systemd1.Path"),
];

/// The D-Bus interface of a unit's type; `None` for types that are not followed.
#[must_use]
pub fn type_interface(unit: &str) -> Option<&'static str> {
    TYPES.iter().find(|(suffix, _)| unit.ends_with(suffix)).map(|(_, interface)| *interface)
}

/// A unit and where its cgroup is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitState {
    /// The unit, without its cgroup.
    pub unit: Unit,
    /// `ControlGroup`; empty while it has none.
    pub control_group: String,
}

/// The properties of one interface of one unit.
pub type Properties<'v> = HashMap<&'v str, Value<'v>>;

/// What is known of one unit.
#[derive(Debug, Default)]
struct Entry {
    state: UnitState,
    /// The job that is under way for the unit; 0 is none.
    job: u32,
    /// How far in the bus's order what changes by itself has been read.
    as_of: Sequence,
    /// Whether what never changes by itself has been read.
    complete: bool,
    /// What was last handed on.
    told: Option<UnitState>,
}

/// The units, as systemd has described them.
#[derive(Debug, Default)]
pub struct Units {
    entries: BTreeMap<UnitName, Entry>,
    dropped: u64,
}

impl Units {
    /// Says what of a unit has changed since it was last asked here, if anything has. Units that
    /// are not completely read are kept back.
    pub fn take_change(&mut self, name: &UnitName) -> Option<UnitState> {
        let entry = self.entries.get_mut(name).filter(|entry| entry.complete)?;
        // A unit that is down and about to be started already has the new invocation and a clean
        // result, and still its old state: that would look like another failure.
        let was_down = entry.told.as_ref().is_some_and(|told| is_down(told.unit.active));
        if entry.job != 0 && was_down && is_down(entry.state.unit.active) {
            return None;
        }
        if entry.told.as_ref() == Some(&entry.state) {
            return None;
        }
        entry.told = Some(entry.state.clone());
        entry.told.clone()
    }

    /// All units that are completely read.
    pub fn take_all(&mut self) -> BTreeMap<UnitName, UnitState> {
        let mut all = BTreeMap::new();
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.complete) {
            entry.told = Some(entry.state.clone());
            all.insert(name.clone(), entry.state.clone());
        }
        all
    }

    /// Whether there is such a unit here.
    #[must_use]
    pub fn knows(&self, name: &UnitName) -> bool {
        self.entries.contains_key(name)
    }

    /// The names of all units.
    pub fn names(&self) -> impl Iterator<Item = &UnitName> {
        self.entries.keys()
    }

    /// How many units were left out because of [`UNITS_MAX`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Those that were left out are counted anew, with all others.
    pub fn forget_dropped(&mut self) {
        self.dropped = 0;
    }

    /// Forgets a unit that systemd has unloaded. `true` if it was known.
    pub fn remove(&mut self, name: &UnitName) -> bool {
        self.entries.remove(name).is_some()
    }

    /// Takes a change of the interface `org.freedesktop.systemd1.Unit`.
    pub fn unit_changed(&mut self, name: &UnitName, properties: &Properties<'_>, at: Sequence) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if at >= entry.as_of {
            entry.as_of = at;
            entry.take_unit(properties);
        }
    }

    /// Takes a change of the interface of the unit's type. systemd sends it just before the change
    /// of the interface `Unit`, and what both say belongs together.
    pub fn type_changed(&mut self, name: &UnitName, properties: &Properties<'_>, at: Sequence) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if at >= entry.as_of {
            entry.take_type(properties);
        }
    }

    /// Takes the answers to both `GetAll` calls. `at` is the place of the first one.
    pub fn fetched(&mut self, name: &UnitName, unit: &Properties<'_>, typed: &Properties<'_>, at: Sequence) {
        if !self.entries.contains_key(name) {
            if self.entries.len() >= UNITS_MAX {
                self.dropped += 1;
                return;
            }
            self.entries.insert(name.clone(), Entry::default());
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        let is_first = !entry.complete;
        if at >= entry.as_of {
            entry.as_of = at;
            entry.take_unit(unit);
            entry.take_type(typed);
        }
        entry.take_fixed(unit, typed);
        if is_first && entry.state.unit.active == ActiveState::Inactive {
            // It was down before anybody looked: that it died is not known, so it is not claimed.
            entry.state.unit.stopped_on_request = true;
        }
        entry.complete = true;
    }
}

impl Entry {
    fn take_unit(&mut self, properties: &Properties<'_>) {
        if let Some(job) = properties.get("Job").and_then(job_id) {
            self.job = job;
        }
        let unit = &mut self.state.unit;
        if let Some(active) = text(properties, "ActiveState").and_then(active_state) {
            unit.stopped_on_request = stopped_on_request(unit, active, self.job);
            unit.active = active;
        }
        set_text(&mut unit.sub, properties, "SubState");
        if let Some(id) = properties.get("InvocationID") {
            unit.invocation = invocation(id);
        }
    }

    fn take_type(&mut self, properties: &Properties<'_>) {
        let unit = &mut self.state.unit;
        set_text(&mut unit.result, properties, "Result");
        set_number(&mut unit.n_restarts, properties, "NRestarts");
        set_number(&mut unit.main_pid, properties, "MainPID");
        set_signed(&mut unit.exec_main_code, properties, "ExecMainCode");
        set_signed(&mut unit.exec_main_status, properties, "ExecMainStatus");
    }

    /// What changes only when unit files do, or that no signal carries.
    fn take_fixed(&mut self, unit: &Properties<'_>, typed: &Properties<'_>) {
        set_text(&mut self.state.unit.restart, typed, "Restart");
        set_text(&mut self.state.unit.service_type, typed, "Type");
        if let Some(path) = text(typed, "ControlGroup").filter(|path| !path.is_empty()) {
            path.clone_into(&mut self.state.control_group);
        }
        let file_state = text(unit, "UnitFileState").unwrap_or_default();
        let wanted = ["WantedBy", "RequiredBy", "UpheldBy"].iter().any(|key| is_non_empty_list(unit, key));
        // A unit without an install section is up because something enabled pulls it in.
        let pulled_in = wanted && !matches!(file_state, "disabled" | "masked" | "masked-runtime" | "transient");
        self.state.unit.enabled = matches!(file_state, "enabled" | "enabled-runtime") || pulled_in;
    }
}

/// Whether the unit, which becomes `to` while `job` is under way, is down because somebody asked.
fn stopped_on_request(was: &Unit, to: ActiveState, job: u32) -> bool {
    let came_from_up = matches!(was.active, ActiveState::Active | ActiveState::Reloading | ActiveState::Deactivating);
    match to {
        ActiveState::Active | ActiveState::Reloading | ActiveState::Activating => false,
        ActiveState::Deactivating => was.stopped_on_request || job != 0,
        // While systemd starts a unit again by itself it passes through `inactive` with a job.
        ActiveState::Inactive => was.stopped_on_request || job != 0,
        ActiveState::Failed => was.stopped_on_request || (job != 0 && came_from_up),
    }
}

fn is_down(state: ActiveState) -> bool {
    matches!(state, ActiveState::Inactive | ActiveState::Failed)
}

fn active_state(word: &str) -> Option<ActiveState> {
    Some(match word {
        "active" | "refreshing" => ActiveState::Active,
        "reloading" => ActiveState::Reloading,
        "inactive" | "maintenance" => ActiveState::Inactive,
        "failed" => ActiveState::Failed,
        "activating" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        _ => return None,
    })
}

fn text<'p>(properties: &'p Properties<'_>, key: &str) -> Option<&'p str> {
    match properties.get(key)? {
        Value::Str(text) => Some(text.as_str()),
        _ => None,
    }
}

fn set_text(to: &mut String, properties: &Properties<'_>, key: &str) {
    if let Some(text) = text(properties, key) {
        text.clone_into(to);
    }
}

fn set_number(to: &mut u32, properties: &Properties<'_>, key: &str) {
    if let Some(Value::U32(number)) = properties.get(key) {
        *to = *number;
    }
}

fn set_signed(to: &mut i32, properties: &Properties<'_>, key: &str) {
    if let Some(Value::I32(number)) = properties.get(key) {
        *to = *number;
    }
}

fn is_non_empty_list(properties: &Properties<'_>, key: &str) -> bool {
    matches!(properties.get(key), Some(Value::Array(list)) if !list.is_empty())
}

/// `Job` is a pair of the job's number and its object path.
fn job_id(value: &Value<'_>) -> Option<u32> {
    match value {
        Value::Structure(pair) => match pair.fields().first() {
            Some(Value::U32(id)) => Some(*id),
            _ => None,
        },
        _ => None,
    }
}

fn invocation(value: &Value<'_>) -> Option<[u8; 16]> {
    let Value::Array(bytes) = value else { return None };
    let mut id = [0; 16];
    if bytes.len() != id.len() {
        return None;
    }
    for (to, byte) in id.iter_mut().zip(bytes.iter()) {
        let Value::U8(byte) = byte else { return None };
        *to = *byte;
    }
    Some(id)
}

/// The unit that an object path stands for: `…/unit/nginx_2eservice` is `nginx.service`.
#[must_use]
pub fn unit_of_path(path: &str) -> Option<UnitName> {
    let escaped = path.strip_prefix("/org/freedesktop/systemd1/unit/")?.as_bytes();
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let [first, tail @ ..] = rest {
        if let (b'_', [high, low, after @ ..]) = (*first, tail) {
            let hex = [*high, *low];
            name.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            name.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(name).ok()?.parse().ok()
}

/// The object path of a unit: letters and digits stand for themselves, all else as `_` and two hex digits.
#[must_use]
pub fn path_of_unit(name: &UnitName) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (at, byte) in name.as_str().bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(byte as char);
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use zbus::zvariant::ObjectPath;

    use super::*;

    fn name() -> UnitName {
        "app.service".parse().unwrap()
    }

    fn unit_properties(active: &'static str, sub: &'static str, job: u32) -> Properties<'static> {
        let path = ObjectPath::try_from("/").unwrap();
        HashMap::from([
            ("ActiveState", Value::from(active)),
            ("SubState", Value::from(sub)),
            ("Job", Value::from((job, path))),
            ("UnitFileState", Value::from("enabled")),
        ])
    }

    fn service_properties(result: &'static str, main_pid: u32) -> Properties<'static> {
        HashMap::from([
            ("Result", Value::from(result)),
            ("MainPID", Value::from(main_pid)),
            ("Restart", Value::from("no")),
            ("Type", Value::from("simple")),
            ("ControlGroup", Value::from("/system.slice/app.service")),
        ])
    }

    /// A running service, then one change after the other as (state, job).
    fn after(changes: &[(&'static str, u32)]) -> Unit {
        let mut units = Units::default();
        let at = Sequence::default();
        units.fetched(&name(), &unit_properties("active", "running", 0), &service_properties("success", 7), at);
        for (active, job) in changes {
            units.unit_changed(&name(), &unit_properties(active, "x", *job), at);
        }
        units.take_change(&name()).unwrap().unit
    }

    #[test]
    fn a_stop_by_job_is_on_request_and_a_death_is_not() {
        assert!(after(&[("deactivating", 9), ("inactive", 9), ("inactive", 0)]).stopped_on_request);
        assert!(after(&[("inactive", 9)]).stopped_on_request, "the steps between may be left out");
        assert!(after(&[("deactivating", 9), ("failed", 9), ("failed", 0)]).stopped_on_request);
        assert!(!after(&[("failed", 0)]).stopped_on_request);
        assert!(!after(&[("deactivating", 0), ("inactive", 0)]).stopped_on_request);
        assert!(!after(&[("activating", 9), ("failed", 9)]).stopped_on_request, "a start that failed");
        assert!(!after(&[("inactive", 9), ("active", 9), ("active", 0), ("failed", 0)]).stopped_on_request);
    }

    #[test]
    fn a_unit_that_was_down_before_anybody_looked_is_not_taken_for_dead() {
        let mut units = Units::default();
        let properties = unit_properties("inactive", "dead", 0);
        units.fetched(&name(), &properties, &service_properties("success", 0), Sequence::default());
        assert!(units.take_change(&name()).unwrap().unit.stopped_on_request);
    }

    #[test]
    fn a_change_is_told_once() {
        let mut units = Units::default();
        let (unit, service) = (unit_properties("active", "running", 0), service_properties("success", 7));
        units.fetched(&name(), &unit, &service, Sequence::default());
        let told = units.take_change(&name()).unwrap();
        assert_eq!((told.unit.main_pid, told.unit.enabled), (7, true));
        assert_eq!(told.control_group, "/system.slice/app.service");
        assert!(units.take_change(&name()).is_none());
        units.type_changed(&name(), &service_properties("signal", 0), Sequence::default());
        units.unit_changed(&name(), &unit_properties("failed", "failed", 0), Sequence::default());
        let told = units.take_change(&name()).unwrap();
        assert_eq!((told.unit.active, told.unit.result.as_str()), (ActiveState::Failed, "signal"));
        assert!(units.take_change(&name()).is_none());
    }

    #[test]
    fn a_start_of_a_failed_unit_does_not_look_like_another_failure() {
        let mut units = Units::default();
        let at = Sequence::default();
        units.fetched(&name(), &unit_properties("active", "running", 0), &service_properties("success", 7), at);
        units.type_changed(&name(), &service_properties("signal", 0), at);
        units.unit_changed(&name(), &unit_properties("failed", "failed", 0), at);
        assert_eq!(units.take_change(&name()).unwrap().unit.result, "signal");
        units.type_changed(&name(), &service_properties("success", 0), at);
        units.unit_changed(&name(), &unit_properties("failed", "failed", 9), at);
        assert!(units.take_change(&name()).is_none());
        units.unit_changed(&name(), &unit_properties("activating", "start", 9), at);
        assert_eq!(units.take_change(&name()).unwrap().unit.active, ActiveState::Activating);
        units.type_changed(&name(), &service_properties("exit-code", 0), at);
        units.unit_changed(&name(), &unit_properties("failed", "failed", 9), at);
        assert_eq!(units.take_change(&name()).unwrap().unit.result, "exit-code");
    }

    #[test]
    fn reads_and_writes_object_paths_as_systemd_does() {
        for (unit, path) in [
            ("nginx.service", "/org/freedesktop/systemd1/unit/nginx_2eservice"),
            ("app@7.service", "/org/freedesktop/systemd1/unit/app_407_2eservice"),
            ("7zip-x.service", "/org/freedesktop/systemd1/unit/_37zip_2dx_2eservice"),
        ] {
            let unit: UnitName = unit.parse().unwrap();
            assert_eq!(path_of_unit(&unit), path);
            assert_eq!(unit_of_path(path), Some(unit));
        }
        assert_eq!(unit_of_path("/org/freedesktop/systemd1/unit/a_zz"), None);
        assert_eq!(unit_of_path("/org/freedesktop/systemd1/job/12"), None);
    }

    #[test]
    fn follows_only_units_that_can_fail() {
        assert_eq!(type_interface("a.service"), Some("org.freedesktop.systemd1.Service"));
        assert_eq!(type_interface("a.slice"), None);
        assert_eq!(type_interface("dev-sda.device"), None);
    }
}
