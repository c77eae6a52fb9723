//! The access list of the building: registers keyed by card UID that converge whatever the order of the messages.
//!
//! ```text
//! card:    birth · issued to · own flags (lost frozen replaced cancelled) · enrolment        each with a revision
//! holder:  flags set by by-holder ops · withdrawn                                            each with a revision
//! zone:    power suspended, by reason        portal and `*`: posture        schedule: windows
//! ```
//! A card's effective flag is the newer of its own and its holder's, where the holder's op reaches only cards born before it.
//! Nothing here knows the time: windows and schedules are judged by [`decide`](super::decide).

mod apply;
mod card;
mod holders;
mod index;
mod lossy;
mod merge;
mod notes;
mod site;
mod snapshot;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use indexmap::IndexSet;

pub use apply::{Affected, Applied, NOTES_MAX};
pub use card::{CardRecord, HolderEntry};
pub use lossy::{COLLISION_CARDS_LISTED_MAX, COLLISIONS_LISTED_MAX, Collision, Collisions, Lookup};
pub use merge::{Merge, Shrink};
pub use site::{PostureRegister, ScheduleRegister, Site};

use super::credential::{
    CardMark, CardMarks, DEAD, Enrolment, Entitlement, Flag, FlagRegister, Role, Standing, ZoneSet,
};
use super::id::{CardUid, Holder, Revision, ScheduleName, Timestamp, Zone};
use super::policy::{KindSet, Policy};
use super::portal::PortalKind;
use card::{Card, PackedEnrolment, PackedEntitlement};
use holders::{HolderRecord, Holders};
use index::{CardIx, HolderIx};
use lossy::LossyIndex;

/// The access list. See the module's head.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    cards: Vec<Card>,
    by_uid: HashTable<CardIx>,
    hasher: RandomState,
    holders: Holders,
    /// Names that thousands of entitlements name; one that was ever named keeps its place.
    zones: IndexSet<Zone, RandomState>,
    schedules: IndexSet<ScheduleName, RandomState>,
    /// One for each transform of the building's readers; what is on disk has none.
    lossy: Vec<LossyIndex>,
    /// The registers of rooms, portals and schedules.
    pub site: Site,
}

/// One card as the ladder sees it.
#[derive(Clone, Copy, Debug)]
pub struct CardView<'a> {
    list: &'a AccessList,
    ix: CardIx,
    card: &'a Card,
}

/// Whose register of a flag counts for a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagWriter {
    /// The card's own.
    Card,
    /// Its holder's.
    Holder,
}

/// One enrolment in force as the ladder sees it.
#[derive(Clone, Copy, Debug)]
pub struct EnrolmentView<'a> {
    list: &'a AccessList,
    packed: &'a PackedEnrolment,
}

