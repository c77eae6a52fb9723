//! Commands act once, now: never late, never twice, never from a retained copy.

use std::collections::BTreeMap;

use super::super::change::{ErrorCode, OpError};
use super::super::decide::against_power;
use super::super::decision::{Grant, GrantReason};
use super::super::effect::{Effect, PortalOrder, QueryResult, Reply, ResyncReason, Verdict};
use super::super::event::{Event, Flush, Outcome, ReplyStatus};
use super::super::id::{CardUid, ClockTrust, Now, PortalId, Timestamp};
use super::super::input::{Command, CommandKind, Request};
use super::super::portal::{Assurance, PortalKind, Posture};
use super::super::power_box::PowerBox;
use super::super::state::{COMMANDS_MAX, is_remembered};
use super::Engine;

/// How far ahead of our clock a command's `iat` may be, in milliseconds.
const CLOCK_SKEW_MS: i64 = 30_000;

/// How a command ended.
struct Done {
    status: ReplyStatus,
    error: Option<OpError>,
    result: Option<QueryResult>,
}

impl Done {
    fn ok() -> Self {
        Self { status: ReplyStatus::Ok, error: None, result: None }
    }

    fn refused(status: ReplyStatus, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, error: Some(OpError::message(code, message)), result: None }
    }
}

impl Engine {
    pub(super) fn command(&mut self, command: &Command, now: Now) {
        let is_repeated = self.state.commands.contains_key(&command.jti);
        let done = match self.refusal(command, is_repeated, now) {
            Some(refused) => refused,
            None => self.carry_out(command, now),
        };
        let actor = command.actor.as_deref().unwrap_or("unnamed");
        let error = done.error.as_ref().map_or(String::new(), |e| format!(": {}", e.message));
        let portal = match &command.kind {
            CommandKind::Release { portal } | CommandKind::Power { portal, .. } => Some(portal.clone()),
            CommandKind::Query { portal, .. } => portal.clone(),
            CommandKind::Resync { .. } | CommandKind::Forgive { .. } => None,
        };
        let event = Event::Command {
            portal,
            status: done.status,
            detail: format!("{} by {actor} of {}{error}", command.kind.as_str(), command.stream),
            // Only a command that was taken is remembered; a refused one may not push the others out of memory.
            taken: (done.status == ReplyStatus::Ok || done.status == ReplyStatus::Failed)
                .then(|| (command.jti.clone(), command.exp)),
        };
        // Whoever ordered it waits until the id is on disk, so that the command never acts again. A refusal leaves nothing to
        // remember: a repeated old command makes no work for the disk.
        let is_taken = matches!(&event, Event::Command { taken: Some(_), .. });
        let after = self.record(event, if is_taken { Flush::Now } else { Flush::Soon }, now);
        let reply =
            Reply { jti: Some(command.jti.clone()), status: done.status, error: done.error, result: done.result };
        self.out.push(Effect::Reply { after, reply: Box::new(reply) });
    }

