//! Which polls a portal needs, and how much of the time of each serial line they take, from the configuration alone: an installer is warned of
//! a line that cannot carry its readers before people stand at the doors.

use std::collections::BTreeMap;
use std::time::Duration;

use super::queue::Priority;
use super::serial::{LOAD_PERCENT_MAX, percent};
use crate::access::portal::Portal;
use crate::config::{BusConfig, ModbusPart, Part, Parts, PortalConfig};
use crate::profile::{InputPoint, Point, Poll, Reader};

/// Portals that one warning names.
const NAMED_MAX: usize = 5;

/// A poll that a portal needs.
pub(in crate::portals) struct Need<'c> {
    pub(in crate::portals) part: &'c ModbusPart,
    pub(in crate::portals) poll: &'c Poll,
    pub(in crate::portals) priority: Priority,
}

/// The polls that a portal needs of its devices on lines; one may be needed more than once.
pub(in crate::portals) fn needs<'c>(portal: &Portal, parts: &'c Parts) -> Vec<Need<'c>> {
    let mut needs = Vec::new();
    let mut add = |part: &'c ModbusPart, points: Vec<&Point>, priority| {
        needs.extend(part.profile.polls_of(&points).map(|poll| Need { part, poll, priority }));
    };
    if let Part::Modbus(part) = &parts.reader {
        add(part, parts.readers().flat_map(Reader::points).collect(), Priority::Card);
    }
    if let Part::Modbus(part) = &parts.output {
        add(part, part.profile.output.iter().flat_map(|output| &output.state).collect(), Priority::Status);
    }
    if let Some(Part::Modbus(part)) = &parts.meter {
        let measured = part.profile.meter.iter().flat_map(|meter| [&meter.power, &meter.energy]).flatten();
        add(part, measured.map(|(point, _)| point).collect(), Priority::Meter);
    }
    for part in [&parts.reader, &parts.output].into_iter().chain(&parts.inputs).filter_map(Part::modbus) {
        add(part, inputs(portal, parts, part).map(|input| &input.point).collect(), Priority::Input);
    }
    needs
}

/// The contacts of a device for this portal. Two gates may share a turnstile: each has the contacts of its own direction.
pub(in crate::portals) fn inputs<'c>(
    portal: &Portal,
    parts: &Parts,
    part: &'c ModbusPart,
) -> impl Iterator<Item = &'c InputPoint> {
    let way = portal.direction.or_else(|| parts.directions().next());
    let other_way = move |input: &InputPoint| way.is_some() && input.kind.way().is_some_and(|of| Some(of) != way);
    part.profile.inputs.iter().filter(move |input| !other_way(input))
}

/// A warning for each serial line that has too little time for its polls, with the portals whose cards wait.
#[must_use]
pub fn warnings(buses: &[BusConfig], portals: &[PortalConfig]) -> Vec<String> {
    buses.iter().filter_map(|bus| warning(bus, portals)).collect()
}

fn warning(bus: &BusConfig, portals: &[PortalConfig]) -> Option<String> {
    let baud = bus.line.baud()?;
    // Each poll once, however many portals need it.
    let mut polls = BTreeMap::new();
    // Portals with a reader on the line, and how often that is to be read, in milliseconds.
    let mut readers = Vec::new();
    for PortalConfig { portal, device } in portals {
        let needs: Vec<_> = device.parts().map(|parts| needs(portal, parts)).unwrap_or_default();
        let on_it: Vec<_> = needs.iter().filter(|need| need.part.bus == bus.id).collect();
        polls.extend(on_it.iter().map(|need| ((need.part.unit, &need.part.profile.id, &need.poll.name), need.poll)));
        let cards = on_it.iter().filter(|need| need.priority == Priority::Card).map(|need| need.poll.every_ms);
        readers.extend(cards.min().map(|every_ms| (portal.id.as_str(), every_ms)));
    }
    let times = polls.values().map(|poll| (poll.reads.as_slice(), Duration::from_millis(u64::from(poll.every_ms))));
    let percent = percent(times, baud);
    if percent <= LOAD_PERCENT_MAX {
        return None;
    }
    let readers = match &readers[..] {
        [(_, every_ms), ..] if percent > 100 => {
            let names: Vec<_> = readers.iter().map(|(portal, _)| format!("`{portal}`")).collect();
            let round_ms = u64::from(*every_ms) * u64::from(percent) / 100;
            format!(", so that a card at {} waits for some {round_ms} ms", crate::few(&names, NAMED_MAX, ", "))
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
