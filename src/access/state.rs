//! What survives a restart. State is the fold of audit events: live and in replay it changes in this file only.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Changes, Position, RegisterKind, RegisterKinds};
use super::event::{AuditEvent, Event, GapCause, Mark, PostureSource, StreamRevision};
use super::id::{ClockTrust, GatewayId, Now, PortalId, StreamName, Timestamp};
use super::list::{AccessList, Applied};
use super::moment::Moment;
use super::policy::Policy;
use super::portal::Posture;
use super::power_box::PowerSource;
use super::presence::Presence;
use super::revocation::{Confirmed, Revocation, Revocations};
use super::snapshot::Snapshot;
use super::stream::StreamTrack;
use super::trip::{TRIPS_KEPT_MAX, TripRecord};

/// Command ids remembered at once. A command beyond it is refused: remembering fewer would let one act twice.
pub const COMMANDS_MAX: usize = 10_000;
/// How long after its `exp` a command's id is remembered, in milliseconds.
pub const COMMAND_MEMORY_MS: i64 = 60_000;

/// Everything that survives.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The access list.
    pub list: AccessList,
    /// Whose state it is; `None`: an earlier version wrote it.
    pub gateway: Option<GatewayId>,
    /// Which stream numbers the registers of each kind, or was the last one to; see [`owners`](super::owners).
    pub owners: BTreeMap<RegisterKind, StreamName>,
    /// How far each stream was received.
    pub streams: BTreeMap<StreamName, StreamTrack>,
    /// The boxes that are on.
    pub boxes: BTreeMap<PortalId, PowerSource>,
    /// When each of the others was switched off last: it rests from then on.
    pub boxes_off: BTreeMap<PortalId, Moment>,
    /// The trips of each box that still count, the newest last.
    pub trips: BTreeMap<PortalId, Vec<TripRecord>>,
    /// Command ids and their `exp`.
    pub commands: BTreeMap<String, Timestamp>,
    /// What an operator set on the box; `None`: for all portals.
    pub operator: BTreeMap<Option<PortalId>, Posture>,
    /// A fire input was active and no operator has reset it yet.
    pub fire: bool,
    /// The portals whose fire input is active.
    pub fire_inputs: BTreeSet<PortalId>,
    /// When each revocation was in force, durable and confirmed.
    pub revocations: Revocations,
    /// Where cards are.
    pub presence: Presence,
    /// The number of the last event folded; 0: none.
    pub last_n: u64,
    /// The latest trusted time of the events folded. An earlier time cannot be trusted, also after a restart.
    pub trusted_at: Timestamp,
}

impl State {
    /// Folds one event. `changes` is the message of a `changes_applied`; replayed, it is parsed from the event's evidence.
    pub fn fold(&mut self, event: &AuditEvent, changes: Option<&Changes>) {
        if let Some(changes) = changes {
            self.receive(&changes.stream, changes.at);
            self.note_iat(&changes.stream, changes.iat, (event.at, event.clock));
            if let Ok(ops) = &changes.content {
                self.list.replay(ops, changes.at, Some(changes.iat.unwrap_or(event.at)));
            }
        }
        self.record(event);
    }

    /// Applies a message live; its event is noted when it is recorded.
    pub fn apply(&mut self, changes: &Changes, policy: &Policy, now: Now) -> Applied {
        self.receive(&changes.stream, changes.at);
        self.note_iat(&changes.stream, changes.iat, (now.wall, now.clock));
        match &changes.content {
            Ok(ops) => self.list.apply(ops, (changes.at, changes.iat.unwrap_or(now.wall)), policy, now.wall),
            Err(_) => Applied::default(),
        }
    }

    /// Folds the event that a snapshot was applied. `owns`: the registers that its stream owned then.
    pub fn fold_snapshot(&mut self, event: &AuditEvent, snapshot: &Snapshot, owns: &RegisterKinds) {
        self.list.replay_snapshot(owns, (snapshot.head.at, snapshot.iat), &snapshot.entries);
        self.receive_snapshot(snapshot, (event.at, event.clock));
        self.record(event);
    }

    /// A snapshot takes the place of what was received of its stream; `list` is what it made of the list. Gives the old list.
    pub fn apply_snapshot(&mut self, snapshot: &Snapshot, list: AccessList, now: Now) -> AccessList {
        self.receive_snapshot(snapshot, (now.wall, now.clock));
        std::mem::replace(&mut self.list, list)
    }

    fn receive_snapshot(&mut self, snapshot: &Snapshot, now: (Timestamp, ClockTrust)) {
        self.streams.entry(snapshot.head.stream.clone()).or_default().receive_snapshot(snapshot.head.at);
        self.note_iat(&snapshot.head.stream, snapshot.iat, now);
    }

    fn receive(&mut self, stream: &StreamName, at: Position) {
        self.streams.entry(stream.clone()).or_default().receive(at);
    }

    /// Remembers when a change or a head of `stream` was made. One of the future does not make the list younger than now, by a
    /// clock that is trusted: at once, or with the event that records the trust.
    pub fn note_iat(&mut self, stream: &StreamName, iat: Option<Timestamp>, (now, clock): (Timestamp, ClockTrust)) {
        let latest = if clock == ClockTrust::Trusted { now } else { Timestamp(i64::MAX) };
        let track = self.streams.entry(stream.clone()).or_default();
        track.newest_iat = track.newest_iat.max(iat.map(|iat| iat.min(latest)));
    }

