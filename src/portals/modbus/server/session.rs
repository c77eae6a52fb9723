//! One portal whose controller asks the gateway: its registers, the request under way, the desired output.
//!
//! Owns what a request does and how long it may take; the bytes that carry it are in `frames`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::SERVER_BUS;
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::id::PortalId;
use crate::access::input::{Input, PortalReport, Request as CardRequest};
use crate::access::portal::{Assurance, PortalKind, Posture};
use crate::gateway::ports::{Inbox, PortalOrder};
use crate::lock;
use crate::portals::device::HOLD_MS_DEFAULT;
use crate::wire::modbus::{Exception, Reply, Request, Space};
use crate::wire::registers::{self, Answer, CardQuestion, StateBits};

/// How long a decision may take, in milliseconds; then it is a denial, `internal_error`, and a later grant opens nothing.
pub const DECISION_MS: u64 = 500;
/// How long the grant of a gate or door is read, in milliseconds: some time-outs of a controller whose reply was lost. A repeat of its
/// request meanwhile is judged again. Later there is no answer: a controller that writes its registers again and again, or counts from
/// 1 again after a restart, must not read an old grant as a new one.
pub const REPEAT_MS: u64 = 3_000;
/// How long a controller may be silent before its portal is offline, in milliseconds.
pub const CONTROLLER_SILENT_MS: u64 = 30_000;
/// The gateway's inbox is full: the controller retries (Modbus application protocol 1.1b3, 7).
const BUSY: Exception = Exception(6);

/// A portal whose controller asks the gateway.
pub(super) struct PortalSession {
    id: PortalId,
    kind: PortalKind,
    unit: u8,
    inbox: Inbox,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Answer,
    /// The last request that was judged. The same one is no other presentation: only another counter, card or direction is new.
    answered: Option<Answered>,
    posture: Posture,
    /// Gates and doors: released until then. Power boxes: see `energised`.
    released_until: Option<Instant>,
    /// The grant that keeps a power box on.
    energised: Option<Grant>,
    /// A power box was ordered off, and its controller has not read that since.
    off_unread: bool,
    requests: u64,
    /// Requests without a decision yet.
    waiting: HashMap<String, Waiting>,
    last_request: Option<Instant>,
    online: bool,
}

/// A request that was judged.
#[derive(Clone)]
struct Answered {
    asked: CardQuestion,
    id: String,
    at: Instant,
}

/// A request that is being judged.
struct Waiting {
    asked: CardQuestion,
    /// When it was judged first, if it was before.
    first: Option<Instant>,
    /// Wakes its task.
    decided: oneshot::Sender<()>,
}

impl State {
    /// The grant of a gate or door is over after a while.
    fn end_old_grant(&mut self, kind: PortalKind) {
        let is_old =
            self.answered.as_ref().is_some_and(|answered| answered.at.elapsed() >= Duration::from_millis(REPEAT_MS));
        if is_old && kind != PortalKind::PowerBox && self.answer.decision == registers::GRANT {
            self.answer.ended();
        }
    }
}

impl PortalSession {
    pub(super) fn new(id: PortalId, kind: PortalKind, unit: u8, inbox: Inbox) -> Self {
        Self { id, kind, unit, inbox, began: Instant::now(), state: Mutex::default() }
    }

