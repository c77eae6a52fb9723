//! Applying a message: every op writes its registers unless a newer op already did.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::super::change::{Note, Op, PortalSet, Position, RegisterKind, RegisterKinds, Subject};
use super::super::credential::{CardMarks, Enrolment, Flag, Flags, ZoneSet};
use super::super::id::{CardUid, Holder, Revision, Timestamp};
use super::super::policy::Policy;
use super::card::{Card, EnrolmentRegister, IssuedTo, PackedEnrolment, PackedEntitlement};
use super::index::{CardIx, HolderIx, ScheduleIx, ZoneIx};
use super::lossy::Collisions;
use super::site::PostureRegister;
use super::{AccessList, CardRecord, HolderEntry};

/// What a message may have changed, so that standing grants are judged again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// These cards.
    pub cards: Vec<CardUid>,
    /// Rooms, portals or schedules: everything may be different.
    pub site: bool,
}

/// What a message did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Cards that could open something before and can open nothing now, in the order of the list.
    pub revoked: Vec<CardUid>,
    /// What to judge again.
    pub affected: Affected,
    /// Cards that lossy readers cannot distinguish since this message.
    pub collisions: Collisions,
    /// What is worth knowing of its ops, at most [`NOTES_MAX`].
    pub notes: Vec<Note>,
}

/// Notes on the ops of one message.
pub const NOTES_MAX: usize = 64;

impl AccessList {
    /// Applies the ops of one message, in order.
    ///
    /// `made`: when the message was made, by its center's clock.
    pub fn apply(&mut self, ops: &[Op], (at, made): (Position, Timestamp), policy: &Policy, now: Timestamp) -> Applied {
        let known = self.cards.len();
        // The cards the message affects, and whether each could open something before it.
        let mut before: HashMap<CardIx, bool, RandomState> = HashMap::default();
        let mut site = false;
        let mut notes = Vec::new();
        // One op cannot give a card to two holders, and the usual reissue must not pay for the table.
        let mut holders = (ops.len() > 1).then(HashMap::default);
        for (place, op) in (0..).zip(ops) {
            for ix in self.cards_affected_by(op) {
                before.entry(ix).or_insert_with(|| self.could_open(ix, policy, now));
            }
            let why = || self.loses_to_newer(op, at.revision(place)).or_else(|| self.clears_nothing(op));
            let no_effect = (notes.len() < NOTES_MAX).then(why).flatten();
            site |= self.write(op, at.revision(place), Some(made));
            // The op may have made cards, or moved one to another holder whose cards are then concerned too.
            for ix in self.cards_affected_by(op) {
                before.entry(ix).or_insert(false);
            }
            if notes.len() < NOTES_MAX {
                let note = self.note(op, at.revision(place), holders.as_mut());
                notes.extend(note.or_else(|| no_effect.map(|message| Note::no_effect(place, message))));
            }
        }
        let mut affected: Vec<CardIx> = before.keys().copied().collect();
        affected.sort_unstable();
        let could = |ix: CardIx| before.get(&ix).copied().unwrap_or_else(|| self.could_open(ix, policy, now));
        let can = |ix: CardIx| self.could_open(ix, policy, now);
        let uid = |ix: &CardIx| self.cards.get(ix.place()).map(|c| c.uid);
        let revoked = affected.iter().filter(|ix| could(**ix) && !can(**ix)).filter_map(uid).collect();
        let (collisions, mut concerned) = self.new_collisions(&affected, known, could, can);
        concerned.retain(|ix| !before.contains_key(ix));
        let cards = affected.iter().chain(&concerned).filter_map(uid).collect();
        Applied { revoked, affected: Affected { cards, site }, collisions, notes }
    }

    /// The same without reporting what changed: for replay. `made`: when the message was made; `None`: of a center, which writes the end
    /// of each visitor's enrolment into it.
    pub fn replay(&mut self, ops: &[Op], at: Position, made: Option<Timestamp>) {
        for (place, op) in (0..).zip(ops) {
            self.write(op, at.revision(place), made);
        }
    }

