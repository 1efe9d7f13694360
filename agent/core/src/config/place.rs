//! Where a value stands in a file, and what is wrong there.
//!
//! Lines and columns count from 1 and columns count characters, as editors show them.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A position in a named file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The name that the file was parsed under, as it is shown to the operator.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value together with the place it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value itself.
    pub value: T,
    /// Where the value stands.
    pub place: Place,
}

impl<T> Spanned<T> {
    /// Joins a value and its place.
    pub fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// Drops the place.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Changes the value and keeps the place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), place: self.place }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// One mistake in a file. Displays as `web.toml:14:9: unknown key `cooldwon`; did you mean `cooldown`?`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The name that the file was parsed under.
    pub file: Arc<str>,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 when the whole file is meant.
    pub column: u32,
    /// What is wrong: lower case, no full stop.
    pub message: String,
}

impl Problem {
    /// States a mistake at a place.
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self { file: place.file.clone(), line: place.line, column: place.column, message: message.into() }
    }

    /// States a mistake about a file as a whole, such as that it cannot be read.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{}:{}: {}", self.file, line, self.column, self.message),
        }
    }
}

impl std::error::Error for Problem {}

/// Collects mistakes while a file is read, so that one run names them all.
#[derive(Debug, Default)]
pub struct Problems {
    found: RefCell<Vec<Problem>>,
}

impl Problems {
    /// Starts with none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake.
    pub fn push(&self, problem: Problem) {
        self.found.borrow_mut().push(problem);
    }

    /// Adds a mistake at a place.
    pub fn add(&self, place: &Place, message: impl Into<String>) {
        self.push(Problem::at(place, message));
    }

    /// Tells whether nothing wrong was found so far.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Takes the mistakes in order of file and place.
    pub fn into_vec(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort();
        found.dedup();
        found
    }

    /// Gives the value only if nothing wrong was found.
    ///
    /// # Errors
    /// Every problem, in order of file and place.
    pub fn into_result<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.is_empty() { Ok(value) } else { Err(self.into_vec()) }
    }
}
