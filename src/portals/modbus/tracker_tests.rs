//! What a reader's samples come to, one after another.

use super::*;
use crate::profile::shipped;
use crate::wire::modbus::Reply;

/// A reader of a shipped profile whose one hot request brings `words`.
struct Bench {
    tracker: Tracker,
    read: Request,
    start: Instant,
}

impl Bench {
    fn new(id: &str) -> Self {
        Self::of(&shipped(id).unwrap())
    }

    fn of(profile: &crate::profile::Profile) -> Self {
        let read = profile.polls[0].reads[0].clone();
        Self { tracker: Tracker::new(profile.readers[0].clone()), read, start: Instant::now() }
    }

    fn hear(&mut self, at_ms: u64, words: &[u16]) -> Vec<Seen> {
        let mut block = Block::default();
        block.add(&self.read, Reply::Words(words.to_vec()));
        self.tracker.hear(&block, self.start + Duration::from_millis(at_ms))
    }
}

/// A latch that is set again within 400 ms: flag, then the UID.
const REPEATING: &str = r#"
schema = 1
id = "box"
name = "a box with a latch"
source = "made up"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
[points]
flag = { space = "holding", address = 0, type = "u16" }
uid = { space = "holding", address = 1, type = "bytes", registers = 2 }
[[poll]]
name = "card"
every_ms = 100
points = ["flag", "uid"]
atomic = true
[[reader]]
trigger = { latch = "flag", release = { space = "holding", address = 0, value = 0 }, repeats_ms = 400 }
uid = { point = "uid", length = 4, order = "msb_first" }
"#;

#[test]
fn a_latch_that_is_set_again_tells_how_long_the_card_lies_there() {
    let mut bench = Bench::of(&crate::profile::read(REPEATING).unwrap());
    let set = [1, A[0], A[1]];
    let unset = [0, A[0], A[1]];
    assert_eq!(bench.hear(0, &unset), [], "a card may lie there and not be shown at this moment");
    assert_eq!(bench.hear(100, &set), [Seen::There(card("1EA68671"))]);
    assert!(bench.tracker.release().is_some());
    for at in [200, 300, 400] {
        bench.tracker.released(bench.start + Duration::from_millis(at - 50));
        assert_eq!(bench.hear(at, &unset), []);
    }
    assert_eq!(bench.hear(500, &set), [], "it lies there still");
    assert_eq!(bench.hear(600, &unset), []);
    assert_eq!(bench.hear(1999, &unset), [], "400 ms to be set again, and 1 s");
    assert_eq!(bench.hear(2000, &unset), [Seen::Left]);
    assert_eq!(bench.hear(2100, &set), [Seen::Came(card("1EA68671"))]);
}

#[test]
fn a_latch_that_is_set_again_says_that_it_is_empty_only_when_it_is_sure() {
    let mut bench = Bench::of(&crate::profile::read(REPEATING).unwrap());
    assert_eq!(bench.hear(0, &[0; 3]), []);
    assert_eq!(bench.hear(1000, &[0; 3]), []);
    assert_eq!(bench.hear(1400, &[0; 3]), [Seen::Empty]);
    assert_eq!(bench.hear(1500, &[0; 3]), []);
    assert_eq!(bench.hear(1600, &[1, A[0], A[1]]), [Seen::Came(card("1EA68671"))]);
}

fn card(text: &str) -> Presented {
    Presented::Card(text.parse().unwrap())
}

const A: [u16; 2] = [0x1EA6, 0x8671];
const B: [u16; 2] = [0x04A1, 0xB2C3];
const NONE: [u16; 2] = [0, 0];

#[test]
fn a_card_leaves_only_after_it_was_not_seen_for_the_whole_time() {
    let mut bench = Bench::new("technotrade-vrd-485");
    assert_eq!(bench.hear(0, &NONE), [Seen::Empty]);
    assert_eq!(bench.hear(200, &A), [Seen::Came(card("1EA68671"))]);
    assert_eq!(bench.hear(400, &NONE), []);
    assert_eq!(bench.hear(600, &A), []);
    assert_eq!(bench.hear(800, &NONE), []);
    assert_eq!(bench.hear(1799, &NONE), []);
    assert_eq!(bench.hear(1800, &NONE), [Seen::Left]);
    assert_eq!(bench.hear(2000, &NONE), []);
}

