//! The Modbus lines of a site that is simulated: plugged in, pulled, and made to fail on command.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::modbus::{Fault, FaultError, Line, LineAt, NotSet, Plugged};
use crate::profile::Profile;

/// The devices of a line, by unit.
pub type Units = BTreeMap<u8, Arc<Profile>>;

/// A line cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("bus `{bus}`: {at} cannot be had: {source}")]
pub struct NotPlugged {
    /// The bus.
    pub bus: String,
    /// Where it was to be.
    pub at: LineAt,
    /// Why not.
    pub source: io::Error,
}

/// Why nothing was done to a line or to a device on it.
#[derive(Debug, thiserror::Error)]
pub enum NotPlayed {
    /// No such line, or none that is simulated.
    #[error("no line `{bus}` is simulated; there are {known}")]
    NoLine {
        /// The name.
        bus: String,
        /// Those there are.
        known: String,
    },
    /// No such device on the line.
    #[error("`{unit}` is no unit of line `{bus}`; there are {known}")]
    NoUnit {
        /// The line.
        bus: String,
        /// The text.
        unit: String,
        /// Those there are.
        known: String,
    },
    /// A unit is wanted, and only a line is named.
    #[error("`{0}` is a line; name a device on it, e.g. `{0}/3`")]
    WholeLine(String),
    /// No such fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// No such point or value.
    #[error(transparent)]
    Set(#[from] NotSet),
    /// It cannot be plugged in again.
    #[error(transparent)]
    Plug(#[from] NotPlugged),
}

struct Lead {
    line: Line,
    at: LineAt,
    plug: Mutex<Option<Plugged>>,
}

/// The lines of a site.
#[derive(Default)]
pub struct Lines(BTreeMap<String, Lead>);

impl Lines {
    /// Plugs a line in. What it is called where it is.
    ///
    /// # Errors
    /// [`NotPlugged`].
    pub async fn add(&mut self, bus: String, at: LineAt, units: Units) -> Result<(Line, String), NotPlugged> {
        let line = Line::new(units);
        let plugged = plug(&bus, &line, &at).await?;
        let name = plugged.to_string();
        self.0.insert(bus, Lead { line: line.clone(), at, plug: Mutex::new(Some(plugged)) });
        Ok((line, name))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a device fail as `words` report, `BUS/UNIT`; or every device of a line, `BUS`, whose plug is also pulled by
    /// `unplugged` and put back by `none`. Reports what was done.
    ///
    /// # Errors
    /// [`NotPlayed`].
    pub async fn fault(&self, place: &str, words: &[&str]) -> Result<String, NotPlayed> {
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
        match (&*plugged, fault) {
            (None, Fault::None) => {
                let again = plug(bus, &lead.line, &lead.at).await?;
                let reported = format!("{bus}: none; plugged in again at {again}");
                *plugged = Some(again);
                Ok(reported)
            }
            (Some(_) | None, _) => Ok(format!("{bus}: {}", words.join(" "))),
        }
    }

    /// Sets a point of a device, `BUS/UNIT`, to a value in its unit.
    ///
    /// # Errors
    /// [`NotPlayed`].
    pub fn set(&self, place: &str, point: &str, channel: u16, value: f64) -> Result<String, NotPlayed> {
        let (bus, lead, unit) = self.place(place)?;
        let unit = unit.ok_or_else(|| NotPlayed::WholeLine(bus.to_owned()))?;
        let held = lead.line.set(unit, point, channel, value)?;
        Ok(format!("{bus}/{unit}: {point} is {held}"))
    }

    fn place(&self, text: &str) -> Result<(&str, &Lead, Option<u8>), NotPlayed> {
        let (bus, unit) = match text.split_once('/') {
            Some((bus, unit)) => (bus, Some(unit)),
            None => (text, None),
        };
        let short = |text: &str| text.chars().take(64).collect::<String>();
        let Some((name, lead)) = self.0.get_key_value(bus) else {
            let known = self.0.keys().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            return Err(NotPlayed::NoLine { bus: short(bus), known });
        };
        let Some(text) = unit else { return Ok((name, lead, None)) };
        let units = lead.line.units();
        let unit = text.parse::<u8>().ok().filter(|unit| units.iter().any(|(id, _)| id == unit));
        match unit {
            Some(unit) => Ok((name, lead, Some(unit))),
            None => {
                let known = units.iter().map(|(id, p)| format!("{id} ({})", p.id)).collect::<Vec<_>>().join(", ");
                Err(NotPlayed::NoUnit { bus: name.clone(), unit: short(text), known })
            }
        }
    }
}

async fn plug(bus: &str, line: &Line, at: &LineAt) -> Result<Plugged, NotPlugged> {
    line.plug(at).await.map_err(|source| NotPlugged { bus: bus.to_owned(), at: at.clone(), source })
}
