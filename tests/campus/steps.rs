//! What each step of a life does, and how a life ends: all faults are over, and every list is the offices'.

use dormgate::access::effect::{Have, Resync, ResyncReason};
use dormgate::access::event::Outcome;
use dormgate::access::id::{CardSet, Timestamp};
use dormgate::access::input::{Command, CommandKind};
use dormgate::access::portal::PortalKind;
use dormgate::store::Fault;
use dormgate::wire::down;
use dormgate::wire::envelope::sign;
use dormgate::wire::topic::{Down, Topic};

use crate::broker::Packet;
use crate::dice::Dice;
use crate::life::{BOXES, DOORS, Life};
use crate::offices::{CARDS, key};
use crate::oracle;
use crate::plan::{Act, Step};
use crate::site::{RELEASES, Site};
use crate::world::{APARTMENT, OFFICE, name, portals, uid};

/// Rounds within which the campus is one again once all faults are over, at [`ROUND_MS`] each.
const ROUNDS_MAX: usize = 200;
const ROUND_MS: u64 = 5_000;
/// After so many an operator looks at a gateway that refuses a list.
const OPERATOR_ROUNDS: usize = 40;

impl Life {
    pub fn step(&mut self, step: Step) {
        let dice = &mut Dice(step.number);
        let (place, office) = (dice.below(self.sites.len()), dice.below(2));
        match step.act {
            Act::Publish => {
                if dice.one_in(20) {
                    self.offices[office].shelf.fail_next(dice.one_in(2));
                }
                self.publish(office, place, dice);
            }
            Act::Heads => {
                let now = self.now();
                self.offices[office].heads(now);
            }
            Act::Hand => {
                (0..1 + dice.below(3)).all(|_| self.hand(office));
            }
            Act::NewEpoch => {
                self.offices[office].shelf.begin_epoch();
                self.offices[office].crash();
            }
            Act::OfficeCrash => self.offices[office].crash(),
            Act::Deliver => {
                self.deliver(place);
                self.perhaps(place, dice);
            }
            Act::Receive => {
                self.receive(office);
            }
            Act::BrokerFault => {
                let what = self.broker.fault(dice);
                self.note(what.to_owned());
            }
            Act::Link => {
                let is_up = self.broker.sessions[&self.sites[place].id].connected;
                if !is_up {
                    self.connect(place, !dice.one_in(4), dice);
                } else if dice.one_in(2) {
                    self.disconnect(place);
                }
            }
            Act::Forge => self.forge(place, dice),
            Act::Command => self.command(place, dice),
            Act::Present => {
                let portal = dice.pick(&DOORS);
                self.present(place, portal, Site::card(dice), dice);
                self.perhaps(place, dice);
            }
            Act::Box => {
                self.at_box(place, dice);
                self.perhaps(place, dice);
            }
            Act::Pass => {
                let ms = dice.pick(&[1, 40, 300, 1_000, 1_100, 4_000, 16_000, 31_000, 65_000]);
                self.pass(if dice.one_in(60) { 1_000_000 } else { ms });
            }
            Act::ClockStep => {
                const STEPS_MS: [i64; 6] = [-20_000, -3_600_000, 3_600_000, -400 * 86_400_000, 5_000, -5_000];
                let by = if dice.one_in(3) { -self.sites[place].off_ms } else { dice.pick(&STEPS_MS) };
                self.set_clock(place, by);
            }
            Act::Disk => {
                self.sites[place].run.quiet();
                self.sites[place].run.disk_step();
                if !dice.one_in(4) {
                    self.sites[place].run.stored();
                }
                self.after(place);
                self.send_up(place);
            }
            Act::Chores => self.sites[place].run.chores(),
            Act::DiskFault => {
                let room = dice.next() % 3_000;
                let faults = [
                    Fault::None,
                    Fault::None,
                    Fault::None,
                    Fault::Full { room },
                    Fault::Writes,
                    Fault::Syncs,
                    Fault::ReadOnly,
                    Fault::Stalled { for_ms: 5_000 },
                ];
                self.sites[place].disk.set_fault(dice.pick(&faults));
            }
            Act::Rot => {
                // At rest: of what was written within the last second a cut of the power at the same moment makes a torn end.
                self.sites[place].disk.set_fault(Fault::None);
                self.sites[place].run.chores();
                self.rot(place, dice);
                self.crash(place, 0);
            }
            Act::Crash => {
                self.crash(place, dice.below(2_000));
                self.back(place, dice);
            }
            Act::Upgrade => {
                self.upgrade(place, dice);
                self.back(place, dice);
            }
            Act::Restart => {
                self.restart(place);
                self.back(place, dice);
            }
        }
        if dice.one_in(12) {
            self.compare(place);
        }
    }

