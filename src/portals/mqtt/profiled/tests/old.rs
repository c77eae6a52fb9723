//! Cards in old messages, and the same card again.

use super::*;

/// A message of an RC522 at this second since noon.
pub(super) fn at_second(uid: &str, second: i64) -> String {
    let noon = jiff::civil::date(2026, 11, 29).at(12, 0, 0, 0);
    let time = noon.saturating_add(jiff::SignedDuration::from_secs(second));
    format!("{{\"Time\":\"{time}\",\"RC522\":{{\"UID\":\"{uid}\"}}}}")
}

impl Rig {
    /// The second since noon that a right clock shows.
    pub(super) fn second(&self) -> i64 {
        i64::try_from(self.now.duration_since(self.noon).as_secs()).unwrap()
    }

    /// Presents a card to a reader whose clock is ahead by so many seconds. Returns whether it opens.
    pub(super) fn opens(&mut self, uid: &str, ahead_s: i64) -> bool {
        let message = at_second(uid, self.second() + ahead_s);
        let taken = self.sends(SENSOR, &message);
        let opens = self.cards() == presented(uid);
        assert_eq!(opens, !taken.old, "{message}");
        opens
    }
}

pub(super) fn old_card(uid: &str) -> Vec<Reading> {
    vec![Reading::OldCard { slot: 0, presented: Presented::Card(uid.parse().unwrap()) }]
}

#[tokio::test(start_paused = true)]
async fn a_card_in_an_old_message_is_passed_on_as_old_and_one_that_came_twice_is_not() {
    let mut rig = Rig::online("tasmota-rc522");
    rig.kept(SENSOR, &card("1EA68671", 0));
    assert_eq!(rig.readings(), old_card("1EA68671"));
    rig.after(20_000);
    rig.sends(SENSOR, &card("1EA68671", 20));
    rig.drain();
    rig.sends(SENSOR, &card("04A1B2C3", 15));
    assert_eq!(rig.readings(), old_card("04A1B2C3"));
    assert!(rig.sends(SENSOR, &card("1EA68671", 20)).old);
    assert_eq!(rig.readings(), []);
    rig.sends(LWT, "Offline");
    rig.drain();
    rig.sends(SENSOR, &card("1EA68671", 21));
    assert_eq!(rig.readings(), old_card("1EA68671"), "the device is not online");
    // A card that lies there is repeated, and was not presented now.
    let mut rig = Rig::new("esphome-tag");
    assert!(rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}").old);
    assert_eq!(rig.readings(), []);
}

#[tokio::test(start_paused = true)]
async fn a_card_that_comes_late_opens_nothing_also_where_nothing_newer_came_before() {
    for zone_s in [0, 3_600 * 8, -1_234_567] {
        for late_s in [8, 12, 25, 60, 3_300, 3_480, 3_600, 7_200, 86_400, 30 * 86_400] {
            let mut rig = Rig::online("tasmota-rc522");
            // The clock that is not the gateway's has been known for a while.
            rig.opens("04A1B2C3", zone_s);
            rig.after(10_000);
            assert!(rig.opens("04A1B2C3", zone_s), "{zone_s}");
            rig.after(60_000);
            rig.sends(SENSOR, &at_second("1EA68671", rig.second() + zone_s - late_s));
            assert_eq!(rig.readings(), old_card("1EA68671"), "{zone_s} {late_s}");
            // Nor does it keep the next one out.
            assert!(rig.opens("1EA68671", zone_s), "{zone_s} {late_s}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_that_a_slow_network_delivers_some_seconds_late_opens() {
    let mut rig = Rig::online("tasmota-rc522");
    for late_s in [0, 4, 1, 5, 0, 5] {
        rig.after(10_000);
        assert!(rig.opens("1EA68671", -late_s), "{late_s}");
    }
    rig.after(10_000);
    assert!(!rig.opens("1EA68671", -6));
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_kept_back_do_not_pass_for_a_clock_that_was_set_back() {
    // They come all at once, or in times that do not fit theirs; or a slow network delivers each as late as the one before.
    for (apart_s, pause_ms) in [(1, 0), (0, 0), (10, 0), (60, 3_000), (1, 5_000), (0, 3_000), (5, 5_000)] {
        for before_s in [1_000, 3_650] {
            let mut rig = Rig::online("tasmota-rc522");
            assert!(rig.opens("1EA68671", 0));
            rig.after(30_000);
            let first = rig.second() - before_s;
            for message in 0..12 {
                let uid = if message % 2 == 0 { "1EA68671" } else { "04A1B2C3" };
                let taken = rig.sends(SENSOR, &at_second(uid, first + apart_s * message));
                assert!(taken.old, "{apart_s} s, {pause_ms} ms, {before_s} s");
                assert_eq!(rig.cards(), []);
                rig.after(pause_ms);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_message_opens_if_the_clock_of_the_gateway_confirms_its_time_or_else_the_next_one() {
    // By NTP, in some zone.
    for zone_s in [0, 3_600 * 8, 20_700, -3_600 * 12] {
        let mut rig = Rig::online("tasmota-rc522");
        assert!(rig.opens("1EA68671", zone_s), "{zone_s}");
    }
    // Late, or without NTP: nobody knows.
    for ahead_s in [-8, -450, -86_400, 1_000_000] {
        let mut rig = Rig::online("tasmota-rc522");
        assert!(!rig.opens("1EA68671", ahead_s), "{ahead_s}");
        rig.after(3_000);
        assert!(!rig.opens("04A1B2C3", ahead_s), "{ahead_s}: too soon");
        rig.after(1_000);
        assert!(rig.opens("1EA68671", ahead_s), "{ahead_s}");
    }
    // Several that were kept back.
    let mut rig = Rig::online("tasmota-rc522");
    for late_s in [60, 50, 40, 30] {
        assert!(!rig.opens("1EA68671", -late_s), "{late_s}");
    }
    assert!(rig.opens("1EA68671", 0));
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
