//! The pace of the published state and of its digests, and what follows from a digest.

use std::num::NonZeroU32;

use super::*;
use crate::access::change::{Changes, ErrorCode, Head, Op, OpError, Position};
use crate::access::effect::ResyncReason;
use crate::access::engine::{Setup, StreamRole};
use crate::access::id::{ClockTrust, Timestamp};
use crate::access::input::{
    ClockChange, MessageKind, PortalReport, Receipt, ReceivedChanges, ReceivedPart, RejectedMessage,
};
use crate::access::portal::{Portal, PortalKind};
use crate::access::snapshot::{SnapshotHead, SnapshotPart};
use crate::access::state::State;
use crate::store::{MemoryDisk, Options, StoreEvent};

pub(in super::super) fn at(ms: u64) -> Now {
    Now { wall: Timestamp(1_788_249_600_000), mono: Mono(ms), clock: ClockTrust::Trusted }
}

/// An empty store that nobody writes to its disk.
pub(in super::super) fn store_in_memory() -> Store {
    Store::open_in_memory::<State>(&MemoryDisk::new(), Options::default()).unwrap().0
}

/// A core with one gate and an uplink whose orders are kept.
pub(in super::super) fn core() -> (GatewayCore, mpsc::Receiver<UplinkOrder>) {
    core_with_room(64)
}

fn core_with_room(room: usize) -> (GatewayCore, mpsc::Receiver<UplinkOrder>) {
    let gate = Portal::new("gate-in".parse().unwrap(), PortalKind::Gate, "lobby".parse().unwrap());
    let setup = Setup {
        portals: vec![gate],
        streams: vec![StreamRole {
            name: "office".parse().unwrap(),
            owns: [crate::access::change::RegisterKind::Standing].into(),
        }],
        ..Setup::default()
    };
    let identity = Identity {
        streams: vec![(
            "office".parse().unwrap(),
            crate::wire::digest::registers_of(crate::wire::allowed::AllowedOps::all()),
        )],
        ..Identity::default()
    };
    let (to, orders) = mpsc::channel(room);
    let engine = Engine::new(setup, State::default());
    let outlets = PortalOutlets::default();
    (GatewayCore::new(engine, store_in_memory(), outlets, Some(to), identity, Metrics::default()), orders)
}

/// What the center is sent of the state at `ms`, after the gate has reported `online`.
fn published(
    (core, orders): &mut (GatewayCore, mpsc::Receiver<UplinkOrder>),
    online: Option<bool>,
    ms: u64,
) -> Vec<StateReport> {
    if online.is_some() {
        let report = PortalReport { online, ..PortalReport::default() };
        core.input(Input::Report { portal: "gate-in".into(), report }, at(ms));
    }
    if core.pending(at(ms)) > 0 {
        core.flush(at(ms));
    }
    let state = |order| match order {
        UplinkOrder::State(state) => Some(*state),
        _ => None,
    };
    std::iter::from_fn(|| orders.try_recv().ok()).filter_map(state).collect()
}

/// The first message of the office.
fn issued() -> Input {
    let changes = Changes {
        stream: "office".parse().unwrap(),
        at: Position { epoch: NonZeroU32::MIN, seq: 1 },
        iat: None,
        content: Ok(vec![Op::Issue { uid: "1EA68671".parse().unwrap(), holder: "h1".parse().unwrap() }]),
    };
    let received_at = at(0).wall;
    Input::Changes(ReceivedChanges { changes, evidence: Vec::new(), receipt: Receipt(1), received_at })
}

#[test]
fn the_state_is_published_on_change_once_a_second_with_the_newest_and_every_minute() {
    let mut core = core();
    let mut online = |online, ms| {
        published(&mut core, online, ms).iter().map(|state| state.status.portals_online).collect::<Vec<_>>()
    };
    assert_eq!(online(None, 0), [0], "at the start");
    for (state, ms) in [(false, 1_000), (true, 1_399)] {
        assert_eq!(online(Some(state), ms), [0_u64; 0], "more may follow");
    }
    assert_eq!(online(None, 1_400), [1]);
    for (state, ms) in [(false, 1_410), (true, 1_420), (false, 2_399)] {
        assert_eq!(online(Some(state), ms), [0_u64; 0]);
    }
    assert_eq!(online(None, 2_400), [0], "no other input is needed");
    assert_eq!(online(None, 62_399), [0_u64; 0], "nothing changed");
    assert_eq!(online(None, 62_400), [0], "after 60 s");
}

