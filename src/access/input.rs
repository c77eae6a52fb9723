//! Everything that can happen to the engine, already parsed and verified by the links.

use serde::{Deserialize, Serialize};

use super::change::{Changes, Head, OpError, Position};
use super::event::AlarmKind;
pub use super::id::CardSet;
use super::id::{CardUid, GatewayId, PortalId, StreamName, Timestamp};
pub use super::operator::{Actor, Operator};
use super::portal::{Assurance, Direction};
use super::rules::Rules;
use super::snapshot::SnapshotPart;
use super::transform::Reading;

/// Names one received message to the link that has to acknowledge it. Opaque here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub u64);

/// A verified change message as received.
#[derive(Clone, Debug)]
pub struct ReceivedChanges {
    /// Its content.
    pub changes: Changes,
    /// The bytes as received, kept in the journal as proof and for replay.
    pub evidence: Vec<u8>,
    /// What to acknowledge.
    pub receipt: Receipt,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// A verified part of a snapshot as received.
#[derive(Clone, Debug)]
pub struct ReceivedPart {
    /// Its content.
    pub part: SnapshotPart,
    /// The bytes as received, kept in the journal as proof and for replay.
    pub evidence: Vec<u8>,
    /// Names the message; the broker need not keep it until the snapshot is applied.
    pub receipt: Receipt,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// The kinds of messages that may be rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MessageKind {
    /// A center's changes.
    Changes,
    /// A part of a center's snapshot.
    Snapshot,
    /// A center's position.
    Head,
    /// A center's command.
    Command,
    /// A center's acknowledgement of the audit.
    #[strum(serialize = "audit acknowledgement")]
    AuditAck,
    /// A card presented at a portal.
    Request,
    /// What a portal reports.
    Report,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Its name for a person.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A message that has no effect: wrong signature, audience, issuer, version, or a retained copy.
#[derive(Clone, Debug)]
pub struct RejectedMessage {
    /// Which kind of message.
    pub kind: MessageKind,
    /// The stream it claims to be from; not verified.
    pub claimed_stream: Option<StreamName>,
    /// Its number as claimed; not verified.
    pub claimed_at: Option<Position>,
    /// The command's id as claimed; not verified.
    pub claimed_jti: Option<String>,
    /// What is wrong.
    pub error: OpError,
    /// What to acknowledge; only of a message that is really from a center, or anybody could make an office think that its own
    /// message of that number was refused.
    pub receipt: Option<Receipt>,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// What a command asks for (wire contract, 2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CommandKind {
    /// Open once.
    Release {
        /// Where.
        portal: PortalId,
    },
    /// Switch a power box.
    Power {
        /// Which.
        portal: PortalId,
        /// On or off.
        on: bool,
    },
    /// What would be decided, and why; opens nothing.
    Query {
        /// Which card.
        uid: CardUid,
        /// Where; everywhere if `None`.
        #[serde(skip_serializing_if = "Option::is_none")]
        portal: Option<PortalId>,
    },
    /// Ask a stream for everything again.
    Resync {
        /// Which.
        stream: StreamName,
    },
    /// Forget where a card is (anti-passback).
    Forgive {
        /// Which card, or all.
        uid: CardSet,
    },
}

impl CommandKind {
    /// The command's name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        self.into()
    }
}

/// A verified command. Acts once, now.
#[derive(Clone, Debug)]
pub struct Command {
    /// The stream that sent it.
    pub stream: StreamName,
    /// Its id; remembered until `exp` + 1 min.
    pub jti: String,
    /// When it was made.
    pub iat: Timestamp,
    /// When it expires.
    pub exp: Timestamp,
    /// Who asked the center, for the audit.
    pub actor: Option<String>,
    /// What.
    pub kind: CommandKind,
}

/// What was presented at a portal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// A card UID.
    Card(CardUid),
    /// What a reader that loses part of the UID reports of a card.
    Lossy(Reading),
    /// Something that is not one; the text is for the audit, shortened by the link.
    Malformed(String),
}

/// A card was presented.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where; as text, because the portal may not exist.
    pub portal: String,
    /// The portal's own number of the request, if it gives one.
    pub id: Option<String>,
    /// What was presented.
    pub presented: Presented,
    /// Which way, if the reader reports.
    pub direction: Option<Direction>,
    /// How it was read.
    pub assurance: Assurance,
    /// A retained copy or otherwise too old: never answered with a grant.
    pub stale: bool,
    /// In which slot of a power box, from 0; 0 where there is only one.
    pub slot: u8,
}

