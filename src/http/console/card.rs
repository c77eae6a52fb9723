//! `GET /api/v1/card`: what would be decided for a card that a person types or pastes as some reader printed it, at every portal, and
//! why.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::Caller;
use super::{Shared, asked, wrong};
use crate::access::decision::Reason;
use crate::access::effect::{QueryResult, Verdict};
use crate::access::event::Outcome;
use crate::access::id::{CardUid, PortalId};
use crate::access::uid_text::{self, Spelling};
use crate::gateway::ports::Ask;
use crate::http::api::{ask, body, refuse};
use crate::http::dates;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFor {
    /// What the person typed.
    text: String,
    /// Where; with each step of the decision.
    portal: Option<String>,
}

/// `{"uid":"1EA68671","spelling":"hex","known":true,"others":[…],"verdicts":[…],"revocations":[…]}`. Of the UIDs that the text may
/// name, the first that is in the list; `others` are the rest.
pub(super) async fn card(State(console): State<Shared>, Extension(caller): Extension<Caller>, uri: Uri) -> Response {
    match answer(&console, &caller, &uri).await {
        Ok(answer) => body(&answer),
        Err(refused) => refused,
    }
}

/// One UID that a text may name.
struct Read {
    uid: CardUid,
    spelling: Spelling,
    /// The list has it.
    known: bool,
    result: QueryResult,
}

/// The UIDs that a text may name: first the one that is meant, then the others.
async fn read(console: &Shared, text: &str, portal: Option<&PortalId>) -> Result<(Read, Vec<Read>), Response> {
    let mut read: Vec<Read> = Vec::new();
    for (uid, spelling) in uid_text::spellings(text) {
        let portal = portal.cloned();
        let result = ask(&console.pages, |answer| Ask::Query { uid, portal, answer }).await?;
        let result = result.map_err(|why| refuse(StatusCode::NOT_FOUND, why))?;
        // Where no portal is configured no verdict shows it.
        let known = match result.verdicts.is_empty() {
            true => ask(&console.pages, |answer| Ask::IsKnown { uid, answer }).await?,
            false => !result.verdicts.iter().any(is_unknown),
        };
        read.push(Read { uid, spelling, known, result });
    }
    if read.is_empty() {
        return Err(no_card(text));
    }
    // A reader that reverses the bytes, or prints a number, names a card that is in the list by a UID that is not.
    let chosen = read.iter().position(|read| read.known && !is_random(&read.result)).unwrap_or(0);
    Ok((read.remove(chosen), read))
}

fn no_card(text: &str) -> Response {
    let why = text.parse::<CardUid>().err().map_or(String::new(), |error| error.to_string());
    let hint = uid_text::hint(text.trim()).unwrap_or_default();
    let text: String = text.chars().take(40).collect();
    wrong(format!("`{text}` is not a card UID: {why}{hint}"))
}

/// The card that a person names in an order or a filter, in every spelling of the page of a card. Other than in hex only a card of the
/// list is named, and no text names two of them.
pub(super) async fn named(console: &Shared, text: &str) -> Result<CardUid, Response> {
    let (first, others) = read(console, text, None).await?;
    if first.spelling == Spelling::Hex {
        return Ok(first.uid);
    }
    if !first.known {
        return Err(no_card(text));
    }
    if others.iter().any(|other| other.known) {
        let text: String = text.chars().take(40).collect();
        return Err(wrong(format!("`{text}` may be several cards of the list; look it up, and give the UID in hex")));
    }
    Ok(first.uid)
}

async fn answer(console: &Shared, caller: &Caller, uri: &Uri) -> Result<Value, Response> {
    let CardFor { text, portal } = asked::<CardFor>(uri).map_err(wrong)?;
    let portal = portal.map(|portal| portal.parse::<PortalId>()).transpose();
    let portal = portal.map_err(|error| wrong(format!("`portal`: {error}")))?;
    let (Read { uid, spelling, known, result }, others) = read(console, &text, portal.as_ref()).await?;
    // The audit is looked through for the times of the changes.
    let turn = console.turns.acquire().await;
    let result = dates::date(console.pages.audit.clone(), result).await;
    drop(turn);
    let other = |Read { uid, spelling, known, .. }: &Read| json!({ "uid": uid, "spelling": spelling, "known": known });
    let others: Vec<_> = others.iter().map(other).collect();
    let mut answer = json!({ "uid": uid, "spelling": spelling, "known": known, "others": others });
    if let (Some(fields), Ok(Value::Object(mut result))) = (answer.as_object_mut(), serde_json::to_value(result)) {
        if !caller.sees_uids() {
            result.values_mut().for_each(without_duress);
        }
        fields.extend(result);
    }
    Ok(answer)
}

/// Whether the list does not have the card, whatever this portal does with it: out of a gate everybody goes, and a lockdown denies it
/// before the list does.
fn is_unknown(verdict: &Verdict) -> bool {
    let unknown = Reason::UnknownCredential;
    verdict.outcome == Outcome::Deny(unknown) || verdict.also.contains(&unknown)
}

/// A UID that no list can have.
fn is_random(result: &QueryResult) -> bool {
    let never = [Outcome::Deny(Reason::RandomIdentifier), Outcome::Deny(Reason::MalformedIdentifier)];
    result.verdicts.iter().any(|verdict| never.contains(&verdict.outcome))
}

/// Whoever looks over a shoulder must not learn that a card is marked as one that is presented under duress.
fn without_duress(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_duress),
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(fact) if key == "fact" => *fact = fact.replace(", duress", ""),
                    other => without_duress(other),
                }
            }
        }
        _ => {}
    }
}
