//! Orders of an operator on the box. Those given at the console name who gave them, and each is in the audit with that name,
//! whether it was carried out or not.

use super::super::change::ErrorCode;
use super::super::effect::Effect;
use super::super::event::{Event, Flush, ForgivenBy, Mark, ReplyStatus};
use super::super::id::{CardSet, Now, PortalId};
use super::super::operator::{Actor, Operator};
use super::Engine;
use super::commands::{Done, unknown_portal};

impl Engine {
    /// Carries out an order, and records it with the name of who gave it, where that is known.
    pub(super) fn ordered(&mut self, command: &Operator, actor: Option<&Actor>, now: Now) {
        let done = self.operate(command, actor, now);
        // An acknowledgement has the name in an event of its own.
        let is_recorded = matches!(command, Operator::Acknowledge { .. }) && done.status == ReplyStatus::Ok;
        if let Some(actor) = actor.filter(|_| !is_recorded) {
            let error = done.error.as_ref().map_or(String::new(), |error| format!(": {}", error.message));
            let detail = format!("{} by {actor} at the console{error}", words(command));
            let portal = portal_of(command).filter(|id| self.portal(id.as_str()).is_some());
            // Whoever gave it waits for the event; a refusal leaves nothing to wait for.
            let flush = if done.error.is_none() { Flush::Now } else { Flush::Soon };
            self.record(Event::Command { portal, status: done.status, taken: None, detail }, flush, now);
        }
        // Also one that changes nothing waits: what it finds done may not be on disk yet.
        self.out.push(Effect::Ordered { after: self.last_flushed_now, refused: done.error });
    }

    fn operate(&mut self, command: &Operator, actor: Option<&Actor>, now: Now) -> Done {
        match command {
            Operator::Release { portal } => return self.release(portal, now),
            Operator::Power { portal, on } => return self.power(portal, *on, now),
            Operator::Acknowledge { from, to } => return self.acknowledge((*from, *to), actor, now),
            Operator::Posture { portals, posture } => {
                if let Some(unknown) = portals.iter().find(|id| self.portal(id.as_str()).is_none()) {
                    return unknown_portal(unknown);
                }
                self.operator_posture(portals, *posture, now);
            }
            Operator::FireReset { force } => {
                if let Some(why) = self.fire_reset_refusal(*force) {
                    return Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, why);
                }
                self.fire_reset(*force, now);
            }
            Operator::StreamForget { stream } => {
                if !self.has_stream(stream) {
                    let why = format!("no stream `{stream}` is configured; `dormgate status` names them");
                    return Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownStream, why);
                }
                self.forget_stream(stream, now);
            }
            Operator::Forgive { cards } => self.forgive(*cards, ForgivenBy::Operator, now),
            Operator::Erase { holder, detail } => {
                let mark = Mark::PassagesErased(holder.clone());
                self.record(Event::Config { mark, detail: detail.clone() }, Flush::Now, now);
            }
            Operator::Note { detail } => {
                self.record(Event::Config { mark: Mark::Note, detail: detail.clone() }, Flush::Now, now);
            }
        }
        Done::ok()
    }

    /// Somebody has seen to the alarms of these events: nothing but the record follows from it.
    fn acknowledge(&mut self, (from, to): (u64, u64), actor: Option<&Actor>, now: Now) -> Done {
        if from == 0 || from > to || to > self.state.last_n {
            let why = format!("`from` {from} and `to` {to}: numbers of events are wanted, 1 to {}", self.state.last_n);
            return Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, why);
        }
        let by = actor.map_or("an operator".to_owned(), |actor| format!("{actor} at the console"));
        let detail = if from == to { format!("alarm {from}") } else { format!("alarms {from} to {to}") };
        let detail = format!("{detail} acknowledged by {by}");
        self.record(Event::Config { mark: Mark::AlarmsAcknowledged { from, to }, detail }, Flush::Now, now);
        Done::ok()
    }
}

/// The one portal that an order is about.
fn portal_of(command: &Operator) -> Option<PortalId> {
    match command {
        Operator::Release { portal } | Operator::Power { portal, .. } => Some(portal.clone()),
        Operator::Posture { portals, .. } => match portals.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// An order for a person.
fn words(command: &Operator) -> String {
    match command {
        Operator::Release { .. } => "release".to_owned(),
        Operator::Power { on, .. } => format!("power {}", if *on { "on" } else { "off" }),
        Operator::Posture { portals, posture } => {
            let names = portals.iter().map(PortalId::as_str).collect::<Vec<_>>().join(", ");
            format!("posture {} at {}", posture.as_str(), if names.is_empty() { "every portal" } else { &names })
        }
        Operator::FireReset { force: false } => "fire reset".to_owned(),
        Operator::FireReset { force: true } => "fire reset --force".to_owned(),
        Operator::StreamForget { stream } => format!("stream forget {stream}"),
        Operator::Forgive { cards: CardSet::All } => "forgive all cards".to_owned(),
        Operator::Forgive { cards: CardSet::One(uid) } => format!("forgive {}", uid.masked()),
        Operator::Acknowledge { from, to } => format!("acknowledge {from} to {to}"),
        Operator::Erase { .. } => "erase the events of a holder".to_owned(),
        Operator::Note { .. } => "note".to_owned(),
    }
}
