//! Each revocation to its end: recorded with what it cut, then durable, then confirmed by the device of each power box. A box that
//! does not confirm is ordered off again and again, named in the state, and raised.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::super::effect::{Effect, PortalProof, RevocationProof};
use super::super::event::Confirmation;
use super::super::event::{AlarmKind, Event, Flush, StreamRevision};
use super::super::id::{CardUid, Holder, Mono, Now, PortalId, Timestamp};
use super::super::power_box::RELAY_SETTLE_MS;
use super::boxes::Judged;
use super::status::UnconfirmedStatus;
use super::{Due, Engine, PortalKind};

/// First wait before a box that does not confirm is ordered off again, in milliseconds.
pub const OFF_AGAIN_MS_MIN: u64 = 2_000;
/// Longest wait before a box that does not confirm is ordered off again, in milliseconds.
pub const OFF_AGAIN_MS_MAX: u64 = 60_000;
/// Most revocations of one card that a query lists, newest first.
pub const REVOCATIONS_LISTED_MAX: usize = 16;
/// Most boxes that the state names as unconfirmed.
pub const UNCONFIRMED_LISTED_MAX: usize = 100;

/// Why an alarm ends of a box that another right keeps on.
const ON_BY_RIGHT: &str = "it is on by right now";

/// A box that has to confirm that it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// When it was ordered off; `None`: it is on until its delay ends.
    ordered_at: Option<Mono>,
    next_order: Mono,
    wait_ms: u64,
    alarmed: bool,
    /// A report that the relay is off may be older than the order that switched it on.
    is_ambiguous: bool,
    /// Such a report came, and none since that the relay is on.
    seems_off: bool,
}

/// The boxes that have to confirm.
pub(super) type Watches = BTreeMap<PortalId, Watch>;

/// A card that lost all its rights, and its holder.
pub(super) type RevokedCard = (CardUid, Option<Holder>);

impl Engine {
    /// Records revocations, each with the boxes that it cut, and watches these.
    pub(super) fn record_revoked(
        &mut self,
        revoked: impl IntoIterator<Item = RevokedCard>,
        revision: &StreamRevision,
        received_at: Timestamp,
        judged: &Judged,
        now: Now,
    ) {
        let mut cut: HashMap<CardUid, Vec<PortalId>, RandomState> = HashMap::default();
        for lost in &judged.lost {
            cut.entry(lost.uid).or_default().push(lost.portal.clone());
        }
        for (uid, holder) in revoked {
            let cut = cut.get(&uid).cloned().unwrap_or_default();
            let revision = revision.clone();
            self.record(Event::Revoked { uid, holder, revision, received_at, cut }, Flush::Now, now);
        }
        for lost in &judged.lost {
            if self.state.revocations.open_at(&lost.portal).any(|(_, revocation)| revocation.uid == lost.uid) {
                self.watch(&lost.portal, lost.is_ambiguous, now);
            }
        }
    }

    fn watch(&mut self, portal: &PortalId, is_ambiguous: bool, now: Now) {
        let watch = Watch {
            ordered_at: (!self.is_box_on(portal)).then_some(now.mono),
            next_order: now.mono.plus_ms(OFF_AGAIN_MS_MIN),
            wait_ms: OFF_AGAIN_MS_MIN,
            alarmed: false,
            is_ambiguous,
            seems_off: false,
        };
        self.watches.insert(portal.clone(), watch);
        self.set_watch_deadline(portal, now);
    }

    fn is_box_on(&self, portal: &PortalId) -> bool {
        self.boxes.get(portal).is_some_and(|power| power.source().is_some())
    }

    fn is_on_by_right(&self, portal: &PortalId) -> bool {
        self.boxes.get(portal).is_some_and(|power| power.source().is_some() && !power.is_leaving())
    }

    fn off_confirmed_ms(&self, portal: &PortalId) -> u64 {
        self.portal(portal.as_str()).map_or(0, |p| u64::from(p.off_confirmed_ms))
    }

