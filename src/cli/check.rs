//! `dormgate check`: everything that is wrong with a configuration, or a summary of it with what an installer has to know.

use std::collections::BTreeMap;

use super::secrets::out_of_reach;
use super::{ConfigArg, Ended, bad_config, print_line};
use crate::access::id::{ScheduleName, Zone};
use crate::access::policy::{AfterStale, Severity};
use crate::access::portal::{Assurance, Direction, Portal, PortalKind};
use crate::config::{
    self, AuditAckBy, BusConfig, BusLine, LinkSpec, ModbusPart, Part, Parts, PortalConfig, PortalDevice, Site,
    TOKEN_HINT, TOKEN_SHORT, UNIT_SELF, cert,
};
use crate::portals::modbus::load;
use crate::profile::{InputKind, OnLinkLoss};
use crate::wire::allowed::OpName;
use crate::wire::envelope::Scope;

/// Portals that one hint names.
const NAMED_MAX: usize = 5;
/// How the addresses begin that documents use.
const PLACEHOLDER: &str = "192.0.2.";

/// Print everything that is wrong with a configuration and the profiles that it names
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> Ended {
    let config = config::load(&args.config.config).map_err(bad_config)?;
    let hints = out_of_reach(&args.config.config, &config.data_dir);
    Ok(print_line(summary(&config) + &hints.iter().map(|hint| format!("\nhint: {hint}")).collect::<String>()))
}

/// What the configuration means, in one paragraph; then a line for each note, certificate, hint and insecure choice.
pub(super) fn summary(config: &Site) -> String {
    let (certificates, mut hints) = certificates(config);
    hints.extend(while_cut_off(config));
    hints.extend(open_topics(config));
    hints.extend(load::warnings(&config.buses, &config.portals));
    let others = [short_token(config), fire(config), directions(config), closed(config), no_way_out(config)];
    hints.extend(others.into_iter().flatten());
    let mut notes = missing(config);
    notes.extend(lossy(config));
    notes.extend(weak_readers(config));
    notes.extend(devices(config));
    notes.extend(undefined(config));
    hints.extend(placeholders(config));
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
        count(&|p| p.device.parts().is_some_and(|parts| !uses_mqtt(parts))),
        count(&|p| matches!(p.device, PortalDevice::ModbusServer { .. })),
    ));
    let by_message = count(&|p| p.device.parts().is_some_and(uses_mqtt));
    parts
        .extend((by_message > 0).then(|| format!("{by_message} portal(s) with devices with MQTT topics of their own")));
    let pages = config.http.as_ref().map(|http| format!("pages at http://{}", http.listen));
    parts.push(pages.unwrap_or_else(|| "no pages".to_owned()));
    parts.join("; ") + "."
}

