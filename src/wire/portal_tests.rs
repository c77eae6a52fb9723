//! What portals send and receive, and that nothing they send is lost or trusted too much.

use proptest::prelude::*;

use super::*;
use crate::access::decision::{Denial, Grant, Reason};

fn request(payload: &str) -> Request {
    parse_request("gate-in", payload.as_bytes(), Delivery::Live)
}

fn malformed(payload: &str) -> String {
    match request(payload).presented {
        Presented::Malformed(text) => text,
        Presented::Card(uid) => panic!("{uid} was understood"),
        Presented::Lossy(reading) => panic!("{reading} was understood"),
    }
}

#[test]
fn a_request_is_read_with_and_without_its_optional_fields() {
    let full = request(r#"{"v":1,"id":"b7f3-118","uid":"1EA68671","direction":"out","assurance":"crypto","x":[]}"#);
    assert_eq!((full.portal.as_str(), full.id.as_deref(), full.stale), ("gate-in", Some("b7f3-118"), false));
    assert_eq!(full.presented, Presented::Card("1EA68671".parse().unwrap()));
    assert_eq!((full.direction, full.assurance), (Some(Direction::Out), Assurance::Crypto));
    let bare = request(r#"{"uid":"1e:a6:86:71"}"#);
    assert_eq!((bare.id, bare.direction, bare.assurance), (None, None, Assurance::Uid));
    assert_eq!(bare.presented, full.presented);
    assert!(parse_request("p", b"{}", Delivery::Retained).stale);
}

#[test]
fn a_request_that_cannot_be_read_is_still_a_request() {
    for (payload, part) in [
        ("", "not a JSON object"),
        ("1EA68671", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "`uid`: is missing"),
        (r#"{"uid":514229873}"#, "`uid`: text is wanted, got a whole number"),
        (r#"{"uid":"1EA686"}"#, "1EA686"),
        (r#"{"uid":"00000000"}"#, "00000000"),
        (r#"{"uid":"a\nb"}"#, "a?b"),
        (r#"{"v":2,"uid":"1EA68671"}"#, "version `2` is unknown"),
        (r#"{"uid":"1EA68671","uid":"1EA68672"}"#, "`uid`: is given twice"),
        (r#"{"uid":"1EA68671","direction":"up"}"#, "`direction`: `in` or `out` is wanted, got `up`"),
        (r#"{"uid":"1EA68671","id":7}"#, "`id`: text is wanted, got a whole number"),
        (r#"{"uid":"1EA68671","id":""}"#, "`id`: 1 to 64"),
    ] {
        let text = malformed(payload);
        assert!(text.contains(part), "{payload}: {text}");
    }
    assert!(malformed(&format!(r#"{{"uid":"{}"}}"#, "A".repeat(2000))).contains("too many"));
    assert_eq!(malformed(&format!(r#"{{"uid":"{}"}}"#, "A".repeat(200))).chars().count(), QUOTE_CHARS_MAX);
}

#[test]
fn the_id_and_the_way_out_survive_a_malformed_request() {
    let read = request(r#"{"id":"7","direction":"out","uid":"zz","v":9}"#);
    assert_eq!((read.id.as_deref(), read.direction), (Some("7"), Some(Direction::Out)));
    // An assurance nobody knows proves nothing.
    assert_eq!(request(r#"{"uid":"1EA68671","assurance":"magic"}"#).assurance, Assurance::Uid);
}

#[test]
fn a_whole_state_is_read_as_it_was_written() {
    let all = PortalReport {
        online: Some(true),
        card_present: Some(true),
        uid: Some(Presented::Card("1EA68671".parse().unwrap())),
        contact_open: Some(true),
        relay: Some(true),
        power_w: Some(41.2),
        energy_kwh: Some(103.4),
        overload: Some(true),
        restricted_load: Some(false),
        passed: Some(Direction::In),
        tamper: Some(false),
        fire: Some(false),
        ..PortalReport::default()
    };
    let text = r#"{"online":true,"card_present":true,"uid":"1EA68671","contact":"open","relay":true,"power_w":41.2,"energy_kwh":103.4,"overload":true,"restricted_load":false,"passed":"in","tamper":false,"fire":false}"#;
    assert_eq!(parse_state(text.as_bytes()).as_ref(), Ok(&all));
    assert_eq!(parse_state(&encode_state(&all)), Ok(all));
    assert_eq!(parse_state(b"{}"), Ok(PortalReport::default()));
}

#[test]
fn a_field_of_a_state_with_a_wrong_value_is_left_out_and_named_and_the_others_count() {
    let fire = || PortalReport { fire: Some(true), ..PortalReport::default() };
    let left = || PortalReport { card_present: Some(false), ..PortalReport::default() };
    for (payload, report, wrong) in [
        (r#"{"fire":true,"power_w":nan}"#, fire(), vec!["power_w"]),
        (r#"{"fire":true,"power_w": -Infinity , "energy_kwh":NaN}"#, fire(), vec!["power_w", "energy_kwh"]),
        (r#"{"power_w":1e999,"card_present":false}"#, left(), vec!["power_w"]),
        (r#"{"card_present":false,"power_w":+41.2}"#, left(), vec!["power_w"]),
        (r#"{"card_present":false,"power_w":"much","x\\":nan}"#, left(), vec!["power_w"]),
        (r#"{"card_present":false,"fire":"ON"}"#, left(), vec!["fire"]),
        (r#"{"card_present":false,"fire":ON}"#, left(), vec!["fire"]),
        (r#"{"card_present":false,"fire":1}"#, left(), vec!["fire"]),
        (r#"{"fire":true,"contact":"ajar","relay":true,"relay":false}"#, fire(), vec!["contact", "relay"]),
        (r#"{"fire":true,"power_w":}"#, fire(), vec!["power_w"]),
        (r#"{"fire":true,}"#, fire(), vec![]),
        (r#"{"uid":"\ud800","fire":true}"#, fire(), vec!["uid"]),
        ("{\"fire\":true,\"uid\":\"1EA68671\r\"}", fire(), vec!["uid"]),
        ("{\"card_present\":false,\"uid\":\"\0\"}", left(), vec!["uid"]),
        // Given twice: the same counts, and of two values that which is safe.
        (r#"{"fire":true,"fire":true}"#, fire(), vec!["fire"]),
        (r#"{"fire":false,"fire":true}"#, fire(), vec!["fire"]),
        (r#"{"card_present":true,"card_present":false}"#, left(), vec!["card_present"]),
        (
            r#"{"overload":false,"overload":true,"restricted_load":"no"}"#,
            PortalReport { overload: Some(true), ..PortalReport::default() },
            vec!["overload", "restricted_load"],
        ),
        (r#"{"fire":true,"note":{"a":[1,"}"],"b":nan},"x":"\""}"#, fire(), vec![]),
        ("\u{FEFF}{\"fire\":true}", fire(), vec![]),
        (r#"{"fire":true,"uid":""}"#, fire(), vec![]),
        ("{\"fire\":true}\0", fire(), vec![]),
        (" {\"fire\":true}\r\n\0\0\n", fire(), vec![]),
        (r#"{"fire":true,"note":"a \":nan\" b","x":null}"#, fire(), vec![]),
    ] {
        let read = parse_state(payload.as_bytes()).unwrap();
        let named: Vec<_> = read.malformed.iter().map(|message| message.split('`').nth(1).unwrap()).collect();
        assert_eq!(named, wrong, "{payload}");
        assert_eq!(PortalReport { malformed: vec![], ..read.clone() }, report, "{payload}");
    }
    let wrong_uid = parse_state(br#"{"card_present":true,"uid":"8"}"#).unwrap();
    assert_eq!((wrong_uid.card_present, wrong_uid.uid, wrong_uid.malformed.len()), (Some(true), None, 1));
}

/// What portals send wrongly is shown to everybody at the console, in the alarms and in the log.
#[test]
fn what_is_wrong_with_a_state_is_named_without_what_was_sent() {
    for (payload, expected) in [
        (r#"{"relay":"1EA68671"}"#, "`relay`: `true` or `false` is wanted, got text of 8 characters"),
        (r#"{"power_w":"UID1EA68671"}"#, "`power_w`: a number is wanted, got text of 11 characters"),
        (r#"{"power_w":[30,166,134,113]}"#, "`power_w`: a number is wanted, got a list"),
        (r#"{"power_w":x1EA68671}"#, "`power_w`: a JSON value is wanted, got 9 characters"),
        (
            r#"{"contact":"a, got 1EA68671h, expected x"}"#,
            "`contact`: `open` or `closed` is wanted, got text of 28 characters",
        ),
        (r#"{"contact":514229873}"#, "`contact`: one of its names in quotes is wanted; got a number of 9 digits"),
        (r#"{"passed":"30 166 134 113"}"#, "`passed`: `in` or `out` is wanted, got text of 14 characters"),
        (r#"{"uid":514229873}"#, "`uid`: a card UID in hex, e.g. `1EA68671` is wanted, got a number of 9 digits"),
        (r#"{"uid":"1EA686"}"#, "`uid`: a card UID has 4, 7 or 10 bytes, this has 3; got text of 6 characters"),
        (r#"{"fire":"ON"}"#, "`fire`: `true` or `false` is wanted, got text of 2 characters"),
        (r#"{"power_w":nan}"#, "`power_w`: a JSON value is wanted, got `nan`"),
        (r#"{"fire":1}"#, "`fire`: `true` or `false` is wanted, got `1`"),
    ] {
        assert_eq!(parse_state(payload.as_bytes()).unwrap().malformed, [expected], "{payload}");
    }
    assert_eq!(
        parse_state(br#"{"v":"1/EA/68/671"}"#).unwrap_err(),
        "`v`: version 1 is read here, got text of 11 characters"
    );
    assert_eq!(parse_state(br#"{"v":2}"#).unwrap_err(), "`v`: version 1 is read here, got `2`");
}

#[test]
fn what_is_no_json_object_is_refused_whole() {
    let many = vec![b' '; PORTAL_STATE_BYTES_MAX + 1];
    for payload in [
        &b""[..],
        b"x",
        b"[]",
        b"nan",
        br#"{"fire":true"#,
        br#"{"fire":true}{}"#,
        br#"{"fire":true}}"#,
        br#"{fire:true}"#,
        br#"{"fire" true}"#,
        br#"{"fire":true,"x":"}"#,
        br#"{"v":2,"fire":true}"#,
        &many,
    ] {
        assert!(parse_state(payload).is_err(), "{}", String::from_utf8_lossy(payload));
    }
}

#[test]
fn a_decision_is_spelled_as_in_the_contract_and_read_by_the_portal() {
    let grant = |portal: &str, hold_ms| Decision::Grant(Grant::for_test(portal.parse().unwrap(), None, hold_ms));
    let deny = || Decision::Deny(Denial::from(Reason::Lost));
    let rows = [
        (Some("b7f3-118"), deny(), None, r#""id":"b7f3-118","decision":"deny","reason":"lost""#),
        (None, deny(), None, r#""decision":"deny","reason":"lost""#),
        (None, grant("gate-in", Some(3000)), None, r#""decision":"grant","reason":"granted","hold_ms":3000"#),
        // A box that rests carries its delay.
        (None, grant("power-412", None), Some(2100), r#""decision":"grant","reason":"granted","delay_ms":2100"#),
    ];
    for (id, decision, delay_ms, fields) in rows {
        let text = String::from_utf8(encode_decision(id, &decision, delay_ms).unwrap()).unwrap();
        assert_eq!(text, format!(r#"{{"v":1,{fields},"ttl_ms":1500,"flags":[]}}"#));
        let read = parse_decision(text.replace("[]", "[\"late\"]").as_bytes()).unwrap();
        let hold_ms = fields.contains("hold_ms").then_some(3000);
        assert_eq!((read.id.as_deref(), read.granted, read.hold_ms), (id, decision.is_grant(), hold_ms));
        let wanted = (decision.reason_str(), delay_ms, vec!["late".to_owned()]);
        assert_eq!((read.reason.as_str(), read.delay_ms, read.flags), wanted);
        assert!(parse_decision(text.replace("decision\":\"", "decision\":\"x").as_bytes()).is_err());
    }
}

#[test]
fn every_order_is_read_as_it_was_written() {
    for action in Action::ALL.iter().copied() {
        let bytes = encode_control("c-1", action, Some(3000), "remote").unwrap();
        let ttl_ms = matches!(action, Action::Release | Action::PowerOn | Action::Free).then_some(1500);
        let read = PortalControl { id: "c-1".into(), action, hold_ms: Some(3000), ttl_ms, reason: "remote".into() };
        assert_eq!(parse_control(&bytes), Ok(read));
        assert_eq!(action.qos() == Qos::AtMostOnce, ttl_ms.is_some(), "{action:?}");
    }
    let off = encode_control("c-2", Action::PowerOff, None, "power_suspended").unwrap();
    let wanted = json!({"v": 1, "id": "c-2", "action": "power_off", "reason": "power_suspended"});
    assert_eq!(serde_json::from_slice::<Value>(&off).unwrap(), wanted);
    assert!(parse_control(br#"{"id":"1","action":"explode","reason":""}"#).is_err());
}

proptest! {
    #[test]
    fn a_request_written_is_the_request_read(id in "[a-z0-9-]{1,64}", seven in any::<[u8; 7]>(), out in any::<bool>()) {
        let uid = crate::access::id::CardUid::from_bytes(&seven);
        prop_assume!(uid.is_ok());
        let uid = uid.unwrap();
        let direction = Some(if out { Direction::Out } else { Direction::In });
        let read = parse_request("p", &encode_request(Some(&id), &uid.to_string(), direction, Some(Assurance::Sector)), Delivery::Live);
        prop_assert_eq!((read.id, read.presented, read.direction, read.assurance), (Some(id), Presented::Card(uid), direction, Assurance::Sector));
    }

    #[test]
    fn a_state_has_no_field_that_was_not_written(text in r#"\{("(id|uid|direction|v|flags|power_w)":("[A-F0-9]{0,9}"|[0-9]{1,3}|null|true|\[\]|\{\}),?){0,5}\}"#) {
        if let Ok(report) = parse_state(text.as_bytes()) {
            prop_assert_eq!((report.fire, report.relay, report.card_present), (None, None, None));
        }
    }
}
