//! A small building for tests: an engine, a manual clock, two centers, and the journal that a restart replays.
//!
//! ```ignore
//! let mut w = World::new();
//! w.issue("A", "p1").enrol("A", "p1", "gate:* door:412 power_box:412");
//! assert_eq!(w.present("gate-in", "A"), "granted");
//! ```

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use dormgate::access::calendar::Calendar;
use dormgate::access::change::{
    Changes, Head, Op, OpError, PortalSet, Position, RegisterKind, RegisterKinds, Subject, SuspendReason,
};
use dormgate::access::credential::{CardMarks, Enrolment, Entitlement, Flag, Role, ZoneSet};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::event::{Event, EventKind, Record};
use dormgate::access::id::{CardUid, ClockTrust, Mono, Now, PortalId, Timestamp};
use dormgate::access::input::{
    Command, CommandKind, Input, Operator, PortalReport, Presented, Receipt, ReceivedChanges, ReceivedPart, Request,
};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Direction, Portal, PortalKind, Posture};
use dormgate::access::schedule::{Schedule, timezone};
use dormgate::access::snapshot::SnapshotEntry;
use dormgate::access::state::State;
use dormgate::access::stream::StreamTrack;
use dormgate::access::transform::Transform;
use dormgate::wire::snapshot;

/// The stream that owns the standing of cards.
pub const OFFICE: &str = "card-office";
/// The stream that owns everything else.
pub const APARTMENT: &str = "apartment";
/// When the tests begin: 2026-09-01T00:00:00Z, in milliseconds.
pub const BEGIN_MS: i64 = 1_788_220_800_000;

/// The UID behind a test's name for a card: hex if it is hex, else a value of its own.
pub fn uid(name: &str) -> CardUid {
    let named =
        [("A", "1EA68671"), ("B", "04A1B2C3D4E5F6"), ("R", "5C0DE001"), ("X", "5EADBEEF"), ("phone", "08C0FFEE")];
    let hex = named.iter().find(|(short, _)| *short == name).map_or(name, |(_, hex)| hex);
    if hex.len() >= 8 {
        return hex.parse().unwrap();
    }
    let mut bytes = [0x70; 4];
    bytes.iter_mut().zip(hex.bytes()).for_each(|(to, from)| *to = from);
    CardUid::from_bytes(&bytes).unwrap()
}

