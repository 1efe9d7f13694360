//! How answers are printed: a table for people, JSON or YAML for programs.
//!
//! Every answer is a list of rows. A row is serialised as it is for programs; for people it gives
//! its cells, some of them only when `-o wide` asks.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Table,
    /// A table with every column
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// A plot of series over time, for `query`
    Plot,
}

impl Format {
    /// Whether people read it.
    pub(crate) fn is_for_people(self) -> bool {
        !matches!(self, Self::Json | Self::Yaml)
    }
}

/// A row of an answer.
pub(crate) trait Row: Serialize {
    /// Headings; those from [`Row::WIDE_FROM`] on are shown with `-o wide` only.
    const HEADINGS: &'static [&'static str];
    /// Index of the first heading that only `-o wide` shows.
    const WIDE_FROM: usize;
    /// One cell for each heading.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows in the format that was asked for.
pub(crate) fn rows<R: Row>(context: &Context, rows: &[R]) -> Result<(), Failure> {
    if !context.format.is_for_people() {
        return document(context, &rows);
    }
    let columns = if context.format == Format::Wide { R::HEADINGS.len() } else { R::WIDE_FROM };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !context.no_headers {
        table.set_header(&R::HEADINGS[..columns]);
    }
    for row in rows {
        table.add_row(row.cells().into_iter().take(columns));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if !rows.is_empty() || !context.no_headers {
        for line in table.to_string().lines() {
            line_out(line.trim_end())?;
        }
    }
    Ok(())
}

/// Prints one value as JSON or YAML.
pub(crate) fn document<T: Serialize + ?Sized>(context: &Context, value: &T) -> Result<(), Failure> {
    let text = if context.format == Format::Yaml {
        serde_norway::to_string(value).map_err(|e| Failure::new(Exit::Failed, e))?
    } else {
        serde_json::to_string_pretty(value).map_err(|e| Failure::new(Exit::Failed, e))?
    };
    line_out(text.trim_end())
}

/// Prints one line of data. A reader that has gone away (`| head`) is no failure.
pub(crate) fn line_out(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Says something to the operator that is not data.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Whether colours and cursor movements are welcome on stdout.
pub(crate) fn is_colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text in a colour, where colours are welcome. `code` is an SGR parameter.
pub(crate) fn paint(code: &str, text: &str) -> String {
    if is_colourful() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
