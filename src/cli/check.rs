//! `dormgate check`: everything that is wrong with a configuration, or what was understood of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Exit, bad_config, print_line};
use crate::access::policy::Severity;
use crate::access::portal::PortalKind;
use crate::config::{
    AuditAckBy, BusConfig, BusLine, Config, LinkSpec, PortalDevice, RESYNC_SPREAD_S_DEFAULT, UNIT_SELF,
};
use crate::profile::{Confirm, OnLinkLoss, Pulse};
use crate::wire::envelope::Scope;
use crate::wire::may::OpName;

/// Say everything that is wrong with a configuration and the profiles it names.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration to check.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Exit {
    match super::serve::load(&args.config) {
        Ok(config) => print_line(summary(&config)),
        Err(error) => bad_config(&error),
    }
}

/// What was understood, in one paragraph, and what a site probably did not mean.
fn summary(config: &Config) -> String {
    let mut said = vec![format!(
        "gateway `{}` in {}, data in `{}`",
        config.gateway,
        config.timezone_name,
        config.data_dir.display()
    )];
    said.push(match &config.uplink {
        Some(link) => format!("uplink to {}", address(link)),
        None => "no uplink: it runs from its store alone".to_owned(),
    });
    if let Some(link) = &config.local {
        said.push(format!("local broker {}", address(link)));
    }
    for stream in &config.streams {
        let scope = match stream.scope {
            Scope::Gateway => "",
            Scope::Campus => " for the whole campus",
        };
        let ops: Vec<&str> = stream.may.iter().map(OpName::as_str).collect();
        said.push(format!("stream `{}`{scope} may {}", stream.name, ops.join(", ")));
    }
    for bus in &config.buses {
        let line = match &bus.line {
            BusLine::Serial(serial) => format!("{} at {} Bd", serial.port.display(), serial.baud),
            BusLine::Tcp(peer) => peer.to_string(),
        };
        said.push(format!("bus `{}` on {line}", bus.id));
    }
    if let Some(server) = &config.modbus_server {
        let tcp = server.tcp.map(|address| address.to_string());
        let serial = server.serial.as_ref().map(|serial| serial.port.display().to_string());
        let lines: Vec<String> = tcp.into_iter().chain(serial).collect();
        said.push(format!("controllers ask at {}", lines.join(" and ")));
    }
    said.push(portals(config));
    said.push(match &config.http {
        Some(http) => format!("pages at http://{}", http.listen),
        None => "no pages".to_owned(),
    });
    let mut text = said.join("; ") + ".";
    for note in notes(config) {
        text.push_str("\nnote: ");
        text.push_str(&note);
    }
    for mind in while_cut_off(config).into_iter().chain(closed(config)) {
        text.push_str("\nmind: ");
        text.push_str(&mind);
    }
    for insecure in &config.insecure {
        text.push_str("\ninsecure: ");
        text.push_str(insecure);
    }
    text
}

fn address(link: &LinkSpec) -> String {
    let urls: Vec<String> = link.urls.iter().map(ToString::to_string).collect();
    format!("{} as `{}`", urls.join(" or "), link.client_id)
}

fn portals(config: &Config) -> String {
    let of = |kind: PortalKind| config.portals.iter().filter(|p| p.portal.kind == kind).count();
    let wired = |of: fn(&PortalDevice) -> bool| config.portals.iter().filter(|p| of(&p.device)).count();
    format!(
        "portals: {} gate(s), {} door(s), {} power box(es), of these {} over MQTT, {} by Modbus parts, {} asking over Modbus",
        of(PortalKind::Gate),
        of(PortalKind::Door),
        of(PortalKind::PowerBox),
        wired(|device| matches!(device, PortalDevice::NativeMqtt)),
        wired(|device| matches!(device, PortalDevice::Parts { .. })),
        wired(|device| matches!(device, PortalDevice::ModbusServer { .. })),
    )
}

/// What is allowed and probably not meant.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if config.streams.is_empty() {
        notes.push("no `[[center.stream]]`, so no card can become known here".to_owned());
    }
    if config.portals.is_empty() {
        notes.push("no `[[portal]]`, so there is nothing to open".to_owned());
    }
    let commands = config.streams.iter().any(|stream| stream.may.contains(OpName::Command));
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

