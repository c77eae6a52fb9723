//! A bad line: 5 % of the answers are lost, 5 % late, 5 % garbled, and 5 % replaced by those of another unit. Cards are shown all the
//! time, and after every transaction only relays with a grant are on.

use std::sync::Mutex;

use tokio::task::JoinSet;

use super::cable::Dice;
use super::*;
use crate::portals::modbus::Released;

const REQUESTS: usize = 10_000;
/// Longest time for anything to settle on such a line, in milliseconds: a unit that went offline is asked again within 30 s.
const SETTLE_MS: u64 = 60_000;

/// One portal of the test: its reader's unit, its relay, and what is known of it.
struct Place {
    kind: PortalKind,
    reader: u8,
    relay: (u8, u16),
    shown: Option<CardUid>,
    /// Its relay may be on until then.
    may: Option<Instant>,
    granted: usize,
    confirmed: usize,
    failed: usize,
    /// The card had left before its box was on.
    superseded: usize,
    reported: usize,
}

impl Place {
    fn ended(&self) -> usize {
        self.confirmed + self.failed + self.superseded
    }
}

type Places = Arc<Mutex<BTreeMap<String, Place>>>;

/// Counts outcomes, and asserts that a relay that is confirmed on is on.
struct Judge {
    places: Places,
    line: Line,
    changed: watch::Sender<()>,
}

impl Observer for Judge {
    fn release(&self, output: &Part, how: Released) {
        let ModbusPart { unit, channel, .. } = *output.modbus().unwrap();
        let mut places = self.places.lock().unwrap();
        let place = places.values_mut().find(|p| p.relay == (unit, channel)).expect("a relay of the test");
        match how {
            Released::Confirmed => {
                assert!(self.line.relay(unit, channel), "confirmed, and {unit}/{channel} is off");
                place.confirmed += 1;
            }
            Released::Failed => place.failed += 1,
            Released::Superseded => place.superseded += 1,
        }
        self.changed.send_replace(());
    }
}

fn specs() -> Vec<PortalConfig> {
    let controller = |n: u8| {
        let whole = part(n, "generic-door-controller", 0);
        let door = portal(&format!("door-{n}"), PortalKind::Door, whole.clone(), whole);
        with(door, |parts| parts.meter = Some(part(31, "eastron-sdm120", 0)))
    };
    let mut specs = boxes(4);
    specs.extend([door(), controller(10), controller(11)]);
    specs
}

fn place(spec: &PortalConfig) -> (String, Place) {
    let parts = parts(spec);
    let (reader, output) = (parts.reader.modbus().unwrap(), parts.output.modbus().unwrap());
    let place = Place {
        kind: spec.portal.kind,
        reader: reader.unit,
        relay: (output.unit, output.channel),
        shown: None,
        may: None,
        granted: 0,
        confirmed: 0,
        failed: 0,
        superseded: 0,
        reported: 0,
    };
    (spec.portal.id.to_string(), place)
}

/// Grants to a card whose first byte is even; a box is cut when its card has left.
fn answer(places: &Places, input: &Input) -> Option<PortalOrder> {
    let mut places = places.lock().unwrap();
    match input {
        Input::Request(request) => {
            let place = places.get_mut(&request.portal).unwrap();
            if request.stale {
                return None;
            }
            let Presented::Card(card) = request.presented else { panic!("no card was shown so: {request:?}") };
            assert_eq!(Some(card), place.shown, "`{}` asks for a card that is not there", request.portal);
            if card.as_bytes()[0] % 2 == 1 {
                return None;
            }
            let hold = (place.kind != PortalKind::PowerBox).then_some(1000);
            place.granted += 1;
            place.may = Some(Instant::now() + ms(SETTLE_MS));
            let decision = Decision::Grant(Grant::for_test(request.portal.parse().unwrap(), Some(card), hold));
            Some(PortalOrder::Answer { portal: request.portal.clone(), id: None, decision, delay_ms: None })
        }
        Input::Report { portal, report } => {
            if let Some(Presented::Card(card)) = report.uid {
                assert_eq!(Some(card), places[portal].shown, "`{portal}` reports a card that is not there");
            }
            let left = report.card_present == Some(false);
            left.then(|| PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "card_left" })
        }
        Input::Released { portal, failed: Some(_) } => {
            places.get_mut(portal.as_str()).unwrap().reported += 1;
            None
        }
        _ => None,
    }
}

/// Cards shown at one portal, one after another.
struct Visits {
    name: String,
    places: Places,
    line: Line,
    seen: watch::Receiver<()>,
    dice: Dice,
}

