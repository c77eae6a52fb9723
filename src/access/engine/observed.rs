//! What was observed before a card is presented: lock-outs, second passages in one direction, cards that lie in a power box, and
//! the last grants, from which nobody gets to the next portal in less than the configured walking time.
//!
//! Everything is found by hash, and nothing here is allocated before a decision. Passages survive a restart (`presence.rs`); the rest
//! is of this run and measured by the monotonic clock.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::super::credential::{CardMark, Role};
use super::super::decide::Observed;
use super::super::decision::GrantReason;
use super::super::id::{CardUid, Mono, Now, PortalId, Timestamp};
use super::super::policy::{Place, Policy, Severity};
use super::super::portal::{Direction, Portal, PortalKind};
use super::super::presence::Passage;
use super::Engine;

/// Cards whose last grant is remembered for the walking times, in one span of the longest of them. Beyond it a grant is not
/// remembered, and nothing follows from it.
pub const GRANTS_REMEMBERED_MAX: usize = 65_536;

/// Hosts remembered at one gate, the newest. Somebody who followed an earlier one has followed a newer one too, unless all of these
/// have lost their right since.
pub const HOSTS_REMEMBERED_MAX: usize = 8;

/// Anti-passback at one gate.
#[derive(Clone, Copy, Debug, Default)]
struct GateRule {
    /// `Off` at all that is no gate.
    severity: Severity,
    /// The area has a gate that reads cards on their way out, so that an entry stands until the card leaves.
    reads_exits: bool,
    /// For how long an entry to the area counts; 0: until the card leaves.
    area_timed_ms: u64,
    /// For how long an entry through this gate counts in any case.
    gate_timed_ms: u64,
}

impl GateRule {
    fn of(portal: &Portal, portals: &[Portal], policy: &Policy) -> Self {
        if portal.kind != PortalKind::Gate {
            return Self::default();
        }
        let own = policy.areas.iter().find(|area| area.zone == portal.zone);
        let (severity, area_timed_ms) = own
            .map_or((policy.anti_passback, policy.anti_passback_timed_ms), |area| (area.anti_passback, area.timed_ms));
        let reads_exits = |gate: &Portal| {
            gate.kind == PortalKind::Gate && gate.zone == portal.zone && gate.direction != Some(Direction::In)
        };
        Self {
            severity,
            reads_exits: portals.iter().any(reads_exits),
            area_timed_ms,
            gate_timed_ms: portal.anti_passback_timed_ms,
        }
    }
}

/// The walking times between portals.
#[derive(Debug, Default)]
struct Walks {
    /// Numbers of each portal, by its place: its own, and its zone's; `None` where no walking time names it.
    spots: Vec<[Option<usize>; 2]>,
    /// By a pair of numbers, the lower first, in milliseconds.
    times: HashMap<(usize, usize), u64, RandomState>,
    longest_ms: u64,
}

impl Walks {
    fn of(portals: &[Portal], policy: &Policy) -> Self {
        let mut named: Vec<&Place> = Vec::new();
        let mut number = |place| match named.iter().position(|known| *known == place) {
            Some(known) => known,
            None => {
                named.push(place);
                named.len() - 1
            }
        };
        let mut walks = Self::default();
        for walk in &policy.walks {
            let (from, to) = (number(&walk.from), number(&walk.to));
            walks.times.insert((from.min(to), from.max(to)), walk.walk_ms);
            walks.longest_ms = walks.longest_ms.max(walk.walk_ms);
        }
        let spot = |place: Place| named.iter().position(|known| **known == place);
        let spots = |p: &Portal| [spot(Place::Portal(p.id.clone())), spot(Place::Zone(p.zone.clone()))];
        walks.spots = portals.iter().map(spots).collect();
        walks
    }

    /// The time from one portal to another. What names a portal counts before what names its zone.
    fn between_ms(&self, from: usize, to: usize) -> Option<u64> {
        let of = |place: usize| self.spots.get(place).into_iter().flatten().copied().flatten();
        of(from).find_map(|a| of(to).find_map(|b| self.times.get(&(a.min(b), a.max(b))).copied()))
    }
}

