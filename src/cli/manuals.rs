//! `dormgate manuals`: man pages and completions for shells, made from the command line's own definitions, for packages.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};

use super::{Cli, Ended, Exit, failed};

/// Write man pages and completions into a directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Made if it is not there.
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Ended {
    let unwritten =
        |error| failed(format!("{}: cannot be written: {error}; name a directory that can", args.dir.display()));
    write(&args.dir).map(|()| Exit::Done).map_err(unwritten)
}

fn write(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // This command itself is not for users of a package.
    let command = Cli::command().mut_subcommand("manuals", |own| own.hide(true));
    clap_mangen::generate_to(command.clone(), dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), "dormgate", dir)?;
    }
    Ok(())
}