    /// The cards an op can affect: the ones it names and the other cards of their holders, whose entitlement may follow.
    fn cards_affected_by(&self, op: &Op) -> Vec<CardIx> {
        let (uids, holder): ([Option<&CardUid>; 2], Option<&Holder>) = match op {
            Op::Issue { uid, holder } => ([Some(uid), None], Some(holder)),
            Op::Reissue { holder, new_uid, old_uid } => ([Some(new_uid), old_uid.as_ref()], Some(holder)),
            Op::SetFlag { subject: Subject::Card(uid), .. } | Op::Withdraw { subject: Subject::Card(uid) } => {
                ([Some(uid), None], None)
            }
            Op::SetFlag { subject: Subject::Holder(holder), .. }
            | Op::Withdraw { subject: Subject::Holder(holder) } => ([None, None], Some(holder)),
            Op::Reinstate { uid } => ([Some(uid), None], None),
            Op::Enrol { uid, enrolment } => ([Some(uid), None], Some(&enrolment.holder)),
            Op::Power { .. } | Op::DefineSchedule { .. } | Op::SetPosture { .. } => ([None, None], None),
        };
        let named = uids.into_iter().flatten().filter_map(|uid| self.find(uid));
        let mut all: Vec<CardIx> = named.collect();
        if let Op::Withdraw { subject: Subject::Holder(holder) } = op {
            // An enrolment names its holder itself, also where the card was issued to another.
            all.extend(self.holders.find(holder).into_iter().flat_map(|h| self.enrolled_for(h)));
        }
        let holder_of = |ix: &CardIx| self.cards.get(ix.place()).and_then(Card::holder);
        let mut holders: Vec<HolderIx> = all.iter().filter_map(holder_of).collect();
        holders.extend(holder.and_then(|h| self.holders.find(h)));
        holders.dedup();
        for holder in holders {
            all.extend(self.cards_of(holder));
        }
        all
    }

    /// Writes one op's registers. `true` if they are those of rooms, portals or schedules.
    fn write(&mut self, op: &Op, revision: Revision, made: Option<Timestamp>) -> bool {
        match op {
            Op::Issue { uid, holder } => self.issue(*uid, holder, revision),
            Op::Reissue { holder, new_uid, old_uid } => {
                self.issue(*new_uid, holder, revision);
                self.set_flag(*new_uid, Flag::Replaced, revision, false);
                if let Some(old_uid) = old_uid {
                    self.set_flag(*old_uid, Flag::Replaced, revision, true);
                }
                self.set_holder_flag(holder, Flag::Replaced, revision, true);
            }
            Op::SetFlag { subject: Subject::Card(uid), flag, on } => self.set_flag(*uid, *flag, revision, *on),
            Op::SetFlag { subject: Subject::Holder(holder), flag, on } => {
                self.set_holder_flag(holder, *flag, revision, *on);
            }
            Op::Reinstate { uid } => {
                self.set_flag(*uid, Flag::Replaced, revision, false);
                self.set_flag(*uid, Flag::Cancelled, revision, false);
            }
            Op::Enrol { uid, enrolment } => self.set_enrolment(*uid, revision, Some(enrolment), made),
            Op::Withdraw { subject: Subject::Card(uid) } => self.set_enrolment(*uid, revision, None, None),
            Op::Withdraw { subject: Subject::Holder(holder) } => self.withdraw_holder(holder, revision),
            Op::Power { zone, reason, suspended } => self.site.set_power(zone, *reason, revision, *suspended),
            Op::DefineSchedule { name, schedule } => self.site.define_schedule(name, revision, schedule),
            Op::SetPosture { portals, posture, until } => {
                let register = PostureRegister { revision, posture: *posture, until: *until };
                match portals {
                    PortalSet::All => self.site.set_posture(None, register),
                    PortalSet::Some(ids) => ids.iter().for_each(|id| self.site.set_posture(Some(id), register)),
                }
            }
        }
        matches!(op, Op::Power { .. } | Op::DefineSchedule { .. } | Op::SetPosture { .. })
    }

    /// Puts all registers of these kinds before the first message of any epoch, in the order they have: their values hold on, and
    /// a stream that begins its numbers again overrides it.
    pub fn renumber(&mut self, kinds: &RegisterKinds) {
        let mut ranks: BTreeMap<Revision, u32> = BTreeMap::new();
        self.each_revision(kinds, &mut |revision| {
            ranks.insert(*revision, 0);
        });
        ranks.values_mut().zip(0..).for_each(|(rank, place)| *rank = place);
        self.each_revision(kinds, &mut |revision| {
            let place = ranks.get(revision).copied().unwrap_or(0);
            *revision = Revision { epoch: NonZeroU32::MIN, seq: 0, place };
        });
    }

    /// The revision of the newest register of this kind.
    #[must_use]
    pub fn newest(&self, kind: RegisterKind) -> Option<Revision> {
        let flags = |flags: &Flags| Flag::ALL.iter().filter_map(|flag| flags.get(*flag)).map(|r| r.revision).max();
        let cards = self.cards.iter().filter_map(|card| match kind {
            RegisterKind::Standing => {
                card.birth.max(card.issued_to.map(|register| register.revision)).max(flags(&card.flags))
            }
            RegisterKind::Enrolment => card.enrolment.as_ref().map(|register| register.revision),
            RegisterKind::Power | RegisterKind::Schedule | RegisterKind::Posture => None,
        });
        let holders = self.holders.iter().filter_map(|holder| match kind {
            RegisterKind::Standing => flags(&holder.flags),
            RegisterKind::Enrolment => holder.withdrawn(),
            RegisterKind::Power | RegisterKind::Schedule | RegisterKind::Posture => None,
        });
        cards.chain(holders).max().max(self.site.newest(kind))
    }

