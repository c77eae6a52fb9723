//! Alarms: in the audit and at once to the center, at most one in [`ALARM_QUIET_MS`] of one kind, portal and card. The end of one
//! that was raised is published at once, and once. What lasts and was held back is raised when that time is over.

mod lists;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::credential::CardMark;
use super::super::decision::{Reason, Reasons};
use super::super::effect::{Alarm, Effect};
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{CardUid, Mono, Now, PortalId, Timestamp};
use super::super::policy::Policy;
use super::observed::CloneSign;
use super::status::OpenAlarm;
use super::{Due, Engine};

/// How long after an alarm the next of its kind, portal and card is held back, in milliseconds (wire contract, section 3).
pub const ALARM_QUIET_MS: u64 = 600_000;
/// Kinds, portals and cards remembered at once; beyond it the one raised longest ago is forgotten.
pub const ALARMS_REMEMBERED_MAX: usize = 4_096;

/// Cards for which one portal raises alarms of one kind within [`ALARM_QUIET_MS`]; those of further ones count as one.
pub const ALARM_CARDS_MAX: usize = 20;

/// How the detail of an alarm [`AlarmKind::Store`] begins that ends when the store writes again: it fails, or does not come back.
pub const STORE_WRITES: [&str; 2] = ["the store cannot be written", "a write to the store has been under way"];
/// Most open alarms that the status names.
pub const OPEN_LISTED_MAX: usize = 100;

/// The rule by which a relay that nothing released raises [`AlarmKind::Tamper`]: it holds back no housing that is opened then.
pub(super) const RELAY: &str = "relay";
/// The rule by which a release that was not confirmed raises [`AlarmKind::PortalOffline`]: it holds back no portal that falls silent.
const RELEASE: &str = "release";
/// The rule by which a power box that is left off raises [`AlarmKind::PortalOffline`]: it answers, so only its power ends that.
const LEFT_OFF: &str = "left off";
/// The rule by which the lost link to portals raises [`AlarmKind::PortalOffline`].
const LINK: &str = "link";
/// The rule by which a list that is not whole raises [`AlarmKind::List`]; of a stream, the stream's name follows.
const NOT_WHOLE: &str = "not whole";
/// The rule by which all cards beyond [`ALARM_CARDS_MAX`] raise one alarm.
const FURTHER: &str = "further cards";

/// The rule by which a clock that cannot be trusted raises [`AlarmKind::Clock`]. The others are about its synchronisation.
const UNTRUSTED: &str = "untrusted";

/// What is raised at most once in [`ALARM_QUIET_MS`]. The text reports apart what names neither portal nor card; figures in it do not.
type Key = (AlarmKind, Option<PortalId>, Option<CardUid>, String);

/// What the alarms remember.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    denials: BTreeMap<PortalId, VecDeque<Mono>>,
    raised: BTreeMap<Key, Raised>,
    /// The rules by which lists that are not whole have raised an alarm.
    not_whole: BTreeSet<String>,
}

/// One alarm.
#[derive(Debug)]
struct Raised {
    at: Mono,
    /// Since when what it is about lasts, by the clock.
    since: Timestamp,
    /// How many like it were held back since.
    held_back: u64,
    /// It was published, and its end was not.
    is_open: bool,
    /// One that was held back, and whose end was not reported: its detail.
    stands: Option<String>,
}

impl Raised {
    /// What it is about was not reported to be over, whether it was published or held back.
    fn lasts(&self) -> bool {
        self.is_open || self.stands.is_some()
    }
}

/// Whether the end of what such an alarm was raised for is reported to [`Engine::over`].
fn ends((kind, portal, _, rule): &Key) -> bool {
    use AlarmKind::{
        Clock, ForcedOpen, HeldOpen, List, PortalOffline, PowerTrip, Store, Tamper, UnconfirmedRevocation,
    };
    let of_portal = matches!(kind, ForcedOpen | HeldOpen | PortalOffline | PowerTrip | Tamper | UnconfirmedRevocation);
    let of_store = *kind == Store && STORE_WRITES.iter().any(|begins| rule.starts_with(begins));
    // What else names no portal is about access rules of the broker, and nobody finds out that they were mended.
    let of_rules = *kind == PortalOffline && portal.is_none() && rule != LINK;
    (of_portal && !of_rules) || of_store || *kind == Clock || (*kind == List && rule.starts_with(NOT_WHOLE))
}

