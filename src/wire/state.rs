//! The state of the gateway as published: `up/state` and its last will on the uplink, `gateway/state` on the local link.

use serde::Serialize;

use super::envelope::VERSION;
use crate::access::id::{PortalId, StreamName};
use crate::access::portal::Posture;

/// One stream in [`StateReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Its name.
    pub name: StreamName,
    /// Its epoch; 0: nothing received.
    pub epoch: u32,
    /// Received without a hole up to here.
    pub seq: u64,
    /// How many numbers are missing below the highest received.
    pub missing: u64,
    /// SHA-256 of the stream's lines in hex, once computed for this revision.
    pub digest: Option<String>,
    /// Seconds since the stream was last received.
    pub age_s: Option<u64>,
}

/// One meter in [`StateReport`].
#[derive(Clone, Debug, PartialEq)]
pub struct MeterState {
    /// The portal.
    pub portal: PortalId,
    /// Power drawn, in watts.
    pub power_w: Option<f64>,
    /// The meter's count, in kilowatt-hours.
    pub energy_kwh: Option<f64>,
}

/// The published state of the gateway (wire contract, `up/state`).
#[derive(Clone, Debug, PartialEq)]
pub struct StateReport {
    /// Which run.
    pub boot: String,
    /// The version of the program.
    pub version: String,
    /// Each configured stream.
    pub streams: Vec<StreamState>,
    /// Cards known.
    pub cards: u64,
    /// Portals answering.
    pub portals_online: u64,
    /// Portals not answering. `up/state` reports how many.
    pub offline: Vec<PortalId>,
    /// Modes in force that are not `secure`. Not in `up/state`.
    pub modes: Vec<(PortalId, Posture)>,
    /// What portals sent lately that could not be read, by portal. Not in `up/state`.
    pub malformed: Vec<(PortalId, String)>,
    /// Last audit event.
    pub audit_last: u64,
    /// Last audit event the center has.
    pub audit_acked: u64,
    /// Whether the wall clock is trusted.
    pub clock_trusted: bool,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
    /// The meters that are trusted, by portal.
    pub meters: Vec<MeterState>,
}

#[derive(Serialize)]
struct OnlineBody<'a> {
    v: u64,
    state: &'static str,
    boot: &'a str,
    conn: u64,
    version: &'a str,
    streams: Vec<StreamBody<'a>>,
    cards: u64,
    portals: Portals,
    audit: Audit,
    clock: &'static str,
    insecure: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    meters: Vec<MeterBody<'a>>,
}

/// One meter as `up/state` and the answer to `status` spell it.
#[derive(Debug, Serialize)]
pub struct MeterBody<'a> {
    portal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_w: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_kwh: Option<f64>,
}

impl<'a> From<&'a MeterState> for MeterBody<'a> {
    fn from(meter: &'a MeterState) -> Self {
        // A factor of 0.1 leaves digits behind that nobody measured.
        let thousandths = |value: f64| (value * 1000.0).round() / 1000.0;
        Self {
            portal: meter.portal.as_str(),
            power_w: meter.power_w.map(thousandths),
            energy_kwh: meter.energy_kwh.map(thousandths),
        }
    }
}

#[derive(Serialize)]
struct StreamBody<'a> {
    name: &'a str,
    epoch: u32,
    seq: u64,
    missing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_s: Option<u64>,
}

#[derive(Serialize)]
struct Portals {
    online: u64,
    offline: usize,
}

#[derive(Serialize)]
struct Audit {
    last: u64,
    acked: u64,
}

#[derive(Serialize)]
struct OfflineBody<'a> {
    v: u64,
    state: &'static str,
    boot: &'a str,
    conn: u64,
}

#[derive(Serialize)]
struct LocalBody<'a> {
    v: u64,
    state: &'static str,
    boot: &'a str,
}

