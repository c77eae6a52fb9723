//! `dormgate check`: everything that is wrong with a configuration, or a summary of it with what an installer has to know.

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

/// Print everything that is wrong with a configuration and the profiles that it names
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

/// What the configuration means, in one paragraph; then a line for each note, certificate, hint and insecure choice.
fn summary(config: &Site) -> String {
    let (certificates, mut hints) = certificates(config);
    hints.extend(while_cut_off(config));
    hints.extend([fire(config), directions(config), closed(config)].into_iter().flatten());
    let mut notes = missing(config);
    notes.extend(lossy(config));
    notes.extend(devices(config));
    notes.extend(without_effect(config));
    let insecure = config.insecure.clone();
    let kinds = [("note", notes), ("certificate", certificates), ("hint", hints), ("insecure", insecure)];
    let lines = kinds.iter().flat_map(|(kind, texts)| texts.iter().map(move |text| format!("\n{kind}: {text}")));
    meaning(config) + &lines.collect::<String>()
}

fn meaning(config: &Site) -> String {
    let address = |link: &LinkSpec| {
        let urls: Vec<String> = link.urls.iter().map(ToString::to_string).collect();
        format!("{} as `{}`", urls.join(" or "), link.client_id)
    };
    let (gateway, zone, data) = (&config.gateway, &config.timezone_name, config.data_dir.display());
    let mut parts = vec![format!("gateway `{gateway}` in {zone}, data in `{data}`")];
    let uplink = config.uplink.as_ref().map(|link| format!("uplink to {}", address(link)));
    parts.push(uplink.unwrap_or_else(|| "no uplink: the gateway runs from its store alone".to_owned()));
    parts.extend(config.local.as_ref().map(|link| format!("local broker {}", address(link))));
    parts.extend(config.streams.iter().map(|stream| {
        let scope = if stream.scope == Scope::Campus { " for the whole campus" } else { "" };
        let ops: Vec<&str> = stream.allowed.iter().map(OpName::as_str).collect();
        format!("stream `{}`{scope} may {}", stream.name, ops.join(", "))
    }));
    parts.extend(config.buses.iter().map(|bus| match &bus.line {
        BusLine::Serial(serial) => format!("bus `{}` on {} at {} Bd", bus.id, serial.port, serial.baud),
        BusLine::Tcp(peer) => format!("bus `{}` on {peer}", bus.id),
    }));
    parts.extend(config.modbus_server.as_ref().map(|server| {
        let tcp = server.tcp.map(|address| address.to_string());
        let lines: Vec<String> =
            tcp.into_iter().chain(server.serial.as_ref().map(|serial| serial.port.clone())).collect();
        format!("controllers send requests to {}", lines.join(" and "))
    }));
    let count = |of: &dyn Fn(&PortalConfig) -> bool| config.portals.iter().filter(|portal| of(portal)).count();
    let of_kind = |kind: PortalKind| count(&|p| p.portal.kind == kind);
    parts.push(format!(
        "portals: {} gate(s), {} door(s), {} power box(es), of these {} over MQTT, {} by Modbus parts, {} by Modbus controllers",
        of_kind(PortalKind::Gate),
        of_kind(PortalKind::Door),
        of_kind(PortalKind::PowerBox),
        count(&|p| matches!(p.device, PortalDevice::NativeMqtt)),
        count(&|p| matches!(p.device, PortalDevice::Parts(_))),
        count(&|p| matches!(p.device, PortalDevice::ModbusServer { .. })),
    ));
    let pages = config.http.as_ref().map(|http| format!("pages at http://{}", http.listen));
    parts.push(pages.unwrap_or_else(|| "no pages".to_owned()));
    parts.join("; ") + "."
}

/// What is left out although other parts of the configuration need it.
fn missing(config: &Site) -> Vec<String> {
    let controllers = config.portals.iter().any(|p| matches!(p.device, PortalDevice::ModbusServer { .. }));
    let commands = config.streams.iter().any(|stream| stream.allowed.contains(OpName::Command));
    let acknowledged = config.uplink.is_none() || config.audit.ack == AuditAckBy::Broker || commands;
    let notes = [
        (config.streams.is_empty(), "no `[[center.stream]]`, so no card can become known here".to_owned()),
        (config.portals.is_empty(), "no `[[portal]]`, so there is nothing to open".to_owned()),
        (
            !acknowledged,
            format!(
                "`audit.ack` is `center`, but no stream may `{}`, so nobody can acknowledge the audit and it is sent again and again",
                OpName::Command
            ),
        ),
        (
            config.modbus_server.is_some() && !controllers,
            "`[modbus_server]` listens, but no portal is `device = { modbus_server = … }`".to_owned(),
        ),
    ];
    notes.into_iter().filter_map(|(applies, note)| applies.then_some(note)).collect()
}

/// The portals that consist of parts, with their outputs.
fn outputs(config: &Site) -> impl Iterator<Item = (&PortalConfig, &Parts, &Part, &Output)> {
    config.portals.iter().filter_map(|portal| {
        let parts = portal.device.parts()?;
        Some((portal, parts, &parts.output, parts.output.profile.output.as_ref()?))
    })
}

