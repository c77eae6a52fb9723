//! The words that are the same for a device on Modbus and on MQTT: for [`show`](super::show), of both kinds of profile.

use super::model::{InputKind, OnLinkLoss, UidOrder};
use crate::access::portal::Direction;
use crate::access::transform::Transform;

/// What a device does with its `outputs` by itself.
pub(super) fn loss(what: OnLinkLoss, outputs: &str) -> String {
    match what {
        OnLinkLoss::Hold => format!("the device keeps its {outputs} as they are"),
        OnLinkLoss::Off => format!("the device switches its {outputs} off"),
        OnLinkLoss::Unknown => "it is not known what the device does".to_owned(),
    }
}

/// Which way one passes at a reader.
pub(super) fn direction(of: Option<Direction>) -> &'static str {
    match of {
        Some(Direction::In) => ", on the way in",
        Some(Direction::Out) => ", on the way out",
        None => "",
    }
}

/// In which order the bytes of a UID come.
pub(super) fn uid_order(order: UidOrder) -> &'static str {
    match order {
        UidOrder::MsbFirst => "msb_first, as the card sends them",
        UidOrder::LsbFirst => "lsb_first, last byte first",
    }
}

/// What a lossy reader `gives`, and what follows from it.
pub(super) fn lossy(gives: &str, transform: Option<Transform>) -> Vec<String> {
    let Some(transform) = transform else { return Vec::new() };
    vec![
        format!(
            "  LOSSY: it {gives} only what `{transform}` leaves of a UID, and the gateway compares only that with the cards it knows:"
        ),
        "  cards that collide are denied there as `ambiguous_identifier`, and an unknown card may pass for a known one"
            .to_owned(),
    ]
}

/// How often and how long a release and a cut are tried.
pub(super) fn tries(retry: u16, deadline_ms: u32) -> String {
    format!(
        "  a release: {retry} further tries; after {deadline_ms} ms it has failed and is reported. A cut: tried until it is confirmed"
    )
}

/// What an input reports, and the contrary.
pub(super) fn input_words(kind: InputKind) -> (&'static str, &'static str) {
    match kind {
        InputKind::ContactOpen => ("open", "closed"),
        InputKind::ExitButton => ("the exit button is pressed", "it is released"),
        InputKind::Tamper => ("the housing is open", "it is closed"),
        InputKind::Fire => ("the fire panel releases", "it does not"),
        InputKind::Overload => ("too much load", "not too much"),
        InputKind::RestrictedLoad => ("a load that the rules forbid", "none"),
        InputKind::PassedIn => ("somebody went in", "nobody"),
        InputKind::PassedOut => ("somebody went out", "nobody"),
    }
}
