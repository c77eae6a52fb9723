//! What the local link guarantees portals, and what the simulated portals do with it.
#![cfg(feature = "workbench")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/cable.rs"]
mod cable;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use brokers::*;
use cable::Cable;
use dormgate::access::change::ErrorCode;
use dormgate::access::decision::{Decision, Denial, Reason};
use dormgate::access::id::Timestamp;
use dormgate::access::input::{Input, MessageKind, PortalReport, Presented, Request};
use dormgate::access::portal::{Direction, PortalKind, Posture};
use dormgate::clock::Clock;
use dormgate::gateway::ports::{Inbox, InboxReceiver, PortalOrder};
use dormgate::mqtt::{BrokerUrl, Connection, LinkMetrics, LinkSpec};
use dormgate::portals::mqtt::NativePortals;
use dormgate::wire::portal::{Action, encode_control, encode_request, parse_control, parse_decision};
use dormgate::workbench::mqtt::{NoDecision, Presentation, SimulatedPortal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(PATIENCE_S);

/// The local link with a test in the gateway's place.
struct Rig {
    gateway: InboxReceiver,
    orders: mpsc::Sender<PortalOrder>,
    metrics: Arc<LinkMetrics>,
    task: JoinHandle<()>,
}

impl Rig {
    async fn start(url: &BrokerUrl) -> Self {
        let (inbox, gateway) = Inbox::new();
        let (orders, to_do) = mpsc::channel(64);
        let metrics = Arc::new(LinkMetrics::default());
        let (link, id, boot) = (LinkSpec::plain(vec![url.clone()], "g1-local"), "g1".parse().unwrap(), "0123456789");
        let (clock, _) = Clock::manual(Timestamp(0));
        let link = NativePortals::new(link, id, boot.into(), inbox, clock, Arc::clone(&metrics)).unwrap();
        let run = link.run(to_do, vec!["gate".parse().unwrap()], ["wired".parse().unwrap()]);
        let rig = Self { gateway, orders, metrics, task: tokio::spawn(run) };
        rig.up(true).await;
        rig
    }

    /// The same, with somebody who receives the decisions.
    async fn with_peer(url: &BrokerUrl) -> (Self, Connection) {
        (Self::start(url).await, connected(url, "peer", setup(&["dormgate/v1/g1/portal/+/decision"])).await)
    }

    async fn up(&self, wanted: bool) {
        within(async {
            while (self.metrics.up.load(Relaxed) == 1) != wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    async fn any_input(&mut self) -> Input {
        within(self.gateway.requests.recv()).await.expect("the link lives").0
    }

    /// The next input of a portal.
    async fn input(&mut self) -> Input {
        loop {
            let input = self.any_input().await;
            if !matches!(input, Input::PortalLink { .. }) {
                return input;
            }
        }
    }

    async fn request(&mut self) -> Request {
        loop {
            match self.input().await {
                Input::Request(request) => return request,
                Input::Report { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Whether the link is up, the next time that this changes.
    async fn link(&mut self) -> bool {
        loop {
            if let Input::PortalLink { lost, portals } = self.any_input().await {
                assert_eq!(portals, ["gate".parse().unwrap()]);
                return lost.is_none();
            }
        }
    }

    /// The next report in which `field` reports something.
    async fn report<T>(&mut self, field: impl Fn(&PortalReport) -> Option<T>) -> T {
        loop {
            if let Input::Report { report, .. } = self.input().await
                && let Some(value) = field(&report)
            {
                return value;
            }
        }
    }

    async fn order(&self, order: PortalOrder) {
        self.orders.send(order).await.unwrap();
    }
}

fn denied(request: &Request) -> PortalOrder {
    let decision = Decision::Deny(Denial::from(Reason::NotEnrolled));
    PortalOrder::Answer { portal: request.portal.clone(), id: request.id.clone(), decision, delay_ms: None }
}

fn cut(portal: &str, reason: &'static str) -> PortalOrder {
    PortalOrder::Cut { portal: portal.parse().unwrap(), reason }
}

fn simulated(url: &BrokerUrl, portal: &str, kind: PortalKind) -> SimulatedPortal {
    let link = LinkSpec::plain(vec![url.clone()], portal);
    SimulatedPortal::start(link, &"g1".parse().unwrap(), &portal.parse().unwrap(), kind).unwrap()
}

#[tokio::test]
async fn a_card_presented_is_answered_at_its_portal() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url).await;
        let gate = simulated(&url, "gate-in", PortalKind::Gate);
        gate.wait_until(PATIENCE, |seen| seen.gateway_online).await.unwrap();
        let presenting = gate.present_as(Presentation {
            uid: "1E:A6:86:71".into(),
            direction: Some(Direction::In),
            ..Presentation::default()
        });
        let (decision, ()) = tokio::join!(presenting, async {
            let request = rig.request().await;
            assert_eq!((request.portal.as_str(), request.stale), ("gate-in", false));
            assert_eq!(request.presented, Presented::Card("1EA68671".parse().unwrap()));
            rig.order(denied(&request)).await;
        });
        let decision = decision.unwrap();
        assert_eq!((decision.granted, decision.reason.as_str()), (false, "not_enrolled"));
        assert!(!gate.seen().open);
        assert_eq!(gate.present("1EA68671").await, Err(NoDecision::Silence), "the gateway does not answer now");
    })
    .await;
}

#[tokio::test]
async fn a_retained_request_is_refused_and_a_retained_state_is_not_received() {
    against_each(async |broker| {
        let url = broker.url();
        let mut peer = connected(&url, "peer", setup(&["dormgate/v1/g1/portal/+/decision"])).await;
        let request = encode_request(Some("old"), "1EA68671", None, None);
        deliver(&mut peer, retained("dormgate/v1/g1/portal/gate-in/request", request.clone())).await;
        deliver(&mut peer, retained("dormgate/v1/g1/portal/gate-in/state", r#"{"fire":true}"#)).await;
        let mut rig = Rig::start(&url).await;
        match rig.input().await {
            Input::Rejected(refused) => {
                assert_eq!((refused.kind, refused.error.code), (MessageKind::Request, ErrorCode::Retained));
                // Whoever reads it knows which topic to clear.
                assert!(refused.error.message.contains("dormgate/v1/g1/portal/gate-in/request"));
            }
            other => panic!("{other:?}"),
        }
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/gate-in/request", request)).await;
        match rig.input().await {
            Input::Request(request) => assert_eq!(request.id.as_deref(), Some("old")),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.metrics.rejected.load(Relaxed), 1);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_received_of_what_was_asked_while_the_gateway_was_away() {
    against_each(async |broker| {
        let url = broker.url();
        drop(Rig::start(&url).await.orders);
        let mut peer = connected(&url, "peer", setup(&["dormgate/v1/g1/gateway/state"])).await;
        while !text(&mut peer).await.contains("offline") {}
        let request = |id| encode_request(Some(id), "1EA68671", None, None);
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/gate-in/request", request("while away"))).await;
        let mut rig = Rig::start(&url).await;
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/gate-in/request", request("now"))).await;
        assert_eq!(rig.request().await.id.as_deref(), Some("now"));
    })
    .await;
}

/// At a broker without rules anybody may publish that the gateway is gone, for every portal and each that comes later.
#[tokio::test]
async fn a_state_of_the_gateway_that_somebody_else_published_is_put_right() {
    against_each(async |broker| {
        let url = broker.url();
        let rig = Rig::start(&url).await;
        let topic = "dormgate/v1/g1/gateway/state";
        let right = r#"{"v":1,"state":"online","boot":"0123456789"}"#;
        let mut peer = connected(&url, "peer", setup(&[topic])).await;
        while text(&mut peer).await != right {}
        for forged in [r#"{"v":1,"state":"offline","boot":"0123456789"}"#, r#"{"v":1,"state":"online","boot":"x"}"#, ""]
        {
            // The broker has it now, in place of the right one.
            deliver(&mut peer, retained(topic, forged)).await;
            // Whoever comes later is given what is kept, and what takes its place.
            let mut later = connected(&url, "later", setup(&[topic])).await;
            while text(&mut later).await != right {}
        }
        // The end is not taken for somebody else's.
        drop(rig.orders);
        rig.task.await.unwrap();
        let mut later = connected(&url, "later", setup(&[topic])).await;
        assert!(text(&mut later).await.contains("offline"));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_or_names_no_portal_is_still_answered() {
    against_each(async |broker| {
        let (mut rig, mut peer) = Rig::with_peer(&broker.url()).await;
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/nobody/request", "not json")).await;
        let request = rig.request().await;
        assert!(matches!(request.presented, Presented::Malformed(_)));
        rig.order(denied(&request)).await;
        let answer = message(&mut peer).await;
        assert_eq!((answer.topic.as_str(), answer.retain), ("dormgate/v1/g1/portal/nobody/decision", false));
        assert_eq!(parse_decision(&answer.payload).unwrap().id, None);
        // Half-understood states count as far as they are understood.
        let state = r#"{"card_present":false,"power_w":"much"}"#;
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/p/state", state)).await;
        assert!(!rig.report(|r| r.card_present).await);
        // Other gateways' portals are not ours.
        deliver(&mut peer, reporting("dormgate/v1/g2/portal/p/request", "{}")).await;
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/p/state", r#"{"tamper":true}"#)).await;
        assert!(matches!(rig.input().await, Input::Report { report, .. } if report.tamper == Some(true)));
    })
    .await;
}

#[tokio::test]
async fn what_names_a_portal_of_another_link_is_answered_and_does_not_reach_it() {
    against_each(async |broker| {
        let (mut rig, mut peer) = Rig::with_peer(&broker.url()).await;
        let request = encode_request(Some("7"), "1EA68671", None, None);
        for (payload, reason) in [(request, "unknown_portal"), (b"not json".to_vec(), "malformed_identifier")] {
            deliver(&mut peer, reporting("dormgate/v1/g1/portal/wired/request", payload)).await;
            let answer = message(&mut peer).await;
            assert_eq!(answer.topic, "dormgate/v1/g1/portal/wired/decision");
            let decision = parse_decision(&answer.payload).unwrap();
            assert_eq!((decision.granted, decision.reason.as_str()), (false, reason));
            assert_eq!(decision.id.as_deref(), (reason == "unknown_portal").then_some("7"));
        }
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/wired/state", r#"{"relay":false}"#)).await;
        for kind in [MessageKind::Request, MessageKind::Request, MessageKind::Report] {
            let Input::Rejected(refused) = rig.input().await else { panic!("nothing was refused") };
            assert_eq!((refused.kind, refused.error.code), (kind, ErrorCode::UnknownPortal));
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_far_too_long_names_its_portal_and_costs_the_others_nothing() {
    against_each(async |broker| {
        let (mut rig, mut peer) = Rig::with_peer(&broker.url()).await;
        for _ in 0..3 {
            deliver(&mut peer, reporting("dormgate/v1/g1/portal/bad/state", vec![b'x'; 300_000])).await;
        }
        let message =
            reporting("dormgate/v1/g1/portal/gate-in/request", encode_request(Some("7"), "1EA68671", None, None));
        deliver(&mut peer, message).await;
        let mut named = 0;
        let request = loop {
            match rig.input().await {
                Input::Report { portal, report } if portal == "bad" && !report.malformed.is_empty() => named += 1,
                Input::Request(request) => break request,
                _ => {}
            }
        };
        assert_eq!((named > 0, request.id.as_deref()), (true, Some("7")));
    })
    .await;
}

#[tokio::test]
async fn what_opens_is_not_published_to_a_portal_that_is_offline() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url).await;
        let mut peer = connected(&url, "peer", setup(&["dormgate/v1/g1/portal/+/control"])).await;
        let mode = |posture| PortalOrder::Mode { portal: "gate-in".parse().unwrap(), posture };
        let mut next = async || {
            let message = message(&mut peer).await;
            let control = parse_control(&message.payload).unwrap();
            (control.action, control.ttl_ms.is_some(), message.retain)
        };
        rig.order(mode(Posture::Fire)).await;
        assert_eq!(next().await, (Action::Free, true, false));
        let mut gate = connected(&url, "gate", setup(&[])).await;
        for online in [false, true] {
            let state = format!(r#"{{"online":{online}}}"#);
            deliver(&mut gate, reporting("dormgate/v1/g1/portal/gate-in/state", state)).await;
            assert_eq!(rig.report(|r| r.online).await, online);
            rig.order(mode(Posture::Fire)).await;
            if online {
                assert_eq!(next().await, (Action::Free, true, false));
            }
            rig.order(mode(Posture::Secure)).await;
            assert_eq!(next().await, (Action::Resume, false, false));
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_link_is_down_answers_are_dropped_and_cuts_are_kept() {
    against_each(async |mut broker| {
        let cable = Cable::to(&broker.url()).await;
        let mut rig = Rig::start(&cable.url()).await;
        assert_eq!([rig.link().await, rig.link().await], [false, true]);
        cable.pull();
        assert!(!rig.link().await);
        let request = Request {
            portal: "power-412".into(),
            id: Some("late".into()),
            presented: Presented::Malformed(String::new()),
            direction: None,
            assurance: dormgate::access::portal::Assurance::Uid,
            stale: false,
            slot: 0,
        };
        rig.order(denied(&request)).await;
        rig.order(cut("power-412", "arrears")).await;
        rig.order(cut("power-412", "replaced")).await;
        rig.order(cut("power-413", "lost")).await;
        // Even if the broker has forgotten everything meanwhile.
        broker.stop().await;
        broker.start_again().await;
        let filters = ["dormgate/v1/g1/portal/+/decision", "dormgate/v1/g1/portal/+/control"];
        let mut peer = connected(&broker.url(), "peer", setup(&filters)).await;
        cable.plug();
        for (portal, reason) in [("power-412", "replaced"), ("power-413", "lost")] {
            let message = message(&mut peer).await;
            assert_eq!(message.topic, format!("dormgate/v1/g1/portal/{portal}/control"));
            let control = parse_control(&message.payload).unwrap();
            assert_eq!((control.action, control.reason.as_str()), (Action::PowerOff, reason));
            assert!(control.id.starts_with("01234567-"), "{}", control.id);
        }
        rig.up(true).await;
        rig.order(denied(&request)).await;
        assert!(message(&mut peer).await.topic.ends_with("/decision"), "only what is ordered now");
        assert_eq!(rig.metrics.dropped_stale.load(Relaxed), 1);
    })
    .await;
}

#[tokio::test]
async fn portals_receive_whether_the_gateway_is_there_and_answer_with_their_state() {
    against_each(async |broker| {
        let url = broker.url();
        let power = simulated(&url, "power-412", PortalKind::PowerBox);
        power.wait_until(PATIENCE, |seen| seen.connected).await.unwrap();
        assert!(!power.seen().gateway_online);
        let mut rig = Rig::start(&url).await;
        assert_eq!(rig.report(|r| Some((r.online?, r.card_present?))).await, (true, false));
        power.wait_until(PATIENCE, |seen| seen.gateway_online).await.unwrap();
        rig.task.abort();
        power.wait_until(PATIENCE, |seen| !seen.gateway_online).await.unwrap();
        // And the gateway receives a portal that dies.
        let mut rig = Rig::start(&url).await;
        assert!(rig.report(|r| r.online).await);
        power.kill();
        while rig.report(|r| r.online).await {}
        drop(rig.orders);
        within(rig.task).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_power_box_obeys_a_cut_and_reports_so() {
    against_each(async |broker| {
        let url = broker.url();
        let mut rig = Rig::start(&url).await;
        let power = simulated(&url, "power-412", PortalKind::PowerBox);
        power.wait_until(PATIENCE, |seen| seen.gateway_online).await.unwrap();
        let mut peer = connected(&url, "peer", setup(&[])).await;
        let on = encode_control("x-1", Action::PowerOn, None, "remote").unwrap();
        deliver(&mut peer, reporting("dormgate/v1/g1/portal/power-412/control", on)).await;
        power.wait_until(PATIENCE, |seen| seen.relay).await.unwrap();
        rig.order(cut("power-412", "power_suspended")).await;
        let seen = power.wait_until(PATIENCE, |seen| !seen.relay).await.unwrap();
        assert_eq!(seen.control.as_ref().map(|c| c.reason.as_str()), Some("power_suspended"));
        while rig.report(|r| r.relay).await {}
        power.remove().await;
        assert!(!rig.report(|r| r.card_present).await);
        // A kept order is as old as it likes: a portal does nothing on one.
        let open = encode_control("x-2", Action::PowerOn, None, "remote").unwrap();
        deliver(&mut peer, retained("dormgate/v1/g1/portal/power-413/control", open)).await;
        let other = simulated(&url, "power-413", PortalKind::PowerBox);
        assert!(!other.wait_until(PATIENCE, |seen| seen.gateway_online).await.unwrap().relay);
    })
    .await;
}

#[tokio::test]
async fn a_gate_opens_for_a_decision_of_its_own_request_and_for_its_time() {
    against_each(async |broker| {
        let url = broker.url();
        let gate = simulated(&url, "gate-in", PortalKind::Gate);
        gate.wait_until(PATIENCE, |seen| seen.connected).await.unwrap();
        let mut gateway = connected(&url, "gateway", setup(&["dormgate/v1/g1/portal/gate-in/+"])).await;
        let decide = |id: &str| {
            let text = format!(r#"{{"id":"{id}","decision":"grant","reason":"granted","hold_ms":50,"ttl_ms":1500}}"#);
            reporting("dormgate/v1/g1/portal/gate-in/decision", text)
        };
        gateway.publish(decide("never asked")).unwrap();
        let presentation = Presentation { uid: "1EA68671".into(), id: Some("7".into()), ..Presentation::default() };
        let (decision, passed) = tokio::join!(gate.present_as(presentation), async {
            loop {
                let message = message(&mut gateway).await;
                match String::from_utf8(message.payload).unwrap() {
                    text if message.topic.ends_with("/request") => {
                        assert!(text.contains(r#""id":"7""#), "{text}");
                        gateway.publish(decide("7")).unwrap();
                    }
                    text if message.topic.ends_with("/state") && text.contains("passed") => return text,
                    _ => {}
                }
            }
        });
        assert!(decision.unwrap().granted);
        assert!(passed.contains(r#""passed":"in""#), "{passed}");
        assert_eq!(gate.wait_until(PATIENCE, |seen| !seen.open).await.unwrap().openings, 1);
    })
    .await;
}