    /// Carries out an order of the gateway.
    pub(super) fn execute(&self, order: PortalOrder) {
        let mut state = lock(&self.state);
        match order {
            PortalOrder::Answer { id, decision, delay_ms, .. } => {
                // Without a waiting request the answer is late, and a late grant opens nothing. The grant is carried out here, in
                // the order of the orders: done by the task that waits, it could follow a cut that was ordered after it.
                let Some((id, waiting)) = id.and_then(|id| state.waiting.remove_entry(&id)) else { return };
                let Waiting { asked, first, decided } = waiting;
                let counter = asked.counter;
                state.answer.decide(counter, &decision);
                state.answered = Some(Answered { asked, id, at: first.unwrap_or_else(Instant::now) });
                if first.is_some() && !decision.is_grant() {
                    state.released_until = None;
                }
                // A box that rests is switched on by the order at the end of its rest. What was released is not released again.
                if let (Decision::Grant(grant), None, None) = (decision, delay_ms, first) {
                    self.carry_out(&mut state, grant);
                }
                if decided.send(()).is_err() {
                    tracing::debug!(bus = SERVER_BUS, unit = self.unit, portal = %self.id, counter, "the controller did not wait for its answer");
                }
            }
            PortalOrder::Release { grant } | PortalOrder::Energise { grant, .. } => self.carry_out(&mut state, grant),
            PortalOrder::Cut { reason, .. } | PortalOrder::Withdraw { reason, .. } => {
                tracing::info!(bus = SERVER_BUS, unit = self.unit, portal = %self.id, reason, "switched off");
                state.energised = None;
                state.off_unread = self.kind == PortalKind::PowerBox;
                state.released_until = None;
                // A repeat must not read the grant that has ended.
                if state.answer.decision == registers::GRANT {
                    match Reason::parse(reason) {
                        Some(reason) => {
                            let counter = state.answer.counter;
                            state.answer.decide(counter, &Decision::Deny(reason.into()));
                        }
                        None => state.answer.ended(),
                    }
                }
            }
            PortalOrder::Lock { .. } => state.released_until = None,
            PortalOrder::Mode { posture, .. } => state.posture = posture,
            PortalOrder::Inform { posture, on, .. } => {
                state.posture = posture;
                if let Some(grant) = on {
                    self.carry_out(&mut state, grant);
                }
            }
        }
    }

    fn carry_out(&self, state: &mut State, grant: Grant) {
        match self.kind {
            PortalKind::PowerBox => state.energised = Some(grant),
            PortalKind::Gate | PortalKind::Door => {
                let hold = Duration::from_millis(u64::from(grant.hold_ms().unwrap_or(HOLD_MS_DEFAULT)));
                state.released_until = Some(Instant::now() + hold);
            }
        }
    }

    /// The registers as they are now.
    fn answer(&self) -> Answer {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let held = match self.kind {
            PortalKind::PowerBox => state.energised.is_some(),
            PortalKind::Gate | PortalKind::Door => {
                state.posture.holds_open() || state.released_until.is_some_and(|until| now < until)
            }
        };
        state.end_old_grant(self.kind);
        state.answer.posture = state.posture.code();
        state.answer.output = u16::from(held);
        let seconds = now.duration_since(self.began).as_secs() % 0x1_0000;
        state.answer.heartbeat = u16::try_from(seconds).unwrap_or(0);
        state.answer
    }

    /// The reply to one request.
    pub(super) async fn serve(&self, request: &Request) -> Result<Reply, Exception> {
        self.seen();
        match request {
            Request::Read { space: Space::Input, address, count } => {
                let answer = self.answer();
                let words = answer.read_input(*address, *count)?;
                self.answer_read(&answer, *address, *count);
                Ok(Reply::Words(words))
            }
            Request::Read { space: Space::Holding, address, count } => self.read_mirror(*address, *count),
            Request::WriteRegister { address, value } => {
                self.write(*address, &[*value]).await?;
                Ok(Reply::Written)
            }
            Request::WriteRegisters { address, values } => {
                self.write(*address, values).await?;
                Ok(Reply::Written)
            }
            Request::ReadWrite { read, count, write, values } => {
                // A read outside the map is rejected before anything is written.
                self.answer().read_holding(*read, *count)?;
                self.write(*write, values).await?;
                self.read_mirror(*read, *count)
            }
            Request::Read { space: Space::Coil | Space::Discrete, .. }
            | Request::WriteCoil { .. }
            | Request::WriteCoils { .. } => Err(Exception::ILLEGAL_FUNCTION),
        }
    }

    fn read_mirror(&self, start: u16, count: u16) -> Result<Reply, Exception> {
        let answer = self.answer();
        let words = answer.read_holding(start, count)?;
        self.answer_read(&answer, start.saturating_sub(registers::MIRROR_START), count);
        Ok(Reply::Words(words))
    }

