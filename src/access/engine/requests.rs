//! A card is presented: one decision, one answer, one audit event.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::super::decide::{Question, decide, identify};
use super::super::decision::{Decision, Denial, Grant};
use super::super::effect::PortalOrder;
use super::super::event::{Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::input::{Presented, Request};
use super::super::portal::{Direction, Portal, PortalKind};
use super::Engine;

/// How long an answer is remembered for a repeated request, in milliseconds (wire contract, section 4).
pub const ANSWER_MEMORY_MS: u64 = 60_000;
/// Answers remembered at once; the oldest is forgotten beyond it, and a repeat is then a new request.
pub const ANSWERS_MAX: usize = 16_384;

/// What a repeated request is known by: the portal's own number, or within the debounce time the card alone.
/// `None` for the card: something that is not one.
type Key = (PortalId, Option<String>, Option<CardUid>);

/// Answers given in the last minute. A grant is never repeated from here: it is judged again.
#[derive(Debug, Default)]
pub(super) struct Answers {
    given: HashMap<Key, (Mono, Option<Denial>), RandomState>,
    order: VecDeque<(Mono, Key)>,
}

impl Answers {
    /// The answer given to `key` within `memory_ms`: `Some(None)` was a grant.
    fn find(&self, key: &Key, memory_ms: u64, now: Mono) -> Option<Option<Denial>> {
        self.given.get(key).filter(|(at, _)| now.since_ms(*at) < memory_ms).map(|(_, answer)| *answer)
    }

    fn remember(&mut self, key: Key, denial: Option<Denial>, now: Mono) {
        while let Some((at, old)) = self.order.front() {
            if self.order.len() < ANSWERS_MAX && now.since_ms(*at) < ANSWER_MEMORY_MS {
                break;
            }
            // A key that was remembered again later has a later entry of its own.
            if self.given.get(old).is_some_and(|(given, _)| given == at) {
                self.given.remove(old);
            }
            self.order.pop_front();
        }
        self.order.push_back((now, key.clone()));
        self.given.insert(key, (now, denial));
    }
}

impl Engine {
    pub(super) fn request(&mut self, request: &Request, now: Now) {
        let Some(portal) = self.portal(&request.portal) else {
            return self.request_unknown_portal(request, now);
        };
        let question = Question {
            portal: Some(portal),
            presented: &request.presented,
            direction: request.direction,
            stale: request.stale,
        };
        let decision = decide(&self.facts(self.posture(portal, now), now), &question);
        let card = identify(&self.state.list, &request.presented).card();
        let kind = portal.kind;
        let id = portal.id.clone();
        let hold_ms = portal.hold_ms;
        let way = portal.direction.or(request.direction);
        let keys = self.keys(request, card, way, portal);
        if let Some(repeated) = self.repeated(&keys, request, kind, &decision, now) {
            if let (PortalKind::Gate | PortalKind::Door, Decision::Grant(_)) = (kind, &repeated) {
                self.released_again(&id, card, hold_ms, now);
            }
            self.answer(request, repeated, now);
            return;
        }
        let detail = match &request.presented {
            Presented::Card(_) => String::new(),
            Presented::Lossy(reading) => self.describe_reading(*reading),
            Presented::Malformed(text) => format!("presented `{text}`"),
        };
        let event = self.decision_event(Some(&id), card, &decision, detail);
        let mut against = decision.also();
        let denial = match &decision {
            Decision::Grant(_) => None,
            Decision::Deny(denial) => Some(*denial),
        };
        denial.iter().for_each(|d| against.add(d.reason));
        let is_there = !request.stale && !self.reports_return(&id);
        if is_there {
            // Before the answer, so that it cannot cut the answer's opening short.
            self.send_mode_if_back(&id, now);
        }
        self.answer(request, decision, now);
        self.record(event, Flush::Soon, now);
        for (key, _) in keys.into_iter().flatten() {
            self.answers.remember(key, denial, now.mono);
        }
        if let (PortalKind::PowerBox, Some(uid), false) = (kind, card, request.stale) {
            self.at_box(&id, now, |power, at, out| {
                power.presented(request.slot, uid, denial.is_none(), at, out);
            });
        }
        if let (PortalKind::Gate | PortalKind::Door, None) = (kind, denial) {
            self.released(&id, card, hold_ms, now);
        }
        if denial.is_some() {
            self.denied(&id, now);
        }
        self.seen_dead(&id, card, against, now);
        if is_there {
            self.online_reported(&id, true, None, now);
        }
    }

    /// Answers; a box that rests is switched on at the end of its rest.
    fn answer(&mut self, request: &Request, decision: Decision, now: Now) {
        let resting = self.boxes.get(request.portal.as_str()).filter(|_| decision.is_grant());
        let delay_ms = resting.and_then(|power| power.rest_left_ms(now.mono));
        let (portal, id) = (request.portal.clone(), request.id.clone());
        self.order(PortalOrder::Answer { portal, id, decision, delay_ms });
    }

    /// What a repeat of this request would be known by, and for how long in milliseconds.
    fn keys(
        &self,
        request: &Request,
        uid: Option<CardUid>,
        way: Option<Direction>,
        portal: &Portal,
    ) -> [Option<(Key, u64)>; 2] {
        if request.stale {
            return [None, None];
        }
        let by_id = request.id.as_ref().map(|id| ((portal.id.clone(), Some(id.clone()), uid), ANSWER_MEMORY_MS));
        // Whoever wants out is let out each time, and coming in again after that is another presentation.
        let debounced = portal.debounce_ms > 0 && uid.is_some() && way != Some(Direction::Out);
        let by_card = debounced.then(|| ((portal.id.clone(), None, uid), u64::from(portal.debounce_ms)));
        [by_id, by_card]
    }

    /// The answer to a repeated request: the same again. A grant that was given holds only as long as it would be given now, and a
    /// denial of a card shown again only as long as its reason does: whoever was enrolled meanwhile need not wait.
    fn repeated(
        &self,
        keys: &[Option<(Key, u64)>; 2],
        request: &Request,
        kind: PortalKind,
        now_decided: &Decision,
        now: Now,
    ) -> Option<Decision> {
        let ((_, id, card), found) = keys
            .iter()
            .flatten()
            .find_map(|(key, memory_ms)| self.answers.find(key, *memory_ms, now.mono).map(|answer| (key, answer)))?;
        // Another card may have been in that slot meanwhile: then this one takes its place, and is no repeat.
        let in_slot = kind != PortalKind::PowerBox || {
            let power = self.boxes.get(request.portal.as_str());
            power.is_some_and(|b| card.is_some() && b.card_in(request.slot) == *card)
        };
        match (found, now_decided) {
            (Some(_), _) if id.is_none() && !in_slot => None,
            (None, _) if !in_slot => None,
            (Some(denial), Decision::Deny(now)) if id.is_none() && denial.reason != now.reason => None,
            (Some(_), Decision::Grant(_)) if id.is_none() => None,
            (Some(denial), _) => Some(Decision::Deny(denial)),
            (None, Decision::Grant(grant)) if self.is_held(grant) => Some(Decision::Grant(grant.again())),
            (None, Decision::Grant(_) | Decision::Deny(_)) => None,
        }
    }

    /// Whether repeating this grant changes nothing: a box must still be on by it, or it would be switched on unbeknown.
    fn is_held(&self, grant: &Grant) -> bool {
        let held = |b: &super::PowerBox| grant.uid().is_some_and(|uid| b.is_held_by(uid));
        grant.hold_ms().is_some() || self.boxes.get(grant.portal()).is_some_and(held)
    }

    fn request_unknown_portal(&mut self, request: &Request, now: Now) {
        let question = Question {
            portal: None,
            presented: &request.presented,
            direction: request.direction,
            stale: request.stale,
        };
        let decision = decide(&self.facts(super::Posture::Secure, now), &question);
        let detail = format!("no portal `{}` is configured", request.portal);
        let card = identify(&self.state.list, &request.presented).card();
        let event = self.decision_event(None, card, &decision, detail);
        self.answer(request, decision, now);
        self.record(event, Flush::Soon, now);
    }

    fn decision_event(
        &self,
        portal: Option<&PortalId>,
        card: Option<CardUid>,
        decision: &Decision,
        detail: String,
    ) -> Event {
        let (outcome, also, flags) = (decision.into(), decision.also(), decision.flags());
        Event::Decision { portal: portal.cloned(), who: self.who(card), outcome, also, flags, detail }
    }
}
