//! The topics of the contract: printed and parsed by inverse functions, with their QoS and retain flag, and what each side
//! subscribes to.

use std::fmt;
use std::str::FromStr;

use super::limits::PORTAL_TEXT_CHARS_MAX;
use super::text::is_label;
use crate::access::id::{GatewayId, StreamName};
use crate::access::input::MessageKind;
use crate::access::names;

/// First two levels of every topic.
const ROOT: &str = "dormgate/v1";
/// The level that stands for all gateways of the campus, and the `aud` of messages to them. No gateway may be named so.
pub const CAMPUS: &str = "campus";

/// How surely a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qos {
    /// QoS 0: never queued for an absent subscriber.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// From the center to one gateway; [`Changes`](Self::Changes) and [`Head`](Self::Head) also to all gateways of the campus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// A change message.
    Changes,
    /// How far a stream goes.
    Head(StreamName),
    /// A part of a snapshot.
    Snapshot,
    /// A command.
    Command,
    /// How far the center has the audit.
    AuditAck,
}

impl Down {
    fn is_for_the_campus(&self) -> bool {
        matches!(self, Self::Changes | Self::Head(_))
    }

    fn parse(levels: &[Option<&str>]) -> Option<Self> {
        match levels {
            [Some("changes"), None] => Some(Self::Changes),
            [Some("head"), Some(name)] => name.parse().ok().map(Self::Head),
            [Some("snapshot"), None] => Some(Self::Snapshot),
            [Some("command"), None] => Some(Self::Command),
            [Some("audit-ack"), None] => Some(Self::AuditAck),
            _ => None,
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changes => f.write_str("changes"),
            Self::Head(stream) => write!(f, "head/{stream}"),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Command => f.write_str("command"),
            Self::AuditAck => f.write_str("audit-ack"),
        }
    }
}

names! {
    /// From a gateway to the center.
    pub enum Up {
        /// The answer to a change message.
        Ack,
        /// A request to send again.
        Resync,
        /// The answer to a command.
        Reply,
        /// A batch of audit events.
        Audit,
        /// An alarm.
        Alarm,
        /// The state of the gateway.
        State,
    }
}

names! {
    /// Between a portal and the gateway.
    pub enum Portal {
        /// A card was presented; from the portal.
        Request,
        /// The answer; to the portal.
        Decision,
        /// What the portal reports of itself; from the portal.
        State,
        /// An order; to the portal.
        Control,
    }
}

/// A topic of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `dormgate/v1/campus/down/…`
    Campus(Down),
    /// `dormgate/v1/G/down/…`
    Down(GatewayId, Down),
    /// `dormgate/v1/G/up/…`
    Up(GatewayId, Up),
    /// `dormgate/v1/G/portal/P/…`; `P` is text, because the portal may not exist.
    Portal(GatewayId, String, Portal),
    /// `dormgate/v1/G/gateway/state`
    GatewayState(GatewayId),
}

/// A topic outside the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no topic of the wire contract, version 1")]
pub struct NotOurTopic;

impl Topic {
    /// The QoS with which the topic is published.
    #[must_use]
    pub fn qos(&self) -> Qos {
        // A portal may ask with either; the simulated ones use what the gateway subscribes with.
        let asks = matches!(self, Self::Portal(_, _, Portal::Request | Portal::State));
        if asks { Qos::AtMostOnce } else { Qos::AtLeastOnce }
    }

    /// Whether the topic is published retained: a state is, what acts once is not.
    #[must_use]
    pub fn retained(&self) -> bool {
        match self {
            Self::Campus(down) | Self::Down(_, down) => matches!(down, Down::Head(_)),
            Self::Up(_, up) => *up == Up::State,
            Self::Portal(..) => false,
            Self::GatewayState(_) => true,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campus(down) => write!(f, "{ROOT}/{CAMPUS}/down/{down}"),
            Self::Down(g, down) => write!(f, "{ROOT}/{g}/down/{down}"),
            Self::Up(g, up) => write!(f, "{ROOT}/{g}/up/{}", up.as_str()),
            Self::Portal(g, portal, leaf) => write!(f, "{ROOT}/{g}/portal/{portal}/{}", leaf.as_str()),
            Self::GatewayState(g) => write!(f, "{ROOT}/{g}/gateway/state"),
        }
    }
}

impl FromStr for Topic {
    type Err = NotOurTopic;