    /// After a start: the link, and the boxes, which report what is the case.
    fn back(&mut self, place: usize, dice: &mut Dice) {
        if !dice.one_in(3) {
            self.connect(place, !dice.one_in(5), dice);
        }
        for portal in BOXES {
            if !dice.one_in(4) {
                self.report(place, portal, None);
            }
        }
    }

    /// Perhaps a moment in which nothing else is ready, perhaps the end of the power.
    fn perhaps(&mut self, place: usize, dice: &mut Dice) {
        if dice.one_in(60) {
            self.crash(place, dice.below(300));
            self.back(place, dice);
        } else if dice.one_in(2) {
            self.sites[place].run.quiet();
            self.after(place);
        }
    }

    fn set_clock(&mut self, place: usize, by_ms: i64) {
        let site = &mut self.sites[place];
        site.off_ms += by_ms;
        site.run.manual.step_ms(by_ms);
        site.run.handle(dormgate::access::input::Input::Wake);
        self.after(place);
    }

    fn at_box(&mut self, place: usize, dice: &mut Dice) {
        let portal = dice.pick(&BOXES);
        let card = Site::card(dice);
        match dice.below(8) {
            0..=3 => {
                if self.sites[place].boxes[portal].card.is_some() {
                    self.sites[place].boxes.get_mut(portal).unwrap().card = None;
                    self.report(place, portal, None);
                }
                self.sites[place].boxes.get_mut(portal).unwrap().card = Some(card);
                self.present(place, portal, card, dice);
            }
            4 => {
                self.sites[place].boxes.get_mut(portal).unwrap().card = None;
                // The report may be lost.
                if !dice.one_in(4) {
                    self.report(place, portal, None);
                }
            }
            5 => self.report(place, portal, Some(card)),
            _ => self.report(place, portal, None),
        }
    }

    fn command(&mut self, place: usize, dice: &mut Dice) {
        self.commands += 1;
        let (gateway, iat) = (self.sites[place].id.clone(), self.now());
        // One that opens acts when it is on disk, any other at once.
        let (jti, kind) = if dice.one_in(3) {
            ('f', CommandKind::Forgive { uid: CardSet::All })
        } else {
            (RELEASES, CommandKind::Release { portal: name("gate-in") })
        };
        let command = Command {
            stream: name(APARTMENT),
            jti: format!("{jti}{}", self.commands),
            iat,
            exp: Timestamp(iat.0 + 20_000),
            actor: None,
            kind,
        };
        let claims = down::write_command(&command, &gateway).unwrap();
        let payload = sign(&claims, &name(APARTMENT), &key(APARTMENT));
        self.broker.publish(&Topic::Down(gateway, Down::Command), payload.as_bytes());
    }

