//! Alarms: in the audit and at once to the center. What repeats is told once in a while, not each time.

use std::collections::{BTreeMap, VecDeque};

use super::super::decision::{Reason, Reasons};
use super::super::effect::{Alarm, Effect};
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::policy::Policy;
use super::Engine;

/// A dead card raises one alarm in this time, in milliseconds.
pub const DEAD_CARD_QUIET_MS: u64 = 600_000;
/// Dead cards remembered at once; the one seen longest ago is forgotten beyond it.
pub const DEAD_CARDS_MAX: usize = 1024;

/// What the alarms remember.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    denials: BTreeMap<PortalId, VecDeque<Mono>>,
    dead_cards: VecDeque<(Mono, CardUid)>,
}

impl Engine {
    pub(super) fn alarm(
        &mut self,
        kind: AlarmKind,
        portal: Option<&PortalId>,
        uid: Option<CardUid>,
        detail: String,
        now: Now,
    ) {
        let event =
            Event::Alarm { kind, portal: portal.cloned(), who: self.who(uid), count: 0, detail: detail.clone() };
        let n = self.record(event, Flush::Now, now);
        let alarm = Alarm { n, at: now.wall, kind, portal: portal.cloned(), uid, detail };
        self.out.push(Effect::Alarm(Box::new(alarm)));
    }

    /// Counts a denial: too many at one portal raise an alarm.
    pub(super) fn denied(&mut self, portal: &PortalId, now: Now) {
        let max = self.policy.max_denials as usize;
        if max == 0 {
            return;
        }
        let recent = self.alarms.denials.entry(portal.clone()).or_default();
        recent.push_back(now.mono);
        while recent.front().is_some_and(|at| now.mono.since_ms(*at) >= Policy::DENIAL_WINDOW_MS) {
            recent.pop_front();
        }
        if recent.len() >= max {
            // Counting starts over, so a queue of wrong cards is one alarm each `max`, not one each card.
            recent.clear();
            let detail = format!("{max} denials within {} s", Policy::DENIAL_WINDOW_MS / 1000);
            self.alarm(AlarmKind::WrongTries, Some(portal), None, detail, now);
        }
    }

    /// A dead card in somebody's hand is worth an alarm also where it passes: outwards, in free access, in a fire.
    pub(super) fn seen_dead(&mut self, portal: &PortalId, card: Option<CardUid>, against: Reasons, now: Now) {
        let dead = against.iter().find(|r| matches!(r, Reason::Replaced | Reason::Cancelled | Reason::Lost));
        if let (Some(uid), Some(reason)) = (card, dead) {
            self.dead_card(portal, uid, reason, now);
        }
    }

    fn dead_card(&mut self, portal: &PortalId, uid: CardUid, reason: Reason, now: Now) {
        let seen = &mut self.alarms.dead_cards;
        while seen.front().is_some_and(|(at, _)| now.mono.since_ms(*at) >= DEAD_CARD_QUIET_MS)
            || seen.len() >= DEAD_CARDS_MAX
        {
            seen.pop_front();
        }
        if seen.iter().any(|(_, u)| *u == uid) {
            return;
        }
        seen.push_back((now.mono, uid));
        let detail = format!("a dead card was presented: {}", reason.as_str());
        self.alarm(AlarmKind::DeadCard, Some(portal), Some(uid), detail, now);
    }
}
