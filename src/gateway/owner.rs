//! The engine and everything its effects go to. No waiting, no I/O: the task in `mod.rs` calls it, and a simulation can call it
//! the same way.

use std::time::Duration;

use tokio::sync::mpsc;

use super::digests::{Digested, Digests, Lines, Work};
use super::dispatch::{Dispatch, RETRY_MS};
use super::metrics::{DecisionLabels, Metrics, OutcomeLabels, RejectedLabels, StreamLabels};
use super::pending::{ALARM_WAIT_MS, Answer, Pending};
use super::ports::{
    Ask, MeterState, OperatorRefusal, Part, PortalOrder, PortalOutlets, Readiness, StateReport, StreamState,
    UplinkOrder,
};
use crate::access::audit::{AlarmKind, Record};
use crate::access::effect::Effect;
use crate::access::engine::Engine;
use crate::access::id::{ClockTrust, Mono, Now, StreamName};
use crate::access::input::{Input, Operator};
use crate::clock::Clock;
use crate::store::{Store, StoreEvent};
use crate::wire::may::MaySet;

/// Shortest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MIN_MS: u64 = 1_000;
/// Longest time between two publications of the state, in milliseconds (wire contract, section 3).
const STATE_MAX_MS: u64 = 60_000;

/// Where records go. The store is one; a simulation has another.
pub trait Journal {
    /// Takes records in order. Never waits; what cannot be kept is reported later as lost.
    fn append(&mut self, records: Vec<Record>);

    /// The last event that the center has. The uplink moves it.
    fn acked(&self) -> u64 {
        0
    }
}

impl Journal for Store {
    fn append(&mut self, records: Vec<Record>) {
        Store::append(self, records);
    }

    fn acked(&self) -> u64 {
        Store::acked(self)
    }
}

/// What the published state says besides the engine's own.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Which run.
    pub boot: String,
    /// The version of the program.
    pub version: String,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
    /// The streams and the ops each owns, for their digests.
    pub streams: Vec<(StreamName, MaySet)>,
}

/// See the module's head.
pub struct GatewayCore<J> {
    engine: Engine,
    journal: J,
    dispatch: Dispatch,
    pending: Pending,
    /// Records that the journal was not given yet.
    unwritten: Vec<Record>,
    publication: Publication,
    durable: u64,
    acked: u64,
    digests: Digests,
    identity: Identity,
    metrics: Metrics,
    readiness: Readiness,
}

/// When the state is published: on change at most once in [`STATE_MIN_MS`], and every [`STATE_MAX_MS`].
#[derive(Default)]
struct Publication {
    /// Something may have changed since the state was last looked at.
    changed: bool,
    looked_at: Option<Mono>,
    /// The last one published, see [`without_numbers`].
    last: Option<(Mono, StateReport)>,
}

impl Publication {
    /// When the state is looked at next.
    fn due_at(&self) -> Mono {
        let regular = self.last.as_ref().map_or(Mono::default(), |(at, _)| at.plus_ms(STATE_MAX_MS));
        let on_change = self.looked_at.map_or(Mono::default(), |at| at.plus_ms(STATE_MIN_MS));
        if self.changed { regular.min(on_change) } else { regular }
    }

    /// Whether `state` is to be published now.
    fn take(&mut self, state: &StateReport, now: Mono) -> bool {
        (self.changed, self.looked_at) = (false, Some(now));
        let regular = self.last.as_ref().is_none_or(|(at, _)| now.since_ms(*at) >= STATE_MAX_MS);
        let state = without_numbers(state.clone());
        let publish = regular || self.last.as_ref().is_some_and(|(_, last)| *last != state);
        if publish {
            self.last = Some((now, state));
        }
        publish
    }
}

/// The state without what changes by itself and is published with the next regular one: the numbers of the audit, the ages, the
/// meters; and without the modes, which are not published.
fn without_numbers(state: StateReport) -> StateReport {
    let streams = state.streams.into_iter().map(|stream| StreamState { age_s: None, ..stream }).collect();
    StateReport { audit_last: 0, audit_acked: 0, streams, meters: Vec::new(), modes: Vec::new(), ..state }
}