impl AccessList {
    /// The card with this UID, if any of its registers was ever written.
    #[must_use]
    pub fn card(&self, uid: &CardUid) -> Option<CardView<'_>> {
        let ix = self.find(uid)?;
        self.view(ix)
    }

    /// How many cards are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// Whether no card is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// The UID of the card at `place`, in the order in which cards became known.
    #[must_use]
    pub fn uid_at(&self, place: usize) -> Option<CardUid> {
        self.cards.get(place).map(|card| card.uid)
    }

    /// The card at `place`, in the order in which cards became known: for walking the list in slices.
    #[must_use]
    pub fn record_at(&self, place: usize) -> Option<CardRecord> {
        let card = self.cards.get(place)?;
        let name = |ix: HolderIx| self.holders.get(ix).map(|h| h.name.clone());
        let enrolment = card
            .enrolment
            .as_ref()
            .map(|r| (r.revision, r.enrolment.as_deref().and_then(|packed| self.unpack(packed))));
        Some(CardRecord {
            uid: card.uid,
            birth: card.birth,
            issued_to: card.issued_to.and_then(|i| Some((i.revision, name(i.holder)?))),
            flags: card.flags.clone(),
            enrolment,
        })
    }

    /// When the enrolments of visitors that name no end were made.
    pub fn days_of_visitors(&self) -> impl Iterator<Item = (CardUid, Timestamp)> {
        self.cards.iter().filter_map(|card| Some((card.uid, card.made_on()?)))
    }

    /// What a card is enrolled for, withdrawn by its holder or not.
    fn enrolment_of(&self, uid: &CardUid) -> Option<Enrolment> {
        self.unpack(self.cards.get(self.find(uid)?.place())?.packed_enrolment()?.1)
    }

    /// All holders that an op named.
    ///
    /// A holder that only stands in a card's register comes with that card. It is left out here, because whether an op named it that
    /// a newer one has overwritten depends on the order of arrival.
    pub fn holder_entries(&self) -> impl Iterator<Item = HolderEntry> {
        let named = self.holders.iter().filter(|h| !h.flags.is_empty() || h.withdrawn().is_some());
        named.map(|h| HolderEntry { holder: h.name.clone(), flags: h.flags.clone(), withdrawn: h.withdrawn() })
    }

    /// The cards of a holder: those issued to it, and those that are only enrolled for it.
    #[must_use]
    pub fn uids_of(&self, holder: &Holder) -> Vec<CardUid> {
        let cards = self.holders.find(holder).into_iter().flat_map(|ix| self.cards_of(ix));
        cards.filter_map(|ix| self.cards.get(ix.place())).map(|card| card.uid).collect()
    }

    /// What ops by holder set for this one.
    #[must_use]
    pub fn holder_entry(&self, holder: &Holder) -> Option<HolderEntry> {
        let record = self.holders.get(self.holders.find(holder)?)?;
        Some(HolderEntry { holder: record.name.clone(), flags: record.flags.clone(), withdrawn: record.withdrawn() })
    }

    /// The marks of the enrolment of the card at `place`.
    #[must_use]
    pub fn marks_at(&self, place: usize) -> CardMarks {
        let card = self.cards.get(place).and_then(Card::packed_enrolment);
        card.map_or(CardMarks::empty(), |(_, packed)| packed.marks)
    }

    /// Whether the enrolment of the card at `place` is in force (neither withdrawn by card nor by holder).
    #[must_use]
    pub fn enrolment_in_force_at(&self, place: usize) -> bool {
        self.cards.get(place).is_some_and(|card| self.enrolment_in_force(card).is_some())
    }

    fn find(&self, uid: &CardUid) -> Option<CardIx> {
        let hash = self.hasher.hash_one(uid);
        self.by_uid.find(hash, |ix| self.cards.get(ix.place()).is_some_and(|c| c.uid == *uid)).copied()
    }

    fn view(&self, ix: CardIx) -> Option<CardView<'_>> {
        Some(CardView { list: self, ix, card: self.cards.get(ix.place())? })
    }

    /// Every card of the holder, each once: first the ones issued to it, then the ones only enrolled for it.
    fn cards_of(&self, holder: HolderIx) -> impl Iterator<Item = CardIx> {
        let record = self.holders.get(holder);
        let issued = std::iter::successors(record.and_then(|h| h.first_issued), |ix| {
            self.cards.get(ix.place()).and_then(|c| c.next_issued)
        });
        let only_enrolled = |ix: &CardIx| self.cards.get(ix.place()).is_some_and(|c| c.issued_to.is_none());
        issued.chain(self.enrolled_for(holder).filter(only_enrolled))
    }

    /// Every card that is enrolled for the holder, to whomever it was issued.
    fn enrolled_for(&self, holder: HolderIx) -> impl Iterator<Item = CardIx> {
        std::iter::successors(self.holders.get(holder).and_then(|h| h.first_enrolled), |ix| {
            self.cards.get(ix.place()).and_then(|c| c.next_enrolled)
        })
    }

    fn standing(&self, card: &Card) -> Standing {
        Flag::ALL.iter().copied().filter(|flag| self.flag(card, *flag).is_some_and(|(r, _)| r.on)).collect()
    }

    /// The register of `flag` that counts for the card: the newer of its own and its holder's.
    fn flag(&self, card: &Card, flag: Flag) -> Option<(FlagRegister, FlagWriter)> {
        let holder = card.holder().and_then(|ix| self.holders.get(ix));
        let own = card.flags.get(flag);
        // A by-holder op reaches the cards born before it; a card never issued is born before everything.
        let reaching = |r: &FlagRegister| card.birth.is_none_or(|birth| birth < r.revision);
        let holders = holder.and_then(|h| h.flags.get(flag)).filter(reaching);
        // Of one op that writes both (a reissue), the card's own counts.
        let is_own = own.map(|own| own.revision) >= holders.map(|holders| holders.revision);
        let own = own.map(|own| (own, FlagWriter::Card));
        if is_own { own } else { holders.map(|holders| (holders, FlagWriter::Holder)) }
    }

    fn enrolment_in_force<'a>(&'a self, card: &'a Card) -> Option<&'a PackedEnrolment> {
        let (revision, packed) = card.packed_enrolment()?;
        let withdrawn = self.holders.get(packed.holder).and_then(HolderRecord::withdrawn);
        withdrawn.is_none_or(|w| w < revision).then_some(packed)
    }

    fn unpack(&self, packed: &PackedEnrolment) -> Option<Enrolment> {
        let entitlement = |e: &PackedEntitlement| {
            Some(Entitlement {
                kind: *PortalKind::ALL.iter().find(|kind| e.is_of(**kind))?,
                zone: match e.zone() {
                    None => ZoneSet::Any,
                    Some(ix) => ZoneSet::One(self.zones.get_index(ix.place())?.clone()),
                },
                schedule: match e.schedule {
                    None => None,
                    Some(ix) => Some(self.schedules.get_index(ix.place())?.clone()),
                },
            })
        };
        Some(Enrolment {
            holder: self.holders.get(packed.holder)?.name.clone(),
            role: packed.role,
            marks: packed.marks,
            not_before: packed.not_before(),
            not_after: packed.not_after(),
            entitlements: packed.entitlements.iter().filter_map(entitlement).collect(),
        })
    }

    /// Whether the card could open anything at all at some time from `now` on; schedules are not looked at.
    fn could_open(&self, ix: CardIx, policy: &Policy, now: Timestamp) -> bool {
        self.view(ix).is_some_and(|view| {
            let standing = view.standing();
            if !standing.is_disjoint(DEAD) || (policy.require_issue && !view.is_named()) {
                return false;
            }
            PortalKind::ALL.iter().copied().any(|kind| {
                (!standing.contains(Flag::Frozen) || policy.frozen_may.contains(kind))
                    && view
                        .enrolments_for(kind, policy.reissue_keeps)
                        .filter(|e| e.role() != Role::Visitor || policy.visitor_kinds.contains(kind))
                        .any(|e| e.not_after().is_none_or(|end| now < end) && e.entitlements(kind).next().is_some())
            })
        })
    }
}