    fn each_revision(&mut self, kinds: &RegisterKinds, each: &mut dyn FnMut(&mut Revision)) {
        let standing = kinds.contains(&RegisterKind::Standing);
        let enrolment = kinds.contains(&RegisterKind::Enrolment);
        for card in &mut self.cards {
            if standing {
                card.birth.iter_mut().for_each(&mut *each);
                card.issued_to.iter_mut().for_each(|register| each(&mut register.revision));
                card.flags.revisions_mut().for_each(&mut *each);
            }
            card.enrolment.iter_mut().filter(|_| enrolment).for_each(|register| each(&mut register.revision));
        }
        for holder in self.holders.iter_mut() {
            if standing {
                holder.flags.revisions_mut().for_each(&mut *each);
            }
            holder.withdrawn.iter_mut().filter(|_| enrolment).for_each(|revision| each(revision));
        }
        self.site.revisions_mut(kinds).for_each(each);
    }

    pub(super) fn entry(&mut self, uid: CardUid) -> CardIx {
        if let Some(ix) = self.find(&uid) {
            return ix;
        }
        let ix = CardIx::at(self.cards.len());
        self.cards.push(Card::new(uid));
        let Self { cards, by_uid, hasher, .. } = self;
        let rehash = |ix: &CardIx| cards.get(ix.place()).map_or(0, |c| hasher.hash_one(c.uid));
        by_uid.insert_unique(hasher.hash_one(uid), ix, rehash);
        self.index_card(ix);
        ix
    }

    fn issue(&mut self, uid: CardUid, holder: &Holder, revision: Revision) {
        let ix = self.entry(uid);
        if let Some(card) = self.cards.get_mut(ix.place()) {
            card.birth = Some(card.birth.map_or(revision, |birth| birth.min(revision)));
        }
        self.issue_to(ix, holder, revision);
    }

    /// Writes to whom a card was issued; its birth stays.
    pub(super) fn issue_to(&mut self, ix: CardIx, holder: &Holder, revision: Revision) {
        let holder = self.holders.intern(holder);
        let Some(card) = self.cards.get_mut(ix.place()) else { return };
        if card.issued_to.is_some_and(|old| old.revision >= revision) {
            return;
        }
        let old = card.issued_to.replace(IssuedTo { revision, holder });
        if old.map(|o| o.holder) != Some(holder) {
            if let Some(old) = old {
                self.unlink(ix, old.holder, Chain::Issued);
            }
            self.link(ix, holder, Chain::Issued);
        }
    }

    pub(super) fn set_flag(&mut self, uid: CardUid, flag: Flag, revision: Revision, on: bool) {
        let ix = self.entry(uid);
        if let Some(card) = self.cards.get_mut(ix.place()) {
            card.flags.write(flag, revision, on);
        }
    }

    pub(super) fn set_holder_flag(&mut self, holder: &Holder, flag: Flag, revision: Revision, on: bool) {
        let holder = self.holders.intern(holder);
        if let Some(record) = self.holders.get_mut(holder) {
            record.flags.write(flag, revision, on);
        }
    }

    pub(super) fn withdraw_holder(&mut self, holder: &Holder, revision: Revision) {
        let holder = self.holders.intern(holder);
        if let Some(record) = self.holders.get_mut(holder) {
            record.withdraw(revision);
        }
    }

    pub(super) fn set_enrolment(
        &mut self,
        uid: CardUid,
        revision: Revision,
        enrolment: Option<&Enrolment>,
        made: Option<Timestamp>,
    ) {
        let ix = self.entry(uid);
        if self.cards.get(ix.place()).and_then(|c| c.enrolment.as_ref()).is_some_and(|old| old.revision >= revision) {
            return;
        }
        let packed = enrolment.map(|e| Box::new(self.pack(e, made)));
        let new_holder = packed.as_ref().map(|p| p.holder);
        let Some(card) = self.cards.get_mut(ix.place()) else { return };
        let old = card.enrolment.replace(EnrolmentRegister { revision, enrolment: packed });
        let old_holder = old.and_then(|r| r.enrolment).map(|e| e.holder);
        if old_holder != new_holder {
            if let Some(old) = old_holder {
                self.unlink(ix, old, Chain::Enrolled);
            }
            if let Some(new) = new_holder {
                self.link(ix, new, Chain::Enrolled);
            }
        }
    }

