//! A simulated controller: it asks the gateway's `[modbus_server]` over TCP, as section 5 of the wire contract describes.
//!
//! It reads its answer each second, so that its portal stays online, and connects again while the gateway is away. What it reports in
//! holding register 8 is written again on each new connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_modbus::Request;

use super::super::{Refused, short};
use super::Fault;
use super::caller::Caller;
use crate::access::decision::{GrantReason, Reason};
use crate::access::id::CardUid;
use crate::access::portal::{Direction, PortalKind};
use crate::wire::registers::{
    ANSWER_COUNT, GRANT, MIRROR_START, OUTPUT_REGISTER, REQUEST_START, STATE_REGISTER, StateBits, encode_request,
};

/// How often a controller reads its answer, in milliseconds.
pub const READ_MS: u64 = 1_000;
/// How long an output may take to move after a decision, in milliseconds: a box rests 3 s, and its output is read each second.
pub const OUTPUT_WAIT_MS: u64 = 5_000;
/// What can be set at a controller; 1: the contact is open, the housing is open, there is fire.
const POINTS: [(&str, u16); 3] =
    [("contact", StateBits::CONTACT_OPEN), ("tamper", StateBits::TAMPER), ("fire", StateBits::FIRE)];

/// What a controller knows of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The gateway answered last.
    pub connected: bool,
    /// The output that the gateway wants.
    pub on: bool,
}

struct State {
    /// Of the last request.
    counter: u16,
    /// The card in the power box.
    card: Option<CardUid>,
    /// Holding register 8. A gate or door that has nothing to report does not write it.
    bits: Option<u16>,
    /// The bits that were written last, and on which connection.
    written: Option<(u64, u16)>,
    silent: bool,
}

impl State {
    fn put(&mut self, bit: u16, yes: bool) {
        let bits = self.bits.unwrap_or(0);
        self.bits = Some(if yes { bits | bit } else { bits & !bit });
    }
}

struct Shared {
    caller: Arc<Caller>,
    unit: u8,
    kind: PortalKind,
    /// Held for a whole exchange, so that reading does not come between a request and what follows it.
    state: Mutex<State>,
    known: watch::Sender<Known>,
}

/// A running simulated controller of one portal. It ends when it is dropped.
pub struct Controller {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Controller {
    /// Starts the controller of a portal; it asks as `unit`.
    #[must_use]
    pub fn start(caller: Arc<Caller>, unit: u8, kind: PortalKind) -> Self {
        // The gateway would take the counter of an earlier run for a repeat.
        let counter = u16::try_from(getrandom::u32().unwrap_or(0) & 0xFFFF).unwrap_or(0);
        let bits = (kind == PortalKind::PowerBox).then_some(0);
        let state = Mutex::new(State { counter, card: None, bits, written: None, silent: false });
        let shared = Arc::new(Shared { caller, unit, kind, state, known: watch::Sender::default() });
        let task = tokio::spawn(Arc::clone(&shared).run());
        Self { shared, task }
    }

    /// As which unit it asks.
    #[must_use]
    pub fn unit(&self) -> u8 {
        self.shared.unit
    }

    /// What it knows of the gateway, to be watched.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Known> {
        self.shared.known.subscribe()
    }

    /// Presents a card; gives the decision and what the output does, in words. In a power box the card stays. Fails when the gateway does
    /// not answer.
    pub async fn present(&self, card: CardUid, direction: Option<Direction>) -> Result<String, Refused> {
        let shared = &self.shared;
        let mut state = shared.state.lock().await;
        let is_box = shared.kind == PortalKind::PowerBox;
        if state.card.is_some_and(|lies| lies != card) {
            state.put(StateBits::CARD_PRESENT, false);
        }
        let was_on = shared.read(&mut state).await?;
        if is_box {
            state.card = Some(card);
            state.put(StateBits::CARD_PRESENT, true);
        }
        state.counter = state.counter.checked_add(1).unwrap_or(1);
        let request = encode_request(state.counter, card, direction).to_vec();
        let count = u16::try_from(ANSWER_COUNT).unwrap_or(0);
        let began = Instant::now();
        let request = Request::ReadWriteMultipleRegisters(MIRROR_START, count, REQUEST_START, request.into());
        let (words, _) = shared.call(request).await?;
        let &[_, decision, reason, hold, on, ..] = words.as_slice() else {
            return Err(Refused(format!("the gateway answered {} registers instead of {ANSWER_COUNT}", words.len())));
        };
        shared.report(&mut state).await?;
        drop(state);
        let granted = decision == GRANT;
        let mut on = on != 0;
        if on != granted {
            let mut known = self.watch();
            let moved = known.wait_for(|known| known.on == granted);
            on ^= timeout(Duration::from_millis(OUTPUT_WAIT_MS), moved).await.is_ok_and(|known| known.is_ok());
        }
        let after = began.elapsed().as_millis();
        let did = match (was_on, on) {
            (false, true) => format!("output on after {after} ms"),
            (true, false) => format!("output off after {after} ms"),
            (false, false) if granted => format!("the output did not come on in {OUTPUT_WAIT_MS} ms"),
            (false, false) => "the output stays off".to_owned(),
            (true, true) => "the output was on and stays on".to_owned(),
        };
        let word = if granted { "grant" } else { "deny" };
        let held = if hold == 0 { String::new() } else { format!(" for {} ms", u32::from(hold) * 100) };
        Ok(format!("{word} {}{held}; {did}", name_of(reason)))
    }

