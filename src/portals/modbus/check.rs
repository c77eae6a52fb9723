//! What cannot work among lines and portals, said before anything is started.
//!
//! Owns what a portal's parts must be for it, and what two portals cannot share. That names and numbers are well formed, and where in
//! the file they stand, is the configuration's.

use std::collections::HashMap;

use crate::access::id::PortalId;
use crate::access::portal::PortalKind;
use crate::access::transform::Transform;
use crate::config::Role;
use crate::profile::Reader;

use super::{BusSpec, ModbusPortalSpec, SLOTS_MAX};

/// What cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("portal `{portal}`: {message}")]
pub struct SpecError {
    /// Which portal.
    pub portal: PortalId,
    /// Which part of it.
    pub part: Role,
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
        let mut wrong = |part: Role, message: String| errors.push(SpecError { portal: spec.id.clone(), part, message });
        let parts = [
            (Role::Reader, &spec.reader),
            (Role::Output, &spec.output),
            (Role::Meter, &spec.meter),
            (Role::Inputs, &spec.inputs),
        ];
        for (name, part) in parts {
            let Some(part) = part else { continue };
            let key = name.as_str();
            if !buses.iter().any(|bus| bus.id == part.bus) {
                wrong(name, format!("`{key}` names the line `{}`; declare it as a `[[bus]]`", part.bus));
            }
            if part.unit == 0 {
                wrong(name, format!("`{key}` has unit 0, which is everybody on the line; units are 1 to 255"));
            }
            let (has, slots) = match name {
                Role::Reader => (part.profile.readers.len(), spec.slots.max(1)),
                Role::Output => (part.profile.output.as_ref().map_or(0, |output| usize::from(output.channels)), 1),
                Role::Meter => (usize::from(part.profile.meter.is_some()), 1),
                Role::Inputs => (usize::from(part.profile.input_channels()), 1),
            };
            if usize::from(part.channel) + usize::from(slots) > has {
                let profile = &part.profile.id;
                wrong(name, format!("`{key}` wants channel {} of `{profile}`, which has {has} of that", part.channel));
            }
        }
        let places = [
            (Role::Reader, "reader", &mut readers, &spec.reader, spec.slots),
            (Role::Output, "relay", &mut relays, &spec.output, 1),
        ];
        for (name, what, taken, part, count) in places {
            let Some(part) = part else { continue };
            for channel in (part.channel..).take(usize::from(count)) {
                if let Some(other) = taken.insert((part.bus.as_str(), part.unit, channel), &spec.id) {
                    wrong(
                        name,
                        format!(
                            "its {what} is that of `{other}` too; one {what} belongs to one portal: correct unit or `channel`"
                        ),
                    );
                    break;
                }
            }
        }
        slots(spec, &mut |message| wrong(Role::Reader, message));
    }
    errors
}

/// What the readers of one portal cannot be beside each other.
fn slots(spec: &ModbusPortalSpec, wrong: &mut dyn FnMut(String)) {
    if spec.slots > SLOTS_MAX {
        wrong(format!("its reader has {} slots; a box has at most {SLOTS_MAX}", spec.slots));
    }
    let leaves_untold = |reader: &Reader| reader.leaves_after_ms().is_none();
    if spec.kind == PortalKind::PowerBox && spec.readers().any(leaves_untold) {
        wrong(
            "its reader tells when a card comes and not when it leaves; a power box needs a `level` reader, or a `latch` with `repeats_ms`".into(),
        );
    }
    // A portal has one way to read a card: a card known from one slot would not be found again by what another slot says of it.
    let mut told = spec.readers().map(|reader| (&reader.id, reader.uid.transform()));
    if let Some((first, transform)) = told.next()
        && let Some((other, differs)) = told.find(|(_, other)| *other != transform)
    {
        let gives = |transform: Option<Transform>| transform.map_or("whole UIDs".to_owned(), |t| format!("`{t}`"));
        wrong(format!(
            "its slots read a card differently: `{first}` gives {}, `{other}` gives {}; give each a portal of its own with \
             `channel`, or write the same `transform` for all of them in the profile if that is what they do",
            gives(transform),
            gives(differs)
        ));
    }
}
