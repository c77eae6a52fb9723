//! A small building for tests: an engine, a clock one sets by hand, two offices, and a journal one can restart from.
//!
//! ```ignore
//! let mut w = World::new();
//! w.issue("A", "p1").enrol("A", "p1", "gate:* door:412 power_box:412");
//! assert_eq!(w.present("gate-in", "A"), "granted");
//! ```

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use dormgate::access::change::{
    Changes, Head, Op, OpError, PortalSet, Position, RegisterKind, RegisterKinds, Subject, SuspendReason,
};
use dormgate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
use dormgate::access::effect::Effect;
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::event::{Event, EventKind, Record};
use dormgate::access::id::{CardUid, ClockTrust, Mono, Now, PortalId, StreamName, Timestamp};
use dormgate::access::input::{
    Command, CommandKind, Input, Operator, PortalReport, Presented, Receipt, ReceivedChanges, ReceivedPart, Request,
};
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Assurance, Direction, Portal, PortalKind, Posture};
use dormgate::access::snapshot::SnapshotEntry;
use dormgate::access::state::State;
use dormgate::access::transform::Transform;
use dormgate::wire::snapshot;

/// The stream that owns the standing of cards.
pub const OFFICE: &str = "card-office";
/// The stream that owns everything else.
pub const APARTMENT: &str = "apartment";
/// When the tests begin: 2026-09-01T00:00:00Z, in milliseconds.
pub const BEGIN_MS: i64 = 1_788_220_800_000;

/// The UID behind a test's name for a card: hex if it is hex, else a value of its own.
#[must_use]
pub fn uid(name: &str) -> CardUid {
    match name {
        "A" => "1EA68671".parse().unwrap(),
        "B" => "04A1B2C3D4E5F6".parse().unwrap(),
        "R" => "5C0DE001".parse().unwrap(),
        "X" => "DEADBEEF".parse().unwrap(),
        "phone" => "08C0FFEE".parse().unwrap(),
        hex if hex.len() >= 8 => hex.parse().unwrap(),
        other => {
            let mut bytes = [0x70; 4];
            bytes.iter_mut().zip(other.bytes()).for_each(|(to, from)| *to = from);
            CardUid::from_bytes(&bytes).unwrap()
        }
    }
}

/// Anything that parses from text.
#[must_use]
pub fn name<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no name"))
}

/// A position in a stream.
#[must_use]
pub fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch: NonZeroU32::new(epoch).unwrap(), seq }
}

/// An enrolment: `what` is like `gate:* door:412 power_box:412@term`.
#[must_use]
pub fn enrolment(holder: &str, what: &str) -> Enrolment {
    let one = |text: &str| {
        let (kind, rest) = text.split_once(':').unwrap();
        let (zone, schedule) = rest.split_once('@').map_or((rest, None), |(z, s)| (z, Some(name(s))));
        let zone = if zone == "*" { ZoneSet::Any } else { ZoneSet::One(name(zone)) };
        Entitlement { kind: PortalKind::parse(kind).unwrap(), zone, schedule }
    };
    Enrolment {
        holder: name(holder),
        role: Role::Resident,
        not_before: None,
        not_after: None,
        entitlements: what.split_whitespace().map(one).collect(),
    }
}

/// `uid:A` or a holder.
fn subject(text: &str) -> Subject {
    match text.strip_prefix("uid:") {
        Some(card) => Subject::Card(uid(card)),
        None => Subject::Holder(name(text)),
    }
}

/// Ops by their names on the wire. A subject is `uid:A` or a holder.
#[path = "op.rs"]
pub mod op;

/// The stream that may report this op.
#[must_use]
pub fn stream_of(op: &Op) -> &'static str {
    match op {
        Op::Issue { .. } | Op::Reissue { .. } | Op::SetFlag { .. } | Op::Reinstate { .. } => OFFICE,
        Op::Enrol { .. }
        | Op::Withdraw { .. }
        | Op::Power { .. }
        | Op::DefineSchedule { .. }
        | Op::SetPosture { .. } => APARTMENT,
    }
}

