//! `dormgate audit`: the newest events of a running gateway, all of them in a file, and whether the audit on disk is whole.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigArg, Exit, bad_config, print_error, print_line};
use crate::access::event::{AuditEvent, Event, EventKind, Mark};
use crate::access::id::{CardUid, Holder, PortalId, Timestamp};
use crate::config;
use crate::http::SOCKET_NAME;
use crate::http::client::{self, AskError, AuditPage};
use crate::store::{Verified, verify};
use crate::wire::audit::decode;
use crate::wire::csv;

/// How far back `tail` looks for events that its filters admit, in events.
const TAIL_BACK_MAX: u64 = 100_000;
/// How often `tail -f` asks for what is new.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Losses that `verify` prints one by one.
const LOSSES_PRINTED_MAX: usize = 20;

/// Read the audit: the newest events, all of them, or whether it is whole.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the newest events of a running gateway, one a line.
    Tail(TailArgs),
    /// Write all events of a running gateway, oldest first, as JSON lines or CSV.
    Export(ExportArgs),
    /// Check every event and the chain of hashes; a gateway may be running on it.
    Verify(ConfigArg),
}

#[derive(Debug, clap::Args)]
struct TailArgs {
    /// Go on with what is recorded from now on.
    #[arg(short, long)]
    follow: bool,
    /// How many events to begin with.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    lines: usize,
    /// Print the events as JSON, byte for byte.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// How the events are written: `json`, one a line, byte for byte; or `csv`, with named columns.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Write to this file, which must not exist, instead of the standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Csv,
}

/// Which events.
#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only events at this portal.
    #[arg(long)]
    portal: Option<PortalId>,
    /// Only events about this card.
    #[arg(long)]
    uid: Option<CardUid>,
    /// Only events about this holder.
    #[arg(long)]
    holder: Option<Holder>,
    /// Only events of this type, e.g. `decision`; may be given several times.
    #[arg(long = "type", value_name = "TYPE", value_parser = event_kind)]
    kinds: Vec<EventKind>,
    /// Only events from this time on, e.g. `2026-09-01T08:00:00+08:00`.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

fn event_kind(name: &str) -> Result<EventKind, String> {
    let known = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == name);
    known.ok_or_else(|| crate::profile::diagnostic::hint(name, EventKind::ALL.iter().map(|kind| kind.as_str())))
}

impl FilterArgs {
    /// As the end of a query: each begins with `&`.
    fn query(&self) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let all = [
            ("portal", self.portal.as_ref().map(ToString::to_string)),
            ("uid", self.uid.map(|uid| uid.to_string())),
            ("holder", self.holder.as_ref().map(ToString::to_string)),
            ("type", (!kinds.is_empty()).then(|| kinds.join(","))),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ];
        let given = all.into_iter().filter_map(|(key, value)| Some(format!("&{key}={}", client::encode(&value?))));
        given.collect()
    }
}

/// Why a tail or an export ended early.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl AuditError {
    /// Whether whoever read the output has seen enough.
    fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

pub(super) fn run(args: &Args) -> Exit {
    let config = match &args.command {
        Command::Tail(TailArgs { config, .. })
        | Command::Export(ExportArgs { config, .. })
        | Command::Verify(config) => config,
    };
    let dir = match config::data_dir(&config.config) {
        Ok(dir) => dir,
        Err(error) => return bad_config(&error),
    };
    let socket = dir.join(SOCKET_NAME);
    let ended = match &args.command {
        Command::Verify(_) => return check(&dir),
        Command::Tail(args) => tail(&socket, args, &mut BufWriter::new(io::stdout().lock())),
        Command::Export(args) => export_to(&socket, args),
    };
    match ended {
        Ok(()) => Exit::Done,
        Err(error) if error.is_reader_gone() => Exit::Done,
        Err(error) => {
            print_error(error);
            Exit::Failed
        }
    }
}

fn tail(socket: &Path, args: &TailArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    let filter = args.filter.query();
    let lines = u64::try_from(args.lines).unwrap_or(u64::MAX);
    // Without filters each number counts; with them, look further back.
    let back = if filter.is_empty() { lines } else { TAIL_BACK_MAX.max(lines) };
    let mut newest: VecDeque<String> = VecDeque::new();
    let mut keep = |page: AuditPage| {
        newest.extend(page.events);
        newest.drain(..newest.len().saturating_sub(args.lines));
        Ok(())
    };
    let mut next = pages(socket, &format!("back={back}"), &filter, &mut keep)?;
    let mut print = |events: &mut dyn Iterator<Item = String>| -> Result<(), AuditError> {
        for event in events {
            writeln!(out, "{}", if args.json { event } else { text(event) })?;
        }
        Ok(out.flush()?)
    };
    print(&mut newest.into_iter())?;
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        next = pages(socket, &format!("from={next}"), &filter, &mut |page| print(&mut page.events.into_iter()))?;
    }
}

fn text(event: String) -> String {
    decode(event.as_bytes()).map_or(event, |decoded| event_line(&decoded.event))
}

