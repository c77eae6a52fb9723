//! The engine: inputs in, ordered effects out, the time handed in. Same inputs, same effects, always.
//!
//! ```text
//! a card is presented   request  -> answer · audit                         (requests.rs)
//! a message arrives     changes  -> cuts · audit with proof · ack           (changes.rs)
//! a snapshot arrives    part     -> (slices) cuts · audit with proof · ack  (snapshots.rs)
//! a box or door reports report   -> cuts · audit · alarms                   (boxes.rs, reports.rs)
//! an operator orders    order    -> as a command · audit with who           (orders.rs)
//! a file is read again  reload   -> audit · cuts and modes by the new rules (reload.rs)
//! a center commands     command  -> off · audit · reply                     (commands.rs)
//! its id is on disk     durable  -> release or on · reply                   (waiting.rs)
//! time passes           wake     -> delayed cuts · resync asks · time edges (boxes.rs, resync.rs)
//! ```
//! The order of effects is part of the contract: what drives a portal comes first, then the records, then the answers that
//! wait for them.

mod alarms;
mod boot;
mod boxes;
mod changes;
mod commands;
mod deadlines;
mod doors;
mod edges;
mod gaps;
mod lossy;
mod malformed;
mod meters;
mod modes;
mod observed;
mod orders;
mod rejections;
mod reload;
mod reports;
mod requests;
mod resync;
mod revocations;
mod snapshots;
mod status;
mod time;
mod together;
mod trips;
mod turns;
mod waiting;
mod whereabouts;
mod why;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::calendar::Calendar;
use super::change::{RegisterKind, RegisterKinds};
use super::credential::Role;
use super::decide::{Facts, ListIntegrity};
use super::effect::{Effect, PortalOrder};
use super::event::{AuditEvent, Event, Flush, Record, Who};
use super::id::{CardUid, Holder, Mono, Now, PortalId, StreamName, Timestamp};
use super::input::{ClockChange, Input, TrustedBy};
use super::policy::{AfterStale, Policy};
use super::portal::{Portal, PortalKind, Posture};
use super::power_box::PowerBox;
use super::state::State;
use super::transform::Transform;

use alarms::Alarms;
pub use alarms::{ALARM_CARDS_MAX, ALARM_QUIET_MS, OPEN_LISTED_MAX, STORE_WRITES};
use deadlines::{Deadlines, Due};
use doors::Doors;
pub use edges::EDGE_CHECK_MS;
use malformed::MalformedPortals;
pub use malformed::{MALFORMED_MAX, MALFORMED_SHOWN_MS, MALFORMED_WINDOW_MS};
use meters::Meters;
pub use meters::{METER_ENERGY_KWH_MAX, METER_POWER_W_MAX, METER_STALE_MS, SHARED_METER_POWER_W_MAX};
pub use observed::GRANTS_REMEMBERED_MAX;
use observed::Observations;
use rejections::Rejections;
pub use rejections::{REJECTIONS_RECORDED_MAX, REJECTIONS_WINDOW_MS};
pub use reports::LINK_LOST_MS;
use requests::Answers;
use resync::ResyncPlan;
use revocations::Watches;
pub use revocations::{OFF_AGAIN_MS_MAX, OFF_AGAIN_MS_MIN, REVOCATIONS_LISTED_MAX, UNCONFIRMED_LISTED_MAX};
use snapshots::Snapshots;
pub use status::{MeterStatus, OpenAlarm, Status, StreamStatus, UnconfirmedStatus};
use time::TrustedTime;
use together::Together;
use trips::Loads;
pub use trips::STEP_WINDOW_MS;
pub use waiting::COMMAND_WAIT_MS;
use waiting::WaitingCommands;

/// What the engine is built with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The portals of the building.
    pub portals: Vec<Portal>,
    /// The portals whose reader loses part of the UID, and what it does to it.
    pub lossy: Vec<(PortalId, Transform)>,
    /// The site's choices.
    pub policy: Policy,
    /// The schedules of the configuration, and the time zone.
    pub calendar: Calendar,
    /// The configured streams, each with the ops it owns.
    pub streams: Vec<StreamRole>,
    /// Which run this is; in every audit event.
    pub boot: String,
}

