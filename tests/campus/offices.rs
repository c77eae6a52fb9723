//! The two offices: real centers that number, sign, answer and keep the audit, over a shelf in memory whose transactions can fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use dormgate::access::change::{Op, PortalSet, Position, Subject, SuspendReason};
use dormgate::access::credential::{Enrolment, Flag, Role};
use dormgate::access::id::{GatewayId, Timestamp};
use dormgate::access::portal::Posture;
use dormgate::center::{Audience, Center, CenterError, Entry, JournalName, KeptEvent, Link, SignedMessage, Storage};
use dormgate::wire::allowed::{AllowedOps, OpName, STANDING};
use dormgate::wire::audit::Hash;
use dormgate::wire::envelope::{Scope, StreamSpec};
use ed25519_dalek::SigningKey;

use crate::dice::Dice;
use crate::world::{OFFICE, enrolment, name, op, uid};

pub const CARDS: [&str; 5] = ["A", "B", "R", "X", "C"];
const HOLDERS: [&str; 3] = ["p1", "p2", "p3"];

/// What an office keeps. Clones are the same shelf; it outlives the centers on it.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    epoch: u32,
    journals: BTreeMap<JournalName, Vec<(Position, String)>>,
    audits: BTreeMap<GatewayId, Vec<KeptEvent>>,
    given: BTreeMap<JournalName, usize>,
    /// What the open transaction appended, to be undone.
    undo: Vec<Undo>,
    /// The next commit fails; whether what it was to keep is kept all the same.
    fails: Option<bool>,
}

enum Undo {
    Message(JournalName),
    Audit(GatewayId, usize),
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub fn begin_epoch(&self) {
        self.lock().epoch += 1;
    }

    pub fn fail_next(&self, kept: bool) {
        self.lock().fails = Some(kept);
    }

    /// The number of the newest message of a journal, and how many there are.
    pub fn newest(&self, journal: &JournalName) -> (usize, Option<Position>) {
        let kept = self.lock();
        kept.journals.get(journal).map_or((0, None), |all| (all.len(), all.last().map(|(at, _)| *at)))
    }

    /// The numbers of the events of a gateway's audit.
    pub fn audit(&self, gateway: &GatewayId) -> Vec<u64> {
        self.lock().audits.get(gateway).map_or_else(Vec::new, |all| all.iter().map(|kept| kept.event.n).collect())
    }
}

impl Storage for Shelf {
    const IS_SHARED: bool = false;

