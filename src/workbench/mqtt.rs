//! A simulated native portal: a gate, a door or a power box that follows section 4 of the wire contract as a real one should.
//!
//! It accepts nothing old: a decision counts only for the request that waits for it, and only within its `ttl_ms`. A gate reports that
//! somebody passed, a door that it opened and closed, a power box which card is in it.

mod device;
pub mod profiled;

use std::sync::Arc;
use std::time::Duration;

use device::Device;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::access::id::{GatewayId, PortalId};
use crate::access::input::PortalReport;
use crate::access::portal::{Direction, PortalKind};
use crate::mqtt::{Connection, DEVICE_PACKET_BYTES_MAX, LinkError, LinkMetrics, LinkSpec, Session, Setup, Will};
use crate::wire::portal::{PortalControl, PortalDecision, encode_state};
use crate::wire::topic::{self, Portal, Topic};

/// Longest wait for a decision, in milliseconds; without one the portal stays as it is.
pub const DECISION_WAIT_MS: u64 = 2_000;
/// Most commands that wait for a simulated portal.
const COMMANDS_MAX: usize = 64;

/// A presentation of a card.
#[derive(Clone, Debug, Default)]
pub struct Presentation {
    /// The UID as text; anything may be presented.
    pub uid: String,
    /// The direction that the reader reports.
    pub direction: Option<Direction>,
    /// The id of the request; `None`: a new one.
    pub id: Option<String>,
}

/// The state of a simulated portal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Connected to the broker.
    pub connected: bool,
    /// The gateway reports that it is online.
    pub gateway_online: bool,
    /// The card in the power box.
    pub card: Option<String>,
    /// A gate or door is open.
    pub open: bool,
    /// How often it was opened.
    pub openings: u64,
    /// A power box is on.
    pub relay: bool,
    /// Ordered to stay open.
    pub free: bool,
    /// The last order.
    pub control: Option<PortalControl>,
}

/// Why a presentation gave no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDecision {
    /// The portal is not connected.
    #[error("the portal is not connected to its broker")]
    Offline,
    /// No decision was received in time.
    #[error("no decision within {DECISION_WAIT_MS} ms; is the gateway running?")]
    Silence,
    /// The portal was stopped.
    #[error("the portal has been stopped")]
    Stopped,
}

type Answer = oneshot::Sender<Result<PortalDecision, NoDecision>>;

enum Command {
    Present(Presentation, Answer),
    Remove,
}

/// A running simulated portal. When it is dropped, it disconnects and ends.
pub struct SimulatedPortal {
    commands: mpsc::Sender<Command>,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl SimulatedPortal {
    /// Starts a portal of `gateway`; it connects by itself. Each portal needs a link with a client id of its own.
    pub fn start(link: LinkSpec, gateway: &GatewayId, portal: &PortalId, kind: PortalKind) -> Result<Self, LinkError> {
        let topic = |leaf| Topic::Portal(gateway.clone(), portal.to_string(), leaf).to_string();
        let offline = encode_state(&PortalReport { online: Some(false), ..PortalReport::default() });
        let setup = Setup {
            link: "simulated",
            session: Session::Clean,
            subscriptions: topic::portal_subscriptions(gateway, portal.as_str()),
            packet_bytes_max: DEVICE_PACKET_BYTES_MAX,
            will: Some(Will {
                topic: topic(Portal::State),
                retain: false,
                payload: Arc::new(move |_| offline.clone()),
            }),
            echo_topic: None,
        };
        let connection = Connection::new(link, setup, Arc::new(LinkMetrics::default()))?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (show, seen) = watch::channel(Seen::default());
        let run = getrandom::u32().unwrap_or(0) & 0xFFFF;
        let device = Device {
            request_topic: topic(Portal::Request),
            decision_topic: topic(Portal::Decision),
            state_topic: topic(Portal::State),
            control_topic: topic(Portal::Control),
            kind,
            connection,
            show,
            run,
            last_request: 0,
            waiting: None,
            closes_at: None,
            on_at: None,
        };
        let task = tokio::spawn(device.run(received));
        Ok(Self { commands, seen, task })
    }

    /// Presents a card and waits for the decision. Fails when no decision is received.
    pub async fn present(&self, uid: &str) -> Result<PortalDecision, NoDecision> {
        self.present_as(Presentation { uid: uid.to_owned(), ..Presentation::default() }).await
    }

    /// Presents a card with direction and request id, and waits for the decision. Fails when no decision is received.
    pub async fn present_as(&self, presentation: Presentation) -> Result<PortalDecision, NoDecision> {
        let (answer, decision) = oneshot::channel();
        let command = Command::Present(presentation, answer);
        self.commands.send(command).await.map_err(|_| NoDecision::Stopped)?;
        decision.await.map_err(|_| NoDecision::Stopped)?
    }

    /// Takes the card out of the power box.
    pub async fn remove(&self) {
        self.commands.send(Command::Remove).await.ok();
    }

    /// The state of the portal.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The state of the portal, to be watched.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Waits until `wanted` is true of the state; `None`: it was not within this time.
    pub async fn wait_until(&self, within: Duration, wanted: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(within, seen.wait_for(wanted)).await.ok()?;
        found.ok().map(|seen| seen.clone())
    }

    /// Ends it as a power cut would: the broker publishes its will.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Stops it; it reports that it goes offline.
    pub async fn stop(self) {
        drop(self.commands);
        self.task.await.ok();
    }
}
