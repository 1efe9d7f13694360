//! Takes typed values out of a table and notes every mistake.
//!
//! Each `x(key)` is required and each `opt_x(key)` is optional. Both answer `None` for a wrong value, whose problem is then
//! noted. A key that no getter asked for before [`TableReader::finish`] is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Display};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::document::{Entry, Table, Value};
use super::nearest::nearest;
use super::place::{Place, Problems, Spanned};
use super::quantity::{parse_bytes, parse_duration, parse_share};

/// Names of known keys listed in the message about an unknown one that resembles none of them.
const KNOWN_KEYS_SHOWN_MAX: usize = 12;

/// One table of a [`Document`](super::Document) while it is being read.
pub struct TableReader<'d> {
    table: &'d Table,
    place: Place,
    name: String,
    asked: BTreeSet<String>,
    problems: &'d Problems,
}

impl Debug for TableReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableReader").field("name", &self.name).field("place", &self.place).finish_non_exhaustive()
    }
}

/// Writes the required and the optional getter of one type.
macro_rules! getters {
    ($(#[$doc:meta])* $required:ident, $optional:ident -> $type:ty, $take:expr) => {
        $(#[$doc])*
        pub fn $optional(&mut self, key: &str) -> Option<Spanned<$type>> {
            let entry = self.ask(key)?;
            self.taken(key, entry, $take(&entry.value.value))
        }

        #[doc = concat!("Like [`Self::", stringify!($optional), "`], and a missing key is a problem.")]
        pub fn $required(&mut self, key: &str) -> Option<Spanned<$type>> {
            self.require(key)?;
            self.$optional(key)
        }
    };
}

impl<'d> TableReader<'d> {
    pub(super) fn new(table: &'d Table, place: Place, name: &str, problems: &'d Problems) -> Self {
        Self { table, place, name: name.to_owned(), asked: BTreeSet::new(), problems }
    }

    /// Where the table begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The key under which the table stands; empty for the top one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether a key is there, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Place of a key's value, if it is there; else the place of the table.
    pub fn place_of(&self, key: &str) -> &Place {
        self.table.get(key).map_or(&self.place, |entry| &entry.value.place)
    }

    /// Place of a key itself, if it is there; else the place of the table.
    pub fn key_place(&self, key: &str) -> &Place {
        self.table.get(key).map_or(&self.place, |entry| &entry.key_place)
    }

    /// Notes a mistake that the caller found in what it read.
    pub fn problem(&self, place: &Place, message: impl Into<String>) {
        self.problems.add(place, message);
    }

    getters! {
        /// A string.
        str, opt_str -> String, take_str
    }
    getters! {
        /// A whole number from 0.
        u64, opt_u64 -> u64, take_u64
    }
    getters! {
        /// A finite number; a whole one will do.
        f64, opt_f64 -> f64, take_f64
    }
    getters! {
        /// `true` or `false`.
        bool, opt_bool -> bool, take_bool
    }
    getters! {
        /// A duration: `"500ms"`, `"30s"`, `"2m"`, `"6h"`, `"3d"`, `"1h30m"`.
        duration, opt_duration -> Duration, take_duration
    }
    getters! {
        /// A size: `"64MiB"`, `"10GB"` or a whole number of bytes.
        bytes, opt_bytes -> u64, take_bytes
    }
    getters! {
        /// A share: `"10%"`, `"2.5%"`.
        share, opt_share -> f64, take_share
    }
    getters! {
        /// An array of strings, each with its own place.
        strs, opt_strs -> Vec<Spanned<String>>, take_strs
    }
    getters! {
        /// A table of strings, such as labels, each value with its own place.
        str_map, opt_str_map -> BTreeMap<String, Spanned<String>>, take_str_map
    }

    /// A string that `T` can be parsed from.
    pub fn opt_parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<Spanned<T>> {
        let text = self.opt_str(key)?;
        match text.value.parse() {
            Ok(value) => Some(Spanned::new(value, text.place)),
            Err(error) => {
                self.problems.add(&text.place, format!("`{key}`: {error}"));
                None
            }
        }
    }

    /// Like [`Self::opt_parsed`], and a missing key is a problem.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<Spanned<T>> {
        self.require(key)?;
        self.opt_parsed(key)
    }

    /// One of a closed list of words.
    pub fn opt_choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        let text = self.opt_str(key)?;
        self.chosen(key, text, choices)
    }

    /// Like [`Self::opt_choice`], and a missing key is a problem.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        self.require(key)?;
        self.opt_choice(key, choices)
    }

    /// An array of words from a closed list. Wrong ones are noted and left out.
    pub fn opt_choices<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<Vec<Spanned<T>>>> {
        let words = self.opt_strs(key)?;
        let place = words.place;
        let chosen = words.value.into_iter().filter_map(|word| self.chosen(key, word, choices)).collect();
        Some(Spanned::new(chosen, place))
    }

    /// Like [`Self::opt_choices`], and a missing key is a problem.
    pub fn choices<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<Spanned<Vec<Spanned<T>>>> {
        self.require(key)?;
        self.opt_choices(key, choices)
    }

    /// An array of strings that `T` can be parsed from. Wrong ones are noted and left out.
    pub fn opt_parsed_list<T: FromStr<Err: Display>>(&mut self, key: &str) -> Option<Spanned<Vec<Spanned<T>>>> {
        let words = self.opt_strs(key)?;
        let mut parsed = Vec::with_capacity(words.value.len());
        for word in words.value {
            match word.value.parse() {
                Ok(value) => parsed.push(Spanned::new(value, word.place)),
                Err(error) => self.problems.add(&word.place, format!("`{key}`: {error}")),
            }
        }
        Some(Spanned::new(parsed, words.place))
    }

    /// A table under this one. Finish it too.
    pub fn opt_table(&mut self, key: &str) -> Option<TableReader<'d>> {
        let entry = self.ask(key)?;
        match &entry.value.value {
            Value::Table(table) => Some(TableReader::new(table, entry.key_place.clone(), key, self.problems)),
            other => {
                self.wrong_type(key, &entry.value.place, "a table", other);
                None
            }
        }
    }

    /// Like [`Self::opt_table`], and a missing key is a problem.
    pub fn table(&mut self, key: &str) -> Option<TableReader<'d>> {
        self.require(key)?;
        self.opt_table(key)
    }

    /// An array of tables (`[[key]]` or `key = [{ … }]`); empty if it is absent. Finish each.
    pub fn tables(&mut self, key: &str) -> Vec<TableReader<'d>> {
        let Some(entry) = self.ask(key) else {
            return Vec::new();
        };
        let Value::Array(items) = &entry.value.value else {
            self.wrong_type(key, &entry.value.place, "an array of tables", &entry.value.value);
            return Vec::new();
        };
        let mut readers = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Table(table) => {
                    readers.push(TableReader::new(table, item.place.clone(), key, self.problems));
                }
                other => self.wrong_type(key, &item.place, "an array of tables", other),
            }
        }
        readers
    }

    /// The tables of a table whose keys are names of the operator's choice (`[reclaim.logs]`); empty if it is absent.
    /// [`TableReader::name`] is the name, [`TableReader::place`] its place. Finish each.
    pub fn named_tables(&mut self, key: &str) -> Vec<TableReader<'d>> {
        let Some(outer) = self.opt_table(key) else {
            return Vec::new();
        };
        let mut readers = Vec::with_capacity(outer.table.len());
        for (name, entry) in outer.table {
            match &entry.value.value {
                Value::Table(table) => {
                    readers.push(TableReader::new(table, entry.key_place.clone(), name, self.problems));
                }
                other => self.wrong_type(&format!("{key}.{name}"), &entry.value.place, "a table", other),
            }
        }
        readers
    }

    /// Lets a value pass only inside a range; outside it is a problem.
    pub fn within<T: PartialOrd + Debug>(
        &self,
        key: &str,
        value: Option<Spanned<T>>,
        range: RangeInclusive<T>,
    ) -> Option<Spanned<T>> {
        let value = value?;
        if range.contains(&value.value) {
            return Some(value);
        }
        let (low, high) = (range.start(), range.end());
        self.problems.add(&value.place, format!("`{key}` must be from {low:?} to {high:?}, not {:?}", value.value));
        None
    }

    /// Lets a key pass unread, where a mistake elsewhere leaves open what it means.
    pub fn allow(&mut self, key: &str) {
        self.ask(key);
    }

    /// Ends the table: every key that was not asked for is an unknown key.
    pub fn finish(self) {
        for (key, entry) in self.table {
            if !self.asked.contains(key) {
                let message = format!("unknown key `{key}`{}", self.hint(key));
                self.problems.add(&entry.key_place, message);
            }
        }
    }

    /// Looks a key up and remembers that it is known.
    fn ask(&mut self, key: &str) -> Option<&'d Entry> {
        self.asked.insert(key.to_owned());
        self.table.get(key)
    }

    fn require(&mut self, key: &str) -> Option<()> {
        if self.ask(key).is_some() {
            return Some(());
        }
        let inside = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
        self.problems.add(&self.place, format!("missing key `{key}`{inside}"));
        None
    }

    fn taken<T>(&self, key: &str, entry: &Entry, taken: Result<T, Wrong>) -> Option<Spanned<T>> {
        let place = &entry.value.place;
        match taken {
            Ok(value) => return Some(Spanned::new(value, place.clone())),
            Err(Wrong::Type(wanted)) => self.wrong_type(key, place, wanted, &entry.value.value),
            Err(Wrong::Value(message)) => self.problems.add(place, format!("`{key}` {message}")),
            Err(Wrong::Item(place, message)) => self.problems.add(&place, format!("`{key}` {message}")),
        }
        None
    }

    fn wrong_type(&self, key: &str, place: &Place, wanted: &str, got: &Value) {
        self.problems.add(place, format!("`{key}` must be {wanted}, not {}", got.kind()));
    }

    fn chosen<T: Clone>(&self, key: &str, text: Spanned<String>, choices: &[(&str, T)]) -> Option<Spanned<T>> {
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(Spanned::new(value.clone(), text.place));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let hint = match nearest(&text.value, words.iter().copied()) {
            Some(word) => format!("; did you mean `{word}`?"),
            None => format!("; choose from {}", listed(words.iter().copied())),
        };
        self.problems.add(&text.place, format!("`{key}` cannot be `{}`{hint}", text.value));
        None
    }

    fn hint(&self, key: &str) -> String {
        let known = || self.asked.iter().map(String::as_str);
        match nearest(key, known()) {
            Some(word) => format!("; did you mean `{word}`?"),
            None if self.asked.len() <= KNOWN_KEYS_SHOWN_MAX && !self.asked.is_empty() => {
                format!("; known here: {}", listed(known()))
            }
            None => String::new(),
        }
    }
}

