//! The engine and everything its effects go to. No waiting, no I/O: the task in `mod.rs` calls it, and a simulation can call it
//! the same way.

use std::time::Duration;

use tokio::sync::mpsc;

use super::answers::{Answers, Ordered};
use super::dispatch::{Dispatch, RETRY_MS};
use super::metrics::{Metrics, gauge};
use super::ports::{
    Ask, OperatorRefusal, PortalOrder, PortalOutlets, Progress, Readiness, Reload, SLICE_CARDS_MAX, StateReport,
    UplinkOrder,
};
use super::publication::{Digested, Digests, Lines, Publication, Work};
use crate::access::change::{Position, RegisterKinds};
use crate::access::effect::{Effect, QueryResult};
use crate::access::engine::Engine;
use crate::access::event::{AlarmKind, Event, Record};
use crate::access::id::{Mono, Now, StreamName};
use crate::access::input::{Actor, Input, Operator};
use crate::clock::Clock;
use crate::store::Store;
use crate::wire::uid_key::UidKey;

mod store;

use store::Trouble;

/// How long an alarm waits for the disk, in milliseconds: it must be on its way within 2 s, also when the disk is what is broken.
pub const ALARM_WAIT_MS: u64 = 1_000;

/// What the published state reports besides the engine's own.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Which run.
    pub boot: String,
    /// The version of the program.
    pub version: String,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
    /// What the hash of a UID in an alarm is made with; `None`: alarms have the UID, as the audit has.
    pub uid_key: Option<UidKey>,
    /// The streams and the registers that each owns, for their digests.
    pub streams: Vec<(StreamName, RegisterKinds)>,
}

/// See the module's head.
pub struct GatewayCore {
    engine: Engine,
    store: Store,
    dispatch: Dispatch,
    /// Records that the store was not given yet.
    unwritten: Vec<Record>,
    publication: Publication,
    durable: u64,
    /// The last snapshot applied that is not on disk yet. When it is, a generation is written: reading it again takes long.
    snapshot_event: Option<u64>,
    trouble: Trouble,
    digests: Digests,
    /// How the last order of an operator ended, and the event that its answer waits for.
    ordered: (u64, Ordered),
    answers: Answers,
    identity: Identity,
    metrics: Metrics,
    readiness: Readiness,
    progress: Progress,
}

impl GatewayCore {
    /// A core that continues `store`.
    #[must_use]
    pub fn new(
        engine: Engine,
        store: Store,
        outlets: PortalOutlets,
        uplink: Option<mpsc::Sender<UplinkOrder>>,
        identity: Identity,
        metrics: Metrics,
    ) -> Self {
        metrics.audit_durable.set(gauge(store.last_durable()));
        metrics.audit_acked.set(gauge(store.acked()));
        let digests = Digests::new(identity.streams.clone());
        let dispatch = Dispatch::new(outlets, uplink, metrics.clone());
        metrics.begin();
        Self {
            engine,
            durable: store.last_durable(),
            store,
            dispatch,
            unwritten: Vec::new(),
            publication: Publication::default(),
            snapshot_event: None,
            trouble: Trouble::default(),
            digests,
            ordered: (0, Ok(())),
            answers: Answers::default(),
            identity,
            metrics,
            readiness: Readiness::default(),
            progress: Progress::default(),
        }
    }

    /// Handles one input at the time of `clock`, once the engine has what happened to the clock.
    pub fn handle(&mut self, input: Input, clock: &Clock) {
        if let Some((stream, iat)) = input.made_by_center() {
            clock.message_made_at(stream, iat);
        }
        let now = clock.now();
        clock.take_changes().into_iter().for_each(|change| self.input(Input::Clock(change), now));
        self.input(input, now);
        self.wake(now);
    }

