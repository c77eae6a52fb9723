//! One portal at work: orders and events in, reports and alarms out. One task, one select.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::access::decision::{Decision, Grant};
use crate::access::event::AlarmKind;
use crate::access::id::PortalId;
use crate::access::input::{Input, PortalReport, Presented, Request};
use crate::access::portal::{Assurance, PortalKind, Posture};
use crate::gateway::ports::{Inbox, PortalOrder};

use super::output::{Outcome, Output};
use super::reader::{CardEvent, Reader};
use super::reports::{Offered, Reports};
use super::sensors::{Contact, Meter};
use super::{Event, Parts, Place, Reading, Source, SourceState, Wiring};

/// How long a gate or door is opened when the grant does not report, in milliseconds.
const HOLD_MS_DEFAULT: u32 = 3000;
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
    /// It was found empty then, which was not reported yet.
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
    output: Option<Output<W>>,
    wiring: W,
    reports: Reports,
    online: Option<bool>,
}

impl<W: Wiring> Portal<W> {
    /// A portal of these parts. An output whose pulses the gateway ends is switched off first of all: a crash may have left it on.
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
        let off_first = |ends_by_gateway: bool| ends_by_gateway && kind != PortalKind::PowerBox;
        Self {
            id,
            kind,
            sources: sources.into_iter().map(|source| (source, SourceState::Unknown)).collect(),
            slots: (0..).zip(readers).map(slot).collect(),
            contacts: contacts.into_iter().map(|(source, kind)| Contact::new(source, kind)).collect(),
            meter: meter.map(|(source, shared)| Meter::new(source, shared)),
            output: output.map(|traits| {
                let off_first = off_first(traits.ends_by_gateway);
                Output::new(wiring.clone(), traits, off_first)
            }),
            wiring,
            reports: Reports::new(inbox),
            online: None,
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
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => break,
                },
                outcome = next(&mut self.output) => self.outcome(outcome).await,
                Some(event) = events.recv() => self.event(event).await,
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            }
        }
        if let Some(output) = self.output {
            output.finish().await;
        }
    }

    fn order(&mut self, order: PortalOrder) {
        match order {
            // A box that rests is switched on by the order at the end of its rest.
            PortalOrder::Answer { decision: Decision::Grant(_), delay_ms: Some(_), .. } => {}
            PortalOrder::Answer { decision: Decision::Grant(grant), .. } => self.carry_out(&grant),
            PortalOrder::Answer { decision: Decision::Deny(denial), .. } => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                let reason = denial.reason.as_str();
                tracing::debug!(portal = %self.id, bus, unit, channel, function, address, reason, "denied");
            }
            PortalOrder::Release { grant } | PortalOrder::Energise { grant, .. } => self.carry_out(&grant),
            PortalOrder::Cut { reason, .. } => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                tracing::info!(portal = %self.id, bus, unit, channel, function, address, reason, "switched off");
                self.output.iter_mut().for_each(Output::cut);
            }
            PortalOrder::Lock { .. } => self.output.iter_mut().for_each(Output::off),
            // A gate or door is held open by `fire` and `free_access`; any other mode closes what this or an earlier run held open.
            PortalOrder::Mode { posture, .. } if self.kind != PortalKind::PowerBox => {
                let open = match posture {
                    Posture::Fire | Posture::FreeAccess => true,
                    Posture::Secure | Posture::Lockdown | Posture::OutOfService => false,
                };
                let Some(output) = &mut self.output else { return };
                let answers = self.sources.get(output.traits.source).is_some_and(|(_, s)| *s == SourceState::Online);
                output.hold(open, answers);
            }
            PortalOrder::Mode { .. } => {}
        }
    }

    /// Opens or energises; the grant is consumed by it.
    fn carry_out(&mut self, grant: &Grant) {
        if *grant.portal() != self.id {
            let Place { bus, unit, channel, function, address } = self.output_place();
            tracing::error!(
                portal = %self.id, bus, unit, channel, function, address, other = %grant.portal(),
                "a grant for another portal opens nothing"
            );
            return;
        }
        let Some(output) = &mut self.output else { return };
        match self.kind {
            // The card was presented again within `debounce_ms`: that is one presentation, and it was carried out.
            PortalKind::Gate | PortalKind::Door if grant.is_again() => {}
            PortalKind::Gate | PortalKind::Door => output.release(grant.hold_ms().unwrap_or(HOLD_MS_DEFAULT)),
            PortalKind::PowerBox => output.energise(),
        }
    }

    async fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::On(at) => self.output_is(true, at),
            Outcome::Off(at) => self.output_is(false, at),
            Outcome::Pulsed => {}
            Outcome::Failed(cause) => {
                let Place { bus, unit, channel, function, address } = self.output_place();
                tracing::warn!(
                    portal = %self.id, bus, unit, channel, function, address, error = cause, "the grant is consumed"
                );
                self.alarm(AlarmKind::PortalOffline, format!("a release was not confirmed: {cause}")).await;
            }
            Outcome::Unconfirmed(cause) => self.alarm(AlarmKind::UnconfirmedRevocation, cause).await,
        }
    }

    fn output_is(&mut self, on: bool, at: Instant) {
        if self.output.as_mut().is_some_and(|output| output.observe(on, at)) {
            // What is drawn now is another reading, also if it is the same: a relay that sticks draws as before.
            self.meter.iter_mut().for_each(Meter::report_again);
            self.report(PortalReport { relay: Some(on), ..PortalReport::default() });
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Read { source, readings, at } => {
                self.reports.retry();
                self.read(readings, at);
                self.report_empty();
                self.accept_next(source);
                self.report_online();
            }
            Event::Source { source, state } => self.source(source, state).await,
            Event::Accepted { slot, at } => {
                let Some(slot) = self.slots.iter_mut().find(|s| s.number == slot) else { return };
                slot.accepting = false;
                if let Some(at) = at {
                    slot.reader.accepted(at);
                }
            }
        }
    }

    fn read(&mut self, readings: Vec<Reading>, at: Instant) {
        let mut contacts = PortalReport::default();
        for reading in readings {
            match reading {
                Reading::Card { slot: number, shows } => {
                    let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { continue };
                    for event in slot.reader.read(shows, at) {
                        self.card(number, event, at);
                    }
                }
                Reading::Contact { contact, number, counts, active } => {
                    let Some(contact) = self.contacts.get_mut(contact) else { continue };
                    contact.read(number, counts, active, &mut contacts);
                }
                Reading::Output(on) => {
                    self.output_is(on, at);
                    // Somebody or something else switched a box on: it is switched off again. What is on at a gate or door without a
                    // release is judged by the gateway: it may be an exit button of the device.
                    if let Some(output) = &mut self.output
                        && on
                        && self.kind == PortalKind::PowerBox
                        && output.rests_off()
                        && output.state == Some(true)
                    {
                        output.off();
                    }
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
            CardEvent::Presented(presented) => self.request(number, presented),
            CardEvent::There(presented) => {
                self.occupied(PortalReport { card_present: Some(true), uid: Some(presented), ..report });
            }
            CardEvent::Left => self.occupied(PortalReport { card_present: Some(false), ..report }),
            CardEvent::Exchanged => {
                self.occupied(PortalReport { card_present: Some(false), exchanged: true, ..report });
            }
            // Reported when the other readers are read too.
            CardEvent::Empty => {}
            CardEvent::Missed => {
                let Place { bus, unit, .. } = self.wiring.reader_place(number);
                tracing::warn!(
                    portal = %self.id, bus, unit, "a card presented while the reader was not read opens nothing"
                );
            }
        }
    }

    fn request(&mut self, number: u8, presented: Presented) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) else { return };
        let offered = self.reports.request(Request {
            portal: self.id.as_str().to_owned(),
            id: None,
            presented,
            direction: slot.reader.direction(),
            assurance: Assurance::Uid,
            stale: false,
            slot: number,
        });
        if offered == Offered::Dropped {
            slot.reader.not_passed_on();
            let Place { bus, unit, .. } = self.wiring.reader_place(number);
            tracing::warn!(
                portal = %self.id, bus, unit,
                "the gateway's inbox is full: the card is requested again with the next reading"
            );
        }
    }

    /// Only a power box keeps a card.
    fn occupied(&mut self, report: PortalReport) {
        if self.kind == PortalKind::PowerBox {
            self.report(report);
        }
    }

    /// Reports which slots were found empty, once every reader was read or cannot be: the gateway may remember a card and not in which
    /// slot, so one empty slot is no news as long as another may hold that card.
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
            let output = self.output.as_mut().filter(|output| output.traits.source == source);
            if let Some(outcome) = output.and_then(Output::lost) {
                self.outcome(outcome).await;
            }
        }
        self.report_online();
    }

    /// A portal is online when all its devices answer and its readers were read: from then on a new card is seen as new.
    fn report_online(&mut self) {
        let cause = self.sources.iter().find_map(|(_, state)| match state {
            SourceState::Offline { cause } => Some(cause.clone()),
            SourceState::Online | SourceState::Unknown => None,
        });
        let online = match &cause {
            Some(_) => false,
            None if self.sources.iter().any(|(source, state)| source.polled && *state != SourceState::Online) => return,
            None if self.slots.iter().all(|slot| slot.reader.is_read()) => true,
            None => return,
        };
        if self.online == Some(online) {
            return;
        }
        let was_away = self.online.replace(online) == Some(false);
        self.report(PortalReport { online: Some(online), cause, ..PortalReport::default() });
        if was_away {
            // The gateway remembers who was in it, and waits for a report of who is.
            self.slots.iter_mut().for_each(|slot| slot.reader.report_again());
        }
    }

    fn report(&mut self, report: PortalReport) {
        if self.reports.report(self.id.as_str().to_owned(), report) == Offered::Dropped {
            tracing::error!(portal = %self.id, "a report is lost: too many wait for the gateway");
        }
    }

    fn output_place(&self) -> Place {
        self.wiring.output_place()
    }

    async fn alarm(&mut self, kind: AlarmKind, detail: String) {
        let Place { bus, unit, channel, function, address } = self.output_place();
        tracing::warn!(
            portal = %self.id, bus, unit, channel, function, address, alarm = kind.as_str(), error = detail,
            "an alarm is raised"
        );
        self.reports.urgent(Input::Alarm { kind, portal: Some(self.id.clone()), detail }).await;
    }
}

async fn next<W: Wiring>(output: &mut Option<Output<W>>) -> Outcome {
    match output {
        Some(output) => output.next().await,
        None => std::future::pending().await,
    }
}