fn export_to(socket: &Path, args: &ExportArgs) -> Result<(), AuditError> {
    let Some(path) = &args.output else {
        return export(socket, args, &mut BufWriter::new(io::stdout().lock()));
    };
    let mut file = BufWriter::new(std::fs::File::create_new(path)?);
    let exported = export(socket, args, &mut file).and_then(|()| Ok(file.get_ref().sync_all()?));
    if exported.is_err() {
        // Half an export must not pass for a whole one.
        std::fs::remove_file(path)?;
    }
    exported
}

fn export(socket: &Path, args: &ExportArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    if args.format == Format::Csv {
        writeln!(out, "{}", csv::header())?;
    }
    let mut write = |page: AuditPage| {
        for event in page.events {
            match args.format {
                Format::Json => writeln!(out, "{event}")?,
                Format::Csv => {
                    let line = csv::line(&event)
                        .map_err(|error| AskError::Broken(format!("an event is not JSON: {error}")))?;
                    writeln!(out, "{line}")?;
                }
            }
        }
        Ok(())
    };
    pages(socket, "from=0", &args.filter.query(), &mut write)?;
    Ok(out.flush()?)
}

/// Gives `each` the pages from `begin` on, to what was the last event at the beginning. Returns where to go on.
fn pages(
    socket: &Path,
    begin: &str,
    filter: &str,
    each: &mut dyn FnMut(AuditPage) -> Result<(), AuditError>,
) -> Result<u64, AuditError> {
    let mut page = client::audit_page(socket, &format!("{begin}{filter}"))?;
    let last = page.last;
    loop {
        let next = page.next;
        each(page)?;
        if next > last {
            return Ok(next);
        }
        page = client::audit_page(socket, &format!("from={next}{filter}"))?;
    }
}

fn check(dir: &Path) -> Exit {
    match verify(dir) {
        Ok(found) => report(&found),
        Err(error) => {
            print_error(format!("the journal in `{}` cannot be read: {error}", dir.display()));
            Exit::Failed
        }
    }
}

fn report(found: &Verified) -> Exit {
    let reported = print_line(format!("{} events, {} to {}", found.events, found.first, found.last));
    for (from, to) in found.explained.iter().take(LOSSES_PRINTED_MAX) {
        print_error(format!("events {from} to {to} are lost, as a `log_gap` reports"));
    }
    if let Some(more) = found.explained.len().checked_sub(LOSSES_PRINTED_MAX).filter(|more| *more > 0) {
        print_error(format!("and {more} more ranges are lost, as a `log_gap` reports"));
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

/// `#88001 2026-09-01T08:00:00.000Z decision gate-in 1EA68671 08193021 deny replaced`
pub(super) fn event_line(event: &AuditEvent) -> String {
    let body = &event.body;
    let mut words = vec![format!("#{} {} {}", event.n, event.at, event.kind().as_str())];
    if let Event::Alarm { kind, .. } = body {
        words.push(kind.as_str().to_owned());
    }
    words.extend(body.portal().map(ToString::to_string));
    words.extend(body.uid().map(|uid| uid.to_string()));
    words.extend(body.holder().map(ToString::to_string));
    match body {
        Event::Decision { outcome, also, flags, .. } => {
            words.push(outcome.to_string());
            words.extend(also.iter().map(|reason| format!("also:{}", reason.as_str())));
            words.extend(flags.iter().map(|flag| format!("flag:{flag}")));
        }
        Event::Taken { direction, .. } => words.push(direction.as_str().to_owned()),
        Event::PowerOff { cause, .. } => words.push(cause.as_str().to_owned()),
        Event::RejectedMessage { code, .. } => words.push(code.as_str().to_owned()),
        Event::Command { status, .. } => words.push(status.as_str().to_owned()),
        Event::Posture { posture, source, .. } => words.push(format!("{} by {}", posture.as_str(), source.as_str())),
        Event::LogGap { from, to, cause, .. } => words.push(format!("{from} to {to} {}", cause.as_str())),
        Event::Revoked { cut, .. } if !cut.is_empty() => {
            words.push(format!("cut {}", cut.iter().map(|portal| portal.as_str()).collect::<Vec<_>>().join(" ")));
        }
        Event::RevocationDurable { from, to } => words.push(format!("{from} to {to}")),
        Event::RevocationConfirmed { revoked, how, .. } => words.push(format!("#{revoked} {}", how.as_str())),
        Event::ClockStep { by_ms, .. } if *by_ms != 0 => words.push(format!("{by_ms} ms")),
        _ => {}
    }
    if let Event::Revoked { revision: r, .. }
    | Event::ChangesApplied { revision: r, .. }
    | Event::RejectedMessage { used_up: Some(r), .. }
    | Event::Config { mark: Mark::Goal(r), .. } = body
    {
        words.push(format!("{} {}.{}", r.stream, r.epoch, r.seq));
    }
    if !body.detail().is_empty() {
        words.push(format!("({})", body.detail()));
    }
    words.join(" ")
}
