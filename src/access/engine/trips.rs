//! Power boxes that trip: their meter measures too much load, or a load that the rules forbid, or their alarm input reports it.
//!
//! A box that tripped is off at once and rests. It is on again at the end of the rest if its card is still in it and may; after
//! `policy.trip_retries` trips in 24 h it stays off until `resume_power` of a center or the command `power` on.

use std::collections::{BTreeMap, BTreeSet};

use super::super::change::{Changes, Op, SuspendReason};
use super::super::event::{AlarmKind, Event, Flush};
use super::super::id::{ClockTrust, Mono, Now, PortalId};
use super::super::input::PortalReport;
use super::super::portal::{Portal, PortalKind};
use super::super::power_box::PowerBox;
use super::super::trip::{Hold, TRIPS_WINDOW_MS, Trip};
use super::{Due, Engine};

/// Two reports of power at most so far apart are compared for a step, in milliseconds. A Modbus portal repeats its own every 10 s.
pub const STEP_WINDOW_MS: u64 = 12_000;
/// How much earlier than a trip a center's clock may show the time of the `resume_power` that ends it, in milliseconds.
const RESUME_SKEW_MS: i64 = 30_000;

/// What is observed of the load of one box.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// What its meter measured last, in watts, and when that was reported.
    last: Option<(f64, Mono)>,
    /// Since when it measures more than `overload_w`.
    over_since: Option<Mono>,
}

/// What is observed of the loads of all boxes. Of this run.
#[derive(Debug, Default)]
pub(super) struct Loads {
    measured: BTreeMap<PortalId, Load>,
    /// The alarm inputs that are active.
    inputs: BTreeSet<(PortalId, SuspendReason)>,
}

impl Engine {
    /// The trip for which a box is off now; `None`: it may be on.
    pub(super) fn trip_of(&self, portal: &Portal, now: Now) -> Option<Trip> {
        if portal.kind != PortalKind::PowerBox {
            return None;
        }
        self.input_trip(&portal.id).or_else(|| {
            let last = self.state.trips.get(&portal.id)?.last()?;
            let rest_ms = self.policy.trip_rest_ms.saturating_sub(last.age_ms(self.observations.boot_n(), now));
            let holds = if last.stays_off { Hold::StaysOff } else { Hold::Rest(rest_ms) };
            (holds != Hold::Rest(0)).then_some(Trip { reason: last.reason, holds })
        })
    }

    /// The trip of a box whose alarm input is active.
    pub(super) fn input_trip(&self, portal: &PortalId) -> Option<Trip> {
        if self.loads.inputs.is_empty() {
            return None;
        }
        let (_, reason) = self.loads.inputs.iter().find(|(id, _)| id == portal)?;
        Some(Trip { reason: *reason, holds: Hold::Input })
    }

    /// A box reports its alarm inputs.
    pub(super) fn trip_inputs_reported(&mut self, portal: &PortalId, report: &PortalReport, now: Now) {
        let inputs = [
            (report.overload, SuspendReason::Overload, "overload"),
            (report.restricted_load, SuspendReason::RestrictedLoad, "restricted_load"),
        ];
        for (active, reason, field) in inputs {
            let Some(active) = active else { continue };
            let key = (portal.clone(), reason);
            let changed = if active { self.loads.inputs.insert(key) } else { self.loads.inputs.remove(&key) };
            match (changed, active) {
                (true, true) => self.trip(portal, reason, &format!("its input `{field}` is active"), now),
                (true, false) => self.trip_due(portal, now),
                (false, _) => {}
            }
        }
    }