/// What works with these devices and is probably not meant.
fn devices(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let mut reserved: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    // A profile that cannot be read is a diagnostic, told elsewhere.
    let specs = super::serve::portals(config).unwrap_or_default();
    for (spec, portal) in specs.iter().filter_map(|spec| {
        let portal = config.portals.iter().find(|p| p.portal.id == spec.id)?;
        Some((spec, &portal.portal))
    }) {
        for part in [&spec.reader, &spec.output, &spec.meter].into_iter().flatten() {
            let serial = |bus: &&BusConfig| bus.id == part.bus && matches!(bus.line, BusLine::Serial(_));
            if let Some(bus) = config.buses.iter().find(serial).filter(|_| part.unit == UNIT_SELF) {
                let users = reserved.entry(&bus.id).or_default();
                let user = format!("`{}`", spec.id);
                if !users.contains(&user) {
                    users.push(user);
                }
            }
        }
        let Some((part, output)) = spec.output.as_ref().and_then(|part| Some((part, part.profile.output.as_ref()?)))
        else {
            continue;
        };
        let profile = &part.profile.id;
        match (portal.kind, &output.confirm, output.pulse(part.channel, portal.hold_ms)) {
            (PortalKind::PowerBox, Confirm::Echo { .. }, _) => notes.push(format!(
                "the relay of `{}` (`{profile}`) cannot be read back: that the power is off is never known; use a relay that can",
                spec.id
            )),
            (PortalKind::Gate | PortalKind::Door, _, Some((_, ms))) if ms < portal.hold_ms => notes.push(format!(
                "`{}` is open for {ms} ms and not for its `hold_ms` of {}: `{profile}` ends a pulse itself by then",
                spec.id, portal.hold_ms
            )),
            (PortalKind::Gate | PortalKind::Door | PortalKind::PowerBox, ..) => {}
        }
    }
    notes.extend(reserved.into_iter().map(|(bus, portals)| {
        format!(
            "unit {UNIT_SELF} on the serial line `{bus}` ({}) is a number that Modbus reserves and some boards are delivered with: \
             fine until a second one shares the line; give it its own number then",
            portals.join(", ")
        )
    }));
    notes
}

/// What relays do that the gateway cannot reach: over a line that is cut it can change nothing.
fn while_cut_off(config: &Config) -> Vec<String> {
    let mut alike: BTreeMap<(&str, &str, &str), Vec<String>> = BTreeMap::new();
    // A profile that cannot be read is a diagnostic, told elsewhere.
    let specs = super::serve::portals(config).unwrap_or_default();
    for spec in &specs {
        let Some((part, output)) = spec.output.as_ref().and_then(|part| Some((part, part.profile.output.as_ref()?)))
        else {
            continue;
        };
        let does = match part.profile.on_link_loss {
            OnLinkLoss::Off => continue,
            OnLinkLoss::Hold => "keeps its relays as they are",
            OnLinkLoss::Unknown => {
                "is not known to switch its relays off (try it, and write what it does as `on_link_loss` in a profile of your own)"
            }
        };
        let follows = match (spec.kind, &output.pulse) {
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
        alike.entry((&part.profile.id, does, follows)).or_default().push(format!("`{}`", spec.id));
    }
    let told = |((profile, does, follows), portals): (_, Vec<String>)| {
        format!("while the line of {} is cut, `{profile}` {does}: {follows}", portals.join(", "))
    };
    alike.into_iter().map(told).collect()
}

/// A listener for the network to which nobody on the network may connect.
fn closed(config: &Config) -> Option<String> {
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
fn lossy(config: &Config) -> Vec<String> {
    let mut by_transform: BTreeMap<_, Vec<String>> = BTreeMap::new();
    // A profile that cannot be read is a diagnostic, told elsewhere.
    for (portal, transform) in super::serve::modbus::lossy_readers(config).unwrap_or_default() {
        by_transform.entry(transform).or_default().push(format!("`{portal}`"));
    }
    let note = |(transform, portals): (_, Vec<String>)| {
        format!(
            "the reader of {} gives only what `{transform}` leaves of a UID: cards that fall together are denied there as `ambiguous_identifier`, and an unknown card may pass for a known one",
            portals.join(", ")
        )
    };
    by_transform.into_iter().map(note).collect()
}

/// What is asked for and not done yet. What is the default, and what is off, promises nothing.
fn without_effect(config: &Config) -> Vec<&'static str> {
    let policy = &config.policy;
    let token = config.http.as_ref().is_some_and(|http| http.token.is_some());
    let spread =
        |link: &Option<LinkSpec>| link.as_ref().is_some_and(|link| link.resync_spread_s != RESYNC_SPREAD_S_DEFAULT);
    let asked = [
        (spread(&config.uplink), "`uplink.resync_spread_s`"),
        (policy.anti_passback == Severity::Deny, "`policy.anti_passback = \"hard\"`"),
        (policy.clone == Severity::Deny, "`policy.clone = \"deny\"`"),
        (policy.lockout_s > 0, "`policy.lockout_s`: too many denials raise an alarm and lock nobody out; it"),
        (token, "`http.token_file`: nothing can be changed over HTTP, only through the socket; it"),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what).collect()
}
