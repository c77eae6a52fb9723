//! Alarms: in the audit and at once to the center, at most one in [`ALARM_QUIET_MS`] of one kind, portal and card. The end of one
//! that was raised is published at once, and once.

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
    raised: BTreeMap<Key, Raised>,
}

/// One alarm.
#[derive(Debug)]
struct Raised {
    at: Mono,
    /// How many like it were held back since.
    held_back: u64,
    /// It was published, and its end was not.
    is_open: bool,
}

impl Alarms {
    /// Whether an alarm may be raised now, and then how many were held back before it.
    fn admit(&mut self, key: Key, now: Mono) -> Option<u64> {
        let is_quiet = |at: Mono| now.since_ms(at) < ALARM_QUIET_MS;
        if let Some(raised) = self.raised.get_mut(&key) {
            if is_quiet(raised.at) {
                raised.held_back = raised.held_back.saturating_add(1);
                return None;
            }
            (raised.at, raised.is_open) = (now, true);
            return Some(std::mem::take(&mut raised.held_back));
        }
        if self.raised.len() >= ALARMS_REMEMBERED_MAX {
            self.raised.retain(|_, raised| is_quiet(raised.at) || raised.held_back > 0);
        }
        if self.raised.len() >= ALARMS_REMEMBERED_MAX {
            let oldest = self.raised.iter().min_by_key(|(_, raised)| raised.at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.raised.remove(&oldest);
            }
        }
        self.raised.insert(key, Raised { at: now, held_back: 0, is_open: true });
        Some(0)
    }

    /// The portals of which such an alarm was published and has not ended.
    pub(super) fn open(&self, kind: AlarmKind) -> Vec<PortalId> {
        let open = self.raised.iter().filter(|((raised, ..), alarm)| *raised == kind && alarm.is_open);
        open.filter_map(|((_, portal, ..), _)| portal.clone()).collect()
    }

    /// An operator ended what these alarms are about: the next one is raised at once.
    pub(super) fn forget(&mut self, kind: AlarmKind) {
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
        let (at, portal) = (now.wall, portal.cloned());
        self.publish_alarm(Alarm { n: 0, at, kind, portal, uid, count, ended: false, detail }, now);
    }

    /// What an alarm of a portal was raised for is over. Nothing, unless that alarm was published and its end was not.
    pub(super) fn alarm_over(&mut self, kind: AlarmKind, portal: &PortalId, detail: &str, now: Now) {
        let of_portal = |key: &Key| key.0 == kind && key.1.as_ref() == Some(portal);
        let open = self.alarms.raised.iter_mut().filter(|(key, raised)| of_portal(key) && raised.is_open);
        let ended: Vec<_> = open.map(|((_, _, uid, _), raised)| (raised.is_open = false, *uid).1).collect();
        for uid in ended {
            let (at, portal, detail) = (now.wall, Some(portal.clone()), detail.to_owned());
            self.publish_alarm(Alarm { n: 0, at, kind, portal, uid, count: 0, ended: true, detail }, now);
        }
    }

    /// Records an alarm and publishes it under the number of its event.
    fn publish_alarm(&mut self, alarm: Alarm, now: Now) {
        let Alarm { kind, portal, count, ended, detail, .. } = alarm.clone();
        let event = Event::Alarm { kind, portal, who: self.who(alarm.uid), count, ended, detail };
        let n = self.record(event, Flush::Now, now);
        self.out.push(Effect::Alarm(Box::new(Alarm { n, ..alarm })));
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