    /// Puts back the marks of a card's enrolment, which the generations keep apart from it.
    pub fn restore_marks(&mut self, uid: CardUid, marks: CardMarks) {
        let card = self.find(&uid).and_then(|ix| self.cards.get_mut(ix.place()));
        if let Some(packed) = card.and_then(|card| card.enrolment.as_mut()?.enrolment.as_deref_mut()) {
            packed.marks = marks;
        }
    }

    /// A visitor's enrolment that names no end was made at this time.
    pub fn made_on(&mut self, uid: CardUid, made: Timestamp) {
        let card = self.find(&uid).and_then(|ix| self.cards.get_mut(ix.place()));
        let packed = card.and_then(|card| card.enrolment.as_mut()?.enrolment.as_deref_mut());
        packed.into_iter().for_each(|packed| packed.set_made_on(made));
    }

    fn pack(&mut self, enrolment: &Enrolment, made: Option<Timestamp>) -> PackedEnrolment {
        let holder = self.holders.intern(&enrolment.holder);
        let pack = |e: &super::Entitlement| {
            let zone = match &e.zone {
                ZoneSet::Any => None,
                ZoneSet::One(zone) => Some(ZoneIx::at(place_of(&mut self.zones, zone))),
            };
            let schedule = e.schedule.as_ref().map(|name| ScheduleIx::at(place_of(&mut self.schedules, name)));
            PackedEntitlement::new(e.kind, zone, schedule)
        };
        PackedEnrolment::new(holder, enrolment, made, enrolment.entitlements.iter().map(pack).collect())
    }

    fn link(&mut self, ix: CardIx, holder: HolderIx, chain: Chain) {
        let Some(record) = self.holders.get_mut(holder) else { return };
        let Some(card) = self.cards.get_mut(ix.place()) else { return };
        let (first, next) = match chain {
            Chain::Issued => (&mut record.first_issued, &mut card.next_issued),
            Chain::Enrolled => (&mut record.first_enrolled, &mut card.next_enrolled),
        };
        *next = first.replace(ix);
    }

    fn unlink(&mut self, ix: CardIx, holder: HolderIx, chain: Chain) {
        let next_of = |card: &mut Card| match chain {
            Chain::Issued => card.next_issued.take(),
            Chain::Enrolled => card.next_enrolled.take(),
        };
        let Some(after) = self.cards.get_mut(ix.place()).map(next_of) else { return };
        let Some(record) = self.holders.get_mut(holder) else { return };
        let first = match chain {
            Chain::Issued => &mut record.first_issued,
            Chain::Enrolled => &mut record.first_enrolled,
        };
        if *first == Some(ix) {
            *first = after;
            return;
        }
        let mut at = *first;
        while let Some(card) = at.and_then(|at| self.cards.get_mut(at.place())) {
            let next = match chain {
                Chain::Issued => &mut card.next_issued,
                Chain::Enrolled => &mut card.next_enrolled,
            };
            if *next == Some(ix) {
                *next = after;
                return;
            }
            at = *next;
        }
    }

    /// Puts back one card as [`AccessList::record_at`] gave it: for a generation read from disk.
    pub fn restore_card(&mut self, record: &CardRecord) {
        if let Some((revision, holder)) = &record.issued_to {
            self.issue(record.uid, holder, *revision);
        }
        for flag in Flag::ALL.iter().copied() {
            if let Some(register) = record.flags.get(flag) {
                self.set_flag(record.uid, flag, register.revision, register.on);
            }
        }
        if let Some((revision, enrolment)) = &record.enrolment {
            self.set_enrolment(record.uid, *revision, enrolment.as_ref(), None);
        }
        let ix = self.entry(record.uid);
        if let Some(card) = self.cards.get_mut(ix.place()) {
            card.birth = record.birth;
        }
    }

    /// Puts back one holder as [`AccessList::holder_entries`] gave it.
    pub fn restore_holder(&mut self, entry: &HolderEntry) {
        for flag in Flag::ALL.iter().copied() {
            if let Some(register) = entry.flags.get(flag) {
                self.set_holder_flag(&entry.holder, flag, register.revision, register.on);
            }
        }
        if let Some(revision) = entry.withdrawn {
            self.withdraw_holder(&entry.holder, revision);
        }
        // A holder without registers is only a name; it comes back with its cards.
    }
}

/// The place of a name; most are known, and cost no copy.
fn place_of<N: Clone + Eq + Hash>(names: &mut IndexSet<N, RandomState>, name: &N) -> usize {
    names.get_index_of(name).unwrap_or_else(|| names.insert_full(name.clone()).0)
}

/// Which of a holder's two chains of cards.
#[derive(Clone, Copy)]
enum Chain {
    Issued,
    Enrolled,
}