/// What a portal reports of itself; `None`: not reported.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortalReport {
    /// Reachable.
    pub online: Option<bool>,
    /// Why, for a portal that went offline.
    pub cause: Option<String>,
    /// Whether the device that opens or energises it answers, where the portal is put together from several.
    pub output_online: Option<bool>,
    /// With `online: false`: the device of its door contact answers all the same.
    pub contact_answers: bool,
    /// A card sits in the power box.
    pub card_present: Option<bool>,
    /// Which.
    pub uid: Option<Presented>,
    /// In which slot of the power box, from 0; 0 where there is only one.
    pub slot: u8,
    /// With `card_present: false`: another card is in the slot, and it was never seen empty between.
    pub exchanged: bool,
    /// The door's contact: open or closed.
    pub contact_open: Option<bool>,
    /// The power box's relay as read back.
    pub relay: Option<bool>,
    /// Power drawn, in watts.
    pub power_w: Option<f64>,
    /// Energy meter, in kilowatt-hours.
    pub energy_kwh: Option<f64>,
    /// The meter measures other portals too, so nothing follows from its power for this one.
    pub shared_meter: bool,
    /// Its meter, or the box itself, reports too much load.
    pub overload: Option<bool>,
    /// Its meter, or the box itself, reports a load that the rules forbid.
    pub restricted_load: Option<bool>,
    /// Somebody passed.
    pub passed: Option<Direction>,
    /// The housing is open.
    pub tamper: Option<bool>,
    /// Fire input.
    pub fire: Option<bool>,
    /// With `fire` true: it is over again.
    pub fire_over: bool,
    /// The exit button was pressed.
    pub exit_button: bool,
    /// Fields that were left out because their values are wrong, each with what is wrong; at most [`MALFORMED_NAMED_MAX`].
    pub malformed: Vec<String>,
}

/// Most wrong fields that one report names.
pub const MALFORMED_NAMED_MAX: usize = 16;

impl PortalReport {
    /// Whether it has no field that could be read.
    #[must_use]
    pub fn reports_nothing(&self) -> bool {
        *self == Self { malformed: self.malformed.clone(), ..Self::default() }
    }

    /// This report and a later one of the same slot in one; what `later` reports wins.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        let malformed = self.malformed.into_iter().chain(later.malformed).take(MALFORMED_NAMED_MAX).collect();
        Self {
            malformed,
            online: later.online.or(self.online),
            output_online: later.output_online.or(self.output_online),
            contact_answers: if later.online.is_some() { later.contact_answers } else { self.contact_answers },
            cause: if later.online.is_some() { later.cause } else { self.cause },
            // A card that is named is there, whether that is reported or not.
            card_present: later.card_present.or(if later.uid.is_some() { Some(true) } else { self.card_present }),
            uid: match (later.card_present, self.card_present) {
                (Some(false), _) => None,
                (Some(true) | None, Some(false)) => later.uid,
                (Some(true) | None, Some(true) | None) => later.uid.or(self.uid),
            },
            slot: later.slot,
            exchanged: later.exchanged || self.exchanged,
            contact_open: later.contact_open.or(self.contact_open),
            relay: later.relay.or(self.relay),
            power_w: later.power_w.or(self.power_w),
            energy_kwh: later.energy_kwh.or(self.energy_kwh),
            shared_meter: later.shared_meter || self.shared_meter,
            // A trip that nobody has received yet is not taken back.
            overload: if self.overload == Some(true) { self.overload } else { later.overload.or(self.overload) },
            restricted_load: if self.restricted_load == Some(true) {
                self.restricted_load
            } else {
                later.restricted_load.or(self.restricted_load)
            },
            passed: later.passed.or(self.passed),
            tamper: later.tamper.or(self.tamper),
            // A fire that nobody has received yet is not taken back unconfirmed.
            fire: if self.fire == Some(true) { self.fire } else { later.fire.or(self.fire) },
            fire_over: match later.fire {
                Some(burning) => !burning && self.fire == Some(true),
                None => self.fire_over,
            },
            exit_button: later.exit_button || self.exit_button,
        }
    }
}