#[test]
fn a_state_that_did_not_fit_is_published_a_second_later() {
    let (mut core, mut orders) = core_with_room(1);
    core.flush(at(0));
    let report = PortalReport { online: Some(true), ..PortalReport::default() };
    core.input(Input::Report { portal: "gate-in".into(), report }, at(600));
    core.flush(at(1_000));
    assert!(matches!(orders.try_recv(), Ok(UplinkOrder::State(before)) if before.status.portals_online == 0));
    assert!(orders.try_recv().is_err(), "there was no room");
    core.flush(at(1_999));
    assert!(orders.try_recv().is_err(), "once a second");
    assert!(core.next_deadline(at(1_999)).is_some_and(|next| next <= Mono(2_000)));
    core.flush(at(2_000));
    assert!(matches!(orders.try_recv(), Ok(UplinkOrder::State(now)) if now.status.portals_online == 1));
}

#[test]
fn the_core_wakes_when_the_state_is_due() {
    let mut core = core();
    published(&mut core, Some(true), 1_000);
    published(&mut core, Some(false), 1_010);
    assert!(core.0.next_deadline(at(1_010)).is_some_and(|next| next <= Mono(2_000)));
}

#[test]
fn a_change_of_the_audits_numbers_alone_publishes_nothing_before_the_next_minute() {
    let mut core = core();
    let (store, _, _, mut writer) = Store::open_in_memory::<State>(&MemoryDisk::new(), Options::default()).unwrap();
    core.0.store = store.clone();
    assert_eq!(published(&mut core, Some(true), 1_000).len(), 1);
    writer.flush();
    store.set_acked(1);
    core.0.input(Input::Clock(ClockChange::Step { by_ms: 1_000 }), at(3_000));
    assert_eq!(published(&mut core, None, 4_000), [], "an event was recorded, and the clock is as trusted as before");
    let [later] = published(&mut core, None, 61_000).try_into().unwrap();
    assert_eq!(later.audit_acked, 1);
}

#[test]
fn the_state_is_published_at_once_when_the_link_is_up_again() {
    let mut core = core();
    assert_eq!(published(&mut core, Some(true), 1_000).len(), 1);
    core.0.input(Input::LinkUp { spread_ms: 0, ask_every_stream: false }, at(1_100));
    assert_eq!(published(&mut core, None, 1_100).len(), 1);
}

#[test]
fn a_digest_is_published_within_five_seconds_of_the_change_however_busy_the_gateway_is() {
    let mut core = core();
    let [before] = published(&mut core, Some(true), 1_000).try_into().unwrap();
    assert_eq!(
        (&before.status.streams[0].digest, before.status.streams[0].age_s),
        (&None, None),
        "nothing was received yet"
    );
    core.0.input(issued(), at(10_000));
    // Never a quiet moment: only what is late is worked at.
    let (mut lines, mut late) = (None, 10_000);
    while lines.is_none() && late < 15_000 {
        late += 100;
        if core.0.background_work(at(late)) == Work::Late {
            lines = core.0.work_in_background(at(late));
        }
    }
    core.0.digested(Some(lines.expect("in time").finish()), at(late));
    let state = published(&mut core, None, 14_000).pop().unwrap();
    assert!(state.status.streams[0].digest.is_some());
    assert!(late < 14_000);
}

#[test]
fn a_digest_is_begun_once_a_burst_has_settled_and_the_core_wakes_for_it() {
    let mut core = core();
    assert!(core.0.work_in_background(at(0)).is_none(), "nothing was received yet");
    published(&mut core, Some(true), 10_000);
    published(&mut core, Some(false), 10_200);
    assert_eq!(core.0.background_work(at(10_449)), Work::None, "the burst may go on");
    assert!(core.0.next_deadline(at(10_200)).is_some_and(|next| next <= Mono(10_450)));
    assert_eq!(core.0.background_work(at(10_450)), Work::Spare);
    // A burst that does not end: as late as that, and no later.
    for ms in (10_500..12_000).step_by(100) {
        published(&mut core, Some(ms % 200 != 0), ms);
        assert_eq!(core.0.background_work(at(ms)), Work::None);
    }
    published(&mut core, None, 12_000);
    assert_eq!(core.0.background_work(at(12_000)), Work::Late);
}

