//! What must hold, by what was published and what came out: it reads messages and audit events as JSON, judges cards by the reference
//! model, hashes with SHA-256, and asks nothing of the rules, the list or the store that it checks. Only whether a snapshot was applied
//! is taken from the gateway; what is in it is what the office had published by then.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dormgate::access::change::{Op, Position};
use dormgate::access::effect::{Ack, Outcome};
use dormgate::access::id::{CardUid, ClockTrust, GatewayId, Mono, Now, PortalId, Revision, Timestamp};
use dormgate::access::portal::{Direction, Portal, PortalKind};
use dormgate::center::Audience;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::world::{APARTMENT, OFFICE, portals};
use crate::{digest_lines, model};

/// How long a box may stay on after its card has left: the delay of these portals, and a little.
const OFF_WITHIN_MS: u64 = 15_100;

/// A message's stream and number.
pub type Number = (&'static str, Position);

/// What is known of one gateway from outside.
#[derive(Default)]
pub struct Seen {
    /// Messages that it was handed and that are in force.
    pub taken: BTreeSet<Number>,
    /// The newest snapshot of each stream that it applied.
    pub snapshots: BTreeMap<&'static str, Position>,
    /// Messages whose acknowledgement has left.
    acked: BTreeSet<Number>,
    acked_snapshots: BTreeMap<&'static str, Position>,
    /// Every event of its audit that has left, byte for byte.
    pub audit: BTreeMap<u64, Vec<u8>>,
    /// The boxes that it switched on, or was shown to be on, and the card in each.
    on: BTreeMap<PortalId, CardUid>,
    /// The boxes that are to be off by this time of the run: their card has left, or another sits in them.
    off_by: BTreeMap<PortalId, Mono>,
    /// Those of `on` of which only a report names the card, and until when the card before may keep them on: while its list is incomplete
    /// the gateway denies what the model grants.
    reported: BTreeMap<PortalId, Mono>,
    /// The card that the gateway was last handed of each portal: presented, or reported.
    lies_in: BTreeMap<PortalId, CardUid>,
    /// Commands of which a copy was handed over that may act.
    pub may_act: BTreeSet<String>,
    /// Commands that were answered `ok`, and those that acted.
    pub answered: BTreeSet<String>,
    pub acted: BTreeSet<String>,
    /// A byte of its disk was changed.
    pub is_rotten: bool,
    /// It refused a snapshot that removes too much.
    pub refused_shrink: bool,
    received: Vec<(Revision, Op)>,
    /// The last time that its clock was trusted to show, and the true time then, in milliseconds.
    trusted: Option<(Timestamp, u64)>,
    elapsed_ms: u64,
}

#[derive(Default)]
pub struct Oracle {
    /// Everything that the offices keep as published.
    published: BTreeMap<(Audience, &'static str, Position), Vec<Op>>,
}

/// The claims of a signed message, whoever signed it.
pub fn claims(payload: &[u8]) -> Option<Value> {
    let middle = payload.split(|byte| *byte == b'.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).ok()?).ok()
}

fn stream(name: &str) -> &'static str {
    [OFFICE, APARTMENT].into_iter().find(|stream| *stream == name).unwrap_or_else(|| panic!("a stream `{name}`"))
}

fn position(epoch: u64, seq: u64) -> Position {
    crate::world::at(u32::try_from(epoch).unwrap(), seq)
}

/// The number of a change message, or of the list that a part of a snapshot is of.
pub fn number_of(claims: &Value) -> Option<Number> {
    Some((stream(claims["iss"].as_str()?), position(claims["epoch"].as_u64()?, claims["seq"].as_u64()?)))
}

/// The digest by its definition: SHA-256 over the sorted lines.
pub fn digest(received: &model::Received, standing: bool) -> String {
    let mut lines = digest_lines::lines(received, standing);
    lines.sort();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    hex::encode(Sha256::digest(text))
}

impl Oracle {
    pub fn publish(&mut self, audience: Audience, stream: &'static str, at: Position, ops: Vec<Op>) {
        self.published.insert((audience, stream, at), ops);
    }

    fn of<'o>(&'o self, gateway: &GatewayId) -> impl Iterator<Item = (Number, &'o Vec<Op>)> {
        let own = Audience::Gateway(gateway.clone());
        let all = self.published.iter().filter(move |((to, ..), _)| *to == Audience::Campus || *to == own);
        all.map(|((_, stream, at), ops)| ((*stream, *at), ops))
    }

    fn ops<'o>(all: impl Iterator<Item = (Number, &'o Vec<Op>)>) -> Vec<(Revision, Op)> {
        all.flat_map(|((_, at), ops)| (0..).zip(ops).map(move |(p, op)| (at.revision(p), op.clone()))).collect()
    }

    /// Everything that concerns a gateway.
    pub fn truth(&self, gateway: &GatewayId) -> Vec<(Revision, Op)> {
        Self::ops(self.of(gateway))
    }

    /// Whether the offices published this to the gateway.
    pub fn knows(&self, gateway: &GatewayId, number: Number) -> bool {
        self.of(gateway).any(|(known, _)| known == number)
    }

    /// Puts together again what is in force at a gateway.
    pub fn settle(&self, gateway: &GatewayId, seen: &mut Seen) {
        seen.received = Self::ops(self.of(gateway).filter(|(number, _)| seen.has(number)));
    }
}

