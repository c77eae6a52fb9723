//! The desk: the engine and everything its effects go to. No waiting, no I/O: the task in `mod.rs` feeds it, and a
//! simulation can feed it the same way.

use tokio::sync::mpsc;

use super::digests::{Digested, Digests, Lines};
use super::dispatch::{Dispatch, OFFER_AGAIN_MS};
use super::metrics::{DecisionLabels, Metrics, OutcomeLabels, RejectedLabels, StreamLabels};
use super::pending::{ALARM_WAIT_MS, Pending, Waiting};
use super::ports::{
    Ask, MeterState, OperatorRefusal, PortalOrder, PortalOutlets, StateReport, StreamState, UplinkOrder,
};
use crate::access::audit::Record;
use crate::access::effect::Effect;
use crate::access::engine::Engine;
use crate::access::id::{ClockTrust, Mono, Now, StreamName};
use crate::access::input::{Input, Operator};
use crate::store::Store;
use crate::wire::may::MaySet;

/// The center is told of a change of the state at once, and of the next ones no sooner than so many milliseconds later: a report
/// names every stream and costs more than a decision. The uplink publishes it once a second at most.
const STATE_MS: u64 = 250;

/// Where records go. The store is one; a simulation has another.
pub trait Journal {
    /// Takes records in order. Never waits; what cannot be kept is told later as lost.
    fn append(&mut self, records: Vec<Record>);

    /// The last event that the center has. The links move it, past the desk.
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

/// What the state tells besides the engine's own.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Which run.
    pub boot: String,
    /// The version of the program.
    pub version: String,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
    /// The streams and what each may say, for their digests.
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
    /// The state changed since it was last told.
    untold: bool,
    state_told: Option<Mono>,
    durable: u64,
    acked: u64,
    digests: Digests,
    identity: Identity,
    metrics: Metrics,
}

