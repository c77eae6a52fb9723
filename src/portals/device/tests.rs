//! A portal on wiring in memory: its reaction to orders, to its device and to the readings of its readers. Time is paused.

mod latches;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::reader::{Accept, ReaderKind, ReaderTraits, Shows};
use super::*;
use crate::access::decision::Grant;
use crate::access::event::AlarmKind;
use crate::access::input::{Input, PortalReport, Presented};
use crate::access::portal::Posture;
use crate::gateway::ports::{Inbox, InboxReceiver, PortalOrder};

const LIMIT: Duration = Duration::from_secs(70);

/// One output in memory. What is set takes 10 ms.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Device>>);

#[derive(Default)]
struct Device {
    on: bool,
    /// The device ends pulses.
    times_pulses: bool,
    /// How the next sets end; after them they succeed.
    ends: VecDeque<NotSet>,
    /// What is set is acknowledged and not done.
    stuck: bool,
    /// What is set is read so much later.
    follows_after: Duration,
    sets: Vec<(Set, Instant)>,
    accepted: Vec<(u8, Accept)>,
    counts: Vec<Released>,
}

impl Memory {
    fn with<T>(&self, change: impl FnOnce(&mut Device) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn sets(&self) -> Vec<Set> {
        self.with(|device| device.sets.iter().map(|(set, _)| *set).collect())
    }
}

impl Wiring for Memory {
    async fn set(&self, set: Set, deadline: Option<Instant>) -> Result<Instant, NotSet> {
        assert!(deadline.is_none_or(|deadline| Instant::now() <= deadline), "{set:?} is late");
        let end = self.with(|device| {
            device.sets.push((set, Instant::now()));
            device.ends.pop_front()
        });
        sleep(Duration::from_millis(10)).await;
        match end {
            Some(error) => Err(error),
            None => {
                self.with(|device| device.on = if device.stuck { device.on } else { set != Set::Off });
                Ok(Instant::now())
            }
        }
    }

    async fn read_back(&self) -> Option<(bool, Instant)> {
        let shows = |device: &mut Device| {
            let is_shown = device.sets.last().is_none_or(|(_, at)| at.elapsed() >= device.follows_after);
            device.on && is_shown
        };
        Some((self.with(shows), Instant::now()))
    }

    fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        self.with(|device| device.times_pulses).then_some(hold_ms)
    }

    fn accept_next(&self, slot: u8, accept: Accept) {
        self.with(|device| device.accepted.push((slot, accept)));
    }

    fn count(&self, how: Released) {
        self.with(|device| device.counts.push(how));
    }

    fn place(&self, _: Option<u8>) -> Place {
        Place::default()
    }
}

