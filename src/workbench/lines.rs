//! The Modbus lines of a simulated site, and the commands to them: plug in, unplug, fail, set a value.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::modbus::{Fault, Line, LineAt, Plugged};
use super::{Refused, listed, short};
use crate::profile::Profile;

/// The devices of a line, by unit.
pub type Units = BTreeMap<u8, Arc<Profile>>;

struct Lead {
    line: Line,
    at: LineAt,
    plug: Mutex<Option<Plugged>>,
}

/// The lines of a simulated site, by bus.
#[derive(Default)]
pub struct Lines(BTreeMap<String, Lead>);

impl Lines {
    /// Plugs a line in. Gives the line, and its address or port for people. Fails when the port is taken or its name cannot be made.
    pub async fn add(&mut self, bus: String, at: LineAt, units: Units) -> Result<(Line, String), Refused> {
        let line = Line::new(units);
        let plugged = plug(&bus, &line, &at).await?;
        let name = plugged.to_string();
        self.0.insert(bus, Lead { line: line.clone(), at, plug: Mutex::new(Some(plugged)) });
        Ok((line, name))
    }

    /// Whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the fault that `words` name: of a device, if `place` is `BUS/UNIT`; of every device of a line, if it is `BUS`. A line is
    /// also unplugged by `unplugged` and plugged in again by `none`. Gives what was done. Fails when the place or the fault does not
    /// exist, or the line cannot be plugged in again.
    pub async fn fault(&self, place: &str, words: &[&str]) -> Result<String, Refused> {
        let (bus, lead, unit) = self.place(place)?;
        if let Some(unit) = unit {
            lead.line.fault(unit, Fault::parse(words)?);
            return Ok(format!("{bus}/{unit}: {}", words.join(" ")));
        }
        let mut plugged = lead.plug.lock().await;
        if words == ["unplugged"] {
            if let Some(plugged) = plugged.take() {
                plugged.pull().await;
            }
            return Ok(format!("{bus}: unplugged"));
        }
        let fault = Fault::parse(words)?;
        for (unit, _) in lead.line.units() {
            lead.line.fault(unit, fault);
        }
        if plugged.is_some() || fault != Fault::None {
            return Ok(format!("{bus}: {}", words.join(" ")));
        }
        let again = plugged.insert(plug(bus, &lead.line, &lead.at).await?);
        Ok(format!("{bus}: none; plugged in again at {again}"))
    }

    /// Sets a point of the device at `BUS/UNIT` to a value in the unit of the point. Gives what the point then holds. Fails when the
    /// place or the point does not exist, or the point cannot hold the value.
    pub fn set(&self, place: &str, point: &str, channel: u16, value: f64) -> Result<String, Refused> {
        let (bus, lead, unit) = self.place(place)?;
        let unit = unit.ok_or_else(|| Refused(format!("`{bus}` is a line; name a device on it, e.g. `{bus}/3`")))?;
        let held = lead.line.set(unit, point, channel, value)?;
        Ok(format!("{bus}/{unit}: {point} is {held}"))
    }

    fn place(&self, text: &str) -> Result<(&str, &Lead, Option<u8>), Refused> {
        let (bus, unit) = match text.split_once('/') {
            Some((bus, unit)) => (bus, Some(unit)),
            None => (text, None),
        };
        let Some((name, lead)) = self.0.get_key_value(bus) else {
            let known = listed(self.0.keys());
            return Err(Refused(format!("line `{}` is not simulated; there are {known}", short(bus))));
        };
        let Some(text) = unit else { return Ok((name, lead, None)) };
        let units = lead.line.units();
        let unit = text.parse::<u8>().ok().filter(|unit| units.iter().any(|(id, _)| id == unit));
        let unit = unit.ok_or_else(|| {
            let known = units.iter().map(|(id, p)| format!("{id} ({})", p.id)).collect::<Vec<_>>().join(", ");
            Refused(format!("`{}` is not a unit of line `{name}`; there are {known}", short(text)))
        })?;
        Ok((name, lead, Some(unit)))
    }
}

async fn plug(bus: &str, line: &Line, at: &LineAt) -> Result<Plugged, Refused> {
    line.plug(at).await.map_err(|why| Refused(format!("bus `{bus}`: {at} cannot be used: {why}")))
}
