//! A snapshot becomes part of the list: a new list is made beside the old one, a few cards at a time, and takes its place at once.
//!
//! ```text
//! entries   what the snapshot names, each register with its revision
//! cards     what survives of the old list: registers of other streams, registers newer than the snapshot, flags that are set
//! holders   the same
//! site      the same
//! judged    which cards could open something before and cannot now; how many enrolments are removed
//! ```
//! Messages that arrive meanwhile are written to both lists: all registers converge, so it makes no difference which card was
//! reached by then. Only a message that the snapshot already contains begins the merge again.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::super::change::{Op, Position, RegisterKind, RegisterKinds};
use super::super::credential::{Flag, FlagRegister, Flags};
use super::super::id::{CardUid, Revision, Timestamp};
use super::super::policy::Policy;
use super::super::snapshot::{EnrolmentEntry, SHRINK_PERCENT_MAX, SnapshotEntry, StandingEntry};
use super::card::Card;
use super::site::{PostureRegister, ScheduleRegister, Site};
use super::{AccessList, FlagWriter};

/// How far a merge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// At this entry of this part.
    Entries(usize, usize),
    /// At this card of the old list.
    Cards(usize),
    /// At this holder of the old list.
    Holders(usize),
    /// At this card of the old list, with the new list complete.
    Judging(usize),
    Done,
}

/// What a snapshot would do to the enrolments of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrink {
    /// Enrolments in force before.
    pub before: usize,
    /// Those of them that would end.
    pub removed: usize,
}

impl Shrink {
    /// Whether it is more than a gateway lets pass without `allow_shrink`.
    #[must_use]
    pub fn is_too_much(self) -> bool {
        self.removed.saturating_mul(100) > self.before.saturating_mul(SHRINK_PERCENT_MAX)
    }
}

/// One merge. See the module's head.
#[derive(Debug)]
pub struct Merge {
    owns: RegisterKinds,
    at: Position,
    /// When the snapshot was made.
    made: Option<Timestamp>,
    list: AccessList,
    step: Step,
    cards: u64,
    /// The first card, holder or other thing that the snapshot names twice.
    twice: Option<String>,
    shrink: Shrink,
    revoked: Vec<CardUid>,
    /// Cards that a message affected since judging began.
    touched: Vec<CardUid>,
}

