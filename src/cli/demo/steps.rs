//! Prints each step of the demo: what was expected, what happened, and how long it took.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::print;
use crate::access::event::{AuditEvent, Event, Outcome};
use crate::access::id::{CardUid, Timestamp};
use crate::center::{GatewayEvent, Report};
use crate::clock::Clock;

/// Longest wait for an audit event, in seconds.
const WAIT_S: u64 = 10;

/// How long one step took, in milliseconds: since the card was presented, or since the message was published.
pub(super) type Took = f64;

/// The steps so far, and the audit as the center receives it.
pub(super) struct Steps {
    incoming: broadcast::Receiver<Report>,
    clock: Clock,
    /// Every audit event received so far: a step may wait for one that came together with an earlier one.
    events: Vec<AuditEvent>,
    failed: u32,
    /// What the center found wrong in the audit.
    trouble: Vec<String>,
}

impl Steps {
    pub(super) fn new(incoming: broadcast::Receiver<Report>, clock: &Clock) -> Self {
        Self { incoming, clock: clock.clone(), events: Vec::new(), failed: 0, trouble: Vec::new() }
    }

    pub(super) fn chapter(title: &str) {
        print(format!("\n{title}"));
    }

    /// Prints one step. If what happened is not what was expected, the step has failed.
    pub(super) fn step(&mut self, what: &str, expected: &str, happened: &str, took: Option<Took>) {
        let succeeded = expected == happened;
        self.failed += u32::from(!succeeded);
        let took = took.map_or(String::new(), |ms| format!("{ms:9.2} ms"));
        let mark = if succeeded { "ok    " } else { "FAILED" };
        let difference = if succeeded { String::new() } else { format!("  (expected: {expected})") };
        print(format!("  {mark} {took:>12}  {what}: {happened}{difference}"));
    }

    pub(super) fn all_succeeded(&self) -> bool {
        self.failed == 0 && self.trouble.is_empty()
    }

    pub(super) fn trouble(&self) -> String {
        if self.trouble.is_empty() { "none".to_owned() } else { self.trouble.join("; ") }
    }

    /// Waits for the decision on `uid` at `portal` in the audit that the center receives: decision and reason, and how long after
    /// `shown` it was made.
    pub(super) async fn decision(&mut self, portal: &str, uid: CardUid, shown: Timestamp) -> (String, Option<Took>) {
        let wanted = |e: &AuditEvent| {
            matches!(e.body, Event::Decision { .. })
                && e.body.uid() == Some(uid)
                && e.body.portal().is_some_and(|p| p.as_str() == portal)
                && e.at >= shown
        };
        match self.event(wanted).await {
            None => ("no decision".to_owned(), None),
            Some(e) => {
                let ms = u32::try_from(e.at.0.saturating_sub(shown.0)).unwrap_or(u32::MAX);
                let decided = match e.body {
                    Event::Decision { outcome: Outcome::Grant(reason), .. } => format!("grant ({})", reason.as_str()),
                    Event::Decision { outcome: Outcome::Deny(reason), .. } => format!("deny ({})", reason.as_str()),
                    _ => String::new(),
                };
                (decided, Some(f64::from(ms)))
            }
        }
    }

    /// The first audit event since the beginning for which `wanted` is true; waits for it.
    pub(super) async fn event(&mut self, wanted: impl Fn(&AuditEvent) -> bool) -> Option<AuditEvent> {
        let deadline = Instant::now() + Duration::from_secs(WAIT_S);
        loop {
            if let Some(event) = self.events.iter().find(|e| wanted(e)) {
                return Some(event.clone());
            }
            let next = tokio::time::timeout_at(deadline, self.incoming.recv()).await;
            match next.map(|next| next.map(|report| report.event)) {
                Ok(Ok(GatewayEvent::Audit(events))) => self.events.extend(events),
                Ok(Ok(GatewayEvent::Trouble(trouble))) => self.trouble.push(trouble.to_string()),
                Ok(Ok(GatewayEvent::Problem(problem))) => self.trouble.push(problem),
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => return None,
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }
}

/// Milliseconds since `began`.
pub(super) fn ms_since(began: Instant) -> Took {
    began.elapsed().as_secs_f64() * 1000.0
}
