//! Every diagnostic of a profile, as in the file `tests/diagnostics.txt`; and the spellings of UIDs.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::access::id::CardUid;
use crate::access::input::Presented;
use crate::access::transform::Form;
use crate::profile::model::{UidContent, UidOrder};
use crate::profile::tests::{every_file_is_built_in, snapshot_of_diagnostics};

/// A profile without a diagnostic: a reader that repeats its card, two relays, a contact and a meter.
const BASE: &str = include_str!("tests/device.toml");

#[test]
fn each_diagnostic_has_its_place_and_its_remedy() {
    snapshot_of_diagnostics("profile/mqtt/tests/diagnostics.txt", |_| ("device", BASE));
}

#[test]
fn a_file_without_the_protocol_is_a_profile_of_a_modbus_device() {
    assert!(is_mqtt(BASE) && is_mqtt("protocol = 3\n[nothing]\n"));
    assert!(!is_mqtt(crate::profile::SHIPPED.first().unwrap().1));
    let wrong = BASE.replace("protocol = \"mqtt\"\n", "");
    let diagnostics = read(&wrong).unwrap_err();
    assert!(diagnostics.iter().any(|d| d.message.contains("write `protocol = \"mqtt\"`")), "{diagnostics:?}");
}

#[test]
fn every_file_of_the_folder_is_built_in_and_has_no_diagnostic() {
    every_file_is_built_in("devices/mqtt", SHIPPED, |text| Ok(read(text)?.id));
    let of_modbus = |id: &str| crate::profile::SHIPPED.iter().any(|(other, _)| *other == id);
    assert!(!SHIPPED.iter().any(|(id, _)| of_modbus(id)), "an id is a Modbus profile too");
}

fn reader(form: UidForm, order: UidOrder, content: UidContent) -> Reader {
    let place = Place { topic: "t".into(), at: Some("/uid".into()), only: None, retained: false };
    let uid = Uid { form, order, content };
    Reader {
        place,
        uid,
        direction: None,
        again_ms: 0,
        repeats_ms: None,
        gone_ms: 0,
        removed: None,
        removed_repeats: false,
        stamp: None,
    }
}

const WHOLE: UidContent = UidContent::Whole { min: 4, max: 10 };
const FOUR: UidContent = UidContent::Whole { min: 4, max: 4 };

fn card(reader: &Reader, value: &str) -> Option<Presented> {
    Payload::new(format!("{{\"uid\":{value}}}").as_bytes()).card(reader).unwrap()
}

#[test]
fn a_uid_is_read_in_every_spelling_that_loses_nothing_and_in_no_other() {
    use UidOrder::{LsbFirst, MsbFirst};
    let one = Some(Presented::Card("1EA68671".parse().unwrap()));
    let hex = reader(UidForm::Hex, MsbFirst, WHOLE);
    for same in ["1EA68671", "1ea68671", "1E:A6:86:71", "1e-a6-86-71", "1E A6 86 71", "1e.a6.86.71", " 1EA68671 "] {
        assert_eq!(card(&hex, &format!("\"{same}\"")), one, "{same}");
    }
    let reversed = reader(UidForm::Hex, LsbFirst, WHOLE);
    assert_eq!(card(&reversed, "\"7186A61E\""), one);
    assert_ne!(card(&hex, "\"7186A61E\""), one, "reversed is another card where the profile does not state it");
    let number = reader(UidForm::Number, MsbFirst, FOUR);
    for same in ["514229873", "\"514229873\"", "\"0514229873\"", "\"0x1EA68671\"", "\"1ea68671h\""] {
        assert_eq!(card(&number, same), one, "{same}");
    }
    let reversed = reader(UidForm::Number, LsbFirst, FOUR);
    assert_eq!(card(&reversed, "1904649758"), one);
    // A leading zero is part of the UID, also of a number.
    let small = Some(Presented::Card("008EC793".parse().unwrap()));
    assert_eq!((card(&hex, "\"008EC793\""), card(&number, "9357203")), (small.clone(), small));
    for wrong in ["\"1EA6867\"", "\"1EA68671GG\"", "\"1EA6867188\"", "51422987", "true", "{}", "[1]", "\"FFFFFFFF\""] {
        assert!(matches!(card(&hex, wrong), Some(Presented::Malformed(_))), "{wrong}: {:?}", card(&hex, wrong));
    }
    for wrong in ["4294967296", "-1", "1.5", "\"+5\"", "\"1EA68671\"", "1e999999"] {
        let payload = format!("{{\"uid\":{wrong}}}");
        let read = Payload::new(payload.as_bytes()).card(&number);
        assert!(matches!(read, Ok(Some(Presented::Malformed(_))) | Err(_)), "{wrong}: {read:?}");
    }
    for none in ["\"\"", "\"00000000\"", "null"] {
        assert_eq!(card(&hex, none), None, "{none}");
    }
    for none in ["0", "\"\""] {
        assert_eq!(card(&number, none), None, "{none}");
    }
    // Longer than this reader can read, or than what its transform leaves.
    let four = reader(UidForm::Hex, MsbFirst, FOUR);
    assert!(matches!(card(&four, "\"04A1B2C3D4E5F6\""), Some(Presented::Malformed(_))));
    let three = reader(UidForm::Number, MsbFirst, UidContent::Reduced(Form::Last(3)));
    assert!(matches!(card(&three, "16777215"), Some(Presented::Lossy(_))));
    assert!(matches!(card(&three, "16777216"), Some(Presented::Malformed(_))));
}