    fn begin(&mut self) -> Result<(), CenterError> {
        self.lock().undo.clear();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CenterError> {
        let fails = {
            let mut kept = self.lock();
            if kept.undo.is_empty() { None } else { kept.fails.take() }
        };
        let Some(stays) = fails else { return Ok(()) };
        if stays {
            self.lock().undo.clear();
        }
        Err(CenterError::Damaged { path: PathBuf::from("shelf"), why: "simulated".to_owned() })
    }

    fn rollback(&mut self) {
        let mut kept = self.lock();
        for undo in std::mem::take(&mut kept.undo).into_iter().rev() {
            match undo {
                Undo::Message(journal) => {
                    kept.journals.get_mut(&journal).unwrap().pop();
                }
                Undo::Audit(gateway, before) => kept.audits.get_mut(&gateway).unwrap().truncate(before),
            }
        }
    }

    fn epoch(&mut self) -> Result<NonZeroU32, CenterError> {
        Ok(NonZeroU32::new(self.lock().epoch + 1).unwrap())
    }

    fn unread(&mut self, journal: &JournalName) -> Result<Vec<Entry>, CenterError> {
        let mut kept = self.lock();
        let all = kept.journals.get(journal).cloned().unwrap_or_default();
        let from = kept.given.insert(journal.clone(), all.len()).unwrap_or(0);
        Ok(all.get(from..).unwrap_or_default().iter().map(|(_, message)| Entry::read(message).unwrap()).collect())
    }

    fn rewind(&mut self) {
        self.lock().given.clear();
    }

    fn append(&mut self, journal: &JournalName, at: Position, message: &str) -> Result<(), CenterError> {
        let mut kept = self.lock();
        let all = kept.journals.entry(journal.clone()).or_default();
        all.push((at, message.to_owned()));
        let count = all.len();
        kept.given.insert(journal.clone(), count);
        kept.undo.push(Undo::Message(journal.clone()));
        Ok(())
    }

    fn messages(
        &mut self,
        journal: &JournalName,
        epoch: NonZeroU32,
        ranges: &[(u64, u64)],
        most: usize,
    ) -> Result<Option<Vec<(Position, String)>>, CenterError> {
        let kept = self.lock();
        let all = kept.journals.get(journal).into_iter().flatten();
        let asked =
            |at: &Position| at.epoch == epoch && ranges.iter().any(|(from, to)| (*from..=*to).contains(&at.seq));
        let found: Vec<_> = all.filter(|(at, _)| asked(at)).cloned().collect();
        Ok((found.len() <= most).then_some(found))
    }

    fn audit_ends(&mut self, gateway: &GatewayId) -> Result<Option<(Link, Link)>, CenterError> {
        let kept = self.lock();
        let all = kept.audits.get(gateway);
        let link = |kept: &KeptEvent| Link { n: kept.event.n, hash: kept.hash };
        Ok(all.and_then(|all| Some((link(all.first()?), link(all.last()?)))))
    }

    fn audit_hashes(&mut self, gateway: &GatewayId, from: u64, to: u64) -> Result<HashMap<u64, Hash>, CenterError> {
        let kept = self.lock();
        let all = kept.audits.get(gateway).into_iter().flatten().map(|kept| (kept.event.n, kept.hash));
        Ok(all.filter(|(n, _)| (from..=to).contains(n)).collect())
    }

    fn keep_audit(&mut self, gateway: &GatewayId, events: &[KeptEvent], _: Timestamp) -> Result<(), CenterError> {
        let mut kept = self.lock();
        let all = kept.audits.entry(gateway.clone()).or_default();
        let before = all.len();
        all.extend_from_slice(events);
        kept.undo.push(Undo::Audit(gateway.clone(), before));
        Ok(())
    }

    fn set_audit_aside(&mut self, gateway: &GatewayId) -> Result<String, CenterError> {
        panic!("the audit of {gateway} begins again although no store was replaced");
    }
}

/// One office.
pub struct Office {
    pub name: &'static str,
    pub shelf: Shelf,
    pub center: Center<Shelf>,
    /// Signed and not yet with the broker; in memory only.
    pub outbox: VecDeque<SignedMessage>,
    gateways: Vec<GatewayId>,
}

pub fn key(stream: &str) -> SigningKey {
    SigningKey::from_bytes(&[if stream == OFFICE { 11 } else { 22 }; 32])
}

/// The streams as the gateways are configured with them.
pub fn spec(stream: &str) -> StreamSpec {
    let others = OpName::Enrol
        | OpName::Withdraw
        | OpName::SuspendPower
        | OpName::ResumePower
        | OpName::DefineSchedule
        | OpName::SetPosture
        | OpName::Command;
    let (scope, allowed): (_, AllowedOps) =
        if stream == OFFICE { (Scope::Campus, STANDING) } else { (Scope::Gateway, others) };
    let keys = vec![key(stream).verifying_key()];
    StreamSpec { name: name(stream), scope, keys, insecure_unsigned: false, allowed }
}

fn center(stream: &str, shelf: &Shelf, gateways: &[GatewayId]) -> Center<Shelf> {
    Center::new(shelf.clone(), vec![(spec(stream), key(stream))], gateways.to_vec()).unwrap()
}

impl Office {
    pub fn new(name: &'static str, gateways: &[GatewayId]) -> Self {
        let shelf = Shelf::default();
        let center = center(name, &shelf, gateways);
        Self { name, center, shelf, outbox: VecDeque::new(), gateways: gateways.to_vec() }
    }

    /// Ends, and starts from what is kept.
    pub fn crash(&mut self) {
        self.outbox.clear();
        self.center = center(self.name, &self.shelf, &self.gateways);
    }