/// The portals of the building: two gates and one that reports the direction itself, two rooms.
#[must_use]
pub fn portals() -> Vec<Portal> {
    let portal = |id: &str, kind, zone: &str, direction| Portal {
        id: name(id),
        kind,
        zone: name(zone),
        direction,
        hold_ms: 3_000,
        delay_off_ms: 15_000,
        debounce_ms: 0,
        held_open_ms: 15_000,
        rest_ms: 0,
        fire_input: true,
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

#[path = "seen.rs"]
mod seen;

pub use seen::Seen;

/// See the module's head.
pub struct World {
    pub engine: Engine,
    pub policy: Policy,
    pub portals: Vec<Portal>,
    /// Portals with a reader that loses part of the UID.
    pub lossy: Vec<(PortalId, Transform)>,
    /// Milliseconds since the tests began, on both clocks.
    pub elapsed_ms: u64,
    /// What the wall clock is off by, in milliseconds.
    pub wall_off_ms: i64,
    pub clock: ClockTrust,
    /// What was recorded, in order: the journal.
    pub journal: Vec<Record>,
    /// Messages by the number that stands as their evidence.
    pub reported: Vec<Changes>,
    /// Epoch and number of each stream's last message.
    pub counters: BTreeMap<&'static str, (u32, u64)>,
    boots: u32,
    requests: u64,
}

impl World {
    pub fn new() -> Self {
        Self::with(Policy::default())
    }

    pub fn with(policy: Policy) -> Self {
        Self::of(policy, portals())
    }

    pub fn of(policy: Policy, portals: Vec<Portal>) -> Self {
        Self::reading(policy, portals, Vec::new())
    }

    /// A building where the readers of some portals lose part of the UID.
    pub fn reading(policy: Policy, portals: Vec<Portal>, lossy: Vec<(PortalId, Transform)>) -> Self {
        let mut world = Self {
            engine: engine(&policy, &portals, &lossy, 0, State::default()),
            policy,
            portals,
            lossy,
            elapsed_ms: 0,
            wall_off_ms: 0,
            clock: ClockTrust::Trusted,
            journal: Vec::new(),
            reported: Vec::new(),
            counters: BTreeMap::from([(OFFICE, (1, 0)), (APARTMENT, (1, 0))]),
            boots: 0,
            requests: 0,
        };
        world.restart();
        world
    }

    pub fn now(&self) -> Now {
        let elapsed = i64::try_from(self.elapsed_ms).unwrap();
        Now { wall: Timestamp(BEGIN_MS + elapsed + self.wall_off_ms), mono: Mono(self.elapsed_ms), clock: self.clock }
    }

    /// Lets time pass, waking the engine whenever it asks for it; gives what happened meanwhile.
    pub fn pass_ms(&mut self, ms: u64) -> Seen {
        let until = self.elapsed_ms + ms;
        let mut seen = Vec::new();
        for _ in 0..10_000 {
            let next = self.engine.next_deadline().map_or(u64::MAX, |at| at.0);
            if next > until {
                self.elapsed_ms = until;
                return Seen(seen);
            }
            self.elapsed_ms = self.elapsed_ms.max(next);
            seen.extend(self.input(Input::Wake).0);
        }
        panic!("the engine wants to be woken without end");
    }

    pub fn pass_s(&mut self, s: u64) -> Seen {
        self.pass_ms(s * 1000)
    }

    pub fn input(&mut self, input: Input) -> Seen {
        let effects = self.engine.handle(input, self.now());
        self.keep(effects)
    }

    /// Takes note of what the engine recorded.
    pub fn keep(&mut self, effects: Vec<Effect>) -> Seen {
        let seen = Seen(effects);
        self.journal.extend(seen.records().cloned());
        seen
    }

    /// The state that a replay of the journal gives.
    pub fn folded(&self) -> State {
        fold(&self.journal, &self.reported)
    }

    /// A new process that goes on where the journal ends.
    pub fn restart(&mut self) -> Seen {
        self.restart_with(self.folded())
    }

    pub fn restart_with(&mut self, state: State) -> Seen {
        self.boots += 1;
        self.engine = engine(&self.policy, &self.portals, &self.lossy, self.boots, state);
        self.input(Input::Boot { found: String::new(), version: "test".to_owned() })
    }

    /// The registers that a stream owns.
    pub fn owns(&self, stream: &str) -> RegisterKinds {
        owned_by(stream)
    }

    /// The parts of a snapshot as received, made as a center makes them.
    pub fn snapshot_parts(&self, snapshot: &Snapshot<'_>) -> Vec<Input> {
        let Snapshot { stream, at, id, entries, allow_shrink } = snapshot;
        let (stream, iat) = (name(stream), self.now().wall);
        let claims = snapshot::write_parts((&stream, *at, id), "g1", iat, entries, *allow_shrink).unwrap();
        let part = |claims: String| {
            let part = snapshot::read_kept_part(claims.as_bytes()).unwrap();
            let (evidence, received_at) = (claims.into_bytes(), iat);
            Input::SnapshotPart(ReceivedPart { part, evidence, receipt: Receipt(0), received_at })
        };
        claims.into_iter().map(part).collect()
    }

    /// Receives a snapshot whole and applies it.
    pub fn snapshot(&mut self, snapshot: &Snapshot<'_>) -> Seen {
        let mut seen = Vec::new();
        for part in self.snapshot_parts(snapshot) {
            seen.extend(self.input(part).0);
        }
        seen.extend(self.finish_snapshots().0);
        Seen(seen)
    }

    /// Works at snapshots until none is under way.
    pub fn finish_snapshots(&mut self) -> Seen {
        let mut seen = Vec::new();
        while self.engine.has_snapshot_work() {
            let effects = self.engine.work_at_snapshot(self.now());
            seen.extend(self.keep(effects).0);
        }
        Seen(seen)
    }

    /// A message with its number, as received.
    pub fn received(&mut self, stream: &str, at: Position, content: Result<Vec<Op>, Vec<OpError>>) -> Input {
        let changes = Changes { stream: name(stream), at, iat: Some(self.now().wall), content };
        self.reported.push(changes.clone());
        let place = self.reported.len() - 1;
        Input::Changes(ReceivedChanges {
            changes,
            evidence: place.to_le_bytes().to_vec(),
            receipt: Receipt(u64::try_from(place).unwrap()),
            received_at: self.now().wall,
        })
    }

    pub fn report_at(&mut self, stream: &str, at: Position, ops: Vec<Op>) -> Seen {
        let input = self.received(stream, at, Ok(ops));
        self.input(input)
    }

    /// The next message of the stream that owns these ops.
    pub fn publish(&mut self, ops: Vec<Op>) -> Seen {
        let stream = stream_of(&ops[0]);
        assert!(ops.iter().all(|op| stream_of(op) == stream), "one message, one stream");
        let position = self.next_of(stream);
        self.report_at(stream, position, ops)
    }

    /// Uses up a stream's next number.
    pub fn next_of(&mut self, stream: &'static str) -> Position {
        let counter = self.counters.get_mut(stream).unwrap();
        counter.1 += 1;
        at(counter.0, counter.1)
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
        self.input(Input::Head(Head {
            stream: name(stream),
            at,
            iat: Some(self.now().wall),
            cards: 0,
            digest: String::new(),
        }))
    }

    /// The link to the centers comes up; the broker keeps what is sent meanwhile.
    pub fn link_up(&mut self) -> Seen {
        self.input(Input::LinkUp { spread_ms: 0, ask_every_stream: false })
    }

    pub fn request(&self, portal: &str, presented: Presented) -> Request {
        Request {
            portal: portal.to_owned(),
            id: None,
            presented,
            direction: None,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        }
    }

    /// Presents a card and gives all effects.
    pub fn see(&mut self, portal: &str, card: &str) -> Seen {
        self.requests += 1;
        let request =
            Request { id: Some(format!("r{}", self.requests)), ..self.request(portal, Presented::Card(uid(card))) };
        self.input(Input::Request(request))
    }

    /// Presents a card under a number of the portal's own.
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
        self.input(Input::Operator(Operator::Posture { portals, posture }))
    }

    pub fn command(&mut self, jti: &str, kind: CommandKind) -> Seen {
        let iat = self.now().wall;
        let command = Command {
            stream: name(APARTMENT),
            jti: jti.to_owned(),
            iat,
            exp: Timestamp(iat.0 + 30_000),
            actor: Some("staff:77".to_owned()),
            kind,
        };
        self.input(Input::Command(command))
    }

    pub fn is_on(&self, portal: &str) -> bool {
        self.engine.boxes().get(portal).is_some_and(|b| b.source().is_some())
    }

    /// Whether the replay of the journal gives the state that the engine lives with. Heads and the time a stream was last received
    /// are not kept.
    pub fn assert_replay_is_life(&self) {
        assert_same_state(&self.folded(), self.engine.state());
    }
}

/// Folds records; the evidence of a message is its place in `reported`.
#[must_use]
pub fn fold(journal: &[Record], reported: &[Changes]) -> State {
    let mut state = State::default();
    fold_onto(&mut state, journal, reported);
    state
}

/// Folds the records that follow what `state` holds already.
pub fn fold_onto(state: &mut State, journal: &[Record], reported: &[Changes]) {
    let last_n = state.last_n;
    for record in journal.iter().filter(|record| record.event.n > last_n) {
        if let Event::ChangesApplied { snapshot: Some(applied), .. } = &record.event.body {
            let snapshot = snapshot::read_evidence(&record.evidence).unwrap();
            state.fold_snapshot(&record.event, &snapshot, &applied.owns);
            continue;
        }
        let changes = (record.event.kind() == EventKind::ChangesApplied).then(|| {
            let place = usize::from_le_bytes(record.evidence.as_slice().try_into().unwrap());
            &reported[place]
        });
        state.fold(&record.event, changes);
    }
}

/// Compares what survives, piece by piece so that a difference is readable.
pub fn assert_same_state(folded: &State, live: &State) {
    let cards = |s: &State| {
        let all = (0..s.list.len()).map(|p| s.list.record_at(p).unwrap());
        all.map(|c| (c.uid, c)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(cards(folded), cards(live), "cards");
    let holders = |s: &State| s.list.holder_entries().map(|h| (h.holder.clone(), h)).collect::<BTreeMap<_, _>>();
    assert_eq!(holders(folded), holders(live), "holders");
    assert_eq!(folded.list.site, live.list.site, "site");
    let tracks = |s: &State| {
        let all = s.streams.iter().map(|(name, t)| (name.clone(), t.clone()));
        // A stream of which nothing was kept is as good as one never known.
        let bare = all.map(|(name, mut t)| {
            (t.head, t.newest_iat) = (None, None);
            (name, t)
        });
        bare.filter(|(_, t)| *t != Default::default()).collect::<BTreeMap<StreamName, _>>()
    };
    assert_eq!(tracks(folded), tracks(live), "streams");
    assert_eq!(folded.boxes, live.boxes, "boxes");
    assert_eq!(folded.commands, live.commands, "commands");
    assert_eq!(folded.operator, live.operator, "operator");
    assert_eq!(folded.fire, live.fire, "fire");
    assert_eq!(folded.last_n, live.last_n, "last event");
}

/// The registers that a stream owns.
pub fn owned_by(stream: &str) -> RegisterKinds {
    let owns = |kind: &RegisterKind| (*kind == RegisterKind::Standing) == (stream == OFFICE);
    RegisterKind::ALL.iter().copied().filter(owns).collect()
}

fn engine(policy: &Policy, portals: &[Portal], lossy: &[(PortalId, Transform)], boot: u32, state: State) -> Engine {
    let role = |stream: &str| StreamRole { name: name(stream), owns: owned_by(stream) };
    let setup = Setup {
        portals: portals.to_vec(),
        lossy: lossy.to_vec(),
        policy: policy.clone(),
        streams: vec![role(OFFICE), role(APARTMENT)],
        boot: format!("boot-{boot}"),
    };
    Engine::new(setup, state)
}
