//! `dormgate audit`: the newest events of a running gateway, all of them in a file, and whether the audit on disk is whole.

mod filter;

use std::collections::{BTreeSet, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::filter::FilterArgs;
use super::audit_verify::{self, VerifyArgs};
use super::event_line::event_line;
use super::{ConfigArg, Ended, Exit, bad_config, failed};
use crate::access::event::EventKind;
use crate::access::id::{Holder, PortalId, Timestamp};
use crate::access::operator::Actor;
use crate::access::portal::Portal;
use crate::config;
use crate::http::SOCKET_NAME;
use crate::http::client::{self, AskError, AuditPage};
use crate::http::visitors::Visitors;
use crate::profile::diagnostic::hint;
use crate::wire::audit::decode;
use crate::wire::{csv, erased};

/// How far back `tail` looks at first for events that its filters admit, in events, and how many times as far when there are too few.
const TAIL_BACK: u64 = 100_000;
const TAIL_FURTHER: u64 = 16;
/// How often `tail -f` asks for what is new.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How often the end of an erasure is looked for.
const ERASE_LOOKS_MAX: u32 = 600;

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
    /// Print who came late: the entries outside the hours of their gate or door, oldest first.
    Late(SpanArgs),
    /// Erase the events of one holder that the center has; what is left of each keeps the chain of hashes whole.
    Erase(EraseArgs),
    /// Print who was at a portal, or at the portals of a zone: one line a card, whoever was there last at the end.
    Who(WhoArgs),
    /// Check every event and the chain of hashes; a gateway may be running on it.
    Verify(VerifyArgs),
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
    /// Write to this file, which must not exist; `-`, or left out: the standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    config: ConfigArg,
}

/// The events of which time, and of which gateway.
#[derive(Debug, clap::Args)]
struct SpanArgs {
    /// Only from this time on, e.g. `2026-09-01T23:00:00+08:00`; without it all that is kept.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, clap::Args)]
struct EraseArgs {
    /// Whose events.
    #[arg(long)]
    holder: Holder,
    /// Who orders it, for the audit; without it the user who calls.
    #[arg(long)]
    actor: Option<Actor>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Debug, clap::Args)]
struct WhoArgs {
    /// A portal, or a zone: then all its portals.
    #[arg(value_name = "PORTAL|ZONE")]
    place: String,
    #[command(flatten)]
    of: SpanArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Csv,
}

/// Why a tail or an export ended early.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("no event names `{0}`, and no portal is called so; {1}")]
    NoSuchPortal(PortalId, String),
    #[error("no portal and no zone is `{0}`; {1}")]
    NoSuchPlace(String, String),
    #[error("the output cannot be written: {0}")]
    Write(#[from] io::Error),
    #[error("`{}` cannot be written: {error}; name another with `--output`", path.display())]
    File { path: PathBuf, error: io::Error },
}

