//! `dormgate check`: everything that is wrong with a configuration, or what was understood of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Exit, bad_config, print_line};
use crate::access::policy::Severity;
use crate::access::portal::PortalKind;
use crate::config::{
    self, AuditAckBy, BusConfig, BusLine, LinkSpec, Part, Parts, PortalConfig, PortalDevice, Site, UNIT_SELF, cert,
};
use crate::profile::{Confirm, InputKind, OnLinkLoss, Output, Pulse};
use crate::wire::allowed::OpName;
use crate::wire::envelope::Scope;

/// Report everything that is wrong with a configuration and the profiles it names
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration to check.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Exit {
    match config::load(&args.config) {
        Ok(config) => print_line(summary(&config)),
        Err(error) => bad_config(&error),
    }
}

/// What was understood, in one paragraph, and what a site probably did not mean.
fn summary(config: &Site) -> String {
    let mut parts = vec![format!(
        "gateway `{}` in {}, data in `{}`",
        config.gateway,
        config.timezone_name,
        config.data_dir.display()
    )];
    parts.push(match &config.uplink {
        Some(link) => format!("uplink to {}", address(link)),
        None => "no uplink: it runs from its store alone".to_owned(),
    });
    if let Some(link) = &config.local {
        parts.push(format!("local broker {}", address(link)));
    }
    for stream in &config.streams {
        let scope = match stream.scope {
            Scope::Gateway => "",
            Scope::Campus => " for the whole campus",
        };
        let ops: Vec<&str> = stream.allowed.iter().map(OpName::as_str).collect();
        parts.push(format!("stream `{}`{scope} may {}", stream.name, ops.join(", ")));
    }
    for bus in &config.buses {
        let line = match &bus.line {
            BusLine::Serial(serial) => format!("{} at {} Bd", serial.port, serial.baud),
            BusLine::Tcp(peer) => peer.to_string(),
        };
        parts.push(format!("bus `{}` on {line}", bus.id));
    }
    if let Some(server) = &config.modbus_server {
        let tcp = server.tcp.map(|address| address.to_string());
        let serial = server.serial.as_ref().map(|serial| serial.port.clone());
        let lines: Vec<String> = tcp.into_iter().chain(serial).collect();
        parts.push(format!("controllers ask at {}", lines.join(" and ")));
    }
    parts.push(portals(config));
    parts.push(match &config.http {
        Some(http) => format!("pages at http://{}", http.listen),
        None => "no pages".to_owned(),
    });
    let (certificates, mut hints) = certificates(config);
    hints.extend(while_cut_off(config));
    hints.extend([fire(config), directions(config), closed(config)].into_iter().flatten());
    let lines = [
        ("note", notes(config)),
        ("certificate", certificates),
        ("hint", hints),
        ("insecure", config.insecure.clone()),
    ];
    let line =
        |(kind, texts): (&str, Vec<String>)| texts.iter().map(|text| format!("\n{kind}: {text}")).collect::<String>();
    parts.join("; ") + "." + &lines.map(line).concat()
}

fn address(link: &LinkSpec) -> String {
    let urls: Vec<String> = link.urls.iter().map(ToString::to_string).collect();
    format!("{} as `{}`", urls.join(" or "), link.client_id)
}

fn portals(config: &Site) -> String {
    let of = |kind: PortalKind| config.portals.iter().filter(|p| p.portal.kind == kind).count();
    let wired = |of: fn(&PortalDevice) -> bool| config.portals.iter().filter(|p| of(&p.device)).count();
    format!(
        "portals: {} gate(s), {} door(s), {} power box(es), of these {} over MQTT, {} by Modbus parts, {} asking over Modbus",
        of(PortalKind::Gate),
        of(PortalKind::Door),
        of(PortalKind::PowerBox),
        wired(|device| matches!(device, PortalDevice::NativeMqtt)),
        wired(|device| matches!(device, PortalDevice::Parts(_))),
        wired(|device| matches!(device, PortalDevice::ModbusServer { .. })),
    )
}