    /// A copy of something that was published comes in: again, retained, changed, or to another gateway.
    fn forge(&mut self, place: usize, dice: &mut Dice) {
        let id = self.sites[place].id.clone();
        if self.broker.history.is_empty() || !self.broker.sessions[&id].connected {
            return;
        }
        let (topic, mut payload) = self.broker.history[dice.below(self.broker.history.len())].clone();
        let (own, mut retain) = (!matches!(&topic, Topic::Down(to, _) if *to != id), false);
        let is_head = topic.to_string().contains("/head/");
        let mut is_genuine = own;
        let topic = match topic {
            Topic::Down(_, down) => Topic::Down(id, down),
            other => other,
        };
        match dice.below(3) {
            0 => {}
            1 => retain = !is_head,
            _ => {
                let at = dice.below(payload.len());
                payload[at] ^= 1 << dice.below(7);
                is_genuine = false;
            }
        }
        self.take(place, Packet { topic: topic.to_string(), payload, retain, id: 0 }, is_genuine);
    }

    /// One bit of one file changes.
    fn rot(&mut self, place: usize, dice: &mut Dice) {
        let site = &mut self.sites[place];
        let files: Vec<_> = site.disk.files().into_iter().filter(|(_, length)| *length > 0).collect();
        let (file, length) = files[dice.below(files.len())].clone();
        let (at, bit) = (dice.below(length), dice.below(8));
        site.disk.damage(&file, |bytes| bytes[at] ^= 1 << bit);
        site.seen.is_rotten = true;
        self.note(format!("bit {bit} of byte {at} of {length} of `{file}` changes"));
    }

    /// All faults are over: within a named time every gateway has what the offices have, and the office has every audit.
    pub fn end(&mut self) {
        for place in 0..self.sites.len() {
            self.sites[place].disk.set_fault(Fault::None);
            let off_ms = self.sites[place].off_ms;
            self.set_clock(place, -off_ms);
            if !self.broker.sessions[&self.sites[place].id].connected {
                self.connect(place, true, &mut Dice(1));
            }
            for portal in BOXES {
                self.report(place, portal, None);
            }
        }
        for round in 0..ROUNDS_MAX {
            if round.is_multiple_of(6) {
                let now = self.now();
                self.offices.iter_mut().for_each(|office| office.heads(now));
            }
            self.exchange();
            if round == OPERATOR_ROUNDS {
                self.confirm_shrink();
            }
            self.pass(ROUND_MS);
            if (0..self.sites.len()).all(|place| self.differs(place).is_none()) {
                // A box stays on for a while after its card has left.
                self.pass(20_000);
                return self.compare_all();
            }
        }
        let why: Vec<_> = (0..self.sites.len()).filter_map(|place| self.differs(place)).collect();
        panic!("after {ROUNDS_MAX} rounds without a fault: {why:?}");
    }

    fn exchange(&mut self) {
        for _ in 0..3 {
            for office in 0..2 {
                while self.receive(office) {}
                while self.hand(office) {}
            }
            for place in 0..self.sites.len() {
                loop {
                    while self.deliver(place) {}
                    self.sites[place].run.quiet();
                    self.write(place);
                    let session = &self.broker.sessions[&self.sites[place].id];
                    if session.queue.is_empty() || session.in_flight.len() > 8 {
                        break;
                    }
                }
                self.sites[place].run.chores();
                self.send_up(place);
            }
        }
    }

    /// A gateway refuses a list with far fewer cards until somebody who has looked at it sends it all the same.
    fn confirm_shrink(&mut self) {
        let now = self.now();
        for place in (0..self.sites.len()).filter(|place| self.sites[*place].seen.refused_shrink).collect::<Vec<_>>() {
            let gateway = self.sites[place].id.clone();
            for office in &mut self.offices {
                // A list of the epoch that its journal is in; those of other gateways are in other epochs.
                let audience = office.audience(&gateway);
                let journal = office.center.positions().find(|(journal, _)| journal.audience == audience);
                let epoch = journal.map_or(0, |(_, at)| at.epoch.get());
                let (have, reason) = (Have { epoch, seq: 0 }, ResyncReason::Asked);
                let resync = Resync { stream: name(office.name), reason, have, missing: Vec::new() };
                let messages = office.center.answer(&gateway, &resync, now).unwrap();
                office.outbox.extend(messages);
            }
        }
    }