impl Seen {
    fn has(&self, number: &Number) -> bool {
        self.taken.contains(number) || self.snapshots.get(number.0).is_some_and(|at| number.1 <= *at)
    }

    pub fn received(&self) -> &model::Received {
        &self.received
    }

    /// A message that is well signed and for this gateway was handed over. One of an earlier epoch, or in a snapshot, is not in force.
    pub fn handed(&mut self, number: Number) -> bool {
        let epochs = self.taken.iter().filter(|(stream, _)| *stream == number.0).map(|(_, at)| at.epoch);
        let newest = epochs.chain(self.snapshots.get(number.0).map(|at| at.epoch)).max();
        newest.is_none_or(|newest| number.1.epoch >= newest) && !self.has(&number) && self.taken.insert(number)
    }

    /// An acknowledgement has left: it vouches for no more than was handed over.
    pub fn acknowledged(&mut self, ack: &Ack) {
        let (Some(name), Some(at)) = (&ack.stream, ack.at) else { return };
        let number = (stream(name.as_str()), at);
        match ack.outcome {
            Outcome::Applied | Outcome::Duplicate => {
                assert!(self.has(&number), "{number:?} is acknowledged and was never handed over");
                if ack.snapshot.is_some() {
                    let newest = self.acked_snapshots.entry(number.0).or_insert(at);
                    *newest = (*newest).max(at);
                } else {
                    self.acked.insert(number);
                }
            }
            // One that waits to be merged gives way to the next of its stream.
            Outcome::Stale if ack.snapshot.is_some() => {}
            Outcome::Stale => {
                let later = |(stream, other): &Number| *stream == number.0 && other.epoch > at.epoch;
                let in_snapshot = self.snapshots.get(number.0).is_some_and(|newest| at <= *newest);
                let is_old = in_snapshot || self.taken.iter().any(later) || self.is_rotten;
                assert!(is_old, "{number:?} is refused as stale, and nothing newer was handed over");
            }
            Outcome::Rejected => {
                let codes = || ack.errors.iter().map(|error| error.code.as_str());
                assert!(codes().all(|code| code == "shrink_refused"), "{number:?} is refused: {:?}", ack.errors);
                self.refused_shrink = true;
            }
        }
        for seq in 1..=ack.applied_through {
            let number = (number.0, Position { seq, ..at });
            assert!(self.has(&number), "the acknowledgement {ack:?} counts {number:?}, which was never handed over");
        }
    }

    /// An event of the audit has left.
    pub fn audited(&mut self, n: u64, json: &[u8]) {
        if let Some(before) = self.audit.get(&n) {
            assert!(before == json, "two events have the number {n}");
            return;
        }
        let event: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(event["n"].as_u64(), Some(n), "the number of an event");
        let prev = match n.checked_sub(1) {
            Some(0) => Some("0".repeat(64)),
            Some(before) => self.audit.get(&before).map(|json| hex::encode(Sha256::digest(json))),
            None => panic!("event 0"),
        };
        // Behind events that a disk has lost the chain goes on from the last one that is there.
        let follows = prev.is_none_or(|prev| event["prev"].as_str() == Some(&prev));
        assert!(follows || self.is_rotten, "event {n} breaks the chain");
        self.audit.insert(n, json.to_vec());
    }