/// What is allowed and probably not meant.
fn notes(config: &Site) -> Vec<String> {
    let mut notes = Vec::new();
    if config.streams.is_empty() {
        notes.push("no `[[center.stream]]`, so no card can become known here".to_owned());
    }
    if config.portals.is_empty() {
        notes.push("no `[[portal]]`, so there is nothing to open".to_owned());
    }
    let commands = config.streams.iter().any(|stream| stream.allowed.contains(OpName::Command));
    if config.uplink.is_some() && config.audit.ack == AuditAckBy::Center && !commands {
        notes.push(format!(
            "`audit.ack` is `center`, but no stream may `{}`, so nobody can acknowledge the audit and it is sent again and again",
            OpName::Command
        ));
    }
    if config.modbus_server.is_some()
        && !config.portals.iter().any(|p| matches!(p.device, PortalDevice::ModbusServer { .. }))
    {
        notes.push("`[modbus_server]` listens, but no portal is `device = { modbus_server = … }`".to_owned());
    }
    notes.extend(lossy(config));
    notes.extend(devices(config));
    notes.extend(without_effect(config).into_iter().map(|what| format!("{what} has no effect in this version")));
    notes
}

/// The portals of parts, with their outputs.
fn outputs(config: &Site) -> impl Iterator<Item = (&PortalConfig, &Parts, &Part, &Output)> {
    config.portals.iter().filter_map(|portal| match &portal.device {
        PortalDevice::Parts(parts) => Some((portal, parts, &parts.output, parts.output.profile.output.as_ref()?)),
        PortalDevice::NativeMqtt | PortalDevice::ModbusServer { .. } => None,
    })
}

/// What works with these devices and is probably not meant.
fn devices(config: &Site) -> Vec<String> {
    let mut notes = Vec::new();
    let mut reserved: BTreeMap<&str, Vec<&PortalConfig>> = BTreeMap::new();
    for (of, parts, part, output) in outputs(config) {
        let portal = &of.portal;
        for part in parts.all().filter(|part| part.unit == UNIT_SELF) {
            let serial = |bus: &&BusConfig| bus.id == part.bus && matches!(bus.line, BusLine::Serial(_));
            if let Some(bus) = config.buses.iter().find(serial) {
                let users = reserved.entry(&bus.id).or_default();
                if users.last().is_none_or(|last| last.portal.id != portal.id) {
                    users.push(of);
                }
            }
        }
        let profile = &part.profile.id;
        match (portal.kind, &output.confirm, output.pulse(part.channel, portal.hold_ms)) {
            (PortalKind::PowerBox, Confirm::Echo { .. }, _) => notes.push(format!(
                "the relay of `{}` (`{profile}`) cannot be read back: that the power is off is never known; use a relay that can",
                portal.id
            )),
            (PortalKind::Gate | PortalKind::Door, _, Some((_, ms))) if ms < portal.hold_ms => notes.push(format!(
                "`{}` is open for {ms} ms and not for its `hold_ms` of {}: `{profile}` ends a pulse itself by then",
                portal.id, portal.hold_ms
            )),
            (PortalKind::Gate | PortalKind::Door | PortalKind::PowerBox, ..) => {}
        }
    }
    notes.extend(reserved.into_iter().map(|(bus, portals)| {
        format!(
            "unit {UNIT_SELF} on the serial line `{bus}` ({}) is a number that Modbus reserves and some boards are delivered with: \
             fine until a second one shares the line; set another number then",
            names(portals)
        )
    }));
    notes
}

/// These portals, by name.
fn names<'p>(portals: impl IntoIterator<Item = &'p PortalConfig>) -> String {
    portals.into_iter().map(|p| format!("`{}`", p.portal.id)).collect::<Vec<_>>().join(", ")
}

/// What relays do that the gateway cannot reach: over a line that is cut it can change nothing.
fn while_cut_off(config: &Site) -> Vec<String> {
    let mut alike: BTreeMap<(&str, &str, &str), Vec<&PortalConfig>> = BTreeMap::new();
    for (portal, _, part, output) in outputs(config) {
        let does = match part.profile.on_link_loss {
            OnLinkLoss::Off => continue,
            OnLinkLoss::Hold => "keeps its relays as they are",
            OnLinkLoss::Unknown => {
                "is not known to switch its relays off (try it, and write what it does as `on_link_loss` in a profile of your own)"
            }
        };
        let follows = match (portal.portal.kind, &output.pulse) {
            (PortalKind::PowerBox, _) => {
                "a card that is revoked meanwhile keeps its power until the line is back; where that may not be, use a relay that \
                 switches off by itself"
            }
            (PortalKind::Gate | PortalKind::Door, Pulse::Gateway) => {
                "what is open at that moment stays open until the line is back; where that may not be, use a relay that ends a \
                 pulse by itself"
            }
            (PortalKind::Gate | PortalKind::Door, Pulse::Device { .. }) => continue,
        };
        alike.entry((&part.profile.id, does, follows)).or_default().push(portal);
    }
    let hint = |((profile, does, follows), portals): (_, Vec<&PortalConfig>)| {
        format!("while the line of {} is cut, `{profile}` {does}: {follows}", names(portals))
    };
    alike.into_iter().map(hint).collect()
}

