//! A campus of gateways and two offices through the steps of one life, with the checks after each.

use dormgate::access::effect::Resync;
use dormgate::access::id::{GatewayId, Timestamp};
use dormgate::access::input::{Input, PortalReport, Presented, Request};
use dormgate::access::portal::Assurance;
use dormgate::access::stream::Received;
use dormgate::center::AuditTrouble;
use dormgate::store::{Integrity, MemoryDisk, RecoveryIssue, Stepped};
use dormgate::wire::state::Audit;
use dormgate::wire::topic::Up;
use dormgate::wire::up;
use tokio::time::Instant;

use crate::broker::{Broker, Packet};
use crate::dice::Dice;
use crate::gateway::{Run, instant};
use crate::offices::Office;
use crate::oracle::{self, Oracle, Seen};
use crate::plan::Step;
use crate::site::{self, Handed, PowerBox, Site};
use crate::world::{APARTMENT, BEGIN_MS, OFFICE, name, uid};

pub const BOXES: [&str; 2] = ["power-412", "power-413"];
pub const DOORS: [&str; 5] = ["gate-in", "gate-out", "gate-both", "door-412", "door-413"];

pub struct Life {
    pub elapsed_ms: u64,
    begun: Instant,
    pub sites: Vec<Site>,
    pub offices: [Office; 2],
    pub broker: Broker,
    pub oracle: Oracle,
    pub trace: Vec<String>,
    /// Steps, deliveries and deadlines so far.
    pub events: u64,
    pub commands: u64,
}

impl Life {
    pub fn new(gateways: usize) -> Self {
        let ids: Vec<GatewayId> = (0..gateways).map(|n| name(&format!("g{n}"))).collect();
        let site = |id: &GatewayId| {
            let disk = MemoryDisk::new();
            let (run, _) = Run::start(id, &disk, Timestamp(BEGIN_MS), format!("{id}-0"));
            let boxes = BOXES.map(|portal| (portal, PowerBox::default())).into();
            let seen = Seen::default();
            Site { id: id.clone(), disk, run, seen, off_ms: 0, boots: 0, boxes, requests: 0 }
        };
        let mut life = Self {
            elapsed_ms: 0,
            begun: Instant::now(),
            sites: ids.iter().map(site).collect(),
            offices: [OFFICE, APARTMENT].map(|stream| Office::new(stream, &ids)),
            broker: Broker::new(&ids),
            oracle: Oracle::default(),
            trace: Vec::new(),
            events: 0,
            commands: 0,
        };
        for place in 0..gateways {
            life.connect(place, true, &mut Dice(0));
        }
        life
    }

    /// The true time.
    pub fn now(&self) -> Timestamp {
        Timestamp(BEGIN_MS + i64::try_from(self.elapsed_ms).unwrap())
    }

    pub fn instant(&self) -> Instant {
        instant(self.begun, self.elapsed_ms)
    }

    pub fn note(&mut self, text: String) {
        self.trace.push(text);
    }

