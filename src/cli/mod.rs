//! The command line: one file a command. Here are the list of commands, what they share, and their exit codes.
//!
//! A new command is a file with `Args` and `run(Args) -> Ended`, one variant of `Command` and its line in the `match`.

mod ask;
mod audit;
mod audit_verify;
mod backup;
#[cfg(any(feature = "workbench", feature = "center"))]
mod center;
mod check;
mod connect;
#[cfg(feature = "workbench")]
mod demo;
mod diag;
mod event_line;
mod init;
mod log;
#[cfg(feature = "package")]
mod manuals;
mod profile;
mod reload;
mod run;
mod secrets;
pub mod serve;
#[cfg(feature = "workbench")]
mod simulate;
mod uid;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};

use crate::config::ConfigError;

/// Random bytes of the operating system, in hex.
fn random_hex<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Access gateway of a university dormitory: gates, room doors and power boxes, decided on the edge box.
#[derive(Debug, Parser)]
#[command(name = "dormgate", version, propagate_version = true)]
struct Cli {
    /// How log lines on stderr are written; `RUST_LOG` selects which.
    #[arg(long, global = true, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    log_format: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Audit(audit::Args),
    Backup(backup::BackupArgs),
    #[cfg(any(feature = "workbench", feature = "center"))]
    Center(Box<center::Args>),
    Check(check::Args),
    Clock(ask::ClockArgs),
    Connect(connect::Args),
    #[cfg(feature = "workbench")]
    Demo(demo::Args),
    Diag(diag::Args),
    Fire(ask::FireArgs),
    Forgive(ask::ForgiveArgs),
    Init(init::Args),
    #[cfg(feature = "package")]
    Manuals(manuals::Args),
    May(ask::MayArgs),
    Posture(ask::PostureArgs),
    Profile(profile::Args),
    Query(ask::QueryArgs),
    Reload(reload::Args),
    Restore(backup::RestoreArgs),
    RollCall(ask::RollCallArgs),
    /// Run the gateway until SIGTERM or Ctrl-C.
    Run(ConfigArg),
    #[cfg(feature = "workbench")]
    Simulate(simulate::Args),
    Status(ask::StatusArgs),
    Stream(ask::StreamArgs),
    Uid(uid::Args),
    Where(ask::WhereArgs),
}