    /// The meter of a box measures this; `None`: the value is not known.
    pub(super) fn load_reported(&mut self, portal: &PortalId, power_w: Option<f64>, now: Now) {
        let Some(p) = self.portal(portal.as_str()) else { return };
        let (overload_w, step_w) = (p.overload_w.map(f64::from), p.restricted_step_w.map(f64::from));
        if overload_w.is_none() && step_w.is_none() {
            return;
        }
        let allowed = p.allowed_steps_w.iter().map(|step| f64::from(*step.start())..=f64::from(*step.end()));
        let allowed_steps_w: Vec<_> = allowed.collect();
        let switched_on = self.boxes.get(portal).filter(|b| b.source().is_some()).map(PowerBox::switched_on_at);
        let load = self.loads.measured.entry(portal.clone()).or_default();
        let before = std::mem::replace(&mut load.last, power_w.map(|watts| (watts.abs(), now.mono))).filter(near(now));
        let (Some((watts, _)), Some(switched_on)) = (load.last, switched_on) else {
            load.over_since = None;
            return self.set_trip_deadline(portal, now);
        };
        let is_over = overload_w.is_some_and(|limit| watts > limit);
        load.over_since = is_over.then(|| load.over_since.unwrap_or(now.mono));
        // What was plugged in while the box was off draws from the moment it is switched on.
        let before = before.or(switched_on.map(|at| (0.0, at)).filter(near(now)));
        let rise = before.map(|(before, _)| watts - before);
        let rise = rise.filter(|rise| !allowed_steps_w.iter().any(|step| step.contains(rise)));
        if let Some((rise, step_w)) = rise.zip(step_w).filter(|(rise, step_w)| rise > step_w) {
            let why = format!("its power rose by {rise:.0} W at once, more than `restricted_step_w` = {step_w:.0}");
            return self.trip(portal, SuspendReason::RestrictedLoad, &why, now);
        }
        self.trip_due(portal, now);
    }

    /// The device is gone: nothing is known of its load and inputs.
    pub(super) fn load_lost(&mut self, portal: &PortalId, now: Now) {
        self.loads.measured.remove(portal);
        self.loads.inputs.retain(|(id, _)| id != portal);
        self.set_trip_deadline(portal, now);
    }

    /// An overload has lasted, or a rest is over.
    pub(super) fn trip_due(&mut self, portal: &PortalId, now: Now) {
        let Some(p) = self.portal(portal.as_str()) else { return };
        let (overload_ms, limit) = (u64::from(p.overload_ms), p.overload_w.unwrap_or(0));
        let load = self.loads.measured.get(portal).copied().unwrap_or_default();
        let lasts = load.over_since.filter(|since| now.mono.since_ms(*since) >= overload_ms);
        if let (Some(_), Some((watts, _))) = (lasts, load.last) {
            let for_s = overload_ms / 1000;
            let why = format!("its meter measures {watts:.0} W, more than `overload_w` = {limit} for {for_s} s");
            return self.trip(portal, SuspendReason::Overload, &why, now);
        }
        if self.boxes.get(portal).is_some_and(PowerBox::awaits_room) {
            self.at_box(portal, now, PowerBox::judge);
        }
        if self.portal(portal.as_str()).is_some_and(|p| self.trip_of(p, now).is_none()) {
            self.alarm_over(AlarmKind::PowerTrip, portal, "the box may be on again", now);
        }
        self.set_trip_deadline(portal, now);
    }

    /// Switches a box off for its load. One that is not on has not tripped: it only stays off as long as its input is active.
    fn trip(&mut self, portal: &PortalId, reason: SuspendReason, why: &str, now: Now) {
        if let Some(load) = self.loads.measured.get_mut(portal) {
            load.over_since = None;
        }
        let Some(source) = self.boxes.get(portal).and_then(PowerBox::source) else {
            self.at_box(portal, now, PowerBox::judge);
            return self.set_trip_deadline(portal, now);
        };
        let notes = self.order_box(portal, now, PowerBox::trip);
        let boot_n = self.observations.boot_n();
        let before = self.state.trips.get(portal).into_iter().flatten();
        let count = 1 + before.filter(|trip| trip.age_ms(boot_n, now) < TRIPS_WINDOW_MS).count();
        let most = self.policy.trip_retries as usize;
        let stays_off = count >= most;
        let next = if stays_off {
            "it stays off until `resume_power` or the command `power` on".to_owned()
        } else {
            let rest_s = self.policy.trip_rest_ms / 1000;
            format!("it is switched on again in {rest_s} s if its card is still there")
        };
        let detail = format!("{why}; trip {count} of {most} in 24 h: {next}");
        let (id, who) = (portal.clone(), self.who(source.card()));
        let event = Event::PowerTrip { portal: id, who, reason, stays_off, ended: false, detail: detail.clone() };
        self.record(event, Flush::Now, now);
        self.record_boxes(&notes, now);
        self.tripped_alarm(portal, stays_off, detail, now);
        self.set_trip_deadline(portal, now);
    }

