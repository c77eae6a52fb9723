//! What the store reports, as inputs of the engine, figures, and the store's part of the readiness.

use super::super::ports::Part;
use super::GatewayCore;
use crate::access::engine::STORE_WRITES;
use crate::access::event::AlarmKind;
use crate::access::id::Now;
use crate::access::input::Input;
use crate::store::{RecoveryIssue, StoreEvent};

impl GatewayCore {
    /// What the store reports.
    pub fn store_event(&mut self, event: StoreEvent, now: Now) {
        let trouble = match event {
            StoreEvent::Durable { through, took, .. } => {
                self.metrics.flush_seconds.observe(took.as_secs_f64());
                if std::mem::take(&mut self.stalled) && !self.failing {
                    self.readiness.ready(Part::Store);
                    self.input(Input::StoreWorks, now);
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
                self.failing = false;
                self.readiness.ready(Part::Store);
                tracing::info!("the store works again");
                return self.input(Input::StoreWorks, now);
            }
            StoreEvent::Failing { issue } => {
                self.failing = true;
                self.readiness.not_ready(Part::Store, issue.to_string());
                // As a start reports it that finds the disk so: of one cause there is one alarm.
                issue.to_string()
            }
            StoreEvent::Stalled { for_ms } => {
                self.stalled = true;
                let why = format!(
                    "{} for {for_ms} ms: the disk does not answer; decisions go on, nothing is acknowledged; look at the disk and \
                     what the kernel reports of it (`dmesg`)",
                    STORE_WRITES[1]
                );
                self.readiness.not_ready(Part::Store, why.clone());
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