impl<J: Journal> GatewayCore<J> {
    /// A desk whose journal holds everything up to event `durable`, of which the center has everything up to `acked`.
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
            untold: false,
            state_told: None,
            durable: 0,
            acked: 0,
            digests,
            identity,
            metrics,
        }
    }

    /// Handles one input: decides, drives, records, answers.
    pub fn input(&mut self, input: Input, now: Now) {
        if let Input::Rejected(rejected) = &input {
            let labels = RejectedLabels { topic: rejected.topic, code: rejected.error.code.as_str() };
            self.metrics.rejected.get_or_create(&labels).inc();
        }
        let effects = self.engine.handle(input, now);
        self.carry_out(effects, now);
    }

    /// What the store found lost at start; see [`Engine::damaged`].
    pub fn damaged(&mut self, from: u64, to: u64, now: Now) {
        let effects = self.engine.damaged(from, to, now);
        self.carry_out(effects, now);
    }

    /// How many things were done of which the journal and the center are to be told now.
    #[must_use]
    pub fn untold(&self, now: Now) -> usize {
        self.unwritten.len() + usize::from(self.state_is_due(now))
    }

    fn state_is_due(&self, now: Now) -> bool {
        self.state_at().is_some_and(|at| at <= now.mono)
    }

    /// When the center is told of the state, if that changed.
    fn state_at(&self) -> Option<Mono> {
        self.untold.then(|| self.state_told.map_or(Mono::default(), |told| told.plus_ms(STATE_MS)))
    }

    /// Gives the journal the records of what was handled, and the center the state. Apart from the handling, so that an answer is
    /// on its way before.
    pub fn tell(&mut self, now: Now) {
        if !self.unwritten.is_empty() {
            self.journal.append(std::mem::take(&mut self.unwritten));
        }
        if self.state_is_due(now) {
            (self.untold, self.state_told) = (false, Some(now.mono));
            let state = self.state(now);
            self.count_list(&state);
            self.dispatch.uplink(UplinkOrder::State(Box::new(state)));
        }
    }

    /// Everything up to event `through` is on disk: lets go what waited for it.
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

    /// Lets alarms go that have waited long enough for the disk, and orders that now fit.
    pub fn wake(&mut self, now: Now) {
        self.dispatch.pay();
        self.acked(self.journal.acked());
        for answer in self.pending.take_overdue_alarms(now.mono) {
            self.answer(answer, now);
        }
    }

    /// When the desk next wants to be woken.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<Mono> {
        let offer_again = self.dispatch.owes().then(|| now.mono.plus_ms(OFFER_AGAIN_MS));
        let all = self.engine.next_deadline(now).into_iter().chain(self.pending.next_alarm());
        all.chain(offer_again).chain(self.state_at()).min()
    }

    /// Answers a question; an operator's doing becomes an input.
    pub fn ask(&mut self, ask: Ask, now: Now) {
        // Whoever asked may have gone; then nobody misses the answer.
        let gone = match ask {
            Ask::Query { uid, portal, answer } => answer.send(self.engine.query(uid, portal.as_ref(), now)).is_err(),
            Ask::Status { answer } => answer.send(self.state(now)).is_err(),
            // The task has the clock, and answers this itself.
            Ask::TrustClock { answer } => answer.send(Ok(now.wall)).is_err(),
            Ask::Operator { doing, answer } => {
                let outcome = self.refusal(&doing).map_or(Ok(()), Err);
                if outcome.is_ok() {
                    self.input(Input::Operator(doing), now);
                }
                answer.send(outcome).is_err()
            }
        };
        if gone {
            tracing::debug!("whoever asked has gone");
        }
    }

    fn refusal(&self, doing: &Operator) -> Option<OperatorRefusal> {
        match doing {
            Operator::FireReset => self.engine.fire_reset_refusal().map(OperatorRefusal::NotNow),
            Operator::Posture { portals, .. } => {
                let unknown = portals.iter().find(|portal| self.engine.kind_of(portal.as_str()).is_none());
                unknown.cloned().map(OperatorRefusal::UnknownPortal)
            }
        }
    }

    /// Whether a digest wants to be worked at, now that nothing else waits.
    #[must_use]
    pub fn has_spare_work(&self, now: Now) -> bool {
        self.digests.wants_to_work(self.engine.state(), now.mono)
    }

    /// Works a little at a digest. Gives the lines to hash when they are complete.
    pub fn spare_work(&mut self, now: Now) -> Option<Lines> {
        self.digests.work(self.engine.state(), now.mono)
    }

    /// Takes a digest, and publishes the state that now has it.
    pub fn digested(&mut self, digested: Option<Digested>, now: Now) {
        self.digests.take(digested);
        let state = self.state(now);
        self.dispatch.uplink(UplinkOrder::State(Box::new(state)));
    }

    /// Whether an acknowledgement still waits for the disk.
    #[must_use]
    pub fn promises_wait(&self) -> bool {
        self.pending.promises_wait()
    }

    /// Whether an order waits for room on its way out.
    #[must_use]
    pub fn owes(&self) -> bool {
        self.dispatch.owes()
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
                    self.pending.push(after, Waiting::Ack(ack, receipt));
                }
                Effect::Reply { after, reply } => {
                    let labels = OutcomeLabels { outcome: reply.status.as_str() };
                    self.metrics.commands.get_or_create(&labels).inc();
                    self.pending.push(after, Waiting::Reply(reply));
                }
                Effect::Alarm(alarm) => {
                    self.metrics.alarms.inc();
                    let portal = alarm.portal.as_ref().map(tracing::field::display);
                    tracing::warn!(alarm = alarm.kind.as_str(), portal, detail = alarm.detail, "alarm");
                    self.pending.push(alarm.n, Waiting::Alarm(alarm, now.mono.plus_ms(ALARM_WAIT_MS)));
                }
                Effect::Resync(resync) => self.dispatch.uplink(UplinkOrder::Resync(resync)),
                Effect::Metered { portal, power_w, energy_kwh } => self.metrics.metered(&portal, power_w, energy_kwh),
                Effect::StateChanged => self.untold = true,
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

    fn answer(&mut self, answer: Waiting, now: Now) {
        self.dispatch.uplink(match answer {
            Waiting::Ack(ack, receipt) => UplinkOrder::Acknowledge { ack, receipt, durable_at: now.wall },
            Waiting::Reply(reply) => UplinkOrder::Reply(reply),
            Waiting::Alarm(alarm, _) => UplinkOrder::Alarm(alarm),
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
    use crate::access::engine::Setup;
    use crate::access::id::Timestamp;
    use crate::access::input::PortalReport;
    use crate::access::portal::{Portal, PortalKind};
    use crate::access::state::State;

    struct Nowhere;

    impl Journal for Nowhere {
        fn append(&mut self, _records: Vec<Record>) {}
    }

    fn at(ms: u64) -> Now {
        Now { wall: Timestamp(1_788_249_600_000), mono: Mono(ms), clock: ClockTrust::Trusted }
    }

    #[test]
    fn the_center_is_told_at_once_of_a_change_and_of_the_newest_of_those_right_after_it() {
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
            streams: Vec::new(),
            boot: "b".to_owned(),
        };
        let engine = Engine::new(setup, State::default());
        let (to, mut orders) = mpsc::channel(64);
        let mut desk = GatewayCore::new(
            engine,
            Nowhere,
            PortalOutlets::default(),
            Some(to),
            Identity::default(),
            Metrics::default(),
        );
        let mut says = |desk: &mut GatewayCore<Nowhere>, online: Option<bool>, ms| {
            if let Some(online) = online {
                let report = PortalReport { online: Some(online), ..PortalReport::default() };
                desk.input(Input::Report { portal: "gate-in".into(), report }, at(ms));
            }
            if desk.untold(at(ms)) > 0 {
                desk.tell(at(ms));
            }
            let mut told = Vec::new();
            while let Ok(order) = orders.try_recv() {
                if let UplinkOrder::State(state) = order {
                    told.push(state.portals_online);
                }
            }
            told
        };
        assert_eq!(says(&mut desk, Some(true), 1_000), [1]);
        assert_eq!(says(&mut desk, Some(false), 1_010), [0_u64; 0]);
        assert_eq!(says(&mut desk, Some(true), 1_020), [0_u64; 0]);
        assert_eq!(says(&mut desk, Some(false), 1_030), [0_u64; 0]);
        let due = Mono(1_000).plus_ms(STATE_MS);
        assert!(desk.next_deadline(at(1_030)).is_some_and(|next| next <= due), "it wakes in time");
        assert_eq!(says(&mut desk, None, due.0), [0], "nobody has to say anything more for that");
        assert_eq!(says(&mut desk, None, due.0 + 1_000), [0_u64; 0], "nothing changed");
    }
}
