//! The ends of a portal that consists of parts: each on a Modbus line or at the broker, also mixed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::Part;
use crate::portals::device::reader::Accept;
use crate::portals::device::{Event, NotSet, Place, Released, Set, Wiring};
use crate::portals::modbus::Observer;
use crate::portals::modbus::bus::{ModbusOutput, ModbusReader};
use crate::portals::mqtt::profiled::MqttOutput;

/// The output of a portal.
pub(super) enum OutputEnd {
    Modbus(ModbusOutput),
    Mqtt(MqttOutput),
}

/// The ends of one portal. Cheap to clone.
#[derive(Clone)]
pub(super) struct PartsWiring(Arc<Ends>);

struct Ends {
    part: Part,
    output: OutputEnd,
    /// Slot by slot; a reader at the broker takes no orders.
    readers: Vec<ModbusReader>,
    events: mpsc::Sender<Event>,
    observer: Arc<dyn Observer>,
}

impl PartsWiring {
    /// `output` is that of `part`. Events of readers that were ordered to take the next card go to `events`.
    pub(super) fn new(
        (part, output): (Part, OutputEnd),
        readers: Vec<ModbusReader>,
        events: mpsc::Sender<Event>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self(Arc::new(Ends { part, output, readers, events, observer }))
    }
}

impl Wiring for PartsWiring {
    async fn set(&self, set: Set, deadline: Option<Instant>) -> Result<Instant, NotSet> {
        match &self.0.output {
            OutputEnd::Modbus(output) => output.set(set, deadline).await,
            OutputEnd::Mqtt(output) => output.set(set, deadline).await,
        }
    }

    async fn read_back(&self) -> Option<(bool, Instant)> {
        match &self.0.output {
            OutputEnd::Modbus(output) => output.read_back().await,
            OutputEnd::Mqtt(output) => output.read_back().await,
        }
    }

    fn pulse_ms(&self, hold_ms: u32) -> Option<u32> {
        match &self.0.output {
            OutputEnd::Modbus(output) => output.pulse_ms(hold_ms),
            OutputEnd::Mqtt(output) => output.pulse_ms(hold_ms),
        }
    }

    fn accept_next(&self, slot: u8, accept: Accept) {
        if let Some(reader) = self.0.readers.get(usize::from(slot)) {
            reader.accept_next(slot, accept, &self.0.events);
        }
    }

    fn count(&self, how: Released) {
        self.0.observer.release(&self.0.part, how);
    }

    fn place(&self, slot: Option<u8>) -> Place {
        match (slot.and_then(|slot| self.0.readers.get(usize::from(slot))), &self.0.output) {
            (Some(reader), _) => reader.place(),
            (None, OutputEnd::Modbus(output)) => output.place(),
            (None, OutputEnd::Mqtt(output)) => output.place(),
        }
    }
}
