//! A simulated native portal: a gate, a door or a power box that sends section 4 of the wire contract as a real one should.
//!
//! It trusts nothing old: a decision counts only for the request it waits for and only within its time. A gate reports that
//! somebody passed, a door that it opened and closed, a power box what sits in it.

mod device;

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

/// Longest wait for a decision, in milliseconds; then the portal stays as it is.
pub const DECISION_WAIT_MS: u64 = 2_000;
/// Things to do under way to a simulated portal.
const DOINGS_MAX: usize = 64;

/// A card as it is presented.
#[derive(Clone, Debug, Default)]
pub struct Presentation {
    /// The UID as text; anything may be presented.
    pub uid: String,
    /// Which way.
    pub direction: Option<Direction>,
    /// The request's id; a fresh one if `None`.
    pub id: Option<String>,
}

/// What a portal is like now, for who looks on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Connected to the broker.
    pub connected: bool,
    /// The gateway reports that it is online.
    pub gateway_online: bool,
    /// What sits in the power box.
    pub card: Option<String>,
    /// A gate or door is open now.
    pub open: bool,
    /// How often it was opened.
    pub openings: u64,
    /// A power box is on.
    pub relay: bool,
    /// Reported to stay open.
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
    /// Nothing came in time.
    #[error("no decision within {DECISION_WAIT_MS} ms; is the gateway running?")]
    Silence,
    /// The portal was stopped.
    #[error("the portal has been stopped")]
    Stopped,
}

type Answer = oneshot::Sender<Result<PortalDecision, NoDecision>>;

enum Doing {
    Present(Presentation, Answer),
    Remove,
}

/// A running simulated portal. Dropped, it disconnects and ends by itself.
pub struct SimulatedPortal {
    doings: mpsc::Sender<Doing>,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl SimulatedPortal {
    /// Starts this portal of `gateway`; it connects by itself. Each portal needs a link with a client id of its own.
    ///
    /// # Errors
    /// [`LinkError`] if it can never connect.
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
        let (doings, to_do) = mpsc::channel(DOINGS_MAX);
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
        let task = tokio::spawn(device.run(to_do));
        Ok(Self { doings, seen, task })
    }

    /// Presents a card and waits for the decision.
    ///
    /// # Errors
    /// [`NoDecision`] if there is none.
    pub async fn present(&self, uid: &str) -> Result<PortalDecision, NoDecision> {
        self.present_as(Presentation { uid: uid.to_owned(), ..Presentation::default() }).await
    }

    /// Presents a card with all that a reader may report, and waits for the decision.
    ///
    /// # Errors
    /// [`NoDecision`] if there is none.
    pub async fn present_as(&self, presentation: Presentation) -> Result<PortalDecision, NoDecision> {
        let (answer, decision) = oneshot::channel();
        let doing = Doing::Present(presentation, answer);
        self.doings.send(doing).await.map_err(|_| NoDecision::Stopped)?;
        decision.await.map_err(|_| NoDecision::Stopped)?
    }

    /// Takes the card out of the power box.
    pub async fn remove(&self) {
        self.doings.send(Doing::Remove).await.ok();
    }

    /// What the portal is like now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// What the portal is like, from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Waits until the portal is as wanted; `None`: not within this time.
    pub async fn wait_until(&self, within: Duration, wanted: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(within, seen.wait_for(wanted)).await.ok()?;
        found.ok().map(|seen| seen.clone())
    }

    /// Ends it as a power cut would: its last will sends.
    pub fn kill(self) {
        self.task.abort();
    }

    /// Ends it in order; it reports that it goes offline.
    pub async fn stop(self) {
        drop(self.doings);
        self.task.await.ok();
    }
}