    /// In what a gateway still differs from the offices.
    fn differs(&self, place: usize) -> Option<String> {
        let site = &self.sites[place];
        let (truth, state) = (self.oracle.truth(&site.id), site.run.core.state(site.run.clock.now()));
        for (stream, is_standing) in [(OFFICE, true), (APARTMENT, false)] {
            let expected = oracle::digest(&truth, is_standing);
            let found = state.status.streams.iter().find(|status| status.name.as_str() == stream).unwrap();
            let published = truth.iter().any(|(_, op)| (crate::world::op::stream_of(op) == OFFICE) == is_standing);
            if published && found.digest.as_ref() != Some(&expected) {
                return Some(format!("{}: {stream} is at {found:?}, not {expected}", site.id));
            }
        }
        if let Some(why) = self.verdict_differs(place) {
            return Some(why);
        }
        let kept = self.offices[1].shelf.audit(&site.id).last().copied().unwrap_or(0);
        let last = site.run.store.last_durable();
        (kept + 8 < last).then(|| format!("{}: the office has the audit up to {kept} of {last}", site.id))
    }

    /// A verdict that is not the model's. After a list the gateway knows less of why a card may not than who remembers every message.
    fn verdict_differs(&self, place: usize) -> Option<String> {
        let site = &self.sites[place];
        let (truth, now) = (self.oracle.truth(&site.id), site.run.clock.now());
        for card in CARDS {
            for verdict in site.run.core.engine().query(uid(card), None, now).unwrap() {
                let portal = verdict.portal.as_str();
                let expected = oracle::judge(&truth, uid(card), portal, now.wall);
                let (found, is_grant) = match verdict.outcome {
                    Outcome::Grant(reason) => (reason.as_str(), true),
                    Outcome::Deny(reason) => (reason.as_str(), false),
                };
                let is_exit = oracle::kind(portal).1 && found == "exit";
                if (is_grant || oracle::is_grant(expected)) && found != expected && !is_exit {
                    return Some(format!("{}: {card} at {portal} is {found}, not {expected}", site.id));
                }
            }
        }
        None
    }

    /// Every verdict is the model's, no box is on by a card that may not, and what the audit lacks is named in it.
    fn compare_all(&mut self) {
        for place in 0..self.sites.len() {
            let site = &self.sites[place];
            let (truth, now) = (self.oracle.truth(&site.id), site.run.clock.now());
            assert_eq!(self.verdict_differs(place), None);
            for portal in portals().iter().filter(|portal| portal.kind == PortalKind::PowerBox) {
                let found = site.boxes[portal.id.as_str()];
                let may = |card: &str| oracle::judge(&truth, uid(card), portal.id.as_str(), now.wall) == "granted";
                assert!(!found.relay || found.card.is_none_or(may), "{} is on: {found:?}", portal.id);
            }
            // What rots in front of a generation is found by the scrub of a running store, which is tried in `src/store`.
            if !self.sites[place].seen.is_rotten {
                self.holes_are_named(place);
            }
        }
    }

    /// Every number up to the newest is in the audit that the office keeps, or in a `log_gap` of it.
    fn holes_are_named(&self, place: usize) {
        let site = &self.sites[place];
        let numbers = self.offices[1].shelf.audit(&site.id);
        let mut named = Vec::new();
        for json in numbers.iter().filter_map(|n| site.seen.audit.get(n)) {
            let event: serde_json::Value = serde_json::from_slice(json).unwrap();
            if event["type"] == "log_gap" {
                named.push((event["from"].as_u64().unwrap(), event["to"].as_u64().unwrap()));
            }
        }
        let mut next = 1;
        for n in numbers {
            for hole in next..n {
                let is_named = named.iter().any(|(from, to)| (*from..=*to).contains(&hole));
                assert!(is_named, "{}: event {hole} is missing, and no `log_gap` names it", site.id);
            }
            next = n + 1;
        }
    }
}