    fn set_watch_deadline(&mut self, portal: &PortalId, now: Now) {
        let due = self.watches.get(portal).map(|watch| {
            let alarm_at = watch.ordered_at.filter(|_| !watch.alarmed);
            let alarm_at = alarm_at.map(|at| at.plus_ms(self.off_confirmed_ms(portal)));
            let settled_at = watch.ordered_at.filter(|_| watch.seems_off).map(|at| at.plus_ms(RELAY_SETTLE_MS));
            let next = [Some(watch.next_order), alarm_at, settled_at].into_iter().flatten().filter(|at| *at > now.mono);
            next.min().unwrap_or_else(|| now.mono.plus_ms(OFF_AGAIN_MS_MIN))
        });
        self.deadlines.set(Due::Revocation(portal.clone()), due);
    }

    /// A box has not confirmed yet: it is done with, ordered off again, or raised.
    pub(super) fn revocation_due(&mut self, portal: &PortalId, now: Now) {
        let (Some(power), Some(mut watch)) = (self.boxes.get(portal), self.watches.get(portal).copied()) else {
            return;
        };
        if self.is_on_by_right(portal) {
            return self.confirm_revocations(portal, Confirmation::OnByRight, now);
        }
        if power.source().is_none() {
            let ordered_at = *watch.ordered_at.get_or_insert(now.mono);
            let waited_ms = now.mono.since_ms(ordered_at);
            if watch.seems_off && waited_ms >= RELAY_SETTLE_MS {
                return self.confirm_revocations(portal, Confirmation::Off, now);
            }
            if !watch.seems_off && !watch.alarmed && waited_ms >= self.off_confirmed_ms(portal) {
                watch.alarmed = true;
                self.raise_unconfirmed(portal, now);
            }
        }
        if watch.next_order <= now.mono && !watch.seems_off {
            watch.wait_ms = watch.wait_ms.saturating_mul(2).min(OFF_AGAIN_MS_MAX);
            watch.next_order = now.mono.plus_ms(watch.wait_ms);
            self.order_off_again(portal, now);
        }
        self.watches.insert(portal.clone(), watch);
        self.set_watch_deadline(portal, now);
    }

    fn order_off_again(&mut self, portal: &PortalId, now: Now) {
        let revoked = self.state.revocations.open_at(portal).next().map(|(_, revocation)| revocation.uid);
        self.at_box(portal, now, |power, at, out| power.order_off_again(revoked, at, out));
    }

    /// A box whose delay ran was ordered off.
    pub(super) fn ordered_off(&mut self, portal: &PortalId, now: Now) {
        let Some(watch) = self.watches.get_mut(portal).filter(|watch| watch.ordered_at.is_none()) else { return };
        (watch.ordered_at, watch.wait_ms) = (Some(now.mono), OFF_AGAIN_MS_MIN);
        watch.next_order = now.mono.plus_ms(OFF_AGAIN_MS_MIN);
        self.set_watch_deadline(portal, now);
    }

    fn raise_unconfirmed(&mut self, portal: &PortalId, now: Now) {
        let cards: Vec<_> = self.state.revocations.open_at(portal).map(|(_, r)| r.uid.masked().to_string()).collect();
        let detail = format!(
            "the box was ordered off because card {} was revoked, and has not confirmed that its relay is off; it is ordered off \
             again; go there and look",
            cards.join(", ")
        );
        self.alarm(AlarmKind::UnconfirmedRevocation, Some(portal), None, detail, now);
        self.out.push(Effect::StateChanged);
    }

    /// A box reports its relay.
    pub(super) fn relay_proves(&mut self, portal: &PortalId, on: bool, now: Now) {
        let Some(watch) = self.watches.get_mut(portal) else {
            // Nothing was revoked: its output raised it for another order off.
            if !on {
                self.alarm_over(AlarmKind::UnconfirmedRevocation, portal, "its relay is off now", now);
            }
            return;
        };
        if on {
            watch.seems_off = false;
        } else if watch.is_ambiguous && watch.ordered_at.is_none_or(|at| now.mono.since_ms(at) < RELAY_SETTLE_MS) {
            watch.seems_off = true;
            self.set_watch_deadline(portal, now);
        } else {
            self.confirm_revocations(portal, Confirmation::Off, now);
        }
    }

