//! `dormgate audit verify`: whether the audit on disk is whole, and what the offices sent is what they signed.

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::VerifyingKey;

use super::{ConfigArg, Ended, Exit, bad_config, failed, print_error, print_line};
use crate::access::id::StreamName;
use crate::config;
use crate::store::{Front, StoreKey, Verified, verify_signed};
use crate::wire::keys::parse_public;
use crate::wire::signed::{Proof, StreamKeys, prove};

/// Losses that `verify` prints one by one.
const LOSSES_PRINTED_MAX: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// A public key that a stream signed with before its key was changed; may be given several times.
    #[arg(long = "former-key", value_name = "STREAM=KEY", value_parser = former_key)]
    former_keys: Vec<(StreamName, VerifyingKey)>,
    #[command(flatten)]
    pub config: ConfigArg,
}

fn former_key(text: &str) -> Result<(StreamName, VerifyingKey), String> {
    let (stream, key) = text.split_once('=').ok_or("a stream and its key are wanted, as `card-office=…`")?;
    Ok((stream.parse().map_err(|error| format!("{error}"))?, parse_public(key).map_err(|error| error.to_string())?))
}

/// What the messages beside the events are.
#[derive(Debug, Default)]
struct Messages {
    verified: u64,
    /// Streams of which no key is known, with how many there are of each.
    no_key: BTreeMap<String, u64>,
}

pub(super) fn run(dir: &Path, args: &VerifyArgs) -> Ended {
    let path = &args.config.config;
    let key = config::store_key(path).map_err(bad_config)?;
    let mut keys: StreamKeys = config::stream_keys(path).map_err(bad_config)?;
    for (stream, key) in &args.former_keys {
        keys.entry(stream.to_string()).or_default().push(*key);
    }
    let key = key.and_then(|key| StoreKey::new(key.expose().as_bytes()));
    let mut messages = Messages::default();
    let found = verify_signed(dir, key.as_ref(), &mut |event, evidence| match prove(event, evidence, &keys) {
        Some(Proof::Wrong(why)) => Err(why),
        Some(Proof::NoKey(stream)) => {
            *messages.no_key.entry(stream).or_default() += 1;
            Ok(())
        }
        Some(Proof::Verified) => {
            messages.verified += 1;
            Ok(())
        }
        None => Ok(()),
    });
    let unreadable = |error| failed(format!("the journal in `{}` cannot be read: {error}", dir.display()));
    Ok(report(&found.map_err(unreadable)?, &messages))
}

fn report(found: &Verified, messages: &Messages) -> Exit {
    let (mut summary, faults) = findings(found);
    if messages.verified > 0 {
        summary += &format!("; {} messages of centers, their signatures verified", messages.verified);
    }
    let reported = print_line(summary);
    for (stream, count) in &messages.no_key {
        print_error(format!("{count} messages of stream `{stream}` are not verified: no key of it is configured"));
    }
    faults.iter().for_each(print_error);
    if found.broken.is_some() || found.unsigned.is_some() { Exit::Failed } else { reported }
}

/// What was found of the audit: a summary, and a line for each loss and for what is broken.
pub(super) fn findings(found: &Verified) -> (String, Vec<String>) {
    let erased = if found.erased > 0 { format!("; {} of them erased", found.erased) } else { String::new() };
    let front = match found.front {
        Front::Unmarked => {
            "; no mark names what retention removed before the first: the next start makes it".to_owned()
        }
        Front::Marked { through: 0, .. } => String::new(),
        Front::Marked { through, unexplained: 0 } => format!("; retention removed those up to {through}"),
        Front::Marked { through, unexplained } => format!(
            "; retention removed those up to {through}, but nothing records why those up to {unexplained} are gone: there was no mark of it"
        ),
    };
    let summary = format!("{} events, {} to {}{erased}{front}", found.events, found.first, found.last);
    let losses = found.explained.iter().take(LOSSES_PRINTED_MAX);
    let losses = losses.map(|(from, to)| format!("events {from} to {to} are lost, as a `log_gap` reports"));
    let more = found.explained.len().checked_sub(LOSSES_PRINTED_MAX).filter(|more| *more > 0);
    let more = more.map(|more| format!("and {more} more ranges are lost, as a `log_gap` reports"));
    let restored = found.restored.map(|(from, to)| {
        format!(
            "events {from} to {to} are not in the backup that was restored; the next start records it in a `log_gap`"
        )
    });
    let broken = found.broken.as_ref().map(|broken| {
        format!("broken at event {}, `{}` byte {}: {}", broken.n, broken.file, broken.offset, broken.why)
    });
    let unsigned = found
        .unsigned
        .as_ref()
        .map(|found| format!("not signed: event {}, `{}` byte {}: {}", found.n, found.file, found.offset, found.why));
    (summary, losses.chain(more).chain(restored).chain(broken).chain(unsigned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Break;

    #[test]
    fn what_is_broken_and_what_is_not_signed_are_both_printed_and_either_fails() {
        let at = |n| Some(Break { n, file: "journal/durable".to_owned(), offset: 7, why: format!("why {n}") });
        for (broken, unsigned, expected) in [
            (None, None, vec![]),
            (at(9), None, vec!["broken at event 9, `journal/durable` byte 7: why 9"]),
            (None, at(3), vec!["not signed: event 3, `journal/durable` byte 7: why 3"]),
            (
                at(9),
                at(3),
                vec![
                    "broken at event 9, `journal/durable` byte 7: why 9",
                    "not signed: event 3, `journal/durable` byte 7: why 3",
                ],
            ),
        ] {
            let found = Verified { broken, unsigned, ..Verified::default() };
            assert_eq!(findings(&found).1, expected);
            let ended = report(&found, &Messages::default());
            assert_eq!(matches!(ended, Exit::Failed), !expected.is_empty(), "{expected:?}");
        }
    }
}
