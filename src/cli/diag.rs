//! `dormgate diag`: one text file for a bug report. It is plain text and no archive, so that whoever sends it reads it before, in any
//! editor, and whoever gets it needs nothing to open it.

mod machine;

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{ConfigArg, Ended, audit_verify, check, failed, print_line};
use crate::access::scrub::scrubbed;
use crate::clock::Clock;
use crate::config::{self, DEFAULT_DATA_DIR};
use crate::http::{SOCKET_NAME, client};
use crate::store::{StoreKey, verify};

/// Lines of the log.
const LOG_LINES: u32 = 2_000;
/// Events of the audit, with `--with-cards`.
const EVENTS: u32 = 500;
/// The target of log lines that have what is on a Modbus line, card numbers among it.
const FRAMES: &str = "dormgate::frames";
/// How a log line of a login begins the name, in JSON.
const WHO_JSON: &str = "\"who\":\"";
/// What log lines of alarms about the list have, in both formats.
const LIST_ALARMS: [&str; 2] = ["alarm=\"list\"", "\"alarm\":\"list\""];

/// Write one text file for a bug report: versions, configuration, status, metrics, log, sizes, whether the audit is whole.
///
/// It has no secret, and no UID and no holder unless `--with-cards`: what may be a UID is masked, comments of the configuration are
/// left out. Read it before you send it. What cannot be had, as the status of a gateway that does not run, is named in its place.
/// Call it as root, or as the user of the gateway: others cannot read the secrets that `check` looks at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file, which must not exist; `-`: standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With UIDs, holders and the newest events of the audit. Keep the file as safe as the box.
    #[arg(long)]
    with_cards: bool,
    /// The systemd unit whose log is read.
    #[arg(long, value_name = "UNIT", default_value = "dormgate.service")]
    unit: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// The text, section by section.
#[derive(Default)]
struct Report(String);

impl Report {
    fn section<E: Display>(&mut self, title: &str, content: Result<String, E>) {
        let content = content.unwrap_or_else(|why| format!("not available: {why}"));
        self.0.push_str(&format!("== {title} ==\n{}\n\n", content.trim_end()));
    }
}

pub(super) fn run(args: &Args) -> Ended {
    let now = Clock::system().now().wall;
    let path = &args.config.config;
    let named = config::data_dir_and_gateway(path).ok();
    let (dir, gateway) = named.unwrap_or_else(|| (PathBuf::from(DEFAULT_DATA_DIR), String::new()));
    let mut report = Report::default();
    let file = args.output.clone().unwrap_or_else(|| {
        let at = now.to_string().replace([':', '-'], "");
        PathBuf::from(format!("dormgate-diag-{gateway}-{}.txt", at.split('.').next().unwrap_or_default()))
    });
    fill(&mut report, args, (&dir, &gateway), &now);
    if file.as_os_str() == "-" {
        return Ok(print_line(report.0.trim_end()));
    }
    // Only for who calls it: with cards it names persons.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    made.and_then(|mut made| made.write_all(report.0.as_bytes())).map_err(|error| {
        // What is there already is somebody's; what was begun here is nobody's.
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            drop(std::fs::remove_file(&file));
        }
        failed(format!("`{}` cannot be written: {error}; name another with `--output`", file.display()))
    })?;
    let what = if args.with_cards { "UIDs and holders are in it" } else { "no secret, UID or holder is in it" };
    Ok(print_line(format!("{}: {what}; read it before you send it", file.display())))
}

fn fill(report: &mut Report, args: &Args, (dir, gateway): (&Path, &str), now: &impl Display) {
    let (path, socket) = (&args.config.config, dir.join(SOCKET_NAME));
    let version = env!("CARGO_PKG_VERSION");
    let cards = if args.with_cards { "with" } else { "without" };
    report.section::<&str>(
        "program",
        Ok(format!("dormgate {version}\ngateway: {gateway}\nmade: {now}, {cards} cards\n{}", machine::system())),
    );
    let title = format!("configuration {}", path.display());
    report.section(&title, config::without_secrets(path));
    report.section("check", config::load(path).map(|site| check::summary(&site)));
    let status = if args.with_cards {
        client::text(&socket, "GET", "/api/v1/status")
    } else {
        client::status_without_cards(&socket)
    };
    report.section("status", status);
    report.section("ready", client::text(&socket, "GET", "/readyz"));
    report.section("metrics", client::text(&socket, "GET", "/metrics"));
    report.section("store", machine::store(dir));
    report.section("audit verify", verified(path, dir));
    if args.with_cards {
        let events = client::audit_page(&socket, &format!("back={EVENTS}"));
        report.section("newest events", events.map(|page| page.events.join("\n")));
    }
    let log = machine::log(&args.unit, LOG_LINES);
    report.section("log", if args.with_cards { log } else { log.map(|log| without_cards(&log)) });
}

/// A log without what may be a UID, without lines that have what is on a Modbus line, without who has logged in at the console, and
/// without the holders that earlier versions named in it.
fn without_cards(log: &str) -> String {
    let lines = log.lines().filter(|line| !line.contains(FRAMES));
    lines.map(|line| scrubbed(&without_holders(&without_person(line))) + "\n").collect()
}

/// `who` of the log line of a login, up to the next field, in both formats of the log.
fn without_person(line: &str) -> String {
    let (name, end) = if line.contains(WHO_JSON) { (WHO_JSON, "\"") } else { ("who=", " from=") };
    let Some((before, rest)) = line.split_once(name) else { return line.to_owned() };
    // A quotation mark in the name has a backslash before it.
    let ends = |at: &usize| !rest.get(..*at).is_some_and(|who| who.ends_with('\\'));
    let after = rest.match_indices(end).map(|(at, _)| at).find(ends).and_then(|at| rest.get(at..)).unwrap_or_default();
    format!("{before}{name}…{after}")
}

/// The log line of an alarm about the list without what is quoted in it, unless it is a masked card.
fn without_holders(line: &str) -> String {
    if !LIST_ALARMS.iter().any(|alarm| line.contains(alarm)) {
        return line.to_owned();
    }
    let parts = line.split('`').enumerate();
    let shown = parts.map(|(place, part)| if place % 2 == 0 || part.starts_with('…') { part } else { "…" });
    shown.collect::<Vec<_>>().join("`")
}

fn verified(path: &Path, dir: &Path) -> Result<String, String> {
    let key = config::store_key(path).map_err(|error| error.to_string())?;
    let key = key.and_then(|key| StoreKey::new(key.expose().as_bytes()));
    let found = verify(dir, key.as_ref()).map_err(|error| error.to_string())?;
    let (summary, faults) = audit_verify::findings(&found);
    Ok(std::iter::once(summary).chain(faults).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_no_card_and_no_person() {
        for (line, expected) in [
            (
                "INFO dormgate: a login at the console who=Li Wei from=127.0.0.1",
                "INFO dormgate: a login at the console who=… from=127.0.0.1\n",
            ),
            ("INFO dormgate: a login at the console who=Li Wei", "INFO dormgate: a login at the console who=…\n"),
            ("TRACE bus{id=a}: dormgate::frames: > 15 01 00 1E A6 86 71", ""),
            ("WARN dormgate: `1EA68671` is no word", "WARN dormgate: `…8671` is no word\n"),
        ] {
            assert_eq!(without_cards(line), expected);
        }
    }
}