impl AuditError {
    /// Whether whoever read the output has seen enough.
    fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

pub(super) fn run(args: &Args) -> Ended {
    let config = match &args.command {
        Command::Tail(TailArgs { config, .. })
        | Command::Export(ExportArgs { config, .. })
        | Command::Late(SpanArgs { config, .. })
        | Command::Erase(EraseArgs { config, .. })
        | Command::Who(WhoArgs { of: SpanArgs { config, .. }, .. })
        | Command::Verify(VerifyArgs { config, .. }) => config,
    };
    let dir = config::data_dir(&config.config).map_err(bad_config)?;
    let socket = dir.join(SOCKET_NAME);
    let ended = match &args.command {
        Command::Verify(args) => return audit_verify::run(&dir, args),
        Command::Tail(args) => tail(&socket, args, &mut BufWriter::new(io::stdout().lock())),
        Command::Export(args) => export_to(&socket, args),
        Command::Late(args) => late(&socket, args, &mut BufWriter::new(io::stdout().lock())),
        Command::Erase(args) => erase(&socket, args, &mut io::stdout().lock()),
        Command::Who(args) => {
            let site = config::load(&args.of.config.config).map_err(bad_config)?;
            who(&socket, args, &site, &mut BufWriter::new(io::stdout().lock()))
        }
    };
    match ended {
        Err(error) if !error.is_reader_gone() => Err(failed(error)),
        Ok(()) | Err(_) => Ok(Exit::Done),
    }
}

fn tail(socket: &Path, args: &TailArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    let filter = args.filter.query();
    let lines = u64::try_from(args.lines).unwrap_or(u64::MAX);
    // Without filters each number counts; with them, look further back, up to the oldest event.
    let mut back = if filter.is_empty() { lines } else { TAIL_BACK.max(lines) };
    let mut newest: VecDeque<String> = VecDeque::new();
    // Also where none is to be printed, whether there is one shows that the portal is no wrong name.
    let mut none = args.filter.portal.is_some();
    let mut next;
    loop {
        newest.clear();
        let mut keep = |page: AuditPage| {
            none &= page.events.is_empty();
            newest.extend(page.events);
            newest.drain(..newest.len().saturating_sub(args.lines));
            Ok(())
        };
        next = pages(socket, &format!("back={back}"), &filter, &mut keep)?;
        if filter.is_empty() || (newest.len() >= args.lines && !none) || back >= next {
            break;
        }
        back = back.saturating_mul(TAIL_FURTHER);
    }
    let mut print = |events: &mut dyn Iterator<Item = String>| -> Result<(), AuditError> {
        for event in events {
            writeln!(out, "{}", if args.json { event } else { text(event) })?;
        }
        Ok(out.flush()?)
    };
    print(&mut newest.into_iter())?;
    if none {
        args.filter.is_of_a_portal(&args.config.config)?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        next = pages(socket, &format!("from={next}"), &filter, &mut |page| print(&mut page.events.into_iter()))?;
    }
}

fn text(event: String) -> String {
    match (decode(event.as_bytes()), erased::decode(event.as_bytes())) {
        (Ok(decoded), _) => event_line(&decoded.event),
        (_, Some(left)) => format!("#{} {} erased {}", left.n, left.at, left.was.as_str()),
        _ => event,
    }
}

fn late(socket: &Path, args: &SpanArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    let SpanArgs { since, until, .. } = *args;
    let filter = FilterArgs { flag: Some("late".to_owned()), since, until, ..FilterArgs::default() };
    let mut print = |page: AuditPage| {
        page.events.into_iter().try_for_each(|event| writeln!(out, "{}", text(event)))?;
        Ok(())
    };
    pages(socket, "from=0", &filter.query(), &mut print)?;
    Ok(out.flush()?)
}

/// Orders it, and waits for the event that reports its end.
fn erase(socket: &Path, args: &EraseArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    let caller = ["SUDO_USER", "USER"].into_iter().find_map(|name| std::env::var(name).ok()?.parse::<Actor>().ok());
    let actor = args.actor.clone().or(caller).map_or_else(|| "operator".to_owned(), |actor| actor.to_string());
    let (holder, actor) = (client::encode(args.holder.as_str()), client::encode(&actor));
    let ordered = client::ask(socket, "POST", &format!("/api/v1/audit/erase?holder={holder}&actor={actor}"))?;
    let mut next = ordered.get("from").and_then(|from| from.as_u64()).unwrap_or(0) + 1;
    let about = format!("events of holder `{}`", args.holder);
    for _ in 0..ERASE_LOOKS_MAX {
        std::thread::sleep(FOLLOW_EVERY);
        let mut end = None;
        next = pages(socket, &format!("from={next}"), "&type=config", &mut |page| {
            let details = page.events.iter().filter_map(|event| decode(event.as_bytes()).ok());
            let mut details = details.map(|decoded| decoded.event.body.detail().to_owned());
            end = end.take().or_else(|| details.find(|text| is_end(text, &about)));
            Ok(())
        })?;
        if let Some(detail) = end {
            writeln!(out, "{detail}")?;
            return Ok(());
        }
    }
    writeln!(out, "it goes on in the background; `dormgate audit tail --type config` shows its end")?;
    Ok(())
}

/// Whether the detail of an event is the end of an erasure of these events.
fn is_end(detail: &str, about: &str) -> bool {
    detail.split_once(about).is_some_and(|(_, rest)| rest.starts_with(" are ") || rest.starts_with(" up to event "))
}

fn who(socket: &Path, args: &WhoArgs, site: &config::Site, out: &mut dyn Write) -> Result<(), AuditError> {
    let portals: Vec<_> = site.portals.iter().map(|portal| &portal.portal).collect();
    let is_there = |p: &&&Portal| p.id.as_str() == args.place || p.zone.as_str() == args.place;
    let there: BTreeSet<_> = portals.iter().filter(is_there).map(|p| p.id.as_str()).collect();
    if there.is_empty() {
        let names: BTreeSet<_> = portals.iter().flat_map(|p| [p.id.as_str(), p.zone.as_str()]).collect();
        return Err(AuditError::NoSuchPlace(args.place.clone(), hint(&args.place, names.iter().copied())));
    }
    // One walk for all portals: what a card did last is one thing.
    let SpanArgs { since, until, .. } = args.of;
    let kinds = vec![EventKind::Decision, EventKind::Taken];
    let filter = FilterArgs { kinds, since, until, ..FilterArgs::default() };
    let mut visitors = Visitors::default();
    let mut add = |page: AuditPage| {
        page.events.iter().for_each(|event| visitors.add(event, &there));
        Ok(())
    };
    pages(socket, "from=0", &filter.query(), &mut add)?;
    visitors.lines().iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(out.flush()?)
}

fn export_to(socket: &Path, args: &ExportArgs) -> Result<(), AuditError> {
    let Some(path) = args.output.as_ref().filter(|path| path.as_os_str() != "-") else {
        return export(socket, args, &mut BufWriter::new(io::stdout().lock()));
    };
    // It names persons and cards.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = BufWriter::new(made.map_err(|error| AuditError::File { path: path.clone(), error })?);
    let exported = export(socket, args, &mut file).and_then(|()| Ok(file.get_ref().sync_all()?));
    exported.map_err(|error| {
        // Half an export must not pass for a whole one.
        drop(std::fs::remove_file(path));
        match error {
            AuditError::Write(error) => AuditError::File { path: path.clone(), error },
            other => other,
        }
    })
}

fn export(socket: &Path, args: &ExportArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    if args.format == Format::Csv {
        writeln!(out, "{}", csv::header())?;
    }
    let mut none = true;
    let mut write = |page: AuditPage| {
        for event in page.events {
            none = false;
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
    if none {
        args.filter.is_of_a_portal(&args.config.config)?;
    }
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

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
