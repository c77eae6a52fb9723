//! The state of the gateway as published: `up/state` and its last will on the uplink, `gateway/state` on the local link.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::claims::VERSION;
use super::up;
use crate::access::id::{PortalId, StreamName};
use crate::access::portal::Posture;

/// One stream in [`StateReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The age of the list in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
}

/// One meter in [`StateReport`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeterState {
    /// The portal.
    pub portal: PortalId,
    /// Power drawn, in watts.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "thousandths")]
    pub power_w: Option<f64>,
    /// The meter's count, in kilowatt-hours.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "thousandths")]
    pub energy_kwh: Option<f64>,
}

/// A factor of 0.1 leaves digits behind that nobody measured.
fn thousandths<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|value| (value * 1000.0).round() / 1000.0).serialize(serializer)
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
    /// Portals not answering. `up/state` carries their number.
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
    state: Presence,
    boot: &'a str,
    conn: u64,
    version: &'a str,
    streams: &'a [StreamState],
    cards: u64,
    portals: Portals,
    audit: Audit,
    clock: &'static str,
    insecure: &'a [String],
    #[serde(skip_serializing_if = "<[MeterState]>::is_empty")]
    meters: &'a [MeterState],
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

/// Whether the gateway is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is.
    Online,
    /// It is not; also its last will.
    Offline,
}

/// `up/state` while the gateway runs; `conn` counts its connections in this run.
///
/// # Errors
/// Never for a report of these types.
pub fn encode(report: &StateReport, conn: u64) -> Result<Vec<u8>, serde_json::Error> {
    up::encode(&OnlineBody {
        state: Presence::Online,
        boot: &report.boot,
        conn,
        version: &report.version,
        streams: &report.streams,
        cards: report.cards,
        portals: Portals { online: report.portals_online, offline: report.offline.len() },
        audit: Audit { last: report.audit_last, acked: report.audit_acked },
        clock: if report.clock_trusted { "trusted" } else { "untrusted" },
        insecure: &report.insecure,
        meters: &report.meters,
    })
}

/// `up/state` of a gateway that is gone: the last will of connection `conn`, and the last message at shutdown.
#[must_use]
pub fn encode_offline(boot: &str, conn: u64) -> Vec<u8> {
    let boot = Value::from(boot);
    format!(r#"{{"v":{VERSION},"state":"offline","boot":{boot},"conn":{conn}}}"#).into_bytes()
}

/// `gateway/state` on the local link.
#[must_use]
pub fn encode_local(presence: Presence, boot: &str) -> Vec<u8> {
    let state = match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
    };
    format!(r#"{{"v":{VERSION},"state":"{state}","boot":{}}}"#, Value::from(boot)).into_bytes()
}

#[derive(Deserialize)]
struct Local {
    state: Presence,
}

/// Reads `gateway/state` on the portal's side; `None` if it cannot be read.
#[must_use]
pub fn parse_local(payload: &[u8]) -> Option<Presence> {
    up::decode::<Local>(payload).ok().map(|local| local.state)
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
            text(encode(&report, 12).unwrap()),
            r#"{"v":1,"state":"online","boot":"b1","conn":12,"version":"0.1.0","streams":[{"name":"apartment","epoch":3,"seq":1042,"missing":0,"digest":"ab","age_s":12}],"cards":1180,"portals":{"online":41,"offline":1},"audit":{"last":88213,"acked":88200},"clock":"trusted","insecure":[]}"#
        );
        report.meters = vec![
            MeterState { portal: "power-412".parse().unwrap(), power_w: Some(412.0 * 0.1), energy_kwh: Some(103.4) },
            MeterState { portal: "power-413".parse().unwrap(), power_w: Some(0.0), energy_kwh: None },
        ];
        let with_meters = r#""insecure":[],"meters":[{"portal":"power-412","power_w":41.2,"energy_kwh":103.4},{"portal":"power-413","power_w":0.0}]}"#;
        assert!(text(encode(&report, 12).unwrap()).ends_with(with_meters), "{}", text(encode(&report, 12).unwrap()));
        assert_eq!(text(encode_offline("b1", 12)), r#"{"v":1,"state":"offline","boot":"b1","conn":12}"#);
        assert_eq!(text(encode_local(Presence::Online, "b1")), r#"{"v":1,"state":"online","boot":"b1"}"#);
    }
}
