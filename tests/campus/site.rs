//! One gateway of a life with its disk and devices: what leaves it is carried out, and checked.

use std::collections::BTreeMap;

use dormgate::access::change::Position;
use dormgate::access::decision::{Decision, GrantReason};
use dormgate::access::event::ReplyStatus;
use dormgate::access::id::{CardUid, ClockTrust, GatewayId, Now, StreamName};
use dormgate::gateway::ports::{PortalOrder, UplinkOrder};
use dormgate::store::MemoryDisk;

use crate::dice::Dice;
use crate::gateway::{Left, Run};
use crate::offices::CARDS;
use crate::oracle::{self, Oracle, Seen};
use crate::world::{APARTMENT, OFFICE, name};

/// A power box: which card sits in it, and whether its relay is on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerBox {
    pub card: Option<&'static str>,
    pub relay: bool,
}

/// A gateway, its disk, its devices, and what is known of it.
pub struct Site {
    pub id: GatewayId,
    pub disk: MemoryDisk,
    pub run: Run,
    pub seen: Seen,
    /// What its wall clock is off by, in milliseconds.
    pub off_ms: i64,
    pub boots: u32,
    pub boxes: BTreeMap<&'static str, PowerBox>,
    pub requests: u64,
}

/// A message under delivery.
#[derive(Default)]
pub struct Handed {
    /// The id of a command.
    pub command: Option<String>,
    /// A request that is too old.
    pub stale: bool,
}

/// What the id of a command that releases begins with.
pub const RELEASES: char = 'j';

/// The id of a command that releases and is answered as done.
pub fn released_by(left: &Left) -> Option<String> {
    let Left::Order(UplinkOrder::Reply(reply)) = left else { return None };
    reply.jti.clone().filter(|jti| reply.status == ReplyStatus::Ok && jti.starts_with(RELEASES))
}

impl Site {
    /// The newest snapshot of each stream that the gateway applied.
    pub fn snapshots(&self) -> Vec<(&'static str, Position)> {
        let streams = &self.run.core.engine().state().streams;
        let newest = |stream: &'static str| Some((stream, streams.get(&name::<StreamName>(stream))?.snapshot?));
        [OFFICE, APARTMENT].into_iter().filter_map(newest).collect::<Vec<_>>()
    }

    pub fn snapshots_applied(&mut self, oracle: &Oracle) {
        let mut is_new = false;
        for (stream, at) in self.snapshots() {
            let before = self.seen.snapshots.get(stream);
            let is_older = before.is_some_and(|newest| at < *newest);
            assert!(!is_older || self.seen.is_rotten, "the snapshot {stream} {at:?} takes the place of {before:?}");
            if self.seen.snapshots.get(stream).is_none_or(|newest| *newest < at) {
                self.seen.snapshots.insert(stream, at);
                is_new = true;
            }
        }
        if is_new {
            oracle.settle(&self.id, &mut self.seen);
        }
    }

    /// An order to a portal: may it be, and what it does.
    /// An order that a command gives leaves with the answer to the command.
    pub fn ordered(&mut self, order: &PortalOrder, handed: &Handed, answers: &mut impl Iterator<Item = String>) {
        let now = self.run.clock.now();
        match order {
            PortalOrder::Answer { portal, decision: Decision::Grant(grant), delay_ms, .. } => {
                assert!(!handed.stale, "a request that is too old is granted at {portal}");
                let card = grant.uid().unwrap();
                self.may(card, portal, grant.reason(), now);
                if let (Some(found), None) = (self.boxes.get_mut(portal.as_str()), delay_ms) {
                    found.relay = true;
                    self.seen.switched_on(name(portal), card);
                }
            }
            PortalOrder::Energise { grant, .. } => {
                let (portal, card) =
                    (grant.portal().as_str(), grant.uid().expect("only a card switches a box on here"));
                self.may(card, portal, grant.reason(), now);
                self.boxes.get_mut(portal).unwrap().relay = true;
                self.seen.switched_on(grant.portal().clone(), card);
            }
            PortalOrder::Cut { portal, .. } => {
                self.boxes.get_mut(portal.as_str()).unwrap().relay = false;
                self.seen.switched_off(portal);
            }
            PortalOrder::Release { grant } => {
                let jti = answers.next().or_else(|| handed.command.clone()).expect("a release without a command");
                assert_eq!(grant.reason(), GrantReason::Remote, "a release by command");
                let may = self.seen.may_act.contains(&jti);
                assert!(may, "a command that is forged or retained released {}", grant.portal());
                assert!(!self.seen.answered.contains(&jti), "the command {jti} was answered and acts again");
                assert!(self.seen.acted.insert(jti.clone()), "the command {jti} acts twice");
            }
            PortalOrder::Answer { .. }
            | PortalOrder::Withdraw { .. }
            | PortalOrder::Lock { .. }
            | PortalOrder::Mode { .. }
            | PortalOrder::Inform { .. } => {}
        }
    }

    fn may(&self, card: CardUid, portal: &str, reason: GrantReason, now: Now) {
        let (is_box, is_exit) = oracle::kind(portal);
        if is_exit {
            return;
        }
        let mut expected = self.seen.judge(card, portal, now);
        // Whether free access has ended cannot be known by a clock that is not trusted: then cards decide.
        if expected == "free_access" && now.clock == ClockTrust::Untrusted && reason == GrantReason::Granted {
            expected = "granted";
        }
        assert_eq!(reason.as_str(), expected, "{}: a grant for {card} at {portal}", self.id);
        assert!(!is_box || expected == "granted", "{portal} is switched on as {expected}");
    }

    /// Something has left for the center.
    pub fn left(&mut self, left: Left) -> String {
        match left {
            Left::Order(UplinkOrder::Acknowledge { ack, .. }) => {
                self.seen.acknowledged(&ack);
                format!("{} {ack:?}", self.id)
            }
            Left::Order(UplinkOrder::Reply(reply)) => {
                if reply.status == ReplyStatus::Ok {
                    self.seen.answered.extend(reply.jti.clone());
                }
                format!("{} {reply:?}", self.id)
            }
            Left::Order(order) => format!("{} {order:?}", self.id),
            Left::Audit(n, json) => {
                self.seen.audited(n, &json);
                format!("{} {}", self.id, String::from_utf8(json).unwrap())
            }
        }
    }

    pub fn card(dice: &mut Dice) -> &'static str {
        dice.pick(&CARDS)
    }
}
