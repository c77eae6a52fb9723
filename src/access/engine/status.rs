//! The engine's state for those who watch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::decide::ListIntegrity;
use super::super::event::AlarmKind;
use super::super::id::{CardUid, Now, PortalId, StreamName, Timestamp};
use super::super::portal::{Portal, Posture};
use super::Engine;

/// One stream, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: StreamName,
    /// Its epoch; 0: nothing received.
    pub epoch: u32,
    /// Received without a hole up to here.
    pub seq: u64,
    /// How many numbers are missing.
    pub missing: u64,
    /// SHA-256 of the stream's lines in hex; whoever computes it for this revision puts it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Seconds since its newest change or head was made; `None`: none came yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
}

/// The readings of one portal's meter that are fresh.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeterStatus {
    /// The portal.
    pub portal: PortalId,
    /// Power drawn, in watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_w: Option<f64>,
    /// The meter's count, in kilowatt-hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_kwh: Option<f64>,
}

/// A power box that has not confirmed that it is off since a card was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnconfirmedStatus {
    /// The portal.
    pub portal: PortalId,
    /// The card that was revoked, the first of several.
    pub uid: CardUid,
    /// Since when the revocation is in force.
    pub since: Timestamp,
}

/// An alarm that has an end and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenAlarm {
    /// What about.
    #[serde(rename = "alarm")]
    pub kind: AlarmKind,
    /// Where; `None`: the gateway itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub portal: Option<PortalId>,
    /// Since when.
    pub since: Timestamp,
}

/// The engine, for those who watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Each configured stream.
    pub streams: Vec<StreamStatus>,
    /// How far the list may be trusted.
    pub integrity: ListIntegrity,
    /// The streams of which the store lost something, until they are sent again.
    pub damaged: Vec<StreamName>,
    /// Cards known.
    pub cards: u64,
    /// Portals that are online.
    pub portals_online: u64,
    /// Portals that are offline or have not reported yet.
    pub offline: Vec<PortalId>,
    /// Why, of those of which it is known.
    pub causes: Vec<(PortalId, String)>,
    /// Those of them that have not reported since the gateway's start. They may be there: what opens is sent to them.
    pub unreported: Vec<PortalId>,
    /// The modes in force that are not `secure`, by portal.
    pub modes: Vec<(PortalId, Posture)>,
    /// What portals sent lately that could not be read, by portal.
    pub malformed: Vec<(PortalId, String)>,
    /// The boxes that have not confirmed a revocation, at most [`UNCONFIRMED_LISTED_MAX`](super::UNCONFIRMED_LISTED_MAX).
    pub unconfirmed: Vec<UnconfirmedStatus>,
    /// The open alarms, at most [`OPEN_LISTED_MAX`](super::OPEN_LISTED_MAX), oldest first.
    pub alarms: Vec<OpenAlarm>,
    /// How many alarms are open, by kind: all of them.
    pub open: BTreeMap<AlarmKind, u64>,
    /// Last audit event.
    pub audit_last: u64,
    /// The meters with fresh readings, by portal.
    pub meters: Vec<MeterStatus>,
    /// The power boxes that are on, as far as is known.
    pub on: Vec<PortalId>,
}

impl Engine {
    /// How many alarms are open, by kind.
    #[must_use]
    pub fn open_alarms(&self) -> BTreeMap<AlarmKind, u64> {
        self.alarms.counted()
    }

    /// Milliseconds since the newest change or head of a stream was made, by the center's clock; `None`: none came yet.
    pub(super) fn age_ms(&self, stream: &StreamName, now: Now) -> Option<u64> {
        let made_at = self.state.streams.get(stream)?.newest_iat?;
        Some(u64::try_from(self.time.of_lists(now).0.saturating_sub(made_at.0)).unwrap_or(0))
    }

    /// The state for those who watch.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let stream = |role: &super::StreamRole| {
            let track = self.state.streams.get(&role.name);
            StreamStatus {
                name: role.name.clone(),
                epoch: track.and_then(|t| t.epoch).map_or(0, std::num::NonZeroU32::get),
                seq: track.map_or(0, |t| t.through),
                missing: track.map_or(0, super::super::stream::StreamTrack::missing_count),
                digest: None,
                age_s: self.age_ms(&role.name, now).map(|ms| ms / 1000),
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
            integrity: self.integrity(),
            damaged: self.damaged_streams().cloned().collect(),
            cards: count(self.state.list.len()),
            portals_online: count(online),
            offline: self
                .portals
                .iter()
                .map(|p| p.id.clone())
                .filter(|id| self.online.get(id) != Some(&true))
                .collect(),
            causes: self.causes.clone().into_iter().collect(),
            unreported: self
                .portals
                .iter()
                .map(|p| p.id.clone())
                .filter(|id| !self.online.contains_key(id) && !self.outputs_offline.contains(id))
                .collect(),
            modes: self.portals.iter().map(mode).filter(|(_, posture)| *posture != Posture::Secure).collect(),
            malformed: self.malformed_status(now),
            unconfirmed: self.unconfirmed(),
            alarms: self.alarms.listed(),
            open: self.open_alarms(),
            audit_last: self.state.last_n,
            meters: self.meters.iter().map(meter).collect(),
            on: self.boxes.iter().filter(|(_, power)| power.source().is_some()).map(|(id, _)| id.clone()).collect(),
        }
    }
}
