//! Serial lines out of step: answers that come too late are nobody else's, and a line that never falls silent is reported it.

use super::super::late::LATE_MS_MIN;
use super::cable::{CALM, Cable};
use super::*;

/// How long a reply may take on these lines, in milliseconds.
const TIMEOUT_MS: u32 = 60;

/// A box with a reader for each of two slots, each read by a request of its own: alike but for their addresses.
pub const TWO_POLLS: &str = r#"
schema = 1
id = "two-polls"
source = "a test"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
reply_ms = 60
[points]
left = { space = "input", address = 0, type = "bytes", registers = 2 }
right = { space = "input", address = 100, type = "bytes", registers = 2 }
[[poll]]
name = "left"
every_ms = 50
points = ["left"]
[[poll]]
name = "right"
every_ms = 70
points = ["right"]
[[reader]]
id = "left"
trigger = { level = "uid" }
uid = { point = "left", length = 4, order = "msb_first" }
gone_ms = 100
[[reader]]
id = "right"
trigger = { level = "uid" }
uid = { point = "right", length = 4, order = "msb_first" }
gone_ms = 100
"#;

/// Counts the late answers of unit 5.
#[derive(Default)]
struct Counting(std::sync::atomic::AtomicUsize);

impl Observer for Counting {
    fn request(&self, _: &str, _: Outcome, _: Duration) {}

    fn late(&self, bus: &str, unit: u8) {
        assert_eq!((bus, unit), ("riser", 5));
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn bus_on(cable: &Cable) -> BusSpec {
    BusSpec::new("riser", LineSpec::Memory(cable.clone()), TIMEOUT_MS)
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_always_slow_never_has_the_answer_to_one_poll_taken_for_that_to_another() {
    let profile = Arc::new(crate::profile::read(TWO_POLLS).unwrap());
    for slow_ms in (u64::from(TIMEOUT_MS) + 20..LATE_MS_MIN).step_by(10) {
        let line = Line::new([(5, Arc::clone(&profile))]);
        line.present(5, 0, uid(CARD));
        let cable = Cable::new(&line, Some(57_600), &CALM, |_| {});
        cable.slow(5, Duration::from_millis(slow_ms));
        let reader = Part { bus: "riser".into(), unit: 5, profile: Arc::clone(&profile), channel: 0 };
        let spec = ModbusPortalSpec {
            id: "portal".parse().unwrap(),
            kind: PortalKind::PowerBox,
            direction: None,
            reader: Some(reader),
            slots: 2,
            output: None,
            meter: None,
            inputs: None,
        };
        let (inbox, mut taken) = Inbox::new();
        let counting = Arc::new(Counting::default());
        let observer: Arc<dyn Observer> = Arc::<Counting>::clone(&counting);
        let running = start(vec![bus_on(&cable)], vec![spec], &inbox, &observer);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let mut received = Vec::new();
        while let Ok(input) = taken.urgent.try_recv().or_else(|_| taken.requests.try_recv()) {
            received.push(input);
        }
        let right = |i: &Input| match i {
            Input::Report { report, .. } => report.slot == 1 && report.card_present == Some(true),
            Input::Request(request) => request.slot == 1,
            _ => false,
        };
        assert!(!received.iter().any(right), "late by {slow_ms} ms: {received:?}");
        assert!(counting.0.load(std::sync::atomic::Ordering::Relaxed) > 0, "late by {slow_ms} ms, and not counted");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_sent_because_the_line_never_fell_silent_is_reported_as_not_sent() {
    let (line, _) = boxes(1);
    let cable = Cable::new(&line, Some(9600), &CALM, |_| {});
    let (bus, task) = task::open(bus_on(&cable), &HashMap::from([(21, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    let off = || bus.call(21, Request::WriteCoil { address: 0, value: 0 }, Priority::Cut, None);
    assert!(off().await.is_ok());
    let received = line.received().len();
    cable.babble(true);
    let error = timeout(Duration::from_secs(30), off()).await.expect("it waits for the line for ever").unwrap_err();
    assert!(matches!(error, bus::BusError::Offline(_)), "{error:?}");
    assert!(error.to_string().starts_with("not sent: ") && error.to_string().contains("does not fall silent"));
    assert_eq!(line.received().len(), received, "it was sent");
    cable.babble(false);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(off().await.is_ok(), "it is not back");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_waited_too_long_for_the_line_to_fall_silent_is_not_sent() {
    let (line, _) = boxes(1);
    let cable = Cable::new(&line, Some(2_400), &CALM, |_| {});
    let (bus, task) = task::open(bus_on(&cable), &HashMap::from([(21, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    let on = |deadline| bus.call(21, Request::WriteCoil { address: 0, value: 0xFF00 }, Priority::Release, deadline);
    assert!(on(None).await.is_ok());
    let received = line.received().len();
    cable.babble(true);
    let (noise, late) = (Duration::from_millis(60), Instant::now() + Duration::from_millis(40));
    let ((), reported) = tokio::join!(
        async {
            tokio::time::sleep(noise).await;
            cable.babble(false);
        },
        on(Some(late))
    );
    assert_eq!(reported.unwrap_err(), bus::BusError::Expired);
    assert_eq!(line.received().len(), received, "it was sent");
    assert!(on(None).await.is_ok(), "the line goes on");
}

#[tokio::test(start_paused = true)]
async fn a_late_echo_that_names_no_value_never_confirms_another_write() {
    const SLOW_MS: u64 = 150;
    let (line, _) = boxes(1);
    let cable = Cable::new(&line, Some(57_600), &CALM, |_| {});
    let (bus, task) = task::open(bus_on(&cable), &HashMap::from([(21, Duration::ZERO)]), Arc::new(()));
    tokio::spawn(task);
    let write = |on| bus.call(21, Request::WriteCoils { address: 0, on: vec![on] }, Priority::Cut, None);
    cable.slow(21, Duration::from_millis(SLOW_MS));
    let first = write(true).await.unwrap_err();
    assert!(matches!(first, bus::BusError::Unknown(_)), "{first:?}");
    let asked = Instant::now();
    let second = write(false).await;
    assert!(asked.elapsed() < Duration::from_millis(SLOW_MS), "the first echo did not come meanwhile");
    let second = second.expect_err("the first write's echo was taken for the second's");
    assert!(second.to_string().contains("may be that of an earlier write"), "{second}");
}
