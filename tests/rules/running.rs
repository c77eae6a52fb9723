//! A gateway whose disk does one step after the other, so that the power can be cut between any two.

use dormgate::access::change::{Changes, Op, RegisterKind};
use dormgate::access::engine::{Engine, Setup, StreamRole};
use dormgate::access::id::{ClockTrust, Mono, Now, Timestamp};
use dormgate::access::input::{Input, PortalReport, Receipt, ReceivedChanges};
use dormgate::access::state::State;
use dormgate::gateway::metrics::Metrics;
use dormgate::gateway::owner::{GatewayCore, Identity};
use dormgate::gateway::ports::PortalOutlets;
use dormgate::store::{MemoryDisk, Options, Stepped, Stepper, Store, StoreEvents};
use dormgate::wire::down::write_changes;

use crate::world::{BEGIN_MS, OFFICE, at, name, uid};

/// A gateway over a simulated disk. A restart is another one of these over the same disk.
pub struct Running {
    pub core: GatewayCore,
    events: StoreEvents,
    pub disk: Stepper<State>,
}

/// Milliseconds since the tests began, on both clocks.
pub fn at_ms(ms: u64) -> Now {
    Now { wall: Timestamp(BEGIN_MS + i64::try_from(ms).unwrap()), mono: Mono(ms), clock: ClockTrust::Trusted }
}

impl Running {
    pub fn start(disk: &MemoryDisk, ms: u64) -> Self {
        let options = Options { reserve_bytes: 4096, ..Options::default() };
        let (store, events, recovered, disk) = Store::open_in_memory::<State>(disk, options).unwrap();
        let role = StreamRole { name: name(OFFICE), owns: RegisterKind::ALL.iter().copied().collect() };
        let setup =
            Setup { portals: crate::world::portals(), streams: vec![role], boot: format!("b{ms}"), ..Setup::default() };
        let engine = Engine::new(setup, recovered.state);
        let (outlets, metrics) = (PortalOutlets::default(), Metrics::default());
        let mut core = GatewayCore::new(engine, store, outlets, None, Identity::default(), metrics);
        core.input(Input::Boot { found: String::new(), version: String::new(), gateway: None }, at_ms(ms));
        let mut running = Self { core, events, disk };
        running.write(ms);
        running
    }

    pub fn input(&mut self, ms: u64, input: Input) {
        self.core.input(input, at_ms(ms));
        self.core.flush(at_ms(ms));
    }

    /// What was handed over is on disk, and the gateway knows it.
    pub fn write(&mut self, ms: u64) {
        self.core.flush(at_ms(ms));
        assert_eq!(self.disk.flush(), Stepped::Idle);
        self.know(ms);
    }

    pub fn know(&mut self, ms: u64) {
        while let Some(event) = self.events.try_recv() {
            self.core.store_event(event, at_ms(ms));
        }
        self.core.flush(at_ms(ms));
    }

    pub fn message(&mut self, ms: u64, seq: u64, ops: Vec<Op>) {
        let (stream, at, now) = (name(OFFICE), at(1, seq), at_ms(ms));
        let evidence = write_changes(&stream, "g", now.wall, at, &ops).unwrap().into_bytes();
        let changes = Changes { stream, at, iat: Some(now.wall), content: Ok(ops) };
        let received = ReceivedChanges { changes, evidence, receipt: Receipt(seq), received_at: at_ms(ms - 1).wall };
        self.input(ms, Input::Changes(received));
    }

    pub fn report(&mut self, ms: u64, relay: bool) {
        let report = PortalReport { relay: Some(relay), ..PortalReport::default() };
        self.input(ms, Input::Report { portal: "power-412".to_owned(), report });
    }

    pub fn may_enter(&self, ms: u64) -> &'static str {
        self.core.engine().query(uid("A"), Some(&name("gate-in")), at_ms(ms)).unwrap()[0].outcome.reason()
    }
}
