//! The one-line edge tests that no other file has.

use dormgate::access::change::ErrorCode;
use dormgate::access::effect::Outcome;
use dormgate::wire::allowed::AllowedOps;
use dormgate::wire::down;
use dormgate::wire::envelope::{self, Channel, Scope, StreamSpec};
use serde_json::json;

use crate::snapshots::{outcome, send};
use crate::world::{APARTMENT, World, at, name};

#[test]
fn edge_empty_snapshot_refused() {
    let mut w = World::new();
    w.resident("A", "p1").resident("R", "p2");
    let seen = send(&mut w, APARTMENT, at(1, 20), &[]);
    assert_eq!(outcome(&seen), (Outcome::Rejected, vec![ErrorCode::ShrinkRefused]));
    assert_eq!(["A", "R"].map(|card| w.present("gate-in", card)), ["granted"; 2]);
}

#[test]
fn edge_08_prefixed_enrolment_refused() {
    let stream = StreamSpec {
        name: name(APARTMENT),
        scope: Scope::Gateway,
        keys: Vec::new(),
        insecure_unsigned: true,
        allowed: AllowedOps::all(),
    };
    let mut w = World::new();
    for (uid, code) in [("08C0FFEE", Some(ErrorCode::RandomUid)), ("18C0FFEE", None)] {
        let enrol = json!({"op": "enrol", "uid": uid, "holder": "p1", "entitlements": [{"kind": "gate", "zone": "*"}]});
        let claims = json!({"v": 1, "iss": APARTMENT, "aud": "g1", "iat": 1, "epoch": 1, "seq": 1, "ops": [enrol]});
        let claims = claims.to_string();
        let opened = envelope::open(claims.as_bytes(), Channel::Gateway, &name("g1"), std::slice::from_ref(&stream));
        let content = down::read_changes(&opened.unwrap()).unwrap().content;
        let codes: Vec<_> = content.as_ref().err().into_iter().flatten().map(|error| error.code).collect();
        assert_eq!(codes, Vec::from_iter(code), "{uid}");
        w.counters.get_mut(APARTMENT).unwrap().1 += 1;
        let input = w.message(APARTMENT, at(1, w.counters[APARTMENT].1), content);
        let expected = if code.is_some() { Outcome::Rejected } else { Outcome::Applied };
        assert_eq!(w.input(input).ack().outcome, expected, "{uid}");
    }
    // Nor does a list from before that has one make it a card.
    w.enrol("phone", "p1", "gate:*");
    assert_eq!(w.see("gate-in", "phone").reason(), "random_identifier");
    assert_eq!(w.present("gate-in", "18C0FFEE"), "granted");
}