/// One configured stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRole {
    /// Its name.
    pub name: StreamName,
    /// The registers that it numbers.
    pub owns: RegisterKinds,
}

/// See the module's head.
#[derive(Debug)]
pub struct Engine {
    portals: Vec<Portal>,
    places: HashMap<PortalId, usize, RandomState>,
    lossy: BTreeMap<PortalId, Transform>,
    policy: Policy,
    calendar: Calendar,
    streams: Vec<StreamRole>,
    boot: Arc<str>,
    state: State,
    boxes: BTreeMap<PortalId, PowerBox>,
    online: BTreeMap<PortalId, bool>,
    /// Portals that are offline and reported why.
    down: BTreeSet<PortalId>,
    /// Why each portal that is offline is so, where that was reported.
    causes: BTreeMap<PortalId, String>,
    /// Portals whose output does not answer, whatever their other devices do.
    outputs_offline: BTreeSet<PortalId>,
    /// Offline portals whose door contact answers all the same.
    contacts_answer: BTreeSet<PortalId>,
    /// Portals whose link is lost, and why.
    unlinked: Option<(BTreeSet<PortalId>, String)>,
    modes: BTreeMap<PortalId, Posture>,
    /// When the next box may be switched on without being asked.
    again_from: Mono,
    /// Portals that were ordered a mode or off, and have not reported `online` since.
    missed_orders: BTreeSet<PortalId>,
    doors: Doors,
    meters: Meters,
    loads: Loads,
    tampered: BTreeSet<PortalId>,
    /// The portals whose fire input is active, whether or not it counts.
    fire_shown: BTreeSet<PortalId>,
    malformed: MalformedPortals,
    answers: Answers,
    alarms: Alarms,
    observations: Observations,
    together: Together,
    rejections: Rejections,
    resync: ResyncPlan,
    snapshots: Snapshots,
    /// The boxes that have to confirm a revocation.
    watches: Watches,
    waiting_commands: WaitingCommands,
    /// The last record that an acknowledgement may have to wait for.
    last_flushed_now: u64,
    time: TrustedTime,
    /// The next instant at which a window or posture ends, so that standing grants are judged again.
    next_edge: Option<Timestamp>,
    deadlines: Deadlines,
    out: Vec<Effect>,
}

impl Engine {
    /// An engine that goes on where `state` ended.
    #[must_use]
    pub fn new(setup: Setup, mut state: State) -> Self {
        state.list.index_readings(setup.lossy.iter().map(|(_, transform)| *transform));
        let places = setup.portals.iter().enumerate().map(|(place, p)| (p.id.clone(), place)).collect();
        let seed = setup.boot.bytes().fold(1, |seed: u64, b| seed.wrapping_mul(31).wrapping_add(u64::from(b)));
        let boxes = setup.portals.iter().filter(|p| p.kind == PortalKind::PowerBox);
        let boxes = boxes.map(|p| {
            let on = state.boxes.get(&p.id);
            (p.id.clone(), on.map_or_else(PowerBox::default, |by| PowerBox::remembered(*by)))
        });
        let boxes = boxes.collect();
        let mut calendar = setup.calendar;
        calendar.follow(&state.list.site.schedules);
        let observations = Observations::new(&setup.portals, &setup.policy, state.last_n);
        Self {
            places,
            boxes,
            portals: setup.portals,
            lossy: setup.lossy.into_iter().collect(),
            policy: setup.policy,
            calendar,
            streams: setup.streams,
            boot: setup.boot.into(),
            online: BTreeMap::new(),
            down: BTreeSet::new(),
            causes: BTreeMap::new(),
            outputs_offline: BTreeSet::new(),
            contacts_answer: BTreeSet::new(),
            unlinked: None,
            again_from: Mono(0),
            modes: BTreeMap::new(),
            missed_orders: BTreeSet::new(),
            doors: Doors::new(),
            meters: Meters::new(),
            loads: Loads::default(),
            tampered: BTreeSet::new(),
            fire_shown: BTreeSet::new(),
            malformed: MalformedPortals::new(),
            answers: Answers::default(),
            alarms: Alarms::default(),
            observations,
            together: Together::default(),
            rejections: Rejections::default(),
            resync: ResyncPlan::new(seed),
            snapshots: Snapshots::default(),
            watches: Watches::new(),
            waiting_commands: WaitingCommands::new(),
            last_flushed_now: state.last_n,
            time: TrustedTime::after(state.trusted_at),
            next_edge: None,
            deadlines: Deadlines::default(),
            out: Vec::new(),
            state,
        }
    }