/// What is left out although other parts of the configuration need it.
fn missing(config: &Site) -> Vec<String> {
    let controllers = config.portals.iter().any(|p| matches!(p.device, PortalDevice::ModbusServer { .. }));
    let commands = config.streams.iter().any(|stream| stream.allowed.contains(OpName::Command));
    let acknowledged = config.uplink.is_none() || config.audit.ack == AuditAckBy::Broker || commands;
    let outdated = config.policy.after_stale != AfterStale::Continue;
    let notes = [
        (
            outdated && config.uplink.is_none(),
            format!(
                "no `[uplink]`, so no center confirms the list: `policy.after_stale` keeps people out {} s after each start",
                config.policy.after_stale_s
            ),
        ),
        (config.streams.is_empty(), "no `[[center.stream]]`, so no card can become known here".to_owned()),
        (
            config.is_sheet_empty,
            "the sheet of portals names its columns and has no row, so no portal is from it; write a row for each portal".to_owned(),
        ),
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

/// The portals that consist of parts.
fn of_parts(config: &Site) -> impl Iterator<Item = (&PortalConfig, &Parts)> {
    config.portals.iter().filter_map(|portal| Some((portal, portal.device.parts()?)))
}

/// Whether any part is a device with MQTT topics of its own.
fn uses_mqtt(parts: &Parts) -> bool {
    parts.all().any(|part| part.mqtt().is_some())
}

/// What works with these devices and is probably not meant.
fn devices(config: &Site) -> Vec<String> {
    let mut notes = Vec::new();
    let mut reserved: BTreeMap<&str, Vec<&PortalConfig>> = BTreeMap::new();
    for (of, parts) in of_parts(config) {
        let (portal, part, profile) = (&of.portal, &parts.output, parts.output.profile_id());
        let serial = |part: &ModbusPart| {
            let on_it = |bus: &&BusConfig| bus.id == part.bus && matches!(bus.line, BusLine::Serial(_));
            config.buses.iter().find(on_it).filter(|_| part.unit == UNIT_SELF)
        };
        for bus in parts.all().filter_map(Part::modbus).filter_map(serial) {
            let users = reserved.entry(&bus.id).or_default();
            if users.last().is_none_or(|last| last.portal.id != portal.id) {
                users.push(of);
            }
        }
        match (portal.kind, part.reads_back(), part.pulse_ms(portal.hold_ms)) {
            (PortalKind::PowerBox, false, _) => notes.push(format!(
                "the relay of `{}` (`{profile}`) cannot be read back, so it is never known whether the power is off; use a relay that can",
                portal.id
            )),
            (PortalKind::Gate | PortalKind::Door, _, Some(ms)) if ms < portal.hold_ms => notes.push(format!(
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
    few(&portals.into_iter().map(|p| format!("`{}`", p.portal.id)).collect::<Vec<_>>())
}

/// The first of these, and how many more there are: a line for each of 180 doors is read by nobody.
fn few(all: &[String]) -> String {
    // One more is named rather than counted.
    crate::few(all, NAMED_MAX + usize::from(all.len() == NAMED_MAX + 1), ", ")
}

/// The addresses that are set aside for documents (RFC 5737) and so reach nothing: what is left to do.
fn placeholders(config: &Site) -> Option<String> {
    let links = [("[uplink]", &config.uplink), ("[local]", &config.local)];
    let of_link = |(name, link): (&str, &Option<LinkSpec>)| {
        let urls = link.iter().flat_map(|link| &link.urls).filter(|url| url.host.starts_with(PLACEHOLDER));
        urls.map(|url| format!("`{}` of `{name}`", url.host)).collect::<Vec<_>>()
    };
    let bus = |bus: &BusConfig| match &bus.line {
        BusLine::Tcp(peer) => {
            Some(format!("`{peer}` of bus `{}`", bus.id)).filter(|_| peer.host.starts_with(PLACEHOLDER))
        }
        BusLine::Serial(_) => None,
    };
    let mut all: Vec<String> = links.into_iter().flat_map(of_link).chain(config.buses.iter().filter_map(bus)).collect();
    all.dedup();
    (!all.is_empty()).then(|| format!("left to do: {} stands for an address of yours; write the real one", few(&all)))
}

/// A hint about the portals of which `concerns` is true, if there are any.
fn about(config: &Site, concerns: impl Fn(&PortalConfig) -> bool, hint: impl FnOnce(&str) -> String) -> Option<String> {
    let names = names(config.portals.iter().filter(|portal| concerns(portal)));
    (!names.is_empty()).then(|| hint(&names))
}

/// What relays do while their line is cut: the gateway cannot change it.
fn while_cut_off(config: &Site) -> Vec<String> {
    let mut alike: BTreeMap<(&str, &str, &str), Vec<&PortalConfig>> = BTreeMap::new();
    for (portal, parts) in of_parts(config) {
        let part = &parts.output;
        let does = match part.on_link_loss() {
            OnLinkLoss::Off => continue,
            OnLinkLoss::Hold => "keeps its relays as they are",
            OnLinkLoss::Unknown => {
                "is not known to switch its relays off (try it, and write what it does as `on_link_loss` in a profile of your own)"
            }
        };
        let follows = match (portal.portal.kind, part.pulse_ms(portal.portal.hold_ms)) {
            (PortalKind::PowerBox, _) => {
                "the power of a card that is revoked meanwhile stays on until the line is back; where that must not happen, use a relay \
                 that switches off by itself"
            }
            (PortalKind::Gate | PortalKind::Door, None) => {
                "what is open at that moment stays open until the line is back; where that must not happen, use a relay that ends a \
                 pulse by itself"
            }
            (PortalKind::Gate | PortalKind::Door, Some(_)) => continue,
        };
        alike.entry((part.profile_id(), does, follows)).or_default().push(portal);
    }
    let hint = |((profile, does, follows), portals): (_, Vec<&PortalConfig>)| {
        format!("while the line of {} is cut, `{profile}` {does}: {follows}", names(portals))
    };
    alike.into_iter().map(hint).collect()
}

/// Whose messages count as cards: a broker delivers what anybody may publish there.
fn open_topics(config: &Site) -> Option<String> {
    let topic = |(of, parts): (&PortalConfig, &Parts)| {
        let part = parts.reader.mqtt()?;
        let reader = part.profile.reader.as_ref()?.of(part.names());
        Some(format!("`{}` (`{}`)", reader.place.topic, of.portal.id))
    };
    let topics: Vec<String> = of_parts(config).filter_map(topic).collect();
    (!topics.is_empty()).then(|| {
        format!(
            "whoever may publish to {} can present any card there: let the broker admit only the device to its topic",
            few(&topics)
        )
    })
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
    let has_input = |parts: &Parts| parts.all().any(|part| part.has_input(InputKind::Fire));
    let may = |p: &PortalConfig| p.portal.fire_input && p.device.parts().is_none_or(has_input);
    about(config, may, |names| {
        format!(
            "a fire input of {names} sets the posture `fire` and releases every gate and door; with `fire_input = false` that of a \
             portal is ignored"
        )
    })
}

/// The gates at which the reader's report of a direction counts: who reports "out" is never denied.
fn directions(config: &Site) -> Option<String> {
    let reports = |parts: &Parts| parts.directions().next().is_some();
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

/// The portals that want more of a read than their reader gives. Only a native device reports how it read a card.
fn weak_readers(config: &Site) -> Option<String> {
    let is_weak =
        |p: &PortalConfig| p.portal.min_assurance > Assurance::Uid && !matches!(p.device, PortalDevice::NativeMqtt);
    about(config, is_weak, |names| {
        format!(
            "the reader of {names} gives UIDs only, which is less than its `min_assurance`: every card is denied there as \
             `assurance_too_low`"
        )
    })
}

/// The areas with hard anti-passback of which no gate reads cards on their way out.
fn no_way_out(config: &Site) -> Option<String> {
    let policy = &config.policy;
    let rule = |zone: &Zone| {
        let own = policy.areas.iter().find(|area| area.zone == *zone);
        own.map_or((policy.anti_passback, policy.anti_passback_timed_ms), |area| (area.anti_passback, area.timed_ms))
    };
    let gates = || config.portals.iter().filter(|p| p.portal.kind == PortalKind::Gate);
    let reads_exits =
        |zone: &Zone| gates().any(|p| p.portal.zone == *zone && p.portal.direction != Some(Direction::In));
    let has_none = |p: &PortalConfig| {
        let is_hard = rule(&p.portal.zone) == (Severity::Deny, 0) && p.portal.anti_passback_timed_ms == 0;
        p.portal.kind == PortalKind::Gate && is_hard && !reads_exits(&p.portal.zone)
    };
    about(config, has_none, |names| {
        format!(
            "no gate in the area of {names} reads cards on their way out, so anti-passback denies nobody there; add a gate outwards, or \
             `anti_passback_timed_s`"
        )
    })
}

/// A token of the console that can be guessed.
fn short_token(config: &Site) -> Option<String> {
    let is_short = config.http.as_ref()?.token.as_ref()?.is_short_token();
    is_short.then(|| format!("`http.token_file`: {TOKEN_SHORT} by whoever works on this machine; {TOKEN_HINT}"))
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
            few(&portals)
        )
    };
    by_transform.into_iter().map(note).collect()
}

/// The schedules that portals name and the file does not define.
fn undefined(config: &Site) -> Vec<String> {
    let mut by_name: BTreeMap<&ScheduleName, Vec<String>> = BTreeMap::new();
    for Portal { id, free_access, hours, power_hours, .. } in config.portals.iter().map(|p| &p.portal) {
        for (key, name) in [("free_access", free_access), ("hours", hours), ("power_hours", power_hours)] {
            for name in name.iter().filter(|name| !config.calendar.defines(name)) {
                by_name.entry(name).or_default().push(format!("`{key}` of `{id}`"));
            }
        }
    }
    let note = |(name, users): (&ScheduleName, Vec<String>)| {
        format!(
            "the schedule `{name}` ({}) is not defined in this file: until a center defines it, it is closed at all times",
            few(&users)
        )
    };
    by_name.into_iter().map(note).collect()
}
