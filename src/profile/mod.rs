//! Device profiles: what the registers of a Modbus device mean, and (in [`mqtt`]) the messages of devices with MQTT topics of their own, as
//! data. Pure: no I/O.
//!
//! Owns the format of `devices/*.toml` (`devices/README.md` describes it), the meaning of registers, the reader of TOML documents
//! with a diagnostic for each error, and that of CSV sheets. It does not know which unit a device has, when it is polled, or what is done with a card.

mod card;
pub mod diagnostic;
pub mod document;
mod model;
pub mod mqtt;
mod node;
mod points;
mod read;
mod read_output;
mod read_uid;
mod scope;
pub mod sheet;
mod shipped;
mod show;
mod value;
mod words;

#[cfg(test)]
pub(crate) mod tests;

pub use model::{
    Confirm, DEADLINE_MS_MAX, InputKind, InputPoint, Meter, OnLinkLoss, Output, Profile, Pulse, Reader, Trigger,
    UidContent, UidLength, UidOrder, UidSource,
};
pub use points::{Link, Order, Point, PointType, Poll, Write};
pub use read::{read, read_file};
pub use shipped::{SHIPPED, shipped};
pub use show::{check_text, show, show_text};
pub use value::{Block, Value};
