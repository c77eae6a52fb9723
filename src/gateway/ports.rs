//! What the links and the gateway task exchange: inputs through an inbox with two lanes, orders out. Every queue here has a named limit.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::access::change::{ErrorCode, OpError};
pub use crate::access::effect::PortalOrder;
use crate::access::effect::{Ack, Alarm, QueryResult, Reply, Resync};
use crate::access::id::{CardUid, PortalId, Timestamp, Zone};
use crate::access::input::{Actor, Input, Operator, PortalReport, Receipt};
use crate::access::roll_call::{Held, MayOpen, RollCall, Sought, Whereabouts};
use crate::access::rules::Rules;
use crate::wire::envelope::StreamSpec;
pub use crate::wire::state::StateReport;

/// Changes, commands and rejections under way to the gateway. A link that finds the lane full waits: nothing of it is dropped.
pub const URGENT_MAX: usize = 256;
/// Requests and reports under way to the gateway. What comes beyond it is dropped and counted; the portal asks again.
pub const REQUESTS_MAX: usize = 4096;
/// Orders under way to one portal link. A link this far behind is broken: what opens is dropped and counted, a cut or a mode waits
/// for room, the newest of each portal.
pub const PORTAL_ORDERS_MAX: usize = 4096;
/// Orders under way to the uplink, besides the audit, which waits in the journal. Beyond it acks wait for room.
pub const UPLINK_ORDERS_MAX: usize = 4096;
/// Questions of operators under way.
pub const ASKS_MAX: usize = 64;

/// Cards that are judged or looked up for one question, so that no decision waits longer than some hundred microseconds for it.
pub const SLICE_CARDS_MAX: usize = 256;

/// A question to the running gateway that is no input of the rules.
#[derive(Debug)]
pub enum Ask {
    /// What would be decided for this card, at one portal or at all.
    Query {
        /// Which card.
        uid: CardUid,
        /// Where; everywhere if `None`.
        portal: Option<PortalId>,
        /// The answer; an error names an unknown portal.
        answer: oneshot::Sender<Result<QueryResult, String>>,
    },
    /// Whether the list has this card, whatever a portal does with it.
    IsKnown {
        /// Which card.
        uid: CardUid,
        /// The answer.
        answer: oneshot::Sender<bool>,
    },
    /// Where somebody was last seen.
    Whereabouts {
        /// Who.
        sought: Sought,
        /// The answer.
        answer: oneshot::Sender<Vec<Whereabouts>>,
    },
    /// Where all cards are now.
    RollCall {
        /// In the area of this zone's gates; in the building if `None`.
        zone: Option<Zone>,
        /// The answer, to be worked out by whoever asks; an error names an unknown zone.
        answer: oneshot::Sender<Result<RollCall, String>>,
    },
    /// Whose these cards are.
    Held {
        /// At most [`SLICE_CARDS_MAX`].
        cards: Vec<CardUid>,
        /// The answer, in that order.
        answer: oneshot::Sender<Vec<Held>>,
    },
    /// Which cards at these places of the list a portal would admit now.
    MayOpen {
        /// Where.
        portal: PortalId,
        /// The slice of the list; at most [`SLICE_CARDS_MAX`].
        places: Range<usize>,
        /// The cards, and how many places the list has; an error names an unknown portal.
        answer: oneshot::Sender<Result<(Vec<MayOpen>, usize), String>>,
    },
    /// The state of the gateway.
    Status {
        /// The answer.
        answer: oneshot::Sender<StateReport>,
    },
    /// The operator reports that the clock is right.
    TrustClock {
        /// The time that is trusted from now on; an error states why not.
        answer: oneshot::Sender<Result<Timestamp, OperatorRefusal>>,
    },
    /// An operator's command; it acts at once, and is answered when it is on disk.
    Operator {
        /// Which.
        command: Operator,
        /// Who, if it is known; then it is in the audit with that name.
        actor: Option<Actor>,
        /// The answer; an error reports why not.
        answer: oneshot::Sender<Result<(), OperatorRefusal>>,
    },
    /// The configuration was read again.
    Reload {
        /// What of it is taken over.
        reload: Box<Reload>,
        /// Answered when it is in force and on disk; an error: not on disk in time.
        answer: oneshot::Sender<Result<(), OperatorRefusal>>,
    },
}

/// What the gateway task takes over from a configuration that was read again.
#[derive(Debug)]
pub struct Reload {
    /// The rules.
    pub rules: Rules,
    /// What is different, for the audit.
    pub detail: String,
    /// The streams, for the keys that verify them.
    pub streams: Vec<StreamSpec>,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
}

/// Why an operator's command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorRefusal {
    /// What the order names does not exist; the text names it.
    #[error("{0}")]
    Unknown(String),
    /// Not now; the text reports why.
    #[error("{0}")]
    NotNow(String),
    /// It was carried out, and its events are not on disk in time.
    #[error(
        "the order is in force but not on disk: a restart may forget it; look at the disk of the gateway, then order it again"
    )]
    NotOnDisk,
}

impl From<OpError> for OperatorRefusal {
    fn from(error: OpError) -> Self {
        match error.code {
            ErrorCode::UnknownPortal | ErrorCode::UnknownStream => Self::Unknown(error.message),
            _ => Self::NotNow(error.message),
        }
    }
}

