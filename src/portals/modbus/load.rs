//! How much of the time of each serial line the polls of its devices take, from the configuration alone: an installer is warned of a line that
//! cannot carry its readers before people stand at the doors.

use std::collections::BTreeMap;
use std::time::Duration;

use super::serial::{LOAD_PERCENT_MAX, percent};
use crate::config::{BusConfig, ModbusPart, Part, Parts, PortalConfig};
use crate::profile::{Point, Poll};

/// Portals that one warning names.
const NAMED_MAX: usize = 5;

/// What a line carries, each poll once however many portals need it.
#[derive(Default)]
struct Carried<'c> {
    polls: BTreeMap<(u8, &'c str, &'c str), &'c Poll>,
    /// Portals with a reader on it, and how often that is to be read, in milliseconds.
    readers: Vec<(&'c str, u32)>,
}

impl<'c> Carried<'c> {
    fn add(&mut self, part: &'c ModbusPart, points: &[&Point]) -> Option<u32> {
        let polls =
            part.profile.polls.iter().filter(|poll| points.iter().any(|point| poll.points.contains(&point.name)));
        let mut fastest = None;
        for poll in polls {
            self.polls.insert((part.unit, &part.profile.id, &poll.name), poll);
            fastest = Some(fastest.unwrap_or(u32::MAX).min(poll.every_ms));
        }
        fastest
    }

    fn add_portal(&mut self, portal: &'c str, bus: &str, parts: &'c Parts) {
        let on_it = |part: &'c Part| part.modbus().filter(|part| part.bus == bus);
        if let Some(part) = on_it(&parts.reader) {
            let points: Vec<&Point> = parts.readers().flat_map(|reader| reader.points()).collect();
            if let Some(every_ms) = self.add(part, &points) {
                self.readers.push((portal, every_ms));
            }
        }
        if let Some(part) = on_it(&parts.output) {
            let state = part.profile.output.as_ref().and_then(|output| output.state.as_ref());
            self.add(part, &state.into_iter().collect::<Vec<_>>());
        }
        if let Some(part) = parts.meter.as_ref().and_then(on_it) {
            let measured = part.profile.meter.iter().flat_map(|meter| [&meter.power, &meter.energy]);
            self.add(part, &measured.flatten().map(|(point, _)| point).collect::<Vec<_>>());
        }
        for part in [&parts.reader, &parts.output].into_iter().chain(&parts.inputs).filter_map(on_it) {
            self.add(part, &part.profile.inputs.iter().map(|input| &input.point).collect::<Vec<_>>());
        }
    }
}

/// A warning for each serial line that has too little time for its polls, with the portals whose cards wait.
#[must_use]
pub fn warnings(buses: &[BusConfig], portals: &[PortalConfig]) -> Vec<String> {
    buses.iter().filter_map(|bus| warning(bus, portals)).collect()
}

fn warning(bus: &BusConfig, portals: &[PortalConfig]) -> Option<String> {
    let baud = bus.line.baud()?;
    let mut carried = Carried::default();
    for portal in portals {
        if let Some(parts) = portal.device.parts() {
            carried.add_portal(portal.portal.id.as_str(), &bus.id, parts);
        }
    }
    let polls = carried.polls.values();
    let percent =
        percent(polls.map(|poll| (poll.reads.as_slice(), Duration::from_millis(u64::from(poll.every_ms)))), baud);
    if percent <= LOAD_PERCENT_MAX {
        return None;
    }
    let readers = match &carried.readers[..] {
        [(_, every_ms), ..] if percent > 100 => {
            let names: Vec<_> = carried.readers.iter().map(|(portal, _)| format!("`{portal}`")).collect();
            let (named, more) = names.split_at(names.len().min(NAMED_MAX));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            let round_ms = u64::from(*every_ms) * u64::from(percent) / 100;
            format!(", so that a card at {}{more} waits for some {round_ms} ms", named.join(", "))
        }
        _ => String::new(),
    };
    Some(format!(
        "the polls of bus `{}` take {percent} % of its line at {baud} Bd{readers}: raise the speed, or divide its units between two lines",
        bus.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, parse};

    fn warned(doors: u8, line: &str) -> Vec<String> {
        let door = |unit: u8| {
            let part = format!("{{ modbus = \"riser\", unit = {unit}, profile = \"inveo-rfid-ind-m1\" }}");
            format!(
                "[[portal]]\nid = \"door-{unit}\"\nkind = \"door\"\nzone = \"1\"\nreader = {part}\noutput = {part}\n"
            )
        };
        let head = format!("[gateway]\nid = \"g\"\n[[bus]]\nid = \"riser\"\n{line}\n");
        let text = std::iter::once(head).chain((1..=doors).map(door)).collect::<String>();
        let site = parse(&text, &Surroundings::default()).unwrap();
        warnings(&site.buses, &site.portals)
    }

    #[test]
    fn a_serial_line_that_cannot_read_its_readers_in_time_is_named_with_its_portals() {
        let serial = |baud: u32| {
            format!("serial = {{ port = \"/dev/ttyS9\", baud = {baud}, parity = \"none\", stop_bits = 1 }}")
        };
        let [warning] = &warned(30, &serial(9600))[..] else { panic!("one line") };
        assert!(warning.starts_with("the polls of bus `riser` take "), "{warning}");
        assert!(
            warning.contains("a card at `door-1`, `door-2`, `door-3`, `door-4`, `door-5` and 25 more waits for some "),
            "{warning}"
        );
        let round: u64 = warning.split("some ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((1400..2200).contains(&round), "{warning}");
        assert_eq!(warned(1, &serial(19_200)), [""; 0]);
        assert_eq!(warned(30, "tcp = \"127.0.0.1:1\""), [""; 0], "its speed is not known");
    }
}