#[test]
fn a_value_is_yes_or_no_by_its_own_text_alone_and_a_number_is_one_also_as_text() {
    let place = Place { topic: "t".into(), at: Some("/v".into()), only: None, retained: false };
    let two = Two { place: place.clone(), yes: "ON".into(), no: "0".into(), channel: None };
    let is = |payload: &str| Payload::new(payload.as_bytes()).two(&two).unwrap();
    for yes in [r#"{"v":"ON"}"#, r#"{"v":"on"}"#, r#"{"v":" On "}"#] {
        assert_eq!(is(yes), Some(true), "{yes}");
    }
    for no in [r#"{"v":0}"#, r#"{"v":"0"}"#] {
        assert_eq!(is(no), Some(false), "{no}");
    }
    // A lock that is just turning, a device that is not known: neither.
    for neither in [r#"{"v":"ONE"}"#, r#"{"v":"unavailable"}"#, r#"{"v":null}"#, r#"{"v":{"v":"ON"}}"#, r#"{"w":"ON"}"#]
    {
        assert_eq!(is(neither), None, "{neither}");
    }
    let number = |place: &Place, payload: &str| Payload::new(payload.as_bytes()).number(place);
    for (payload, expected) in [
        (r#"{"v":41.5}"#, Ok(Some(41.5))),
        (r#"{"v":" 41.5 "}"#, Ok(Some(41.5))),
        (r#"{"w":41.5}"#, Ok(None)),
        (r#"{"v":"NaN"}"#, Err("a number is wanted, got text of 3 characters".to_owned())),
        (r#"{"v":"inf"}"#, Err("a number is wanted, got text of 3 characters".to_owned())),
        (r#"{"v":true}"#, Err("a number is wanted, got `true`".to_owned())),
    ] {
        assert_eq!(number(&place, payload), expected, "{payload}");
    }
    // What is no value hides no other.
    for (payload, expected) in [(r#"{"t":nan,"n":"nan \"","v":7}"#, 7.0), (r#"{"a":[-inf,{"b":ON}],"v":1e1}"#, 10.0)] {
        assert_eq!(number(&place, payload), Ok(Some(expected)), "{payload}");
    }
    assert_eq!(number(&place, r#"{"v":nan}"#), Ok(None));
    assert!(number(&place, r#"{"v":7"#).is_err_and(|why| why.contains("not JSON")));
    let plain = Place { at: None, ..place.clone() };
    assert_eq!((number(&plain, " 7\n"), number(&plain, "")), (Ok(Some(7.0)), Ok(None)));
    let only = Place { only: Some(("/id".into(), "1".into())), ..place };
    assert_eq!(number(&only, r#"{"id":1,"v":7}"#), Ok(Some(7.0)));
    for other in [r#"{"id":2,"v":7}"#, r#"{"v":7}"#] {
        assert_eq!(number(&only, other), Ok(None), "{other}");
    }
}

#[test]
fn what_is_of_one_channel_only_is_not_of_another() {
    let channel = |channel| Names { topic: "hall", channel };
    let relays = shipped("tasmota-relay").unwrap().output.unwrap();
    let pointers = |names| relays.of(names).state.into_iter().filter_map(|two| two.place.at).collect::<Vec<_>>();
    assert_eq!(pointers(channel(0)), ["/POWER1", "/POWER"]);
    assert_eq!(pointers(channel(1)), ["/POWER2"]);
    let device = read(&BASE.replace("yes = 1, no = 0", "yes = 1, no = 0, channel = 1")).unwrap();
    assert_eq!((device.inputs(channel(0)).len(), device.inputs(channel(1)).len()), (1, 2));
}

#[test]
fn what_is_not_the_payload_of_a_device_is_an_error_or_nothing_and_never_a_card() {
    let hex = reader(UidForm::Hex, UidOrder::MsbFirst, WHOLE);
    let long = format!("{{\"uid\":\"1EA68671\",\"x\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES_MAX));
    for wrong in
        [&b"{\"uid\":\"1EA68671\""[..], b"", b"1EA68671 of", b"\xFF\xFE", b"{'uid':'1EA68671'}", long.as_bytes()]
    {
        let read = Payload::new(wrong).card(&hex);
        assert!(read.is_err(), "{}: {read:?}", String::from_utf8_lossy(wrong));
    }
    for nothing in [&b"{\"UID\":\"1EA68671\"}"[..], b"[]", b"7", b"{\"uid\":{}}"] {
        let read = Payload::new(nothing).card(&hex).unwrap();
        assert!(!matches!(read, Some(Presented::Card(_))), "{read:?}");
    }
    // A byte order mark and a NUL at the end are no part of it.
    let read = Payload::new(b"\xEF\xBB\xBF{\"uid\":\"1EA68671\"}\0").card(&hex).unwrap();
    assert!(matches!(read, Some(Presented::Card(_))), "{read:?}");
}

#[test]
fn a_time_shows_what_is_newer_and_whether_it_is_that_of_another_clock_in_any_zone() {
    let reader = Reader { stamp: Some("/time".into()), ..reader(UidForm::Hex, UidOrder::MsbFirst, WHOLE) };
    let stamp = |time: &str| Payload::new(format!("{{\"time\":{time}}}").as_bytes()).stamp(&reader);
    for (earlier, later, seconds) in [
        ("\"2026-11-29T12:00:04\"", "\"2026-11-29T12:00:05\"", 1.0),
        ("\"2026-11-29T23:59:59\"", "\"2026-11-30T00:00:01\"", 2.0),
        ("1713278915.25", "1713278915.5", 0.25),
        ("\"1713278915.25\"", "\"1713278915.5\"", 0.25),
        ("\"2026-11-29T12:00:04Z\"", "\"2026-11-29T20:00:05+08:00\"", 1.0),
    ] {
        assert_eq!(stamp(later).unwrap().seconds_after(stamp(earlier).unwrap()), seconds, "{earlier} {later}");
    }
    // 2026-11-29T12:00:00Z.
    let agrees = |time: &str| stamp(time).unwrap().agrees_with(1_795_953_600.0, 5.0);
    for time in [
        "\"2026-11-29T12:00:05\"",
        "\"2026-11-29T20:00:00\"",
        "\"2026-11-29T17:44:55\"",
        "\"2026-11-28T22:00:00\"",
        "\"2026-11-29T12:00:05Z\"",
        "\"2026-11-29T20:00:00+08:00\"",
        "1795953595",
    ] {
        assert!(agrees(time), "{time}");
    }
    for time in [
        "\"2026-11-29T12:00:06\"",
        "\"2026-11-29T19:52:00\"",
        "\"2026-11-28T12:00:00\"",
        "\"1970-01-01T00:00:00\"",
        "\"2026-11-29T20:00:00Z\"",
        "\"2026-11-29T12:00:00+08:00\"",
        "1795957200",
    ] {
        assert!(!agrees(time), "{time}");
    }
    assert_eq!((stamp("\"yesterday\""), stamp("true")), (None, None));
}

proptest! {
    /// What a simulated device reports of a card is read as that card, or as the part of it that the reader gives.
    #[test]
    fn a_card_that_a_simulated_device_reports_is_read_back(
        bytes in select(&[4_usize, 7, 10][..]).prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n)),
        order in select(&[UidOrder::MsbFirst, UidOrder::LsbFirst][..]),
        form in select(&[UidForm::Hex, UidForm::Number][..]),
        reduced in select(&[None, Some(Form::Last(3)), Some(Form::Last(4)), Some(Form::First(2)), Some(Form::Decimal)][..]),
    ) {
        let Ok(uid) = CardUid::from_bytes(&bytes) else { return Ok(()) };
        let len = u8::try_from(bytes.len()).unwrap();
        let content = match reduced {
            Some(reduced) if form.can_show(reduced) => UidContent::Reduced(reduced),
            Some(_) | None => UidContent::Whole { min: len, max: len },
        };
        let reader = reader(form, order, content);
        let expected = match reader.uid.transform() {
            Some(transform) if transform.read(uid).value == 0 => None,
            Some(transform) => Some(Presented::Lossy(transform.read(uid))),
            None => Some(Presented::Card(uid)),
        };
        prop_assert_eq!(Payload::new(reader.show(uid, "").as_bytes()).card(&reader).unwrap(), expected);
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let reader = reader(UidForm::Hex, UidOrder::MsbFirst, WHOLE);
        drop(Payload::new(&bytes).card(&reader));
    }
}