impl Visits {
    /// Goes on until enough was asked on the line; reports how many cards were shown.
    async fn run(mut self, cable: Cable) -> u32 {
        let mut shown = 0;
        while cable.requests() < REQUESTS {
            shown += 1;
            self.visit(shown).await;
        }
        shown
    }

    async fn visit(&mut self, number: u32) {
        let limit = ms(SETTLE_MS);
        let first = self.dice.below(5) * 2 + u64::from(number.is_multiple_of(5));
        let card = uid(&format!("1{first:X}{:02X}{number:04X}", self.dice.below(256)));
        let (name, line, places) = (&self.name, &self.line, &self.places);
        let (reader, relay, before) = {
            let mut all = places.lock().unwrap();
            let place = all.get_mut(name).unwrap();
            place.shown = Some(card);
            (place.reader, place.relay, place.granted)
        };
        line.present(reader, 0, card);
        // A card that is shown while its reader is offline opens nothing, so a grant is waited for only this long.
        let received = self.seen.wait_for(|()| places.lock().unwrap()[name].granted > before);
        let granted = timeout(ms(2000), received).await.is_ok();
        let ended = |all: &BTreeMap<String, Place>| all[name].ended() == all[name].granted;
        if granted {
            let over = self.seen.wait_for(|()| ended(&places.lock().unwrap()));
            assert!(timeout(limit, over).await.is_ok(), "a release of `{name}` has no end");
        }
        line.remove(reader, 0);
        // A level reader forgets a card after 1 s. On such a line a card may also be seen only now.
        sleep(ms(1300 + self.dice.below(1000))).await;
        let over = self.seen.wait_for(|()| ended(&places.lock().unwrap()));
        assert!(timeout(limit, over).await.is_ok(), "a late release of `{name}` has no end");
        assert!(line.wait_relay(relay.0, relay.1, false, limit).await, "the relay of `{name}` stays on");
        places.lock().unwrap().get_mut(name).unwrap().may = None;
    }
}

/// What the devices received last.
fn tail(line: &Line) -> Vec<String> {
    let received = line.received();
    received[received.len().saturating_sub(40)..]
        .iter()
        .map(|(at, unit, request)| format!("{at:?} {unit}: {request}"))
        .collect()
}

async fn a_bad_line(baud: Option<u32>, seed: u64) {
    let specs = specs();
    let line = devices(&specs);
    let places: Places = Arc::new(Mutex::new(specs.iter().map(place).collect()));
    let watched = Arc::clone(&places);
    let cable = Cable::bad(&line, baud, 5, seed, move |line| {
        for (name, place) in &*watched.lock().unwrap() {
            let may = place.may.is_some_and(|until| Instant::now() < until);
            assert!(
                may || !line.relay(place.relay.0, place.relay.1),
                "the relay of `{name}` is on and nobody may: {:#?}",
                tail(line)
            );
        }
    });
    let (changed, seen) = watch::channel(());
    let judge = Judge { places: Arc::clone(&places), line: line.clone(), changed: changed.clone() };
    let judged = Arc::clone(&places);
    let rig = Rig::with(bus_on(&cable), &line, specs, judge, move |input| {
        let order = answer(&judged, input);
        changed.send_replace(());
        order
    });

    let names: Vec<String> = places.lock().unwrap().keys().cloned().collect();
    let mut visits = JoinSet::new();
    for (n, name) in (0..).zip(names) {
        let (places, line, seen) = (Arc::clone(&places), line.clone(), seen.clone());
        visits.spawn(Visits { name, places, line, seen, dice: Dice(seed + n) }.run(cable.clone()));
    }
    let shown: u32 = visits.join_all().await.into_iter().sum();

    let sum = |of: fn(&Place) -> usize| places.lock().unwrap().values().map(of).sum::<usize>();
    let (granted, confirmed, failed) = (sum(|p| p.granted), sum(|p| p.confirmed), sum(|p| p.failed));
    let (superseded, reported) = (sum(|p| p.superseded), sum(|p| p.reported));
    println!(
        "{} requests, {shown} cards shown: {granted} granted, {confirmed} confirmed, {failed} failed",
        cable.requests()
    );
    assert_eq!(granted, confirmed + failed + superseded);
    assert_eq!(failed, reported);
    assert!(
        confirmed > 100 && failed > 0 && superseded < granted / 20,
        "{confirmed} confirmed, {failed} failed: that shows little"
    );
    assert!(!rig.gateway.task.is_finished(), "the gateway of the test has failed");
    rig.running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_on_a_bad_serial_line_open_nothing_wrong_and_leave_no_release_open() {
    a_bad_line(Some(38_400), 1).await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_over_a_bad_tcp_line_open_nothing_wrong_and_leave_no_release_open() {
    a_bad_line(None, 2).await;
}
