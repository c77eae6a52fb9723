//! `dormgate query`, `where`, `roll-call`, `may`, `status`, `posture`, `fire reset`, `forgive`, `stream forget` and `clock trust`:
//! questions and commands to a running gateway through its socket.

use super::{ConfigArg, Ended, Exit, bad_config, failed, misused, print_line};
use crate::access::portal::Posture;
use crate::config;
use crate::http::{SOCKET_NAME, client};
use crate::profile::diagnostic::hint;

/// Which gateway is asked, and how its answer is printed.
#[derive(Debug, clap::Args)]
struct AnswerArgs {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArg,
}

/// Print what would be decided for a card, and why; opens nothing.
#[derive(Debug, clap::Args)]
pub(super) struct QueryArgs {
    /// The card's UID, e.g. `1EA68671` or `1E:A6:86:71`.
    uid: String,
    /// At this portal only.
    portal: Option<String>,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Print where a card, or each card of a holder, was last seen: its passages through the gates, and the power boxes that it is in.
///
/// Needs no network. `taken`: the gate reported that somebody passed; `granted`: it was released; `doubtful`: the gate was open, or
/// events are missing. A card is not a person: it can be lent.
#[derive(Debug, clap::Args)]
pub(super) struct WhereArgs {
    /// A card's UID, or a holder.
    who: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Print who is inside now, one line a holder, and how certain that is: for a roll-call after a fire alarm.
///
/// Whoever entered last, or has a card in a power box, counts as inside. A card in a box of somebody who was last seen on the way out
/// is `doubtful`; such a list names one too many rather than one too few.
#[derive(Debug, clap::Args)]
pub(super) struct RollCallArgs {
    /// Only inside the area of the gates of this zone; without it the whole building.
    zone: Option<String>,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Print the cards that would be granted at a portal now.
#[derive(Debug, clap::Args)]
pub(super) struct MayArgs {
    /// The portal.
    portal: String,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Print the state of a running gateway: cards, portals, streams, clock, meters.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    answer: AnswerArgs,
}

/// Set a standing mode on the box: `secure`, `free_access`, `lockdown`, `out_of_service` or `fire`.
///
/// It stays until another is set, also across a restart. A `fire` set here is not a fire input: it ends with the next posture,
/// not with `fire reset`.
#[derive(Debug, clap::Args)]
pub(super) struct PostureArgs {
    /// The portals, or `*` for all; then the posture.
    #[arg(required = true, num_args = 2.., value_name = "PORTAL… POSTURE")]
    words: Vec<String>,
    #[command(flatten)]
    config: ConfigArg,
}

/// End the fire latch, once every fire input is clear.
#[derive(Debug, clap::Args)]
pub(super) struct FireArgs {
    #[command(subcommand)]
    command: FireCommand,
}

#[derive(Debug, clap::Subcommand)]
enum FireCommand {
    /// End the fire latch, once every fire input is clear.
    Reset {
        /// Ignore fire inputs whose portal is offline or no longer configured. Inspect these portals first.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Commands about the stream of a center.
#[derive(Debug, clap::Args)]
pub(super) struct StreamArgs {
    #[command(subcommand)]
    command: StreamCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StreamCommand {
    /// Forget how far a stream was received, after its keys were changed or its center lost its sequence numbers.
    ///
    /// What is known about cards stays. The gateway asks the center for everything again and accepts the numbers it then receives.
    Forget {
        /// The stream's name in the configuration.
        name: String,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Forget where a card is, or where all are: its next passage is not compared with its last one (anti-passback).
#[derive(Debug, clap::Args)]
pub(super) struct ForgiveArgs {
    /// The card's UID, or `*` for all cards.
    uid: String,
    #[command(flatten)]
    config: ConfigArg,
}

/// Commands about the wall clock of the box.
#[derive(Debug, clap::Args)]
pub(super) struct ClockArgs {
    #[command(subcommand)]
    command: ClockCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ClockCommand {
    /// Trust the time that the box shows now, also if it showed a later time before. Recorded in the audit.
    Trust(ConfigArg),
}

pub(super) fn query(args: &QueryArgs) -> Ended {
    let target = client::query_target(&args.uid, args.portal.as_deref());
    get(&args.answer, &target, client::query_text)
}

pub(super) fn whereabouts(args: &WhereArgs) -> Ended {
    get(&args.answer, &format!("/api/v1/where?who={}", client::encode(&args.who)), client::where_text)
}

pub(super) fn roll_call(args: &RollCallArgs) -> Ended {
    let zone = args.zone.as_ref().map_or(String::new(), |zone| format!("?zone={}", client::encode(zone)));
    get(&args.answer, &format!("/api/v1/roll-call{zone}"), client::roll_call_text)
}

pub(super) fn may(args: &MayArgs) -> Ended {
    get(&args.answer, &format!("/api/v1/may?portal={}", client::encode(&args.portal)), client::may_text)
}

pub(super) fn status(args: &StatusArgs) -> Ended {
    get(&args.answer, "/api/v1/status", client::status_text)
}

pub(super) fn posture(args: &PostureArgs) -> Ended {
    let Some((posture, portals)) = args.words.split_last() else { return Err(Exit::Usage) };
    if Posture::parse(posture).is_none() {
        let hint = hint(posture, Posture::ALL.iter().map(|known| known.as_str()));
        return Err(misused(format!("`{posture}` is not a posture; {hint}")));
    }
    let portals = client::encode(&portals.join(","));
    let target = format!("/api/v1/posture?portals={portals}&posture={}", client::encode(posture));
    ask(&args.config, "POST", &target, |_| format!("{posture} is set"))
}

pub(super) fn fire(args: &FireArgs) -> Ended {
    let FireCommand::Reset { force, config } = &args.command;
    ask(config, "POST", &format!("/api/v1/fire/reset?force={force}"), |_| "the fire latch is reset".to_owned())
}

pub(super) fn stream(args: &StreamArgs) -> Ended {
    let StreamCommand::Forget { name, config } = &args.command;
    let target = format!("/api/v1/stream/forget?stream={}", client::encode(name));
    ask(config, "POST", &target, |_| {
        format!("the sequence numbers of `{name}` are forgotten; the center is asked for everything")
    })
}

pub(super) fn forgive(args: &ForgiveArgs) -> Ended {
    let target = format!("/api/v1/forgive?uid={}", client::encode(&args.uid));
    ask(&args.config, "POST", &target, |_| format!("where {} is does not count any more", args.uid))
}

pub(super) fn clock(args: &ClockArgs) -> Ended {
    let ClockCommand::Trust(config) = &args.command;
    let text = |answer: &client::Answer| {
        format!("the clock is trusted: it is {}", answer.get("at").and_then(|at| at.as_str()).unwrap_or("?"))
    };
    ask(config, "POST", "/api/v1/clock/trust", text)
}

fn get(args: &AnswerArgs, target: &str, text: impl FnOnce(&client::Answer) -> String) -> Ended {
    ask(&args.config, "GET", target, |answer| if args.json { answer.to_string() } else { text(answer) })
}

pub(super) fn ask(
    config: &ConfigArg,
    method: &str,
    target: &str,
    text: impl FnOnce(&client::Answer) -> String,
) -> Ended {
    let dir = config::data_dir(&config.config).map_err(bad_config)?;
    let answer = client::ask(&dir.join(SOCKET_NAME), method, target).map_err(failed)?;
    Ok(print_line(text(&answer)))
}
