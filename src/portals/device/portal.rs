//! The task of one portal: it takes the events of its devices and the news of its output, and sends reports and alarms to the gateway.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::access::event::AlarmKind;
use crate::access::id::PortalId;
use crate::access::input::{Input, PortalReport, Presented, Request};
use crate::access::portal::{Assurance, PortalKind};
use crate::gateway::ports::{Inbox, PortalOrder};

use super::output::{News, Output};
use super::reader::{CardEvent, Reader};
use super::reports::{Offered, Reports};
use super::sensors::{Contact, Meter};
use super::{Event, Parts, Place, Reading, Source, SourceState, Wiring};

/// How long a slot that was found empty waits for the portal's other readers until it is reported, in milliseconds.
const EMPTY_HELD_MS: u64 = 5000;

/// One reader of a portal.
struct Slot {
    source: usize,
    /// Its number in the portal, from 0.
    number: u8,
    reader: Reader,
    /// It was ordered to take the next card.
    accepting: bool,
    /// When it was found empty, if that was not reported yet.
    empty_since: Option<Instant>,
}

/// A portal; [`Portal::run`] is its life.
pub struct Portal<W> {
    id: PortalId,
    kind: PortalKind,
    sources: Vec<(Source, SourceState)>,
    slots: Vec<Slot>,
    contacts: Vec<Contact>,
    meter: Option<Meter>,
    output: Output<W>,
    wiring: W,
    reports: Reports,
    online: Option<bool>,
    /// Whether the device of the output answers, as last reported.
    output_online: Option<bool>,
    /// Whether the door contact answers although the portal is offline, as last reported.
    contact_answers: bool,
    /// The last release was not confirmed.
    release_failed: bool,
}

impl<W: Wiring> Portal<W> {
    /// A portal of these parts.
    #[must_use]
    pub fn new(parts: Parts<W>, inbox: Inbox) -> Self {
        let Parts { id, kind, sources, readers, contacts, meter, output, wiring } = parts;
        let slot = |(number, (source, traits))| Slot {
            source,
            number,
            reader: Reader::new(traits),
            accepting: false,
            empty_since: None,
        };
        let output = Output::new(id.clone(), kind, wiring.clone(), output);
        Self {
            id,
            kind,
            sources: sources.into_iter().map(|source| (source, SourceState::Unknown)).collect(),
            slots: (0..).zip(readers).map(slot).collect(),
            contacts: contacts.into_iter().map(|(source, kind)| Contact::new(source, kind)).collect(),
            meter: meter.map(|(source, shared)| Meter::new(source, shared)),
            output,
            wiring,
            reports: Reports::new(inbox),
            online: None,
            output_online: None,
            contact_answers: false,
            release_failed: false,
        }
    }

