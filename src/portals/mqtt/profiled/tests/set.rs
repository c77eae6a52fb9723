//! Clocks of devices: set, put to and from summer time, started without a network, slow and fast.

use super::old::at_second;
use super::*;

/// So much a clock is ahead that runs without a time server since 1970.
const SINCE_1970: i64 = -1_795_953_600;

/// A reader whose clock, ahead by so many seconds, is known.
fn known(ahead_s: i64) -> Rig {
    let mut rig = Rig::online("tasmota-rc522");
    rig.opens("1EA68671", ahead_s);
    rig.after(10_000);
    assert!(rig.opens("1EA68671", ahead_s));
    rig.after(10_000);
    rig
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_the_gateways_confirms_is_taken_at_once_when_it_goes_forward_and_after_one_reading_when_back() {
    // Summer time, an operator's time zone, and a time server at last, from a wrong time to a right one.
    for (from_s, to_s) in [(3_600, 7_200), (0, 28_800), (SINCE_1970, 0), (-40, 0), (-40, 3_600)] {
        let mut rig = known(from_s);
        assert!(rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
        // What was sent before is old.
        assert!(!rig.opens("1EA68671", from_s), "{from_s} {to_s}");
        rig.after(3_000);
        assert!(rig.opens("1EA68671", to_s), "{from_s} {to_s}");
    }
    for (from_s, to_s) in [(7_200, 3_600), (3_600, 0), (28_800, 0), (40, 0), (10_000_000, 0)] {
        let mut rig = known(from_s);
        assert!(!rig.opens("04A1B2C3", to_s), "{from_s} {to_s}: it may be late");
        rig.after(4_000);
        assert!(rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
        rig.after(3_000);
        assert!(rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_nothing_confirms_is_taken_after_a_while() {
    let forward = [(0, 40), (SINCE_1970, SINCE_1970 + 5_000)].map(|(from_s, to_s)| (from_s, to_s, 4));
    let back = [(0, -40), (0, SINCE_1970), (SINCE_1970, SINCE_1970 - 3_600)].map(|(from_s, to_s)| (from_s, to_s, 60));
    for (from_s, to_s, wait_s) in forward.into_iter().chain(back) {
        let mut rig = known(from_s);
        for _ in 0..wait_s / 4 {
            assert!(!rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
            rig.after(4_000);
        }
        assert!(rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
        rig.after(3_000);
        assert!(rig.opens("04A1B2C3", to_s), "{from_s} {to_s}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_card_is_no_step_to_a_clock_that_was_set_if_a_right_one_comes_between() {
    let mut rig = known(0);
    for _ in 0..20 {
        assert!(!rig.opens("1EA68671", -40));
        rig.after(4_000);
        assert!(rig.opens("04A1B2C3", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_connects_again_begins_its_time_again_and_one_that_had_no_start_keeps_it() {
    for how in [LWT, "the broker"] {
        let connects = |rig: &mut Rig| {
            if how == LWT {
                // Its last will did not come.
                rig.sends(LWT, "Online");
            } else {
                rig.device.cut_off("the connection broke");
                rig.device.connected();
                rig.kept(LWT, "Online");
            }
            rig.after(3_000);
        };
        // Without a time server, and not started: its clock goes on.
        let mut rig = known(SINCE_1970);
        connects(&mut rig);
        assert!(rig.opens("1EA68671", SINCE_1970), "{how}");
        // It has started, and shows 1970 again until the time server answers.
        let mut rig = known(0);
        connects(&mut rig);
        let started = SINCE_1970 - rig.second();
        assert!(!rig.opens("1EA68671", started), "{how}");
        rig.after(1_000);
        assert!(rig.opens("1EA68671", 0), "{how}");
        // No time server answers.
        let mut rig = known(0);
        connects(&mut rig);
        assert!(!rig.opens("1EA68671", started), "{how}");
        rig.after(4_000);
        assert!(rig.opens("1EA68671", started), "{how}");
    }
    // A retained copy is no start.
    let mut rig = known(0);
    rig.kept(LWT, "Online");
    rig.after(3_000);
    let message = at_second("1EA68671", SINCE_1970);
    assert!(rig.sends(SENSOR, &message).old);
    rig.after(5_000);
    let message = at_second("1EA68671", SINCE_1970 + 5);
    assert!(rig.sends(SENSOR, &message).old);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_runs_slow_or_fast_keeps_nobody_out_and_lets_nothing_late_in() {
    for ppm in [-50_i64, 50] {
        let mut rig = Rig::online("tasmota-rc522");
        rig.opens("1EA68671", SINCE_1970);
        // Nobody comes at night.
        for hours in [1, 9, 1, 2, 3, 9, 8, 9, 3, 9, 1, 9, 9, 9, 9, 9] {
            rig.now += Duration::from_secs(hours * 3_600);
            rig.after(500);
            let off_s = rig.second() * ppm / 1_000_000;
            assert!(rig.opens("1EA68671", SINCE_1970 + off_s), "{ppm} ppm, after {} s", rig.second());
            rig.after(1_000);
            let off_s = rig.second() * ppm / 1_000_000;
            assert!(!rig.opens("1EA68671", SINCE_1970 + off_s - 12), "{ppm} ppm, after {} s", rig.second());
        }
        // Nor for some days: then one reading is lost at most.
        rig.now += Duration::from_secs(10 * 86_400);
        rig.after(500);
        let off_s = rig.second() * ppm / 1_000_000;
        rig.opens("1EA68671", SINCE_1970 + off_s);
        rig.after(4_000);
        assert!(rig.opens("1EA68671", SINCE_1970 + off_s), "{ppm} ppm");
    }
}

/// It sends whole seconds, so that after the step some messages look just late enough and others do not.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_by_hardly_more_than_a_message_may_be_late_costs_one_reading() {
    for (between_ms, refused) in [([4_200, 4_800], 1), ([60_200, 59_800], 1), ([1_200, 1_800], 2)] {
        let mut rig = Rig::online("tasmota-rc522");
        let mut is_first = false;
        let mut opens = |rig: &mut Rig, ahead_ms: i64| {
            let elapsed = i64::try_from(rig.now.duration_since(rig.noon).as_millis()).unwrap();
            is_first = !is_first;
            let uid = if is_first { "1EA68671" } else { "04A1B2C3" };
            rig.sends(SENSOR, &at_second(uid, (elapsed + ahead_ms).div_euclid(1_000)));
            rig.cards() == presented(uid)
        };
        // Until the time server answers it is 4.3 s ahead.
        for wait_ms in [700, 10_000] {
            rig.after_quietly(wait_ms);
            assert!(opens(&mut rig, 4_300), "{between_ms:?}");
        }
        rig.after_quietly(10_200);
        let mut lost = u32::from(!opens(&mut rig, 0));
        for _ in 0..20 {
            for wait_ms in between_ms {
                rig.after_quietly(wait_ms);
                lost += u32::from(!opens(&mut rig, 0));
            }
        }
        assert_eq!(lost, refused, "{between_ms:?}");
    }
}
