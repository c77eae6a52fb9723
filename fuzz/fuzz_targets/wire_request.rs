//! Any bytes as a card request of an MQTT portal.
#![no_main]

use dormgate::wire::portal::{Delivery, parse_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(parse_request("gate-in", bytes, Delivery::Retained));
});
