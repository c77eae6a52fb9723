//! The ends of a simulated portal that consists of parts: its reader and its output, on a Modbus line or at the broker.

use std::sync::Arc;
use std::time::Duration;

use super::modbus::Line;
use super::mqtt::profiled::SimulatedDevice;
use crate::access::id::CardUid;

/// An end of a portal: its reader or its output.
#[derive(Clone)]
pub(super) enum End {
    Modbus(Place),
    Mqtt(Arc<SimulatedDevice>, u16),
}

impl End {
    /// The reader of a slot, if this is the reader of the first.
    pub(super) fn at(&self, slot: u16) -> Self {
        match self {
            Self::Modbus(place) => Self::Modbus(place.at(slot)),
            Self::Mqtt(..) => self.clone(),
        }
    }

    pub(super) fn card(&self) -> Option<CardUid> {
        match self {
            Self::Modbus(place) => place.card(),
            Self::Mqtt(device, _) => device.seen().card,
        }
    }

    pub(super) async fn present(&self, card: CardUid) {
        match self {
            Self::Modbus(place) => place.line.present(place.unit, place.channel, card),
            Self::Mqtt(device, _) => device.present(card).await,
        }
    }

    pub(super) async fn remove(&self) {
        match self {
            Self::Modbus(place) => place.line.remove(place.unit, place.channel),
            Self::Mqtt(device, _) => device.remove().await,
        }
    }

    pub(super) fn relay(&self) -> bool {
        match self {
            Self::Modbus(place) => place.line.relay(place.unit, place.channel),
            Self::Mqtt(device, channel) => device.seen().on.contains(channel),
        }
    }

    pub(super) async fn wait_relay(&self, on: bool, limit: Duration) -> bool {
        match self {
            Self::Modbus(place) => place.line.wait_relay(place.unit, place.channel, on, limit).await,
            Self::Mqtt(device, channel) => {
                device.wait_until(limit, |seen| seen.on.contains(channel) == on).await.is_some()
            }
        }
    }
}

/// A channel of a device on a running line.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) line: Line,
    pub(super) unit: u8,
    pub(super) channel: u16,
}

impl Place {
    /// The reader of a slot, if this is the reader of the first.
    fn at(&self, slot: u16) -> Self {
        Self { channel: self.channel.saturating_add(slot), ..self.clone() }
    }

    fn card(&self) -> Option<CardUid> {
        self.line.card(self.unit, self.channel)
    }
}
