//! Any bytes as a message of a center, unsigned messages allowed, so that they get as far as what a message reports.
#![no_main]

use dormgate::wire::changes;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use dormgate::wire::may::MaySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stream = StreamSpec {
        name: "center".parse().unwrap(),
        scope: Scope::Gateway,
        keys: Vec::new(),
        insecure_unsigned: true,
        may: MaySet::ALL,
    };
    if let Ok(opened) = envelope::open(bytes, Channel::Gateway, &"g1".parse().unwrap(), &[stream]) {
        drop(changes::parse(&opened));
    }
});
