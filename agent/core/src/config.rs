//! Reads TOML so that every mistake is named with its place.
//!
//! In: file names and text. Out: typed values that know where they stand, and every [`Problem`] found, not only the
//! first. Policy files, `agent.toml`, `collector.toml` and `actuator.toml` are all read with it. It never opens a file:
//! the shell reads the bytes and hands them in.
//!
//! How it is used:
//!
//! ```
//! use mainstay_core::config::{Document, Problems};
//! let text = "name = \"web\"\ncooldwon = \"2m\"\n";
//! let doc = Document::parse("web.toml", text).unwrap();
//! let problems = Problems::new();
//! let mut table = doc.reader(&problems);
//! let name = table.str("name");               // required: a problem if it is missing
//! let cooldown = table.opt_duration("cooldown"); // optional
//! table.finish();                             // whatever was not asked for is an unknown key
//! assert_eq!(name.unwrap().value, "web");
//! assert!(cooldown.is_none());
//! let found = problems.into_result(()).unwrap_err();
//! assert_eq!(found[0].to_string(), "web.toml:2:1: unknown key `cooldwon`; did you mean `cooldown`?");
//! ```
//!
//! A getter answers `None` when the key is absent or wrong; what was wrong is in [`Problems`], so a reader takes all its
//! values first, calls [`TableReader::finish`], and only then leaves with `?`. Nothing built while problems stand may be
//! used: [`Problems::into_result`] sees to that.
//!
//! Drop-ins are merged with [`Document::merged`]: later files win, tables merge key by key, arrays are replaced, and each
//! value keeps the place it came from.

mod document;
mod nearest;
mod place;
mod quantity;
mod reader;
#[cfg(test)]
mod tests;

pub use document::{Document, TEXT_BYTES_MAX};
pub use nearest::nearest;
pub use place::{Place, Problem, Problems, Spanned};
pub use quantity::{QuantityError, parse_bytes, parse_duration, parse_share, show_bytes, show_duration};
pub use reader::TableReader;
