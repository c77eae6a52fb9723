//! Cards in old messages, clocks that are set back, and the same card again.

use super::*;

/// A message of an RC522 at this second of its day.
fn at_second(uid: &str, second: u64) -> String {
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{{\"Time\":\"2026-11-29T{hour:02}:{minute:02}:{second:02}\",\"RC522\":{{\"UID\":\"{uid}\"}}}}")
}

fn old_card(uid: &str) -> Vec<Reading> {
    vec![Reading::OldCard { slot: 0, presented: Presented::Card(uid.parse().unwrap()) }]
}

#[tokio::test(start_paused = true)]
async fn a_card_in_an_old_message_is_passed_on_as_old_and_one_that_came_twice_is_not() {
    let mut rig = Rig::online("tasmota-rc522");
    rig.kept(SENSOR, &card("1EA68671", 10));
    assert_eq!(rig.readings(), old_card("1EA68671"));
    rig.sends(SENSOR, &card("1EA68671", 20));
    rig.drain();
    rig.sends(SENSOR, &card("04A1B2C3", 15));
    assert_eq!(rig.readings(), old_card("04A1B2C3"));
    assert!(rig.sends(SENSOR, &card("1EA68671", 20)).old);
    assert_eq!(rig.readings(), []);
    rig.sends(LWT, "Offline");
    rig.drain();
    rig.sends(SENSOR, &card("1EA68671", 30));
    assert_eq!(rig.readings(), old_card("1EA68671"), "the device is not online");
    // A card that lies there is repeated, and was not presented now.
    let mut rig = Rig::new("esphome-tag");
    assert!(rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}").old);
    assert_eq!(rig.readings(), []);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_connects_again_begins_its_time_again() {
    let mut rig = Rig::online("tasmota-rc522");
    rig.sends(SENSOR, &at_second("1EA68671", 1000));
    assert_eq!(rig.cards(), presented("1EA68671"));
    rig.after(10_000);
    // Its last will did not come, and it has started without network time.
    rig.sends(LWT, "Online");
    rig.after(3_000);
    rig.sends(SENSOR, &at_second("1EA68671", 12));
    assert_eq!(rig.cards(), presented("1EA68671"));
    // A retained copy is no start.
    rig.kept(LWT, "Online");
    rig.after(3_000);
    assert!(rig.sends(SENSOR, &at_second("1EA68671", 5)).old);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_is_taken_after_a_few_messages_that_go_on_with_the_time() {
    let mut rig = Rig::online("tasmota-rc522");
    rig.sends(SENSOR, &at_second("1EA68671", 2000));
    rig.drain();
    let mut opened = Vec::new();
    for tap in 0..5 {
        rig.after(3_000);
        rig.sends(SENSOR, &at_second("1EA68671", 1000 + 3 * tap));
        opened.push(!rig.cards().is_empty());
    }
    assert_eq!(opened, [false, false, true, true, true]);
    // A message of before is old again.
    assert!(rig.sends(SENSOR, &at_second("1EA68671", 1003)).old);
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_kept_back_do_not_pass_for_a_clock_that_was_set_back() {
    // They come all at once, or in times that do not fit theirs.
    for (apart_s, pause_ms) in [(1, 0), (0, 0), (60, 3_000), (1, 5_000), (0, 3_000)] {
        let mut rig = Rig::online("tasmota-rc522");
        rig.sends(SENSOR, &at_second("1EA68671", 2000));
        rig.drain();
        for message in 0..12 {
            let uid = if message % 2 == 0 { "1EA68671" } else { "04A1B2C3" };
            assert!(rig.sends(SENSOR, &at_second(uid, 1000 + apart_s * message)).old, "{apart_s} s, {pause_ms} ms");
            assert_eq!(rig.cards(), []);
            rig.after(pause_ms);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_that_lies_at_a_reader_is_presented_once_and_who_presents_it_every_few_seconds_each_time() {
    for reader in ["pn532", "rdm6300"] {
        let mut rig = Rig::online(&format!("tasmota-{reader}"));
        let card = |n: u32| format!("{{\"{}\":{{\"UID\":\"1EA68671\"}},\"n\":{n}}}", reader.to_uppercase());
        for tap in 0..5 {
            rig.sends(SENSOR, &card(tap));
            assert_eq!(rig.cards(), presented("1EA68671"), "tap {tap}");
            rig.after(3_000);
        }
        // The device looks again two seconds after each message.
        rig.sends(SENSOR, &card(5));
        assert_eq!(rig.cards(), presented("1EA68671"));
        for look in 6..12 {
            rig.after(2_000);
            rig.sends(SENSOR, &card(look));
            assert_eq!(rig.cards(), [], "look {look}");
        }
    }
}