/// Why a value cannot be taken.
enum Wrong {
    /// It is of another type than the one named.
    Type(&'static str),
    /// Its type is right, its value is not.
    Value(String),
    /// One of its items, which has its own place, is wrong.
    Item(Place, String),
}

fn take_str(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        _ => Err(Wrong::Type("a string")),
    }
}

fn take_u64(value: &Value) -> Result<u64, Wrong> {
    match value {
        Value::Integer(number) => {
            u64::try_from(*number).map_err(|_| Wrong::Value(format!("must be from 0 to {}, not {number}", u64::MAX)))
        }
        _ => Err(Wrong::Type("a whole number")),
    }
}

fn take_f64(value: &Value) -> Result<f64, Wrong> {
    match value {
        Value::Float(number) if number.is_finite() => Ok(*number),
        Value::Float(number) => Err(Wrong::Value(format!("must be a finite number, not {number}"))),
        Value::Integer(number) => Ok(*number as f64),
        _ => Err(Wrong::Type("a number")),
    }
}

fn take_bool(value: &Value) -> Result<bool, Wrong> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        _ => Err(Wrong::Type("`true` or `false`")),
    }
}

fn take_duration(value: &Value) -> Result<Duration, Wrong> {
    match value {
        Value::Str(text) => parse_duration(text).map_err(|error| Wrong::Value(error.to_string())),
        _ => Err(Wrong::Type("a duration such as \"30s\", \"2m\", \"6h\" or \"3d\"")),
    }
}

