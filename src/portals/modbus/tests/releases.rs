//! What becomes of a release: confirmed or reported as failed, never late, and never twice.

use std::sync::Mutex;

use super::*;
use crate::access::portal::Posture;
use crate::portals::modbus::Released;
use crate::profile::{Confirm, Output};

/// A board whose pulses the gateway times.
const BY_GATEWAY: &str = "lc-tech-relay-8ch";
const PULSE_3_S: Request = Request::WriteCoil { address: 0x0200, value: 30 };
const ON: Request = Request::WriteCoil { address: 0, value: 0xFF00 };

/// How releases ended.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<Vec<Released>>>);

impl Counts {
    fn all(&self) -> Vec<Released> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Counts {
    fn release(&self, _: &Part, how: Released) {
        self.0.lock().unwrap().push(how);
    }
}

/// A portal whose relay is channel 0 of unit 7, by this profile; on a line in memory.
async fn portal_of(kind: PortalKind, id: &str, change: impl FnOnce(&mut Output)) -> (Rig, Counts) {
    let mut output = part(7, id, 0);
    let Part::Modbus(of) = &mut output else { panic!("a relay on the line") };
    change(Arc::make_mut(&mut of.profile).output.as_mut().unwrap());
    let specs = vec![portal("portal", kind, output.clone(), output)];
    let (line, counts) = (devices(&specs), Counts::default());
    let rig = Rig::with(bus_on(&Cable::new(&line, Some(38_400))), &line, specs, counts.clone(), |_| None);
    rig.online().await;
    (rig, counts)
}

async fn box_of(change: impl FnOnce(&mut Output)) -> (Rig, Counts) {
    portal_of(PortalKind::PowerBox, RELAYS, change).await
}

async fn door_of(id: &str, change: impl FnOnce(&mut Output)) -> Rig {
    portal_of(PortalKind::Door, id, change).await.0
}

fn switched(on: bool) -> impl Fn(&Input) -> bool {
    report(move |r| r.relay == Some(on))
}

fn echo_only(output: &mut Output) {
    output.confirm = Confirm::Echo { because: "a test".into() };
    output.retry = 10;
}

/// Whether the gateway retries, and how often: the row names what the board does and how many requests it received for one release.
#[tokio::test(start_paused = true)]
async fn a_release_that_is_not_confirmed_is_reported_and_sent_no_more_often_than_the_profile_allows() {
    type Case = (&'static str, fn(&mut Output), Fault, &'static str, Request, usize);
    let cases: [Case; 4] = [
        // The device took the pulse and does not show it.
        (RELAYS, |_| {}, Fault::StuckRelay, "after it took the pulse", PULSE_3_S, 1),
        // It cannot be read back: the pulse may have been done.
        (RELAYS, echo_only, Fault::Silent, "no answer", PULSE_3_S, 1),
        (BY_GATEWAY, |output| output.retry = 0, Fault::StuckRelay, "after it was switched on", ON, 1),
        (BY_GATEWAY, |output| output.retry = 3, Fault::StuckRelay, "after it was switched on", ON, 4),
    ];
    for (id, change, fault, why, sent, times) in cases {
        let rig = door_of(id, change).await;
        rig.line.fault(7, fault);
        rig.release("portal", 3000);
        rig.receives(1, failed(why)).await;
        assert_eq!(rig.received(&sent).len(), times, "{id}, {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_device_acknowledges_is_read_back_and_not_sent_again() {
    for (id, sent) in [(RELAYS, PULSE_3_S), (BY_GATEWAY, ON)] {
        let rig = door_of(id, |_| {}).await;
        rig.line.fault(7, Fault::Acknowledges);
        rig.release("portal", 3000);
        rig.relay(7, 0, true).await;
        rig.relay(7, 0, false).await;
        sleep(ms(5000)).await;
        assert_eq!(rig.received(&sent).len(), 1, "{id}");
        assert_eq!(rig.count(failed("")) + rig.count(alarm(AlarmKind::UnconfirmedRevocation, "")), 0, "{id}");
        assert_eq!(rig.count(report(|r| r.online == Some(false))), 0, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pulse_that_never_arrived_is_sent_again() {
    let rig = door_of(RELAYS, |_| {}).await;
    rig.line.fault(7, Fault::Silent);
    rig.release("portal", 3000);
    // The device wakes after the first pulse was lost.
    while rig.received(&PULSE_3_S).is_empty() {
        sleep(ms(1)).await;
    }
    rig.line.fault(7, Fault::None);
    rig.relay(7, 0, true).await;
    assert_eq!(rig.received(&PULSE_3_S).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_given_up_at_its_deadline_reported_and_never_comes_late() {
    let quick = |output: &mut Output| (output.deadline_ms, output.retry) = (700, 10);
    let rig = door_of(BY_GATEWAY, quick).await;
    rig.line.fault(7, Fault::StuckRelay);
    let begun = Instant::now();
    rig.release("portal", 3000);
    rig.receives(1, failed("within 700 ms")).await;
    assert!((ms(700)..ms(750)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let sent = rig.received(&ON);
    assert!(sent.iter().all(|at| *at <= begun + ms(700)));
    rig.line.fault(7, Fault::None);
    rig.relay_stays(7, 0, false).await;
    assert_eq!(rig.received(&ON), sent);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_tried_however_few_tries_and_little_time_a_release_gets() {
    let quick = |output: &mut Output| (output.deadline_ms, output.retry) = (400, 0);
    let rig = door_of(BY_GATEWAY, quick).await;
    rig.release("portal", 1000);
    rig.relay(7, 0, true).await;
    rig.line.fault(7, Fault::StuckRelay);
    // The pulse is over, and the relay stays on.
    let unconfirmed = |i: &Input| matches!(i, Input::Alarm { kind: AlarmKind::UnconfirmedRevocation, portal: Some(p), .. } if p.as_str() == "portal");
    rig.receives(1, unconfirmed).await;
    sleep(Duration::from_secs(60)).await;
    assert!(rig.line.relay(7, 0));
    rig.line.fault(7, Fault::None);
    rig.relay(7, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_releases_at_once_the_second_one_counts_for_both() {
    let rig = door_of(BY_GATEWAY, |_| {}).await;
    rig.release("portal", 1000);
    rig.release("portal", 2000);
    rig.relay(7, 0, true).await;
    let begun = Instant::now();
    rig.relay(7, 0, false).await;
    assert!(begun.elapsed() > ms(1900), "{:?}", begun.elapsed());
    assert_eq!(rig.count(|i| matches!(i, Input::Alarm { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn a_busy_relay_is_asked_again_until_the_deadline_and_not_after_it() {
    for (id, code) in [("lc-tech-relay-8ch", 6), (RELAYS, 6)] {
        let rig = door_of(id, |_| {}).await;
        let releases =
            || rig.writes(0).into_iter().filter(|r| !matches!(r, Request::WriteCoil { value: 0, .. })).count();
        rig.line.fault(7, Fault::Refuses(code));
        rig.release("portal", 1000);
        sleep(ms(700)).await;
        assert!(releases() > 4, "a busy relay consumed a try of {id}: {:?}", rig.writes(0));
        rig.line.fault(7, Fault::None);
        rig.relay(7, 0, true).await;
        rig.relay(7, 0, false).await;
        assert_eq!(rig.count(failed("")), 0);
        rig.line.fault(7, Fault::Refuses(code));
        rig.release("portal", 1000);
        rig.receives(1, failed("not confirmed within 1500 ms")).await;
        assert_eq!(rig.count(report(|r| r.online == Some(false))), 0, "{id}: busy is not broken");
        let sent = releases();
        rig.line.fault(7, Fault::None);
        rig.relay_stays(7, 0, false).await;
        assert_eq!(releases(), sent, "{id}: sent after the deadline");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pulse_that_a_device_shows_in_its_next_cycle_is_confirmed_and_sent_once() {
    let (rig, counts) = portal_of(PortalKind::Door, RELAYS, |_| {}).await;
    rig.line.fault(7, Fault::StuckRelay);
    rig.release("portal", 3000);
    while rig.received(&PULSE_3_S).is_empty() {
        sleep(ms(1)).await;
    }
    sleep(ms(350)).await;
    rig.line.force(7, 0, true);
    sleep(ms(1000)).await;
    assert_eq!(rig.received(&PULSE_3_S).len(), 1);
    assert_eq!(counts.all(), [Released::Confirmed]);
}

#[tokio::test(start_paused = true)]
async fn each_release_that_failed_is_reported_and_the_next_that_is_confirmed() {
    for id in [RELAYS, BY_GATEWAY] {
        let rig = door_of(id, |_| {}).await;
        rig.release("portal", 3000);
        rig.relay(7, 0, true).await;
        rig.relay(7, 0, false).await;
        rig.line.fault(7, Fault::StuckRelay);
        for times in 1..=2 {
            rig.release("portal", 3000);
            rig.receives(times, failed("the relay reads off")).await;
            let ended = rig.count(|input| matches!(input, Input::Released { .. }));
            assert_eq!(ended, times, "{id}: nothing of the one before, which was confirmed");
        }
        rig.line.fault(7, Fault::None);
        rig.release("portal", 3000);
        rig.receives(1, |input| matches!(input, Input::Released { failed: None, .. })).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_box_that_could_not_be_switched_on_is_switched_off_and_reports_that_it_is_off() {
    let (rig, counts) = box_of(|_| {}).await;
    rig.cut("portal");
    sleep(ms(2000)).await;
    let (before, off) = (rig.line.received().len(), rig.count(switched(false)));
    rig.line.fault(7, Fault::StuckRelay);
    rig.energise("portal");
    rig.receives(1, failed("the relay reads off after it was switched on")).await;
    // The gateway counts it as on.
    rig.receives(off + 1, switched(false)).await;
    assert_eq!(rig.writes(before), [ON, ON, ON, coil(0, false)]);
    assert_eq!(counts.all(), [Released::Failed]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_supersedes_a_release_and_the_grant_that_waits_for_off() {
    let (rig, counts) = box_of(|_| {}).await;
    let relays = || -> Vec<bool> {
        let relay = |input: &Input| if let Input::Report { report, .. } = input { report.relay } else { None };
        rig.received.borrow().iter().filter_map(relay).collect()
    };
    sleep(ms(2000)).await;
    let before = relays().len();
    rig.energise("portal");
    rig.cut("portal");
    rig.energise("portal");
    rig.energise("portal");
    rig.receives(1, switched(true)).await;
    assert_eq!(relays()[before..], [false, true], "off comes first");
    assert_eq!(counts.all(), [Released::Superseded, Released::Superseded, Released::Confirmed]);
}

#[tokio::test(start_paused = true)]
async fn a_box_that_does_not_go_off_is_an_alarm_and_the_grant_that_waits_for_that_fails_in_time() {
    let (rig, _) = box_of(|_| {}).await;
    rig.energise("portal");
    rig.receives(1, switched(true)).await;
    rig.line.fault(7, Fault::StuckRelay);
    rig.cut("portal");
    rig.energise("portal");
    let unconfirmed = alarm(AlarmKind::UnconfirmedRevocation, "");
    rig.receives(1, failed("could not be switched off first")).await;
    assert_eq!(rig.count(&unconfirmed), 0);
    rig.receives(1, &unconfirmed).await;
    let off = rig.count(switched(false));
    rig.line.fault(7, Fault::None);
    rig.receives(off + 1, switched(false)).await;
}

#[tokio::test(start_paused = true)]
async fn a_box_that_was_not_switched_on_raises_no_alarm_of_a_revocation_until_it_is_cut() {
    let (rig, _) = box_of(|_| {}).await;
    rig.line.fault(7, Fault::Refuses(6));
    rig.energise("portal");
    rig.receives(1, failed("not confirmed within")).await;
    sleep(Duration::from_secs(60)).await;
    let unconfirmed = alarm(AlarmKind::UnconfirmedRevocation, "");
    assert_eq!(rig.count(&unconfirmed), 0, "nothing was revoked");
    rig.cut("portal");
    rig.receives(1, &unconfirmed).await;
    rig.line.fault(7, Fault::None);
    rig.relay_stays(7, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_box_that_falls_silent_fails_what_was_not_confirmed_and_is_not_switched_on_when_it_is_back() {
    let (rig, _) = box_of(|output| (output.deadline_ms, output.retry) = (20_000, 100)).await;
    rig.line.fault(7, Fault::Refuses(6));
    rig.energise("portal");
    sleep(ms(50)).await;
    rig.line.fault(7, Fault::Silent);
    rig.receives(1, failed("fell silent")).await;
    let sent = rig.received(&ON).len();
    rig.line.fault(7, Fault::None);
    rig.receives(2, report(|r| r.online == Some(true))).await;
    rig.relay_stays(7, 0, false).await;
    assert_eq!(rig.received(&ON).len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_release_under_way_has_failed_when_the_gateway_stops() {
    let (rig, counts) = box_of(|_| {}).await;
    rig.line.fault(7, Fault::Refuses(6));
    rig.energise("portal");
    sleep(ms(50)).await;
    rig.running.stop().await;
    assert_eq!(counts.all(), [Released::Failed]);
}

fn withdraw(rig: &Rig) {
    rig.order("portal", PortalOrder::Withdraw { portal: "portal".parse().unwrap(), reason: "replaced" });
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_not_confirmed_when_it_is_withdrawn_is_tried_no_more_and_ordered_off() {
    for (id, sent) in [(RELAYS, PULSE_3_S), (BY_GATEWAY, ON)] {
        for fault in [Fault::Refuses(6), Fault::Silent] {
            let (rig, counts) = portal_of(PortalKind::Door, id, |_| {}).await;
            rig.line.fault(7, fault);
            rig.release("portal", 3000);
            while rig.received(&sent).is_empty() {
                sleep(ms(1)).await;
            }
            let before = rig.received(&coil(0, false)).len();
            withdraw(&rig);
            sleep(ms(10)).await;
            rig.line.fault(7, Fault::None);
            rig.relay_stays(7, 0, false).await;
            assert_eq!(rig.received(&sent).len(), 1, "{id}, {fault:?}");
            assert!(rig.received(&coil(0, false)).len() > before, "{id}, {fault:?}: it may have been done");
            assert_eq!(counts.all(), [Released::Superseded], "{id}, {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_confirmed_when_it_is_withdrawn_runs_out_and_a_mode_goes_on() {
    for id in [RELAYS, BY_GATEWAY] {
        let rig = door_of(id, |_| {}).await;
        rig.release("portal", 3000);
        rig.relay(7, 0, true).await;
        let begun = Instant::now();
        sleep(ms(500)).await;
        withdraw(&rig);
        rig.relay(7, 0, false).await;
        assert!(begun.elapsed() > ms(2900), "{id}: {:?}", begun.elapsed());
        rig.order("portal", PortalOrder::Mode { portal: "portal".parse().unwrap(), posture: Posture::Fire });
        withdraw(&rig);
        rig.relay(7, 0, true).await;
        rig.relay_stays(7, 0, true).await;
    }
}
