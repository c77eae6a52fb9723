//! A card is presented: one decision, one answer, one audit event.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::super::decide::{Observed, Question, decide, identify};
use super::super::decision::{Decision, Denial, Grant, GrantFlags, GrantReason, Reason};
use super::super::effect::PortalOrder;
use super::super::event::{Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::input::{Presented, Request};
use super::super::policy::Severity;
use super::super::portal::{Direction, Portal, PortalKind, Posture};
use super::super::scrub;
use super::Engine;
use super::doors::Release;

/// How long an answer is remembered for a repeated request, in milliseconds (wire contract, section 4).
pub const ANSWER_MEMORY_MS: u64 = 60_000;
/// Answers remembered at once; the oldest is forgotten beyond it, and a repeat is then a new request.
pub const ANSWERS_MAX: usize = 16_384;

/// `detail` of a denial where no posture is against anybody.
const OUTDATED: &str = "no center has confirmed the list for `policy.after_stale_s`";

/// `detail` of the grant with which a window of free access begins.
const FIRST_CARD: &str = "the first card within `free_access`: open to everybody from now on";

/// What a repeated request is known by: the portal's own number, or within the debounce time the card alone.
/// `None` for the card: something that is not one.
type Key = (PortalId, Option<String>, Option<CardUid>);

/// An answer as far as it is remembered: the flags of a grant, or the denial.
type Given = Result<GrantFlags, Denial>;

/// Answers given in the last minute. A grant is never repeated from here: it is judged again.
#[derive(Debug, Default)]
pub(super) struct Answers {
    given: HashMap<Key, (Mono, Given), RandomState>,
    order: VecDeque<(Mono, Key)>,
}

impl Answers {
    /// The answer given to `key` within `memory_ms`.
    fn find(&self, key: &Key, memory_ms: u64, now: Mono) -> Option<Given> {
        self.given.get(key).filter(|(at, _)| now.since_ms(*at) < memory_ms).map(|(_, answer)| *answer)
    }

    fn remember(&mut self, key: Key, answer: Given, now: Mono) {
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
        self.given.insert(key, (now, answer));
    }
}

impl Engine {
    pub(super) fn request(&mut self, request: &Request, now: Now) {
        let Some(portal) = self.portal(&request.portal) else {
            return self.request_unknown_portal(request, now);
        };
        let card = identify(&self.state.list, &request.presented).card();
        let way = portal.direction.or(request.direction);
        let keys = self.keys(request, card, way, portal);
        // What is observed is about somebody who stands there now.
        let observed_now = (!request.stale).then(|| self.observe(portal, card, way, now));
        let (mut observed, clone_sign) = observed_now.unwrap_or_default();
        let is_judged_again = observed.anti_passback != Severity::Off || observed.first_of_two;
        if is_judged_again && self.was_granted(&keys, now) {
            // It is the passage that was granted, and no second one.
            (observed.anti_passback, observed.first_of_two) = (Severity::Off, false);
        }
        let facts = self.facts(Some(portal), now);
        let is_outdated = facts.outdated_list && !matches!(facts.posture, Posture::OutOfService | Posture::Fire);
        let mut decision = decide(&facts, &Question::of(request, Some(portal), observed));
        if let Decision::Grant(grant) = &mut decision {
            grant.hold_at_least(self.release_left_ms(&portal.id, now));
        }
        let kind = portal.kind;
        let id = portal.id.clone();
        let hold_ms = match &decision {
            Decision::Grant(grant) => grant.hold_ms().unwrap_or(portal.hold_ms),
            Decision::Deny(_) => portal.hold_ms,
        };
        let granted = match &decision {
            Decision::Grant(grant) => Some(grant.reason()),
            Decision::Deny(_) => None,
        };
        let is_let_in = granted == Some(GrantReason::Granted);
        let begins_free = self.begins_free_access(portal, now).filter(|_| is_let_in);
        if let Some(repeated) = self.repeated(&keys, request, kind, &decision, now) {
            if let (PortalKind::Gate | PortalKind::Door, Decision::Grant(grant)) = (kind, &repeated) {
                self.released_again(&id, Release { uid: card, by: grant.reason(), hold_ms }, now);
            }
            self.answer(request, repeated, now);
            return;
        }
        let detail = match &request.presented {
            Presented::Card(_) if is_outdated && decision.reason_str() == Reason::OutOfService.as_str() => {
                OUTDATED.to_owned()
            }
            Presented::Card(_) if begins_free.is_some() => FIRST_CARD.to_owned(),
            Presented::Card(_) => String::new(),
            Presented::Lossy(reading) => self.describe_reading(*reading),
            Presented::Malformed(text) if self.policy.hash_uids => scrub::presented_unseen(text),
            Presented::Malformed(text) => scrub::presented(text),
        };
        let way = way.filter(|_| kind == PortalKind::Gate);
        let event = self.decision_event(Some((&id, way)), card, &decision, detail);
        let mut against = decision.also();
        let denial = match &decision {
            Decision::Grant(_) => None,
            Decision::Deny(denial) => Some(*denial),
        };
        against.extend(denial.iter().map(|d| d.reason));
        let given = denial.map_or(Ok(decision.flags()), Err);
        let is_there = !request.stale && !self.reports_return(&id);
        if is_there {
            // Before the answer, so that it cannot cut the answer's opening short.
            self.send_mode_if_back(&id, now);
        }
        self.answer(request, decision, now);
        self.record(event, Flush::Soon, now);
        for (key, _) in keys.into_iter().flatten() {
            self.answers.remember(key, given, now.mono);
        }
        if let (PortalKind::PowerBox, Some(uid), false) = (kind, card, request.stale) {
            self.at_box(&id, now, |power, at, out| {
                power.presented(request.slot, uid, denial, at, out);
            });
        }
        if let (PortalKind::Gate | PortalKind::Door, Some(by)) = (kind, granted) {
            self.released(&id, Release { uid: card, by, hold_ms }, now);
        }
        if is_let_in {
            self.let_in(&id, begins_free, now);
        }
        match (granted, denial, card) {
            (Some(grant), _, Some(uid)) => self.granted_at(&id, uid, grant, now),
            (Some(_), _, None) => {}
            // Nobody tries it now.
            (None, ..) if request.stale => {}
            // Whoever has to wait has not tried a wrong card.
            (None, Some(Denial { reason: Reason::SecondCardRequired, .. }), Some(uid)) => {
                self.note_first_of_two(&id, uid, against, now);
            }
            (None, Some(Denial { reason: Reason::Interlocked | Reason::EscortRequired, .. }), _) => {}
            (None, ..) => self.denied(&id, now),
        }
        // When a stale one was presented is not known: its card may have died since. The audit has it.
        if !request.stale {
            self.seen_duress(&id, card, now);
            let is_dead = self.seen_dead(&id, card, against, now);
            if let (Some(uid), Some(sign), false) = (card, clone_sign, is_dead) {
                self.clone_seen(&id, uid, &sign, now);
            }
        }
        if is_there {
            self.online_reported(&id, true, None, now);
        }
    }

    /// Answers; a box that rests is switched on at the end of its rest.
    fn answer(&mut self, request: &Request, decision: Decision, now: Now) {
        let resting = self.boxes.get(request.portal.as_str()).filter(|_| decision.is_grant());
        let delay_ms =
            resting.and_then(|power| self.turn_left_ms(&request.portal, power, now).or(power.rest_left_ms(now.mono)));
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

    /// Whether a request like this was granted, so that it is only the same one again.
    fn was_granted(&self, keys: &[Option<(Key, u64)>; 2], now: Now) -> bool {
        let given = |(key, memory_ms): &(Key, u64)| self.answers.find(key, *memory_ms, now.mono);
        keys.iter().flatten().any(|key| given(key).is_some_and(|answer| answer.is_ok()))
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
            (Err(_), _) if id.is_none() && !in_slot => None,
            (Ok(_), _) if !in_slot => None,
            (Err(denial), Decision::Deny(now)) if id.is_none() && denial.reason != now.reason => None,
            (Err(_), Decision::Grant(_)) if id.is_none() => None,
            (Err(denial), _) => Some(Decision::Deny(denial)),
            (Ok(flags), Decision::Grant(grant)) if self.is_held(grant) => Some(Decision::Grant(grant.again(flags))),
            (Ok(_), Decision::Grant(_) | Decision::Deny(_)) => None,
        }
    }

    /// Whether repeating this grant changes nothing: a box must still be on by it, or it would be switched on unbeknown.
    fn is_held(&self, grant: &Grant) -> bool {
        let held = |b: &super::PowerBox| grant.uid().is_some_and(|uid| b.is_held_by(uid));
        grant.hold_ms().is_some() || self.boxes.get(grant.portal()).is_some_and(held)
    }

    fn request_unknown_portal(&mut self, request: &Request, now: Now) {
        let question = Question::of(request, None, Observed::default());
        let decision = decide(&self.facts(None, now), &question);
        let detail = self.without_uids(format!("no portal `{}` is configured", request.portal));
        let card = identify(&self.state.list, &request.presented).card();
        let event = self.decision_event(None, card, &decision, detail);
        self.answer(request, decision, now);
        self.record(event, Flush::Soon, now);
    }

    pub(super) fn decision_event(
        &self,
        portal: Option<(&PortalId, Option<Direction>)>,
        card: Option<CardUid>,
        decision: &Decision,
        detail: String,
    ) -> Event {
        let (outcome, also, flags) = (decision.into(), decision.also(), decision.flags());
        let (portal, direction) = (portal.map(|(id, _)| id.clone()), portal.and_then(|(_, way)| way));
        let role = card.map(|uid| self.role_of(&uid)).unwrap_or_default();
        Event::Decision { portal, who: self.who(card), role, outcome, also, flags, direction, detail }
    }
}