impl<J: Journal> GatewayCore<J> {
    /// A core whose journal holds everything up to event `durable`, of which the center has everything up to `acked`.
    pub fn new(
        engine: Engine,
        journal: J,
        outlets: PortalOutlets,
        uplink: Option<mpsc::Sender<UplinkOrder>>,
        identity: Identity,
        metrics: Metrics,
    ) -> Self {
        let digests = Digests::new(identity.streams.clone());
        let pending = Pending::default();
        let dispatch = Dispatch::new(outlets, uplink, metrics.clone());
        Self {
            engine,
            journal,
            dispatch,
            pending,
            unwritten: Vec::new(),
            publication: Publication::default(),
            durable: 0,
            acked: 0,
            digests,
            identity,
            metrics,
            readiness: Readiness::default(),
        }
    }

    /// Handles one input: decides, drives, records, answers.
    pub fn input(&mut self, input: Input, now: Now) {
        if let Input::Rejected(rejected) = &input {
            let labels = RejectedLabels { topic: rejected.topic, code: rejected.error.code.as_str() };
            self.metrics.rejected.get_or_create(&labels).inc();
        }
        // What was published is gone from the broker: its last will has taken its place.
        if matches!(input, Input::LinkUp) {
            self.publication = Publication::default();
        }
        let effects = self.engine.handle(input, now);
        self.carry_out(effects, now);
    }

    /// What the store found lost at start; see [`Engine::damaged`].
    pub fn damaged(&mut self, from: u64, to: u64, now: Now) {
        let effects = self.engine.damaged(from, to, now);
        self.carry_out(effects, now);
    }

    /// How much was done that the journal and the center are to be given now.
    #[must_use]
    pub fn pending(&self, now: Now) -> usize {
        self.unwritten.len() + usize::from(self.publication.due_at() <= now.mono)
    }

    /// Gives the journal the records of what was handled, and the center the state. Apart from the handling, so that an answer is
    /// on its way before.
    pub fn flush(&mut self, now: Now) {
        if !self.unwritten.is_empty() {
            self.journal.append(std::mem::take(&mut self.unwritten));
        }
        if self.publication.due_at() <= now.mono {
            let state = self.state(now);
            self.count_list(&state);
            if self.publication.take(&state, now.mono) {
                self.dispatch.uplink(UplinkOrder::State(Box::new(state)));
            }
        }
    }

    /// Everything up to event `through` is on disk: gives the answers that waited for it.
    pub fn durable(&mut self, through: u64, now: Now) {
        self.durable = self.durable.max(through);
        self.metrics.audit_durable.set(gauge(self.durable));
        for answer in self.pending.take_durable(self.durable) {
            self.answer(answer, now);
        }
    }

    /// The center has everything up to event `through`.
    pub fn acked(&mut self, through: u64) {
        self.acked = self.acked.max(through);
        self.metrics.audit_acked.set(gauge(self.acked));
    }

    /// Sends alarms that have waited long enough for the disk, and orders that now fit.
    pub fn wake(&mut self, now: Now) {
        self.dispatch.retry();
        self.acked(self.journal.acked());
        for answer in self.pending.take_overdue_alarms(now.mono) {
            self.answer(answer, now);
        }
    }

