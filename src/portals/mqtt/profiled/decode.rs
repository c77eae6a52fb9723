//! What the messages of one device mean for one portal. Pure: the time is given.
//!
//! Nothing old is a card: a retained message, one that was delivered twice, one that another overtook.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::clock::{Age, DeviceClock};
use super::output::Seen;
use crate::access::input::Presented;
use crate::portals::device::Reading;
use crate::portals::device::reader::{ReaderKind, ReaderTraits, Shows};
use crate::profile::InputKind;
use crate::profile::mqtt::{Input, Meter, Output, Payload, Place, Reader, Stamp};

/// How often a reader that repeats its card is read, in milliseconds: well within the time after which what it shows is old.
const READ_EVERY_MS: u64 = 1_000;

/// Why a message that came twice counts once.
const TWICE: &str = "it was delivered twice";
/// Why one whose time is older than it should be does not.
const LATE: &str = "it was delivered late, or the clock of the device was set back";
/// Why one whose time nothing confirms does not.
const UNKNOWN: &str = "its device has just connected, and its clock is not that of the gateway: the next one counts";

/// A message of a device.
pub(super) struct Received<'m> {
    pub(super) topic: &'m str,
    pub(super) payload: Payload<'m>,
    /// The broker kept it, for how long is not known.
    pub(super) retained: bool,
    pub(super) at: Instant,
    /// What the gateway's clock showed then, in seconds since 1970; it may be wrong.
    pub(super) wall_s: f64,
}

/// What a reader that repeats its card shows.
#[derive(Debug, Default)]
struct Presence {
    /// It is known whether a card is there.
    known: bool,
    /// Its messages have ended, though it would report that no card is there.
    silent: bool,
    card: Option<Presented>,
    /// Without a further message what it shows is no longer reported then.
    until: Option<Instant>,
    read_at: Option<Instant>,
}

struct CardReader {
    slot: u8,
    reader: Reader,
    clock: DeviceClock,
    last_card: Option<(Stamp, Presented)>,
    presence: Presence,
    online_since: Option<Instant>,
}

/// A contact or a button.
struct Contact {
    /// Its number in the portal.
    number: usize,
    input: Input,
    /// What it last reported, also while its device starts.
    last: Option<bool>,
}

/// What of a message counts, and why the rest does not.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) readings: Vec<Reading>,
    /// A card that opens nothing, because its message is old.
    pub(super) old: Option<Old>,
    /// The clock of the device was set, and its time counts from now on.
    pub(super) clock_set: bool,
}

/// A card that opens nothing, because its message is old.
#[derive(Debug, PartialEq)]
pub(super) struct Old {
    pub(super) why: &'static str,
    /// The card, if it was presented by this message: not if the message came twice, or the card is repeated while it is there.
    pub(super) card: Option<Reading>,
}

/// Decodes the messages of one device for one portal.
#[derive(Default)]
pub(in crate::portals) struct Decoder {
    reader: Option<CardReader>,
    /// The output, and where its state is published to the tries of an order.
    output: Option<(Output, watch::Sender<Seen>)>,
    contacts: Vec<Contact>,
    meter: Option<Meter>,
}

/// How a reader behaves.
pub(in crate::portals) fn reader_traits(reader: &Reader) -> ReaderTraits {
    let (kind, gone_ms) = match reader.repeats_ms {
        Some(_) => (ReaderKind::Level, reader.gone_ms),
        None => (ReaderKind::Message, reader.again_ms),
    };
    ReaderTraits { kind, gone_ms, direction: reader.direction }
}

impl Decoder {
    pub(in crate::portals) fn add_reader(&mut self, slot: u8, reader: Reader) {
        let presence = Presence::default();
        self.reader = Some(CardReader {
            slot,
            reader,
            clock: DeviceClock::default(),
            last_card: None,
            presence,
            online_since: None,
        });
    }

    pub(in crate::portals) fn add_output(&mut self, output: Output, seen: watch::Sender<Seen>) {
        self.output = Some((output, seen));
    }

    /// Adds a contact, unless it is there.
    pub(in crate::portals) fn add_contact(&mut self, number: usize, input: Input) -> bool {
        let is_new = !self.contacts.iter().any(|known| known.input == input);
        if is_new {
            self.contacts.push(Contact { number, input, last: None });
        }
        is_new
    }

    pub(in crate::portals) fn add_meter(&mut self, meter: Meter) {
        self.meter = Some(meter);
    }

