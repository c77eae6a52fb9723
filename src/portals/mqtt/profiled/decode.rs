//! What the messages of one device mean for one portal. Pure: the time is given.
//!
//! Nothing old is a card: a retained message, one that was delivered twice, one that another overtook.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::output::Seen;
use crate::access::input::Presented;
use crate::portals::device::Reading;
use crate::portals::device::reader::{ReaderKind, ReaderTraits, Shows};
use crate::profile::InputKind;
use crate::profile::mqtt::{Input, Meter, Output, Payload, Place, Reader, Stamp};

/// How often a reader that repeats its card is read, in milliseconds: well within the time after which what it shows is old.
const READ_EVERY_MS: u64 = 1_000;

/// So many messages in a row that are older than the last one, and go on as the time does, show that the clock of the device was set back.
/// Messages that were delivered late come at once, or have any times.
const SET_BACK_MESSAGES: u32 = 3;
/// How far the first and the last of them are apart at least, in milliseconds.
const SET_BACK_MS: u64 = 4_000;
/// How far the times of two such messages may differ from the time between them, in seconds: most devices give whole seconds.
const SET_BACK_S_OFF: f64 = 2.0;
/// Why a message that came twice counts once.
const TWICE: &str = "it was delivered twice";

/// A message of a device.
pub(super) struct Received<'m> {
    pub(super) topic: &'m str,
    pub(super) payload: Payload<'m>,
    /// The broker kept it, for how long is not known.
    pub(super) retained: bool,
    pub(super) at: Instant,
}

/// What a reader that repeats its card shows.
#[derive(Debug, Default)]
struct Presence {
    /// It is known whether a card is there.
    known: bool,
    card: Option<Presented>,
    /// Without a further message the card is no longer reported then.
    until: Option<Instant>,
    read_at: Option<Instant>,
}

struct CardReader {
    slot: u8,
    reader: Reader,
    last_stamp: Option<Stamp>,
    last_card: Option<(Stamp, Presented)>,
    /// The first of the messages in a row that are older than the last one, when it came, and how many they are.
    set_back: Option<(Stamp, Instant, u32)>,
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
    /// The clock of the device was set back, and its time counts from now on.
    pub(super) set_back: bool,
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
            last_stamp: None,
            last_card: None,
            set_back: None,
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
        let stamp = message.payload.stamp(&of.reader);
        let late = if message.retained { Some("it was retained") } else { of.late(stamp, card.as_ref(), message.at) };
        decoded.set_back = of.set_back.is_some_and(|(.., messages)| messages >= SET_BACK_MESSAGES) && late.is_none();
        if let Some(why) = late {
            decoded.old = card.map(|card| of.old(why, card));
            return;
        }
        if decoded.set_back {
            of.set_back = None;
        }
        match (card, of.reader.repeats_ms) {
            (Some(card), Some(repeats_ms)) => {
                of.presence.until = Some(message.at + Duration::from_millis(u64::from(repeats_ms)));
                of.presence.shows(Some(card));
            }
            (None, Some(_)) if removed => of.presence.shows(None),
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
            of.presence.shows(None);
        }
        if of.presence.until.is_some_and(|until| now >= until) {
            of.presence.shows(None);
        }
        let every = Duration::from_millis(READ_EVERY_MS);
        let is_due = of.presence.read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= every);
        if is_due { of.read(now) } else { None }
    }
}

impl Presence {
    fn shows(&mut self, card: Option<Presented>) {
        if card.is_none() {
            self.until = None;
        }
        (self.known, self.card, self.read_at) = (true, card, None);
    }
}

impl CardReader {
    fn clock_restarts(&mut self) {
        (self.last_stamp, self.last_card, self.set_back) = (None, None, None);
    }

    /// This card, whose message is old.
    fn old(&self, why: &'static str, presented: Presented) -> Old {
        let is_presented = self.reader.repeats_ms.is_none() && why != TWICE;
        Old { why, card: is_presented.then_some(Reading::OldCard { slot: self.slot, presented }) }
    }

    /// Why a message with this time and card, which came at `at`, is no news. A device may send a card and something else within the same
    /// second.
    fn late(&mut self, stamp: Option<Stamp>, card: Option<&Presented>, at: Instant) -> Option<&'static str> {
        let stamp = stamp?;
        if self.last_stamp.is_some_and(|last| stamp.is_older_than(last)) {
            if !self.is_set_back(stamp, at) {
                return Some("it was delivered late, after a newer one");
            }
        } else {
            self.set_back = None;
        }
        self.last_stamp = Some(stamp);
        let card = card?;
        let is_twice = self.last_card.as_ref().is_some_and(|(last, known)| *last == stamp && known == card);
        self.last_card = Some((stamp, card.clone()));
        is_twice.then_some(TWICE)
    }

    /// Whether messages that are older than the last one show by now that the clock of the device was set back, as by a start without
    /// network or a time server: each goes on from the one before by the time that has passed.
    fn is_set_back(&mut self, stamp: Stamp, at: Instant) -> bool {
        let goes_on = |first: Stamp, since: Instant| {
            let passed_s = at.saturating_duration_since(since).as_secs_f64();
            (stamp.seconds_after(first) - passed_s).abs() <= SET_BACK_S_OFF
        };
        let (first, since, messages) = match self.set_back {
            Some((first, since, messages)) if goes_on(first, since) => (first, since, messages + 1),
            _ => (stamp, at, 1),
        };
        let is_long = at.saturating_duration_since(since) >= Duration::from_millis(SET_BACK_MS);
        // Only one that counts makes up the number.
        let messages = if is_long { messages } else { messages.min(SET_BACK_MESSAGES - 1) };
        self.set_back = Some((first, since, messages));
        messages >= SET_BACK_MESSAGES
    }

    fn read(&mut self, now: Instant) -> Option<Reading> {
        if !self.presence.known {
            return None;
        }
        self.presence.read_at = Some(now);
        Some(Reading::Card { slot: self.slot, shows: Shows::Card(self.presence.card.clone()) })
    }
}

fn counts(place: &Place, message: &Received<'_>) -> bool {
    place.topic == message.topic && (place.retained || !message.retained)
}

fn contact_is(contact: usize, active: bool) -> Reading {
    Reading::Contact { contact, number: if active { 1.0 } else { 0.0 }, counts: false, active }
}
