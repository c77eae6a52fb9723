//! The offices, the broker and the disk: what they have done, and what they may do next.

use std::collections::BTreeSet;

use dormgate::access::change::{Op, Position};
use dormgate::access::list::AccessList;
use dormgate::access::snapshot::SnapshotEntry;

use crate::Scope;
use crate::world::op::{cancel, enrol, found, issue, reinstate, reissue, report_lost, withdraw};
use crate::world::{APARTMENT, OFFICE, at, owned_by};

pub const STREAMS: [&str; 2] = [OFFICE, APARTMENT];
/// How many ops there are to choose from, by office.
pub const OPS: [usize; 2] = [6, 3];
/// Parts of a snapshot.
pub const PARTS: u32 = 2;

/// What an office may publish. The first ones make the most trouble.
fn op(office: usize, which: usize) -> Op {
    match (office, which) {
        (0, 0) => reissue("p1", "B", None),
        (0, 1) => issue("A", "p1"),
        (0, 2) => report_lost("p1"),
        (0, 3) => found("uid:A"),
        (0, 4) => cancel("uid:A"),
        (0, _) => reinstate("A"),
        (_, 0) => enrol("A", "p1", "gate:* power_box:412"),
        (_, 1) => withdraw("p1"),
        (_, _) => enrol("B", "p1", "gate:*"),
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// An office publishes one of its ops as its next message.
    Publish(usize, usize),
    /// The card office begins a new epoch: it counts from 1 again.
    Epoch,
    /// A message of an office arrives, by its number.
    Deliver(usize, u64),
    /// The head of when an office had published so much arrives.
    Head(usize, u64),
    /// A part of the snapshot of when an office had published so much arrives.
    Part(usize, u64, u32),
    /// A slice of the work at a snapshot.
    Work,
    /// The disk has everything.
    Flush,
    /// Card A is put into the box.
    PutIn,
    /// The power is cut: what is not on disk is gone.
    Cut,
    /// The store is lost.
    Lose,
}

/// What the offices have published.
#[derive(Clone, Debug, Default)]
pub struct Campus {
    pub published: [Vec<usize>; 2],
    /// How much the card office had published when its second epoch began.
    pub first_epoch: Option<u64>,
    others: usize,
    last: Option<Step>,
    pub lost: bool,
    /// A snapshot was received whole since the engine began.
    may_work: bool,
}

impl Campus {
    pub fn of(history: &[Step]) -> Self {
        let mut campus = Self::default();
        let mut parts = BTreeSet::new();
        for step in history {
            match step {
                Step::Publish(office, which) => campus.published[*office].push(*which),
                Step::Epoch => campus.first_epoch = Some(campus.last(0)),
                Step::Lose => campus.lost = true,
                Step::Part(office, at, part) => {
                    parts.insert((*office, *at, *part));
                }
                _ => {}
            }
            if matches!(step, Step::Cut | Step::Lose) {
                parts.clear();
            }
            campus.others += usize::from(!matches!(step, Step::Publish(..) | Step::Epoch));
            campus.may_work =
                parts.iter().any(|(office, at, _)| (0..PARTS).all(|p| parts.contains(&(*office, *at, p))));
            campus.last = Some(*step);
        }
        campus
    }

    /// What may happen next.
    pub fn steps(&self, scope: &Scope, steps: &mut Vec<Step>) {
        for office in 0..2 {
            if self.published[office].len() < scope.messages[office] {
                steps.extend((0..scope.ops[office]).map(|which| Step::Publish(office, which)));
            }
        }
        // One that nothing follows changes nothing.
        let is_last = self.published[0].len() + 1 > scope.messages[0];
        if scope.epochs && self.first_epoch.is_none() && !self.published[0].is_empty() && !is_last {
            steps.push(Step::Epoch);
        }
        if self.others == scope.steps {
            return;
        }
        for office in 0..2 {
            let published = u64::try_from(self.published[office].len()).unwrap();
            for n in 1..=published {
                steps.push(Step::Deliver(office, n));
                steps.push(Step::Head(office, n));
                steps.extend((0..PARTS).map(|part| Step::Part(office, n, part)));
            }
        }
        steps.push(Step::PutIn);
        if self.may_work {
            steps.push(Step::Work);
        }
        if !matches!(self.last, Some(Step::Flush | Step::Cut | Step::Lose) | None) {
            steps.extend([Step::Flush, Step::Cut]);
        }
        if !self.lost {
            steps.push(Step::Lose);
        }
    }

    /// Where an office's message stands; `n` counts through all epochs.
    pub fn position(&self, office: usize, n: u64) -> Position {
        match self.first_epoch.filter(|last| office == 0 && n > *last) {
            Some(last) => at(2, n - last),
            None => at(1, n),
        }
    }

    pub fn ops(&self, office: usize, through: u64) -> Vec<(Position, Op)> {
        let all = (1..=through).zip(&self.published[office]);
        all.map(|(n, which)| (self.position(office, n), op(office, *which))).collect()
    }

    /// Which message stands there.
    pub fn number(&self, office: usize, position: Position) -> u64 {
        (1..=self.last(office)).find(|n| self.position(office, *n) == position).unwrap()
    }

    /// The list of a center that has published so much.
    pub fn list(&self, office: usize, through: u64) -> AccessList {
        let mut list = AccessList::default();
        self.ops(office, through).into_iter().for_each(|(at, op)| list.replay(&[op], at, None));
        list
    }

    pub fn last(&self, office: usize) -> u64 {
        u64::try_from(self.published[office].len()).unwrap()
    }

    pub fn snapshot(&self, office: usize, through: u64) -> Vec<SnapshotEntry> {
        self.list(office, through).snapshot(&owned_by(STREAMS[office]))
    }
}
