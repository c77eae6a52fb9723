//! What an operator on the box orders, and who it is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::id::{CardSet, Holder, PortalId, StreamName};
use super::plain::is_plain;
use super::portal::Posture;

/// Longest name of who gives an order, in characters.
pub const ACTOR_CHARS_MAX: usize = 128;

/// The name of a person or a program that gives an order: printable, without what is not seen, and not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl FromStr for Actor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > ACTOR_CHARS_MAX || !text.chars().all(is_plain) {
            return Err(format!("1 to {ACTOR_CHARS_MAX} printable characters are wanted, none of them invisible"));
        }
        Ok(Self(text.into()))
    }
}

impl Actor {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operator asks through the socket or the console.
#[derive(Clone, Debug)]
pub enum Operator {
    /// Opens once.
    Release {
        /// Where.
        portal: PortalId,
    },
    /// Switches a power box.
    Power {
        /// Which.
        portal: PortalId,
        /// On or off.
        on: bool,
    },
    /// Somebody has seen to the alarms of these events, both ends inclusive.
    Acknowledge {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// Sets a standing mode on the box.
    Posture {
        /// Where; all portals if empty.
        portals: Vec<PortalId>,
        /// Which.
        posture: Posture,
    },
    /// Ends the fire latch, if the inputs are clear.
    FireReset {
        /// Sets aside inputs whose portal is offline or gone.
        force: bool,
    },
    /// Has the numbers of a stream forgotten, after its keys were changed: what is known of cards stays.
    StreamForget {
        /// Which.
        stream: StreamName,
    },
    /// Has it written down what was done, for a person.
    Note {
        /// What, and by whom.
        detail: String,
    },
    /// Has it forgotten where the cards of a holder passed, whose events are to be erased.
    Erase {
        /// Whose.
        holder: Holder,
        /// For a person: who ordered it.
        detail: String,
    },
    /// Has it forgotten where cards are (anti-passback).
    Forgive {
        /// Which cards.
        cards: CardSet,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_looks_like() {
        for name in ["Li Wei", "李伟", " office: Ana-Maria ", "Müller", "辻\u{E0100}", "x"] {
            assert_eq!(name.parse::<Actor>().map(|actor| actor.to_string()).as_deref(), Ok(name.trim()), "{name}");
        }
        for hidden in [
            '\u{0}',
            '\u{7F}',
            '\u{85}',
            '\u{AD}',
            '\u{61C}',
            '\u{200B}',
            '\u{200E}',
            '\u{202E}',
            '\u{2028}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{206F}',
            '\u{3164}',
            '\u{FEFF}',
            '\u{E0041}',
        ] {
            assert!(format!("Li{hidden}Wei").parse::<Actor>().is_err(), "{hidden:?}");
        }
        assert!("\u{3000} ".parse::<Actor>().is_err());
    }
}
