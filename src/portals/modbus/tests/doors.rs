//! Doors and gates: releases by a card, and what contacts, buttons and turnstiles report.

use super::*;
use crate::access::portal::Direction;
use crate::access::portal::Posture;
use crate::profile::{InputKind, Trigger};

#[tokio::test(start_paused = true)]
async fn a_door_is_released_by_one_pulse_that_the_device_ends() {
    for baud in [None, Some(19_200)] {
        let rig = Rig::on(&devices(&[door()]), baud, vec![door()], &[OTHER]);
        rig.online().await;
        // The latch was released, so the same card opens again.
        for times in 1..=2 {
            rig.line.present(9, 0, uid(OTHER));
            rig.relay(21, 7, true).await;
            rig.relay(21, 7, false).await;
            assert_eq!(rig.requests(), times);
        }
        let pulses = rig.writes(0).into_iter().filter(|r| matches!(r, Request::WriteCoil { address: 0x0207, .. }));
        assert_eq!(pulses.collect::<Vec<_>>(), vec![Request::WriteCoil { address: 0x0207, value: 10 }; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_latch_that_is_not_released_opens_its_door_once_and_takes_the_portal_offline() {
    let rig = Rig::new(vec![door()], &[OTHER]).await;
    // It confirms every write and does none.
    rig.line.fault(9, Fault::StuckRelay);
    rig.line.present(9, 0, uid(OTHER));
    rig.relay(21, 7, true).await;
    rig.relay(21, 7, false).await;
    let offline = |r: &PortalReport| r.online == Some(false) && r.output_online == Some(true);
    rig.reports(|r| {
        offline(r)
            && r.cause
                .as_ref()
                .is_some_and(|why| why.starts_with("unit 9 on `riser`: the latch of the reader does not clear"))
    })
    .await;
    rig.relay_stays(21, 7, false).await;
    assert_eq!(rig.requests(), 1);
    let written = rig.received(&Request::WriteRegister { address: 1000, value: 0 }).len();
    assert!((4..40).contains(&written), "the release was written {written} times");
    let online = rig.count(report(|r| r.online == Some(true)));
    rig.line.fault(9, Fault::None);
    rig.receives(online + 1, report(|r| r.online == Some(true))).await;
    sleep(ms(1000)).await;
    rig.line.present(9, 0, uid(OTHER));
    rig.relay(21, 7, true).await;
}

#[tokio::test(start_paused = true)]
async fn the_contact_of_a_portal_whose_latch_does_not_clear_answers_until_its_device_is_silent() {
    let spec = with(door(), |parts| parts.inputs = Some(part(5, "generic-contacts", 3)));
    let rig = Rig::new(vec![spec], &[]).await;
    let offline = |contact_answers| {
        report(move |r: &PortalReport| r.online == Some(false) && r.contact_answers == contact_answers)
    };
    rig.line.fault(9, Fault::StuckRelay);
    rig.line.present(9, 0, uid(OTHER));
    rig.receives(1, offline(true)).await;
    assert_eq!(rig.count(offline(false)), 0);
    rig.line.fault(5, Fault::Silent);
    rig.receives(1, offline(false)).await;
}

#[tokio::test(start_paused = true)]
async fn a_latch_whose_release_is_refused_opens_once_and_takes_the_portal_offline_with_the_cause() {
    let spec = with(door(), |parts| {
        let Part::Modbus(reader) = &mut parts.reader else { panic!("a reader on the line") };
        let trigger = &mut Arc::make_mut(&mut reader.profile).readers[0].trigger;
        let Trigger::Latch { release, .. } = trigger else { panic!("a latch") };
        release.address = 5000;
    });
    let rig = Rig::on(&devices(&[door()]), None, vec![spec], &[]);
    rig.online().await;
    rig.line.present(9, 0, uid(OTHER));
    let why = ["the latch of the reader does not clear", "the device refuses: exception 2 (illegal data address)"];
    rig.reports(|r| r.cause.as_ref().is_some_and(|cause| why.iter().all(|why| cause.contains(why)))).await;
    assert_eq!(rig.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_does_not_fit_the_inbox_is_requested_again_and_its_reader_keeps_it() {
    let line = devices(&[door()]);
    let (inbox, mut taken) = Inbox::new();
    let observer: Arc<dyn Observer> = Arc::new(());
    let _running = start(&[bus_on(&Cable::new(&line, None))], &[door()], None, &inbox, &observer).unwrap();
    sleep(ms(1000)).await;
    let of_another = || Input::Report {
        portal: "another".into(),
        report: PortalReport { exit_button: true, ..PortalReport::default() },
    };
    while inbox.offer(of_another()) {}
    line.present(9, 0, uid(OTHER));
    sleep(ms(1000)).await;
    let released = || line.received().iter().any(|(_, _, r)| *r == Request::WriteRegister { address: 1000, value: 0 });
    let mut requests = || {
        let taken = std::iter::from_fn(|| Some(taken.requests.try_recv().ok()?.0));
        taken.filter(|input| matches!(input, Input::Request(_))).count()
    };
    assert!(!released(), "it was accepted and nobody was asked");
    assert_eq!(requests(), 0);
    sleep(ms(1000)).await;
    assert_eq!(requests(), 1);
    assert!(released());
}

#[tokio::test(start_paused = true)]
async fn a_door_controllers_card_contact_and_exit_button_are_received() {
    let rig = Rig::new(vec![whole(PortalKind::Door, "generic-door-controller", 0)], &[CARD]).await;
    rig.reports(|r| r.contact_open == Some(false)).await;
    rig.line.present(5, 0, uid(CARD));
    rig.receives(1, request_of(CARD)).await;
    rig.relay(5, 0, true).await;
    rig.line.input(5, InputKind::ContactOpen, 0, true);
    rig.reports(|r| r.contact_open == Some(true)).await;
    rig.relay(5, 0, false).await;
    rig.line.input(5, InputKind::ExitButton, 0, true);
    rig.reports(|r| r.exit_button).await;
    assert_eq!(rig.count(report(|r| r.exit_button && r.online.is_some())), 0);
    // The same card again is a new count, so a new request; and the first count was written back to the controller.
    rig.line.present(5, 0, uid(CARD));
    rig.relay(5, 0, true).await;
    assert_eq!(rig.requests(), 2);
    assert!(!rig.received(&Request::WriteRegister { address: 29, value: 1 }).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_converter_that_counts_reports_the_same_card_again() {
    let reader = part(8, "wiegand-converter", 0);
    let reading =
        Presented::Lossy(reader.modbus().unwrap().profile.readers[0].uid.transform().unwrap().read(uid(CARD)));
    let rig = Rig::new(vec![with(door(), |parts| parts.reader = reader)], &[]).await;
    for times in 1..=2 {
        rig.line.present(8, 0, uid(CARD));
        rig.receives(times, |i| matches!(i, Input::Request(r) if r.presented == reading)).await;
        assert_eq!(rig.requests(), times);
    }
}

#[tokio::test(start_paused = true)]
async fn the_contacts_of_a_door_may_be_on_a_module_of_their_own() {
    let spec = with(whole(PortalKind::Door, WHOLE, 0), |parts| parts.inputs = Some(part(9, "generic-contacts", 3)));
    let rig = Rig::new(vec![spec], &[]).await;
    // A simulated door is shut at first, also where that is a contact which is closed.
    rig.reports(|r| r.contact_open == Some(false)).await;
    assert_eq!(rig.count(report(|r| r.contact_open == Some(true))), 0);
    // The door beside it.
    rig.line.input(9, InputKind::ContactOpen, 2, true);
    rig.line.input(9, InputKind::ContactOpen, 3, true);
    rig.reports(|r| r.contact_open == Some(true)).await;
    rig.line.input(9, InputKind::ExitButton, 3, true);
    rig.reports(|r| r.exit_button).await;
}

#[tokio::test(start_paused = true)]
async fn a_button_held_down_while_the_gateway_starts_opens_nothing() {
    let spec = whole(PortalKind::Door, "generic-door-controller", 0);
    let line = devices(std::slice::from_ref(&spec));
    line.input(5, InputKind::ExitButton, 0, true);
    let rig = Rig::on(&line, None, vec![spec], &[]);
    rig.online().await;
    rig.reports(|r| r.contact_open == Some(false)).await;
    sleep(ms(5000)).await;
    assert_eq!(rig.count(report(|r| r.exit_button)), 0);
}

#[tokio::test(start_paused = true)]
async fn a_turnstile_reports_ways_passages_and_fire() {
    let rig = Rig::new(vec![whole(PortalKind::Gate, "generic-turnstile", 1)], &[CARD]).await;
    rig.reports(|r| r.fire == Some(false)).await;
    rig.line.present(5, 1, uid(CARD));
    rig.receives(1, |i| matches!(i, Input::Request(r) if r.direction == Some(Direction::Out))).await;
    rig.relay(5, 1, true).await;
    // Who goes in passes the other gate of this device.
    rig.line.input(5, InputKind::PassedIn, 0, true);
    for times in 1..=2 {
        rig.line.input(5, InputKind::PassedOut, 0, true);
        rig.receives(times, report(|r| r.passed == Some(Direction::Out))).await;
    }
    assert_eq!(rig.count(report(|r| r.passed == Some(Direction::In))), 0);
    rig.line.input(5, InputKind::Fire, 0, true);
    rig.reports(|r| r.fire == Some(true)).await;
}

#[tokio::test(start_paused = true)]
async fn each_of_two_gates_at_a_turnstile_reports_only_the_passages_of_its_own_direction() {
    let ways = [("in", 0, Direction::In), ("out", 1, Direction::Out)];
    let gates = ways.map(|(id, channel, way)| {
        let output = part(5, "generic-turnstile-contacts", channel);
        let mut gate = portal(id, PortalKind::Gate, output.clone(), output);
        gate.portal.direction = Some(way);
        gate
    });
    let rig = Rig::new(gates.to_vec(), &[]).await;
    for (id, ..) in ways {
        rig.receives(1, report_of(id, |r| r.fire == Some(false))).await;
    }
    rig.line.input(5, InputKind::PassedIn, 0, true);
    rig.line.input(5, InputKind::PassedOut, 0, true);
    for (id, _, way) in ways {
        rig.receives(1, report_of(id, |r| r.passed == Some(way))).await;
    }
    assert_eq!(rig.count(report(|r| r.passed.is_some())), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_switched_on_without_a_release_is_reported_and_left_to_the_gateway() {
    let rig = Rig::new(vec![door()], &[]).await;
    let closed = report(|r| r.relay == Some(false));
    rig.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture: Posture::Secure });
    // It is written off and read back.
    sleep(ms(2000)).await;
    let before = rig.writes(0);
    rig.line.force(21, 7, true);
    rig.reports(|r| r.relay == Some(true)).await;
    // Somebody may be leaving by a button of the device.
    rig.relay_stays(21, 7, true).await;
    assert_eq!(rig.writes(0), before);
    let times = rig.count(&closed) + 1;
    rig.order("door", PortalOrder::Lock { portal: "door".parse().unwrap() });
    rig.relay(21, 7, false).await;
    rig.receives(times, &closed).await;
}

#[tokio::test(start_paused = true)]
async fn a_mode_shuts_what_an_earlier_run_held_open_and_holds_a_door_open_across_a_card() {
    let line = devices(&[door()]);
    line.force(21, 7, true);
    let rig = Rig::on(&line, None, vec![door()], &[]);
    rig.online().await;
    let mode = |posture| rig.order("door", PortalOrder::Mode { portal: "door".parse().unwrap(), posture });
    let mut shut = 0;
    for (posture, on) in [(Posture::Secure, false), (Posture::Fire, true), (Posture::Lockdown, false)] {
        mode(posture);
        rig.relay(21, 7, on).await;
        if on {
            rig.release("door", 1000);
            rig.relay_stays(21, 7, true).await;
            rig.reports(|r| r.relay == Some(true)).await;
        } else {
            shut += 1;
            rig.receives(shut, report(|r| r.relay == Some(false))).await;
        }
    }
}