impl Alarms {
    /// Whether an alarm may be raised now, and then how many were held back before it.
    fn admit(&mut self, key: Key, detail: &str, now: Now) -> Option<u64> {
        let (since, now) = (now.wall, now.mono);
        let is_quiet = |at: Mono| now.since_ms(at) < ALARM_QUIET_MS;
        let has_end = ends(&key);
        if let Some(raised) = self.raised.get_mut(&key) {
            if !raised.lasts() {
                raised.since = since;
            }
            if is_quiet(raised.at) {
                raised.held_back = raised.held_back.saturating_add(1);
                raised.stands = (has_end && !raised.is_open).then(|| detail.to_owned());
                return None;
            }
            (raised.at, raised.is_open, raised.stands) = (now, true, None);
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
        self.raised.insert(key, Raised { at: now, since, held_back: 0, is_open: true, stands: None });
        Some(0)
    }

    /// Whether a portal has raised this kind for so many cards that this one counts among the further ones: a device that reports ever new
    /// cards must not fill what a person looks at.
    fn is_of_further_card(&self, key: &Key, now: Now) -> bool {
        let (kind, portal, uid, _) = key;
        if portal.is_none() || uid.is_none() || self.raised.contains_key(key) {
            return false;
        }
        let from = (*kind, portal.clone(), None, String::new());
        let here = self.raised.range(from..).take_while(|((k, p, ..), _)| k == kind && p == portal);
        let is_recent = |raised: &Raised| now.mono.since_ms(raised.at) < ALARM_QUIET_MS;
        here.filter(|((_, _, uid, _), raised)| uid.is_some() && is_recent(raised)).count() >= ALARM_CARDS_MAX
    }

    /// When the first of those that stand may be raised.
    fn next(&self) -> Option<Mono> {
        let standing = self.raised.values().filter(|raised| raised.stands.is_some());
        standing.map(|raised| raised.at.plus_ms(ALARM_QUIET_MS)).min()
    }

    /// The portals of which such an alarm was published and has not ended.
    pub(super) fn open(&self, kind: AlarmKind) -> Vec<PortalId> {
        let open = self.raised.iter().filter(|((raised, ..), alarm)| *raised == kind && alarm.is_open);
        open.filter_map(|((_, portal, ..), _)| portal.clone()).collect()
    }

    /// The alarms whose end is reported and was not yet.
    fn lasting(&self) -> impl Iterator<Item = (&Key, &Raised)> {
        let has_end = |key: &Key| ends(key) || key.0 == AlarmKind::Fire;
        self.raised.iter().filter(move |(key, raised)| has_end(key) && raised.lasts())
    }

    /// How many of those there are, by kind; all of them.
    pub(super) fn counted(&self) -> BTreeMap<AlarmKind, u64> {
        let mut counted = BTreeMap::new();
        for ((kind, ..), _) in self.lasting() {
            *counted.entry(*kind).or_default() += 1;
        }
        counted
    }

    /// They themselves, those that last longest first, at most [`OPEN_LISTED_MAX`].
    pub(super) fn listed(&self) -> Vec<OpenAlarm> {
        let mut open: Vec<OpenAlarm> = self
            .lasting()
            .map(|((kind, portal, ..), raised)| OpenAlarm { kind: *kind, portal: portal.clone(), since: raised.since })
            .collect();
        open.sort_by_key(|alarm| alarm.since);
        open.truncate(OPEN_LISTED_MAX);
        open
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
        self.raise((kind, portal.cloned(), uid, text), portal, detail, now);
    }

    /// Raises an alarm at a portal, unless one with this key was raised a short time ago.
    fn raise(&mut self, key: Key, portal: Option<&PortalId>, detail: String, now: Now) {
        self.raise_logged(key, portal, detail, None, now);
    }

    fn raise_logged(
        &mut self,
        mut key: Key,
        portal: Option<&PortalId>,
        mut detail: String,
        mut logged: Option<String>,
        now: Now,
    ) {
        if self.alarms.is_of_further_card(&key, now) {
            key = (key.0, key.1, None, FURTHER.to_owned());
            let further = |last: &str| {
                format!("more than {ALARM_CARDS_MAX} cards raised this here in 10 min; of the last: {last}")
            };
            (detail, logged) = (further(&detail), logged.as_deref().map(further));
        }
        let (kind, _, uid, _) = key;
        let Some(count) = self.alarms.admit(key, &detail, now) else {
            return self.deadlines.set(Due::Alarms, self.alarms.next());
        };
        let (at, portal) = (now.wall, portal.cloned());
        self.publish_alarm(Alarm { n: 0, at, kind, portal, uid, count, ended: false, detail, logged }, now);
    }

    /// What was held back lasts, and the time for which it was is over.
    pub(super) fn alarms_due(&mut self, now: Now) {
        let is_due = |raised: &Raised| raised.stands.is_some() && raised.at.plus_ms(ALARM_QUIET_MS) <= now.mono;
        let due: Vec<_> =
            self.alarms.raised.iter().filter(|(_, raised)| is_due(raised)).map(|(key, _)| key.clone()).collect();
        for key in due {
            let standing = self.alarms.raised.get(&key).and_then(|raised| raised.stands.clone());
            let portal = key.1.clone();
            if let Some(detail) = standing {
                self.raise(key, portal.as_ref(), detail, now);
            }
        }
        self.deadlines.set(Due::Alarms, self.alarms.next());
    }

    /// A card seems to be in two places. Raised once in [`ALARM_QUIET_MS`] by one rule, wherever the card is read next.
    pub(super) fn clone_seen(&mut self, portal: &PortalId, uid: CardUid, sign: &CloneSign, now: Now) {
        let (rule, detail) = match sign {
            CloneSign::InBox(id) => {
                ("box", format!("the card was read here while it lies in `{id}`: one of the two is a copy"))
            }
            CloneSign::TooFar { from, ago_ms, walk_ms } => {
                let (ago_s, walk_s) = (ago_ms / 1000, walk_ms / 1000);
                let detail = format!(
                    "the card was read here {ago_s} s after it was granted at `{from}`, from where the way takes {walk_s} s: one of the two is a copy"
                );
                ("walk", detail)
            }
        };
        self.raise((AlarmKind::Clone, None, Some(uid), rule.to_owned()), Some(portal), detail, now);
    }

    /// A power box tripped. That it stays off is an alarm of its own, however short ago it tripped before.
    pub(super) fn tripped_alarm(&mut self, portal: &PortalId, stays_off: bool, detail: String, now: Now) {
        let rule = if stays_off { "stays off" } else { "rests" };
        self.raise((AlarmKind::PowerTrip, Some(portal.clone()), None, rule.to_owned()), Some(portal), detail, now);
    }

    /// The relay of a door or gate is on, and nothing released it.
    pub(super) fn relay_alarm(&mut self, portal: &PortalId, detail: String, now: Now) {
        self.raise((AlarmKind::Tamper, Some(portal.clone()), None, RELAY.to_owned()), Some(portal), detail, now);
    }

    /// That relay is off again.
    pub(super) fn relay_alarm_over(&mut self, portal: &PortalId, detail: &str, now: Now) {
        self.over(|key| key.0 == AlarmKind::Tamper && key.1.as_ref() == Some(portal) && key.3 == RELAY, detail, now);
    }

    /// The link to portals is lost.
    pub(super) fn link_alarm(&mut self, detail: String, now: Now) {
        self.raise((AlarmKind::PortalOffline, None, None, LINK.to_owned()), None, detail, now);
    }

    /// It is up again.
    pub(super) fn link_alarm_over(&mut self, now: Now) {
        let detail = "the broker of the portals is connected again";
        self.over(|key| key.0 == AlarmKind::PortalOffline && key.3 == LINK, detail, now);
    }

    /// A portal was to open or to be on, and that was not confirmed.
    pub(super) fn release_alarm(&mut self, portal: &PortalId, detail: String, now: Now) {
        let key = (AlarmKind::PortalOffline, Some(portal.clone()), None, RELEASE.to_owned());
        self.raise(key, Some(portal), detail, now);
    }

    /// A later one was confirmed.
    pub(super) fn release_alarm_over(&mut self, portal: &PortalId, now: Now) {
        let is_of = |key: &Key| key.0 == AlarmKind::PortalOffline && key.1.as_ref() == Some(portal) && key.3 == RELEASE;
        self.over(is_of, "a release was confirmed again", now);
    }

    /// A power box is left off, because its relay falls again and again.
    pub(super) fn left_off_alarm(&mut self, portal: &PortalId, uid: Option<CardUid>, detail: String, now: Now) {
        let key = (AlarmKind::PortalOffline, Some(portal.clone()), uid, LEFT_OFF.to_owned());
        self.raise(key, Some(portal), detail, now);
    }

    /// Its relay is on.
    pub(super) fn left_off_alarm_over(&mut self, portal: &PortalId, now: Now) {
        let is_of =
            |key: &Key| key.0 == AlarmKind::PortalOffline && key.1.as_ref() == Some(portal) && key.3 == LEFT_OFF;
        self.over(is_of, "the box is on", now);
    }

    /// What an alarm of a portal was raised for is over. Nothing, unless that alarm was published and its end was not.
    pub(super) fn alarm_over(&mut self, kind: AlarmKind, portal: &PortalId, detail: &str, now: Now) {
        let is_of = |key: &Key| key.0 == kind && key.1.as_ref() == Some(portal);
        self.over(|key| is_of(key) && ![RELAY, LEFT_OFF].contains(&key.3.as_str()), detail, now);
    }

    /// The store writes again.
    pub(super) fn store_works(&mut self, now: Now) {
        self.over(|key| key.0 == AlarmKind::Store && ends(key), "the store is written again", now);
    }

    /// The clock cannot be trusted.
    pub(super) fn clock_untrusted(&mut self, now: Now) {
        let detail = "the wall clock shows a time before the latest trusted one, or an implausible one; dates are judged by \
                      `policy.untrusted_clock` until it is set, agrees with a center, or `dormgate clock trust` is called";
        self.raise((AlarmKind::Clock, None, None, UNTRUSTED.to_owned()), None, detail.to_owned(), now);
    }

    /// The clock can be trusted again.
    pub(super) fn clock_trusted(&mut self, now: Now) {
        self.over(|key| key.0 == AlarmKind::Clock && key.3 == UNTRUSTED, "the wall clock is trusted again", now);
    }

    /// The system has synchronised its clock again.
    pub(super) fn clock_synchronised(&mut self, now: Now) {
        self.over(|key| key.0 == AlarmKind::Clock && key.3 != UNTRUSTED, "the system synchronised its clock", now);
    }

    fn over(&mut self, which: impl Fn(&Key) -> bool, detail: &str, now: Now) {
        let mut ended = Vec::new();
        for (key, raised) in self.alarms.raised.iter_mut().filter(|(key, _)| which(key)) {
            raised.stands = None;
            if std::mem::take(&mut raised.is_open) {
                ended.push((key.0, key.1.clone(), key.2));
            }
        }
        for (kind, portal, uid) in ended {
            let (at, detail) = (now.wall, detail.to_owned());
            self.publish_alarm(Alarm { n: 0, at, kind, portal, uid, count: 0, ended: true, detail, logged: None }, now);
        }
    }

    /// Records an alarm and publishes it under the number of its event.
    fn publish_alarm(&mut self, alarm: Alarm, now: Now) {
        let Alarm { kind, portal, count, ended, detail, .. } = alarm.clone();
        let event = Event::Alarm { kind, portal, who: self.who(alarm.uid), count, ended, detail };
        let n = self.record(event, Flush::Now, now);
        self.out.push(Effect::Alarm(Box::new(Alarm { n, ..alarm })));
    }

    /// Counts a denial: too many at one portal raise an alarm and lock it out. What is denied during a lock-out does not count, or
    /// whoever goes on trying would keep everybody out.
    pub(super) fn denied(&mut self, portal: &PortalId, now: Now) {
        let max = self.policy.max_denials as usize;
        if max == 0 || self.is_locked_out(portal, now) {
            return;
        }
        let recent = self.alarms.denials.entry(portal.clone()).or_default();
        recent.push_back(now.mono);
        while recent.front().is_some_and(|at| now.mono.since_ms(*at) >= Policy::DENIAL_WINDOW_MS) {
            recent.pop_front();
        }
        if recent.len() >= max {
            recent.clear();
            let mut detail = format!("{max} denials within {} s", Policy::DENIAL_WINDOW_MS / 1000);
            let lockout_s = self.lock_out(portal, now);
            if lockout_s > 0 {
                detail.push_str(&format!("; everybody is denied here for {lockout_s} s, except on the way out"));
            }
            self.alarm(AlarmKind::WrongTries, Some(portal), None, detail, now);
        }
    }

    /// How many denials count at a portal now.
    pub(super) fn recent_denials(&self, portal: &PortalId, now: Now) -> usize {
        let all = self.alarms.denials.get(portal).into_iter().flatten();
        all.filter(|at| now.mono.since_ms(**at) < Policy::DENIAL_WINDOW_MS).count()
    }

    /// A dead card that is presented is worth an alarm also where it passes: outwards, in free access, in a fire. Gives whether it is
    /// dead.
    pub(super) fn seen_dead(&mut self, portal: &PortalId, card: Option<CardUid>, against: Reasons, now: Now) -> bool {
        let dead = against.iter().find(|r| matches!(r, Reason::Replaced | Reason::Cancelled | Reason::Lost));
        let Some((uid, reason)) = card.zip(dead) else { return false };
        let detail = format!("a dead card was presented: {}", reason.as_str());
        self.alarm(AlarmKind::DeadCard, Some(portal), Some(uid), detail, now);
        true
    }
}

impl Engine {
    /// A card that its holder presents under duress is worth an alarm whatever was decided; at the portal nothing shows it.
    pub(super) fn seen_duress(&mut self, portal: &PortalId, card: Option<CardUid>, now: Now) {
        let is_marked = |uid: &CardUid| self.state.list.card(uid).is_some_and(|card| card.is_marked(CardMark::Duress));
        if let Some(uid) = card.filter(is_marked) {
            let detail =
                "the card is marked as one that is presented under duress: send help; nothing showed at the portal";
            self.alarm(AlarmKind::Duress, Some(portal), Some(uid), detail.to_owned(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::id::ClockTrust;
    use super::*;

    #[test]
    fn no_more_keys_are_remembered_than_the_limit_and_the_oldest_goes_first() {
        let mut alarms = Alarms::default();
        let key = |n: usize| (AlarmKind::DeadCard, Some(format!("p{n}").parse().unwrap()), None, String::new());
        let at = |ms| Now { wall: Timestamp(0), mono: Mono(ms), clock: ClockTrust::Trusted };
        for n in 0..=ALARMS_REMEMBERED_MAX {
            assert_eq!(alarms.admit(key(n), "", at(n as u64)), Some(0));
        }
        assert_eq!(alarms.raised.len(), ALARMS_REMEMBERED_MAX);
        let now = at(ALARMS_REMEMBERED_MAX as u64);
        assert_eq!((alarms.admit(key(1), "", now), alarms.admit(key(0), "", now)), (None, Some(0)));
    }
}
