//! What the store reports: the readiness, alarms, and whether the broker waits for acknowledgements.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::access::change::ErrorCode;
use crate::access::event::{AlarmKind, AuditEvent, Event, Flush, Record, StreamRevision};
use crate::access::input::Input;
use crate::gateway::owner::tests::{at, core};
use crate::gateway::ports::{Part, UplinkOrder};
use crate::store::StoreEvent;

#[test]
fn a_start_on_a_disk_that_cannot_be_written_and_the_first_failed_write_are_one_alarm() {
    let (mut core, _orders) = core();
    let issue = crate::store::RecoveryIssue::NotWritable { why: "Read-only file system (os error 30)".to_owned() };
    let before = core.engine().status(at(0)).alarms.len();
    core.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail: issue.to_string() }, at(0));
    core.store_event(StoreEvent::Failing { issue }, at(20));
    assert_eq!(core.engine().status(at(20)).alarms.len() - before, 1);
    core.store_event(StoreEvent::Recovered, at(40));
    assert_eq!(core.engine().status(at(40)).alarms.len(), before);
}

#[test]
fn a_disk_that_does_not_answer_is_no_ready_gateway_until_something_is_durable_again() {
    let (mut core, _orders) = core();
    let readiness = core.readiness();
    readiness.ready(Part::Gateway);
    let durable = || StoreEvent::Durable { through: 1, took: Duration::ZERO };
    core.store_event(StoreEvent::Stalled { for_ms: 2_000 }, at(0));
    let why = readiness.reasons();
    why.iter().for_each(|why| crate::chinese::is_in_chinese(why));
    assert!(matches!(&why[..], [why] if why.contains("2000 ms") && why.contains("dmesg")), "{why:?}");
    core.store_event(durable(), at(10));
    assert_eq!(readiness.reasons(), Vec::<String>::new());
    // What fails beside it still does.
    let issue = crate::store::RecoveryIssue::CursorNotWritten { why: "no space".to_owned() };
    core.store_event(StoreEvent::Failing { issue }, at(20));
    core.store_event(StoreEvent::Stalled { for_ms: 2_000 }, at(30));
    core.store_event(durable(), at(40));
    assert_eq!(readiness.reasons().len(), 1);
    core.store_event(StoreEvent::Recovered, at(50));
    assert_eq!(readiness.reasons(), Vec::<String>::new());
}

#[test]
fn of_two_things_that_cannot_be_written_both_are_named_the_graver_first() {
    use crate::store::RecoveryIssue;
    let cursor = || RecoveryIssue::CursorNotWritten { why: "no space".to_owned() };
    let journal = || RecoveryIssue::NotWritable { why: "no space".to_owned() };
    for issues in [[journal(), cursor()], [cursor(), journal()]] {
        let (mut core, mut orders) = core();
        let readiness = core.readiness();
        readiness.ready(Part::Gateway);
        while orders.try_recv().is_ok() {}
        issues.into_iter().for_each(|issue| core.store_event(StoreEvent::Failing { issue }, at(20)));
        let mut taken = || {
            let all = std::iter::from_fn(|| orders.try_recv().ok());
            let modes = all.filter_map(|order| match order {
                UplinkOrder::Unacknowledged(yes) => Some(yes),
                _ => None,
            });
            modes.collect::<Vec<_>>()
        };
        let why = readiness.reasons().concat();
        let (first, second) = (why.find("nothing is acknowledged"), why.find("acknowledgements go on"));
        assert!(first.is_some() && second.is_some() && first < second, "{why}");
        assert_eq!(taken(), [true]);
        core.store_event(StoreEvent::Durable { through: 1, took: Duration::ZERO }, at(30));
        assert_eq!(readiness.reasons(), [cursor().to_string()]);
        assert_eq!(taken(), [false]);
        core.store_event(StoreEvent::Recovered, at(40));
        assert_eq!((readiness.reasons(), taken()), (Vec::new(), Vec::new()));
    }
}

#[test]
fn only_messages_that_wait_for_the_disk_bring_the_acknowledgements_back() {
    let (mut core, mut orders) = core();
    let issue = crate::store::RecoveryIssue::NotWritable { why: "no space".to_owned() };
    core.store_event(StoreEvent::Failing { issue }, at(0));
    let mut last = None;
    let mut taken = |orders: &mut mpsc::Receiver<UplinkOrder>| {
        while let Ok(order) = orders.try_recv() {
            if let UplinkOrder::Unacknowledged(yes) = order {
                last = Some(yes);
            }
        }
        last
    };
    // A day of a house: the queue takes them, and drops what does not fit.
    let event =
        |n, body| Record { event: AuditEvent::new(n, "b1", at(0), body), flush: Flush::Soon, evidence: Vec::new() };
    let daily = |n| event(n, Event::PortalOnline { portal: "gate-in".parse().unwrap(), detail: String::new() });
    core.unwritten = (1..=20_000).map(daily).collect();
    core.flush(at(1_000));
    assert_eq!(taken(&mut orders), Some(true));
    let change = |n| Record {
        evidence: vec![0; 200 * 1024],
        flush: Flush::Now,
        ..event(
            n,
            Event::RejectedMessage {
                code: ErrorCode::InvalidField,
                used_up: Some(StreamRevision { stream: "office".parse().unwrap(), epoch: NonZeroU32::MIN, seq: n }),
                count: 0,
                detail: String::new(),
            },
        )
    };
    core.unwritten = (20_001..=20_320).map(change).collect();
    core.flush(at(2_000));
    assert_eq!(taken(&mut orders), Some(true), "62 MiB");
    core.unwritten = (20_321..=20_340).map(change).collect();
    core.flush(at(3_000));
    assert_eq!(taken(&mut orders), Some(false), "66 MiB");
}