    /// Handles one input: decides, drives, records, answers.
    pub fn input(&mut self, input: Input, now: Now) {
        // What was published is gone from the broker: its last will has taken its place.
        if matches!(input, Input::LinkUp { .. }) {
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

    /// How much was done that the store and the center are to be given now.
    #[must_use]
    pub fn pending(&self, now: Now) -> usize {
        self.unwritten.len() + usize::from(self.publication.due_at() <= now.mono)
    }

    /// Gives the store the records of what was handled, and the center the state. Apart from the handling, so that an answer is
    /// on its way before.
    pub fn flush(&mut self, now: Now) {
        if !self.unwritten.is_empty() {
            self.store.append(std::mem::take(&mut self.unwritten));
            self.order_acknowledging();
        }
        if self.publication.due_at() <= now.mono {
            let state = self.state(now);
            self.metrics.status(&state.status);
            if self.publication.take(&state, now.mono) {
                self.publication.missed = !self.dispatch.uplink(UplinkOrder::State(Box::new(state)));
            }
        }
    }

    /// Everything up to event `through` is on disk: gives the answers that waited for it.
    pub fn durable(&mut self, through: u64, now: Now) {
        self.durable = self.durable.max(through);
        self.metrics.audit_durable.set(gauge(self.durable));
        self.dispatch.durable(self.durable, now.wall);
        self.answers.durable(self.durable);
        // The acknowledgement has left first; the audit then records it.
        if self.engine.waits_for_durable().is_some_and(|n| n <= self.durable) {
            self.input(Input::Durable { through: self.durable }, now);
        }
        if self.snapshot_event.is_some_and(|n| n <= self.durable) {
            self.snapshot_event = None;
            self.store.request_generation();
        }
    }

    /// Sends alarms and answers that have waited long enough for the disk, and orders that now fit.
    pub fn wake(&mut self, now: Now) {
        self.dispatch.retry();
        self.metrics.audit_acked.set(gauge(self.store.acked()));
        self.dispatch.overdue_alarms(now.mono);
        self.answers.overdue(now.mono);
    }

    /// When [`GatewayCore::wake`], [`GatewayCore::flush`] or [`GatewayCore::work_in_background`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Mono> {
        let retry = self.dispatch.has_queued().then(|| now.mono.plus_ms(RETRY_MS));
        let all = self.engine.next_deadline().into_iter().chain(self.dispatch.next_alarm());
        all.chain(self.answers.due_at())
            .chain(retry)
            .chain(self.digests.due_at())
            .chain([self.publication.due_at()])
            .min()
    }

    /// Answers a question; an operator's command becomes an input.
    pub fn ask(&mut self, ask: Ask, clock: &Clock) {
        let now = clock.now();
        // Whoever asked may have gone; then nobody misses the answer.
        let gone = match ask {
            Ask::Query { uid, portal, answer } => {
                let verdicts = self.engine.query(uid, portal.as_ref(), now);
                let revocations = self.engine.revocations_of(uid);
                answer.send(verdicts.map(|verdicts| QueryResult { verdicts, revocations })).is_err()
            }
            Ask::IsKnown { uid, answer } => answer.send(self.engine.state().list.card(&uid).is_some()).is_err(),
            Ask::Whereabouts { sought, answer } => answer.send(self.engine.whereabouts(&sought, now)).is_err(),
            Ask::RollCall { zone, answer } => answer.send(self.engine.roll_call(zone.as_ref(), now)).is_err(),
            Ask::Held { cards, answer } => answer.send(self.engine.held(&cards)).is_err(),
            Ask::MayOpen { portal, places, answer } => {
                let end = places.end.min(places.start.saturating_add(SLICE_CARDS_MAX));
                answer.send(self.engine.may_open(&portal, places.start..end, now)).is_err()
            }
            Ask::Status { answer } => answer.send(self.state(now)).is_err(),
            Ask::TrustClock { answer } => {
                let trusted = clock.trust().map_err(|why| OperatorRefusal::NotNow(why.to_string()));
                answer.send(trusted.map(|()| clock.now().wall)).is_err()
            }
            Ask::Operator { command, actor, answer } => {
                let (after, ordered) = self.operate(command, actor, now);
                self.answers.give(after, ordered, answer, now.mono);
                self.answers.durable(self.durable);
                false
            }
            Ask::Reload { reload, answer } => {
                self.reload(*reload, now);
                let after = self.unwritten.last().map_or(0, |record| record.event.n);
                self.answers.give(after, Ok(()), answer, now.mono);
                self.answers.durable(self.durable);
                false
            }
        };
        if gone {
            tracing::debug!("whoever asked has gone");
        }
    }

    fn operate(&mut self, command: Operator, actor: Option<Actor>, now: Now) -> (u64, Ordered) {
        self.input(Input::Operator(command, actor), now);
        std::mem::replace(&mut self.ordered, (0, Ok(())))
    }

    /// Takes over what may change while the gateway runs. No message is decided by the old rules and the new keys, or the other way
    /// round: both are in force before the next input.
    fn reload(&mut self, reload: Reload, now: Now) {
        let Reload { rules, detail, streams, insecure } = reload;
        self.dispatch.uplink(UplinkOrder::Streams(streams));
        self.input(Input::Reload { rules: Box::new(rules), detail }, now);
        let before = std::mem::replace(&mut self.identity.insecure, insecure.clone());
        for detail in insecure.into_iter().filter(|detail| !before.contains(detail)) {
            self.input(Input::Alarm { kind: AlarmKind::Insecure, portal: None, detail }, now);
        }
    }

    /// Whether there is work at a snapshot or a digest.
    #[must_use]
    pub fn background_work(&self, now: Now) -> Work {
        // A snapshot is worked at between inputs too: a revocation may be in it.
        if self.engine.has_snapshot_work() { Work::Late } else { self.digests.work_due(now.mono) }
    }

    /// Works a little at a snapshot, or else at a digest. Gives the lines of a digest to hash when they are complete.
    pub fn work_in_background(&mut self, now: Now) -> Option<Lines> {
        if self.engine.has_snapshot_work() {
            let effects = self.engine.work_at_snapshot(now);
            self.carry_out(effects, now);
            return None;
        }
        self.digests.work(self.engine.state(), now.mono)
    }

    /// Takes a digest: the engine compares it with the center's, and the state that has it is published.
    pub fn digested(&mut self, digested: Option<Digested>, now: Now) {
        let stream = self.digests.take(digested);
        self.publication.changed(now.mono);
        let Some(stream) = stream else { return };
        let track = self.engine.state().streams.get(&stream).filter(|track| track.above.is_empty());
        let at = track.and_then(|track| Some(Position { epoch: track.epoch?, seq: track.through }));
        if let Some((at, sha256)) = at.zip(self.digests.of(&stream, self.engine.state())) {
            self.input(Input::Digest { stream, at, sha256 }, now);
        }
    }

    /// Whether an ack, a reply or the answer to an operator still waits for the disk.
    #[must_use]
    pub fn has_pending_answers(&self) -> bool {
        self.dispatch.has_answers() || self.engine.has_waiting_commands() || self.answers.are_pending()
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

    /// Whether the gateway is ready, for those who ask. The core keeps the store's part of it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Whether the task that calls this core gets on, for those who watch it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The engine.
    #[must_use]
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
                    if matches!(record.event.body, Event::ChangesApplied { snapshot: Some(_), .. }) {
                        self.snapshot_event = Some(record.event.n);
                    }
                    self.unwritten.push(*record);
                }
                Effect::Acknowledge { after, ack, receipt } => {
                    self.metrics.messages.get_or_create(&[("outcome", ack.outcome.as_str())]).inc();
                    let order = UplinkOrder::Acknowledge { ack, receipt, durable_at: now.wall };
                    self.dispatch.answer_after(after, order);
                }
                Effect::Reply { after, reply } => {
                    self.metrics.commands.get_or_create(&[("outcome", reply.status.as_str())]).inc();
                    self.dispatch.answer_after(after, UplinkOrder::Reply(reply));
                }
                Effect::OrderDropped { portal } => {
                    self.metrics.orders_dropped.inc();
                    tracing::error!(%portal, "the order of a command was dropped: its id was not on disk in time");
                }
                Effect::Ordered { after, refused } => {
                    self.ordered = (after, refused.map_or(Ok(()), |error| Err(error.into())));
                }
                Effect::Alarm(mut alarm) => {
                    if let Some(key) = &self.identity.uid_key {
                        alarm.uid = alarm.uid.map(|uid| key.hash(uid));
                    }
                    // The metrics are for everybody; the center has this alarm, and the console shows it after a login.
                    if alarm.kind != AlarmKind::Duress && !alarm.ended {
                        self.metrics.alarms.get_or_create(&[("kind", alarm.kind.as_str())]).inc();
                    }
                    let portal = alarm.portal.as_ref().map(tracing::field::display);
                    tracing::warn!(alarm = alarm.kind.as_str(), portal, detail = alarm.logged(), "alarm");
                    self.metrics.open(&self.engine.open_alarms());
                    let by = now.mono.plus_ms(ALARM_WAIT_MS);
                    self.dispatch.alarm_after(alarm.n, UplinkOrder::Alarm(alarm), by);
                }
                Effect::Resync(resync) => drop(self.dispatch.uplink(UplinkOrder::Resync(resync))),
                Effect::Metered { portal, power_w, energy_kwh } => self.metrics.metered(&portal, power_w, energy_kwh),
                Effect::Rejected { kind, code } => {
                    let labels = [("topic", crate::wire::topic::leaf(kind)), ("code", code.as_str())];
                    self.metrics.rejected.get_or_create(&labels).inc();
                }
                Effect::StateChanged => {
                    self.publication.changed(now.mono);
                    self.digests.changed(now.mono);
                }
            }
        }
        // What waits for nothing, or for what is on disk already, goes at once.
        self.dispatch.durable(self.durable, now.wall);
    }

    fn count(&self, portal: &str, decision: &crate::access::decision::Decision) {
        let kind = self.engine.kind_of(portal).map_or("unknown", crate::access::portal::PortalKind::as_str);
        let labels = [("kind", kind), ("decision", decision.as_str()), ("reason", decision.reason_str())];
        self.metrics.decisions.get_or_create(&labels).inc();
    }

    /// The state as published.
    #[must_use]
    pub fn state(&self, now: Now) -> StateReport {
        let mut status = self.engine.status(now);
        for stream in &mut status.streams {
            stream.digest = self.digests.of(&stream.name, self.engine.state());
        }
        StateReport {
            boot: self.identity.boot.clone(),
            version: self.identity.version.clone(),
            status,
            audit_acked: self.store.acked(),
            clock: now.clock,
            insecure: self.identity.insecure.clone(),
        }
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
pub(super) mod tests;