    /// Takes the card away; gives what was done.
    pub async fn remove(&self) -> String {
        let mut state = self.shared.state.lock().await;
        if state.card.take().is_some() {
            state.put(StateBits::CARD_PRESENT, false);
        }
        format!("removed{}", self.shared.report_or_why(&mut state).await)
    }

    /// Sets what the controller reports of its portal: `contact` (1: open), `tamper` or `fire`. Gives what it is then. Fails when there
    /// is no such point, or the value is no flag.
    pub async fn set(&self, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        let Some((name, bit)) = POINTS.into_iter().find(|(name, _)| *name == point) else {
            let known = POINTS.map(|(name, _)| name).join(", ");
            return Err(Refused(format!("a controller has no point `{}`; there are {known}", short(point))));
        };
        if channel != 0 || (value != 0.0 && value != 1.0) {
            return Err(Refused(format!("`{name}` is 0 or 1, and has one channel, 0")));
        }
        let mut state = self.shared.state.lock().await;
        state.put(bit, value != 0.0);
        Ok(format!("{name} is {value}{}", self.shared.report_or_why(&mut state).await))
    }

    /// Makes it silent, or ends that. Fails for any other fault.
    pub async fn fault(&self, fault: Fault) -> Result<(), Refused> {
        let silent = match fault {
            Fault::None => false,
            Fault::Silent => true,
            _ => return Err(Refused("a controller asks and answers nothing: it can be `silent` or `none`".to_owned())),
        };
        self.shared.state.lock().await.silent = silent;
        Ok(())
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            {
                let mut state = self.state.lock().await;
                if !state.silent
                    && let Err(error) = self.read(&mut state).await
                {
                    tracing::debug!(unit = self.unit, %error, "a simulated controller is not answered");
                }
            }
            sleep(Duration::from_millis(READ_MS)).await;
        }
    }

    /// Reads whether the output is to be on, and reports what this connection does not know yet.
    async fn read(&self, state: &mut State) -> Result<bool, Refused> {
        if state.silent {
            return Err(silent(self.unit));
        }
        let count = u16::try_from(ANSWER_COUNT).unwrap_or(0);
        let (words, connection) = self.call(Request::ReadInputRegisters(0, count)).await?;
        if state.written.is_some_and(|(on, _)| on != connection) {
            state.written = None;
        }
        self.report(state).await?;
        Ok(is_on(&words))
    }

    /// Writes holding register 8, unless it is written already.
    async fn report(&self, state: &mut State) -> Result<(), Refused> {
        if state.silent {
            return Err(silent(self.unit));
        }
        let Some(bits) = state.bits.filter(|bits| state.written.is_none_or(|(_, written)| written != *bits)) else {
            return Ok(());
        };
        let (_, connection) = self.call(Request::WriteSingleRegister(STATE_REGISTER, bits)).await?;
        state.written = Some((connection, bits));
        Ok(())
    }

    /// The same; gives why it is not written, to follow what was done.
    async fn report_or_why(&self, state: &mut State) -> String {
        self.report(state).await.map_or_else(|why| format!("; not reported yet: {why}"), |()| String::new())
    }

    async fn call(&self, request: Request<'static>) -> Result<(Vec<u16>, u64), Refused> {
        let is_write = matches!(request, Request::WriteSingleRegister(..));
        let called = self.caller.call(self.unit, request).await;
        self.known.send_if_modified(|known| {
            let before = *known;
            known.connected = called.is_ok();
            if let (Ok((words, _)), false) = (&called, is_write) {
                known.on = is_on(words);
            }
            before != *known
        });
        called
    }
}

/// Whether the output is to be on, by the registers of an answer.
fn is_on(words: &[u16]) -> bool {
    words.get(usize::from(OUTPUT_REGISTER)).is_some_and(|on| *on != 0)
}

fn silent(unit: u8) -> Refused {
    Refused(format!("it is silent; `fault modbus_server/{unit} none` ends that"))
}

/// The name of a reason's code.
fn name_of(code: u16) -> String {
    let grants = GrantReason::ALL.iter().map(|reason| (reason.code(), reason.as_str()));
    let denials = Reason::ALL.iter().map(|reason| (reason.code(), reason.as_str()));
    let found = grants.chain(denials).find(|(known, _)| *known == code);
    found.map_or_else(|| format!("for reason {code}"), |(_, name)| name.to_owned())
}
