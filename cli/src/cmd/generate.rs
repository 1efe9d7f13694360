//! `mainstay gen`: completions and man pages, for the packages.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::{Shell, generate_to};

use crate::arguments;
use crate::exit::{Exit, Failure};

/// What can be written.
#[derive(Debug, Subcommand)]
pub(crate) enum GenCommand {
    /// Completions for bash, zsh and fish
    Completions {
        /// Folder to write into
        folder: PathBuf,
    },
    /// One man page a command
    Man {
        /// Folder to write into
        folder: PathBuf,
    },
}

/// Carries the command out.
pub(crate) fn run(command: &GenCommand) -> Result<Exit, Failure> {
    match command {
        GenCommand::Completions { folder } => {
            std::fs::create_dir_all(folder)?;
            for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
                generate_to(shell, &mut arguments::command(), "mainstay", folder)?;
            }
        }
        GenCommand::Man { folder } => {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(arguments::command(), folder)?;
        }
    }
    Ok(Exit::Success)
}