struct Rig {
    orders: mpsc::Sender<PortalOrder>,
    events: mpsc::Sender<Event>,
    wiring: Memory,
    taken: InboxReceiver,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Rig {
    fn start(kind: PortalKind, readers: &[ReaderKind], wiring: Memory) -> Self {
        let (orders, ordered) = mpsc::channel(8);
        let (events, received) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        crate::portals::modbus::tests::logs::install();
        let (inbox, taken) = Inbox::new();
        let traits = |kind: &ReaderKind| ReaderTraits { kind: *kind, gone_ms: 100, direction: None };
        let output = OutputTraits {
            source: 0,
            deadline_ms: 1500,
            retry: 2,
            settle_ms: 0,
            reads_back: true,
            ends_by_gateway: !wiring.with(|device| device.times_pulses),
            stagger: Arc::default(),
        };
        let parts = Parts {
            id: "portal".parse().unwrap(),
            kind,
            sources: vec![Source { polled: true }],
            readers: readers.iter().map(|kind| (0, traits(kind))).collect(),
            contacts: vec![(0, InputKind::ContactOpen)],
            meter: Some((0, false)),
            output,
            wiring: wiring.clone(),
        };
        let running = tokio::spawn(Portal::new(parts, inbox).run(ordered, received, stopped));
        Self { orders, events, wiring, taken, stop, running }
    }

    fn of(kind: PortalKind) -> Self {
        Self::start(kind, &[], Memory::default())
    }

    async fn order(&self, order: PortalOrder) {
        self.orders.send(order).await.unwrap();
    }

    fn grant(hold_ms: Option<u32>) -> Grant {
        Grant::for_test("portal".parse().unwrap(), None, hold_ms)
    }

    async fn energise(&self) {
        self.order(PortalOrder::Energise { grant: Self::grant(None), announced: false }).await;
    }

    async fn release(&self, hold_ms: u32) {
        self.order(PortalOrder::Release { grant: Self::grant(Some(hold_ms)) }).await;
    }

    async fn cut(&self) {
        self.order(PortalOrder::Cut { portal: "portal".parse().unwrap(), reason: "card_left" }).await;
    }

    async fn read(&self, readings: Vec<Reading>) {
        self.events.send(Event::Read { source: 0, readings, at: Instant::now() }).await.unwrap();
    }

    async fn state(&self, state: SourceState) {
        self.events.send(Event::Source { source: 0, state }).await.unwrap();
    }

    /// What is reported of a release.
    async fn released(&mut self) -> Option<String> {
        match timeout(LIMIT, self.taken.urgent.recv()).await.unwrap() {
            Some(Input::Released { failed, .. }) => failed,
            other => panic!("{other:?}"),
        }
    }

    async fn alarm(&mut self) -> (AlarmKind, String) {
        match timeout(LIMIT, self.taken.urgent.recv()).await.unwrap() {
            Some(Input::Alarm { kind, detail, .. }) => (kind, detail),
            other => panic!("{other:?}"),
        }
    }

    /// The next report in which `field` has a value.
    async fn report<T>(&mut self, field: impl Fn(&PortalReport) -> Option<T>) -> T {
        loop {
            match timeout(LIMIT, self.taken.requests.recv()).await.unwrap() {
                Some(Input::Report { report, .. }) => match field(&report) {
                    Some(value) => return value,
                    None => continue,
                },
                Some(_) => continue,
                None => panic!("the portal has ended"),
            }
        }
    }

    /// What was reported or requested up to now.
    async fn inputs(&mut self) -> Vec<Input> {
        sleep(Duration::from_millis(100)).await;
        std::iter::from_fn(|| self.taken.requests.try_recv().ok()).collect()
    }
}

fn unknown() -> NotSet {
    NotSet::Unknown("no answer".into())
}

fn busy() -> NotSet {
    NotSet::Busy("busy".into())
}

#[tokio::test(start_paused = true)]
async fn a_box_that_could_not_be_switched_on_is_switched_off_and_reports_that_it_is_off() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    rig.cut().await;
    assert!(!rig.report(|r| r.relay).await);
    rig.wiring.with(|device| device.ends.extend([unknown(), unknown(), unknown()]));
    rig.energise().await;
    assert!(rig.released().await.unwrap().contains("no answer"));
    assert!(!rig.report(|r| r.relay).await, "the gateway counts it as on");
    assert_eq!(rig.wiring.sets(), [Set::Off, Set::On, Set::On, Set::On, Set::Off]);
    assert_eq!(rig.wiring.with(|device| device.counts.clone()), [Released::Failed]);
}

