//! What becomes of a release: confirmed or reported as failed, never late, and never twice.

use super::cable::{Cable, Weather};
use super::*;
use crate::profile::{Confirm, read};

const CALM: Weather = Weather { each_percent: 0, seed: 0 };

/// A door whose relay is channel 0 of unit 7, by this profile; on a line in memory.
fn door_of(profile: Profile) -> FakeGateway {
    let profile = Arc::new(profile);
    let line = Line::new([(7, Arc::clone(&profile))]);
    let output = Part { bus: "riser".into(), unit: 7, profile, channel: 0 };
    let spec = ModbusPortalSpec {
        id: "door".parse().unwrap(),
        kind: PortalKind::Door,
        direction: None,
        reader: None,
        slots: 1,
        output: Some(output),
        meter: None,
        inputs: None,
    };
    let cable = Cable::new(&line, Some(38_400), &CALM, |_| {});
    let bus = BusSpec::new("riser", LineSpec::Memory(cable), 200);
    FakeGateway::on(bus, line, vec![spec], &[])
}

fn with_output(id: &str, change: impl FnOnce(&mut crate::profile::Output)) -> Profile {
    let mut profile = shipped(id).unwrap();
    change(profile.output.as_mut().unwrap());
    profile
}

impl FakeGateway {
    fn release(&self, hold_ms: u32) {
        let grant = Grant::for_test("door".parse().unwrap(), None, Some(hold_ms));
        self.order("door", PortalOrder::Release { grant });
    }

    async fn release_fails(&self, why: &str) {
        self.receives(
            |i| matches!(i, Input::Alarm { kind: AlarmKind::PortalOffline, detail, .. } if detail.contains(why)),
        )
        .await;
    }

    fn pulses(&self, pulse: &Request) -> Vec<Instant> {
        self.line.received().into_iter().filter(|(_, _, r)| r == pulse).map(|(at, ..)| at).collect()
    }
}

const PULSE_3_S: Request = Request::WriteCoil { address: 0x0200, value: 30 };
const ON: Request = Request::WriteCoil { address: 0, value: 0xFF00 };

#[tokio::test(start_paused = true)]
async fn a_pulse_that_the_device_took_and_does_not_show_is_reported_and_not_sent_twice() {
    let fake = door_of(shipped("waveshare-relay-8ch").unwrap());
    fake.online().await;
    fake.line.fault(7, Fault::StuckRelay);
    fake.release(3000);
    fake.release_fails("the relay reads off after it took the pulse").await;
    assert_eq!(fake.pulses(&PULSE_3_S).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pulse_that_never_arrived_is_sent_again_as_often_as_the_profile_reports() {
    let fake = door_of(shipped("waveshare-relay-8ch").unwrap());
    fake.online().await;
    fake.line.fault(7, Fault::Silent);
    fake.release(3000);
    let line = fake.line.clone();
    // The device wakes after the first pulse was lost.
    while fake.pulses(&PULSE_3_S).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    line.fault(7, Fault::None);
    fake.relay(7, 0, true).await;
    assert_eq!(fake.pulses(&PULSE_3_S).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pulse_of_a_board_that_cannot_be_read_back_is_never_sent_twice() {
    let echo = |output: &mut crate::profile::Output| {
        output.confirm = Confirm::Echo { because: "a test".into() };
        output.retry = 10;
    };
    let fake = door_of(with_output("waveshare-relay-8ch", echo));
    fake.online().await;
    fake.line.fault(7, Fault::Silent);
    fake.release(3000);
    fake.release_fails("no answer within").await;
    assert_eq!(fake.pulses(&PULSE_3_S).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_is_given_up_at_its_deadline_reported_and_never_comes_late() {
    let quick = |output: &mut crate::profile::Output| {
        output.deadline_ms = 700;
        output.retry = 10;
    };
    let fake = door_of(with_output("lc-tech-relay-8ch", quick));
    fake.online().await;
    fake.line.fault(7, Fault::StuckRelay);
    let begun = Instant::now();
    fake.release(3000);
    fake.release_fails("not confirmed within 700 ms").await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_millis(750), "{took:?}");
    assert!(fake.pulses(&ON).iter().all(|at| *at <= begun + Duration::from_millis(700)));
    let sent = fake.pulses(&ON).len();
    fake.line.fault(7, Fault::None);
    assert!(!fake.line.wait_relay(7, 0, true, Duration::from_secs(10)).await, "it came late");
    assert_eq!(fake.pulses(&ON).len(), sent);
}

#[tokio::test(start_paused = true)]
async fn retry_reports_how_many_further_tries_there_are() {
    for retry in [0, 3] {
        let fake = door_of(with_output("lc-tech-relay-8ch", |output| output.retry = retry));
        fake.online().await;
        fake.line.fault(7, Fault::StuckRelay);
        fake.release(3000);
        fake.release_fails("the relay reads off after it was switched on").await;
        assert_eq!(fake.pulses(&ON).len(), usize::from(retry) + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_tried_however_few_tries_and_little_time_a_release_gets() {
    let text = include_str!("../../../../devices/lc-tech-relay-8ch.toml");
    let profile = read(&text.replace("state = \"relay\"", "state = \"relay\"\nretry = 0\ndeadline_ms = 400")).unwrap();
    let fake = door_of(profile);
    fake.online().await;
    fake.release(1000);
    fake.relay(7, 0, true).await;
    fake.line.fault(7, Fault::StuckRelay);
    // The pulse is over, and the relay stays on.
    fake.receives(|i| matches!(i, Input::Alarm { kind: AlarmKind::UnconfirmedRevocation, .. })).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    fake.line.fault(7, Fault::None);
    fake.relay(7, 0, false).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_releases_at_once_the_second_one_counts_for_both() {
    let fake = door_of(shipped("lc-tech-relay-8ch").unwrap());
    fake.online().await;
    fake.release(1000);
    fake.release(2000);
    fake.relay(7, 0, true).await;
    let begun = Instant::now();
    fake.relay(7, 0, false).await;
    assert!(begun.elapsed() > Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert!(!fake.received.borrow().iter().any(|i| matches!(i, Input::Alarm { .. })));
}
