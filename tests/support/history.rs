//! The reference model of what was observed: the rules of presentations by their definition, by looking through everything that ever
//! happened. What was received is judged by `model.rs`.

use dormgate::access::change::Op;
use dormgate::access::credential::{CardMark, Role};
use dormgate::access::decision::Reason;
use dormgate::access::id::{CardUid, Revision, Timestamp};
use dormgate::access::policy::{AfterHours, AfterStale, Place, Policy, Severity};
use dormgate::access::portal::{Assurance, Direction, Portal, PortalKind, Posture};

use crate::model::{against, enrolled, holder_of, is_open, local_minute, open_until, posture, register, windows};

/// What happened at portals and to the gateway. A card is its name in the tests, and its UID.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A stream published its message of this number.
    Published(&'static str, u64),
    /// A card was presented and decided on: the reason, and the whole verdict.
    Decided {
        card: CardUid,
        portal: &'static str,
        way: Option<Direction>,
        hold_ms: u64,
        reason: &'static str,
        verdict: String,
    },
    /// A gate reported that somebody passed inwards.
    Passed(&'static str),
    Contact(&'static str, bool),
    /// The card has left the box.
    Left,
    /// Of one card, or of all.
    Forgiven(Option<CardUid>),
    Restart,
}

/// A building and all that ever happened in it, each with its time since the tests began, in milliseconds.
#[derive(Debug)]
pub struct History {
    pub policy: Policy,
    pub portals: Vec<Portal>,
    pub received: Vec<(Revision, Op)>,
    pub facts: Vec<(u64, Fact)>,
    pub begin_ms: i64,
}

/// A card presented.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub card: CardUid,
    pub portal: &'static str,
    pub way: Option<Direction>,
    pub assurance: Assurance,
    pub now: u64,
}

impl History {
    fn portal(&self, id: &str) -> &Portal {
        self.portals.iter().find(|p| p.id.as_str() == id).unwrap()
    }

    fn since_restart(&self) -> &[(u64, Fact)] {
        let from = self.facts.iter().rposition(|(_, fact)| matches!(fact, Fact::Restart)).unwrap_or(0);
        &self.facts[from..]
    }

    /// What was decided here since the restart, the newest first: when, on whom, the reason, and the whole verdict.
    fn decided(&self, portal: &str) -> impl Iterator<Item = (u64, CardUid, &'static str, &str)> {
        self.since_restart().iter().rev().filter_map(move |(at, fact)| match fact {
            Fact::Decided { card, portal: p, reason, verdict, .. } if *p == portal => {
                Some((*at, *card, *reason, &**verdict))
            }
            _ => None,
        })
    }

    fn wall(&self, at: u64) -> Timestamp {
        Timestamp(self.begin_ms + i64::try_from(at).unwrap())
    }

    /// A local minute as time since the tests began.
    fn elapsed(&self, minute: i64) -> u64 {
        u64::try_from((minute - 8 * 60) * 60_000 - self.begin_ms).unwrap_or(0)
    }

    /// How long a release for this card lasts: no shorter than one that has not ended.
    pub fn hold_ms(&self, card: CardUid, id: &str, now: u64) -> u64 {
        let longer = enrolled(&self.received, card).is_some_and(|e| e.marks.contains(CardMark::ExtendedHold));
        let portal = self.portal(id);
        let own = u64::from(if longer { portal.extended_hold_ms } else { portal.hold_ms });
        let ends = self.since_restart().iter().filter_map(|(at, fact)| match fact {
            Fact::Decided { portal, hold_ms, reason, .. } if *portal == id && is_grant(reason) => Some(at + hold_ms),
            _ => None,
        });
        ends.map(|end| end.saturating_sub(now)).fold(own, u64::max)
    }

    /// Whether a window of free access that a first card begins is open at any gate.
    pub fn is_window_open(&self, at: u64) -> bool {
        self.portals.iter().any(|portal| portal.first_card && self.window_end(portal, at).is_some())
    }

    /// When the window of free access ends that is open at this time.
    fn window_end(&self, portal: &Portal, at: u64) -> Option<u64> {
        Some(self.elapsed(open_until(&self.received, portal.free_access.as_ref()?, self.wall(at))?))
    }

    /// Whether a gate was in free access by its schedule: where the first card begins it, one was let in since the window opened.
    fn is_free(&self, portal: &Portal, at: u64) -> bool {
        let Some(end) = self.window_end(portal, at) else { return false };
        let begins = |(begun, fact): &(u64, Fact)| {
            matches!(fact, Fact::Decided { portal: p, reason: "granted", .. } if *p == portal.id.as_str())
                && self.window_end(portal, *begun) == Some(end)
        };
        let run = self.facts.iter().rev().skip_while(|(then, _)| *then > at);
        let mut run = run.take_while(|(_, fact)| !matches!(fact, Fact::Restart));
        !portal.first_card || run.any(begins)
    }

    /// The newest passage of a card, through this gate if one is given: when, which way, and whether it counts yet.
    fn passage(&self, ask: &Ask, only: Option<&str>) -> Option<(u64, Direction, bool)> {
        let is_it = |gate: &str| gate.starts_with("gate") && only.is_none_or(|only| only == gate);
        let passed = |(place, (at, fact)): (usize, &(u64, Fact))| match fact {
            Fact::Decided { card, portal, way: Some(way), reason, .. }
                if *card == ask.card && is_it(portal) && is_grant(reason) =>
            {
                let reports =
                    self.facts[..place].iter().any(|(_, f)| matches!(f, Fact::Passed(gate) if gate == portal));
                (!reports).then_some((place, *at, *way, *reason != "free_access"))
            }
            Fact::Passed(gate) if is_it(gate) => {
                let is_last = |fact: &Fact| match fact {
                    Fact::Decided { portal, reason, .. } => portal == gate && is_grant(reason),
                    Fact::Passed(of) => of == gate,
                    _ => false,
                };
                let before = self.facts[..place].iter().rev().take_while(|(_, f)| !matches!(f, Fact::Restart));
                let last = before.into_iter().find(|(_, fact)| is_last(fact));
                let (released, Fact::Decided { card, hold_ms, .. }) = last? else { return None };
                let is_theirs = *card == ask.card && *at < released + hold_ms + 10_000;
                is_theirs.then_some((place, *at, Direction::In, true))
            }
            _ => None,
        };
        let (place, at, way, own) = self.facts.iter().enumerate().rev().find_map(passed)?;
        let forgives = |(_, f): &(u64, Fact)| matches!(f, Fact::Forgiven(of) if of.is_none_or(|of| of == ask.card));
        // Free access that ended since let anybody pass.
        let ended = |gate: &Portal| {
            let days = [at, ask.now].map(|at| local_minute(self.wall(at)).div_euclid(1440));
            let schedule = gate.free_access.as_ref().unwrap();
            let windows = (days[0]..=days[1]).flat_map(|day| windows(&self.received, schedule, day));
            let mut ends = windows.map(|(_, end)| self.elapsed(end)).filter(|end| at < *end && *end <= ask.now);
            ends.any(|end| self.is_free(gate, end - 1) && !self.is_free(gate, end))
        };
        let mut free = self.portals.iter().filter(|p| p.kind == PortalKind::Gate && p.free_access.is_some());
        Some((at, way, own && !self.facts[place..].iter().any(forgives) && !free.any(ended)))
    }

    fn passes_again(&self, ask: &Ask, gate: &Portal, way: Direction) -> bool {
        let (is_entry, timed_ms) = (way == Direction::In, self.policy.anti_passback_timed_ms);
        let same = |passage: &(u64, Direction, bool)| passage.1 == way && passage.2;
        let Some((at, ..)) = self.passage(ask, None).filter(same) else { return false };
        let here = || self.passage(ask, Some(ask.portal)).filter(same);
        timed_ms == 0
            || (is_entry && ask.now - at < timed_ms)
            || (is_entry && here().is_some_and(|(at, ..)| ask.now - at < gate.anti_passback_timed_ms))
    }

    /// Whether the card lies in the box, or was let in where nobody comes from so soon.
    fn is_elsewhere(&self, ask: &Ask, portal: &Portal) -> bool {
        let mut facts = self.since_restart().iter().rev();
        let in_box = facts.clone().find_map(|(_, fact)| match fact {
            Fact::Left => Some(None),
            Fact::Decided { card, portal: "power-412", .. } => Some(Some(*card)),
            _ => None,
        });
        let granted = facts.find_map(|(at, fact)| match fact {
            Fact::Decided { card, portal, reason, .. } if *card == ask.card && is_grant(reason) => Some((*at, *portal)),
            _ => None,
        });
        let too_soon = granted.is_some_and(|(at, from)| {
            let zones = [&self.portal(from).zone, &portal.zone].map(|zone| Place::Zone(zone.clone()));
            let joins = |a: &Place, b: &Place| [a, b] == [&zones[0], &zones[1]] || [b, a] == [&zones[0], &zones[1]];
            from != ask.portal && self.policy.walks.iter().any(|w| joins(&w.from, &w.to) && ask.now - at < w.walk_ms)
        });
        (ask.portal != "power-412" && in_box.flatten() == Some(ask.card)) || too_soon
    }

    /// Denials count for a minute, and not while a lock-out lasts.
    fn is_locked_out(&self, ask: &Ask) -> bool {
        let (mut recent, mut until) = (Vec::new(), 0);
        let decided: Vec<_> = self.decided(ask.portal).collect();
        for (at, _, reason, _) in decided.into_iter().rev() {
            let waits = ["second_card_required", "interlocked", "escort_required"].contains(&reason);
            if !is_grant(reason) && !waits && at >= until {
                recent.retain(|denied| at - denied < Policy::DENIAL_WINDOW_MS);
                recent.push(at);
                if recent.len() >= self.policy.max_denials as usize {
                    recent.clear();
                    until = at + u64::from(self.policy.lockout_s) * 1000;
                }
            }
        }
        ask.now < until
    }

    /// Whether the first of two cards, of another holder, waits here.
    fn is_second(&self, ask: &Ask, portal: &Portal) -> bool {
        let waits = |verdict: &str| ["second_card_required", "second_card_required interlocked"].contains(&verdict);
        let last = self.decided(ask.portal).find(|(_, _, reason, verdict)| *reason == "granted" || waits(verdict));
        last.is_some_and(|(at, first, reason, _)| {
            reason != "granted"
                && ask.now < at + u64::from(portal.two_card_ms)
                && holder_of(&self.received, first) != holder_of(&self.received, ask.card)
                && self.has_right(ask, first, portal)
        })
    }

    /// Whether a card that was the first of two, or a visitor's host, may still come in, whatever was observed of it.
    fn has_right(&self, ask: &Ask, card: CardUid, portal: &Portal) -> bool {
        let verdict =
            self.judge(&Ask { card, portal: ask.portal, way: ask.way, assurance: portal.min_assurance, now: ask.now });
        let observed = "granted late soft_anti_passback clone_suspected stale_list second_card_required interlocked locked_out \
                        anti_passback in_use_elsewhere";
        verdict.starts_with("free_access") || verdict.split(' ').all(|word| observed.contains(word))
    }

    fn is_passable(&self, id: &str, now: u64) -> bool {
        let contact = self.since_restart().iter().rev().find_map(|(_, fact)| match fact {
            Fact::Contact(door, open) if *door == id => Some(*open),
            _ => None,
        });
        let released = self.since_restart().iter().any(|(at, fact)| match fact {
            Fact::Decided { portal, hold_ms, reason, .. } => *portal == id && is_grant(reason) && now < at + hold_ms,
            _ => false,
        });
        contact == Some(true) || released || self.is_free(self.portal(id), now)
    }

    fn role(&self, card: CardUid) -> Role {
        enrolled(&self.received, card).map_or(Role::Resident, |e| e.role)
    }

    /// Whether a list is as old as this: from the newest message of each stream, or from the beginning.
    fn is_as_old_as(&self, limit_s: u32, now: u64) -> bool {
        ["card-office", "apartment"].into_iter().any(|stream| {
            let of = |fact: &Fact| matches!(fact, Fact::Published(s, _) if *s == stream);
            let newest = self.facts.iter().rev().find(|(_, fact)| of(fact)).map_or(0, |(at, _)| *at);
            now - newest >= u64::from(limit_s) * 1000
        })
    }

    /// The end of the day on which a visitor was enrolled.
    fn end_of_day(&self, card: CardUid) -> Option<Timestamp> {
        let (revision, _) = register(&self.received, card).filter(|_| self.role(card) == Role::Visitor)?;
        let of = |fact: &Fact| matches!(fact, Fact::Published("apartment", seq) if *seq == revision.seq);
        let (at, _) = self.facts.iter().find(|(_, fact)| of(fact))?;
        Some(Timestamp(((local_minute(self.wall(*at)) / 1440 + 1) * 1440 - 8 * 60) * 60_000))
    }

    /// What is decided: the reason, what else there is, and the flags.
    pub fn judge(&self, ask: &Ask) -> String {
        let (portal, wall) = (self.portal(ask.portal), self.wall(ask.now));
        let way = portal.direction.or(ask.way);
        let free = self.is_free(portal, ask.now);
        let posture =
            posture(&self.received, portal, wall).max(if free { Posture::FreeAccess } else { Posture::Secure });
        let outdated =
            self.policy.after_stale != AfterStale::Continue && self.is_as_old_as(self.policy.after_stale_s, ask.now);
        let end = self.end_of_day(ask.card);
        let (mut all, by_schedule) =
            against((&self.received, &self.policy), ask.card, portal, (posture, wall), (outdated, end));
        let (known, inwards) = (!all.contains(&"unknown_credential"), way != Some(Direction::Out));
        let (enters, role) = (inwards && posture != Posture::FreeAccess, self.role(ask.card));
        let second_token = enrolled(&self.received, ask.card).is_some_and(|e| e.marks.contains(CardMark::SecondToken));
        let again = known
            && portal.kind == PortalKind::Gate
            && posture != Posture::FreeAccess
            && way.is_some_and(|way| self.passes_again(ask, portal, way));
        let elsewhere = known && !second_token && self.is_elsewhere(ask, portal);
        let host = |(at, card, reason, _): (u64, CardUid, &str, &str)| {
            reason == "granted"
                && self.role(card) != Role::Visitor
                && ask.now - at <= self.policy.visitor_escort_ms
                && self.has_right(ask, card, portal)
        };
        let alone = self.policy.visitor_escort_ms > 0
            && role == Role::Visitor
            && inwards
            && portal.kind == PortalKind::Gate
            && !self.decided(ask.portal).any(host);
        let after_hours = known
            && inwards
            && !by_schedule
            && portal.hours.as_ref().is_some_and(|s| !is_open(&self.received, s, wall));
        let then = match role {
            Role::Resident => self.policy.after_hours,
            Role::Visitor => self.policy.after_hours_visitor,
            Role::Staff => self.policy.after_hours_staff,
        };
        let named =
            |all: &[(bool, &'static str)]| all.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect::<Vec<_>>();
        all.extend(named(&[
            (known && ask.assurance < portal.min_assurance, "assurance_too_low"),
            (after_hours && then == AfterHours::Deny, "outside_schedule"),
            (again && self.policy.anti_passback == Severity::Deny, "anti_passback"),
            (elsewhere && self.policy.clone == Severity::Deny, "in_use_elsewhere"),
            (self.is_locked_out(ask), "locked_out"),
            (known && enters && portal.two_card_ms > 0 && !self.is_second(ask, portal), "second_card_required"),
            (enters && portal.interlock.iter().any(|other| self.is_passable(other.as_str(), ask.now)), "interlocked"),
            (alone, "escort_required"),
        ]));
        all.sort_by_key(|reason| Reason::parse(reason));
        all.dedup();
        let suspicions = named(&[
            (again && self.policy.anti_passback == Severity::Flag, "soft_anti_passback"),
            (elsewhere && self.policy.clone == Severity::Flag, "clone_suspected"),
        ]);
        let late = named(&[(after_hours && then == AfterHours::Late, "late")]);
        let stale = named(&[(self.is_as_old_as(self.policy.stale_after_s, ask.now), "stale_list")]);
        let words = match posture {
            _ if portal.kind == PortalKind::Gate && !inwards => [vec!["exit"], all, suspicions, stale].concat(),
            Posture::FreeAccess if portal.kind != PortalKind::PowerBox => {
                [vec!["free_access"], all, suspicions, stale].concat()
            }
            _ if all.is_empty() => [vec!["granted"], late, suspicions, stale].concat(),
            _ => all,
        };
        words.join(" ")
    }
}

fn is_grant(reason: &str) -> bool {
    ["granted", "free_access", "exit"].contains(&reason)
}
