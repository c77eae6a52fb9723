//! `center load`, `center export`: a whole list of enrolments as a sheet.

use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::super::{Exit, counted, print_line};
use super::link::{self, Client};
use super::progress::Progress;
use super::target::Failure;
use super::{Args, Ended, failed, read, send};
use crate::access::credential::Enrolment;
use crate::access::id::{CardUid, GatewayId};
use crate::center::sheet::{self, Enrolments, Reading, cell};
use crate::center::{Attention, CardChange, Center, CenterError, Plan, enrolments_of};
use crate::clock::Clock;

/// How long a gateway usually takes at most for the answer to a list, in seconds.
const LIST_WAIT_S: u64 = 60;

#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// The sheet: CSV with a first line that names the columns, in UTF-8 or GB18030. `deploy/cards.md` explains it.
    file: PathBuf,
    /// Show what would change, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Let the list withdraw more than 30 % of the enrolments.
    #[arg(long)]
    allow_shrink: bool,
    /// A column to pass over; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    ignore: Vec<String>,
    /// How many cards of each kind of change are shown.
    #[arg(long, value_name = "CARDS", default_value_t = 20)]
    show: usize,
    #[command(flatten)]
    zone: ZoneArg,
}

#[derive(Debug, clap::Args)]
pub(super) struct ZoneArg {
    /// Where dates without an offset are meant.
    #[arg(long, value_name = "ZONE", default_value = "Asia/Shanghai", value_parser = timezone)]
    timezone: TimeZone,
}

fn timezone(name: &str) -> Result<TimeZone, String> {
    let found = crate::access::schedule::timezone(name).map(|(_, zone)| zone);
    found.ok_or_else(|| format!("`{name}` is no time zone; write one like `Asia/Shanghai`"))
}

pub(super) fn load(args: &Args, load: &LoadArgs) -> Ended {
    let reading = Reading { timezone: load.zone.timezone.clone(), ignored: load.ignore.clone() };
    let named = |wrong: &dyn std::fmt::Display| failed(format!("`{}`: {wrong}", load.file.display()));
    let bytes = read(&load.file, sheet::BYTES_MAX).map_err(|error| named(&error))?;
    let sheet = sheet::read(&bytes, &reading).map_err(|faults| named(&faults))?;
    let what =
        format!("`{}`: {}, {}", load.file.display(), counted(sheet.enrolments.len(), "card"), sheet.encoding.as_str());
    if load.dry_run {
        return dry_run(args, load, &what, &sheet.enrolments);
    }
    publish(args, load, &what, sheet.enrolments)
}

/// What a list would change; in a directory without a link to the broker.
fn dry_run(args: &Args, load: &LoadArgs, what: &str, list: &Enrolments) -> Ended {
    let plan = if link::is_at_service(args) {
        let (Client { runtime, target, .. }, gateway) = link::start(args, Attention::Answers)?;
        runtime.block_on(target.plan(&gateway, list))
    } else {
        let gateway = link::one_gateway(args)?;
        in_directory(args, &gateway).and_then(|mut c| Ok(c.plan(Some(&gateway), list, Clock::system().now().wall)?))
    };
    let plan = plan.map_err(failed)?;
    let exit = print_line(format!("{what}\n{}", table(&plan, load.show)));
    refusal(&plan, load.allow_shrink).map_or(Ok(exit), |refusal| Err(failed(refusal)))
}

fn in_directory(args: &Args, gateway: &GatewayId) -> Result<Center, Failure> {
    Ok(Center::open(&args.dir, std::slice::from_ref(gateway))?)
}