/// The last grant of each card, for as long as a walking time may be measured from it.
#[derive(Debug, Default)]
struct Grants {
    newer: HashMap<CardUid, (usize, Mono), RandomState>,
    older: HashMap<CardUid, (usize, Mono), RandomState>,
    /// When `newer` was begun.
    begun: Mono,
}

impl Grants {
    fn remember(&mut self, uid: CardUid, place: usize, longest_ms: u64, now: Mono) {
        if now.since_ms(self.begun) >= longest_ms {
            self.older = std::mem::take(&mut self.newer);
            self.begun = now;
        }
        if self.newer.len() < GRANTS_REMEMBERED_MAX || self.newer.contains_key(&uid) {
            self.newer.insert(uid, (place, now));
        }
    }

    fn last(&self, uid: &CardUid) -> Option<(usize, Mono)> {
        self.newer.get(uid).or_else(|| self.older.get(uid)).copied()
    }
}

/// Why a card seems to be in two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CloneSign {
    /// It lies in this power box.
    InBox(PortalId),
    /// It was let in at this portal so long ago, and the way takes longer, in milliseconds.
    TooFar { from: PortalId, ago_ms: u64, walk_ms: u64 },
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Observations {
    /// By the place of a portal.
    gates: Vec<GateRule>,
    walks: Walks,
    /// The portals that refuse everybody, and until when.
    locked: HashMap<PortalId, Mono, RandomState>,
    /// The boxes in which a card lies, as they report it.
    in_boxes: HashMap<CardUid, Vec<PortalId>, RandomState>,
    grants: Grants,
    /// The cards that are no visitor's and were granted last at each gate, the newest first, where visitors enter with somebody.
    hosts: HashMap<PortalId, Vec<(CardUid, Mono)>, RandomState>,
    /// The last event before this run.
    boot_n: u64,
    /// The last time of day at which all cards were to be forgiven that was looked at.
    pub(super) forgiven_through: Option<Timestamp>,
}

impl Observations {
    pub(super) fn new(portals: &[Portal], policy: &Policy, boot_n: u64) -> Self {
        Self {
            gates: portals.iter().map(|portal| GateRule::of(portal, portals, policy)).collect(),
            walks: Walks::of(portals, policy),
            locked: HashMap::default(),
            in_boxes: HashMap::default(),
            grants: Grants::default(),
            hosts: HashMap::default(),
            boot_n,
            forgiven_through: None,
        }
    }

    /// Takes over other rules. What was observed stays, and is judged by them; a lock-out that the site no longer wants ends.
    pub(super) fn follow(&mut self, portals: &[Portal], policy: &Policy) {
        self.gates = portals.iter().map(|portal| GateRule::of(portal, portals, policy)).collect();
        self.walks = Walks::of(portals, policy);
        self.forgiven_through = None;
        if policy.lockout_s == 0 {
            self.locked.clear();
        }
    }

    /// The last event before this run.
    pub(super) fn boot_n(&self) -> u64 {
        self.boot_n
    }

    fn is_locked_out(&self, portal: &PortalId, now: Mono) -> bool {
        !self.locked.is_empty() && self.locked.get(portal).is_some_and(|until| *until > now)
    }

    /// A box shows these cards now, and showed those before.
    pub(super) fn box_shows(
        &mut self,
        portal: &PortalId,
        before: &[CardUid],
        cards: impl Iterator<Item = CardUid> + Clone,
    ) {
        for gone in before.iter().filter(|uid| !cards.clone().any(|card| card == **uid)) {
            if let Some(boxes) = self.in_boxes.get_mut(gone) {
                boxes.retain(|known| known != portal);
                if boxes.is_empty() {
                    self.in_boxes.remove(gone);
                }
            }
        }
        for uid in cards.filter(|uid| !before.contains(uid)) {
            let boxes = self.in_boxes.entry(uid).or_default();
            if !boxes.contains(portal) {
                boxes.push(portal.clone());
            }
        }
    }