    /// The trips of a box do not count any more.
    pub(super) fn end_trips(&mut self, portal: &PortalId, detail: &str, now: Now) {
        let Some(last) = self.state.trips.get(portal).and_then(|trips| trips.last()) else { return };
        let (reason, id, detail) = (last.reason, portal.clone(), detail.to_owned());
        let event = Event::PowerTrip { portal: id, who: self.who(None), reason, stays_off: false, ended: true, detail };
        self.record(event, Flush::Now, now);
        self.alarm_over(AlarmKind::PowerTrip, portal, "the box may be on again", now);
        self.set_trip_deadline(portal, now);
    }

    /// A message of a center resumes power in rooms whose boxes tripped. One that was made before the trip does not.
    pub(super) fn resume_tripped(&mut self, changes: &Changes, now: Now) {
        if self.state.trips.is_empty() {
            return;
        }
        for op in changes.content.iter().flatten() {
            let Op::Power { zone, reason, suspended: false } = op else { continue };
            let in_zone = self.portals.iter().filter(|p| p.zone == *zone);
            let tripped = in_zone.filter(|p| {
                let last = self.state.trips.get(&p.id).and_then(|trips| trips.last());
                last.is_some_and(|trip| {
                    let comparable = trip.moment.clock == ClockTrust::Trusted && now.clock == ClockTrust::Trusted;
                    let is_older =
                        changes.iat.is_some_and(|iat| iat.0.saturating_add(RESUME_SKEW_MS) < trip.moment.at.0);
                    trip.reason == *reason && !(comparable && is_older)
                })
            });
            let tripped: Vec<_> = tripped.map(|p| p.id.clone()).collect();
            for portal in tripped {
                let detail = format!("`resume_power` for {} of {}", reason.as_str(), changes.stream);
                self.end_trips(&portal, &detail, now);
                self.at_box(&portal, now, PowerBox::judge);
            }
        }
    }

    /// After a start: the rests that are not over yet.
    pub(super) fn rest_at_start(&mut self, now: Now) {
        let portals: Vec<_> = self.state.trips.keys().cloned().collect();
        portals.iter().for_each(|portal| self.set_trip_deadline(portal, now));
    }

    fn set_trip_deadline(&mut self, portal: &PortalId, now: Now) {
        let Some(p) = self.portal(portal.as_str()) else { return };
        let over_since = self.loads.measured.get(portal).and_then(|load| load.over_since);
        let over_at = over_since.map(|since| since.plus_ms(u64::from(p.overload_ms)));
        let rest_end = match self.trip_of(p, now).map(|trip| trip.holds) {
            Some(Hold::Rest(ms)) => Some(now.mono.plus_ms(ms)),
            Some(Hold::StaysOff | Hold::Input) | None => None,
        };
        let due = [over_at, rest_end].into_iter().flatten().min();
        self.deadlines.set(Due::Trip(portal.clone()), due);
    }
}

/// Whether a value was reported recently enough to be compared with one of now.
fn near(now: Now) -> impl Fn(&(f64, Mono)) -> bool {
    move |(_, at)| now.mono.since_ms(*at) <= STEP_WINDOW_MS
}
