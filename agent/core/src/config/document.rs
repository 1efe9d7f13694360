//! One parsed file, or several merged into one, as a tree whose nodes know their place.
//!
//! Parsing is `toml`'s; this file bounds what it is given and turns byte spans into lines and columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::place::{Place, Problem, Problems, Spanned};
use super::reader::TableReader;

/// Most bytes of one file. A policy of a thousand rules is some 300 KiB.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Most levels of nested tables and arrays; `toml` itself stops at 80. No key that Mainstay knows lies deeper than five.
const DEPTH_MAX: usize = 32;

/// Most dots outside strings on one line. `toml` limits nested values and dotted keys to 80 each, but not their product,
/// and dropping a tree of 6400 levels overflows a thread's stack.
const DOTS_PER_LINE_MAX: usize = 24;

/// Syntax errors reported for one file; what follows the first few is mostly their echo.
const SYNTAX_PROBLEMS_MAX: usize = 10;

/// A TOML file, or several merged, ready to be read with [`Document::reader`].
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) root: Spanned<Table>,
}

pub(super) type Table = BTreeMap<String, Entry>;

/// A key's place and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key_place: Place,
    pub(super) value: Spanned<Value>,
}

/// A TOML value. A date carries nothing: no key of Mainstay is one.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Str(String),
    Integer(i128),
    Float(f64),
    Bool(bool),
    Date,
    Array(Vec<Spanned<Value>>),
    Table(Table),
}

impl Value {
    /// Names the type for a message: `not {kind}`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Str(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Date => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Document {
    /// Parses one file. `file` is the name shown in every problem.
    ///
    /// # Errors
    /// Each syntax error with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let lines = Lines::new(file, text);
        if let Some(problem) = out_of_bounds(&lines) {
            return Err(vec![problem]);
        }
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax_problems(&lines, &errors));
        }
        let problems = Problems::new();
        let start = lines.place(0);
        let table = take_table(root.get_ref(), &lines, 0, &problems);
        problems.into_result(Self { root: Spanned::new(table, start) })
    }

    /// An empty document, for a file that does not exist.
    pub fn empty(file: &str) -> Self {
        Self { root: Spanned::new(Table::new(), Place { file: file.into(), line: 1, column: 1 }) }
    }

    /// Merges a file and its drop-ins; later ones override earlier ones. Tables merge key by key, everything else,
    /// arrays too, is replaced as a whole. `None` if there are no documents.
    pub fn merged(documents: impl IntoIterator<Item = Self>) -> Option<Self> {
        documents.into_iter().reduce(|mut base, over| {
            merge(&mut base.root.value, over.root.value);
            base
        })
    }

    /// Reads the top table.
    pub fn reader<'d>(&'d self, problems: &'d Problems) -> TableReader<'d> {
        TableReader::new(&self.root.value, self.root.place.clone(), "", problems)
    }
}

fn merge(base: &mut Table, over: Table) {
    for (key, entry) in over {
        match (base.get_mut(&key).map(|old| &mut old.value.value), entry) {
            (Some(Value::Table(old)), Entry { value: Spanned { value: Value::Table(new), .. }, .. }) => merge(old, new),
            (_, entry) => {
                base.insert(key, entry);
            }
        }
    }
}

fn out_of_bounds(lines: &Lines<'_>) -> Option<Problem> {
    if lines.text.len() > TEXT_BYTES_MAX {
        let message = format!("file is too large (got {} bytes, at most {TEXT_BYTES_MAX})", lines.text.len());
        return Some(Problem::of_file(&lines.file, message));
    }
    let start = lines.starts[line_with_many_dots(lines.text.as_bytes())?];
    Some(Problem::at(&lines.place(start), format!("more than {DOTS_PER_LINE_MAX} dots on a line")))
}

/// Number (from 0) of the first line with more dots than any key has, not counting strings and comments.
fn line_with_many_dots(text: &[u8]) -> Option<usize> {
    let (mut at, mut line, mut dots) = (0, 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' | b'\'' => {
                let end = string_end(text, at);
                line += text[at..end].iter().filter(|b| **b == b'\n').count();
                at = end;
                continue;
            }
            b'#' => {
                at += text[at..].iter().position(|b| *b == b'\n').unwrap_or(text.len() - at);
                continue;
            }
            b'\n' => (line, dots) = (line + 1, 0),
            b'.' => dots += 1,
            _ => {}
        }
        if dots > DOTS_PER_LINE_MAX {
            return Some(line);
        }
        at += 1;
    }
    None
}

/// Offset after the string that starts at `start`, of any of TOML's four kinds.
fn string_end(text: &[u8], start: usize) -> usize {
    let quote = text[start];
    let is_multiline = text[start..].starts_with(&[quote; 3]);
    let mut at = start + if is_multiline { 3 } else { 1 };
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if quote == b'"' && (is_multiline || text.get(at + 1) != Some(&b'\n')) => at += 2,
            b'\n' if !is_multiline => return at,
            _ if byte == quote && !is_multiline => return at + 1,
            _ if is_multiline && text[at..].starts_with(&[quote; 3]) => return at + 3,
            _ => at += 1,
        }
    }
    text.len()
}

fn syntax_problems(lines: &Lines<'_>, errors: &[toml::de::Error]) -> Vec<Problem> {
    let problems = Problems::new();
    let mut last_line = 0;
    for error in errors {
        let place = lines.place(error.span().map_or(0, |span| span.start));
        // Recovery often trips again on the line that it has just given up on.
        if place.line != last_line {
            last_line = place.line;
            problems.add(&place, error.message());
        }
    }
    let mut found = problems.into_vec();
    found.truncate(SYNTAX_PROBLEMS_MAX);
    found
}

fn take_table(table: &DeTable<'_>, lines: &Lines<'_>, depth: usize, problems: &Problems) -> Table {
    let mut taken = Table::new();
    for (key, value) in table {
        let key_place = lines.place(key.span().start);
        let value_place = lines.place(value.span().start);
        let value = take_value(value.get_ref(), value_place, lines, depth + 1, problems);
        taken.insert(key.get_ref().to_string(), Entry { key_place, value });
    }
    taken
}

fn take_value(
    value: &DeValue<'_>,
    place: Place,
    lines: &Lines<'_>,
    depth: usize,
    problems: &Problems,
) -> Spanned<Value> {
    let taken = match value {
        DeValue::Array(_) | DeValue::Table(_) if depth > DEPTH_MAX => {
            problems.add(&place, format!("nested deeper than {DEPTH_MAX} levels"));
            Value::Bool(false)
        }
        DeValue::String(text) => Value::Str(text.to_string()),
        DeValue::Integer(int) => match i128::from_str_radix(int.as_str(), int.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                problems.add(&place, "integer is out of range");
                Value::Integer(0)
            }
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| {
                take_value(item.get_ref(), lines.place(item.span().start), lines, depth + 1, problems)
            };
            Value::Array(items.iter().map(item).collect())
        }
        DeValue::Table(table) => Value::Table(take_table(table, lines, depth, problems)),
    };
    Spanned::new(taken, place)
}

/// Turns byte offsets into lines and columns.
struct Lines<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Byte offset at which each line starts.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(file: &str, text: &'t str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { file: file.into(), text, starts: std::iter::once(0).chain(newlines).collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line.saturating_sub(1)];
        // Counted over bytes that begin a character, so that an offset inside one cannot panic.
        let before = &self.text.as_bytes()[start..offset];
        let column = before.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1;
        Place { file: self.file.clone(), line: saturate(line), column: saturate(column) }
    }
}

fn saturate(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
