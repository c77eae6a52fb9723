//! What the store reports, as inputs of the engine, figures, and the store's part of the readiness.

use super::super::ports::{Part, UplinkOrder};
use super::GatewayCore;
use crate::access::engine::STORE_WRITES;
use crate::access::event::AlarmKind;
use crate::access::id::Now;
use crate::access::input::Input;
use crate::store::{RecoveryIssue, StoreEvent};

/// Messages that wait for a disk that does not take them, at most, until the broker is to keep what comes again. Fewer than the outbox of
/// the uplink has places, for all are acknowledged when the disk is back.
const UNWRITTEN_MAX: usize = 4_000;
/// Their length in bytes, at most.
const UNWRITTEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What keeps the store from being written, each in words.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The journal was reported to fail, and nothing became durable since.
    journal: Option<String>,
    /// A write was reported to hang, and nothing became durable since.
    stalled: Option<String>,
    /// How far the center has the audit cannot be written.
    cursor: Option<String>,
    /// What the uplink was ordered last.
    unacknowledged: bool,
}

impl Trouble {
    /// Something became durable. `true`: it could not before.
    fn is_durable(&mut self) -> bool {
        self.journal.take().is_some() | self.stalled.take().is_some()
    }
}

impl GatewayCore {
    /// The readiness follows from all that keeps the store from being written, the gravest first.
    fn trouble_changed(&mut self, now: Now) {
        let Trouble { journal, stalled, cursor, .. } = &self.trouble;
        let all: Vec<&str> = [journal, stalled, cursor].into_iter().flatten().map(String::as_str).collect();
        if all.is_empty() {
            self.readiness.ready(Part::Store);
            self.input(Input::StoreWorks, now);
        } else {
            self.readiness.not_ready(Part::Store, all.join("; "));
        }
        self.order_acknowledging();
    }

    /// A broker delivers only so much without an acknowledgement, which is not given before a change is on disk. While the disk takes
    /// nothing, a revocation is not to wait for it: it is taken with QoS 0. What is lost then is asked for, as with any gap.
    pub(super) fn order_acknowledging(&mut self) {
        let nothing_is_durable = self.trouble.journal.is_some() || self.trouble.stalled.is_some();
        let has_room = || {
            let (messages, bytes) = self.store.kept();
            messages < UNWRITTEN_MAX && bytes < UNWRITTEN_BYTES_MAX
        };
        let unacknowledged = nothing_is_durable && has_room();
        if std::mem::replace(&mut self.trouble.unacknowledged, unacknowledged) != unacknowledged {
            self.dispatch.uplink(UplinkOrder::Unacknowledged(unacknowledged));
        }
    }

    /// What the store reports.
    pub fn store_event(&mut self, event: StoreEvent, now: Now) {
        let trouble = match event {
            StoreEvent::Durable { through, took, .. } => {
                self.metrics.flush_seconds.observe(took.as_secs_f64());
                if self.trouble.is_durable() {
                    self.trouble_changed(now);
                }
                return self.durable(through, now);
            }
            StoreEvent::Lost { from, to } => {
                self.metrics.audit_lost.inc_by(to.saturating_sub(from).saturating_add(1));
                return self.input(Input::Lost { from, to }, now);
            }
            StoreEvent::Refused { n, why } => {
                tracing::error!(n, why, "an event cannot be written");
                self.metrics.audit_lost.inc();
                return self.input(Input::Lost { from: n, to: n }, now);
            }
            StoreEvent::GenerationWritten { position, records, took } => {
                return tracing::info!(position, records, took_ms = took.as_millis(), "a generation was written");
            }
            StoreEvent::Removing { ranges } => {
                tracing::warn!(
                    ranges = ranges.len(),
                    "the journal is at its hard limit: events that the center does not have are removed"
                );
                return self.input(Input::Removing { ranges }, now);
            }
            StoreEvent::Retained { first } => return tracing::info!(first, "old events were removed from the journal"),
            StoreEvent::Recovered => {
                // A write that hangs is over when something is durable.
                (self.trouble.journal, self.trouble.cursor) = (None, None);
                tracing::info!("the store works again");
                return self.trouble_changed(now);
            }
            StoreEvent::Failing { issue } => {
                // As a start reports it that finds the disk so: of one cause there is one alarm.
                let why = issue.to_string();
                match issue {
                    RecoveryIssue::CursorNotWritten { .. } => self.trouble.cursor = Some(why.clone()),
                    _ => self.trouble.journal = Some(why.clone()),
                }
                self.trouble_changed(now);
                why
            }
            StoreEvent::Stalled { for_ms } => {
                let why = format!(
                    "{} for {for_ms} ms: the disk does not answer; decisions go on, nothing is acknowledged; look at the disk and \
                     what the kernel reports of it (`dmesg`)",
                    STORE_WRITES[1]
                );
                self.trouble.stalled = Some(why.clone());
                self.trouble_changed(now);
                why
            }
            StoreEvent::GenerationFailed { detail } => format!("a generation could not be written: {detail}"),
            StoreEvent::ReserveReleased => {
                "the disk is full: the reserve file was removed for what waits; make room, there is no other reserve"
                    .to_owned()
            }
            StoreEvent::Found(issue) => return self.found(&issue, now),
        };
        self.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail: trouble }, now);
    }

    /// What the store found wrong on disk raises an alarm; what the audit lacks for good is an event of it too.
    pub fn found(&mut self, issue: &RecoveryIssue, now: Now) {
        if let RecoveryIssue::AuditLost { from, to } = *issue {
            self.input(Input::AuditLost { from, to }, now);
        }
        self.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail: issue.to_string() }, now);
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