    /// The cards that lie in a box, and in which.
    pub(super) fn in_boxes(&self) -> &HashMap<CardUid, Vec<PortalId>, RandomState> {
        &self.in_boxes
    }

    /// The boxes in which a card lies.
    pub(super) fn boxes_of(&self, uid: &CardUid) -> &[PortalId] {
        self.in_boxes.get(uid).map_or(&[], Vec::as_slice)
    }
}

impl Engine {
    /// What was observed before this card is presented here now, and why it seems to be in two places.
    pub(super) fn observe(
        &self,
        portal: &Portal,
        card: Option<CardUid>,
        way: Option<Direction>,
        now: Now,
    ) -> (Observed, Option<CloneSign>) {
        let locked_out = self.observations.is_locked_out(&portal.id, now.mono);
        let interlocked = self.interlocked_by(portal, now).is_some();
        let Some(uid) = card else { return (Observed { locked_out, interlocked, ..Observed::default() }, None) };
        let sign = self.clone_sign(portal, &uid, now);
        let clone = if sign.is_some() { self.policy.clone } else { Severity::Off };
        let anti_passback = self.passes_again(portal, &uid, way, now);
        let unescorted = self.is_unescorted(portal, &uid, way, now);
        let first_of_two = self.is_first_of_two(portal, &uid, now);
        (Observed { locked_out, anti_passback, clone, unescorted, first_of_two, interlocked }, sign)
    }

    /// Whether this is a visitor who enters a gate without anybody who is not one.
    fn is_unescorted(&self, portal: &Portal, uid: &CardUid, way: Option<Direction>, now: Now) -> bool {
        let within_ms = self.policy.visitor_escort_ms;
        if within_ms == 0 || portal.kind != PortalKind::Gate || way == Some(Direction::Out) {
            return false;
        }
        self.role_of(uid) == Role::Visitor && self.host_ago_ms(portal, now).is_none_or(|ago_ms| ago_ms > within_ms)
    }

    /// How it counts that the card passes a second time in this direction; `Off`: it does not, or that does not count.
    fn passes_again(&self, portal: &Portal, uid: &CardUid, way: Option<Direction>, now: Now) -> Severity {
        let rule = self.places.get(portal.id.as_str()).and_then(|place| self.observations.gates.get(*place));
        let (Some(rule), Some(way)) = (rule.filter(|rule| rule.severity != Severity::Off), way) else {
            return Severity::Off;
        };
        let mut passages = self.passages_in_area(portal, uid);
        // Whoever was never seen, or may have passed unseen since, is not known to be on either side.
        let Some(last) = passages.next().filter(|last| !last.forgiven && last.direction == way) else {
            return Severity::Off;
        };
        let within = |passage: &Passage, ms: u64| {
            passage.moment.age_ms(self.observations.boot_n, now).is_some_and(|age_ms| age_ms < ms)
        };
        let here = std::iter::once(last).chain(passages).find(|passage| passage.portal == portal.id);
        let again_here = way == Direction::In
            && here.is_some_and(|p| p.direction == way && !p.forgiven && within(p, rule.gate_timed_ms));
        let again = match (rule.area_timed_ms, way) {
            (0, _) => rule.reads_exits,
            (timed_ms, Direction::In) => within(last, timed_ms),
            (_, Direction::Out) => false,
        };
        // A gate that is held open passes cards that nobody reads.
        let counts = (again || again_here) && !self.posture(portal, now).holds_open();
        if counts { rule.severity } else { Severity::Off }
    }

    /// How a second passage in one direction counts at a portal; `Off` at all that is no gate.
    pub(super) fn anti_passback_at(&self, portal: &Portal) -> Severity {
        let rule = self.places.get(portal.id.as_str()).and_then(|place| self.observations.gates.get(*place));
        rule.map_or(Severity::Off, |rule| rule.severity)
    }

