//! Loads of a power box: which of them trip it, and what is known of them after it was away.

use dormgate::access::change::SuspendReason;
use dormgate::access::id::ClockTrust;
use dormgate::access::input::PortalReport;
use dormgate::access::policy::Policy;
use dormgate::access::portal::Portal;

use crate::power::{BOX, draws, input, metered, overloads, trip};
use crate::world::{World, portals};

#[test]
fn a_load_of_just_the_limit_trips_nothing() {
    let mut w = metered();
    for power_w in [500.0, 950.0, 1_000.0] {
        draws(&mut w, power_w);
    }
    assert_eq!(w.pass_s(60).cuts(), []);
}

#[test]
fn an_input_of_a_box_that_went_offline_is_not_known_to_be_active_any_more() {
    let mut w = World::new();
    w.resident("A", "p1");
    input(&mut w, Some(true), None);
    assert_eq!(w.present(BOX, "A"), "power_suspended");
    w.leave(BOX);
    for online in [false, true] {
        w.report(BOX, PortalReport { online: Some(online), ..PortalReport::default() });
    }
    assert_eq!(w.present(BOX, "A"), "granted", "it would report the input again");
}

#[test]
fn a_reading_of_before_a_box_went_offline_is_compared_with_none_of_after_it() {
    let mut w = metered();
    w.pass_s(60);
    draws(&mut w, 40.0);
    for online in [false, true] {
        w.report(BOX, PortalReport { online: Some(online), ..PortalReport::default() });
    }
    w.sits(BOX, "A", Some(true));
    assert_eq!(draws(&mut w, 900.0).cuts(), []);
    assert!(w.is_on(BOX));
}

#[test]
fn a_rest_after_a_trip_is_not_shortened_by_a_wall_clock_that_is_not_trusted() {
    let mut w = metered();
    overloads(&mut w);
    (w.clock, w.wall_off_ms) = (ClockTrust::Untrusted, 86_400_000);
    w.restart();
    assert_eq!(w.present(BOX, "A"), "power_suspended");
}

#[test]
fn a_step_within_an_allowed_range_is_an_appliance_and_trips_nothing() {
    let with_dispenser = |p: Portal| Portal {
        restricted_step_w: Some(600),
        allowed_steps_w: vec![1_100..=1_300, 2_000..=2_000],
        overload_w: Some(3_000),
        overload_ms: 5_000,
        ..p
    };
    for (what, rise, trips) in [
        ("below the range", 1_099.0, true),
        ("its start", 1_100.0, false),
        ("a water dispenser", 1_200.0, false),
        ("its end", 1_300.0, false),
        ("above it", 1_301.0, true),
        ("a range of one value", 2_000.0, false),
        ("no step", 600.0, false),
    ] {
        let portals = portals().into_iter().map(with_dispenser).collect();
        let mut w = World::of(Policy::default(), portals, Vec::new());
        w.resident("A", "p1");
        w.present(BOX, "A");
        draws(&mut w, 40.0);
        let seen = draws(&mut w, 40.0 + rise);
        assert_eq!(!seen.cuts().is_empty(), trips, "{what}");
        if trips {
            assert_eq!(trip(&seen), (SuspendReason::RestrictedLoad, false, false), "{what}");
            continue;
        }
        // What its meter or device reports itself counts all the same, and so does what all appliances draw together.
        assert_eq!(draws(&mut w, 3_001.0 + rise).cuts().len(), 1, "{what}: the next step is another appliance");
    }
    let mut w = World::of(Policy::default(), portals().into_iter().map(with_dispenser).collect(), Vec::new());
    w.resident("A", "p1");
    w.present(BOX, "A");
    draws(&mut w, 1_200.0);
    draws(&mut w, 2_400.0);
    draws(&mut w, 3_600.0);
    assert_eq!(w.pass_s(5).cuts(), [(BOX, "power_suspended")], "an overload");
}
