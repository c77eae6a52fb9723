//! What is opened and what is refused, and that a refused message is still named in the audit.

use std::num::NonZeroU32;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::access::change::Position;
use crate::wire::keys;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn gateway() -> GatewayId {
    "nanhu-xing1".parse().unwrap()
}

fn stream(name: &str, scope: Scope, seed: u8) -> StreamSpec {
    StreamSpec {
        name: name.parse().unwrap(),
        scope,
        keys: vec![key(seed).verifying_key()],
        insecure_unsigned: false,
        allowed: AllowedOps::all(),
    }
}

fn streams() -> Vec<StreamSpec> {
    vec![stream("card-office", Scope::Campus, 1), stream("apartment", Scope::Gateway, 2)]
}

fn claims(iss: &str, aud: &str) -> Map<String, Value> {
    let Value::Object(map) =
        json!({"v": 1, "iss": iss, "aud": aud, "iat": 1_788_249_600, "epoch": 3, "seq": 7, "ops": []})
    else {
        panic!("an object is wanted")
    };
    map
}

fn sign_claims(claims: &Map<String, Value>, stream: &str, seed: u8) -> String {
    sign(&Value::Object(claims.clone()).to_string(), &stream.parse().unwrap(), &key(seed))
}

fn signed(iss: &str, aud: &str, seed: u8) -> String {
    sign_claims(&claims(iss, aud), iss, seed)
}

fn code(bytes: &[u8], via: Channel) -> Result<String, (ErrorCode, String)> {
    let streams = streams();
    let opened = open(bytes, via, &gateway(), &streams);
    opened.map(|o| o.stream.name.to_string()).map_err(|r| (r.error.code, r.error.message))
}

fn refusal(bytes: &[u8], via: Channel) -> ErrorCode {
    code(bytes, via).unwrap_err().0
}

