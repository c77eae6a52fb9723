//! What the two offices publish, and what the messages applied so far report of a card.

use std::collections::{HashMap, HashSet};

use dormgate::access::change::{Op, Position, Subject, SuspendReason};
use dormgate::access::credential::Flag;
use dormgate::access::id::{CardUid, Holder, Revision};
use dormgate::access::list::AccessList;
use dormgate::access::portal::Portal;

use super::BOXES;
use crate::dice::Dice;
use crate::model;
use crate::world::{World, at, enrolment, name, uid};

const HOLDERS: usize = 120;
/// Each holder has two cards by turns.
pub(super) const CARDS: usize = 2 * HOLDERS;

/// An office: what it has published, and its own list.
pub(super) struct Office {
    pub(super) stream: &'static str,
    pub(super) messages: Vec<Vec<Op>>,
    pub(super) published: u64,
    pub(super) list: AccessList,
}

impl Office {
    pub(super) fn last(&self) -> Position {
        at(1, self.published)
    }

    pub(super) fn publish(&mut self) -> Option<u64> {
        let ops = self.messages.get(usize::try_from(self.published).unwrap())?;
        self.published += 1;
        self.list.replay(ops, at(1, self.published), None);
        Some(self.published)
    }

    pub(super) fn ops(&self, seq: u64) -> &[Op] {
        &self.messages[usize::try_from(seq).unwrap() - 1]
    }
}

/// What the messages applied so far report of each card, found without looking through all of them.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) seqs: [HashSet<u64>; 2],
    of_card: HashMap<CardUid, Vec<(Revision, Op)>>,
    of_holder: HashMap<Holder, Vec<(Revision, Op)>>,
    of_rooms: Vec<(Revision, Op)>,
}

impl Applied {
    pub(super) fn add(&mut self, place: usize, office: &Office, seq: u64) {
        if !self.seqs[place].insert(seq) {
            return;
        }
        for (op, place) in office.ops(seq).iter().zip(0..) {
            let entry = (at(1, seq).revision(place), op.clone());
            let (mut cards, mut holders): (Vec<CardUid>, Vec<&Holder>) = Default::default();
            match op {
                Op::Issue { uid, .. } | Op::Enrol { uid, .. } | Op::Reinstate { uid } => cards.push(*uid),
                Op::Reissue { holder, new_uid, old_uid } => {
                    holders.push(holder);
                    cards.extend([Some(*new_uid), *old_uid].into_iter().flatten());
                }
                Op::SetFlag { subject, .. } | Op::Withdraw { subject } => match subject {
                    Subject::Card(uid) => cards.push(*uid),
                    Subject::Holder(holder) => holders.push(holder),
                },
                Op::Power { .. } => self.of_rooms.push(entry.clone()),
                Op::DefineSchedule { .. } | Op::SetPosture { .. } => unreachable!("not published here"),
            }
            for card in cards {
                self.of_card.entry(card).or_default().push(entry.clone());
            }
            for holder in holders {
                self.of_holder.entry(holder.clone()).or_default().push(entry.clone());
            }
        }
    }

    /// The reason that the definitions give for a card.
    pub(super) fn judge(&self, card: CardUid, portal: &Portal, w: &World) -> &'static str {
        let mut all: Vec<(Revision, Op)> = self.of_card.get(&card).cloned().unwrap_or_default();
        let holder = |(_, op): &(Revision, Op)| match op {
            Op::Issue { holder, .. } | Op::Reissue { holder, .. } => Some(holder.clone()),
            Op::Enrol { enrolment, .. } => Some(enrolment.holder.clone()),
            _ => None,
        };
        let holders: HashSet<_> = all.iter().filter_map(holder).collect();
        for holder in &holders {
            all.extend(self.of_holder.get(holder).into_iter().flatten().cloned());
        }
        if BOXES.contains(&portal.id.as_str()) {
            all.extend(self.of_rooms.iter().cloned());
        }
        model::judge(&all, card, portal, w.now().wall, false)
    }
}

pub(super) fn card(place: usize) -> CardUid {
    uid(&format!("04{place:012X}"))
}

fn holder(place: usize) -> Holder {
    name(&format!("h{place}"))
}

pub(super) fn office_op(dice: &mut Dice) -> Op {
    let of = dice.below(HOLDERS);
    let one = card(2 * of + dice.below(2));
    let subject = |dice: &mut Dice| if dice.one_in(2) { Subject::Card(one) } else { Subject::Holder(holder(of)) };
    match dice.below(20) {
        0..=3 => Op::Issue { uid: one, holder: holder(of) },
        4..=9 => {
            let old_uid = dice.one_in(2).then(|| card(2 * of + dice.below(2)));
            Op::Reissue { holder: holder(of), new_uid: one, old_uid }
        }
        10..=12 => Op::SetFlag { subject: subject(dice), flag: Flag::Lost, on: dice.one_in(3) },
        13..=14 => Op::SetFlag { subject: subject(dice), flag: Flag::Frozen, on: dice.one_in(3) },
        15 => Op::SetFlag { subject: subject(dice), flag: Flag::Cancelled, on: true },
        _ => Op::Reinstate { uid: one },
    }
}

pub(super) fn apartment_op(dice: &mut Dice) -> Op {
    let of = dice.below(HOLDERS);
    let one = card(2 * of + dice.below(2));
    let rights = ["gate:* door:412 power_box:412", "door:413 power_box:413", "gate:*", "power_box:*"];
    match dice.below(400) {
        0 => {
            let zone = name(dice.pick(&["412", "413"]));
            Op::Power { zone, reason: SuspendReason::Arrears, suspended: dice.one_in(2) }
        }
        1..=60 => Op::Withdraw { subject: Subject::Card(one) },
        61..=80 => Op::Withdraw { subject: Subject::Holder(holder(of)) },
        _ => Op::Enrol { uid: one, enrolment: enrolment(&format!("h{of}"), dice.pick(&rights)) },
    }
}