/// The way into the gateway task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    urgent: mpsc::Sender<Input>,
    requests: mpsc::Sender<(Input, Instant)>,
    asks: mpsc::Sender<Ask>,
}

/// The gateway task's end of the [`Inbox`].
#[derive(Debug)]
pub struct InboxReceiver {
    /// Changes and commands: always taken first.
    pub urgent: mpsc::Receiver<Input>,
    /// Requests and reports, each with when it was offered: what it waits for its turn belongs to the time of an answer.
    pub requests: mpsc::Receiver<(Input, Instant)>,
    /// Questions: taken last.
    pub asks: mpsc::Receiver<Ask>,
}

/// The gateway task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway task has ended")]
pub struct GatewayGone;

impl Inbox {
    /// An inbox and its receiving end.
    #[must_use]
    pub fn new() -> (Self, InboxReceiver) {
        let (urgent, urgent_rx) = mpsc::channel(URGENT_MAX);
        let (requests, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let (asks, asks_rx) = mpsc::channel(ASKS_MAX);
        (Self { urgent, requests, asks }, InboxReceiver { urgent: urgent_rx, requests: requests_rx, asks: asks_rx })
    }

    /// Hands over what must never be dropped: changes, commands, rejections, alarms. Waits while the lane is full. Fails when the gateway
    /// task has ended.
    pub async fn urgent(&self, input: Input) -> Result<(), GatewayGone> {
        self.urgent.send(input).await.map_err(|_| GatewayGone)
    }

    /// Offers a request or a report. `false`: the lane is full or the gateway has ended, and the input is dropped.
    ///
    /// Fire goes ahead of everything: it does not wait behind a queue of cards, nor is it dropped with them.
    #[must_use]
    pub fn offer(&self, input: Input) -> bool {
        let offered = |input| self.requests.try_send((input, Instant::now())).is_ok();
        let Input::Report { portal, mut report } = input else { return offered(input) };
        if report.fire == Some(true) {
            let fire = PortalReport { fire: report.fire, fire_over: report.fire_over, ..PortalReport::default() };
            let fire = Input::Report { portal: portal.clone(), report: fire };
            if self.urgent.try_send(fire).is_ok() {
                // The rest keeps its place behind what the portal reported before.
                (report.fire, report.fire_over) = (None, false);
            }
        }
        report == PortalReport::default() || offered(Input::Report { portal, report })
    }

    /// Asks a question. Fails when the gateway task has ended.
    pub async fn ask(&self, ask: Ask) -> Result<(), GatewayGone> {
        self.asks.send(ask).await.map_err(|_| GatewayGone)
    }
}

/// Where the orders of each portal go. A link registers its portals before the gateway starts.
#[derive(Clone, Debug, Default)]
pub struct PortalOutlets {
    /// By portal.
    pub by_portal: HashMap<PortalId, mpsc::Sender<PortalOrder>>,
    /// Answers to requests that name an unknown portal go here: the native MQTT link, if there is one.
    pub unknown: Option<mpsc::Sender<PortalOrder>>,
}

/// What the uplink is to send. An order reaches it only when what it waits for is durable.
#[derive(Debug)]
pub enum UplinkOrder {
    /// Send the ack and give the broker its PUBACK.
    Acknowledge {
        /// The ack.
        ack: Box<Ack>,
        /// The message.
        receipt: Receipt,
        /// When it became durable.
        durable_at: Timestamp,
    },
    /// Answer a command.
    Reply(Box<Reply>),
    /// Raise an alarm.
    Alarm(Box<Alarm>),
    /// Ask a stream to send again.
    Resync(Box<Resync>),
    /// Publish the state.
    State(Box<StateReport>),
    /// Verify messages with the keys of these streams from now on.
    Streams(Vec<StreamSpec>),
    /// Whether the broker is to deliver without waiting for acknowledgements from now on, because none can be given.
    Unacknowledged(bool),
}

/// A part without which the gateway is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The gateway itself: the list is loaded and the links are being served. A center is not needed.
    Gateway,
    /// The store: it can be written.
    Store,
    /// The operator's socket: it is served.
    Socket,
}

/// How often the gateway's task has done something, and be it to look at the time: it does at least once a second. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// The task gets on.
    pub fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Since the start.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why the gateway is not ready, by part; ready while there is no reason. Cheap to clone; clones share the reasons.
#[derive(Clone, Debug)]
pub struct Readiness(watch::Sender<BTreeMap<Part, String>>);

impl Default for Readiness {
    /// Not ready: the gateway is starting.
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::from([(Part::Gateway, "starting".to_owned())])))
    }
}

impl Readiness {
    /// `part` is ready.
    pub fn ready(&self, part: Part) {
        self.0.send_if_modified(|reasons| reasons.remove(&part).is_some());
    }

    /// `part` is not ready, and why.
    pub fn not_ready(&self, part: Part, why: impl Into<String>) {
        self.0.send_modify(|reasons| drop(reasons.insert(part, why.into())));
    }

    /// Waits until `part` is ready again; where it is ready now, until it was not and is again.
    pub async fn ready_again(&self, part: Part) {
        let mut reasons = self.0.subscribe();
        for is_ready in [false, true] {
            // The sender is here, so that the wait does not fail.
            drop(reasons.wait_for(|reasons| reasons.contains_key(&part) != is_ready).await);
        }
    }

    /// The reasons; none: ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.0.borrow().values().cloned().collect()
    }
}