    /// When [`GatewayCore::wake`] or [`GatewayCore::flush`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Mono> {
        let retry = self.dispatch.has_queued().then(|| now.mono.plus_ms(RETRY_MS));
        let all = self.engine.next_deadline(now).into_iter().chain(self.pending.next_alarm());
        all.chain(retry).chain([self.publication.due_at()]).min()
    }

    /// Answers a question; an operator's command becomes an input.
    pub fn ask(&mut self, ask: Ask, clock: &Clock) {
        let now = clock.now();
        // Whoever asked may have gone; then nobody misses the answer.
        let gone = match ask {
            Ask::Query { uid, portal, answer } => answer.send(self.engine.query(uid, portal.as_ref(), now)).is_err(),
            Ask::Status { answer } => answer.send(self.state(now)).is_err(),
            Ask::TrustClock { answer } => {
                let trusted = clock.trust().map_err(|why| OperatorRefusal::NotNow(why.to_string()));
                answer.send(trusted.map(|()| clock.now().wall)).is_err()
            }
            Ask::Operator { command, answer } => {
                let outcome = self.refusal(&command).map_or(Ok(()), Err);
                if outcome.is_ok() {
                    self.input(Input::Operator(command), now);
                }
                answer.send(outcome).is_err()
            }
        };
        if gone {
            tracing::debug!("whoever asked has gone");
        }
    }

    fn refusal(&self, command: &Operator) -> Option<OperatorRefusal> {
        match command {
            Operator::FireReset => self.engine.fire_reset_refusal().map(OperatorRefusal::NotNow),
            Operator::Posture { portals, .. } => {
                let unknown = portals.iter().find(|portal| self.engine.kind_of(portal.as_str()).is_none());
                unknown.cloned().map(OperatorRefusal::UnknownPortal)
            }
        }
    }

    /// Whether there is work at a digest.
    pub fn digest_work(&self, now: Now) -> Work {
        self.digests.work_due(now.mono)
    }

    /// Works a little at a digest. Gives the lines to hash when they are complete.
    pub fn work_at_digest(&mut self, now: Now) -> Option<Lines> {
        self.digests.work(self.engine.state(), now.mono)
    }

    /// Takes a digest; the state that has it is published.
    pub fn digested(&mut self, digested: Option<Digested>) {
        self.digests.take(digested);
        self.publication.changed = true;
    }

    /// Whether an ack or a reply still waits for the disk.
    #[must_use]
    pub fn has_pending_answers(&self) -> bool {
        self.pending.has_answers()
    }

    /// Whether an order waits for room on its way out.
    #[must_use]
    pub fn has_queued_orders(&self) -> bool {
        self.dispatch.has_queued()
    }

    /// A request was handled in this time.
    pub fn decided_in(&self, took: Duration) {
        self.metrics.decision_seconds.observe(took.as_secs_f64());
    }

    /// What the store reports.
    pub fn store_event(&mut self, event: StoreEvent, now: Now) {
        let trouble = match event {
            StoreEvent::Durable { through, took, .. } => {
                self.metrics.flush_seconds.observe(took.as_secs_f64());
                return self.durable(through, now);
            }
            StoreEvent::Lost { from, to } => {
                self.metrics.audit_lost.inc_by(to.saturating_sub(from).saturating_add(1));
                return self.input(Input::Lost { from, to }, now);
            }
            StoreEvent::Refused { n, why } => {
                tracing::error!(n, why, "an event cannot be written");
                self.metrics.audit_lost.inc();
                return self.input(Input::Lost { from: n, to: n }, now);
            }
            StoreEvent::GenerationWritten { position, pairs, took } => {
                return tracing::info!(position, pairs, took_ms = took.as_millis(), "a generation was written");
            }
            StoreEvent::Retained { first } => return tracing::info!(first, "old events were removed from the journal"),
            StoreEvent::Recovered => {
                self.readiness.ready(Part::Store);
                return tracing::info!("the store works again");
            }
            StoreEvent::Failing { detail } => {
                let why = format!("the store cannot be written: {detail}");
                self.readiness.not_ready(Part::Store, why.clone());
                why
            }
            StoreEvent::Stalled { for_ms } => format!("a write to the store has been under way for {for_ms} ms"),
            StoreEvent::GenerationFailed { detail } => format!("a generation could not be written: {detail}"),
            StoreEvent::Found(finding) => finding.to_string(),
        };
        self.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail: trouble }, now);
    }

    /// Whether the gateway is ready, for those who ask. The core keeps the store's part of it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The journal.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Now) {
        for effect in effects {
            match effect {
                Effect::Order(order) => {
                    if let PortalOrder::Answer { portal, decision, .. } = &order {
                        self.count(portal, decision);
                    }
                    self.dispatch.portal(order);
                }
                Effect::Record(record) => {
                    self.metrics.audit_last.set(gauge(record.event.n));
                    self.unwritten.push(*record);
                }
                Effect::Acknowledge { after, ack, receipt } => {
                    let labels = OutcomeLabels { outcome: ack.outcome.as_str() };
                    self.metrics.messages.get_or_create(&labels).inc();
                    self.pending.push(after, Answer::Ack(ack, receipt));
                }
                Effect::Reply { after, reply } => {
                    let labels = OutcomeLabels { outcome: reply.status.as_str() };
                    self.metrics.commands.get_or_create(&labels).inc();
                    self.pending.push(after, Answer::Reply(reply));
                }
                Effect::Alarm(alarm) => {
                    self.metrics.alarms.inc();
                    let portal = alarm.portal.as_ref().map(tracing::field::display);
                    tracing::warn!(alarm = alarm.kind.as_str(), portal, detail = alarm.detail, "alarm");
                    self.pending.push(alarm.n, Answer::Alarm(alarm, now.mono.plus_ms(ALARM_WAIT_MS)));
                }
                Effect::Resync(resync) => self.dispatch.uplink(UplinkOrder::Resync(resync)),
                Effect::Metered { portal, power_w, energy_kwh } => self.metrics.metered(&portal, power_w, energy_kwh),
                Effect::StateChanged => {
                    self.publication.changed = true;
                    self.digests.changed(now.mono);
                }
            }
        }
        // What waits for nothing, or for what is on disk already, goes at once.
        for answer in self.pending.take_durable(self.durable) {
            self.answer(answer, now);
        }
    }

    fn count(&self, portal: &str, decision: &crate::access::decision::Decision) {
        let kind = self.engine.kind_of(portal).map_or("unknown", crate::access::portal::PortalKind::as_str);
        let labels = DecisionLabels { kind, decision: decision.as_str(), reason: decision.reason_str() };
        self.metrics.decisions.get_or_create(&labels).inc();
    }

    fn answer(&mut self, answer: Answer, now: Now) {
        self.dispatch.uplink(match answer {
            Answer::Ack(ack, receipt) => UplinkOrder::Acknowledge { ack, receipt, durable_at: now.wall },
            Answer::Reply(reply) => UplinkOrder::Reply(reply),
            Answer::Alarm(alarm, _) => UplinkOrder::Alarm(alarm),
        });
    }

    fn count_list(&self, state: &StateReport) {
        self.metrics.cards.set(gauge(state.cards));
        for stream in &state.streams {
            let labels = StreamLabels { stream: stream.name.to_string() };
            self.metrics.stream_epoch.get_or_create(&labels).set(i64::from(stream.epoch));
            self.metrics.stream_seq.get_or_create(&labels).set(gauge(stream.seq));
        }
    }

    /// The state as published.
    #[must_use]
    pub fn state(&self, now: Now) -> StateReport {
        let status = self.engine.status(now);
        let stream = |s: crate::access::engine::StreamStatus| StreamState {
            digest: self.digests.of(&s.name, self.engine.state()),
            name: s.name,
            epoch: s.epoch,
            seq: s.seq,
            missing: s.missing,
            age_s: s.age_s,
        };
        let meter = |m: crate::access::engine::MeterStatus| MeterState {
            portal: m.portal,
            power_w: m.power_w,
            energy_kwh: m.energy_kwh,
        };
        StateReport {
            boot: self.identity.boot.clone(),
            version: self.identity.version.clone(),
            streams: status.streams.into_iter().map(stream).collect(),
            cards: status.cards,
            portals_online: status.portals_online,
            offline: status.offline,
            modes: status.modes,
            audit_last: status.audit_last,
            audit_acked: self.acked.max(self.journal.acked()),
            clock_trusted: now.clock == ClockTrust::Trusted,
            insecure: self.identity.insecure.clone(),
            meters: status.meters.into_iter().map(meter).collect(),
        }
    }
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::change::{Changes, Op, Position};
    use crate::access::engine::{Setup, StreamRole};
    use crate::access::id::Timestamp;
    use crate::access::input::{ClockChange, PortalReport, Receipt, ReceivedChanges};
    use crate::access::portal::{Portal, PortalKind};
    use crate::access::state::State;

    struct Nowhere;

    impl Journal for Nowhere {
        fn append(&mut self, _records: Vec<Record>) {}
    }

    fn at(ms: u64) -> Now {
        Now { wall: Timestamp(1_788_249_600_000), mono: Mono(ms), clock: ClockTrust::Trusted }
    }

    /// A core with one gate and an uplink whose orders are kept.
    fn core() -> (GatewayCore<Nowhere>, mpsc::Receiver<UplinkOrder>) {
        let gate = Portal {
            id: "gate-in".parse().unwrap(),
            kind: PortalKind::Gate,
            zone: "lobby".parse().unwrap(),
            direction: None,
            hold_ms: 3_000,
            delay_off_ms: 0,
            debounce_ms: 0,
            held_open_ms: 0,
            rest_ms: 0,
            fire_input: true,
        };
        let setup = Setup {
            portals: vec![gate],
            lossy: Vec::new(),
            policy: crate::access::policy::Policy::default(),
            streams: vec![StreamRole { name: "office".parse().unwrap(), owns_standing: true }],
            boot: "b".to_owned(),
        };
        let identity = Identity { streams: vec![("office".parse().unwrap(), MaySet::ALL)], ..Identity::default() };
        let (to, orders) = mpsc::channel(64);
        let engine = Engine::new(setup, State::default());
        let outlets = PortalOutlets::default();
        (GatewayCore::new(engine, Nowhere, outlets, Some(to), identity, Metrics::default()), orders)
    }

    /// What the center is sent of the state at `ms`, after the gate has reported `online`.
    fn published(
        (core, orders): &mut (GatewayCore<Nowhere>, mpsc::Receiver<UplinkOrder>),
        online: Option<bool>,
        ms: u64,
    ) -> Vec<StateReport> {
        if online.is_some() {
            let report = PortalReport { online, ..PortalReport::default() };
            core.input(Input::Report { portal: "gate-in".into(), report }, at(ms));
        }
        if core.pending(at(ms)) > 0 {
            core.flush(at(ms));
        }
        let state = |order| match order {
            UplinkOrder::State(state) => Some(*state),
            _ => None,
        };
        std::iter::from_fn(|| orders.try_recv().ok()).filter_map(state).collect()
    }

    #[test]
    fn the_state_is_published_on_change_once_a_second_with_the_newest_and_every_minute() {
        let mut core = core();
        let mut online =
            |online, ms| published(&mut core, online, ms).iter().map(|state| state.portals_online).collect::<Vec<_>>();
        assert_eq!(online(None, 0), [0], "at the start");
        assert_eq!(online(Some(true), 1_000), [1]);
        for (state, ms) in [(false, 1_010), (true, 1_020), (false, 1_999)] {
            assert_eq!(online(Some(state), ms), [0_u64; 0]);
        }
        assert_eq!(online(None, 2_000), [0], "no other input is needed");
        assert_eq!(online(None, 61_999), [0_u64; 0], "nothing changed");
        assert_eq!(online(None, 62_000), [0], "after 60 s");
    }

    #[test]
    fn the_core_wakes_when_the_state_is_due() {
        let mut core = core();
        published(&mut core, Some(true), 1_000);
        published(&mut core, Some(false), 1_010);
        assert!(core.0.next_deadline(at(1_010)).is_some_and(|next| next <= Mono(2_000)));
    }

    #[test]
    fn a_change_of_the_audits_numbers_alone_publishes_nothing_before_the_next_minute() {
        let mut core = core();
        assert_eq!(published(&mut core, Some(true), 1_000).len(), 1);
        core.0.acked(7);
        core.0.input(Input::Clock(ClockChange::Step { by_ms: 1_000 }), at(3_000));
        assert_eq!(
            published(&mut core, None, 4_000),
            [],
            "an event was recorded, and the clock is as trusted as before"
        );
        let [later] = published(&mut core, None, 61_000).try_into().unwrap();
        assert_eq!(later.audit_acked, 7);
    }

    #[test]
    fn the_state_is_published_at_once_when_the_link_is_up_again() {
        let mut core = core();
        assert_eq!(published(&mut core, Some(true), 1_000).len(), 1);
        core.0.input(Input::LinkUp, at(1_100));
        assert_eq!(published(&mut core, None, 1_100).len(), 1);
    }

    #[test]
    fn a_digest_is_published_within_five_seconds_of_the_change_however_busy_the_gateway_is() {
        let mut core = core();
        let [before] = published(&mut core, Some(true), 1_000).try_into().unwrap();
        assert_eq!((&before.streams[0].digest, before.streams[0].age_s), (&None, None), "nothing was received yet");
        let changes = Changes {
            stream: "office".parse().unwrap(),
            at: Position { epoch: std::num::NonZeroU32::MIN, seq: 1 },
            iat: None,
            content: Ok(vec![Op::Issue { uid: "1EA68671".parse().unwrap(), holder: "h1".parse().unwrap() }]),
        };
        let received_at = at(0).wall;
        let received = ReceivedChanges { changes, evidence: Vec::new(), receipt: Receipt(1), received_at };
        core.0.input(Input::Changes(received), at(10_000));
        // Never a quiet moment: only what is late is worked at.
        let (mut lines, mut late) = (None, 10_000);
        while lines.is_none() && late < 15_000 {
            late += 100;
            if core.0.digest_work(at(late)) == Work::Late {
                lines = core.0.work_at_digest(at(late));
            }
        }
        core.0.digested(Some(lines.expect("in time").finish()));
        let state = published(&mut core, None, 14_000).pop().unwrap();
        assert!(state.streams[0].digest.is_some());
        assert!(late < 14_000);
    }
}
