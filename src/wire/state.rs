//! The state of the gateway as published: `up/state` and its last will on the uplink, `gateway/state` on the local link.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::claims::VERSION;
use super::up;
use crate::access::engine::{MeterStatus, Status, StreamStatus, UnconfirmedStatus};
use crate::access::id::ClockTrust;
use crate::access::names;

/// The published state of the gateway (wire contract, `up/state`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateReport {
    /// Which run.
    pub boot: String,
    /// The version of the program.
    pub version: String,
    /// The state of the engine. `up/state` leaves out modes, malformed messages and which boxes are on, and has only the number of offline portals.
    pub status: Status,
    /// Last audit event the center has.
    pub audit_acked: u64,
    /// Whether the wall clock is trusted.
    pub clock: ClockTrust,
    /// What is configured insecurely.
    pub insecure: Vec<String>,
}

#[derive(Serialize)]
struct OnlineBody<'a> {
    state: Presence,
    boot: &'a str,
    conn: u64,
    version: &'a str,
    streams: &'a [StreamStatus],
    cards: u64,
    portals: Portals,
    audit: Audit,
    clock: ClockTrust,
    insecure: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unconfirmed: &'a [UnconfirmedStatus],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    meters: Vec<MeterStatus>,
}

/// How many portals there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portals {
    /// Those that answer.
    pub online: u64,
    /// Those that do not.
    pub offline: usize,
}

/// How far the audit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The number of the last event.
    pub last: u64,
    /// The last that the center has.
    pub acked: u64,
}

/// `up/state` as the center reads it. Of a gateway that is gone only `state`, `boot` and `conn` are there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct GatewayState {
    /// Whether it is there.
    pub state: Presence,
    /// Which run.
    #[serde(default)]
    pub boot: String,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// Its streams.
    #[serde(default)]
    pub streams: Vec<StreamStatus>,
    /// Cards that it knows.
    #[serde(default)]
    pub cards: u64,
    /// Its portals.
    #[serde(default)]
    pub portals: Portals,
    /// Its audit.
    #[serde(default)]
    pub audit: Audit,
    /// Whether its wall clock is trusted.
    #[serde(default)]
    pub clock: ClockTrust,
    /// What is configured insecurely.
    #[serde(default)]
    pub insecure: Vec<String>,
}

/// Reads `up/state`.
///
/// # Errors
/// [`up::BodyError`] names what is wrong.
pub fn decode(bytes: &[u8]) -> Result<GatewayState, up::BodyError> {
    up::decode(bytes)
}

names! {
    /// Whether the gateway is there.
    pub enum Presence {
        /// It is.
        Online,
        /// It is not; also its last will.
        Offline,
    }
}

/// `up/state` while the gateway runs; `conn` counts its connections in this run.
///
/// # Errors
/// Never for a report of these types.
pub fn encode(report: &StateReport, conn: u64) -> Result<Vec<u8>, serde_json::Error> {
    let StateReport { boot, version, status, audit_acked, clock, insecure } = report;
    // A factor of 0.1 leaves digits behind that nobody measured.
    let thousandths = |value: Option<f64>| value.map(|value| (value * 1000.0).round() / 1000.0);
    let meter = |meter: &MeterStatus| MeterStatus {
        portal: meter.portal.clone(),
        power_w: thousandths(meter.power_w),
        energy_kwh: thousandths(meter.energy_kwh),
    };
    up::encode(&OnlineBody {
        state: Presence::Online,
        boot,
        conn,
        version,
        streams: &status.streams,
        cards: status.cards,
        portals: Portals { online: status.portals_online, offline: status.offline.len() },
        audit: Audit { last: status.audit_last, acked: *audit_acked },
        clock: *clock,
        insecure,
        unconfirmed: &status.unconfirmed,
        meters: status.meters.iter().map(meter).collect(),
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
    let (state, boot) = (presence.as_str(), Value::from(boot));
    format!(r#"{{"v":{VERSION},"state":"{state}","boot":{boot}}}"#).into_bytes()
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
    use std::collections::BTreeMap;

    use super::*;
    use crate::access::portal::Posture;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_state_is_spelled_as_in_the_contract() {
        let stream = StreamStatus {
            name: "apartment".parse().unwrap(),
            epoch: 3,
            seq: 1042,
            missing: 0,
            digest: Some("ab".into()),
            age_s: Some(12),
        };
        let status = Status {
            streams: vec![stream],
            integrity: crate::access::decide::ListIntegrity::Complete,
            damaged: vec![],
            cards: 1180,
            portals_online: 41,
            offline: vec!["gate-in".parse().unwrap()],
            causes: Vec::new(),
            unreported: vec!["gate-in".parse().unwrap()],
            modes: vec![("door-412".parse().unwrap(), Posture::Lockdown)],
            malformed: vec![],
            unconfirmed: vec![],
            alarms: vec![],
            open: BTreeMap::new(),
            audit_last: 88_213,
            meters: vec![],
            on: vec!["power-412".parse().unwrap()],
        };
        let mut report = StateReport {
            boot: "b1".into(),
            version: "0.1.0".into(),
            status,
            audit_acked: 88_200,
            clock: ClockTrust::Trusted,
            insecure: vec![],
        };
        assert_eq!(
            text(encode(&report, 12).unwrap()),
            r#"{"v":1,"state":"online","boot":"b1","conn":12,"version":"0.1.0","streams":[{"name":"apartment","epoch":3,"seq":1042,"missing":0,"digest":"ab","age_s":12}],"cards":1180,"portals":{"online":41,"offline":1},"audit":{"last":88213,"acked":88200},"clock":"trusted","insecure":[]}"#
        );
        report.status.meters = vec![
            MeterStatus { portal: "power-412".parse().unwrap(), power_w: Some(412.0 * 0.1), energy_kwh: Some(103.4) },
            MeterStatus { portal: "power-413".parse().unwrap(), power_w: Some(0.0), energy_kwh: None },
        ];
        let since = crate::access::id::Timestamp(1_788_249_600_000);
        let uid = "1EA68671".parse().unwrap();
        report.status.unconfirmed = vec![UnconfirmedStatus { portal: "power-412".parse().unwrap(), uid, since }];
        let with_meters = r#""insecure":[],"unconfirmed":[{"portal":"power-412","uid":"1EA68671","since":"2026-09-01T08:00:00.000Z"}],"meters":[{"portal":"power-412","power_w":41.2,"energy_kwh":103.4},{"portal":"power-413","power_w":0.0}]}"#;
        assert!(text(encode(&report, 12).unwrap()).ends_with(with_meters), "{}", text(encode(&report, 12).unwrap()));
        let read = decode(&encode(&report, 12).unwrap()).unwrap();
        assert_eq!((read.streams, read.cards, read.audit.last), (report.status.streams.clone(), 1180, 88_213));
        assert_eq!(decode(&encode_offline("b1", 12)).unwrap().state, Presence::Offline);
        assert_eq!(text(encode_offline("b1", 12)), r#"{"v":1,"state":"offline","boot":"b1","conn":12}"#);
        assert_eq!(text(encode_local(Presence::Online, "b1")), r#"{"v":1,"state":"online","boot":"b1"}"#);
    }
}
