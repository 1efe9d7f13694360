//! The operator's command line: one file per noun under [`cmd`], and what they share.
//!
//! Data goes to stdout, everything else to stderr. What a command ends with is documented in
//! [`exit::Exit`]. The collector carries what an operator signs, and can neither make nor change it:
//! the signing key is read here and nowhere else.
#![forbid(unsafe_code)]

mod arguments;
mod ask;
mod changed;
mod cmd;
mod connect;
mod context;
mod draw;
mod exit;
mod fleet;
mod key;
mod order;
mod output;
mod peers;
mod recorded;
mod records;
mod scene;
mod signals;
mod timeline;
mod told;
mod view;
mod words;

pub use arguments::{Arguments, command};
pub use exit::{Exit, Failure};

/// Carries one command out.
///
/// # Errors
/// A [`Failure`] holds the line for the operator and the exit code.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let context = context::Context::load(&arguments.global);
    cmd::run(arguments.command, &context).await
}