    fn from_str(text: &str) -> Result<Self, NotOurTopic> {
        let rest = text.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')).ok_or(NotOurTopic)?;
        let mut levels = rest.split('/');
        // The longest topic has four levels after the root.
        let all = [levels.next(), levels.next(), levels.next(), levels.next()];
        if levels.next().is_some() {
            return Err(NotOurTopic);
        }
        let (g, tail): (GatewayId, _) = match all {
            [Some(CAMPUS), Some("down"), tail @ ..] => {
                return Down::parse(&tail).filter(Down::is_for_the_campus).map(Self::Campus).ok_or(NotOurTopic);
            }
            [Some(CAMPUS), ..] | [None, ..] => return Err(NotOurTopic),
            [Some(gateway), tail @ ..] => (gateway.parse().map_err(|_| NotOurTopic)?, tail),
        };
        match tail {
            [Some("down"), tail @ ..] => Down::parse(&tail).map(|down| Self::Down(g, down)).ok_or(NotOurTopic),
            [Some("up"), Some(leaf), None] => Ok(Self::Up(g, Up::parse(leaf).ok_or(NotOurTopic)?)),
            [Some("portal"), Some(portal), Some(leaf)] if is_label(portal, PORTAL_TEXT_CHARS_MAX) => {
                Ok(Self::Portal(g, portal.to_owned(), Portal::parse(leaf).ok_or(NotOurTopic)?))
            }
            [Some("gateway"), Some("state"), None] => Ok(Self::GatewayState(g)),
            _ => Err(NotOurTopic),
        }
    }
}

/// The last level of the topic on which a kind of message comes.
#[must_use]
pub fn leaf(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Changes => "changes",
        MessageKind::Snapshot => "snapshot",
        MessageKind::Head => "head",
        MessageKind::Command => "command",
        MessageKind::AuditAck => "audit-ack",
        MessageKind::Request => Portal::Request.as_str(),
        MessageKind::Report => Portal::State.as_str(),
    }
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// The most that the broker may deliver with.
    pub qos: Qos,
}

impl Subscription {
    fn new(filter: String, qos: Qos) -> Self {
        Self { filter, qos }
    }
}

/// What the gateway subscribes to on the uplink. Commands with QoS 0, so that no broker queues one.
#[must_use]
pub fn uplink_subscriptions(g: &GatewayId) -> Vec<Subscription> {
    let one = Qos::AtLeastOnce;
    vec![
        Subscription::new(Topic::Down(g.clone(), Down::Changes).to_string(), one),
        Subscription::new(Topic::Campus(Down::Changes).to_string(), one),
        Subscription::new(format!("{ROOT}/{g}/down/head/+"), one),
        Subscription::new(format!("{ROOT}/{CAMPUS}/down/head/+"), one),
        Subscription::new(Topic::Down(g.clone(), Down::Snapshot).to_string(), one),
        Subscription::new(Topic::Down(g.clone(), Down::AuditAck).to_string(), one),
        Subscription::new(Topic::Down(g.clone(), Down::Command).to_string(), Qos::AtMostOnce),
    ]
}

/// The same where the broker keeps no session: everything with QoS 0, in one filter for each audience.
#[must_use]
pub fn uplink_subscriptions_clean(g: &GatewayId) -> Vec<Subscription> {
    [g.as_str(), CAMPUS].map(|audience| Subscription::new(format!("{ROOT}/{audience}/down/#"), Qos::AtMostOnce)).into()
}

/// The filter for messages of kind `up` of all gateways.
#[must_use]
pub fn of_all_gateways(up: Up) -> String {
    format!("{ROOT}/+/up/{}", up.as_str())
}

/// What the gateway subscribes to on the local link, with QoS 0, so that no broker queues a request.
#[must_use]
pub fn local_subscriptions(g: &GatewayId) -> Vec<Subscription> {
    [Portal::Request, Portal::State]
        .map(|leaf| Subscription::new(format!("{ROOT}/{g}/portal/+/{}", leaf.as_str()), Qos::AtMostOnce))
        .into()
}