/// What the files of certificates hold, and what cannot work or soon will not.
fn certificates(config: &Site) -> (Vec<String>, Vec<String>) {
    let now = jiff::Timestamp::now();
    let (mut found, mut hints) = (Vec::new(), Vec::new());
    for (name, link) in [("uplink", &config.uplink), ("local", &config.local)] {
        // Without `[local]` its link has the broker and the files of the uplink.
        let same = |link: &&LinkSpec| {
            name == "local"
                && config.uplink.as_ref().is_some_and(|up| up.urls == link.urls && up.ca_file == link.ca_file)
        };
        if let Some(link) = link.as_ref().filter(|link| !same(link)) {
            let (certificates, more) = cert::describe(name, link, now);
            found.extend(certificates);
            hints.extend(more);
        }
    }
    (found, hints)
}

/// Which portals may put the building in fire.
fn fire(config: &Site) -> Option<String> {
    let may = names(config.portals.iter().filter(|p| p.portal.fire_input && can_report_fire(&p.device)));
    (!may.is_empty()).then(|| {
        format!(
            "the fire input of {may} puts the building in fire and releases every gate and door; `fire_input = false` at a portal \
             takes that away from it"
        )
    })
}

/// Whether a device can report a fire at all.
fn can_report_fire(device: &PortalDevice) -> bool {
    match device {
        PortalDevice::NativeMqtt | PortalDevice::ModbusServer { .. } => true,
        PortalDevice::Parts(parts) => {
            parts.all().any(|part| part.profile.inputs.iter().any(|input| input.kind == InputKind::Fire))
        }
    }
}

/// Gates that take the reader's report for the direction: what is reported as "out" is never refused.
fn directions(config: &Site) -> Option<String> {
    let reports = |device: &PortalDevice| match device {
        PortalDevice::NativeMqtt | PortalDevice::ModbusServer { .. } => true,
        PortalDevice::Parts(parts) => parts.readers().any(|reader| reader.direction.is_some()),
    };
    let gate =
        |p: &&PortalConfig| p.portal.kind == PortalKind::Gate && p.portal.direction.is_none() && reports(&p.device);
    let gates = names(config.portals.iter().filter(gate));
    (!gates.is_empty()).then(|| {
        format!(
            "{gates} has no `direction`, so the reader's \"out\" is taken as reported, and out is never refused: who controls the \
             reader opens the gate; write `direction = \"in\"` where one only enters"
        )
    })
}

/// A listener for the network to which nobody on the network may connect.
fn closed(config: &Site) -> Option<String> {
    let server = config.modbus_server.as_ref()?;
    let tcp = server.tcp.filter(|address| !address.ip().is_loopback())?;
    server.allow.iter().all(|net| net.network().is_loopback()).then(|| {
        format!(
            "`[modbus_server]` listens at {tcp}, and its `allow` lets in nobody but this machine: controllers on the network are \
             turned away; list them, e.g. `allow = [\"192.0.2.0/24\"]`"
        )
    })
}

/// Readers that lose part of the UID, by what they do to it.
fn lossy(config: &Site) -> Vec<String> {
    let mut by_transform: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (portal, transform) in config.portals.iter().filter_map(PortalConfig::lossy_reader) {
        by_transform.entry(transform).or_default().push(format!("`{portal}`"));
    }
    let note = |(transform, portals): (_, Vec<String>)| {
        format!(
            "the reader of {} gives only what `{transform}` leaves of a UID: cards that collide are denied there as `ambiguous_identifier`, and an unknown card may pass for a known one",
            portals.join(", ")
        )
    };
    by_transform.into_iter().map(note).collect()
}

/// What is asked for and not done yet. What is the default, and what is off, guarantees nothing.
fn without_effect(config: &Site) -> Vec<&'static str> {
    let policy = &config.policy;
    let token = config.http.as_ref().is_some_and(|http| http.token.is_some());
    let asked = [
        (policy.anti_passback == Severity::Deny, "`policy.anti_passback = \"hard\"`"),
        (policy.clone == Severity::Deny, "`policy.clone = \"deny\"`"),
        (policy.lockout_s > 0, "`policy.lockout_s`: too many denials raise an alarm and lock nobody out; it"),
        (token, "`http.token_file`: nothing can be changed over HTTP, only through the socket; it"),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what).collect()
}
