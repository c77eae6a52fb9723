//! An audit event as one line for a person.

use crate::access::credential::Role;
use crate::access::event::{AuditEvent, Event, Forgiveness, Mark};
use crate::access::input::CardSet;

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
        Event::Decision { role, outcome, also, flags, .. } => {
            words.extend((*role != Role::Resident).then(|| role.as_str().to_owned()));
            words.push(outcome.to_string());
            words.extend(also.iter().map(|reason| format!("also:{}", reason.as_str())));
            words.extend(flags.iter().map(|flag| format!("flag:{}", flag.as_str())));
        }
        Event::Taken { direction, .. } => words.push(direction.as_str().to_owned()),
        Event::PowerTrip { reason, stays_off, ended, .. } => {
            words.push(reason.as_str().to_owned());
            words.extend(
                [(*stays_off, "stays_off"), (*ended, "ended")]
                    .into_iter()
                    .filter(|(is, _)| *is)
                    .map(|(_, w)| w.to_owned()),
            );
        }
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
        Event::Config { mark: Mark::Forgiven(Forgiveness { cards, portals, by }), .. } => {
            words.push(if *cards == CardSet::All { "every card forgiven" } else { "forgiven" }.to_owned());
            if !portals.is_empty() {
                words
                    .push(format!("at {}", portals.iter().map(|portal| portal.as_str()).collect::<Vec<_>>().join(" ")));
            }
            words.push(format!("by {}", by.as_str()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::event::ForgivenBy;
    use crate::access::id::{ClockTrust, Mono, Now, Timestamp};

    #[test]
    fn who_is_forgiven_by_whom_is_in_the_line() {
        let line = |cards, portals: &[&str], by| {
            let portals = portals.iter().map(|portal| portal.parse().unwrap()).collect();
            let body =
                Event::Config { mark: Mark::Forgiven(Forgiveness { cards, portals, by }), detail: String::new() };
            let now = Now { wall: Timestamp(0), mono: Mono(0), clock: ClockTrust::Trusted };
            event_line(&AuditEvent::new(1, "b", now, body)).split(" config ").nth(1).unwrap().to_owned()
        };
        let card = CardSet::One("1EA68671".parse().unwrap());
        assert_eq!(line(card, &[], ForgivenBy::Operator), "1EA68671 forgiven by operator");
        assert_eq!(
            line(CardSet::All, &["gate-in"], ForgivenBy::HeldOpen),
            "every card forgiven at gate-in by held_open"
        );
    }
}