/// `up/state` while the gateway runs; `conn` counts its connections in this run.
#[must_use]
pub fn encode(report: &StateReport, conn: u64) -> Vec<u8> {
    let streams = report.streams.iter().map(|s| StreamBody {
        name: s.name.as_str(),
        epoch: s.epoch,
        seq: s.seq,
        missing: s.missing,
        digest: s.digest.as_deref(),
        age_s: s.age_s,
    });
    super::bodies::to_bytes(&OnlineBody {
        v: VERSION,
        state: "online",
        boot: &report.boot,
        conn,
        version: &report.version,
        streams: streams.collect(),
        cards: report.cards,
        portals: Portals { online: report.portals_online, offline: report.offline.len() },
        audit: Audit { last: report.audit_last, acked: report.audit_acked },
        clock: if report.clock_trusted { "trusted" } else { "untrusted" },
        insecure: &report.insecure,
        meters: report.meters.iter().map(MeterBody::from).collect(),
    })
}

/// `up/state` of a gateway that is gone: the last will of connection `conn`, and the last word at shutdown.
#[must_use]
pub fn encode_offline(boot: &str, conn: u64) -> Vec<u8> {
    super::bodies::to_bytes(&OfflineBody { v: VERSION, state: "offline", boot, conn })
}

/// `gateway/state` on the local link: what portals receive.
#[must_use]
pub fn encode_local(presence: Presence, boot: &str) -> Vec<u8> {
    let state = match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
    };
    super::bodies::to_bytes(&LocalBody { v: VERSION, state, boot })
}

/// Reads `gateway/state` on the portal's side; nothing if it is not understood.
#[must_use]
pub fn parse_local(payload: &[u8]) -> Option<Presence> {
    let document = super::json::parse(payload).ok()?;
    match document.map.get("state")?.as_str()? {
        "online" => Some(Presence::Online),
        "offline" => Some(Presence::Offline),
        _ => None,
    }
}

/// Whether the gateway is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// It is.
    Online,
    /// It is not; also its last will.
    Offline,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_state_is_spelled_as_in_the_contract() {
        let stream = StreamState {
            name: "apartment".parse().unwrap(),
            epoch: 3,
            seq: 1042,
            missing: 0,
            digest: Some("ab".into()),
            age_s: Some(12),
        };
        let mut report = StateReport {
            boot: "b1".into(),
            version: "0.1.0".into(),
            streams: vec![stream],
            cards: 1180,
            portals_online: 41,
            offline: vec!["gate-in".parse().unwrap()],
            modes: vec![("door-412".parse().unwrap(), Posture::Lockdown)],
            malformed: vec![],
            audit_last: 88_213,
            audit_acked: 88_200,
            clock_trusted: true,
            insecure: vec![],
            meters: vec![],
        };
        assert_eq!(
            text(encode(&report, 12)),
            r#"{"v":1,"state":"online","boot":"b1","conn":12,"version":"0.1.0","streams":[{"name":"apartment","epoch":3,"seq":1042,"missing":0,"digest":"ab","age_s":12}],"cards":1180,"portals":{"online":41,"offline":1},"audit":{"last":88213,"acked":88200},"clock":"trusted","insecure":[]}"#
        );
        report.meters = vec![
            MeterState { portal: "power-412".parse().unwrap(), power_w: Some(412.0 * 0.1), energy_kwh: Some(103.4) },
            MeterState { portal: "power-413".parse().unwrap(), power_w: Some(0.0), energy_kwh: None },
        ];
        let with_meters = r#""insecure":[],"meters":[{"portal":"power-412","power_w":41.2,"energy_kwh":103.4},{"portal":"power-413","power_w":0.0}]}"#;
        assert!(text(encode(&report, 12)).ends_with(with_meters), "{}", text(encode(&report, 12)));
        assert_eq!(text(encode_offline("b1", 12)), r#"{"v":1,"state":"offline","boot":"b1","conn":12}"#);
        assert_eq!(text(encode_local(Presence::Online, "b1")), r#"{"v":1,"state":"online","boot":"b1"}"#);
    }
}