    /// The controller reads these registers of its answer. One that was ordered off knows it when it has read its output: it carries
    /// that out by itself, and reports no relay.
    fn answer_read(&self, answer: &Answer, start: u16, count: u16) {
        let reads_off =
            answer.output == 0 && (start..start.saturating_add(count)).contains(&registers::OUTPUT_REGISTER);
        let confirms = {
            let mut state = lock(&self.state);
            reads_off && state.energised.is_none() && std::mem::take(&mut state.off_unread)
        };
        if confirms && !self.offer(PortalReport { relay: Some(false), ..PortalReport::default() }) {
            lock(&self.state).off_unread = true;
        }
    }

    async fn write(&self, start: u16, values: &[u16]) -> Result<(), Exception> {
        let (state, question) = registers::write(start, values)?;
        for report in state.map(StateBits::reports).unwrap_or_default() {
            if !self.offer(report) {
                return Err(BUSY);
            }
        }
        if let Some(question) = question {
            self.decide(question).await;
        }
        Ok(())
    }

    fn offer(&self, report: PortalReport) -> bool {
        self.inbox.offer(Input::Report { portal: self.id.as_str().to_owned(), report })
    }

    async fn decide(&self, asked: CardQuestion) {
        let counter = asked.counter;
        let request = CardRequest {
            portal: self.id.as_str().to_owned(),
            id: None,
            presented: asked.presented.clone(),
            direction: asked.direction,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        };
        let (id, decided) = {
            let mut state = lock(&self.state);
            state.end_old_grant(self.kind);
            let before = state.answered.clone().filter(|before| before.asked == asked);
            // The grant of a box lasts until it is cut.
            let is_grant = self.kind != PortalKind::PowerBox && state.answer.decision == registers::GRANT;
            let (id, first) = match before {
                Some(_) if !is_grant => return,
                // The card may have been revoked since.
                Some(before) => (before.id, Some(before.at)),
                None => {
                    state.requests += 1;
                    // A counter alone is no id: a controller that restarts begins at 1 again, with another card.
                    (format!("{}-{counter}", state.requests), None)
                }
            };
            let (decided, waits) = oneshot::channel();
            state.waiting.insert(id.clone(), Waiting { asked, first, decided });
            (id, waits)
        };
        let request = Input::Request(CardRequest { id: Some(id.clone()), ..request });
        if self.inbox.offer(request) && timeout(Duration::from_millis(DECISION_MS), decided).await.is_ok() {
            return;
        }
        // The decision may have come since the time-out.
        let mut state = lock(&self.state);
        if state.waiting.remove(&id).is_some() {
            let error = format!("no decision within {DECISION_MS} ms");
            tracing::error!(
                bus = SERVER_BUS, unit = self.unit, portal = %self.id, counter, error, "a request is denied"
            );
            state.answer.decide(counter, &Decision::Deny(Reason::InternalError.into()));
            // The engine did not judge it, so a repeat is judged.
            state.answered = None;
        }
    }

    fn seen(&self) {
        let was_online = {
            let mut state = lock(&self.state);
            state.last_request = Some(Instant::now());
            std::mem::replace(&mut state.online, true)
        };
        let here = PortalReport { online: Some(true), output_online: Some(true), ..PortalReport::default() };
        if !was_online && !self.offer(here) {
            lock(&self.state).online = false;
        }
    }

    /// Reports a controller that sends no requests any more. Called periodically.
    pub(super) fn watch(&self) {
        let is_silent = {
            let state = lock(&self.state);
            let limit = Duration::from_millis(CONTROLLER_SILENT_MS);
            state.online && state.last_request.is_some_and(|at| at.elapsed() > limit)
        };
        if !is_silent {
            return;
        }
        // It is also what drives the output: nothing that opens is ordered meanwhile.
        let cause = format!("its controller has sent no request for {} s", CONTROLLER_SILENT_MS / 1000);
        let (online, output_online) = (Some(false), Some(false));
        if self.offer(PortalReport { online, output_online, cause: Some(cause), ..PortalReport::default() }) {
            lock(&self.state).online = false;
        }
    }
}