    pub fn audience(&self, gateway: &GatewayId) -> Audience {
        if self.name == OFFICE { Audience::Campus } else { Audience::Gateway(gateway.clone()) }
    }

    /// Publishes ops. Gives the number under which they are kept, whether the office knows it or not.
    pub fn publish(&mut self, gateway: &GatewayId, ops: &[Op], now: Timestamp) -> Option<Position> {
        let journal = JournalName { audience: self.audience(gateway), stream: name(self.name) };
        let (before, _) = self.shelf.newest(&journal);
        if let Ok(messages) = self.center.publish_ops(Some(gateway), ops, now) {
            self.outbox.extend(messages);
        }
        let (count, at) = self.shelf.newest(&journal);
        at.filter(|_| count > before)
    }

    pub fn heads(&mut self, now: Timestamp) {
        let heads = self.center.heads(now).unwrap();
        self.outbox.extend(heads);
    }

    /// One to three ops of this office.
    pub fn ops(&self, dice: &mut Dice, now: Timestamp) -> Vec<Op> {
        (0..1 + dice.below(3)).map(|_| if self.name == OFFICE { standing(dice) } else { other(dice, now) }).collect()
    }
}

fn subject(dice: &mut Dice) -> Subject {
    if dice.one_in(3) { Subject::Holder(name(dice.pick(&HOLDERS))) } else { Subject::Card(uid(dice.pick(&CARDS))) }
}

fn standing(dice: &mut Dice) -> Op {
    let (card, holder) = (dice.pick(&CARDS), dice.pick(&HOLDERS));
    match dice.below(14) {
        0..=2 => op::issue(card, holder),
        3..=5 => {
            let old = dice.pick(&CARDS);
            op::reissue(holder, card, (dice.one_in(2) && old != card).then_some(old))
        }
        6..=10 => {
            let flag = dice.pick(&[Flag::Lost, Flag::Frozen]);
            Op::SetFlag { subject: subject(dice), flag, on: dice.one_in(2) }
        }
        11 => Op::SetFlag { subject: subject(dice), flag: Flag::Cancelled, on: true },
        _ => op::reinstate(card),
    }
}

fn other(dice: &mut Dice, now: Timestamp) -> Op {
    const RIGHTS: [&str; 6] = [
        "gate:* door:412 power_box:412",
        "gate:* door:412 power_box:412",
        "gate:lobby door:413 power_box:413",
        "power_box:* gate:*",
        "",
        "gate:* door:412@term power_box:412@term",
    ];
    let minute = Timestamp(now.0.div_euclid(60_000) * 60_000);
    match dice.below(20) {
        0..=11 => {
            let mut enrolment = enrolment(dice.pick(&HOLDERS), dice.pick(&RIGHTS));
            if dice.one_in(6) {
                enrolment.not_after = Some(Timestamp(minute.0 + 60_000 * dice.pick(&[-1, 1, 10])));
            }
            if dice.one_in(8) {
                enrolment = Enrolment { role: Role::Staff, ..enrolment };
            }
            Op::Enrol { uid: uid(dice.pick(&CARDS)), enrolment }
        }
        12..=14 => Op::Withdraw { subject: subject(dice) },
        15 | 16 => {
            let reason = dice.pick(&[SuspendReason::Arrears, SuspendReason::Maintenance]);
            Op::Power { zone: name(dice.pick(&["412", "413"])), reason, suspended: dice.one_in(2) }
        }
        17 => op::schedule("term", dice.pick(&["06:00-24:00", "00:00-24:00", "08:00-08:20", ""])),
        _ => {
            let portals = dice.pick(&["*", "gate-in", "power-412 door-412"]);
            let portals = match portals {
                "*" => PortalSet::All,
                names => PortalSet::Some(names.split(' ').map(name).collect()),
            };
            const POSTURES: [Posture; 5] =
                [Posture::Secure, Posture::Secure, Posture::FreeAccess, Posture::Lockdown, Posture::OutOfService];
            let until = dice.one_in(3).then(|| Timestamp(minute.0 + 60_000 * dice.pick(&[1, 5])));
            Op::SetPosture { portals, posture: dice.pick(&POSTURES), until }
        }
    }
}
