//! `dormgate profile check` and `profile show`: what is wrong with a device profile, what it means, and the exact requests or messages.

use std::path::{Path, PathBuf};

use super::{Ended, Exit, print_error, print_line};
use crate::profile::diagnostic::hint;
use crate::profile::{SHIPPED, check_text, mqtt, show_text};

/// Check and show device profiles.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print everything that is wrong with a profile; without an error, the same as `show`.
    Check {
        /// The file of the profile.
        file: PathBuf,
    },
    /// Print everything that a profile means, and the exact requests that the gateway will send.
    Show {
        /// The name of a built-in profile, e.g. `waveshare-relay-8ch`; or a file, `PATH.toml`.
        name: String,
    },
}

pub(super) fn run(args: &Args) -> Ended {
    match &args.command {
        Command::Check { file } => of_file(file),
        Command::Show { name } if name.contains('/') || name.ends_with(".toml") => of_file(Path::new(name)),
        Command::Show { name } => built_in(name),
    }
}

fn of_file(file: &Path) -> Ended {
    let read = std::fs::read_to_string(file);
    let read = read.map_err(|error| format!("{}: cannot be read: {error}; name the file of a profile", file.display()));
    shown(read.and_then(|text| check_text(&file.display().to_string(), &text)))
}

fn built_in(name: &str) -> Ended {
    shown(show_text(name).ok_or_else(|| {
        let hint = hint(name, SHIPPED.iter().chain(mqtt::SHIPPED).map(|(name, _)| *name));
        format!("`{name}` is not a built-in profile, and a file is written `PATH.toml`; {hint}")
    }))
}

fn shown(profile: Result<String, String>) -> Ended {
    let text = profile.map_err(|wrong| {
        print_error(wrong);
        Exit::Config
    })?;
    Ok(print_line(text.trim_end()))
}
