//! The client that asks at the gate, also across a broker that goes away, and keeps what it measured.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use serde_json::Value;
use tokio::sync::mpsc;

use super::support::broker::{self, ASK, DECIDED, FLOOR_ANSWER, FLOOR_REQUEST, request};

/// A request without an answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// After a connection began, until the gateway must be there as well; a request before that may be lost.
const GATEWAY_BACK: Duration = Duration::from_secs(10);

/// What was measured since the last row.
#[derive(Default)]
pub struct Window {
    pub decisions: Vec<Duration>,
    pub echoes: Vec<Duration>,
    /// Requests that were not answered, whatever the reason.
    pub unanswered: u32,
}

/// What the connection brings.
enum Received {
    Connected,
    Gone,
    Message(String, Vec<u8>),
}

/// Polls in a task of its own, because a poll that is dropped while it connects begins again.
async fn poll(mut events: EventLoop, to: mpsc::UnboundedSender<(Instant, Received)>) {
    loop {
        let received = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Received::Connected,
            Ok(Event::Incoming(Packet::Publish(publish))) => Received::Message(publish.topic, publish.payload.to_vec()),
            Ok(_) => continue,
            Err(_) => Received::Gone,
        };
        let gone = matches!(received, Received::Gone);
        if to.send((Instant::now(), received)).is_err() {
            return;
        }
        if gone {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub struct Asker {
    client: AsyncClient,
    received: mpsc::UnboundedReceiver<(Instant, Received)>,
    /// When the connection began; none while the broker is away.
    connected: Option<Instant>,
    asked: usize,
    /// Requests under way by id, and whether the gateway and the broker had been there for a while.
    waiting: HashMap<String, (Instant, bool)>,
    echo: Option<Instant>,
    window: Window,
    /// The newest answer, by id, for those that wait for one.
    newest: Option<(String, bool)>,
    /// Requests without an answer although the broker was there.
    pub lost: u32,
}

impl Asker {
    /// Connected.
    pub async fn start(port: u16) -> Self {
        let (client, events) = broker::connect(port, "asker");
        let (to, received) = mpsc::unbounded_channel();
        tokio::spawn(poll(events, to));
        let (waiting, window) = (HashMap::new(), Window::default());
        let mut asker =
            Self { client, received, connected: None, asked: 0, waiting, echo: None, window, newest: None, lost: 0 };
        while asker.connected.is_none() {
            asker.receive().await;
        }
        asker
    }

    /// Presents a card at the gate, and asks the echo as well. Nothing while the broker is away.
    pub fn ask(&mut self, card: u32, echo: bool) -> Option<String> {
        let since = self.connected?;
        self.asked += 1;
        let id = format!("s{}", self.asked);
        let now = Instant::now();
        let payload = request("s", self.asked, card as usize);
        self.client.try_publish(ASK, QoS::AtMostOnce, false, payload).ok()?;
        self.waiting.insert(id.clone(), (now, since.elapsed() > GATEWAY_BACK));
        if echo && self.echo.is_none() {
            let payload = request("s", self.asked, card as usize);
            self.client.try_publish(FLOOR_REQUEST, QoS::AtMostOnce, false, payload).ok()?;
            self.echo = Some(now);
        }
        Some(id)
    }

    /// Handles what the connection brings next.
    pub async fn receive(&mut self) {
        let (at, received) = self.received.recv().await.unwrap();
        match received {
            Received::Connected => {
                for topic in [FLOOR_ANSWER, DECIDED] {
                    self.client.try_subscribe(topic, QoS::AtMostOnce).unwrap();
                }
                self.connected = Some(at);
            }
            Received::Message(topic, _) if topic == FLOOR_ANSWER => {
                self.window.echoes.extend(self.echo.take().map(|asked| at - asked));
            }
            Received::Message(_, payload) => {
                let answer: Value = serde_json::from_slice(&payload).unwrap();
                let id = answer["id"].as_str().unwrap().to_owned();
                if let Some((asked, _)) = self.waiting.remove(&id) {
                    self.window.decisions.push(at - asked);
                }
                self.newest = Some((id, answer["decision"] == "grant"));
            }
            Received::Gone => {
                // What was under way went with the connection.
                self.connected = None;
                self.window.unanswered += u32::try_from(self.waiting.len()).unwrap();
                self.waiting.clear();
                self.echo = None;
            }
        }
    }

    /// What was measured since the last time; requests that waited too long are lost.
    pub fn take(&mut self) -> Window {
        let (mut late, mut lost) = (0, 0);
        self.waiting.retain(|_, (at, there)| {
            let keep = at.elapsed() < PATIENCE;
            late += u32::from(!keep);
            lost += u32::from(!keep && *there);
            keep
        });
        // An echo that went with the broker is not waited for.
        self.echo = self.echo.filter(|at| at.elapsed() < PATIENCE);
        self.window.unanswered += late;
        self.lost += lost;
        std::mem::take(&mut self.window)
    }

    /// Whether the card opens the gate.
    pub async fn answer(&mut self, card: u32) -> bool {
        loop {
            while self.connected.is_none() {
                self.receive().await;
            }
            let asked = self.ask(card, false);
            let began = Instant::now();
            while began.elapsed() < PATIENCE {
                drop(tokio::time::timeout(PATIENCE, self.receive()).await);
                if let Some((id, granted)) = &self.newest
                    && Some(id) == asked.as_ref()
                {
                    return *granted;
                }
            }
        }
    }

    /// Asks until the card opens the gate.
    pub async fn until_granted(&mut self, card: u32) {
        while !self.answer(card).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