    /// Handles one input and returns what to do, in order.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        self.time.read(now, input.made_by_center().map(|(_, iat)| iat));
        self.pass_edges(now);
        self.forgive_daily(now);
        match input {
            Input::Boot { found, version, gateway } => self.boot((&found, &version), gateway, now),
            Input::Changes(received) => self.changes(received, now),
            Input::SnapshotPart(received) => self.snapshot_part(received, now),
            Input::Rejected(rejected) => self.rejected(rejected, now),
            Input::Head(head) => self.head(head, now),
            Input::Command(command) => self.command(&command, now),
            Input::Request(request) => self.request(&request, now),
            Input::Report { portal, report } => self.report(&portal, &report, now),
            Input::PortalLink { portals, lost } => self.portal_link(portals, lost, now),
            Input::Operator(command, actor) => self.ordered(&command, actor.as_ref(), now),
            Input::LinkUp { spread_ms, ask_every_stream } => self.link_up(spread_ms, ask_every_stream, now),
            Input::Digest { stream, at, sha256 } => self.digest(&stream, at, sha256, now),
            Input::Lost { from, to } => self.lost(from, to, now),
            Input::AuditLost { from, to } => self.audit_lost(from, to, now),
            Input::Removing { ranges } => self.removing(&ranges, now),
            Input::Durable { through } => self.durable(through, now),
            Input::Alarm { kind, portal, detail } => self.alarm(kind, portal.as_ref(), None, detail, now),
            Input::Released { portal, failed } => self.release_ended(&portal, failed, now),
            Input::StoreWorks => self.store_works(now),
            Input::ClockSynchronised => self.clock_synchronised(now),
            Input::Clock(change) => self.clock_changed(&change, now),
            Input::Reload { rules, detail } => self.reload(*rules, detail, now),
            Input::Wake => {}
        }
        // Each at most once an input: a deadline that is set again for this very instant must not keep others from being answered.
        for _ in 0..self.deadlines.len() {
            let Some(due) = self.deadlines.take_due(now.mono) else { break };
            match due {
                Due::Turn => self.turn_due(now),
                Due::Box(portal) => self.at_box(&portal, now, PowerBox::time_passed),
                Due::Door(portal) => self.door_due(&portal, now),
                Due::Meter(portal) => self.meter_due(&portal, now),
                Due::Trip(portal) => self.trip_due(&portal, now),
                Due::Revocation(portal) => self.revocation_due(&portal, now),
                Due::Edge => self.judge_standing(now),
                Due::Rejections(kind) => self.rejections_due(kind, now),
                Due::Snapshots => self.snapshots_due(now),
                Due::Resync => {}
                Due::Commands => self.commands_due(now),
                Due::Alarms => self.alarms_due(now),
                Due::Link => self.link_due(now),
            }
        }
        self.trust_quiet_streams(now);
        self.end_whole_lists(now);
        self.ask_resync(now);
        self.deadlines.set(Due::Resync, self.resync.next());
        std::mem::take(&mut self.out)
    }

    /// When the engine next wants an [`Input::Wake`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.next()
    }

    /// What kind of portal this is, if it is one of ours.
    #[must_use]
    pub fn kind_of(&self, portal: &str) -> Option<PortalKind> {
        self.portal(portal).map(|p| p.kind)
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The schedules in force.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// What survives a restart: for tests and for comparing a replay with it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The power boxes.
    #[must_use]
    pub fn boxes(&self) -> &BTreeMap<PortalId, PowerBox> {
        &self.boxes
    }

    fn portal(&self, id: &str) -> Option<&Portal> {
        self.portals.get(*self.places.get(id)?)
    }

    /// What a card is judged by at `portal`; `None`: at none of this gateway's.
    fn facts(&self, portal: Option<&Portal>, now: Now) -> Facts<'_> {
        Facts {
            list: &self.state.list,
            integrity: self.integrity(),
            calendar: &self.calendar,
            policy: &self.policy,
            posture: portal.map_or(Posture::Secure, |portal| self.posture(portal, now)),
            trip: portal.and_then(|portal| self.trip_of(portal, now)),
            stale_list: self.is_unconfirmed_for(self.policy.stale_after_s, now),
            outdated_list: self.policy.after_stale != AfterStale::Continue
                && self.is_unconfirmed_for(self.policy.after_stale_s, now),
            now,
        }
    }

    fn integrity(&self) -> ListIntegrity {
        let track = |role: &StreamRole| self.state.streams.get(&role.name);
        if self.damaged_streams().next().is_some() {
            ListIntegrity::Damaged
        } else if self
            .streams
            .iter()
            .filter(|r| r.owns.contains(&RegisterKind::Standing))
            .filter_map(track)
            .any(|t| t.goal.is_some())
        {
            ListIntegrity::Bootstrapping
        } else {
            ListIntegrity::Complete
        }
    }

    /// The configured streams of which the store lost something, until they are sent again.
    fn damaged_streams(&self) -> impl Iterator<Item = &StreamName> {
        let is_damaged = |role: &&StreamRole| self.state.streams.get(&role.name).is_some_and(|track| track.damaged);
        self.streams.iter().filter(is_damaged).map(|role| &role.name)
    }

    /// Whether a list is as old as this many seconds, or older.
    fn is_unconfirmed_for(&self, limit_s: u32, now: Now) -> bool {
        let limit_ms = u64::from(limit_s).saturating_mul(1000);
        // Of a list that never came, the age counts from the start of the gateway, which is where its monotonic time begins.
        self.streams.iter().any(|role| self.age_ms(&role.name, now).unwrap_or(now.mono.0) >= limit_ms)
    }

    fn holder_of(&self, uid: Option<&CardUid>) -> Option<Holder> {
        self.state.list.card(uid?)?.holder().cloned()
    }

    /// As whom a card is enrolled.
    fn role_of(&self, uid: &CardUid) -> Role {
        self.state.list.card(uid).and_then(|card| card.enrolment()).map_or(Role::Resident, |e| e.role())
    }

    fn order(&mut self, order: PortalOrder) {
        self.out.push(Effect::Order(order));
    }

    fn who(&self, uid: Option<super::id::CardUid>) -> Who {
        Who { uid, holder: self.holder_of(uid.as_ref()) }
    }

    /// Records one event and gives its number.
    fn record(&mut self, event: Event, flush: Flush, now: Now) -> u64 {
        self.record_with(event, Vec::new(), flush, now)
    }

    fn record_with(&mut self, event: Event, evidence: Vec<u8>, flush: Flush, now: Now) -> u64 {
        let n = self.state.last_n + 1;
        let event = AuditEvent::new(n, Arc::clone(&self.boot), now, event);
        self.state.record(&event);
        if flush == Flush::Now {
            self.last_flushed_now = n;
        }
        self.out.push(Effect::Record(Box::new(Record { event, evidence, flush })));
        n
    }

    fn clock_changed(&mut self, change: &ClockChange, now: Now) {
        let (by_ms, restored, detail) = match change {
            ClockChange::Step { by_ms } => (*by_ms, false, format!("the wall clock was set by {by_ms} ms")),
            ClockChange::Trusted(TrustedBy::CaughtUp) => {
                (0, false, "the wall clock is trusted again: it has caught up".into())
            }
            ClockChange::Trusted(TrustedBy::Center(stream)) => {
                let detail = format!("the wall clock is trusted again: it agrees with the messages of `{stream}`");
                (0, true, detail)
            }
            ClockChange::Trusted(TrustedBy::Operator) => {
                (0, true, "the wall clock is trusted: an operator declared it right".into())
            }
            ClockChange::Untrusted => (0, false, "the wall clock cannot be trusted any more".into()),
        };
        self.record(Event::ClockStep { by_ms, restored, detail }, Flush::Soon, now);
        match change {
            ClockChange::Untrusted => self.clock_untrusted(now),
            ClockChange::Trusted(_) => self.clock_trusted(now),
            ClockChange::Step { .. } => {}
        }
        self.judge_all_boxes(now);
        self.send_modes(now);
        self.out.push(Effect::StateChanged);
    }
}