impl Merge {
    /// A merge of a snapshot at `at`, made then, of a stream that owns these registers into `old`.
    #[must_use]
    pub fn new(
        owns: RegisterKinds,
        (at, made): (Position, Option<Timestamp>),
        old: &AccessList,
        entries: &[Vec<SnapshotEntry>],
    ) -> Self {
        let named = entries.iter().map(Vec::len).sum();
        Self {
            owns,
            at,
            made,
            list: AccessList::like(old, named),
            step: Step::Entries(0, 0),
            cards: 0,
            twice: None,
            shrink: Shrink::default(),
            revoked: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Distinct UIDs that the entries name, and the first thing that they name twice; known once all entries are read.
    #[must_use]
    pub fn named(&self) -> Option<(u64, Option<&str>)> {
        (!matches!(self.step, Step::Entries(..))).then_some((self.cards, self.twice.as_deref()))
    }

    /// Does about `most` cards' worth of work on the new list. `true`: it is complete.
    pub fn work(&mut self, old: &AccessList, entries: &[Vec<SnapshotEntry>], most: usize) -> bool {
        for _ in 0..most {
            self.step = match self.step {
                Step::Entries(part, place) => match (entries.get(part), entries.get(part).and_then(|p| p.get(place))) {
                    (None, _) => Step::Cards(0),
                    (Some(_), None) => Step::Entries(part + 1, 0),
                    (Some(_), Some(entry)) => {
                        self.write(entry);
                        Step::Entries(part, place + 1)
                    }
                },
                Step::Cards(place) if place < old.len() => {
                    self.keep_card(old, place);
                    Step::Cards(place + 1)
                }
                Step::Cards(_) => Step::Holders(0),
                Step::Holders(place) => match old.holders.iter().nth(place) {
                    Some(_) => {
                        self.keep_holder(old, place);
                        Step::Holders(place + 1)
                    }
                    None => {
                        self.keep_site(&old.site);
                        Step::Judging(0)
                    }
                },
                Step::Judging(_) | Step::Done => return true,
            };
        }
        matches!(self.step, Step::Judging(_) | Step::Done)
    }

    /// Judges about `most` cards, once the new list is complete. `true`: all are judged.
    pub fn judge(&mut self, old: &AccessList, policy: &Policy, now: Timestamp, most: usize) -> bool {
        let Step::Judging(from) = self.step else { return self.step == Step::Done };
        let to = old.len().min(from.saturating_add(most));
        for card in old.cards.get(from..to).unwrap_or_default() {
            if self.is_revoked(old, card.uid, policy, now) {
                self.revoked.push(card.uid);
            }
            if self.owns.contains(&RegisterKind::Enrolment) && old.enrolment_in_force(card).is_some() {
                self.shrink.before += 1;
                let new = self.list.card(&card.uid);
                self.shrink.removed += usize::from(new.is_none_or(|new| new.enrolment().is_none()));
            }
        }
        self.step = if to == old.len() { Step::Done } else { Step::Judging(to) };
        self.step == Step::Done
    }

    fn is_revoked(&self, old: &AccessList, uid: CardUid, policy: &Policy, now: Timestamp) -> bool {
        let can = |list: &AccessList| list.find(&uid).is_some_and(|ix| list.could_open(ix, policy, now));
        can(old) && !can(&self.list)
    }

    /// What the snapshot does to the enrolments; known once all cards are judged.
    #[must_use]
    pub fn shrink(&self) -> Shrink {
        self.shrink
    }

    /// A message of any stream was applied to the old list: `at` is its place if it is of the snapshot's own stream, and `affected`
    /// the cards whose rights it may have changed. `false`: the merge has to begin again, because the snapshot contains the message.
    #[must_use]
    pub fn follow(
        &mut self,
        ops: &[Op],
        (revision, made): (Position, Timestamp),
        is_own: bool,
        affected: &[CardUid],
    ) -> bool {
        if is_own && revision <= self.at {
            return false;
        }
        // As long as only entries are read, the old list still comes with all it has.
        if !matches!(self.step, Step::Entries(..)) {
            self.list.replay(ops, revision, Some(made));
        }
        if matches!(self.step, Step::Judging(_) | Step::Done) {
            self.touched.extend_from_slice(affected);
        }
        true
    }

    /// The new list, and the cards that could open something in the old one and can open nothing now.
    #[must_use]
    pub fn finish(mut self, old: &AccessList, policy: &Policy, now: Timestamp) -> (AccessList, Vec<CardUid>) {
        let touched: BTreeSet<CardUid> = std::mem::take(&mut self.touched).into_iter().collect();
        self.revoked.retain(|uid| !touched.contains(uid));
        let revoked: Vec<CardUid> = touched.into_iter().filter(|uid| self.is_revoked(old, *uid, policy, now)).collect();
        self.revoked.extend(revoked);
        (self.list, self.revoked)
    }

    /// The registers that the snapshot's stream owns.
    #[must_use]
    pub fn owns(&self) -> &RegisterKinds {
        &self.owns
    }

    /// The new list of a merge that is given up.
    #[must_use]
    pub fn into_list(self) -> AccessList {
        self.list
    }

    /// The revision of what the snapshot names without one: behind every op of the messages that it contains.
    fn last(&self) -> Revision {
        self.at.revision(u32::MAX)
    }

    fn is_newer(&self, revision: Revision) -> bool {
        revision > self.last()
    }

    fn is_owned(&self, kind: RegisterKind) -> bool {
        self.owns.contains(&kind)
    }

    fn note_twice(&mut self, what: impl FnOnce() -> String) {
        if self.twice.is_none() {
            self.twice = Some(what());
        }
    }

    fn write(&mut self, entry: &SnapshotEntry) {
        match entry {
            SnapshotEntry::Card { uid, standing, enrolment } => {
                let is_new = self.list.find(uid).is_none();
                self.cards += u64::from(is_new);
                if let Some(standing) = standing {
                    self.write_standing(*uid, standing);
                }
                if let Some(enrolment) = enrolment {
                    self.write_enrolment(*uid, enrolment);
                }
            }
            SnapshotEntry::Holder { holder, flags } => {
                if self
                    .list
                    .holders
                    .find(holder)
                    .and_then(|ix| self.list.holders.get(ix))
                    .is_some_and(|h| !h.flags.is_empty())
                {
                    self.note_twice(|| format!("holder `{holder}`"));
                }
                for (flag, register) in registers(flags) {
                    self.list.set_holder_flag(holder, flag, register.revision, register.on);
                }
            }
            SnapshotEntry::Power { zone, reasons } => {
                let revision = self.last();
                reasons.iter().for_each(|reason| self.list.site.set_power(zone, *reason, revision, true));
            }
            SnapshotEntry::Posture { portal, posture, until } => {
                // The snapshot names a portal's own register only where it is newer than that of all portals.
                let place = if portal.is_none() { u32::MAX - 1 } else { u32::MAX };
                let revision = self.at.revision(place);
                let register = PostureRegister { revision, posture: *posture, until: *until };
                self.list.site.set_posture(portal.as_ref(), register);
            }
            SnapshotEntry::Schedule { name, revision, schedule } => {
                if self.list.site.schedules.contains_key(name) {
                    self.note_twice(|| format!("schedule `{name}`"));
                }
                self.list.site.define_schedule(name, *revision, schedule);
            }
        }
    }

    fn write_standing(&mut self, uid: CardUid, standing: &StandingEntry) {
        let StandingEntry { issued_to, birth, flags } = standing;
        let revision = self.last();
        let ix = self.list.entry(uid);
        if self.list.cards.get(ix.place()).is_some_and(Card::is_named) {
            self.note_twice(|| format!("the standing of card `{}`", uid.masked()));
        }
        if let Some(card) = self.list.cards.get_mut(ix.place()) {
            card.birth = *birth;
        }
        if let Some(holder) = issued_to {
            self.list.issue_to(ix, holder, revision);
        }
        for (flag, register) in registers(flags) {
            self.list.set_flag(uid, flag, register.revision, register.on);
        }
    }

    fn write_enrolment(&mut self, uid: CardUid, entry: &EnrolmentEntry) {
        let ix = self.list.entry(uid);
        if self.list.cards.get(ix.place()).is_some_and(|card| card.enrolment.is_some()) {
            self.note_twice(|| format!("the enrolment of card `{}`", uid.masked()));
        }
        let revision = entry.revision.unwrap_or_else(|| self.last());
        self.list.set_enrolment(uid, revision, entry.enrolment.as_ref(), self.made);
    }

    /// Writes what survives of a card of the old list.
    fn keep_card(&mut self, old: &AccessList, place: usize) {
        let Some(card) = old.cards.get(place) else { return };
        let [standing, enrolment] = [RegisterKind::Standing, RegisterKind::Enrolment].map(|kind| self.is_owned(kind));
        let survives = |owned: bool, revision: Revision| !owned || self.is_newer(revision);
        let issued_to = card.issued_to.filter(|issued| survives(standing, issued.revision));
        let birth = card.birth.filter(|birth| survives(standing, *birth));
        // Which issue is the oldest that the snapshot does not have is not known; it came after all that the snapshot has.
        let older = issued_to.and(card.birth).map(|birth| birth.max(self.last()));
        let flags: Vec<(Flag, FlagRegister)> =
            registers(&card.flags).filter(|(_, r)| r.on || survives(standing, r.revision)).collect();
        let register = card.enrolment.as_ref().filter(|register| survives(enrolment, register.revision));
        if issued_to.is_some() || birth.is_some() {
            let ix = self.list.entry(card.uid);
            if let Some(new) = self.list.cards.get_mut(ix.place()) {
                new.birth = [new.birth, birth, older].into_iter().flatten().min();
            }
            if let Some(issued) = issued_to
                && let Some(holder) = old.holders.get(issued.holder)
            {
                self.list.issue_to(ix, &holder.name, issued.revision);
            }
        }
        let flags = flags.into_iter().chain(self.held_by_holder(old, card));
        for (flag, register) in flags.collect::<Vec<_>>() {
            self.list.set_flag(card.uid, flag, register.revision, register.on);
        }
        if let Some(register) = register {
            let enrolment = register.enrolment.as_deref().and_then(|packed| old.unpack(packed));
            self.list.set_enrolment(card.uid, register.revision, enrolment.as_ref(), card.made_on());
        } else if card.enrolment.is_some() {
            // What the snapshot does not name is withdrawn.
            let named = self.list.find(&card.uid).and_then(|ix| self.list.cards.get(ix.place()));
            if named.is_none_or(|new| new.enrolment.is_none()) {
                self.list.set_enrolment(card.uid, self.last(), None, None);
            }
            // The same enrolment does not begin another day because a snapshot repeats it.
            if let Some(made) = card.made_on()
                && self.list.enrolment_of(&card.uid) == old.enrolment_of(&card.uid)
            {
                self.list.made_on(card.uid, made);
            }
        }
    }

    /// What an op by holder set for this card and the snapshot does not name, where as the snapshot has the card, or after a later issue of
    /// one that it does not have, the card would be born after that op: absence revives none.
    fn held_by_holder(&self, old: &AccessList, card: &Card) -> Vec<(Flag, FlagRegister)> {
        let holder = card.holder().and_then(|ix| old.holders.get(ix)).filter(|holder| !holder.flags.is_empty());
        let (Some(holder), true) = (holder, self.is_owned(RegisterKind::Standing)) else { return Vec::new() };
        let new = self.list.find(&card.uid).and_then(|ix| self.list.cards.get(ix.place())).filter(|new| new.is_named());
        let named = self.list.holders.find(&holder.name).and_then(|ix| self.list.holders.get(ix));
        // A newer message may have been written here already.
        let names = |flags: &Flags, flag| flags.get(flag).is_some_and(|named| !self.is_newer(named.revision));
        let is_held = |flag: Flag, FlagRegister { revision, on }: FlagRegister| {
            let is_named =
                new.is_some_and(|new| names(&new.flags, flag)) || named.is_some_and(|named| names(&named.flags, flag));
            // What a former owner set comes before every birth.
            let was_issued = card.birth.is_some() || (new.is_some() && revision.seq == 0);
            let still_reaches = new.is_some_and(|new| new.birth.is_none_or(|birth| birth < revision));
            on && !is_named && was_issued && !still_reaches
        };
        let by_holder = |flag: &Flag| old.flag(card, *flag).filter(|(_, writer)| *writer == FlagWriter::Holder);
        let set = Flag::ALL.iter().filter_map(|flag| Some((*flag, by_holder(flag)?.0)));
        set.filter(|(flag, register)| is_held(*flag, *register)).collect()
    }

    fn keep_holder(&mut self, old: &AccessList, place: usize) {
        let Some(holder) = old.holders.iter().nth(place) else { return };
        let standing = self.is_owned(RegisterKind::Standing);
        for (flag, register) in registers(&holder.flags) {
            if register.on || !standing || self.is_newer(register.revision) {
                self.list.set_holder_flag(&holder.name, flag, register.revision, register.on);
            }
        }
        if let Some(revision) = holder.withdrawn()
            && (!self.is_owned(RegisterKind::Enrolment) || self.is_newer(revision))
        {
            self.list.withdraw_holder(&holder.name, revision);
        }
    }

    fn keep_site(&mut self, old: &Site) {
        let [power, schedule, posture] =
            [RegisterKind::Power, RegisterKind::Schedule, RegisterKind::Posture].map(|kind| self.is_owned(kind));
        let last = self.last();
        let survives = |owned: bool, revision: Revision| !owned || revision > last;
        let site = &mut self.list.site;
        for (zone, reasons) in &old.power {
            for (reason, register) in reasons.iter().filter(|(_, r)| survives(power, r.revision)) {
                site.set_power(zone, *reason, register.revision, register.on);
            }
        }
        let named = old.portals.iter().map(|(portal, register)| (Some(portal), *register));
        for (portal, register) in named.chain(old.all_portals.map(|register| (None, register))) {
            if survives(posture, register.revision) {
                site.set_posture(portal, register);
            }
        }
        for (name, ScheduleRegister { revision, schedule: windows }) in &old.schedules {
            if survives(schedule, *revision) {
                site.define_schedule(name, *revision, windows);
            }
        }
    }
}

/// The flags that were ever written.
fn registers(flags: &Flags) -> impl Iterator<Item = (Flag, FlagRegister)> {
    Flag::ALL.iter().filter_map(|flag| flags.get(*flag).map(|register| (*flag, register)))
}

impl AccessList {
    /// An empty list with an index for the same readers as `old`, and with room for what `old` and a snapshot of `named` entries
    /// usually hold: a table that grows moves all it has at once, and a request would wait for that.
    fn like(old: &Self, named: usize) -> Self {
        let room = old.cards.len().max(named);
        let mut list = Self {
            cards: Vec::with_capacity(room),
            by_uid: HashTable::with_capacity(room),
            hasher: RandomState::default(),
            ..Self::default()
        };
        list.holders.reserve(old.holders.len().max(named));
        list.index_like(old);
        list
    }

    /// Replays a snapshot of a stream that owns `owns`; when it was made as for [`AccessList::replay`].
    pub fn replay_snapshot(
        &mut self,
        owns: &RegisterKinds,
        at: (Position, Option<Timestamp>),
        entries: &[Vec<SnapshotEntry>],
    ) {
        let mut merge = Merge::new(owns.clone(), at, self, entries);
        while !merge.work(self, entries, usize::MAX) {}
        *self = merge.list;
    }

    /// Gives back the memory of about `most` cards of a list that is not used any more. `true`: nothing is left.
    pub fn discard(&mut self, most: usize) -> bool {
        self.cards.truncate(self.cards.len().saturating_sub(most));
        self.cards.is_empty() && self.holders.discard(most)
    }
}