    /// Every topic that is read.
    pub(super) fn topics(&self) -> Vec<&str> {
        let card = self.reader.iter().flat_map(|of| of.reader.places());
        let output = self.output.iter().flat_map(|(output, _)| output.state.iter().map(|two| &two.place));
        let contacts = self.contacts.iter().map(|contact| &contact.input.is.place);
        let meter = self.meter.iter().flat_map(Meter::places);
        card.chain(output).chain(contacts).chain(meter).map(|place| place.topic.as_str()).collect()
    }

    /// The output, to be asked for its state.
    pub(super) fn output(&self) -> Option<&Output> {
        self.output.as_ref().map(|(output, _)| output)
    }

    /// Its device is online: what is known from the start.
    pub(super) fn online(&mut self, now: Instant) -> Vec<Reading> {
        let mut readings = Vec::new();
        if let Some(of) = &mut self.reader {
            (of.presence, of.online_since) = (Presence::default(), Some(now));
            of.clock_restarts();
            if of.reader.repeats_ms.is_none() {
                // From now on a card that is reported has come now.
                readings.push(Reading::Card { slot: of.slot, shows: Shows::Card(None) });
            }
        }
        let state = self.output.as_ref().and_then(|(_, seen)| seen.borrow().state);
        readings.extend(state.map(Reading::Output));
        // A button is not pressed as long as its message did not come.
        let at_rest = |of: &Contact| (of.input.kind == InputKind::ExitButton).then_some(false);
        let contacts = self.contacts.iter().filter_map(|of| Some((of.number, of.last.or_else(|| at_rest(of))?)));
        readings.extend(contacts.map(|(number, active)| contact_is(number, active)));
        readings
    }

    /// Its device reports that it has connected: it may have started, and its clock with it.
    pub(super) fn connected(&mut self) {
        self.reader.iter_mut().for_each(CardReader::clock_restarts);
    }

    /// Its device is offline: what it showed is not known any more.
    pub(super) fn offline(&mut self) {
        if let Some(of) = &mut self.reader {
            (of.presence, of.online_since) = (Presence::default(), None);
        }
        if let Some((_, seen)) = &self.output {
            seen.send_replace(Seen::default());
        }
        self.contacts.iter_mut().for_each(|contact| contact.last = None);
    }

    /// What a message means.
    pub(super) fn decode(&mut self, message: &Received<'_>) -> Decoded {
        let mut decoded = Decoded::default();
        let mut wrong = None;
        self.card(message, &mut decoded, &mut wrong);
        let mut state = |result: Result<Option<bool>, String>| {
            result.unwrap_or_else(|why| {
                wrong.get_or_insert(why);
                None
            })
        };
        if let Some((output, seen)) = &self.output {
            for two in output.state.iter().filter(|two| counts(&two.place, message)) {
                let Some(on) = state(message.payload.two(two)) else { continue };
                seen.send_modify(|seen| seen.reported(on, (!message.retained).then_some(message.at)));
                decoded.readings.push(Reading::Output(on));
            }
        }
        for contact in self.contacts.iter_mut().filter(|contact| counts(&contact.input.is.place, message)) {
            let Some(active) = state(message.payload.two(&contact.input.is)) else { continue };
            contact.last = Some(active);
            decoded.readings.push(contact_is(contact.number, active));
        }
        if let Some(meter) = &self.meter {
            let [power_w, energy_kwh] = [&meter.power, &meter.energy].map(|value| {
                let (place, factor) = value.as_ref().filter(|(place, _)| counts(place, message))?;
                let number = message.payload.number(place).unwrap_or_else(|why| {
                    wrong.get_or_insert(why);
                    None
                });
                number.map(|number| number * factor)
            });
            if power_w.is_some() || energy_kwh.is_some() {
                decoded.readings.push(Reading::Meter { power_w, energy_kwh });
            }
        }
        decoded.readings.extend(wrong.map(|why| Reading::Malformed(format!("`{}`: {why}", message.topic))));
        decoded
    }

