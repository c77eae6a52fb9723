//! `dormgate audit verify`: whether the audit on disk is whole and nobody has edited it.

use super::{ConfigArg, Exit, bad_config, print_error, print_line};
use crate::config;
use crate::store::{Verified, verify};

/// Look at the audit on disk.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check every event and the chain of hashes; a gateway may be running on it.
    Verify(ConfigArg),
}

pub(super) fn run(args: &Args) -> Exit {
    let Command::Verify(config) = &args.command;
    let dir = match config::data_dir(&config.config) {
        Ok(dir) => dir,
        Err(error) => return bad_config(&error),
    };
    match verify(&dir) {
        Ok(found) => report(&found),
        Err(error) => {
            print_error(format!("the journal in `{}` cannot be read: {error}", dir.display()));
            Exit::Failed
        }
    }
}

fn report(found: &Verified) -> Exit {
    let reported = print_line(format!("{} events, {} to {}", found.events, found.first, found.last));
    for (from, to) in &found.explained {
        print_error(format!("events {from} to {to} are lost, as a `log_gap` reports"));
    }
    match &found.broken {
        None => reported,
        Some(broken) => {
            let (n, file, offset, why) = (broken.n, &broken.file, broken.offset, &broken.why);
            print_error(format!("broken at event {n}, `{file}` byte {offset}: {why}"));
            Exit::Failed
        }
    }
}