/// What a portal subscribes to on the local link.
#[must_use]
pub fn portal_subscriptions(g: &GatewayId, portal: &str) -> Vec<Subscription> {
    let one = Qos::AtLeastOnce;
    vec![
        Subscription::new(Topic::Portal(g.clone(), portal.to_owned(), Portal::Decision).to_string(), one),
        Subscription::new(Topic::Portal(g.clone(), portal.to_owned(), Portal::Control).to_string(), one),
        Subscription::new(Topic::GatewayState(g.clone()).to_string(), one),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics() -> impl Strategy<Value = Topic> {
        let id = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}";
        let gateway = id.prop_filter("reserved", |g| g != CAMPUS).prop_map(|g| g.parse::<GatewayId>().unwrap());
        (gateway, id, "[^/+#\\x00-\\x1F\\x7F]{1,20}", 0..18_usize).prop_map(|(g, stream, portal, which)| {
            let stream: StreamName = stream.parse().unwrap();
            match which {
                0 => Topic::Campus(Down::Changes),
                1 => Topic::Campus(Down::Head(stream)),
                2 => Topic::Down(g, Down::Changes),
                3 => Topic::Down(g, Down::Head(stream)),
                4 => Topic::Down(g, Down::Snapshot),
                5 => Topic::Down(g, Down::Command),
                6 => Topic::Down(g, Down::AuditAck),
                7..=12 => Topic::Up(g, Up::ALL[which - 7]),
                13..=16 => Topic::Portal(g, portal, Portal::ALL[which - 13]),
                _ => Topic::GatewayState(g),
            }
        })
    }

    fn labelled(topic: &Topic) -> bool {
        match topic {
            Topic::Portal(_, portal, _) => is_label(portal, PORTAL_TEXT_CHARS_MAX),
            Topic::Campus(_) | Topic::Down(..) | Topic::Up(..) | Topic::GatewayState(_) => true,
        }
    }

    proptest! {
        #[test]
        fn a_topic_printed_is_the_topic_parsed(topic in topics().prop_filter("invisible", labelled)) {
            prop_assert_eq!(topic.to_string().parse::<Topic>(), Ok(topic));
        }

        #[test]
        fn what_is_parsed_prints_as_it_was(text in "(.{0,120}|dormgate/v1/[a-z+#/-]{0,9}/(up|down|portal/x|gateway|)/?(state|head/a|ack|.{0,6}))") {
            if let Ok(topic) = text.parse::<Topic>() {
                prop_assert_eq!(topic.to_string(), text);
            }
        }
    }

    #[test]
    fn the_topics_are_spelled_as_in_the_contract() {
        let g: GatewayId = "nanhu-xing1".parse().unwrap();
        let all = [
            (Topic::Down(g.clone(), Down::AuditAck), "dormgate/v1/nanhu-xing1/down/audit-ack"),
            (
                Topic::Down(g.clone(), Down::Head("card-office".parse().unwrap())),
                "dormgate/v1/nanhu-xing1/down/head/card-office",
            ),
            (Topic::Campus(Down::Changes), "dormgate/v1/campus/down/changes"),
            (Topic::Up(g.clone(), Up::Resync), "dormgate/v1/nanhu-xing1/up/resync"),
            (
                Topic::Portal(g.clone(), "gate-in".into(), Portal::Request),
                "dormgate/v1/nanhu-xing1/portal/gate-in/request",
            ),
            (Topic::GatewayState(g), "dormgate/v1/nanhu-xing1/gateway/state"),
        ];
        for (topic, text) in all {
            assert_eq!(topic.to_string(), text);
            assert_eq!(text.parse(), Ok(topic));
        }
        for wrong in [
            "",
            "dormgate/v1",
            "dormgate/v1/campus/down/command",
            "dormgate/v2/g/up/ack",
            "dormgate/v1/g/up/ack/x",
            "dormgate/v1/g/portal//request",
            "x/dormgate/v1/g/up/ack",
        ] {
            assert_eq!(wrong.parse::<Topic>(), Err(NotOurTopic), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_a_state_is_retained_and_commands_and_requests_are_never_queued() {
        let g: GatewayId = "g".parse().unwrap();
        let retained = [
            Topic::Campus(Down::Head("s".parse().unwrap())),
            Topic::Down(g.clone(), Down::Head("s".parse().unwrap())),
            Topic::Up(g.clone(), Up::State),
            Topic::GatewayState(g.clone()),
        ];
        assert!(retained.iter().all(Topic::retained));
        assert!(!Topic::Down(g.clone(), Down::Command).retained());
        assert!(!Topic::Portal(g.clone(), "p".into(), Portal::Decision).retained());
        let zero: Vec<_> = uplink_subscriptions(&g).into_iter().filter(|s| s.qos == Qos::AtMostOnce).collect();
        assert_eq!(zero.iter().map(|s| s.filter.as_str()).collect::<Vec<_>>(), ["dormgate/v1/g/down/command"]);
        assert!(local_subscriptions(&g).iter().all(|s| s.qos == Qos::AtMostOnce));
    }
}