    /// The gateway has started again with this audit on its disk: what it vouched for is there. What was handed over and not yet vouched
    /// for may be there or not.
    pub fn restarted<'j>(
        &mut self,
        journal: impl Iterator<Item = &'j [u8]>,
        snapshots: BTreeMap<&'static str, Position>,
        has: impl Fn(&str, Position) -> bool,
    ) {
        let events: Vec<_> = journal.map(|json| serde_json::from_slice::<Value>(json).unwrap()).collect();
        let applied = events.iter().filter(|event| event["type"] == "changes_applied" && event["snapshot"].is_null());
        let commands: BTreeSet<_> = events.iter().filter_map(|event| event["jti"].as_str()).collect();
        let number = |event: &Value| {
            let (name, at) = event["revision"].as_object().unwrap().iter().next().unwrap();
            (stream(name), position(at[0].as_u64().unwrap(), at[1].as_u64().unwrap()))
        };
        let found: BTreeSet<Number> = applied.map(number).collect();
        for number in &found {
            assert!(self.has(number), "{number:?} is on disk and was never handed over");
        }
        if !self.is_rotten {
            for (stream, at) in &self.acked_snapshots {
                assert!(snapshots.get(stream) >= Some(at), "the acknowledged snapshot {stream} {at:?} did not survive");
            }
            let lost = |(stream, at): &&Number| snapshots.get(stream).is_none_or(|newest| at > newest);
            let lost = self.acked.difference(&found).find(lost);
            assert_eq!(lost, None, "an acknowledged change did not survive");
            let forgotten = self.answered.iter().find(|jti| !commands.contains(jti.as_str()));
            assert_eq!(forgotten, None, "a command that was answered is not on disk, and would act again");
            let forgotten = self.acted.iter().find(|jti| !commands.contains(jti.as_str()));
            assert_eq!(forgotten, None, "a command that acted is not on disk, and would act again");
        } else {
            self.acted.clear();
        }
        // Of the time it knows what is on disk, until its clock is trusted again.
        let is_trusted = |event: &&Value| event["clock"] == "trusted";
        let last = events.iter().rev().find(is_trusted).and_then(|event| event["at"].as_str()?.parse().ok());
        self.trusted = last.map_or(self.trusted, |at| Some((at, self.elapsed_ms)));
        // Where a bit has changed, a message whose event is gone may still be in the state that a generation holds.
        let in_generation = |(stream, at): &&Number| self.is_rotten && has(stream, *at);
        let held: BTreeSet<Number> = self.taken.iter().filter(in_generation).copied().collect();
        self.taken = found.union(&self.acked).chain(&held).copied().collect();
        self.snapshots = snapshots;
        for (stream, at) in &self.acked_snapshots {
            let newest = self.snapshots.entry(stream).or_insert(*at);
            *newest = (*newest).max(*at);
        }
        self.on.clear();
        self.off_by.clear();
        self.reported.clear();
        self.lies_in.clear();
    }

    /// The gateway's clock shows `now` at the true time `elapsed_ms`.
    pub fn reads(&mut self, now: Now, elapsed_ms: u64) {
        self.elapsed_ms = elapsed_ms;
        if now.clock == ClockTrust::Trusted {
            self.trusted = Some((now.wall, elapsed_ms));
        }
    }

    /// The reason that the model gives for a card at a portal. While the clock is not trusted, what ends with time may have ended by what
    /// it shows, or by the time that has passed since it was trusted.
    pub fn judge(&self, card: CardUid, portal: &str, now: Now) -> &'static str {
        let shown = judge(&self.received, card, portal, now.wall);
        let passed = self.trusted.filter(|_| now.clock == ClockTrust::Untrusted && !is_grant(shown));
        let Some((wall, then)) = passed else { return shown };
        let since = i64::try_from(self.elapsed_ms - then).unwrap();
        judge(&self.received, card, portal, Timestamp(wall.0 + since))
    }

    pub fn switched_on(&mut self, portal: PortalId, card: CardUid) {
        self.off_by.remove(&portal);
        self.reported.remove(&portal);
        self.on.insert(portal, card);
    }

    pub fn switched_off(&mut self, portal: &PortalId) {
        self.off_by.remove(portal);
        self.reported.remove(portal);
        self.on.remove(portal);
    }

    /// The gateway is handed which card is in a portal: presented there, or reported.
    pub fn put_in(&mut self, portal: &str, card: Option<CardUid>) {
        let portal = crate::world::name(portal);
        match card {
            Some(card) => drop(self.lies_in.insert(portal, card)),
            None => drop(self.lies_in.remove(&portal)),
        }
    }

    /// A box is shown to be on. One without a card, or with a card that may not, stays on until the delay of the card before has passed; by
    /// then the card that is in it may have got its right.
    pub fn shown_on(&mut self, portal: &str, card: Option<CardUid>, now: Now) {
        match card.filter(|card| self.judge(*card, portal, now) == "granted") {
            Some(card) => {
                let portal: PortalId = crate::world::name(portal);
                if self.on.get(&portal) == Some(&card) {
                    self.off_by.remove(&portal);
                } else {
                    self.is_reported_on(portal, card, now);
                }
            }
            None => drop(self.off_by.entry(crate::world::name(portal)).or_insert(now.mono.plus_ms(OFF_WITHIN_MS))),
        }
    }

    fn is_reported_on(&mut self, portal: PortalId, card: CardUid, now: Now) {
        self.switched_on(portal.clone(), card);
        self.reported.insert(portal, now.mono.plus_ms(OFF_WITHIN_MS));
    }

    /// No box is on by a card that may not, or longer than its card is gone.
    pub fn check_boxes(&mut self, now: Now) {
        // The card that is in a box takes over from the one before when that one's delay has passed, or its right has ended.
        let may = |card: CardUid, portal: &PortalId| self.judge(card, portal.as_str(), now) == "granted";
        let late = self.off_by.iter().filter(|(_, by)| **by < now.mono).map(|(portal, _)| portal);
        let ended = self.on.iter().filter(|(portal, card)| !may(**card, portal)).map(|(portal, _)| portal);
        let next = |portal: &PortalId| self.lies_in.get(portal).copied().filter(|card| may(*card, portal));
        let taken_over: Vec<_> = late.chain(ended).filter_map(|portal| Some((portal.clone(), next(portal)?))).collect();
        taken_over.into_iter().for_each(|(portal, card)| self.is_reported_on(portal, card, now));
        let ended = self.on.iter().filter(|(portal, card)| self.judge(**card, portal.as_str(), now) != "granted");
        let ended: Vec<_> = ended.map(|(portal, _)| portal.clone()).collect();
        for portal in ended {
            if let Some(by) = self.reported.remove(&portal) {
                self.on.remove(&portal);
                self.off_by.insert(portal, by);
            }
        }
        for (portal, card) in &self.on {
            let reason = self.judge(*card, portal.as_str(), now);
            assert_eq!(reason, "granted", "{portal} is on by {card}, and no cut was ordered");
        }
        let late = self.off_by.iter().find(|(_, by)| **by < now.mono);
        assert_eq!(late, None, "a box without a card that may is still on");
    }
}

thread_local! {
    static PORTALS: Vec<Portal> = portals();
}

/// The reason that the model gives by what was received.
pub fn judge(received: &model::Received, card: CardUid, portal: &str, now: Timestamp) -> &'static str {
    PORTALS.with(|portals| {
        let portal = portals.iter().find(|known| known.id.as_str() == portal).unwrap();
        model::judge(received, card, portal, now, false)
    })
}

/// Whether a reason opens.
pub fn is_grant(reason: &str) -> bool {
    ["granted", "free_access", "fire"].contains(&reason)
}

/// Whether a portal is a box, and whether it is an exit.
pub fn kind(portal: &str) -> (bool, bool) {
    PORTALS.with(|portals| {
        let portal = portals.iter().find(|known| known.id.as_str() == portal).unwrap();
        (portal.kind == PortalKind::PowerBox, portal.direction == Some(Direction::Out))
    })
}
