//! The engine's state for those who watch.

use super::super::id::{Now, PortalId, StreamName};
use super::super::portal::{Portal, Posture};
use super::Engine;

/// One stream, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its name.
    pub name: StreamName,
    /// Its epoch; 0: nothing heard.
    pub epoch: u32,
    /// Heard without a hole up to here.
    pub seq: u64,
    /// How many numbers are missing.
    pub missing: u64,
    /// Seconds since it was last heard; `None`: never.
    pub age_s: Option<u64>,
}

/// What the meter of one portal says, as long as it is believed.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterStatus {
    /// The portal.
    pub portal: PortalId,
    /// Power drawn, in watts.
    pub power_w: Option<f64>,
    /// The meter's count, in kilowatt-hours.
    pub energy_kwh: Option<f64>,
}

/// The engine, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Each configured stream.
    pub streams: Vec<StreamStatus>,
    /// Cards known.
    pub cards: u64,
    /// Portals that said they are there.
    pub portals_online: u64,
    /// Portals that did not, or said they are not.
    pub offline: Vec<PortalId>,
    /// The modes in force that are not `secure`, by portal.
    pub modes: Vec<(PortalId, Posture)>,
    /// What portals sent lately that could not be read, by portal.
    pub malformed: Vec<(PortalId, String)>,
    /// Last audit event.
    pub audit_last: u64,
    /// The meters that are believed, by portal.
    pub meters: Vec<MeterStatus>,
}

impl Engine {
    /// The state for those who watch.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let stream = |role: &super::StreamRole| {
            let track = self.state.streams.get(&role.name);
            let age_ms = track.and_then(|t| t.heard_at).map(|at| now.wall.0.saturating_sub(at.0).max(0));
            StreamStatus {
                name: role.name.clone(),
                epoch: track.and_then(|t| t.epoch).map_or(0, std::num::NonZeroU32::get),
                seq: track.map_or(0, |t| t.through),
                missing: track.map_or(0, super::super::stream::StreamTrack::missing_count),
                age_s: age_ms.and_then(|ms| u64::try_from(ms / 1000).ok()),
            }
        };
        let online = self.online.values().filter(|online| **online).count();
        let meter = |(portal, readings): (&PortalId, &super::meters::Readings)| {
            let (power_w, energy_kwh) = readings.values();
            MeterStatus { portal: portal.clone(), power_w, energy_kwh }
        };
        let mode = |portal: &Portal| (portal.id.clone(), self.posture(portal, now));
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Status {
            streams: self.streams.iter().map(stream).collect(),
            cards: count(self.state.list.len()),
            portals_online: count(online),
            offline: self
                .portals
                .iter()
                .map(|p| p.id.clone())
                .filter(|id| self.online.get(id) != Some(&true))
                .collect(),
            modes: self.portals.iter().map(mode).filter(|(_, posture)| *posture != Posture::Secure).collect(),
            malformed: self.malformed_status(now),
            audit_last: self.state.last_n,
            meters: self.meters.iter().map(meter).collect(),
        }
    }
}