    /// Works until nobody can give orders any more or `stop` turns true. What must be off is switched off before it ends.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<PortalOrder>,
        mut events: mpsc::Receiver<Event>,
        mut stop: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                biased;
                news = self.output.next(&mut orders) => match news {
                    Some(news) => self.news(news).await,
                    None => break,
                },
                Some(event) = events.recv() => self.event(event).await,
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            }
        }
        self.output.finish().await;
    }

    async fn news(&mut self, news: News) {
        match news {
            News::Is(on) => self.output_is(on),
            News::Released(on) => {
                on.into_iter().for_each(|on| self.output_is(on));
                if std::mem::take(&mut self.release_failed) {
                    self.release_ended(None).await;
                }
            }
            News::Failed(cause) => {
                log_at!(warn, self.id, self.wiring.place(None), error = cause, "the grant is consumed");
                self.release_failed = true;
                self.release_ended(Some(cause)).await;
            }
            News::Unconfirmed(cause) => self.alarm(AlarmKind::UnconfirmedRevocation, cause).await,
        }
    }

    fn output_is(&mut self, on: bool) {
        // The next meter reading is reported even if it is unchanged: a relay that sticks draws as before.
        self.meter.iter_mut().for_each(Meter::report_again);
        self.report(PortalReport { relay: Some(on), ..PortalReport::default() });
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Read { source, readings, at, turn } => {
                self.reports.retry();
                self.read(readings, at, turn);
                self.report_empty();
                self.accept_next(source);
                self.report_online();
            }
            Event::Source { source, state } => self.source(source, state).await,
            Event::Accepted { slot, at, failed } => {
                let Some(slot) = self.slots.iter_mut().find(|s| s.number == slot) else { return };
                slot.accepting = false;
                match failed {
                    None => slot.reader.accepted(at),
                    Some(why) => slot.reader.not_accepted(at, why),
                }
            }
        }
    }

    fn read(&mut self, readings: Vec<Reading>, at: Instant, turn: Duration) {
        let mut contacts = PortalReport::default();
        for reading in readings {
            match reading {
                Reading::Card { slot: number, shows } => {
                    let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { continue };
                    for event in slot.reader.read(shows, at, turn) {
                        self.card(number, event, at);
                    }
                }
                Reading::OldCard { slot, presented } => self.request(slot, presented, true),
                Reading::Contact { contact, number, counts, active } => {
                    let Some(contact) = self.contacts.get_mut(contact) else { continue };
                    contact.read(number, counts, active, &mut contacts);
                }
                Reading::Output(on) => {
                    if self.output.read(on, at) {
                        self.output_is(on);
                    }
                }
                Reading::Malformed(why) => {
                    self.report(PortalReport { malformed: vec![why], ..PortalReport::default() });
                }
                Reading::Meter { power_w, energy_kwh } => {
                    if let Some(report) = self.meter.as_mut().and_then(|meter| meter.read(power_w, energy_kwh, at)) {
                        self.report(report);
                    }
                }
            }
        }
        if contacts != PortalReport::default() {
            self.report(contacts);
        }
    }

    fn card(&mut self, number: u8, event: CardEvent, at: Instant) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { return };
        slot.empty_since = (event == CardEvent::Empty).then_some(at);
        let report = PortalReport { slot: number, ..PortalReport::default() };
        match event {
            CardEvent::Presented(presented) => self.request(number, presented, false),
            CardEvent::There(presented) => {
                self.occupied(PortalReport { card_present: Some(true), uid: Some(presented), ..report });
            }
            CardEvent::Left => self.occupied(PortalReport { card_present: Some(false), ..report }),
            CardEvent::Exchanged => {
                self.occupied(PortalReport { card_present: Some(false), exchanged: true, ..report });
            }
            // Reported when the other readers are read too.
            CardEvent::Empty => {}
            CardEvent::Missed(presented) => {
                let place = self.wiring.place(Some(number));
                log_at!(warn, self.id, place, "a card presented while the reader was not read opens nothing");
                if let Some(presented) = presented {
                    self.request(number, presented, true);
                }
            }
        }
    }

    /// Requests entry for a card. `stale`: it was presented too long ago and opens nothing, which is audited.
    fn request(&mut self, number: u8, presented: Presented, stale: bool) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { return };
        let offered = self.reports.request(Request {
            portal: self.id.as_str().to_owned(),
            id: None,
            presented,
            direction: slot.reader.direction(),
            assurance: Assurance::Uid,
            stale,
            slot: number,
        });
        // A stale one that was presented again would be a new one.
        if offered == Offered::Dropped && !stale {
            slot.reader.not_passed_on();
            let place = self.wiring.place(Some(number));
            log_at!(
                warn,
                self.id,
                place,
                "the gateway's inbox is full: the card is requested again with the next reading"
            );
        }
    }

    /// Reports whether a slot holds a card. Only a power box has slots that hold cards.
    fn occupied(&mut self, report: PortalReport) {
        if self.kind == PortalKind::PowerBox {
            self.report(report);
        }
    }

    /// Reports the slots that were found empty, once every reader was read or is offline. The gateway may know of a card without its slot,
    /// so one empty slot proves nothing as long as another slot may hold that card.
    fn report_empty(&mut self) {
        let is_unsure = |slot: &Slot| {
            let state = self.sources.get(slot.source).map(|(_, state)| state);
            !slot.reader.is_sure() && !matches!(state, Some(SourceState::Offline { .. }))
        };
        let waits = self.slots.iter().any(is_unsure);
        let limit = Duration::from_millis(EMPTY_HELD_MS);
        let is_due = |slot: &&mut Slot| slot.empty_since.is_some_and(|since| !waits || since.elapsed() >= limit);
        let due: Vec<u8> = self.slots.iter_mut().filter(is_due).map(|s| (s.empty_since.take(), s.number).1).collect();
        for slot in due {
            self.occupied(PortalReport { card_present: Some(false), slot, ..PortalReport::default() });
        }
    }

    fn accept_next(&mut self, source: usize) {
        for slot in self.slots.iter_mut().filter(|slot| slot.source == source && !slot.accepting) {
            let Some(accept) = slot.reader.accept() else { continue };
            slot.accepting = true;
            self.wiring.accept_next(slot.number, accept);
        }
    }

    async fn source(&mut self, source: usize, state: SourceState) {
        let is_lost = matches!(state, SourceState::Offline { .. });
        if state == SourceState::Online && self.output.source() == source {
            self.output.found();
        }
        if let Some(entry) = self.sources.get_mut(source) {
            entry.1 = state;
        }
        if is_lost {
            for slot in self.slots.iter_mut().filter(|slot| slot.source == source) {
                slot.reader.lost();
                slot.empty_since = None;
            }
            self.report_empty();
            // Reported again when it is back.
            self.meter.iter_mut().filter(|meter| meter.source == source).for_each(Meter::report_again);
            self.contacts.iter_mut().filter(|contact| contact.source == source).for_each(Contact::lost);
            if self.output.source() == source
                && let Some(failed) = self.output.lost()
            {
                self.news(failed).await;
            }
        }
        self.report_online();
    }

    /// Why a card presented again at one of its readers is not known as new although its device answers.
    fn stuck_reader(&self) -> Option<String> {
        self.slots.iter().find_map(|slot| {
            let why = slot.reader.stuck()?;
            Some(match self.wiring.place(Some(slot.number)) {
                Place { bus: Some(bus), unit: Some(unit), .. } => format!("unit {unit} on `{bus}`: {why}"),
                Place { .. } => why.to_owned(),
            })
        })
    }

    /// A portal is online when all its devices answer, its readers were read and take cards: from then on a new card is recognised as new.
    fn report_online(&mut self) {
        let silent = self.sources.iter().find_map(|(_, state)| match state {
            SourceState::Offline { cause } => Some(cause.clone()),
            SourceState::Online | SourceState::Unknown => None,
        });
        let cause = silent.or_else(|| self.stuck_reader());
        let online = match &cause {
            Some(_) => false,
            None if self.sources.iter().any(|(source, state)| source.polled && *state != SourceState::Online) => return,
            None if self.slots.iter().all(|slot| slot.reader.is_read()) => true,
            None => return,
        };
        let output_online = match self.sources.get(self.output.source()) {
            Some((_, SourceState::Online)) => Some(true),
            Some((_, SourceState::Offline { .. })) => Some(false),
            Some((_, SourceState::Unknown)) | None => None,
        };
        let contact_answers = !online && self.contact_answers();
        if (self.online, self.output_online, self.contact_answers) == (Some(online), output_online, contact_answers) {
            return;
        }
        (self.output_online, self.contact_answers) = (output_online, contact_answers);
        let was_away = self.online.replace(online) == Some(false) && online;
        let report =
            PortalReport { online: Some(online), cause, output_online, contact_answers, ..PortalReport::default() };
        self.report(report);
        if was_away {
            // The gateway keeps the card that it knew and waits for a report of the one that is there now.
            self.slots.iter_mut().for_each(|slot| slot.reader.report_again());
        }
    }

    /// Whether there is a door contact and its device answers.
    fn contact_answers(&self) -> bool {
        let is_online = |contact: &Contact| matches!(self.sources.get(contact.source), Some((_, SourceState::Online)));
        self.contacts.iter().any(|contact| contact.is_of_door() && is_online(contact))
    }

    fn report(&mut self, report: PortalReport) {
        if self.reports.report(self.id.as_str().to_owned(), report) == Offered::Dropped {
            tracing::error!(portal = %self.id, "a report is lost: too many wait for the gateway");
        }
    }

    async fn release_ended(&mut self, failed: Option<String>) {
        if let Some(error) = &failed {
            log_at!(warn, self.id, self.wiring.place(None), error, "an alarm is raised");
        }
        self.reports.urgent(Input::Released { portal: self.id.clone(), failed }).await;
    }

    async fn alarm(&mut self, kind: AlarmKind, detail: String) {
        let place = self.wiring.place(None);
        log_at!(warn, self.id, place, alarm = kind.as_str(), error = detail, "an alarm is raised");
        self.reports.urgent(Input::Alarm { kind, portal: Some(self.id.clone()), detail }).await;
    }
}