#[tokio::test(start_paused = true)]
async fn each_release_that_failed_is_reported_and_the_next_that_is_confirmed() {
    for times_pulses in [false, true] {
        let wiring = Memory::default();
        wiring.with(|device| device.times_pulses = times_pulses);
        let mut rig = Rig::start(PortalKind::Door, &[], wiring);
        rig.release(100).await;
        for _ in 0..2 {
            rig.inputs().await;
            rig.wiring.with(|device| {
                device.on = false;
                device.ends.extend([unknown(), unknown(), unknown()]);
            });
            rig.release(100).await;
            assert!(
                rig.released().await.unwrap().contains("no answer"),
                "nothing of the one before, which was confirmed"
            );
            // A pulse that the device times is not sent again.
            rig.wiring.with(|device| device.ends.clear());
        }
        rig.inputs().await;
        rig.release(100).await;
        assert_eq!(rig.released().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_order_supersedes_a_release_and_the_grant_that_waits_for_off() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    rig.energise().await;
    rig.cut().await;
    rig.energise().await;
    rig.energise().await;
    assert!(!rig.report(|r| r.relay).await, "off comes first");
    assert!(rig.report(|r| r.relay).await);
    assert_eq!(
        rig.wiring.with(|device| device.counts.clone()),
        [Released::Superseded, Released::Superseded, Released::Confirmed]
    );
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_tried_again_within_the_deadline_and_consumes_no_try() {
    for times_pulses in [false, true] {
        let device = Device { times_pulses, ..Device::default() };
        let rig = Rig::start(PortalKind::Door, &[], Memory(Arc::new(Mutex::new(device))));
        sleep(Duration::from_millis(100)).await;
        rig.wiring.with(|device| {
            device.sets.clear();
            device.ends.extend(std::iter::repeat_n(busy(), 8));
        });
        rig.release(3000).await;
        sleep(Duration::from_millis(1400)).await;
        assert!(rig.wiring.with(|device| device.on), "{:?}", rig.wiring.sets());
        assert_eq!(rig.wiring.sets().len(), 9);
        assert_eq!(rig.wiring.with(|device| device.counts.clone()), [Released::Confirmed]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pulse_of_a_device_that_shows_it_in_its_next_cycle_is_confirmed_and_sent_once() {
    let follows_after = Duration::from_millis(350);
    let device = Device { times_pulses: true, follows_after, ..Device::default() };
    let rig = Rig::start(PortalKind::Door, &[], Memory(Arc::new(Mutex::new(device))));
    sleep(Duration::from_millis(100)).await;
    rig.wiring.with(|device| device.sets.clear());
    rig.release(3000).await;
    sleep(Duration::from_millis(1400)).await;
    assert_eq!(rig.wiring.sets(), [Set::Pulse { hold_ms: 3000 }]);
    assert_eq!(rig.wiring.with(|device| device.counts.clone()), [Released::Confirmed]);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_stays_busy_gets_nothing_after_the_deadline() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    rig.wiring.with(|device| device.ends.extend(std::iter::repeat_n(busy(), 1000)));
    let begun = Instant::now();
    rig.energise().await;
    assert!(rig.released().await.unwrap().contains("not confirmed within 1500 ms"));
    let on = |sets: &[(Set, Instant)]| sets.iter().filter(|(set, _)| *set == Set::On).map(|(_, at)| *at).max();
    let last = rig.wiring.with(|device| on(&device.sets)).unwrap();
    assert!(last <= begun + Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_does_not_go_off_is_an_alarm_and_what_waits_for_it_fails_in_time() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    rig.energise().await;
    assert!(rig.report(|r| r.relay).await);
    rig.wiring.with(|device| device.stuck = true);
    rig.cut().await;
    rig.energise().await;
    let detail = rig.released().await.unwrap();
    assert!(detail.contains("could not be switched off first"), "{detail}");
    assert_eq!(rig.alarm().await.0, AlarmKind::UnconfirmedRevocation);
    rig.wiring.with(|device| device.stuck = false);
    assert!(!rig.report(|r| r.relay).await);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_falls_silent_fails_what_was_not_confirmed_and_is_not_switched_on_when_it_is_back() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    rig.wiring.with(|device| device.ends.extend(std::iter::repeat_n(busy(), 1000)));
    rig.energise().await;
    sleep(Duration::from_millis(50)).await;
    rig.state(SourceState::Offline { cause: "no answer".into() }).await;
    assert!(rig.released().await.unwrap().contains("fell silent"));
    let sets = rig.wiring.sets().len();
    rig.state(SourceState::Online).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.wiring.sets().len(), sets);
}

#[tokio::test(start_paused = true)]
async fn a_door_reports_its_relay_and_a_mode_holds_it() {
    let device = Device { times_pulses: true, ..Device::default() };
    let mut rig = Rig::start(PortalKind::Door, &[], Memory(Arc::new(Mutex::new(device))));
    rig.state(SourceState::Online).await;
    assert!(rig.report(|r| r.online).await);
    let mode = |posture| PortalOrder::Mode { portal: "portal".parse().unwrap(), posture };
    for (posture, on) in [(Posture::Secure, false), (Posture::Fire, true), (Posture::Lockdown, false)] {
        rig.order(mode(posture)).await;
        assert_eq!(rig.report(|r| r.relay).await, on, "{posture:?}");
        if on {
            // A card in between does not end it.
            rig.release(1000).await;
            sleep(Duration::from_secs(5)).await;
            assert!(rig.wiring.with(|device| device.on), "{posture:?} ended with the release");
        }
    }
    // Switched by hand: the gateway judges it, because it may be an exit button of the device.
    rig.wiring.with(|device| device.on = true);
    rig.read(vec![Reading::Output(true)]).await;
    assert!(rig.report(|r| r.relay).await);
    assert!(rig.wiring.with(|device| device.on));
    rig.order(PortalOrder::Lock { portal: "portal".parse().unwrap() }).await;
    assert!(!rig.report(|r| r.relay).await);
    assert!(!rig.wiring.with(|device| device.on));
}

#[tokio::test(start_paused = true)]
async fn what_must_be_off_is_off_when_the_program_stops() {
    let rig = Rig::of(PortalKind::Door);
    sleep(Duration::from_millis(100)).await;
    rig.release(60_000).await;
    sleep(Duration::from_millis(100)).await;
    assert!(rig.wiring.with(|device| device.on));
    rig.stop.send_replace(true);
    timeout(LIMIT, rig.running).await.unwrap().unwrap();
    assert!(!rig.wiring.with(|device| device.on));
    // What waits for its turn fails.
    let rig = Rig::of(PortalKind::PowerBox);
    rig.wiring.with(|device| device.ends.extend([busy(), busy()]));
    rig.energise().await;
    sleep(Duration::from_millis(50)).await;
    drop(rig.orders);
    timeout(LIMIT, rig.running).await.unwrap().unwrap();
    assert_eq!(rig.wiring.with(|device| device.counts.clone()), [Released::Failed]);
}

fn card(slot: u8, text: Option<&str>) -> Reading {
    Reading::Card { slot, shows: Shows::Card(text.map(|text| Presented::Card(text.parse().unwrap()))) }
}

fn slots(inputs: &[Input]) -> Vec<(u8, bool)> {
    let slot = |input: &Input| match input {
        Input::Report { report, .. } => report.card_present.map(|present| (report.slot, present)),
        _ => None,
    };
    inputs.iter().filter_map(slot).collect()
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_reported_empty_only_when_the_other_readers_were_read_too() {
    let mut rig = Rig::start(PortalKind::PowerBox, &[ReaderKind::Level; 2], Memory::default());
    rig.read(vec![card(0, None)]).await;
    assert_eq!(slots(&rig.inputs().await), [], "the card may be in the other one");
    rig.read(vec![card(1, Some("1EA68671"))]).await;
    assert_eq!(slots(&rig.inputs().await), [(1, true), (0, false)]);
    // A reader that is never read keeps nobody's light on for ever.
    let mut rig = Rig::start(PortalKind::PowerBox, &[ReaderKind::Level; 2], Memory::default());
    for _ in 0..60 {
        rig.read(vec![card(0, None)]).await;
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(slots(&rig.inputs().await), [(0, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_does_not_fit_the_inbox_is_requested_again_and_the_reader_keeps_it() {
    let mut rig = Rig::start(PortalKind::Door, &[ReaderKind::Latch { repeats: false }], Memory::default());
    rig.read(vec![card(0, None)]).await;
    let full = crate::gateway::ports::REQUESTS_MAX;
    for n in 0..full + 8 {
        rig.read(vec![Reading::Contact { contact: 0, number: 0.0, counts: false, active: n % 2 == 0 }]).await;
        rig.read(vec![Reading::Meter { power_w: Some(f64::from(u32::try_from(n).unwrap()) * 10.0), energy_kwh: None }])
            .await;
    }
    rig.read(vec![card(0, Some("1EA68671"))]).await;
    sleep(Duration::from_millis(10)).await;
    assert!(rig.wiring.with(|device| device.accepted.is_empty()), "it was accepted and nobody was asked");
    assert!(!rig.inputs().await.iter().any(|input| matches!(input, Input::Request(_))));
    rig.read(vec![card(0, Some("1EA68671"))]).await;
    let inputs = rig.inputs().await;
    assert_eq!(inputs.iter().filter(|input| matches!(input, Input::Request(_))).count(), 1);
    assert_eq!(rig.wiring.with(|device| device.accepted.clone()), [(0, Accept::Latch)]);
}

#[tokio::test(start_paused = true)]
async fn a_meter_without_a_value_is_reported_as_unknown_once_and_again_after_a_while() {
    let mut rig = Rig::of(PortalKind::PowerBox);
    let watts = |power_w| vec![Reading::Meter { power_w: Some(power_w), energy_kwh: None }];
    rig.read(watts(41.0)).await;
    assert!((rig.report(|r| r.power_w).await - 41.0).abs() < 0.01);
    rig.read(watts(f64::NAN)).await;
    rig.read(watts(f64::NAN)).await;
    assert!(rig.report(|r| r.power_w).await.is_nan());
    assert!(rig.inputs().await.is_empty(), "nothing has moved");
    sleep(Duration::from_secs(10)).await;
    rig.read(watts(f64::NAN)).await;
    assert!(rig.report(|r| r.power_w).await.is_nan());
    rig.read(watts(41.0)).await;
    assert!((rig.report(|r| r.power_w).await - 41.0).abs() < 0.01);
}
