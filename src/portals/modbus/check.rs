//! What cannot work among lines and portals, said before anything is started.
//!
//! Owns what a portal's parts must be for it, and what two portals cannot share. That names and numbers are well formed, and where in
//! the file they stand, is the configuration's.

use std::collections::HashMap;

use crate::access::id::PortalId;
use crate::access::portal::PortalKind;
use crate::wire::profile::Reader;

use super::{BusSpec, ModbusPortalSpec, SLOTS_MAX};

/// What cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("portal `{portal}`: {message}")]
pub struct SpecError {
    /// Which portal.
    pub portal: PortalId,
    /// What, and what to do.
    pub message: String,
}

/// What is wrong with these portals, all of it.
#[must_use]
pub fn check(buses: &[BusSpec], portals: &[ModbusPortalSpec]) -> Vec<SpecError> {
    let mut errors = Vec::new();
    let mut readers: HashMap<(&str, u8, u16), &PortalId> = HashMap::new();
    let mut relays: HashMap<(&str, u8, u16), &PortalId> = HashMap::new();
    for spec in portals {
        let mut wrong = |message: String| errors.push(SpecError { portal: spec.id.clone(), message });
        let parts =
            [("reader", &spec.reader), ("output", &spec.output), ("meter", &spec.meter), ("inputs", &spec.inputs)];
        for (name, part) in parts {
            let Some(part) = part else { continue };
            if !buses.iter().any(|bus| bus.id == part.bus) {
                wrong(format!("`{name}` names the line `{}`; declare it as a `[[bus]]`", part.bus));
            }
            if part.unit == 0 {
                wrong(format!("`{name}` has unit 0, which is everybody on the line; units are 1 to 255"));
            }
            let has = match name {
                "reader" => part.profile.readers.len(),
                "output" => part.profile.output.as_ref().map_or(0, |output| usize::from(output.channels)),
                "meter" => usize::from(part.profile.meter.is_some()),
                _ => usize::from(!part.profile.inputs.is_empty()) * usize::from(u16::MAX),
            };
            let slots = if name == "reader" { spec.slots.max(1) } else { 1 };
            if usize::from(part.channel) + usize::from(slots) > has {
                let profile = &part.profile.id;
                wrong(format!("`{name}` wants channel {} of `{profile}`, which has {has} of that", part.channel));
            }
        }
        let places = [("reader", &mut readers, &spec.reader, spec.slots), ("relay", &mut relays, &spec.output, 1)];
        for (what, taken, part, count) in places {
            let Some(part) = part else { continue };
            for channel in (part.channel..).take(usize::from(count)) {
                if let Some(other) = taken.insert((part.bus.as_str(), part.unit, channel), &spec.id) {
                    wrong(format!(
                        "its {what} is that of `{other}` too; one {what} belongs to one portal: correct unit or `channel`"
                    ));
                    break;
                }
            }
        }
        if spec.slots > SLOTS_MAX {
            wrong(format!("its reader has {} slots; a box has at most {SLOTS_MAX}", spec.slots));
        }
        let leaves_untold = |reader: &Reader| reader.leaves_after_ms().is_none();
        if spec.kind == PortalKind::PowerBox && spec.readers().any(leaves_untold) {
            wrong(
                "its reader tells when a card comes and not when it leaves; a power box needs a `level` reader, or a `latch` with `repeats_ms`".into(),
            );
        }
    }
    errors
}
