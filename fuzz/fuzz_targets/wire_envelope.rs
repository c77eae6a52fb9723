//! Any bytes as a message of a center, unsigned messages allowed, so that they get as far as what a message reports.
#![no_main]

use dormgate::wire::down;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use dormgate::wire::allowed::AllowedOps;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stream = StreamSpec {
        name: "center".parse().unwrap(),
        scope: Scope::Gateway,
        keys: Vec::new(),
        insecure_unsigned: true,
        allowed: AllowedOps::all(),
    };
    if let Ok(opened) = envelope::open(bytes, Channel::Gateway, &"g1".parse().unwrap(), &[stream]) {
        drop(down::read_changes(&opened));
    }
});
