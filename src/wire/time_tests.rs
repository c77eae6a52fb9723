//! How an instant is written and read: text or seconds in JSON, a number on disk.

use proptest::prelude::*;

use crate::access::id::Timestamp;

fn read(json: &str) -> Option<i64> {
    serde_json::from_str::<Timestamp>(json).ok().map(|time| time.0)
}

#[test]
fn a_time_is_text_or_seconds() {
    let ms = 1_788_249_600_000;
    for (json, wanted) in [
        (r#""2026-09-01T08:00:00Z""#, Some(ms)),
        (r#""2026-09-01T16:00:00.250+08:00""#, Some(ms + 250)),
        ("1788249600", Some(ms)),
        ("1788249600.25", Some(ms + 250)),
        (r#""2026-09-01""#, None),
        (r#""yesterday""#, None),
        ("18446744073709551615", None),
        ("-9223372036854775808", None),
        ("1e300", None),
        ("true", None),
        (r#""""#, None),
    ] {
        assert_eq!(read(json), wanted, "{json}");
    }
    assert_eq!(serde_json::to_string(&Timestamp(ms + 7)).unwrap(), r#""2026-09-01T08:00:00.007Z""#);
    assert_eq!(postcard::to_stdvec(&Timestamp(ms)).unwrap(), postcard::to_stdvec(&ms).unwrap());
}

proptest! {
    #[test]
    fn a_time_written_is_the_time_read(ms in -377_705_023_201_000_i64..253_402_207_200_000) {
        let time = Timestamp(ms);
        prop_assert_eq!(read(&serde_json::to_string(&time).unwrap()), Some(ms));
        prop_assert_eq!(postcard::from_bytes(&postcard::to_stdvec(&time).unwrap()), Ok(time));
    }

    #[test]
    fn seconds_are_read_where_the_year_can_be_printed(seconds in any::<i64>()) {
        let known = (jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second()).contains(&seconds);
        prop_assert_eq!(read(&seconds.to_string()), known.then(|| seconds * 1000));
    }
}