    pub fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.events += 1;
            self.note(format!("{:?}", step.act));
            self.step(*step);
        }
    }

    pub fn connect(&mut self, place: usize, keeps_session: bool, dice: &mut Dice) {
        let site = &mut self.sites[place];
        self.broker.connect(&site.id, keeps_session, dice);
        site.run.link_up();
        self.after(place);
    }

    pub fn disconnect(&mut self, place: usize) {
        let site = &mut self.sites[place];
        self.broker.disconnect(&site.id);
        site.run.link_down();
    }

    /// Publishes what an office has just kept.
    pub fn publish(&mut self, office: usize, place: usize, dice: &mut Dice) {
        let now = self.now();
        let gateway = self.sites[place].id.clone();
        let ops = self.offices[office].ops(dice, now);
        let office = &mut self.offices[office];
        if let Some(at) = office.publish(&gateway, &ops, now) {
            let (audience, stream) = (office.audience(&gateway), office.name);
            self.note(format!("{stream} {}.{} {ops:?}", at.epoch, at.seq));
            self.oracle.publish(audience, stream, at, ops);
        }
    }

    /// An office hands its next message to the broker.
    pub fn hand(&mut self, office: usize) -> bool {
        let Some(message) = self.offices[office].outbox.pop_front() else { return false };
        self.broker.publish(&message.topic, &message.payload);
        true
    }

    /// The broker delivers the next message to a gateway.
    pub fn deliver(&mut self, place: usize) -> bool {
        let Some(packet) = self.broker.next(&self.sites[place].id) else { return false };
        self.take(place, packet, true);
        true
    }

    /// A gateway takes a message. `is_genuine`: its office signed it, for this gateway.
    pub fn take(&mut self, place: usize, packet: Packet, is_genuine: bool) {
        self.events += 1;
        let now = self.instant();
        let site = &mut self.sites[place];
        let claims = oracle::claims(&packet.payload);
        let (is_change, retain) = (packet.topic.ends_with("/changes"), packet.retain);
        let mut handed = Handed::default();
        if packet.topic.ends_with("/command")
            && let Some(jti) = claims.as_ref().and_then(|claims| claims["jti"].as_str())
        {
            handed.command = Some(jti.to_owned());
            if is_genuine && !retain {
                site.seen.may_act.insert(jti.to_owned());
            }
        }
        let text = format!("{} takes {} {}", site.id, packet.topic, if retain { "retained" } else { "" });
        let forged = handed.command.clone().filter(|_| !is_genuine || retain);
        let is_taken =
            |site: &Site| forged.as_ref().map(|jti| site.run.core.engine().state().commands.contains_key(jti));
        let before = is_taken(site);
        let id = site.run.deliver(packet, now);
        assert_eq!(is_taken(site), before, "a command that is forged or retained is taken");
        if let Some(number) = claims.as_ref().filter(|_| is_change && is_genuine && !retain).and_then(oracle::number_of)
            && self.oracle.knows(&site.id, number)
            && site.seen.handed(number)
        {
            self.oracle.settle(&site.id, &mut site.seen);
        }
        if let Some(id) = id {
            self.broker.acknowledged(&site.id, id);
        }
        self.note(text);
        self.after_taking(place, &handed);
    }

    pub fn after(&mut self, place: usize) {
        self.after_taking(place, &Handed::default());
    }

    /// What came out of a gateway: carried out, and checked.
    fn after_taking(&mut self, place: usize, handed: &Handed) {
        let (now, is_up) = (self.instant(), self.broker.sessions[&self.sites[place].id].connected);
        let site = &mut self.sites[place];
        site.seen.reads(site.run.clock.now(), self.elapsed_ms);
        site.snapshots_applied(&self.oracle);
        let (left, released) = site.run.uplink(is_up, now);
        let answers: Vec<_> = left.iter().filter_map(site::released_by).collect();
        let answers = &mut answers.into_iter();
        for order in site.run.portal_orders() {
            self.trace.push(format!("{} {order:?}", site.id));
            site.ordered(&order, handed, answers);
        }
        for id in released {
            self.broker.acknowledged(&site.id, id);
        }
        for left in left {
            self.trace.push(site.left(left));
        }
        site.seen.check_boxes(site.run.clock.now());
    }

    /// The broker takes what a gateway has to publish.
    pub fn send_up(&mut self, place: usize) {
        let now = self.instant();
        let site = &mut self.sites[place];
        if !self.broker.sessions[&site.id].connected {
            return;
        }
        self.broker.subscribe(&site.id, site.run.unacknowledged);
        while let Some((what, body, id)) = site.run.outbox.pop_front() {
            for up in &mut self.broker.up {
                up.push_back((site.id.clone(), what, body.clone()));
            }
            id.into_iter().for_each(|id| site.run.delivered(id, now));
        }
    }

    /// An office receives the next message of a gateway.
    pub fn receive(&mut self, place: usize) -> bool {
        let Some((gateway, what, body)) = self.broker.up[place].pop_front() else { return false };
        self.events += 1;
        let now = self.now();
        let office = &mut self.offices[place];
        match what {
            Up::Resync => {
                let resync: Resync = up::decode(&body).unwrap();
                if resync.stream.as_str() == office.name {
                    let messages = office.center.answer(&gateway, &resync, now).unwrap_or_default();
                    self.trace.push(format!(
                        "{gateway} asks {} for {:?}: {}",
                        office.name,
                        resync.reason,
                        messages.len()
                    ));
                    office.outbox.extend(messages);
                }
            }
            Up::Audit if office.name == APARTMENT => {
                let site = self.sites.iter().find(|site| site.id == gateway).unwrap();
                // As its retained state names it.
                let audit = Audit { last: site.run.store.last_durable(), acked: site.run.store.acked() };
                office.center.note_audit(&gateway, audit);
                let Ok((received, ack)) = office.center.receive_audit(&gateway, &body, now) else { return true };
                for trouble in received.trouble {
                    // The last is what the broker delivers after it was passed.
                    let waits = matches!(
                        trouble,
                        AuditTrouble::Waiting { .. } | AuditTrouble::Lost { .. } | AuditTrouble::NotKept { .. }
                    );
                    assert!(waits || site.seen.is_rotten, "the office finds in the audit of {gateway}: {trouble}");
                }
                office.outbox.extend(ack);
            }
            Up::Audit | Up::Ack | Up::Reply | Up::Alarm | Up::State => {}
        }
        true
    }

    pub fn pass(&mut self, ms: u64) {
        self.elapsed_ms += ms;
        for place in 0..self.sites.len() {
            let until = self.sites[place].run.clock.now().mono.0 + ms;
            while !self.sites[place].run.wake(until) {
                self.events += 1;
                self.after(place);
            }
            self.after(place);
            self.send_up(place);
        }
    }

    pub fn present(&mut self, place: usize, portal: &str, card: &str, dice: &mut Dice) {
        let site = &mut self.sites[place];
        if !dice.one_in(8) {
            site.requests += 1;
        }
        let stale = dice.one_in(16);
        let request = Request {
            portal: portal.to_owned(),
            id: Some(format!("r{}", site.requests)),
            presented: Presented::Card(uid(card)),
            direction: None,
            assurance: Assurance::Uid,
            stale,
            slot: 0,
        };
        site.seen.put_in(portal, Some(uid(card)));
        site.run.handle(Input::Request(request));
        self.after_taking(place, &Handed { stale, ..Handed::default() });
    }

    /// A box reports itself, truly or with another card in it.
    pub fn report(&mut self, place: usize, portal: &'static str, lie: Option<&'static str>) {
        let site = &mut self.sites[place];
        let PowerBox { card, relay } = site.boxes[portal];
        let card = lie.or(card);
        let report = PortalReport {
            online: Some(true),
            card_present: Some(card.is_some()),
            uid: card.map(|card| Presented::Card(uid(card))),
            relay: Some(relay),
            ..PortalReport::default()
        };
        site.seen.put_in(portal, card.map(uid));
        site.run.handle(Input::Report { portal: portal.to_owned(), report });
        if relay {
            let now = site.run.clock.now();
            site.seen.shown_on(portal, card.map(uid), now);
        }
        let text = format!("{} {portal} reports {card:?}, relay {relay}", site.id);
        self.note(text);
        self.after(place);
    }

    /// The power goes, and comes back at once.
    pub fn crash(&mut self, place: usize, torn: usize) {
        self.broker.disconnect(&self.sites[place].id);
        self.sites[place].disk.crash(torn);
        self.start(place);
    }

    /// A clean stop and a start.
    pub fn restart(&mut self, place: usize) {
        self.broker.disconnect(&self.sites[place].id);
        self.sites[place].disk.set_fault(dormgate::store::Fault::None);
        self.sites[place].run.quiet();
        self.after(place);
        let wall = self.sites[place].run.clock.now().wall;
        let site = &mut self.sites[place];
        // Of the run that stops only what it left counts.
        let (other, _) = Run::start(&site.id, &MemoryDisk::new(), wall, "none".to_owned());
        for left in std::mem::replace(&mut site.run, other).stop() {
            self.trace.push(site.left(left));
        }
        self.start(place);
    }

    pub fn start(&mut self, place: usize) {
        let wall = Timestamp(self.now().0 + self.sites[place].off_ms);
        let site = &mut self.sites[place];
        site.boots += 1;
        let (run, found) = Run::start(&site.id, &site.disk, wall, format!("{}-{}", site.id, site.boots));
        site.run = run;
        // Neither a cut of the power nor a write that failed nor an upgrade leaves more behind than an unfinished end.
        let is_damage = |issue: &RecoveryIssue| {
            use RecoveryIssue::{BadBytes, ChainBroken, GenerationSetAside, NotApplied, OutOfOrder, SegmentUnreadable};
            matches!(
                issue,
                GenerationSetAside { .. }
                    | BadBytes { .. }
                    | ChainBroken { .. }
                    | NotApplied { .. }
                    | OutOfOrder { .. }
                    | SegmentUnreadable { .. }
            )
        };
        let is_well = found.integrity == Integrity::Complete && !found.issues.iter().any(is_damage);
        assert!(site.seen.is_rotten || is_well, "{}: the start finds damage: {:?}", site.id, found.issues);
        let journal = site.run.store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
        let snapshots = site.snapshots().into_iter().collect();
        let streams = &site.run.core.engine().state().streams;
        let has = |stream: &str, at| streams.get(stream).is_some_and(|track| track.classify(at) == Received::Duplicate);
        site.seen.restarted(journal.iter().map(|event| event.json.as_slice()), snapshots, has);
        self.oracle.settle(&site.id, &mut site.seen);
        self.trace.push(format!("{} starts with {} events: {:?}", site.id, journal.len(), found.issues));
        self.after(place);
        self.compare(place);
    }

    /// The list of a gateway and what it was handed: the same digest, and the one that is published, if any.
    pub fn compare(&mut self, place: usize) {
        let site = &mut self.sites[place];
        if site.seen.is_rotten {
            return;
        }
        let list = &site.run.core.engine().state().list;
        let published = site.run.core.state(site.run.clock.now()).status.streams;
        for (stream, is_standing) in [(OFFICE, true), (APARTMENT, false)] {
            let owns = crate::world::owned_by(stream);
            let (found, expected) =
                (dormgate::wire::digest::of(list, &owns), oracle::digest(site.seen.received(), is_standing));
            assert_eq!(found.sha256, expected, "{}: what {stream} owns is not what was handed over", site.id);
            let shown = published.iter().find(|status| status.name.as_str() == stream).unwrap();
            let is_this = shown.digest.as_ref().is_none_or(|digest| *digest == expected);
            assert!(is_this, "{}: the digest of an earlier list of {stream} is published: {shown:?}", site.id);
        }
    }

    /// The disk of a gateway writes until nothing waits, or fails.
    pub fn write(&mut self, place: usize) {
        loop {
            let stepped = self.sites[place].run.disk_step();
            self.sites[place].run.stored();
            self.after(place);
            if stepped != Stepped::Done {
                return;
            }
        }
    }
}