    fn refusal(&self, command: &Command, is_repeated: bool, now: Now) -> Option<Done> {
        if is_repeated {
            return Some(Done::refused(ReplyStatus::Duplicate, ErrorCode::InvalidField, "`jti` was received before"));
        }
        if now.clock == ClockTrust::Untrusted {
            let message = "the gateway's clock cannot be trusted, so `exp` cannot be judged; set the clock";
            return Some(Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message));
        }
        if command.exp <= now.wall {
            return Some(Done::refused(ReplyStatus::Expired, ErrorCode::InvalidField, "`exp` has passed"));
        }
        if command.iat.0 > now.wall.0.saturating_add(CLOCK_SKEW_MS) {
            let message = "`iat` is more than 30 s ahead of the gateway's clock; compare the clocks";
            return Some(Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message));
        }
        let remembered = |commands: &BTreeMap<String, Timestamp>| {
            commands.values().filter(|exp| is_remembered(**exp, now.wall)).count()
        };
        if self.state.commands.len() >= COMMANDS_MAX && remembered(&self.state.commands) >= COMMANDS_MAX {
            let message = format!("{COMMANDS_MAX} commands within their time are remembered; send fewer");
            return Some(Done::refused(ReplyStatus::Rejected, ErrorCode::TooLarge, message));
        }
        None
    }

    fn carry_out(&mut self, command: &Command, now: Now) -> Done {
        match &command.kind {
            CommandKind::Release { portal } => self.release(portal, now),
            CommandKind::Power { portal, on } => self.power(portal, *on, now),
            CommandKind::Query { uid, portal } => match self.query(*uid, portal.as_ref(), now) {
                Ok(verdicts) => {
                    let revocations = self.revocations_of(*uid);
                    Done { result: Some(QueryResult { verdicts, revocations }), ..Done::ok() }
                }
                Err(message) => Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownPortal, message),
            },
            CommandKind::Resync { stream } => {
                if self.has_stream(stream) {
                    self.ask_for(stream, ResyncReason::Asked, now);
                    Done::ok()
                } else {
                    let message = format!("no stream `{stream}` is configured");
                    Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownStream, message)
                }
            }
            CommandKind::Forgive { .. } => {
                let message =
                    "`forgive` is not available: this version keeps no anti-passback positions; nothing was changed";
                Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownOp, message)
            }
        }
    }

    /// Whether nothing that opens can reach a portal. Of one put together from several devices a reader may be away and the lock at
    /// work: then the lock's device counts.
    fn is_known_offline(&self, portal: &PortalId) -> bool {
        let is_away = self.online.get(portal) == Some(&false) && !self.reports_return(portal);
        is_away || self.outputs_offline.contains(portal)
    }

    fn release(&mut self, portal: &PortalId, now: Now) -> Done {
        match self.portal(portal.as_str()) {
            None => unknown_portal(portal),
            Some(p) if p.kind == PortalKind::PowerBox => {
                let message = format!("`{portal}` is a power box; use `power`");
                Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message)
            }
            // Whoever closed a portal closed it for everybody (wire contract, section 6).
            Some(p) if self.posture(p, now) == Posture::OutOfService => {
                let message = format!("`{portal}` is out of service; set its posture to `secure` first");
                Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message)
            }
            Some(_) if self.is_known_offline(portal) => offline(portal),
            Some(p) => {
                let hold_ms = p.hold_ms;
                let grant = Grant::new(p.id.clone(), None, GrantReason::Remote, Some(hold_ms));
                self.order(PortalOrder::Release { grant });
                self.released(portal, None, hold_ms, now);
                Done::ok()
            }
        }
    }

    fn power(&mut self, portal: &PortalId, on: bool, now: Now) -> Done {
        match self.portal(portal.as_str()) {
            None => return unknown_portal(portal),
            Some(p) if p.kind != PortalKind::PowerBox => {
                let message = format!("`{portal}` is no power box; use `release`");
                return Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message);
            }
            Some(p) => {
                if let Some(denial) = against_power(&self.facts(self.posture(p, now), now), p).filter(|_| on) {
                    let message =
                        format!("nothing may be on at `{portal}` now: {}; end that first", denial.reason.as_str());
                    return Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message);
                }
            }
        }
        let is_offline = self.is_known_offline(portal);
        if on && is_offline {
            return offline(portal);
        }
        if on {
            self.at_box(portal, now, PowerBox::ordered_on);
        } else {
            self.at_box(portal, now, PowerBox::ordered_off);
        }
        // A cut is kept for a portal that is away; it is not done yet.
        if is_offline { offline(portal) } else { Done::ok() }
    }

    /// What would be decided for `uid`, at one portal or at all; opens nothing and is not audited here.
    ///
    /// # Errors
    /// A sentence that names the portal this gateway does not have.
    pub fn query(&self, uid: CardUid, portal: Option<&PortalId>, now: Now) -> Result<Vec<Verdict>, String> {
        let one = match portal {
            None => None,
            Some(id) => Some(self.portal(id.as_str()).ok_or_else(|| format!("no portal `{id}` is configured"))?),
        };
        let portals = one.map_or(self.portals.as_slice(), std::slice::from_ref);
        let verdict = |portal: &super::Portal| {
            let request = Request {
                portal: portal.id.as_str().to_owned(),
                id: None,
                presented: self.as_read_at(&portal.id, uid),
                direction: None,
                assurance: Assurance::Uid,
                stale: false,
                slot: 0,
            };
            let decision = self.what_if(portal, &request, now);
            Verdict {
                portal: portal.id.clone(),
                outcome: Outcome::from(&decision),
                also: decision.also().iter().collect(),
            }
        };
        Ok(portals.iter().map(verdict).collect())
    }
}

fn offline(portal: &PortalId) -> Done {
    let message = format!("`{portal}` is offline; check its power and its connection");
    Done::refused(ReplyStatus::Failed, ErrorCode::InvalidField, message)
}

fn unknown_portal(portal: &PortalId) -> Done {
    Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownPortal, format!("no portal `{portal}` is configured"))
}