/// What happened to the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockChange {
    /// Somebody set it.
    Step {
        /// By how many milliseconds; forward is positive.
        by_ms: i64,
    },
    /// It cannot be trusted any more.
    Untrusted,
    /// It can be trusted again.
    Trusted(TrustedBy),
}

/// Why the wall clock can be trusted again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedBy {
    /// It shows a time again that is not before the latest trusted one.
    CaughtUp,
    /// It agrees with the messages of this stream. The latest trusted time before was wrong.
    Center(StreamName),
    /// The operator confirms that it is right. The latest trusted time before was wrong.
    Operator,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The gateway starts: judge every box remembered as occupied.
    Boot {
        /// What the store found at start, for the audit.
        found: String,
        /// The version of the program.
        version: String,
        /// Which gateway it is; `None`: not known, as in a test.
        gateway: Option<GatewayId>,
    },
    /// A center's change message.
    Changes(ReceivedChanges),
    /// A part of a center's snapshot.
    SnapshotPart(ReceivedPart),
    /// A message refused at the edge.
    Rejected(RejectedMessage),
    /// A center's statement of its position.
    Head(Head),
    /// A center's command.
    Command(Command),
    /// A card was presented.
    Request(Request),
    /// A portal reports.
    Report {
        /// Which; as text, because it may not exist.
        portal: String,
        /// What.
        report: PortalReport,
    },
    /// The link over which these portals are reached is up, or is lost and why.
    PortalLink {
        /// Which.
        portals: Vec<PortalId>,
        /// Why it is lost.
        lost: Option<String>,
    },
    /// An operator on the box, and who that is; `None`: not at the console.
    Operator(Operator, Option<Actor>),
    /// The link to the center is up: ask for what is missing.
    LinkUp {
        /// The asks are spread over a random time up to this, in milliseconds.
        spread_ms: u64,
        /// The broker keeps nothing for the gateway, so that every stream is asked for what was missed.
        ask_every_stream: bool,
    },
    /// The digest of what a stream owns here, when all of it up to `at` and nothing more was received.
    Digest {
        /// Which stream.
        stream: StreamName,
        /// Its last message.
        at: Position,
        /// SHA-256, lower-case hex.
        sha256: String,
    },
    /// Events that the store could not keep.
    Lost {
        /// First lost number.
        from: u64,
        /// Last lost number.
        to: u64,
    },
    /// Events that the store found damaged in the journal and whose effects a generation holds: only the audit lacks them.
    AuditLost {
        /// First lost number.
        from: u64,
        /// Last lost number.
        to: u64,
    },
    /// Events that go because the journal is at its hard limit, as inclusive ranges in order.
    Removing {
        /// The ranges.
        ranges: Vec<(u64, u64)>,
    },
    /// Everything up to this event is on disk.
    Durable {
        /// The event.
        through: u64,
    },
    /// Something outside the engine went wrong.
    Alarm {
        /// What about.
        kind: AlarmKind,
        /// Where.
        portal: Option<PortalId>,
        /// For a person.
        detail: String,
    },
    /// The device of a portal was to open or energise it, and has confirmed that or failed.
    Released {
        /// Where.
        portal: PortalId,
        /// Why it is not confirmed, and not tried any more.
        failed: Option<String>,
    },
    /// The store, of which an alarm reported that it is not written, is written again.
    StoreWorks,
    /// The system, of which an alarm reported that it has not synchronised its clock, has.
    ClockSynchronised,
    /// Something happened to the wall clock.
    Clock(ClockChange),
    /// The configuration was read again.
    Reload {
        /// What the rules take over.
        rules: Box<Rules>,
        /// What is different, for the audit.
        detail: String,
    },
    /// The deadline asked for has come.
    Wake,
}

impl Input {
    /// Which stream made this message, and when by its clock; `None` if it is from no center, or carries no time.
    #[must_use]
    pub fn made_by_center(&self) -> Option<(&StreamName, Timestamp)> {
        match self {
            Self::Changes(received) => Some((&received.changes.stream, received.changes.iat?)),
            Self::SnapshotPart(received) => Some((&received.part.head.stream, received.part.iat?)),
            Self::Head(head) => Some((&head.stream, head.iat?)),
            Self::Command(command) => Some((&command.stream, command.iat)),
            _ => None,
        }
    }
}
