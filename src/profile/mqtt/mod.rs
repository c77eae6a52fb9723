//! Profiles of devices with MQTT topics of their own: which topics they use, what their payloads mean, and what is published to them. Pure.
//!
//! Owns the format of `devices/mqtt/*.toml` (`devices/README.md` describes it). It does not know brokers, portals, or when a message
//! arrived; [`super::document`] reads the files, with a diagnostic for each error.

mod model;
mod payload;
mod read;
mod read_output;
mod read_reader;
mod shipped;
mod show;
mod tables;

#[cfg(test)]
mod tests;

pub use model::{
    Available, CHANNELS_MAX, Confirm, Input, Meter, Names, Order, Output, Place, Profile, Pulse, Reader,
    TOPIC_BYTES_MAX, Two, Uid, UidForm,
};
pub use payload::{PAYLOAD_BYTES_MAX, Payload, Stamp};
pub(crate) use read::is_mqtt;
pub use read::{read, read_file};
pub use shipped::{SHIPPED, shipped};
pub use show::show;