#[test]
fn the_jws_of_rfc_8037_verifies_and_is_made_again() {
    // RFC 8037, appendix A.4 and A.5.
    let jws = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let secret = keys::parse_seed("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let Ok(Message::Signed(parts)) = Message::split(jws.as_bytes()) else { panic!("not split") };
    secret.verifying_key().verify(parts.signed, &parts.signature().unwrap()).unwrap();
    assert_eq!(sign_raw(r#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing", &secret), jws);
}

#[test]
fn a_signature_has_one_form() {
    // RFC 8032, 5.1: the order of the base point, whose multiples a lax verifier does not see in `S`.
    let order = [0xED_u8, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9, 0xDE, 0x14];
    let order = order.into_iter().chain([0_u8; 15]).chain([0x10]);
    let good = signed("apartment", "nanhu-xing1", 2);
    let (content, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0;
    for (byte, more) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    let other = format!("{content}.{}", URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(refusal(other.as_bytes(), Channel::Gateway), ErrorCode::BadSignature);
}

#[test]
fn a_stream_is_read_where_its_scope_allows() {
    let office = |aud| signed("card-office", aud, 1);
    let apartment = |aud| signed("apartment", aud, 2);
    assert_eq!(code(office("campus").as_bytes(), Channel::Campus), Ok("card-office".into()));
    assert_eq!(code(office("nanhu-xing1").as_bytes(), Channel::Gateway), Ok("card-office".into()));
    assert_eq!(code(apartment("nanhu-xing1").as_bytes(), Channel::Gateway), Ok("apartment".into()));
    for (message, via) in [
        (office("campus"), Channel::Gateway),
        (office("nanhu-xing1"), Channel::Campus),
        (apartment("campus"), Channel::Campus),
        (apartment("nanhu-xing1"), Channel::Campus),
        (apartment("nanhu-xing2"), Channel::Gateway),
        (apartment("campus"), Channel::Gateway),
    ] {
        assert_eq!(refusal(message.as_bytes(), via), ErrorCode::WrongAudience);
    }
}

#[test]
fn a_foreign_key_altered_claims_or_another_algorithm_is_refused() {
    let good = signed("apartment", "nanhu-xing1", 2);
    assert_eq!(refusal(signed("apartment", "nanhu-xing1", 1).as_bytes(), Channel::Gateway), ErrorCode::BadSignature);
    let parts: Vec<&str> = good.split('.').collect();
    let payload = Value::Object(claims("apartment", "nanhu-xing1")).to_string();
    let other_payload = URL_SAFE_NO_PAD.encode(payload.replace("\"seq\":7", "\"seq\":8"));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"apartment"}"#);
    let hmac = json!({"alg": "HS256", "kid": "apartment"});
    let critical = json!({"alg": "EdDSA", "kid": "apartment", "crit": ["b64"], "b64": false});
    let small = json!({"alg": "EdDSA", "kid": "apartment", "crit": []});
    let no_alg = json!({"kid": "apartment"});
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","alg":"EdDSA","kid":"apartment"}"#);
    for message in [
        format!("{}.{other_payload}.{}", parts[0], parts[2]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{twice}.{}.{}", parts[1], parts[2]),
        sign_raw(&hmac.to_string(), payload.as_bytes(), &key(2)),
        sign_raw(&critical.to_string(), payload.as_bytes(), &key(2)),
        sign_raw(&small.to_string(), payload.as_bytes(), &key(2)),
        sign_raw(&no_alg.to_string(), payload.as_bytes(), &key(2)),
        format!("{good}="),
        format!("{good}A"),
        format!("{good}.{}", parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        good.replace('.', ":"),
        String::new(),
        payload,
    ] {
        assert_eq!(refusal(message.as_bytes(), Channel::Gateway), ErrorCode::BadSignature, "{message}");
    }
    assert!(code(format!("{good}\n").as_bytes(), Channel::Gateway).is_ok());
}

#[test]
fn one_office_cannot_publish_for_another() {
    let claims = claims("card-office", "nanhu-xing1");
    let forged = sign_claims(&claims, "apartment", 2);
    assert_eq!(refusal(forged.as_bytes(), Channel::Gateway), ErrorCode::UnknownStream);
    assert_eq!(refusal(signed("library", "nanhu-xing1", 2).as_bytes(), Channel::Gateway), ErrorCode::UnknownStream);
    let nameless = sign_raw(r#"{"alg":"EdDSA"}"#, b"{}", &key(2));
    assert_eq!(refusal(nameless.as_bytes(), Channel::Gateway), ErrorCode::UnknownStream);
}

#[test]
fn an_unknown_version_is_refused_and_named() {
    let mut claims = claims("apartment", "nanhu-xing1");
    for (v, part) in [(json!(2), "`2`"), (json!("1"), "`\"1\"`"), (json!(1.5), "`1.5`"), (Value::Null, "missing")] {
        claims.insert("v".into(), v);
        let message = sign_claims(&claims, "apartment", 2);
        let (code, text) = code(message.as_bytes(), Channel::Gateway).unwrap_err();
        assert_eq!(code, ErrorCode::InvalidField);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn during_a_key_change_both_keys_are_good() {
    let mut streams = streams();
    streams[1].keys.push(key(9).verifying_key());
    for seed in [2, 9] {
        let message = signed("apartment", "nanhu-xing1", seed);
        assert!(open(message.as_bytes(), Channel::Gateway, &gateway(), &streams).is_ok());
    }
}

#[test]
fn bare_json_is_read_only_from_a_stream_that_is_configured_so() {
    let bare = Value::Object(claims("apartment", "nanhu-xing1")).to_string();
    assert_eq!(refusal(bare.as_bytes(), Channel::Gateway), ErrorCode::BadSignature);
    let mut streams = streams();
    streams[1].insecure_unsigned = true;
    assert!(open(bare.as_bytes(), Channel::Gateway, &gateway(), &streams).is_ok());
    // The audience counts all the same, a signature is still good, and a wrong one is still wrong.
    let elsewhere = Value::Object(claims("apartment", "nanhu-xing2")).to_string();
    let refused = open(elsewhere.as_bytes(), Channel::Gateway, &gateway(), &streams).unwrap_err();
    assert_eq!(refused.error.code, ErrorCode::WrongAudience);
    let message = signed("apartment", "nanhu-xing1", 2);
    assert!(open(message.as_bytes(), Channel::Gateway, &gateway(), &streams).is_ok());
    let message = signed("apartment", "nanhu-xing1", 1);
    assert!(open(message.as_bytes(), Channel::Gateway, &gateway(), &streams).is_err());
    // The other stream did not become insecure.
    let office = Value::Object(claims("card-office", "nanhu-xing1")).to_string();
    assert!(open(office.as_bytes(), Channel::Gateway, &gateway(), &streams).is_err());
}

#[test]
fn a_refused_message_keeps_what_it_claims_to_be() {
    let mut claims = claims("apartment", "nanhu-xing1");
    claims.insert("jti".into(), json!("01J9\n"));
    let message = sign_claims(&claims, "apartment", 7);
    let refused = open(message.as_bytes(), Channel::Gateway, &gateway(), &streams()).unwrap_err();
    assert_eq!(refused.claimed.stream, Some("apartment".parse().unwrap()));
    assert_eq!(refused.claimed.at, Some(Position { epoch: NonZeroU32::new(3).unwrap(), seq: 7 }));
    assert_eq!(refused.claimed.jti, None, "a jti with a line feed is not repeated");
    assert_eq!(Refused::retained(message.as_bytes()).claimed, refused.claimed);
    assert_eq!(peek(b"rubbish"), Claimed::default());
}

#[test]
fn a_packet_that_is_far_too_long_is_not_read() {
    let mut claims = claims("apartment", "nanhu-xing1");
    claims.insert("x".into(), json!("y".repeat(PACKET_BYTES_MAX)));
    let message = sign_claims(&claims, "apartment", 2);
    let refused = open(message.as_bytes(), Channel::Gateway, &gateway(), &streams()).unwrap_err();
    assert_eq!((refused.error.code, refused.claimed), (ErrorCode::TooLarge, Claimed::default()));
}

proptest! {
    #[test]
    fn nothing_is_read_of_any_header_payload_or_signature(
        header in r#"\{("(alg|kid|crit|typ)":("EdDSA"|"apartment"|null|7|\[\]),?){0,4}\}"#,
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        signature in proptest::collection::vec(any::<u8>(), 60..68),
    ) {
        let [h, p, s] = [header.as_bytes(), &payload, &signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{h}.{p}.{s}");
        prop_assert!(code(message.as_bytes(), Channel::Gateway).is_err());
        // Also what is really signed may be anything.
        let signed = sign_raw(r#"{"alg":"EdDSA","kid":"apartment"}"#, &payload, &key(2));
        prop_assert!(code(signed.as_bytes(), Channel::Gateway).is_err());
    }

    #[test]
    fn a_signed_message_with_one_byte_changed_is_refused(at in 0..400_usize, to in any::<u8>()) {
        let good = signed("apartment", "nanhu-xing1", 2);
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        // White space at the end is the one thing that is not signed.
        prop_assume!(bytes.trim_ascii() != good.as_bytes() && bytes != good.as_bytes());
        prop_assert!(code(&bytes, Channel::Gateway).is_err());
    }
}