    /// Folds a live event. That of a message was applied by [`State::apply`].
    pub fn record(&mut self, event: &AuditEvent) {
        self.last_n = self.last_n.max(event.n);
        self.trusted_at = event.trusted_after(self.trusted_at);
        self.presence.record(event, |uid| !uid.is_commonplace() && self.list.card(uid).is_some());
        match &event.body {
            Event::PowerOn { portal, source, .. } | Event::PowerOrdered { portal, source, .. } => {
                self.boxes.insert(portal.clone(), *source);
                self.boxes_off.remove(portal);
            }
            Event::PowerOff { portal, .. } => {
                self.boxes.remove(portal);
                self.boxes_off.insert(portal.clone(), event.moment());
            }
            Event::PowerTrip { portal, ended: true, .. } => drop(self.trips.remove(portal)),
            Event::PowerTrip { portal, reason, stays_off, .. } => {
                let trips = self.trips.entry(portal.clone()).or_default();
                trips.push(TripRecord { reason: *reason, stays_off: *stays_off, moment: event.moment() });
                trips.drain(..trips.len().saturating_sub(usize::from(TRIPS_KEPT_MAX)));
            }
            Event::Command { taken, .. } => {
                self.commands.extend(taken.clone());
                if event.clock == ClockTrust::Trusted {
                    self.commands.retain(|_, exp| is_remembered(*exp, event.at));
                }
            }
            Event::Posture { portal, posture, source } => self.fold_posture(portal.as_ref(), *posture, *source),
            Event::RejectedMessage { used_up: Some(r), .. } => {
                self.receive(&r.stream, Position { epoch: r.epoch, seq: r.seq });
            }
            Event::Config { mark, .. } => self.fold_mark(mark),
            Event::Revoked { uid, revision, received_at, cut, .. } => {
                let revocation = Revocation {
                    uid: *uid,
                    revision: revision.clone(),
                    received_at: *received_at,
                    in_force_at: event.at,
                    durable_at: None,
                    portals: cut.iter().map(|portal| (portal.clone(), None)).collect(),
                };
                self.revocations.insert(event.n, revocation);
                let at = Position { epoch: revision.epoch, seq: revision.seq };
                self.streams.entry(revision.stream.clone()).or_default().take_evidence(at);
            }
            Event::RevocationDurable { from, to } => self.revocations.durable(*from, *to, event.at),
            Event::RevocationConfirmed { portal, revoked, how, .. } => {
                self.revocations.confirm(*revoked, portal, Confirmed { at: event.at, how: *how });
            }
            Event::LogGap { cause: GapCause::Damaged, .. } => {
                self.streams.values_mut().for_each(StreamTrack::mark_lost);
            }
            Event::LogGap { cause: GapCause::NotWritten | GapCause::HardLimit | GapCause::AuditDamaged, .. }
            | Event::RejectedMessage { used_up: None, .. }
            | Event::Decision { .. }
            | Event::Taken { .. }
            | Event::NotTaken { .. }
            | Event::ChangesApplied { .. }
            | Event::Alarm { .. }
            | Event::PortalOnline { .. }
            | Event::PortalOffline { .. } => {}
            Event::Boot { gateway, owners, .. } => {
                self.gateway = gateway.clone().or(self.gateway.take());
                owners.iter().for_each(|owners| self.take_owners(owners));
                self.bound_iat(event);
            }
            Event::ClockStep { .. } => self.bound_iat(event),
        }
    }

    /// By a clock that is trusted no message was made later than now.
    fn bound_iat(&mut self, event: &AuditEvent) {
        if event.clock == ClockTrust::Trusted {
            self.streams.values_mut().for_each(|track| track.newest_iat = track.newest_iat.min(Some(event.at)));
        }
    }

    fn fold_mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Note | Mark::Forgiven(_) | Mark::AlarmsAcknowledged { .. } => {}
            Mark::PassagesErased(holder) => self.presence.forget(&self.list.uids_of(holder)),
            Mark::Goal(StreamRevision { stream, epoch, seq }) => {
                let track = self.streams.entry(stream.clone()).or_default();
                track.set_goal(Position { epoch: *epoch, seq: *seq });
            }
            Mark::StreamLost(stream) => self.streams.entry(stream.clone()).or_default().mark_lost(),
            Mark::StreamForgotten(stream, registers) => {
                self.forget_numbers(stream);
                self.list.renumber(registers);
            }
        }
    }

    fn fold_posture(&mut self, portal: Option<&PortalId>, posture: Posture, source: PostureSource) {
        match source {
            PostureSource::Operator => {
                if portal.is_none() {
                    self.operator.clear();
                }
                self.operator.insert(portal.cloned(), posture);
            }
            PostureSource::FireInput => {
                self.fire = true;
                self.fire_inputs.extend(portal.cloned());
            }
            PostureSource::FireInputClear => {
                self.fire_inputs.retain(|active| Some(active) != portal);
            }
            PostureSource::FireReset => self.fire = false,
            // It follows from the time at each start.
            PostureSource::Schedule => {}
            PostureSource::FireResetForced => {
                self.fire = false;
                self.fire_inputs.clear();
            }
        }
    }

    /// What an operator set for `portal`.
    #[must_use]
    pub fn operator_posture(&self, portal: &PortalId) -> Posture {
        let own = self.operator.get(&Some(portal.clone()));
        own.or_else(|| self.operator.get(&None)).copied().unwrap_or_default()
    }
}

/// Whether a command that expires at `exp` is still remembered at `now`.
#[must_use]
pub fn is_remembered(exp: Timestamp, now: Timestamp) -> bool {
    now.0 <= exp.0.saturating_add(COMMAND_MEMORY_MS)
}