    /// A box is recorded as on. That proves nothing where only its delay runs.
    pub(super) fn on_by_right(&mut self, portal: &PortalId, now: Now) {
        if self.is_on_by_right(portal) {
            if self.watches.contains_key(portal) {
                self.confirm_revocations(portal, Confirmation::OnByRight, now);
            } else {
                self.alarm_over(AlarmKind::UnconfirmedRevocation, portal, ON_BY_RIGHT, now);
            }
        }
    }

    fn confirm_revocations(&mut self, portal: &PortalId, how: Confirmation, now: Now) {
        self.watches.remove(portal);
        self.deadlines.set(Due::Revocation(portal.clone()), None);
        let open: Vec<_> = self.state.revocations.open_at(portal).map(|(n, r)| (n, r.uid)).collect();
        for (revoked, uid) in open {
            let (portal, who) = (portal.clone(), self.who(Some(uid)));
            self.record(Event::RevocationConfirmed { portal, who, revoked, how }, Flush::Soon, now);
        }
        let detail = match how {
            Confirmation::Off => "what was revoked there is off now",
            Confirmation::OnByRight => ON_BY_RIGHT,
            Confirmation::Removed => "the configuration names no such box any more",
        };
        self.alarm_over(AlarmKind::UnconfirmedRevocation, portal, detail, now);
        self.out.push(Effect::StateChanged);
    }

    /// What is on disk up to event `through` is durable.
    pub(super) fn durable(&mut self, through: u64, now: Now) {
        self.commands_durable(through, now);
        if let Some((from, last)) = self.state.revocations.not_durable().filter(|(first, _)| *first <= through) {
            self.record(Event::RevocationDurable { from, to: last.min(through) }, Flush::Soon, now);
        }
    }

    /// The first event of a revocation, or of a command that waits, that is not known to be on disk.
    #[must_use]
    pub fn waits_for_durable(&self) -> Option<u64> {
        let revocation = self.state.revocations.not_durable().map(|(first, _)| first);
        revocation.into_iter().chain(self.first_waiting_command()).min()
    }

    /// Goes on, after a restart, with what is not confirmed. What was read from disk is durable.
    pub(super) fn watch_at_start(&mut self, read_through: u64, now: Now) {
        self.durable(read_through, now);
        let open: Vec<_> = self.state.revocations.open_portals().cloned().collect();
        for portal in open {
            match self.portal(portal.as_str()).map(|p| p.kind) {
                Some(PortalKind::PowerBox) => {
                    self.watch(&portal, false, now);
                    // The order of before may not have arrived.
                    self.order_off_again(&portal, now);
                }
                Some(PortalKind::Gate | PortalKind::Door) | None => {
                    self.confirm_revocations(&portal, Confirmation::Removed, now);
                }
            }
        }
    }

    /// The boxes that have not confirmed a revocation, the oldest revocation first.
    pub(super) fn unconfirmed(&self) -> Vec<UnconfirmedStatus> {
        let revocations = &self.state.revocations;
        let mut all: Vec<_> = revocations
            .open_portals()
            .filter_map(|portal| {
                let (n, revocation) = revocations.open_at(portal).next()?;
                let (uid, since) = (revocation.uid, revocation.in_force_at);
                Some((n, UnconfirmedStatus { portal: portal.clone(), uid, since }))
            })
            .collect();
        all.sort_by_key(|(n, _)| *n);
        all.into_iter().map(|(_, unconfirmed)| unconfirmed).take(UNCONFIRMED_LISTED_MAX).collect()
    }

    /// When the revocations of a card were received, in force, durable and confirmed; the newest first.
    #[must_use]
    pub fn revocations_of(&self, uid: CardUid) -> Vec<RevocationProof> {
        let portal = |(portal, confirmed): (&PortalId, &Option<super::super::revocation::Confirmed>)| PortalProof {
            portal: portal.clone(),
            confirmed_at: confirmed.map(|confirmed| confirmed.at),
            how: confirmed.map(|confirmed| confirmed.how),
        };
        let of_card = self.state.revocations.of(uid).take(REVOCATIONS_LISTED_MAX);
        let proof = |(n, r): (u64, &super::super::revocation::Revocation)| RevocationProof {
            n,
            revision: r.revision.clone(),
            received_at: r.received_at,
            in_force_at: r.in_force_at,
            durable_at: r.durable_at,
            portals: r.portals.iter().map(portal).collect(),
        };
        of_card.map(proof).collect()
    }
}
