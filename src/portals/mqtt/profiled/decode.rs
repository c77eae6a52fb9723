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
    /// A card that opens nothing, because its message is old; why.
    pub(super) old: Option<&'static str>,
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
        self.reader =
            Some(CardReader { slot, reader, last_stamp: None, last_card: None, presence, online_since: None });
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
            (of.last_stamp, of.last_card) = (None, None);
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
        let late = if message.retained { Some("it was retained") } else { of.late(stamp, card.as_ref()) };
        if late.is_some() {
            decoded.old = late.filter(|_| card.is_some());
            return;
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
    /// Why a message with this time and card is no news. A device may send a card and something else within the same second.
    fn late(&mut self, stamp: Option<Stamp>, card: Option<&Presented>) -> Option<&'static str> {
        let stamp = stamp?;
        if self.last_stamp.is_some_and(|last| stamp.is_older_than(last)) {
            return Some("it was delivered late, after a newer one");
        }
        self.last_stamp = Some(stamp);
        let card = card?;
        let is_twice = self.last_card.as_ref().is_some_and(|(last, known)| *last == stamp && known == card);
        self.last_card = Some((stamp, card.clone()));
        is_twice.then_some("it was delivered twice")
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