impl<'a> CardView<'a> {
    /// The effective flags.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.list.standing(self.card)
    }

    /// The register of `flag` that counts, and whose it is; `None`: it was never written.
    #[must_use]
    pub fn flag(&self, flag: Flag) -> Option<(FlagRegister, FlagWriter)> {
        self.list.flag(self.card, flag)
    }

    /// Whether the card office ever named this card by its UID.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.card.is_named()
    }

    /// The card's holder: to whom it was issued, else for whom it is enrolled.
    #[must_use]
    pub fn holder(&self) -> Option<&'a Holder> {
        Some(&self.list.holders.get(self.card.holder()?)?.name)
    }

    /// Everything known of the card itself.
    #[must_use]
    pub fn record(&self) -> Option<CardRecord> {
        self.list.record_at(self.ix.place())
    }

    /// When the card was born; `None`: never issued.
    #[must_use]
    pub fn birth(&self) -> Option<Revision> {
        self.card.birth
    }

    /// The card's own enrolment in force.
    #[must_use]
    pub fn enrolment(&self) -> Option<EnrolmentView<'a>> {
        let packed = self.list.enrolment_in_force(self.card)?;
        Some(EnrolmentView { list: self.list, packed })
    }

    /// Whether the card's own enrolment in force has this mark.
    #[must_use]
    pub fn is_marked(&self, mark: CardMark) -> bool {
        self.enrolment().is_some_and(|enrolment| enrolment.marks().contains(mark))
    }

    /// The enrolments that count for portals of `kind`: the card's own and, for kinds in `reissue_keeps`, those of the
    /// holder's replaced cards, whose entitlement follows the holder. A cancelled card leaves nothing behind. What is set for
    /// the card itself replaces what followed it: a later enrolment for this kind, or a later withdrawal.
    pub fn enrolments_for(&self, kind: PortalKind, reissue_keeps: KindSet) -> impl Iterator<Item = EnrolmentView<'a>> {
        let list = self.list;
        let own = self.ix;
        let holder = if reissue_keeps.contains(kind) { self.card.holder() } else { None };
        let own_revision = self.card.enrolment.as_ref().filter(|_| {
            let has_none = |own: EnrolmentView<'_>| own.entitlements(kind).next().is_none();
            !self.enrolment().is_some_and(has_none)
        });
        // A withdrawal by holder is as much a later word about this card as one of its own.
        let of_holder = |(_, packed): (_, &PackedEnrolment)| list.holders.get(packed.holder)?.withdrawn();
        let withdrawn = self.card.packed_enrolment().and_then(of_holder);
        let own_revision = own_revision.and_then(|register| withdrawn.max(Some(register.revision)));
        let inherited = holder
            .into_iter()
            .flat_map(move |holder| list.cards_of(holder))
            .filter(move |ix| *ix != own)
            .filter_map(move |ix| list.view(ix))
            .filter(|old| {
                let standing = old.standing();
                standing.contains(Flag::Replaced) && !standing.contains(Flag::Cancelled)
            })
            .filter(move |old| old.card.enrolment.as_ref().map(|r| r.revision) > own_revision)
            .filter_map(|old| old.enrolment());
        self.enrolment().into_iter().chain(inherited)
    }
}

