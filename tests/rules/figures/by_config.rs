//! Figures that a configuration decides: what is the default, and what is refused.

use std::path::PathBuf;

use dormgate::access::portal::{Portal, PortalKind};
use dormgate::config::{self, Site, Surroundings};
use dormgate::profile::{SHIPPED, shipped};

use super::{AtLeast, AtMost, Row, row};

pub(super) fn rows() -> Vec<Row> {
    let site = read("").unwrap();
    let portal = |kind: PortalKind| -> Portal {
        let of_kind = site.portals.iter().find(|portal| portal.portal.kind == kind);
        of_kind.unwrap().portal.clone()
    };
    let (gate, door) = (portal(PortalKind::Gate), portal(PortalKind::Door));
    let audit = &site.audit;
    vec![
        row(7, "GB 50396-2007 5.1.5", "`policy.max_denials` by default", (AtMost(5), "tries"), site.policy.max_denials),
        row(
            10,
            "IEC 60839-11-1 T7 17",
            "events kept by default",
            (AtLeast(100_000), "events"),
            audit.retain_events.get(),
        ),
        row(10, "IEC 60839-11-1 T7 17", "days that they are kept by default", (AtLeast(30), "days"), audit.retain_days),
        row(
            11,
            "IEC 60839-11-1 T7 18",
            "links off the host without encryption that are not reported",
            (AtMost(0), "links"),
            unreported(),
        ),
        row(13, "ULC 60839-11-1", "`hold_ms` of a door by default", (AtLeast(3_000), "ms"), door.hold_ms),
        row(
            13,
            "ULC 60839-11-1",
            "`hold_ms` of a door below 1 s that are accepted",
            (AtMost(0), "values"),
            short_holds(),
        ),
        row(14, "IEC 60839-11-1 T2 20-22", "`held_open_s` by default", (AtLeast(10), "s"), door.held_open_ms / 1000),
        row(
            14,
            "IEC 60839-11-1 T2 20-22",
            "portals that can have one of their own",
            (AtLeast(2), "of 2"),
            own_held_open(),
        ),
        row(
            15,
            "IEC 60839-11-1 T2 24",
            "the longest poll of a contact in a shipped profile",
            (AtMost(200), "ms"),
            slowest_contact(),
        ),
        row(
            20,
            "turnstiles in use",
            "`debounce_ms` of a polled gate by default",
            (AtMost(5_000), "ms"),
            gate.debounce_ms,
        ),
    ]
}

/// A site with a polled gate and a polled door; `more` are lines of each portal.
fn read(more: &str) -> Result<Site, Vec<String>> {
    let portal = |id: &str, kind: &str, unit: u8| {
        format!(
            "[[portal]]\nid = \"{id}\"\nkind = \"{kind}\"\nzone = \"1\"\n{more}\
             reader = {{ modbus = \"b\", unit = {unit}, profile = \"inveo-rfid-ind-m1\" }}\n\
             output = {{ modbus = \"b\", unit = 9, profile = \"waveshare-relay-8ch\", channel = {unit} }}\n"
        )
    };
    let bus = "[gateway]\nid = \"g\"\n[[bus]]\nid = \"b\"\ntcp = \"127.0.0.1:502\"\n";
    parse(&format!("{bus}{}{}", portal("gate", "gate", 1), portal("door", "door", 2)))
}

fn parse(text: &str) -> Result<Site, Vec<String>> {
    let around = Surroundings { base_dir: PathBuf::from("/nowhere"), credentials_dir: None };
    config::parse(text, &around).map_err(|found| found.iter().map(ToString::to_string).collect())
}

fn unreported() -> usize {
    let off_host = ["mqtt://192.0.2.7", "mqtt://broker.campus.example", "mqtt://[2001:db8::7]:1884"];
    let unreported = |url: &&&str| {
        let site = parse(&format!("[gateway]\nid = \"g\"\n[uplink]\nurls = [\"{url}\"]\n")).unwrap();
        !site.insecure.iter().any(|choice| choice.contains("uplink") && choice.contains("not encrypted"))
    };
    off_host.iter().filter(unreported).count()
}

fn short_holds() -> usize {
    let is_accepted = |ms: &&u32| {
        let found = read(&format!("hold_ms = {ms}\n")).err().unwrap_or_default();
        !found.iter().any(|diagnostic| diagnostic.contains("portal[1].hold_ms"))
    };
    [0_u32, 1, 500, 999].iter().filter(is_accepted).count()
}

fn own_held_open() -> usize {
    let site = read("held_open_s = 42\n").unwrap();
    site.portals.iter().filter(|portal| portal.portal.held_open_ms == 42_000).count()
}

fn slowest_contact() -> u32 {
    let periods = SHIPPED.iter().flat_map(|(id, _)| {
        let profile = shipped(id).unwrap();
        let of =
            |name: &str| profile.polls.iter().find(|poll| poll.points.iter().any(|p| p == name)).map(|p| p.every_ms);
        let all: Vec<_> = profile.inputs.iter().map(|input| of(&input.point.name).unwrap_or(u32::MAX)).collect();
        all
    });
    periods.max().unwrap()
}
