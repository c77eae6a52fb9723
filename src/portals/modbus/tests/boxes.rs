//! Power boxes: cards that come, stay and leave; relays that follow an order, do not follow it, or move by themselves.

use super::*;
use crate::portals::modbus::STAGGER_MS;

const ON: Request = Request::WriteCoil { address: 0, value: 0xFF00 };

fn switched(on: bool) -> impl Fn(&Input) -> bool {
    report(move |r| r.relay == Some(on))
}

fn online(r: &PortalReport) -> bool {
    r.online == Some(true)
}

#[tokio::test(start_paused = true)]
async fn a_card_in_the_box_switches_on_and_its_leaving_switches_off_on_every_line() {
    for baud in [None, Some(19_200)] {
        let rig = Rig::on(&devices(&boxes(1)), baud, boxes(1), &[CARD]);
        rig.online().await;
        rig.line.present(1, 0, uid(CARD));
        rig.relay(21, 0, true).await;
        rig.receives(1, switched(true)).await;
        let off = rig.count(switched(false));
        rig.line.remove(1, 0);
        rig.relay(21, 0, false).await;
        rig.receives(off + 1, switched(false)).await;
        assert_eq!(rig.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_that_was_there_before_the_gateway_started_is_reported_and_opens_nothing() {
    let line = devices(&boxes(1));
    line.present(1, 0, uid(CARD));
    let rig = Rig::on(&line, None, boxes(1), &[CARD]);
    rig.reports(|r| r.card_present == Some(true) && r.uid == Some(shown(CARD))).await;
    rig.relay_stays(21, 0, false).await;
    assert_eq!(rig.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_card_exchanged_without_a_gap_is_off_before_the_new_one_is_judged() {
    const OTHER: &str = "04A1B2C3";
    for (allowed, writes) in [(&[CARD, OTHER][..], &[coil(0, false), ON][..]), (&[CARD], &[coil(0, false)])] {
        let rig = Rig::new(boxes(1), allowed).await;
        rig.line.present(1, 0, uid(CARD));
        rig.receives(1, switched(true)).await;
        let before = rig.line.received().len();
        rig.line.present(1, 0, uid(OTHER));
        rig.reports(|r| r.card_present == Some(false) && r.exchanged).await;
        rig.receives(1, request_of(OTHER)).await;
        sleep(ms(5000)).await;
        assert_eq!(rig.writes(before), writes);
        assert_eq!(rig.line.relay(21, 0), allowed.contains(&OTHER));
    }
}

#[tokio::test(start_paused = true)]
async fn each_slot_of_a_box_reports_its_own_card() {
    let spec = with(whole(PortalKind::PowerBox, "two-slots", 0), |parts| parts.slots = 2);
    let rig = Rig::new(vec![spec], &[CARD]).await;
    let empty = report(|r| r.card_present == Some(false) && r.slot == 1);
    rig.receives(1, &empty).await;
    for (slot, card) in [(1, CARD), (0, "04A1B2C3")] {
        rig.line.present(5, slot.into(), uid(card));
        rig.receives(1, |i| request_of(card)(i) && matches!(i, Input::Request(r) if r.slot == slot)).await;
    }
    let before = rig.count(&empty);
    rig.line.remove(5, 1);
    rig.receives(before + 1, &empty).await;
    assert_eq!(rig.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_reported_empty_only_when_the_other_reader_was_read_too() {
    // A reader that is never read keeps nobody's light on for ever.
    for (is_read, reported) in [(true, &[(1, true), (0, false)][..]), (false, &[(0, false)])] {
        let spec = with(whole(PortalKind::PowerBox, "two-slots", 0), |parts| {
            parts.slots = 2;
            let Part::Modbus(reader) = &mut parts.reader else { panic!("a reader on the line") };
            let polls = &mut Arc::make_mut(&mut reader.profile).polls;
            if !is_read {
                polls[1].reads = polls[0].reads.clone();
            }
        });
        let line = devices(std::slice::from_ref(&spec));
        line.present(5, 1, uid(CARD));
        let rig = Rig::on(&line, None, vec![spec], &[]);
        sleep(ms(6000)).await;
        let slot = |input: &Input| match input {
            Input::Report { report, .. } => report.card_present.map(|present| (report.slot, present)),
            _ => None,
        };
        let slots: Vec<_> = rig.received.borrow().iter().filter_map(slot).collect();
        assert_eq!(slots, reported);
    }
}

#[tokio::test(start_paused = true)]
async fn a_box_with_a_latch_that_is_set_again_is_on_as_long_as_the_card_lies_there() {
    let rig = Rig::new(vec![whole(PortalKind::PowerBox, "latch-box", 0)], &[CARD]).await;
    rig.reports(|r| r.card_present == Some(false)).await;
    rig.line.present(5, 0, uid(CARD));
    rig.relay(5, 0, true).await;
    // It is released and shown again many times meanwhile, and counts as one presentation.
    rig.relay_stays(5, 0, true).await;
    assert!(rig.received(&Request::WriteRegister { address: 0, value: 0 }).len() > 10);
    assert_eq!(rig.requests(), 1);
    rig.line.remove(5, 0);
    rig.relay(5, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn the_reading_of_a_lossy_reader_is_presented_stays_and_leaves_as_a_card_does() {
    let reader = part(8, "digits-reader", 0);
    let transform = reader.modbus().unwrap().profile.readers[0].uid.transform().unwrap();
    let reading = |card: &str| Presented::Lossy(transform.read(uid(card)));
    let spec = with(power_box(1), |parts| parts.reader = reader);
    let rig = Rig::new(vec![spec], &[]).await;
    rig.line.present(8, 0, uid("01230405"));
    rig.receives(1, |i| matches!(i, Input::Request(r) if r.presented == reading("01230405"))).await;
    // The reader is away for a while, and another card makes it report the same.
    rig.line.fault(8, Fault::Silent);
    rig.reports(|r| r.online == Some(false)).await;
    rig.line.present(8, 0, uid("12030405"));
    rig.line.fault(8, Fault::None);
    rig.reports(|r| r.card_present == Some(true) && r.uid == Some(reading("12030405"))).await;
    assert_eq!(reading("01230405"), reading("12030405"));
    let left = report(|r| r.card_present == Some(false));
    let before = rig.count(&left);
    rig.line.remove(8, 0);
    rig.receives(before + 1, &left).await;
}

#[tokio::test(start_paused = true)]
async fn a_meter_is_read_repeated_when_the_relay_moves_and_reported_as_shared_by_two_boxes() {
    let box_with_meter = whole(PortalKind::PowerBox, "generic-power-box", 0);
    let spec = with(box_with_meter, |parts| parts.meter = Some(parts.output.clone()));
    let line = devices(std::slice::from_ref(&spec));
    line.set_words(5, "power", &[0, 412]);
    line.set_words(5, "energy", &[0, 10340]);
    let rig = Rig::on(&line, None, vec![spec.clone()], &[]);
    let reading =
        |shared: bool| report(move |r| r.power_w.is_some_and(|w| (w - 41.2).abs() < 0.01) && r.shared_meter == shared);
    rig.receives(1, |i| reading(false)(i) && report(|r| r.energy_kwh.is_some_and(|e| (e - 103.4).abs() < 0.01))(i))
        .await;
    let before = rig.count(reading(false));
    rig.energise("portal");
    rig.receives(1, switched(true)).await;
    rig.receives(before + 1, reading(false)).await;
    let other = with(power_box(6), |of| of.meter = parts(&spec).meter.clone());
    let rig = Rig::on(&line, None, vec![spec, other], &[]);
    rig.receives(1, reading(true)).await;
    assert_eq!(rig.count(reading(false)), 0);
}

#[tokio::test(start_paused = true)]
async fn rooms_of_one_riser_are_switched_on_one_after_another_and_none_loses_its_turn() {
    let rig = Rig::new(boxes(8), &[]).await;
    let begun = Instant::now();
    (1..=8).for_each(|n| rig.energise(&format!("power-{n}")));
    for _ in 0..10 {
        sleep(ms(100)).await;
        rig.energise("power-8");
    }
    rig.relay(21, 7, true).await;
    assert!(begun.elapsed() < ms(8 * STAGGER_MS), "{:?}", begun.elapsed());
    let on: Vec<_> = (0..8).map(|n| rig.received(&coil(n, true))[0]).collect();
    assert!(on.windows(2).all(|pair| pair[1] - pair[0] >= ms(STAGGER_MS * 2 / 3)), "{on:?}");
}

#[tokio::test(start_paused = true)]
async fn a_grant_for_a_silent_relay_is_dropped_and_never_carried_out_late() {
    let rig = Rig::new(boxes(1), &[CARD]).await;
    rig.line.fault(21, Fault::Silent);
    rig.reports(|r| r.online == Some(false) && r.cause.is_some()).await;
    rig.line.present(1, 0, uid(CARD));
    rig.receives(1, failed("")).await;
    rig.line.fault(21, Fault::None);
    rig.receives(2, report(online)).await;
    rig.relay_stays(21, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_moves_by_itself_is_switched_off_again_or_left_off_to_the_gateway() {
    let rig = Rig::new(boxes(1), &[]).await;
    rig.cut("power-1");
    rig.receives(1, switched(false)).await;
    rig.line.force(21, 0, true);
    rig.relay(21, 0, false).await;
    // Ordered on, it is found off: reported, and on again only when that is ordered.
    rig.energise("power-1");
    rig.receives(1, switched(true)).await;
    let before = rig.count(switched(false));
    rig.line.force(21, 0, false);
    rig.receives(before + 1, switched(false)).await;
    rig.relay_stays(21, 0, false).await;
    let on = rig.count(switched(true));
    rig.energise("power-1");
    rig.receives(on + 1, switched(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_box_whose_relay_board_was_away_reports_again_who_is_in_it() {
    let rig = Rig::new(boxes(1), &[CARD]).await;
    rig.line.present(1, 0, uid(CARD));
    rig.receives(1, switched(true)).await;
    rig.line.fault(21, Fault::Silent);
    rig.reports(|r| r.online == Some(false)).await;
    let off = rig.count(switched(false));
    rig.line.reset(21);
    rig.line.fault(21, Fault::None);
    rig.receives(2, report(online)).await;
    rig.receives(off + 1, switched(false)).await;
    rig.receives(1, report(|r| r.card_present == Some(true) && r.uid == Some(shown(CARD)))).await;
    assert_eq!(rig.requests(), 1, "it was not presented again");
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_and_a_pulse_that_the_gateway_times_are_off_when_the_gateway_stops() {
    let whole_door = with(door(), |parts| parts.output = part(9, WHOLE, 0));
    for (spec, unit) in [(power_box(1), 21), (whole_door, 9)] {
        let (id, kind) = (spec.portal.id.to_string(), spec.portal.kind);
        let rig = Rig::new(vec![spec], &[]).await;
        if kind == PortalKind::PowerBox {
            rig.energise(&id);
            rig.relay(unit, 0, true).await;
            rig.cut(&id);
        } else {
            rig.release(&id, 60_000);
            rig.relay(unit, 0, true).await;
        }
        let begun = Instant::now();
        rig.running.stop().await;
        assert!(begun.elapsed() < ms(900), "it waited for the pulse");
        assert!(!rig.line.relay(unit, 0), "`{id}` is left on");
    }
}