impl<'a> EnrolmentView<'a> {
    /// Who carries the card.
    #[must_use]
    pub fn role(&self) -> Role {
        self.packed.role
    }

    /// What is special about the card.
    #[must_use]
    pub fn marks(&self) -> CardMarks {
        self.packed.marks
    }

    /// Valid from, inclusive.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.packed.not_before()
    }

    /// Valid until, exclusive.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.packed.not_after()
    }

    /// When it was made, where it is a visitor's that names no end.
    #[must_use]
    pub fn made_on(&self) -> Option<Timestamp> {
        self.packed.made_on()
    }

    /// The entitlements for portals of `kind`: whether each holds in `zone`, and its schedule.
    pub fn entitlements(&self, kind: PortalKind) -> impl Iterator<Item = PackedView<'a>> {
        let list = self.list;
        self.packed.entitlements.iter().filter(move |e| e.is_of(kind)).map(move |packed| PackedView { list, packed })
    }
}

/// One entitlement as the ladder sees it.
#[derive(Clone, Copy, Debug)]
pub struct PackedView<'a> {
    list: &'a AccessList,
    packed: &'a PackedEntitlement,
}

impl<'a> PackedView<'a> {
    /// Whether it holds in `zone`.
    #[must_use]
    pub fn covers(&self, zone: &Zone) -> bool {
        self.packed.zone().is_none_or(|ix| self.list.zones.get_index(ix.place()) == Some(zone))
    }

    /// The schedule it is bound to.
    #[must_use]
    pub fn schedule(&self) -> Option<&'a ScheduleName> {
        self.packed.schedule.and_then(|ix| self.list.schedules.get_index(ix.place()))
    }
}
