//! Publishing a message and waiting for its acknowledgement.

use std::path::Path;
use std::time::Duration;

use super::super::{Exit, misused, print_line};
use super::link::{self, Client};
use super::{Args, Ended, failed, ops, print, read};
use crate::access::effect::Outcome;
use crate::access::event::ReplyStatus;
use crate::access::id::GatewayId;
use crate::center::{Answered, Attention, Draft};
use crate::wire::limits::MESSAGE_BYTES_MAX;

pub(super) fn op(args: &Args, op: &ops::Op) -> Ended {
    send(args, Draft::Ops(vec![op.change().map_err(misused)?]))
}

pub(super) fn file(args: &Args, path: &Path) -> Ended {
    let drafted = read(path, MESSAGE_BYTES_MAX).map_err(|e| e.to_string()).and_then(|bytes| Draft::parse(&bytes));
    send(args, drafted.map_err(|wrong| failed(format!("`{}`: {wrong}", path.display())))?)
}

fn send(args: &Args, draft: Draft) -> Ended {
    let (Client { runtime, target, .. }, gateway) = link::start_change(args)?;
    let wait = args.link.wait();
    let answers = runtime.block_on(async {
        let answers = match draft {
            Draft::Ops(ops) => target.publish(gateway.as_ref(), ops, wait).await,
            Draft::Claims(claims) => target.write(gateway.as_ref(), claims, wait).await,
        };
        target.close().await;
        answers
    });
    let answers = answers.map_err(failed)?;
    if answers.is_empty() {
        return Err(failed("sent; it has no readable number, so its answer cannot be recognised: see `center watch`"));
    }
    Ok(report(&answers, gateway.as_ref(), wait))
}

/// What became of messages, a line each. A line begins with its gateway where that is not the one of `--gateway`.
pub(super) fn report(answers: &[Answered], named: Option<&GatewayId>, wait: Duration) -> Exit {
    answers.iter().fold(Exit::Done, |exit, one| {
        let name = if named == Some(&one.gateway) { String::new() } else { format!("{:<16} ", one.gateway.as_str()) };
        match report_one(one, &name, wait) {
            Exit::Done | Exit::Closed => exit,
            other => other,
        }
    })
}

fn report_one(one: &Answered, name: &str, wait: Duration) -> Exit {
    let line = format!("{name}{}", print::answered(one, wait.as_secs()));
    match &one.ack {
        // The ack is of another message.
        Some(_) | None if one.is_ignored => failed(line),
        Some((ack, _)) if matches!(ack.outcome, Outcome::Applied | Outcome::Duplicate) => print_line(line),
        Some(_) => {
            print_line(line);
            Exit::Failed
        }
        None => failed(line),
    }
}

pub(super) fn command(args: &Args, order: &ops::Order) -> Ended {
    let (Client { runtime, target, .. }, gateway) = link::start(args, Attention::Answers)?;
    let wait = args.link.wait();
    let (kind, actor) = order.command();
    let reply = runtime.block_on(async {
        let reply = target.command(&gateway, &kind, actor, wait).await;
        target.close().await;
        reply
    });
    let Some(reply) = reply.map_err(failed)? else {
        let why = "the gateway or the broker is not there; a command is never sent late";
        return Err(failed(format!("no reply from `{gateway}` in {} s: {why}", wait.as_secs())));
    };
    match (print_line(print::reply(&reply)), reply.status) {
        (Exit::Done | Exit::Closed, ReplyStatus::Ok) => Ok(Exit::Done),
        (_, _) => Err(Exit::Failed),
    }
}
