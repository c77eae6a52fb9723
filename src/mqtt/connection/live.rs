//! Events of a connection that the broker has accepted: messages, confirmations, subscriptions, the echo.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rumqttc::{Event as ClientEvent, Outgoing as ClientDid, Packet, Publish, QoS, SubscribeReasonCode};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{AckToken, Connection, Event, Message, Phase};
use crate::mqtt::connect;
use crate::mqtt::echo::ECHO_SLOW_MS;
use crate::mqtt::faults::BrokerFault;
use crate::mqtt::metrics::LinkMetrics;
use crate::mqtt::outbox::{Outgoing, Retention};
use crate::mqtt::pump::DisconnectReason;
use crate::wire::topic::Qos;

/// Longest wait for the answer to the subscriptions, in seconds; then the connection is made again.
const SUBSCRIBED_WITHIN_S: u64 = 10;
/// Longest wait for the broker to confirm a message, in seconds; then the connection is made again.
const CONFIRMED_WITHIN_S: u64 = 30;

/// While the broker rejects every subscription, they are sent again this often: its access rules may have changed.
const SUBSCRIBED_AGAIN: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) fn happened(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Outgoing(ClientDid::Publish(packet)) => self.outbox.written(packet, Instant::now()),
            ClientEvent::Incoming(Packet::PubAck(ack)) => {
                if let Some(id) = self.outbox.confirmed(ack.pkid) {
                    self.events.push_back(Event::Delivered(id));
                }
            }
            ClientEvent::Incoming(Packet::Publish(publish)) => self.received(publish),
            ClientEvent::Incoming(Packet::SubAck(suback)) => self.is_subscribed(&suback.return_codes),
            ClientEvent::Incoming(Packet::Disconnect) => {
                self.lost(&DisconnectReason::Network("the broker disconnected".into()));
            }
            // Pings, and packets of exchanges that this side never begins.
            ClientEvent::Incoming(_) | ClientEvent::Outgoing(_) => {}
        }
    }

    pub(super) fn received(&mut self, publish: Publish) {
        let ack = (publish.pkid != 0).then_some(AckToken { generation: self.generation, packet: publish.pkid });
        if self.setup.echo_topic.as_ref() == Some(&publish.topic) {
            if let Some(token) = ack {
                self.ack(token);
            }
            if self.echo.received(&publish.payload, Instant::now()) {
                self.next_echo();
            }
            return;
        }
        LinkMetrics::count(&self.metrics.received);
        self.events.push_back(Event::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            retain: publish.retain,
            dup: publish.dup,
            ack,
        }));
    }

    pub(super) fn is_subscribed(&mut self, codes: &[SubscribeReasonCode]) {
        let Phase::Live(live) = &mut self.phase else { return };
        let first_time = !std::mem::replace(&mut live.up, true);
        let session_present = live.session_present;
        live.unanswered = live.unanswered.saturating_sub(1);
        // Another QoS may be asked for meanwhile, and is answered next.
        let is_newest = live.unanswered == 0;
        let echo = self.setup.echo_topic.is_some();
        let wanted = self.setup.subscriptions.iter().map(Some).chain(echo.then_some(None));
        let mut echo_works = echo;
        let (link, faults) = (self.setup.link, &self.metrics.faults);
        // What a client publishes itself it reads only to find what somebody else puts there. Where the broker's rules allow nobody else
        // to, they need not allow that.
        let own = self.setup.will.as_ref().map(|will| will.topic.clone());
        let is_own = |filter: &str| own.as_deref() == Some(filter);
        for (subscription, code) in wanted.zip(codes) {
            match (subscription, code) {
                (Some(s), SubscribeReasonCode::Failure) if is_own(&s.filter) => {}
                (Some(s), SubscribeReasonCode::Failure) => {
                    faults.over_for(BrokerFault::LowersQos, &s.filter);
                    LinkMetrics::count(&self.metrics.refused_subscriptions);
                    let detail =
                        format!("the broker rejects the subscription to `{}`; check its access rules", s.filter);
                    faults.found(link, BrokerFault::RejectsSubscription, &s.filter, &detail);
                    if self.refused.insert(s.filter.clone()) {
                        self.events.push_back(Event::SubscriptionRefused { filter: s.filter.clone() });
                    }
                }
                (Some(s), SubscribeReasonCode::Success(granted)) => {
                    faults.over_for(BrokerFault::RejectsSubscription, &s.filter);
                    if is_newest && s.qos == Qos::AtLeastOnce && *granted == QoS::AtMostOnce {
                        let detail = format!(
                            "the broker grants QoS 0 for `{}`, where QoS 1 was asked for: messages are lost while the gateway is away, and resync brings them; allow QoS 1 at the broker, or set `session = \"clean\"`",
                            s.filter
                        );
                        faults.found(link, BrokerFault::LowersQos, &s.filter, &detail);
                    } else {
                        faults.over_for(BrokerFault::LowersQos, &s.filter);
                    }
                }
                (None, SubscribeReasonCode::Failure) => echo_works = false,
                (None, SubscribeReasonCode::Success(_)) => {}
            }
        }
        // Without those of the echo.
        let asked = self.setup.subscriptions.iter().zip(codes).filter(|(s, _)| !is_own(&s.filter));
        let mut answers = asked.map(|(_, code)| code).peekable();
        let is_unserved = answers.peek().is_some() && answers.all(|code| *code == SubscribeReasonCode::Failure);
        let was_unserved = std::mem::replace(&mut live.unserved, is_unserved.then(Instant::now)).is_some();
        if is_unserved {
            self.metrics
                .state
                .refused("the broker rejects every subscription, so nothing arrives; check its access rules");
        } else if first_time || was_unserved {
            self.metrics.state.up();
        }
        self.metrics.up.store(u64::from(!is_unserved), Relaxed);
        // Where nothing could arrive before, whoever serves the link begins with it now.
        let is_served_at_last = was_unserved && !is_unserved;
        if !first_time && !is_served_at_last {
            return;
        }
        if self.is_news() {
            let url = self.url_text();
            info!(link = self.setup.link, %url, session_present, connection = self.generation, "connected");
        }
        self.failures = 0;
        self.last_failure.clear();
        self.metrics.faults.over(BrokerFault::NeverSubscribes);
        self.events.push_back(Event::Up { session_present });
        if echo_works {
            self.next_echo();
        }
    }

    pub(super) fn subscribe_again(&mut self) {
        let filters = connect::filters(&self.setup);
        if let Phase::Live(live) = &mut self.phase {
            live.unserved = live.unserved.map(|_| Instant::now());
            // Full: the next time.
            live.outdated = live.client.try_subscribe_many(filters).is_err();
            live.unanswered += u32::from(!live.outdated);
        }
    }

    pub(super) fn next_echo(&mut self) {
        let now = Instant::now();
        if let (Some(topic), Some(payload)) = (self.setup.echo_topic.clone(), self.echo.send(now)) {
            let retention = Retention::Newest("echo".into());
            let message = Outgoing { topic, payload, retain: false, qos: Qos::AtLeastOnce, retention };
            if let Err(error) = self.publish(message) {
                debug!(link = self.setup.link, "no echo: {error}");
            }
        } else if let Some(median) = self.echo.median() {
            self.metrics.echo_us.store(u64::try_from(median.as_micros()).unwrap_or(u64::MAX), Relaxed);
            if median > Duration::from_millis(ECHO_SLOW_MS) {
                let ms = median.as_millis();
                warn!(link = self.setup.link, "a round trip takes {ms} ms; set `set_tcp_nodelay true` at the broker");
            }
        }
    }

    /// Hands acknowledgements and messages to the client, as far as it takes them.
    pub(super) fn pump(&mut self) {
        let Phase::Live(live) = &mut self.phase else { return };
        while let Some(packet) = self.acks.front() {
            let mut publish = Publish::new("", rumqttc::QoS::AtLeastOnce, Vec::new());
            publish.pkid = *packet;
            if live.client.try_ack(&publish).is_err() {
                return;
            }
            self.acks.pop_front();
        }
        if !live.up {
            return;
        }
        let mut stale = 0;
        while let Some((id, message)) = self.outbox.next(Instant::now(), &mut stale) {
            let qos = connect::qos(message.qos);
            if live.client.try_publish(&message.topic, qos, message.retain, message.payload.clone()).is_err() {
                break;
            }
            LinkMetrics::count(&self.metrics.published);
            self.outbox.handed_over(id);
        }
        self.metrics.dropped_stale.fetch_add(stale, Relaxed);
        self.gauge();
    }

    pub(super) fn gauge(&self) {
        self.metrics.outbox.store(u64::try_from(self.outbox.len()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn check_waits(&mut self) {
        let Phase::Live(live) = &self.phase else { return };
        let lasted = live.since.elapsed();
        let (is_up, is_outdated) = (live.up, live.outdated);
        let is_unserved = live.unserved.is_some_and(|at| at.elapsed() >= SUBSCRIBED_AGAIN);
        if is_up {
            self.has_lasted(lasted);
        }
        if is_unserved || is_outdated {
            self.subscribe_again();
        }
        let unconfirmed = self.outbox.oldest_unconfirmed().map(|at| at.elapsed()).unwrap_or_default();
        if !is_up && lasted > Duration::from_secs(SUBSCRIBED_WITHIN_S) {
            let why = format!("no answer to the subscriptions in {SUBSCRIBED_WITHIN_S} s");
            let detail = format!("{why}; the next broker of `urls` is tried, or the same again");
            self.metrics.faults.found(self.setup.link, BrokerFault::NeverSubscribes, "", &detail);
            self.lost(&DisconnectReason::Network(why));
        } else if unconfirmed > Duration::from_secs(CONFIRMED_WITHIN_S) {
            self.lost(&DisconnectReason::Network(format!("a message was not confirmed in {CONFIRMED_WITHIN_S} s")));
        }
    }
}