#[test]
fn a_center_whose_digest_of_the_list_is_another_is_asked_once_the_own_one_is_known() {
    for is_same in [true, false] {
        let (mut core, mut orders) = core();
        core.input(Input::LinkUp { spread_ms: 0, ask_every_stream: false }, at(0));
        core.input(issued(), at(10_000));
        let lines = core.work_in_background(at(10_000)).expect("one card is one slice");
        let own = crate::wire::digest::of(&core.engine().state().list, &core.identity.streams[0].1).sha256;
        let digest = if is_same { own } else { "0".repeat(64) };
        let (stream, at_head) = ("office".parse().unwrap(), Position { epoch: NonZeroU32::MIN, seq: 1 });
        let head = Head { stream, at: at_head, iat: None, cards: 1, digest };
        core.input(Input::Head(head), at(10_000));
        core.digested(Some(lines.finish()), at(10_000));
        core.input(Input::Wake, at(60_000));
        core.flush(at(60_000));
        let is_asked = |order| matches!(order, UplinkOrder::Resync(resync) if resync.reason == ResyncReason::Digest);
        assert_eq!(std::iter::from_fn(|| orders.try_recv().ok()).any(is_asked), !is_same);
    }
}

/// The value of a series as it is served.
pub(in super::super) fn served(metrics: &Metrics, series: &str) -> Option<u64> {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut shown = String::new();
    prometheus_client::encoding::text::encode(&mut shown, &registry).unwrap();
    shown.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_series_that_may_come_begins_at_0_and_the_end_of_an_alarm_is_not_counted() {
    let (core, _orders) = core();
    let served = |series: &str| served(&core.metrics, series);
    for kind in AlarmKind::ALL {
        let expected = (*kind != AlarmKind::Duress).then_some(0);
        assert_eq!(served(&format!("alarms_total{{kind=\"{}\"}}", kind.as_str())), expected, "{kind:?}");
    }
    for series in [
        r#"rejected_messages_total{topic="changes",code="bad_signature"}"#,
        r#"rejected_messages_total{topic="command",code="implausible"}"#,
        r#"change_messages_total{outcome="rejected"}"#,
        r#"commands_total{outcome="failed"}"#,
        r#"decisions_total{kind="gate",decision="grant",reason="granted"}"#,
        r#"decisions_total{kind="power_box",decision="deny",reason="unknown_credential"}"#,
    ] {
        assert_eq!(served(series), Some(0), "{series}");
    }
    let mut core = core;
    for (online, ms) in [(true, 1_000), (false, 2_000), (true, 900_000)] {
        let report = PortalReport { online: Some(online), ..PortalReport::default() };
        core.input(Input::Report { portal: "gate-in".into(), report }, at(ms));
    }
    let series = r#"alarms_total{kind="portal_offline"}"#;
    assert_eq!(self::served(&core.metrics, series), Some(1), "it began once, and is over");
}

#[test]
fn what_lasts_is_in_the_metrics_as_long_as_it_lasts_and_duress_never() {
    let (mut core, _orders) = core();
    let portal = || "gate-in".to_owned();
    let served = |core: &GatewayCore| {
        let of = |series: &str| self::served(&core.metrics, series).unwrap();
        [
            of(r#"portals{state="online"}"#),
            of(r#"portals{state="offline"}"#),
            of(r#"alarms_open{kind="portal_offline"}"#),
            of(r#"portals_in_posture{posture="secure"}"#),
            of(r#"portals_in_posture{posture="fire"}"#),
            of(r#"alarms_open{kind="fire"}"#),
        ]
    };
    let online = |online| Input::Report {
        portal: portal(),
        report: PortalReport { online: Some(online), ..PortalReport::default() },
    };
    let fire =
        |fire| Input::Report { portal: portal(), report: PortalReport { fire: Some(fire), ..PortalReport::default() } };
    let reset = Input::Operator(Operator::FireReset { force: false }, None);
    for (input, ms, expected) in [
        (Input::Wake, 0, [0, 1, 0, 1, 0, 0]),
        (online(true), 1_000, [1, 0, 0, 1, 0, 0]),
        (online(false), 3_000, [0, 1, 1, 1, 0, 0]),
        (Input::Wake, 1_900_000, [0, 1, 1, 1, 0, 0]),
        (online(true), 1_905_000, [1, 0, 0, 1, 0, 0]),
        (fire(true), 1_910_000, [1, 0, 0, 0, 1, 1]),
        (fire(false), 1_920_000, [1, 0, 0, 0, 1, 1]),
        (Input::Wake, 3_800_000, [1, 0, 0, 0, 1, 1]),
        (reset, 3_810_000, [1, 0, 0, 1, 0, 0]),
    ] {
        core.input(input, at(ms));
        // The state is looked at a little later.
        core.flush(at(ms + 900));
        assert_eq!(served(&core), expected, "at {ms} ms");
    }
    assert_eq!(self::served(&core.metrics, r#"alarms_open{kind="duress"}"#), None);
}

#[test]
fn what_the_audit_alone_lacks_is_an_event_and_an_alarm() {
    let (mut core, _orders) = core();
    core.store_event(StoreEvent::Found(crate::store::RecoveryIssue::AuditLost { from: 3, to: 5 }), at(0));
    let bodies: Vec<_> = core.unwritten.iter().map(|record| &record.event.body).collect();
    assert!(matches!(bodies[..], [Event::LogGap { from: 3, to: 5, .. }, Event::Alarm { .. }]), "{bodies:?}");
}

#[test]
fn a_message_without_effect_is_counted_once_wherever_it_is_found_to_have_none() {
    let (mut core, _orders) = core();
    let counted = |core: &GatewayCore| -> Vec<(&'static str, &'static str, u64)> {
        let all = MessageKind::ALL.iter().flat_map(|kind| ErrorCode::ALL.iter().map(move |code| (kind, code)));
        let all = all.map(|(kind, code)| (crate::wire::topic::leaf(*kind), code.as_str()));
        let with = all.map(|(topic, code)| {
            let count = core.metrics.rejected.get_or_create(&[("topic", topic), ("code", code)]).get();
            (topic, code, count)
        });
        with.filter(|(.., count)| *count > 0).collect()
    };
    let position = |seq| Position { epoch: NonZeroU32::MIN, seq };
    let message = |seq, content| {
        let changes = Changes { stream: "office".parse().unwrap(), at: position(seq), iat: None, content };
        let (received_at, receipt) = (at(0).wall, Receipt(seq));
        Input::Changes(ReceivedChanges { changes, evidence: Vec::new(), receipt, received_at })
    };
    core.input(issued(), at(0));
    assert_eq!(counted(&core), []);
    // At the link.
    let error = OpError::message(ErrorCode::BadSignature, "no");
    let (kind, received_at) = (MessageKind::Changes, at(0).wall);
    let (claimed_stream, claimed_at, claimed_jti, receipt) = (None, None, None, None);
    let rejected = RejectedMessage { kind, claimed_stream, claimed_at, claimed_jti, error, receipt, received_at };
    core.input(Input::Rejected(rejected), at(0));
    assert_eq!(counted(&core), [("changes", "bad_signature", 1)]);
    // For its content.
    core.input(message(2, Err(vec![OpError::message(ErrorCode::ForbiddenOp, "no")])), at(0));
    core.input(message(2, Err(vec![OpError::message(ErrorCode::ForbiddenOp, "no")])), at(0));
    assert_eq!(
        counted(&core),
        [("changes", "bad_signature", 1), ("changes", "forbidden_op", 1)],
        "a duplicate is not counted"
    );
    // For its number, also those that have no event of their own.
    for _ in 0..100 {
        core.input(message(5_000_000, Ok(Vec::new())), at(0));
    }
    let head =
        Head { stream: "office".parse().unwrap(), at: position(5_000_000), iat: None, cards: 0, digest: String::new() };
    core.input(Input::Head(head), at(0));
    core.input(Input::Report { portal: "gate-99".into(), report: PortalReport::default() }, at(0));
    // And of a snapshot, once it is whole.
    let head = SnapshotHead {
        stream: "office".parse().unwrap(),
        id: "s1".to_owned(),
        at: position(3),
        parts: 1,
        cards: 7,
        allow_shrink: false,
    };
    let part = SnapshotPart { head, iat: None, part: 0, entries: Ok(Vec::new()) };
    let (receipt, received_at) = (Receipt(9), at(0).wall);
    core.input(Input::SnapshotPart(ReceivedPart { part, evidence: Vec::new(), receipt, received_at }), at(0));
    for _ in 0..100 {
        core.work_in_background(at(0));
    }
    let mut all = counted(&core);
    all.sort_unstable();
    let expected = [
        ("changes", "bad_signature", 1),
        ("changes", "forbidden_op", 1),
        ("changes", "implausible", 100),
        ("head", "implausible", 1),
        ("snapshot", "count_mismatch", 1),
        ("state", "unknown_portal", 1),
    ];
    assert_eq!(all, expected);
}