    /// The last passages of a card through the gates of a gate's area, the newest first.
    pub(super) fn passages_in_area(&self, portal: &Portal, uid: &CardUid) -> impl Iterator<Item = &Passage> {
        let in_area = |id: &PortalId| {
            *id == portal.id
                || self.portal(id.as_str()).is_some_and(|p| p.kind == PortalKind::Gate && p.zone == portal.zone)
        };
        self.state.presence.of(uid).iter().filter(move |passage| in_area(&passage.portal))
    }

    /// Why a known card seems to be in two places, where that is judged.
    pub(super) fn clone_sign(&self, portal: &Portal, uid: &CardUid, now: Now) -> Option<CloneSign> {
        if self.policy.clone == Severity::Off {
            return None;
        }
        let in_box = || self.observations.boxes_of(uid).iter().find(|id| **id != portal.id);
        let sign = in_box().map(|id| CloneSign::InBox(id.clone())).or_else(|| self.too_far(portal, uid, now))?;
        let card = self.state.list.card(uid).filter(|_| !uid.is_commonplace())?;
        // Of a UID that exists twice with the office's knowledge it proves nothing.
        (!card.is_marked(CardMark::SecondToken)).then_some(sign)
    }

    fn too_far(&self, portal: &Portal, uid: &CardUid, now: Now) -> Option<CloneSign> {
        if self.observations.walks.longest_ms == 0 {
            return None;
        }
        let (from, at) = self.observations.grants.last(uid)?;
        let here = *self.places.get(portal.id.as_str())?;
        let (walk_ms, ago_ms) = (self.observations.walks.between_ms(from, here)?, now.mono.since_ms(at));
        let from = self.portals.get(from).filter(|_| from != here && ago_ms < walk_ms)?.id.clone();
        Some(CloneSign::TooFar { from, ago_ms, walk_ms })
    }

    /// A card was granted at a portal: walking times count from here.
    pub(super) fn granted_at(&mut self, portal: &PortalId, uid: CardUid, grant: GrantReason, now: Now) {
        let may_host = self.policy.visitor_escort_ms > 0 && grant == GrantReason::Granted;
        if may_host && self.role_of(&uid) != Role::Visitor {
            let hosts = self.observations.hosts.entry(portal.clone()).or_default();
            hosts.retain(|(host, _)| *host != uid);
            hosts.insert(0, (uid, now.mono));
            hosts.truncate(HOSTS_REMEMBERED_MAX);
        }
        let longest_ms = self.observations.walks.longest_ms;
        if let Some(place) = self.places.get(portal).filter(|_| longest_ms > 0) {
            self.observations.grants.remember(uid, *place, longest_ms, now.mono);
        }
    }

    /// The portal refuses everybody for a while, if the site wants that. Gives for how long, in seconds; 0: not at all.
    pub(super) fn lock_out(&mut self, portal: &PortalId, now: Now) -> u32 {
        let lockout_s = self.policy.lockout_s;
        if lockout_s > 0 {
            let until = now.mono.plus_ms(u64::from(lockout_s) * 1000);
            self.observations.locked.insert(portal.clone(), until);
        }
        lockout_s
    }

    /// How long ago a card that is no visitor's was granted at a gate in this run, in milliseconds. One that lost its right since, or
    /// is a visitor's now, lets nobody in.
    pub(super) fn host_ago_ms(&self, portal: &Portal, now: Now) -> Option<u64> {
        let is_host = |uid: CardUid| self.role_of(&uid) != Role::Visitor && self.has_right(portal, uid, now);
        let (_, at) = self.observations.hosts.get(&portal.id)?.iter().find(|(uid, _)| is_host(*uid))?;
        Some(now.mono.since_ms(*at))
    }

    /// For how long the portal refuses everybody yet, in milliseconds; `None`: it does not.
    pub(super) fn locked_out_ms(&self, portal: &PortalId, now: Now) -> Option<u64> {
        let until = self.observations.locked.get(portal).filter(|until| **until > now.mono)?;
        Some(until.since_ms(now.mono))
    }

    /// Whether the portal refuses everybody now, because of too many denials.
    pub(super) fn is_locked_out(&self, portal: &PortalId, now: Now) -> bool {
        self.observations.is_locked_out(portal, now.mono)
    }
}