/// Anything that parses from text.
pub fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` cannot be parsed"))
}

/// A position in a stream.
pub fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch: NonZeroU32::new(epoch).unwrap(), seq }
}

/// Ops by their names on the wire. A subject is `uid:A` or a holder.
#[path = "op.rs"]
pub mod op;

/// The registers that a stream owns.
pub fn owned_by(stream: &str) -> RegisterKinds {
    let owns = |kind: &RegisterKind| (*kind == RegisterKind::Standing) == (stream == OFFICE);
    RegisterKind::ALL.iter().copied().filter(owns).collect()
}

/// The portals of the building: two gates, one gate that reports the direction itself, two rooms.
pub fn portals() -> Vec<Portal> {
    let portal = |id: &str, kind, zone: &str, direction| Portal {
        direction,
        delay_off_ms: 15_000,
        held_open_ms: 15_000,
        ..Portal::new(name(id), kind, name(zone))
    };
    vec![
        portal("gate-in", PortalKind::Gate, "lobby", Some(Direction::In)),
        portal("gate-out", PortalKind::Gate, "lobby", Some(Direction::Out)),
        portal("gate-both", PortalKind::Gate, "lobby", None),
        portal("door-412", PortalKind::Door, "412", None),
        portal("power-412", PortalKind::PowerBox, "412", None),
        portal("door-413", PortalKind::Door, "413", None),
        portal("power-413", PortalKind::PowerBox, "413", None),
    ]
}

/// A snapshot as a center sends it.
pub struct Snapshot<'s> {
    pub stream: &'s str,
    pub at: Position,
    pub id: &'s str,
    pub entries: &'s [SnapshotEntry],
    pub allow_shrink: bool,
}

#[path = "chinese.rs"]
mod chinese;
#[path = "seen.rs"]
mod seen;

#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use op::enrolment;
pub use seen::Seen;

/// The building.
pub struct World {
    pub engine: Engine,
    /// What the engine is built with at the next restart.
    pub setup: Setup,
    /// Milliseconds since the tests began, on both clocks.
    pub elapsed_ms: u64,
    /// What the wall clock is off by, in milliseconds.
    pub wall_off_ms: i64,
    pub clock: ClockTrust,
    /// What was recorded, in order: the journal.
    pub journal: Vec<Record>,
    /// The messages received; the evidence of a message is its place here.
    pub received: Vec<Changes>,
    /// Epoch and number of each stream's last message.
    pub counters: BTreeMap<&'static str, (u32, u64)>,
    requests: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(Policy::default())
    }

    pub fn with(policy: Policy) -> Self {
        Self::of(policy, portals(), Vec::new())
    }

    /// A building with these portals; the readers of those in `lossy` lose part of the UID.
    pub fn of(policy: Policy, portals: Vec<Portal>, lossy: Vec<(PortalId, Transform)>) -> Self {
        let streams = [OFFICE, APARTMENT].map(|stream| StreamRole { name: name(stream), owns: owned_by(stream) });
        let (_, zone) = timezone("Asia/Shanghai").unwrap();
        let calendar = Calendar::new(zone, BTreeMap::new());
        let setup = Setup { portals, lossy, policy, calendar, streams: streams.to_vec(), boot: "boot-0".to_owned() };
        let mut world = Self {
            engine: Engine::new(setup.clone(), State::default()),
            setup,
            elapsed_ms: 0,
            wall_off_ms: 0,
            clock: ClockTrust::Trusted,
            journal: Vec::new(),
            received: Vec::new(),
            counters: BTreeMap::from([(OFFICE, (1, 0)), (APARTMENT, (1, 0))]),
            requests: 0,
        };
        world.restart();
        world
    }

    pub fn now(&self) -> Now {
        let elapsed = i64::try_from(self.elapsed_ms).unwrap();
        Now { wall: Timestamp(BEGIN_MS + elapsed + self.wall_off_ms), mono: Mono(self.elapsed_ms), clock: self.clock }
    }

    /// Lets time pass and wakes the engine at each of its deadlines; gives what happened meanwhile.
    pub fn pass_ms(&mut self, ms: u64) -> Seen {
        let until = self.elapsed_ms + ms;
        let mut seen = Vec::new();
        for _ in 0..10_000 {
            let next = self.engine.next_deadline().map_or(u64::MAX, |at| at.0);
            self.elapsed_ms = self.elapsed_ms.max(next.min(until));
            if next > until {
                return Seen(seen);
            }
            seen.extend(self.input(Input::Wake).0);
        }
        panic!("the engine wants to be woken without end");
    }

    pub fn pass_s(&mut self, s: u64) -> Seen {
        self.pass_ms(s * 1000)
    }

    /// Handles an input; the disk is quick where a command waits for it.
    pub fn input(&mut self, input: Input) -> Seen {
        let is_command = matches!(input, Input::Command(_));
        let mut effects = self.engine.handle(input, self.now());
        if is_command && self.engine.has_waiting_commands() {
            let through = self.engine.state().last_n;
            effects.extend(self.engine.handle(Input::Durable { through }, self.now()));
        }
        self.keep(effects)
    }

    /// Takes note of what the engine recorded.
    pub fn keep(&mut self, effects: Vec<Effect>) -> Seen {
        let seen = Seen(effects);
        let alarms = seen.0.iter().filter_map(|e| if let Effect::Alarm(alarm) = e { Some(alarm) } else { None });
        alarms.for_each(|alarm| chinese::is_in_chinese(&alarm.detail));
        self.journal.extend(seen.records().cloned());
        seen
    }

    /// The state that a replay of the journal gives.
    pub fn folded(&self) -> State {
        fold(&self.journal, &self.received)
    }

    /// A new process that goes on where the journal ends.
    pub fn restart(&mut self) -> Seen {
        self.restart_with(self.folded())
    }

    pub fn restart_with(&mut self, state: State) -> Seen {
        // Each boot has a name of its own.
        self.setup.boot.push('+');
        self.engine = Engine::new(self.setup.clone(), state);
        self.input(Input::Boot { found: String::new(), version: "test".to_owned(), gateway: None })
    }

    /// The parts of a snapshot as received, made as a center makes them.
    pub fn snapshot_parts(&self, snapshot: &Snapshot<'_>) -> Vec<Input> {
        let Snapshot { stream, at, id, entries, allow_shrink } = snapshot;
        let (stream, iat) = (name(stream), self.now().wall);
        let claims = snapshot::write_parts((&stream, *at, id), "g1", iat, entries, *allow_shrink).unwrap();
        let part = |claims: String| ReceivedPart {
            part: snapshot::read_kept_part(claims.as_bytes()).unwrap(),
            evidence: claims.into_bytes(),
            receipt: Receipt(0),
            received_at: iat,
        };
        claims.into_iter().map(|claims| Input::SnapshotPart(part(claims))).collect()
    }

    /// Receives a snapshot whole and applies it.
    pub fn snapshot(&mut self, snapshot: &Snapshot<'_>) -> Seen {
        let parts = self.snapshot_parts(snapshot);
        let mut seen: Vec<_> = parts.into_iter().flat_map(|part| self.input(part).0).collect();
        seen.extend(self.finish_snapshots().0);
        Seen(seen)
    }

    /// Works at snapshots until none is under way.
    pub fn finish_snapshots(&mut self) -> Seen {
        let mut effects = Vec::new();
        while self.engine.has_snapshot_work() {
            effects.extend(self.engine.work_at_snapshot(self.now()));
        }
        self.keep(effects)
    }

    /// A message at this position of its stream, as received.
    pub fn message(&mut self, stream: &str, at: Position, content: Result<Vec<Op>, Vec<OpError>>) -> Input {
        let received_at = self.now().wall;
        let changes = Changes { stream: name(stream), at, iat: Some(received_at), content };
        let place = self.received.len();
        self.received.push(changes.clone());
        let (evidence, receipt) = (place.to_le_bytes().to_vec(), Receipt(u64::try_from(place).unwrap()));
        Input::Changes(ReceivedChanges { changes, evidence, receipt, received_at })
    }

    pub fn publish_at(&mut self, stream: &str, at: Position, ops: Vec<Op>) -> Seen {
        let input = self.message(stream, at, Ok(ops));
        self.input(input)
    }

    /// The next message of the stream that owns these ops.
    pub fn publish(&mut self, ops: Vec<Op>) -> Seen {
        let stream = op::stream_of(&ops[0]);
        assert!(ops.iter().all(|op| op::stream_of(op) == stream), "one message, one stream");
        let (epoch, seq) = self.counters.get_mut(stream).unwrap();
        *seq += 1;
        let position = at(*epoch, *seq);
        self.publish_at(stream, position, ops)
    }

    pub fn issue(&mut self, card: &str, holder: &str) -> &mut Self {
        self.publish(vec![op::issue(card, holder)]);
        self
    }

    pub fn enrol(&mut self, card: &str, holder: &str, what: &str) -> &mut Self {
        self.publish(vec![op::enrol(card, holder, what)]);
        self
    }

    /// A resident of 412 with a card that opens everything a resident opens.
    pub fn resident(&mut self, card: &str, holder: &str) -> &mut Self {
        self.issue(card, holder).enrol(card, holder, "gate:* door:412 power_box:412")
    }

    pub fn head(&mut self, stream: &str, at: Position) -> Seen {
        let iat = Some(self.now().wall);
        self.input(Input::Head(Head { stream: name(stream), at, iat, cards: 0, digest: String::new() }))
    }

    /// The link to the centers comes up; the broker keeps what is sent meanwhile.
    pub fn link_up(&mut self) -> Seen {
        self.input(Input::LinkUp { spread_ms: 0, ask_every_stream: false })
    }

    pub fn request(&self, portal: &str, presented: Presented) -> Request {
        let (portal, assurance) = (portal.to_owned(), Assurance::Uid);
        Request { portal, id: None, presented, direction: None, assurance, stale: false, slot: 0 }
    }

    /// Presents a card and gives all effects.
    pub fn see(&mut self, portal: &str, card: &str) -> Seen {
        self.requests += 1;
        self.see_as(portal, card, &format!("r{}", self.requests))
    }

    /// Presents a card in a request with this id.
    pub fn see_as(&mut self, portal: &str, card: &str, id: &str) -> Seen {
        let request = Request { id: Some(id.to_owned()), ..self.request(portal, Presented::Card(uid(card))) };
        self.input(Input::Request(request))
    }

    /// Presents a card and gives the reason.
    pub fn present(&mut self, portal: &str, card: &str) -> &'static str {
        self.see(portal, card).reason()
    }

    pub fn report(&mut self, portal: &str, report: PortalReport) -> Seen {
        self.input(Input::Report { portal: portal.to_owned(), report })
    }

    /// Somebody passed.
    pub fn passed(&mut self, portal: &str, direction: Direction) -> Seen {
        self.report(portal, PortalReport { passed: Some(direction), ..PortalReport::default() })
    }

    /// The box reports that the card has left.
    pub fn leave(&mut self, portal: &str) -> Seen {
        self.report(portal, PortalReport { card_present: Some(false), ..PortalReport::default() })
    }

    /// The box reports that this card is in it.
    pub fn sits(&mut self, portal: &str, card: &str, relay: Option<bool>) -> Seen {
        let uid = Some(Presented::Card(uid(card)));
        self.report(portal, PortalReport { card_present: Some(true), uid, relay, ..PortalReport::default() })
    }

    pub fn relay(&mut self, portal: &str, relay: bool) -> Seen {
        self.report(portal, PortalReport { relay: Some(relay), ..PortalReport::default() })
    }

    pub fn fire(&mut self, portal: &str, fire: bool) -> Seen {
        self.report(portal, PortalReport { fire: Some(fire), ..PortalReport::default() })
    }

    pub fn operator(&mut self, portals: &str, posture: Posture) -> Seen {
        let portals = portals.split_whitespace().map(name).collect();
        self.input(Input::Operator(Operator::Posture { portals, posture }, None))
    }

    pub fn command(&mut self, jti: &str, kind: CommandKind) -> Seen {
        let (iat, actor) = (self.now().wall, Some("staff:77".to_owned()));
        let (stream, jti, exp) = (name(APARTMENT), jti.to_owned(), Timestamp(iat.0 + 30_000));
        self.input(Input::Command(Command { stream, jti, iat, exp, actor, kind }))
    }

    pub fn is_on(&self, portal: &str) -> bool {
        self.engine.boxes().get(portal).is_some_and(|b| b.source().is_some())
    }

    /// Fails unless the replay of the journal gives the engine's state.
    pub fn assert_replay_is_life(&self) {
        assert_same_state(&self.folded(), self.engine.state());
    }
}

/// Folds records; the evidence of a message is its place in `received`.
pub fn fold(journal: &[Record], received: &[Changes]) -> State {
    let mut state = State::default();
    fold_onto(&mut state, journal, received);
    state
}

/// Folds the records that follow what `state` holds already.
pub fn fold_onto(state: &mut State, journal: &[Record], received: &[Changes]) {
    let last_n = state.last_n;
    for record in journal.iter().filter(|record| record.event.n > last_n) {
        if let Event::ChangesApplied { snapshot: Some(applied), .. } = &record.event.body {
            let snapshot = snapshot::read_evidence(&record.evidence).unwrap();
            state.fold_snapshot(&record.event, &snapshot, &applied.owns);
            continue;
        }
        let place = || usize::from_le_bytes(record.evidence.as_slice().try_into().unwrap());
        let changes = (record.event.kind() == EventKind::ChangesApplied).then(|| &received[place()]);
        state.fold(&record.event, changes);
    }
}

/// Compares what survives, one part after the other so that a difference is readable. The heads of streams and the time of their
/// newest message are in no event.
pub fn assert_same_state(folded: &State, live: &State) {
    let cards = |s: &State| {
        let all = (0..s.list.len()).map(|place| s.list.record_at(place).unwrap());
        all.map(|card| (card.uid, card)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(cards(folded), cards(live), "cards");
    let holders = |s: &State| s.list.holder_entries().map(|h| (h.holder.clone(), h)).collect::<BTreeMap<_, _>>();
    assert_eq!(holders(folded), holders(live), "holders");
    let tracks = |s: &State| {
        let kept = |track: &StreamTrack| StreamTrack { head: None, newest_iat: None, ..track.clone() };
        let all = s.streams.iter().map(|(name, track)| (name.clone(), kept(track)));
        // A stream of which no event is kept is equal to one that was never received.
        all.filter(|(_, track)| *track != StreamTrack::default()).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(tracks(folded), tracks(live), "streams");
    assert_eq!((&folded.gateway, &folded.owners), (&live.gateway, &live.owners), "owners");
    assert_eq!(folded.trips, live.trips, "trips");
    assert_eq!(folded.boxes_off, live.boxes_off, "boxes that rest");
    let visitors = |s: &State| s.list.days_of_visitors().collect::<BTreeMap<_, _>>();
    assert_eq!(visitors(folded), visitors(live), "days of visitors");
    let rest = |s: &State| (s.boxes.clone(), s.commands.clone(), s.operator.clone(), s.fire, s.last_n);
    assert_eq!((&folded.list.site, rest(folded)), (&live.list.site, rest(live)), "site, boxes, commands, fire");
    let passages = |s: &State| s.presence.all().map(|(uid, all)| (uid, all.to_vec())).collect::<BTreeMap<_, _>>();
    assert_eq!(passages(folded), passages(live), "passages");
    assert!(folded.presence.reporting().eq(live.presence.reporting()), "portals that report passing");
    let revocations = |s: &State| s.revocations.all().map(|(n, r)| (n, r.clone())).collect::<Vec<_>>();
    let not_durable = |s: &State| s.revocations.not_durable();
    assert_eq!(revocations(folded), revocations(live), "revocations");
    assert_eq!(not_durable(folded), not_durable(live), "revocations not known to be durable");
}
