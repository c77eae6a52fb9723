//! Alarms: in the audit and at once to the center, at most one in [`ALARM_QUIET_MS`] of one kind, portal and card.

use std::collections::{BTreeMap, VecDeque};

use super::super::decision::{Reason, Reasons};
use super::super::effect::{Alarm, Effect};
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId};
use super::super::policy::Policy;
use super::Engine;

/// How long after an alarm the next of its kind, portal and card is held back, in milliseconds (wire contract, section 3).
pub const ALARM_QUIET_MS: u64 = 600_000;
/// Kinds, portals and cards remembered at once; beyond it the one raised longest ago is forgotten.
pub const ALARMS_REMEMBERED_MAX: usize = 4_096;

/// What is raised at most once in [`ALARM_QUIET_MS`]. The text reports apart what names neither portal nor card; figures in it do not.
type Key = (AlarmKind, Option<PortalId>, Option<CardUid>, String);

/// What the alarms remember.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    denials: BTreeMap<PortalId, VecDeque<Mono>>,
    /// When each was raised, and how many were held back since.
    raised: BTreeMap<Key, (Mono, u64)>,
}

impl Alarms {
    /// Whether an alarm may be raised now, and then how many were held back before it.
    fn admit(&mut self, key: Key, now: Mono) -> Option<u64> {
        let is_quiet = |at: Mono| now.since_ms(at) < ALARM_QUIET_MS;
        if let Some((at, held_back)) = self.raised.get_mut(&key) {
            if is_quiet(*at) {
                *held_back = held_back.saturating_add(1);
                return None;
            }
            *at = now;
            return Some(std::mem::take(held_back));
        }
        if self.raised.len() >= ALARMS_REMEMBERED_MAX {
            self.raised.retain(|_, (at, held_back)| is_quiet(*at) || *held_back > 0);
        }
        if self.raised.len() >= ALARMS_REMEMBERED_MAX {
            let oldest = self.raised.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.raised.remove(&oldest);
            }
        }
        self.raised.insert(key, (now, 0));
        Some(0)
    }

    /// An operator ended what these alarms are about: the next one is raised at once.
    pub(super) fn ended(&mut self, kind: AlarmKind) {
        self.raised.retain(|(raised, ..), _| *raised != kind);
    }
}

impl Engine {
    /// Raises an alarm, unless one of its kind, portal and card was raised a short time ago.
    pub(super) fn alarm(
        &mut self,
        kind: AlarmKind,
        portal: Option<&PortalId>,
        uid: Option<CardUid>,
        detail: String,
        now: Now,
    ) {
        let text = if portal.is_none() && uid.is_none() {
            detail.replace(|c: char| c.is_ascii_digit(), "")
        } else {
            String::new()
        };
        let Some(count) = self.alarms.admit((kind, portal.cloned(), uid, text), now.mono) else { return };
        let event = Event::Alarm { kind, portal: portal.cloned(), who: self.who(uid), count, detail: detail.clone() };
        let n = self.record(event, Flush::Now, now);
        let alarm = Alarm { n, at: now.wall, kind, portal: portal.cloned(), uid, count, detail };
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
            recent.clear();
            let detail = format!("{max} denials within {} s", Policy::DENIAL_WINDOW_MS / 1000);
            self.alarm(AlarmKind::WrongTries, Some(portal), None, detail, now);
        }
    }

    /// A dead card that is presented is worth an alarm also where it passes: outwards, in free access, in a fire.
    pub(super) fn seen_dead(&mut self, portal: &PortalId, card: Option<CardUid>, against: Reasons, now: Now) {
        let dead = against.iter().find(|r| matches!(r, Reason::Replaced | Reason::Cancelled | Reason::Lost));
        if let (Some(uid), Some(reason)) = (card, dead) {
            let detail = format!("a dead card was presented: {}", reason.as_str());
            self.alarm(AlarmKind::DeadCard, Some(portal), Some(uid), detail, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_keys_are_remembered_than_the_limit_and_the_oldest_goes_first() {
        let mut alarms = Alarms::default();
        let key = |n: usize| (AlarmKind::DeadCard, Some(format!("p{n}").parse().unwrap()), None, String::new());
        for n in 0..=ALARMS_REMEMBERED_MAX {
            assert_eq!(alarms.admit(key(n), Mono(n as u64)), Some(0));
        }
        assert_eq!(alarms.raised.len(), ALARMS_REMEMBERED_MAX);
        let now = Mono(ALARMS_REMEMBERED_MAX as u64);
        assert_eq!((alarms.admit(key(1), now), alarms.admit(key(0), now)), (None, Some(0)));
    }
}