impl Command {
    /// Whether the command runs until it is stopped and is watched by its log. The others print their result on stdout.
    fn is_service(&self) -> bool {
        match self {
            Self::Run(_) => true,
            #[cfg(any(feature = "workbench", feature = "center"))]
            Self::Center(args) => args.is_service(),
            #[cfg(feature = "workbench")]
            Self::Simulate(_) => true,
            _ => false,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// Whoever read the output has gone, as `head` does: that is no failure, and there is nothing more to print: 0.
    Closed,
    /// Tried and failed: 1.
    Failed,
    /// Called wrongly: 2.
    Usage,
    /// The configuration has errors or cannot be read: 78, `EX_CONFIG` of sysexits.h.
    Config,
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done | Self::Closed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// How a command ended; `Err`: before it was done, and why was printed.
type Ended = Result<Exit, Exit>;

/// Which configuration, for commands that ask a running gateway.
#[derive(Debug, clap::Args)]
pub struct ConfigArg {
    /// The configuration of the gateway.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Runs the command that `args` name; the first is the program's name.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; they go to stdout and are not errors.
            let printed = error.print().and_then(|()| io::stdout().flush());
            return if error.use_stderr() { Exit::Usage } else { written(printed) };
        }
    };
    let filter = if cli.command.is_service() { log::DEFAULT_FILTER } else { log::QUIET_FILTER };
    if let Err(message) = log::start(cli.log_format, filter) {
        return misused(message);
    }
    let ended = match cli.command {
        Command::Audit(args) => audit::run(&args),
        Command::Backup(args) => backup::backup(&args),
        #[cfg(any(feature = "workbench", feature = "center"))]
        Command::Center(args) => center::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Clock(args) => ask::clock(&args),
        #[cfg(feature = "workbench")]
        Command::Demo(args) => demo::run(&args),
        Command::Diag(args) => diag::run(&args),
        Command::Fire(args) => ask::fire(&args),
        Command::Forgive(args) => ask::forgive(&args),
        Command::Init(args) => init::run(&args),
        #[cfg(feature = "package")]
        Command::Manuals(args) => manuals::run(&args),
        Command::May(args) => ask::may(&args),
        Command::Posture(args) => ask::posture(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Query(args) => ask::query(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::RollCall(args) => ask::roll_call(&args),
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "workbench")]
        Command::Simulate(args) => simulate::run(&args),
        Command::Status(args) => ask::status(&args),
        Command::Stream(args) => ask::stream(&args),
        Command::Uid(args) => uid::run(&args),
        Command::Where(args) => ask::whereabouts(&args),
    };
    let exit = ended.unwrap_or_else(|exit| exit);
    // Also of a command that goes on without its output.
    if exit.code() == 0 && OUTPUT_LOST.load(Ordering::Relaxed) { Exit::Failed } else { exit }
}

/// So many of something: `1 card`, `2 cards`.
fn counted(count: impl Display, one: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {one}{plural}")
}

/// Whether something of the output is lost, though somebody may read it.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes a result to stdout.
fn print_line(text: impl Display) -> Exit {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// What follows from writing to stdout; an error is printed once.
fn written(result: io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Closed,
        Err(error) => {
            if !OUTPUT_LOST.swap(true, Ordering::Relaxed) {
                print_error(format!("the output cannot be written: {error}"));
            }
            Exit::Failed
        }
    }
}

/// Writes an error to stderr.
fn print_error(text: impl Display) {
    // A failure to write to stderr cannot be reported.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Prints why a command failed.
fn failed(error: impl Display) -> Exit {
    print_error(error);
    Exit::Failed
}

/// Prints how a command was called wrongly.
fn misused(error: impl Display) -> Exit {
    print_error(error);
    Exit::Usage
}

/// Prints everything that is wrong with a configuration.
fn bad_config(error: ConfigError) -> Exit {
    let count = if let ConfigError::Diagnostics { diagnostics, .. } = &error { diagnostics.len() } else { 0 };
    print_error(error);
    if count > 0 {
        print_error(counted(count, "diagnostic"));
    }
    Exit::Config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::decision::{GrantFlag, Reason};

    #[test]
    fn one_of_something_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "card")), ["0 cards", "1 card", "2 cards"]);
    }

    /// The commands in a sentence: up to what ends them in backticks or among Chinese.
    fn commands(text: &str) -> Vec<String> {
        let ends = |c: char| !c.is_ascii() || matches!(c, '`' | ';' | ')');
        let command = |rest: &str| rest.split(ends).next().unwrap_or_default().trim().replace('\'', "");
        text.split("dormgate ").skip(1).map(command).collect()
    }

    #[test]
    fn every_command_that_a_remedy_names_is_one() {
        let remedies = Reason::ALL.iter().map(|reason| reason.remedy());
        let remedies = remedies.chain(GrantFlag::ALL.iter().map(|flag| flag.remedy()));
        let mut seen = 0;
        for words in remedies {
            for (text, is_english) in [(&words.en, true), (&words.zh, false)] {
                for command in commands(text) {
                    // In a Chinese sentence only the name of a command may stand.
                    let argument = (!is_english && command == "forgive").then_some("*");
                    let args = std::iter::once("dormgate").chain(command.split_whitespace()).chain(argument);
                    let parsed = Cli::try_parse_from(args);
                    assert!(parsed.is_ok(), "`{command}` in `{text}`: {parsed:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 10, "only {seen} commands");
    }
}