fn take_share(value: &Value) -> Result<f64, Wrong> {
    match value {
        Value::Str(text) => parse_share(text).map_err(|error| Wrong::Value(error.to_string())),
        _ => Err(Wrong::Type("a share such as \"10%\"")),
    }
}

fn take_bytes(value: &Value) -> Result<u64, Wrong> {
    match value {
        Value::Str(text) => parse_bytes(text).map_err(|error| Wrong::Value(error.to_string())),
        Value::Integer(_) => take_u64(value),
        _ => Err(Wrong::Type("a size such as \"64MiB\"")),
    }
}

fn take_strs(value: &Value) -> Result<Vec<Spanned<String>>, Wrong> {
    let Value::Array(items) = value else {
        return Err(Wrong::Type("an array of strings"));
    };
    items.iter().map(take_item).collect()
}

fn take_str_map(value: &Value) -> Result<BTreeMap<String, Spanned<String>>, Wrong> {
    let Value::Table(table) = value else {
        return Err(Wrong::Type("a table of strings"));
    };
    table.iter().map(|(key, entry)| Ok((key.clone(), take_item(&entry.value)?))).collect()
}

fn take_item(item: &Spanned<Value>) -> Result<Spanned<String>, Wrong> {
    match &item.value {
        Value::Str(text) => Ok(Spanned::new(text.clone(), item.place.clone())),
        other => Err(Wrong::Item(item.place.clone(), format!("must hold strings only, not {}", other.kind()))),
    }
}

fn listed<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
