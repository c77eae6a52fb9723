//! `dormgate profile check` and `profile show`: what is wrong with a device profile, and the exact requests it will send.

use std::path::PathBuf;

use super::{Exit, complain, say};
use crate::wire::profile::{SHIPPED, check_text, show_text};
use crate::wire::spelling::hint;

/// Look at device profiles.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say everything that is wrong with a profile, or the exact requests it will send.
    Check {
        /// The profile.
        file: PathBuf,
    },
    /// Say what a built-in profile is, and the exact requests it will send.
    Show {
        /// Its name, e.g. `waveshare-relay-8ch`.
        name: String,
    },
}

pub(super) fn run(args: &Args) -> Exit {
    match &args.command {
        Command::Check { file } => {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) => {
                    complain(format!("{}: cannot be read: {error}", file.display()));
                    return Exit::Config;
                }
            };
            match check_text(&file.display().to_string(), &text) {
                Ok(shown) => say(shown),
                Err(mistakes) => {
                    complain(mistakes);
                    Exit::Config
                }
            }
        }
        Command::Show { name } => match show_text(name) {
            Some(shown) => say(shown),
            None => {
                let hint = hint(name, SHIPPED.iter().map(|(name, _)| *name));
                complain(format!("no profile `{name}` is built in; {hint}"));
                Exit::Failed
            }
        },
    }
}