    fn card(&mut self, message: &Received<'_>, decoded: &mut Decoded, wrong: &mut Option<String>) {
        let Some(of) = &mut self.reader else { return };
        let is_at = |topic: &str| topic == message.topic;
        let is_removal = of.reader.removed.as_ref().is_some_and(|(place, _)| is_at(&place.topic));
        if !is_at(&of.reader.place.topic) && !is_removal {
            return;
        }
        let card = if is_at(&of.reader.place.topic) { message.payload.card(&of.reader) } else { Ok(None) };
        let card = card.unwrap_or_else(|why| {
            wrong.get_or_insert(why);
            None
        });
        let removed = is_removal && message.payload.removed(&of.reader).unwrap_or(false);
        let late = match (message.retained, message.payload.stamp(&of.reader)) {
            (true, _) => Some("it was retained"),
            (false, Some(stamp)) => of.late(stamp, card.as_ref(), message, &mut decoded.clock_set),
            (false, None) => None,
        };
        if let Some(why) = late {
            decoded.old = card.map(|card| of.old(why, card));
            return;
        }
        match (card, of.reader.repeats_ms) {
            (Some(card), Some(repeats_ms)) => {
                of.presence.shows(Some(card), Some(message.at + Duration::from_millis(u64::from(repeats_ms))));
            }
            (None, Some(repeats_ms)) if removed => {
                let until = message.at + Duration::from_millis(u64::from(repeats_ms));
                of.presence.shows(None, of.reader.removed_repeats.then_some(until));
            }
            (Some(card), None) => {
                decoded.readings.push(Reading::Card { slot: of.slot, shows: Shows::Card(Some(card)) });
                return;
            }
            (None, _) => return,
        }
        decoded.readings.extend(of.read(message.at));
    }

    /// What of a message counts while its device is not online: no card.
    pub(super) fn without_cards(&self, decoded: &mut Decoded) {
        for reading in std::mem::take(&mut decoded.readings) {
            match (reading, &self.reader) {
                (Reading::Card { shows: Shows::Card(Some(card)), .. }, Some(of)) => {
                    decoded.old = Some(of.old("the device was not online, or has just connected", card));
                }
                (reading, _) => decoded.readings.push(reading),
            }
        }
    }

    /// What a reader that repeats its card shows now, if it is to be read again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Reading> {
        let of = self.reader.as_mut()?;
        let repeats = Duration::from_millis(u64::from(of.reader.repeats_ms?));
        let since = of.online_since?;
        if !of.presence.known && now.saturating_duration_since(since) > repeats {
            // A card that is there would have been reported.
            of.presence.shows(None, None);
            of.presence.silent = of.reader.removed_repeats;
        }
        if of.presence.until.is_some_and(|until| now >= until) {
            of.presence.shows(None, None);
            // It would have reported that the card has left, and did not: what it shows next it may have shown for long.
            of.presence.silent = of.reader.removed.is_some();
        }
        let every = Duration::from_millis(READ_EVERY_MS);
        let is_due = of.presence.read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= every);
        if is_due { of.read(now) } else { None }
    }
}

impl Presence {
    fn shows(&mut self, card: Option<Presented>, until: Option<Instant>) {
        *self = Self { known: true, silent: false, card, until, read_at: None };
    }
}

impl CardReader {
    fn clock_restarts(&mut self) {
        self.clock.restarts();
        self.last_card = None;
    }

    /// This card, whose message is old.
    fn old(&self, why: &'static str, presented: Presented) -> Old {
        let is_presented = self.reader.repeats_ms.is_none() && why != TWICE;
        Old { why, card: is_presented.then_some(Reading::OldCard { slot: self.slot, presented }) }
    }

    /// Why a message with this time and card is no news. A device may send a card and something else within the same second.
    fn late(
        &mut self,
        stamp: Stamp,
        card: Option<&Presented>,
        message: &Received<'_>,
        clock_set: &mut bool,
    ) -> Option<&'static str> {
        let is_twice = |(last, known): &(Stamp, Presented)| *last == stamp && Some(known) == card;
        if self.last_card.as_ref().is_some_and(is_twice) {
            return Some(TWICE);
        }
        match self.clock.age(stamp, message.at, message.wall_s) {
            Age::New => {}
            Age::Set => *clock_set = true,
            Age::Late => return Some(LATE),
            Age::Unknown => return Some(UNKNOWN),
        }
        if let Some(card) = card {
            self.last_card = Some((stamp, card.clone()));
        }
        None
    }

    fn read(&mut self, now: Instant) -> Option<Reading> {
        if !self.presence.known {
            return None;
        }
        self.presence.read_at = Some(now);
        let shows = if self.presence.silent { Shows::Silent } else { Shows::Card(self.presence.card.clone()) };
        Some(Reading::Card { slot: self.slot, shows })
    }
}

fn counts(place: &Place, message: &Received<'_>) -> bool {
    place.topic == message.topic && (place.retained || !message.retained)
}

fn contact_is(contact: usize, active: bool) -> Reading {
    Reading::Contact { contact, number: if active { 1.0 } else { 0.0 }, counts: false, active }
}