fn publish(args: &Args, load: &LoadArgs, what: &str, list: Enrolments) -> Ended {
    let (Client { runtime, target, .. }, gateway) = link::start(args, Attention::Answers)?;
    let wait = args.link.wait_or(LIST_WAIT_S);
    runtime.block_on(async {
        let plan = target.plan(&gateway, &list).await.map_err(failed)?;
        if print_line(format!("{what}\n{}", table(&plan, load.show))) == Exit::Failed {
            return Err(Exit::Failed);
        }
        if plan.changes.is_empty() {
            return Ok(print_line("everything is unchanged; nothing was sent"));
        }
        if let Some(refusal) = refusal(&plan, load.allow_shrink) {
            return Err(failed(refusal));
        }
        let mut progress = Progress::new(format!("`{gateway}`: messages sent"));
        let sent = |done, all| progress.show(done, all);
        let answers = target.load(&gateway, list, load.allow_shrink, wait, sent).await;
        progress.end();
        target.close().await;
        Ok(send::report(&answers.map_err(failed)?, Some(&gateway), wait))
    })
}

/// Why a list is not published.
fn refusal(plan: &Plan, allow_shrink: bool) -> Option<String> {
    let shrink = plan.shrink();
    (shrink.is_too_much() && !allow_shrink).then(|| CenterError::Shrinks(shrink).to_string())
}

/// What a list would change: how many cards, and the first `most` of each kind of change.
fn table(plan: &Plan, most: usize) -> String {
    let kinds = [
        ("unchanged", plan.unchanged),
        ("updated", plan.updated()),
        ("added", plan.added()),
        ("withdrawn", plan.withdrawn()),
    ];
    let mut lines: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind:<10} {count:>7}")).collect();
    // What is taken away comes first.
    for kind in ["withdrawn", "updated", "added"] {
        let changes = plan.changes.iter().filter(|(_, change)| name(change) == kind);
        lines.extend(changes.clone().take(most).map(|(uid, change)| row(*uid, change)));
        let more = changes.count().saturating_sub(most);
        if more > 0 {
            lines.push(format!("{kind:<10} and {more} more; `--show {}` shows them", most + more));
        }
    }
    lines.join("\n")
}

fn name(change: &CardChange) -> &'static str {
    match change {
        CardChange::Added(_) => "added",
        CardChange::Updated { .. } => "updated",
        CardChange::Withdrawn(_) => "withdrawn",
    }
}

/// `updated    1EA68671  door:412 -> door:413`
fn row(uid: CardUid, change: &CardChange) -> String {
    let what = match change {
        CardChange::Added(enrolment) | CardChange::Withdrawn(enrolment) => words(enrolment).join(" "),
        CardChange::Updated { from, to } => {
            let (from, to) = (words(from), words(to));
            let only = |one: &[String], other: &[String]| {
                let words: Vec<&str> = one.iter().filter(|word| !other.contains(word)).map(String::as_str).collect();
                if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
            };
            format!("{} -> {}", only(&from, &to), only(&to, &from))
        }
    };
    format!("{:<10} {:<20} {what}", name(change), uid.to_string())
}

/// What an enrolment consists of.
fn words(enrolment: &Enrolment) -> Vec<String> {
    let mut words = vec![enrolment.holder.to_string(), enrolment.role.as_str().to_owned()];
    words.extend(enrolment.marks.iter().map(|mark| mark.as_str().to_owned()));
    let mut entitlements = enrolment.entitlements.clone();
    entitlements.sort_unstable();
    words.extend(entitlements.iter().map(cell::print_entitlement));
    words.extend(enrolment.not_before.map(|at| format!("from {at}")));
    words.extend(enrolment.not_after.map(|at| format!("until {at}")));
    words
}

pub(super) fn export(args: &Args, zone: &ZoneArg) -> Ended {
    let enrolled = if link::is_at_service(args) {
        let (Client { runtime, target, .. }, gateway) = link::start(args, Attention::Answers)?;
        runtime.block_on(target.whole_list(&gateway)).map(|list| enrolments_of(&list))
    } else {
        let gateway = link::one_gateway(args)?;
        in_directory(args, &gateway).and_then(|mut c| Ok(c.enrolments(Some(&gateway))?))
    };
    Ok(print_line(sheet::write(&enrolled.map_err(failed)?, &zone.timezone).trim_end()))
}