/// What works with these devices and is probably not meant.
fn devices(config: &Site) -> Vec<String> {
    let mut notes = Vec::new();
    let mut reserved: BTreeMap<&str, Vec<&PortalConfig>> = BTreeMap::new();
    for (of, parts, part, output) in outputs(config) {
        let (portal, profile) = (&of.portal, &part.profile.id);
        let serial = |part: &Part| {
            let on_it = |bus: &&BusConfig| bus.id == part.bus && matches!(bus.line, BusLine::Serial(_));
            config.buses.iter().find(on_it).filter(|_| part.unit == UNIT_SELF)
        };
        for bus in parts.all().filter_map(serial) {
            let users = reserved.entry(&bus.id).or_default();
            if users.last().is_none_or(|last| last.portal.id != portal.id) {
                users.push(of);
            }
        }
        match (portal.kind, &output.confirm, output.pulse(part.channel, portal.hold_ms)) {
            (PortalKind::PowerBox, Confirm::Echo { .. }, _) => notes.push(format!(
                "the relay of `{}` (`{profile}`) cannot be read back, so it is never known whether the power is off; use a relay that can",
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
            "unit {UNIT_SELF} on the serial line `{bus}` ({}) is reserved in Modbus, and some boards are delivered with it: it works \
             until a second such board shares the line; then set another number",
            names(portals)
        )
    }));
    notes
}

/// These portals, by name.
fn names<'p>(portals: impl IntoIterator<Item = &'p PortalConfig>) -> String {
    portals.into_iter().map(|p| format!("`{}`", p.portal.id)).collect::<Vec<_>>().join(", ")
}

/// A hint about the portals of which `concerns` is true, if there are any.
fn about(config: &Site, concerns: impl Fn(&PortalConfig) -> bool, hint: impl FnOnce(&str) -> String) -> Option<String> {
    let names = names(config.portals.iter().filter(|portal| concerns(portal)));
    (!names.is_empty()).then(|| hint(&names))
}

/// What relays do while their line is cut: the gateway cannot change it.
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
                "the power of a card that is revoked meanwhile stays on until the line is back; where that must not happen, use a relay \
                 that switches off by itself"
            }
            (PortalKind::Gate | PortalKind::Door, Pulse::Gateway) => {
                "what is open at that moment stays open until the line is back; where that must not happen, use a relay that ends a \
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

/// A line for each certificate, and hints for what TLS refuses or soon will.
fn certificates(config: &Site) -> (Vec<String>, Vec<String>) {
    let now = jiff::Timestamp::now();
    // Without `[local]` its link has the broker and the files of the uplink.
    let same = |up: &LinkSpec, local: &LinkSpec| up.urls == local.urls && up.ca_file == local.ca_file;
    let local = config.local.as_ref().filter(|local| !config.uplink.as_ref().is_some_and(|up| same(up, local)));
    let links = [("uplink", config.uplink.as_ref()), ("local", local)];
    let described = links.into_iter().filter_map(|(name, link)| Some(cert::describe(name, link?, now)));
    let (certificates, hints): (Vec<_>, Vec<_>) = described.unzip();
    (certificates.concat(), hints.concat())
}

/// The portals that can report a fire.
fn fire(config: &Site) -> Option<String> {
    let has_input = |part: &Part| part.profile.inputs.iter().any(|input| input.kind == InputKind::Fire);
    let may = |p: &PortalConfig| p.portal.fire_input && p.device.parts().is_none_or(|parts| parts.all().any(has_input));
    about(config, may, |names| {
        format!(
            "a fire input of {names} sets the posture `fire` and releases every gate and door; with `fire_input = false` that of a \
             portal is ignored"
        )
    })
}

/// The gates at which the reader's report of a direction counts: who reports "out" is never denied.
fn directions(config: &Site) -> Option<String> {
    let reports = |parts: &Parts| parts.readers().any(|reader| reader.direction.is_some());
    let gate = |p: &PortalConfig| {
        p.portal.kind == PortalKind::Gate && p.portal.direction.is_none() && p.device.parts().is_none_or(reports)
    };
    about(config, gate, |names| {
        format!(
            "{names} has no `direction`, so the direction that its reader reports counts, and the way out is never denied: whoever \
             controls the reader can open the gate; write `direction = \"in\"` where one only enters"
        )
    })
}

/// A listener for the network to which nobody on the network may connect.
fn closed(config: &Site) -> Option<String> {
    let server = config.modbus_server.as_ref()?;
    let tcp = server.tcp.filter(|address| !address.ip().is_loopback())?;
    server.allow.iter().all(|net| net.network().is_loopback()).then(|| {
        format!(
            "`[modbus_server]` listens at {tcp}, and its `allow` admits only this machine: controllers on the network are refused; \
             list them, e.g. `allow = [\"192.0.2.0/24\"]`"
        )
    })
}

/// The readers that lose part of the UID, by their transform.
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

/// What is set and has no effect in this version. Defaults, and what is off, are not named.
fn without_effect(config: &Site) -> Vec<String> {
    let policy = &config.policy;
    let token = config.http.as_ref().is_some_and(|http| http.token.is_some());
    let set = [
        (policy.anti_passback == Severity::Deny, "`policy.anti_passback = \"hard\"`"),
        (policy.clone == Severity::Deny, "`policy.clone = \"deny\"`"),
        (policy.lockout_s > 0, "`policy.lockout_s`: too many denials raise an alarm and lock nobody out; it"),
        (token, "`http.token_file`: nothing can be changed over HTTP, only through the socket; it"),
    ];
    set.into_iter().filter(|(set, _)| *set).map(|(_, what)| format!("{what} has no effect in this version")).collect()
}
