//! What survives a restart. State is the fold of audit events: live and in replay it changes in this file only.

use std::collections::BTreeMap;

use super::audit::{AuditEvent, EventKind};
use super::change::{Changes, Position};
use super::id::{ClockTrust, PortalId, StreamName, Timestamp};
use super::list::{AccessList, Applied};
use super::policy::Policy;
use super::portal::Posture;
use super::presence::PowerSource;
use super::stream::StreamTrack;

/// Command ids remembered at once. A command beyond it is refused: remembering fewer would let one act twice.
pub const COMMANDS_MAX: usize = 10_000;
/// How long after its `exp` a command's id is remembered, in milliseconds.
pub const COMMAND_MEMORY_MS: i64 = 60_000;

/// `reason` of a `log_gap` that lost changes, not only decisions: the list is asked for anew.
pub const GAP_DAMAGED: &str = "damaged";
/// `detail` of a `posture` event set by an operator on the box.
pub const BY_OPERATOR: &str = "operator";
/// `detail` of a `posture` event that a fire input caused.
pub const BY_FIRE_INPUT: &str = "fire_input";
/// `detail` of a `posture` event that ended the fire latch.
pub const BY_FIRE_RESET: &str = "fire_reset";

/// `reason` of a `clock_step` event from which on the clock is trusted although it showed a later time before.
pub const CLOCK_RESTORED: &str = "clock_restored";

/// Everything that survives.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The access list.
    pub list: AccessList,
    /// How far each stream was heard.
    pub streams: BTreeMap<StreamName, StreamTrack>,
    /// The boxes that are on.
    pub boxes: BTreeMap<PortalId, PowerSource>,
    /// Command ids and their `exp`.
    pub commands: BTreeMap<String, Timestamp>,
    /// What an operator set on the box; `None`: for all portals.
    pub operator: BTreeMap<Option<PortalId>, Posture>,
    /// A fire input was active and no operator has reset it yet.
    pub fire: bool,
    /// The number of the last event folded; 0: none.
    pub last_n: u64,
    /// The latest trusted time of the events folded. An earlier time cannot be trusted.
    pub trusted_at: Timestamp,
}

impl State {
    /// Folds one event. `changes` is the message of a `changes_applied`; replayed, it is parsed from the event's evidence.
    pub fn fold(&mut self, event: &AuditEvent, changes: Option<&Changes>) {
        self.note(event);
        match (event.kind, changes) {
            (EventKind::ChangesApplied, Some(changes)) => {
                self.hear(&changes.stream, changes.at, event.at);
                if let Ok(ops) = &changes.content {
                    self.list.replay(ops, changes.at);
                }
            }
            _ => self.fold_small(event),
        }
    }

    /// Applies a message live; its event is noted when it is recorded.
    pub fn apply(&mut self, changes: &Changes, policy: &Policy, now: Timestamp) -> Applied {
        self.hear(&changes.stream, changes.at, now);
        match &changes.content {
            Ok(ops) => self.list.apply(ops, changes.at, policy, now),
            Err(_) => Applied::default(),
        }
    }

    /// Folds a live event. That of a message was applied by [`State::apply`].
    pub fn record(&mut self, event: &AuditEvent) {
        self.note(event);
        self.fold_small(event);
    }

    fn note(&mut self, event: &AuditEvent) {
        self.last_n = self.last_n.max(event.n);
        if event.clock == ClockTrust::Trusted {
            let restored = event.kind == EventKind::ClockStep && event.reason.as_deref() == Some(CLOCK_RESTORED);
            self.trusted_at = if restored { event.at } else { self.trusted_at.max(event.at) };
        }
    }

    fn hear(&mut self, stream: &StreamName, at: Position, heard_at: Timestamp) {
        let track = self.streams.entry(stream.clone()).or_default();
        track.hear(at);
        track.heard_at = track.heard_at.max(Some(heard_at));
    }

    fn fold_small(&mut self, event: &AuditEvent) {
        match event.kind {
            EventKind::PowerOn => {
                if let Some(portal) = &event.portal {
                    self.boxes.insert(portal.clone(), event.uid.map_or(PowerSource::Remote, PowerSource::Card));
                }
            }
            EventKind::PowerOff => {
                if let Some(portal) = &event.portal {
                    self.boxes.remove(portal);
                }
            }
            EventKind::Command => {
                if let Some((jti, exp)) = &event.jti {
                    self.commands.insert(jti.clone(), *exp);
                }
                self.commands.retain(|_, exp| is_remembered(*exp, event.at));
            }
            EventKind::Posture => self.fold_posture(event),
            EventKind::RejectedMessage => {
                // Only a message that was refused for its content carries its revision: it used up its number.
                if let Some(r) = &event.revision {
                    self.hear(&r.stream, Position { epoch: r.epoch, seq: r.seq }, event.at);
                }
            }
            EventKind::Alarm | EventKind::Config => {
                // The goal that a head set, an alarm if it was not reached yet; see `StreamTrack::take_head`.
                if let Some(r) = &event.revision {
                    let track = self.streams.entry(r.stream.clone()).or_default();
                    track.aim_at(Position { epoch: r.epoch, seq: r.seq });
                }
            }
            EventKind::LogGap => {
                if event.reason.as_deref() == Some(GAP_DAMAGED) {
                    self.streams.values_mut().for_each(StreamTrack::lose);
                }
            }
            EventKind::Decision
            | EventKind::Taken
            | EventKind::NotTaken
            | EventKind::Revoked
            | EventKind::ChangesApplied
            | EventKind::PortalOnline
            | EventKind::PortalOffline
            | EventKind::Boot
            | EventKind::ClockStep => {}
        }
    }

    fn fold_posture(&mut self, event: &AuditEvent) {
        let posture = event.reason.as_deref().and_then(Posture::parse);
        match (event.detail.as_deref(), posture) {
            (Some(BY_OPERATOR), Some(posture)) => {
                if event.portal.is_none() {
                    self.operator.clear();
                }
                self.operator.insert(event.portal.clone(), posture);
            }
            (Some(BY_FIRE_INPUT), _) => self.fire = true,
            (Some(BY_FIRE_RESET), _) => self.fire = false,
            _ => {}
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
