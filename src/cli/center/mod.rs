//! `dormgate center`: a center on the command line, in a directory for trials and scripts, or the service of an office.
//!
//! Each op is journaled and published, and its answer waited for; `watch` in a directory attends to the gateway: it answers resync and
//! acknowledges the audit. [`target`] is what both have in common.

mod compare;
mod link;
mod load;
mod ops;
mod print;
mod progress;
mod prove;
mod send;
#[cfg(feature = "center")]
mod serve;
mod target;
mod watch;

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use super::{Ended, failed, misused, print_line};
use crate::center::{self, Layout};

/// What the commands end with.
const EXIT_CODES: &str = "\
Exit codes:
  0   done: published and acknowledged by every gateway that it goes to; for `compare` and `prove`: it is so everywhere
  1   refused, failed or not known in time; the error names which, and what to do
  2   called wrongly
  78  the file of `serve` has errors or cannot be read";

/// A center in a directory, for trials, or over the API of the service with `--server`: publishes changes and commands to gateways,
/// compares and watches them.
#[cfg_attr(
    not(feature = "center"),
    doc = "",
    doc = "The service itself, `dormgate center serve`, is not in this program: build it with `cargo build --release --features center`."
)]
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// The center's directory: keys, journals, and the audit received.
    #[arg(long, global = true, value_name = "DIR", default_value = "center")]
    dir: PathBuf,
    #[command(flatten)]
    link: link::LinkArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a center: its keys, and the `[[center.stream]]` tables for the gateway's configuration.
    Keygen {
        /// One stream that may publish everything, or two offices with a key each.
        #[arg(long, value_enum, default_value_t = Streams::One)]
        streams: Streams,
        /// Higher than that of a center with the same stream names whose directory was lost.
        #[arg(long, default_value_t = NonZeroU32::MIN)]
        epoch: NonZeroU32,
    },
    #[command(flatten)]
    Op(ops::Op),
    /// Give a command, which acts once and now.
    #[command(subcommand, name = "command")]
    Order(ops::Order),
    /// Send a file: a JSON list of ops, or a whole message with `iss`, right or wrong; `-` is stdin.
    Send {
        /// The file.
        file: PathBuf,
    },
    /// Check whether a gateway has what the center published to it, and list what it lacks.
    Compare(compare::CompareArgs),
    /// Show at each gateway whether a card is dead and since when, and where that is not known yet.
    Prove(prove::ProveArgs),
    /// Load a whole list of enrolments from a CSV sheet; what it does not name is withdrawn.
    Load(load::LoadArgs),
    /// Print what the cards are enrolled for as a sheet that `load` reads.
    Export(load::ZoneArg),
    #[cfg(feature = "center")]
    Serve(serve::Args),
    /// Listen until Ctrl-C: print acks, alarms, audit events and states. In a directory it also answers resync, re-sends heads and
    /// acknowledges the audit; a service does that by itself.
    Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Streams {
    /// `center`, which may publish everything to one gateway.
    One,
    /// `card-office` for the standing of cards on the whole campus, `apartment` for the rest of one gateway.
    Two,
}

impl Args {
    /// Whether the log is what the command is watched by.
    pub(super) fn is_service(&self) -> bool {
        #[cfg(feature = "center")]
        return matches!(self.command, Command::Serve(_));
        #[cfg(not(feature = "center"))]
        false
    }
}

pub(super) fn run(args: &Args) -> Ended {
    #[cfg(feature = "center")]
    if let Some(misuse) = link::misuse(args) {
        return Err(misused(misuse));
    }
    match &args.command {
        Command::Keygen { .. } if link::is_at_service(args) => Err(misused(
            "the keys of a service are files that its configuration names: see deploy/center.md; leave out `--server`",
        )),
        Command::Keygen { streams, epoch } => keygen(args, *streams, *epoch),
        Command::Op(op) => send::op(args, op),
        Command::Order(order) => send::command(args, order),
        Command::Send { file } => send::file(args, file),
        Command::Compare(own) => compare::run(args, own),
        Command::Prove(own) => prove::run(args, own),
        Command::Load(load) => load::load(args, load),
        Command::Export(zone) => load::export(args, zone),
        #[cfg(feature = "center")]
        Command::Serve(own) => serve::run(own),
        Command::Watch => watch::run(args),
    }
}

fn keygen(args: &Args, streams: Streams, epoch: NonZeroU32) -> Ended {
    let layout = match streams {
        Streams::One => Layout::One,
        Streams::Two => Layout::Two,
    };
    let tables = center::create(&args.dir, layout, epoch).map_err(failed)?;
    Ok(print_line(tables.trim_end()))
}

/// The file at `path`, or what `-` stands for, the standard input; a little of it more than `most` bytes where it is longer.
fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    // One byte more than is taken, so that too much is seen as such.
    let most = most as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
