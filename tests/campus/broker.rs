//! A broker between offices and gateways. It keeps a session for each gateway, retains heads, and delivers what is under way again on
//! the next connection; faults of it are steps of the life.

use std::collections::{BTreeMap, VecDeque};

use dormgate::access::id::GatewayId;
use dormgate::wire::topic::{Down, Topic, Up};

use crate::dice::Dice;

/// A message on its way to a gateway. `id` is 0 where nothing is to be acknowledged.
#[derive(Clone, Debug)]
pub struct Packet {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub id: u64,
}

/// The session of one gateway.
#[derive(Default)]
pub struct Session {
    pub queue: VecDeque<Packet>,
    pub in_flight: Vec<Packet>,
    pub connected: bool,
    /// The gateway has subscribed with QoS 0.
    pub unacknowledged: bool,
}

/// A message on its way to an office.
pub type UpPacket = (GatewayId, Up, Vec<u8>);

#[derive(Default)]
pub struct Broker {
    pub sessions: BTreeMap<GatewayId, Session>,
    /// One an office.
    pub up: [VecDeque<UpPacket>; 2],
    retained: BTreeMap<String, Vec<u8>>,
    /// Everything that was ever published to gateways, for whoever listens and sends it again.
    pub history: Vec<(Topic, Vec<u8>)>,
    next_id: u64,
}

/// Messages under way to one gateway at once.
const IN_FLIGHT_MAX: usize = 12;

impl Broker {
    pub fn new(gateways: &[GatewayId]) -> Self {
        let sessions = gateways.iter().map(|gateway| (gateway.clone(), Session::default())).collect();
        Self { sessions, ..Self::default() }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Publishes a message of an office.
    pub fn publish(&mut self, topic: &Topic, payload: &[u8]) {
        self.history.push((topic.clone(), payload.to_vec()));
        let (to, down) = match topic {
            Topic::Campus(down) => (None, down),
            Topic::Down(gateway, down) => (Some(gateway), down),
            other => panic!("an office publishes on `{other}`"),
        };
        if let Down::Head(_) = down {
            self.retained.insert(topic.to_string(), payload.to_vec());
        }
        let once = *down == Down::Command;
        for gateway in self.sessions.keys().cloned().collect::<Vec<_>>() {
            if to.is_some_and(|to| *to != gateway) {
                continue;
            }
            let once = once || self.sessions[&gateway].unacknowledged;
            let id = if once { 0 } else { self.id() };
            let session = self.sessions.get_mut(&gateway).unwrap();
            if !once || session.connected {
                let (topic, payload) = (topic.to_string(), payload.to_vec());
                session.queue.push_back(Packet { topic, payload, retain: false, id });
            }
        }
    }

    /// The next message for a gateway that is connected.
    pub fn next(&mut self, gateway: &GatewayId) -> Option<Packet> {
        let session = self.sessions.get_mut(gateway).unwrap();
        if !session.connected {
            return None;
        }
        // What is not acknowledged waits for nobody's acknowledgement.
        let full = session.in_flight.len() >= IN_FLIGHT_MAX;
        let place = session.queue.iter().position(|packet| !full || packet.id == 0)?;
        let packet = session.queue.remove(place)?;
        if packet.id > 0 {
            session.in_flight.push(packet.clone());
        }
        Some(packet)
    }

    pub fn acknowledged(&mut self, gateway: &GatewayId, id: u64) {
        self.sessions.get_mut(gateway).unwrap().in_flight.retain(|packet| packet.id != id);
    }

    pub fn disconnect(&mut self, gateway: &GatewayId) {
        self.sessions.get_mut(gateway).unwrap().connected = false;
    }

    /// A gateway connects and subscribes. What was under way comes again, in front of what waits or behind it.
    pub fn connect(&mut self, gateway: &GatewayId, keeps_session: bool, dice: &mut Dice) {
        let session = self.sessions.get_mut(gateway).unwrap();
        session.connected = true;
        let mut again = VecDeque::from(std::mem::take(&mut session.in_flight));
        if !keeps_session {
            session.queue.clear();
        } else if dice.one_in(3) {
            session.queue.append(&mut again);
        } else {
            again.append(&mut session.queue);
            session.queue = again;
        }
        self.send_retained(gateway);
    }

    /// A gateway subscribes once more, with QoS 0 or 1: what is retained comes again.
    pub fn subscribe(&mut self, gateway: &GatewayId, unacknowledged: bool) {
        let session = self.sessions.get_mut(gateway).unwrap();
        if std::mem::replace(&mut session.unacknowledged, unacknowledged) != unacknowledged {
            self.send_retained(gateway);
        }
    }

    fn send_retained(&mut self, gateway: &GatewayId) {
        let own = format!("dormgate/v1/{gateway}/");
        let is_its = |topic: &str| topic.starts_with(&own) || topic.starts_with("dormgate/v1/campus/");
        let heads = self.retained.iter().filter(|(topic, _)| is_its(topic));
        let heads: Vec<_> = heads.map(|(topic, payload)| (topic.clone(), payload.clone())).collect();
        for (topic, payload) in heads {
            let id = if self.sessions[gateway].unacknowledged { 0 } else { self.id() };
            self.sessions.get_mut(gateway).unwrap().queue.push_back(Packet { topic, payload, retain: true, id });
        }
    }

    /// Something goes wrong.
    pub fn fault(&mut self, dice: &mut Dice) -> &'static str {
        let gateways: Vec<_> = self.sessions.keys().cloned().collect();
        let session = self.sessions.get_mut(&gateways[dice.below(gateways.len())]).unwrap();
        let waiting = session.queue.len();
        match dice.below(6) {
            0 if waiting > 0 => {
                session.queue.remove(dice.below(waiting));
                "loses a message"
            }
            1 if waiting > 0 => {
                let copy = session.queue[dice.below(waiting)].clone();
                session.queue.insert(dice.below(waiting + 1), copy);
                "repeats a message"
            }
            2 if waiting > 1 => {
                let moved = session.queue.remove(dice.below(waiting)).unwrap();
                session.queue.insert(dice.below(waiting), moved);
                "moves a message"
            }
            3 => {
                self.retained.clear();
                "forgets what it retains"
            }
            4 => {
                session.queue.clear();
                "loses a queue"
            }
            _ => {
                let office = dice.below(2);
                let up = &mut self.up[office];
                if up.is_empty() {
                    return "does nothing";
                }
                let place = dice.below(up.len());
                if dice.one_in(2) {
                    up.remove(place);
                    "loses an answer"
                } else {
                    let copy = up[place].clone();
                    up.insert(dice.below(up.len() + 1), copy);
                    "repeats an answer"
                }
            }
        }
    }
}
