//! Wire to domain and back: the one place that translates, one file per noun.
//!
//! Every domain type has a total `From` to the wire, and every wire type a `TryFrom` to the domain
//! that names the field it fails on (`decided.verdicts.guard`). Nothing is guessed: an absent
//! message, a word that is on no list, or a number out of range is a [`ConvertError`].

mod change;
mod columns;
mod decision;
mod finding;
mod host;
mod host_query;
mod ledger;
mod plan;
mod record;
mod recording;
mod scene;
mod series;
mod subject;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub use record::{decode_record, encode_record};
pub use series::{
    Definitions, Dictionary, Form, SummaryReader, SummaryWriter, definitions, summary_by_place, summary_from_wire,
};

/// A message that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertError {
    /// Names of fields, outermost last: they are put in front while the error goes up.
    path: Vec<&'static str>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is absent, or of a kind that this build does not know.
    Missing,
    /// Its word is on no list that this build knows.
    Unknown(String),
    /// It has another number of bytes or elements.
    Length {
        /// How many it should have.
        expected: Cow<'static, str>,
        /// How many it has.
        found: usize,
    },
    /// Its value can not be.
    Invalid(String),
}

impl std::error::Error for ConvertError {}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field {}", self.field())?;
        match &self.problem {
            Problem::Missing => f.write_str(" is missing or of an unknown kind"),
            Problem::Unknown(word) => write!(f, " has the unknown word {word:?}"),
            Problem::Length { expected, found } => write!(f, " has a length of {found} (expected {expected})"),
            Problem::Invalid(why) => write!(f, " is invalid: {why}"),
        }
    }
}

impl ConvertError {
    /// The field, with those around it: `decided.verdicts.guard`.
    #[must_use]
    pub fn field(&self) -> String {
        self.path.iter().rev().copied().collect::<Vec<_>>().join(".")
    }

    pub(crate) fn new(field: &'static str, problem: Problem) -> Self {
        Self { path: vec![field], problem }
    }

    pub(crate) fn missing(field: &'static str) -> Self {
        Self::new(field, Problem::Missing)
    }

    pub(crate) fn invalid(field: &'static str, why: impl fmt::Display) -> Self {
        Self::new(field, Problem::Invalid(why.to_string()))
    }

    pub(crate) fn inside(mut self, field: &'static str) -> Self {
        self.path.push(field);
        self
    }
}

/// The message in `value`, which has to be there.
pub(crate) fn required<W, D>(field: &'static str, value: Option<W>) -> Result<D, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    let value = value.ok_or_else(|| ConvertError::missing(field))?;
    D::try_from(value).map_err(|error| error.inside(field))
}

/// The message in `value`, if it is there.
pub(crate) fn optional<W, D>(field: &'static str, value: Option<W>) -> Result<Option<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    value.map(|value| D::try_from(value).map_err(|error| error.inside(field))).transpose()
}

/// Every message of a list.
pub(crate) fn all<W, D>(field: &'static str, values: Vec<W>) -> Result<Vec<D>, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
{
    values.into_iter().map(|value| D::try_from(value).map_err(|error| error.inside(field))).collect()
}

/// The entry of a closed list that `word` names.
pub(crate) fn word<D>(field: &'static str, word: &str) -> Result<D, ConvertError>
where
    D: FromStr,
{
    word.parse().map_err(|_| ConvertError::new(field, Problem::Unknown(word.to_owned())))
}

/// The entry of `list` that `word` names.
pub(crate) fn listed<D: Copy>(
    field: &'static str,
    word: &str,
    list: &[D],
    name: fn(D) -> &'static str,
) -> Result<D, ConvertError> {
    let found = list.iter().copied().find(|entry| name(*entry) == word);
    found.ok_or_else(|| ConvertError::new(field, Problem::Unknown(word.to_owned())))
}

/// Exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(field: &'static str, value: &[u8]) -> Result<[u8; N], ConvertError> {
    let length = || ConvertError::new(field, Problem::Length { expected: N.to_string().into(), found: value.len() });
    value.try_into().map_err(|_| length())
}

/// A number that is one: neither infinite nor NaN.
pub(crate) fn finite(field: &'static str, value: f64) -> Result<f64, ConvertError> {
    if value.is_finite() { Ok(value) } else { Err(ConvertError::invalid(field, format!("{value} is not a number"))) }
}

/// The same, if it is there.
pub(crate) fn optional_finite(field: &'static str, value: Option<f64>) -> Result<Option<f64>, ConvertError> {
    value.map(|value| finite(field, value)).transpose()
}

/// A share, from 0 to 1.
pub(crate) fn share(field: &'static str, value: f64) -> Result<f64, ConvertError> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(ConvertError::invalid(field, format!("{value} is not between 0 and 1")))
    }
}

#[cfg(test)]
pub(crate) mod generate;
#[cfg(test)]
mod tests;