#[test]
fn another_card_without_a_gap_is_an_exchange() {
    let mut bench = Bench::new("technotrade-vrd-485");
    bench.hear(0, &A);
    assert_eq!(bench.hear(200, &B), [Seen::Exchanged, Seen::Came(card("04A1B2C3"))]);
}

#[test]
fn another_card_after_an_empty_sample_is_a_leaving_and_a_coming() {
    let mut bench = Bench::new("technotrade-vrd-485");
    bench.hear(0, &A);
    bench.hear(200, &NONE);
    assert_eq!(bench.hear(400, &B), [Seen::Left, Seen::Came(card("04A1B2C3"))]);
}

#[test]
fn what_lies_there_when_the_reader_is_heard_again_is_said_and_did_not_come() {
    let mut bench = Bench::new("technotrade-vrd-485");
    bench.hear(0, &NONE);
    bench.tracker.lost();
    assert_eq!(bench.hear(60_000, &A), [Seen::There(card("1EA68671"))]);
    bench.tracker.lost();
    assert_eq!(bench.hear(70_000, &A), [Seen::There(card("1EA68671"))]);
    bench.tracker.lost();
    assert_eq!(bench.hear(80_000, &NONE), [Seen::Empty]);
}

fn latched(uid: [u8; 4], set: u16) -> Vec<u16> {
    let mut words = vec![set, 4];
    words.extend(uid.map(u16::from));
    words.resize(12, 0);
    words
}

#[test]
fn a_latched_card_comes_once_and_again_after_its_release() {
    let mut bench = Bench::new("inveo-rfid-ind-m1");
    let on = latched([0x1E, 0xA6, 0x86, 0x71], 1);
    assert_eq!(bench.hear(0, &latched([0; 4], 0)), []);
    assert_eq!(bench.hear(150, &on), [Seen::Came(card("1EA68671"))]);
    assert!(bench.tracker.release().is_some());
    assert_eq!(bench.hear(300, &on), []);
    bench.tracker.released(bench.start + Duration::from_millis(310));
    assert_eq!(bench.tracker.release(), None);
    // Read before the release was confirmed: it still shows the old card.
    assert_eq!(bench.hear(305, &on), []);
    assert_eq!(bench.hear(450, &on), [Seen::Came(card("1EA68671"))]);
}

#[test]
fn a_card_latched_while_the_reader_was_not_heard_opens_nothing_and_is_released() {
    let mut bench = Bench::new("inveo-rfid-ind-m1");
    let on = latched([0x1E, 0xA6, 0x86, 0x71], 1);
    assert_eq!(bench.hear(0, &on), [Seen::Missed]);
    assert!(bench.tracker.release().is_some());
    bench.tracker.released(bench.start + Duration::from_millis(10));
    assert_eq!(bench.hear(150, &latched([0; 4], 0)), []);
    assert_eq!(bench.hear(150 + STALE_MS + 1, &on), [Seen::Missed]);
}

#[test]
fn a_count_is_primed_by_the_first_read_and_may_wrap() {
    let mut bench = Bench::new("generic-door-controller");
    let count = |n: u16| {
        // Last byte first, as that controller has it.
        let mut words = vec![n, 4, 0x71, 0x86, 0xA6, 0x1E];
        words.resize(12, 0);
        words
    };
    assert_eq!(bench.hear(0, &count(65535)), []);
    assert_eq!(bench.hear(150, &count(65535)), []);
    assert_eq!(bench.hear(300, &count(0)), [Seen::Came(card("1EA68671"))]);
    bench.tracker.unsee();
    assert_eq!(bench.hear(450, &count(0)), [Seen::Came(card("1EA68671"))]);
    bench.tracker.lost();
    assert_eq!(bench.hear(600, &count(9)), [Seen::Missed]);
}

#[test]
fn what_another_poll_of_the_device_brought_is_no_empty_slot() {
    let mut bench = Bench::new("technotrade-vrd-485");
    let mut other = Block::default();
    let read = Request::Read { space: crate::wire::modbus::Space::Coil, address: 0, count: 1 };
    other.add(&read, Reply::Bits(vec![true]));
    assert_eq!(bench.tracker.hear(&other, bench.start), []);
    assert!(!bench.tracker.is_heard());
}
