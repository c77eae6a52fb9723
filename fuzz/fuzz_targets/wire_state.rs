//! Any bytes as the state that an MQTT portal reports.
#![no_main]

use dormgate::wire::portal::parse_state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    drop(parse_state(bytes));
});
