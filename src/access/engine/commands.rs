//! Commands act once, now: never late, never twice, never from a retained copy. What opens waits for the disk, in `waiting.rs`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::change::{ErrorCode, OpError};
use super::super::decide::{Facts, Observed, Question, against_power, decide, identify};
use super::super::decision::{Decision, Grant, GrantReason};
use super::super::effect::{Effect, PortalOrder, QueryResult, Reply, ResyncReason, Verdict};
use super::super::event::{Event, Flush, ForgivenBy, Outcome, ReplyStatus};
use super::super::explain::{Step, steps};
use super::super::id::{CardUid, ClockTrust, Now, PortalId, Timestamp};
use super::super::input::{Command, CommandKind, MessageKind, Request};
use super::super::portal::{Portal, PortalKind, Posture};
use super::super::power_box::PowerBox;
use super::super::roll_call::MayOpen;
use super::super::state::{COMMANDS_MAX, is_remembered};
use super::Engine;
use super::doors::Release;

/// How far ahead of our clock a command's `iat` may be, in milliseconds.
const CLOCK_SKEW_MS: i64 = 30_000;

/// How a command ended.
pub(super) struct Done {
    pub(super) status: ReplyStatus,
    pub(super) error: Option<OpError>,
    pub(super) result: Option<QueryResult>,
}

impl Done {
    pub(super) fn ok() -> Self {
        Self { status: ReplyStatus::Ok, error: None, result: None }
    }

    pub(super) fn refused(status: ReplyStatus, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, error: Some(OpError::message(code, message)), result: None }
    }
}

impl Engine {
    pub(super) fn command(&mut self, command: &Command, now: Now) {
        // The ids whose time is over are removed with the next command that is recorded.
        let exp = self.state.commands.get(&command.jti);
        let is_repeated = exp.is_some_and(|exp| is_remembered(*exp, now.wall));
        let refused = self.refusal(command, is_repeated, now).or_else(|| self.refusal_to_open(&command.kind, now));
        // One that opens acts when its id is on disk.
        let opens = refused.is_none() && command.kind.opens().is_some();
        let done = match refused {
            Some(refused) => refused,
            None if opens => Done::ok(),
            None => self.carry_out(&command.kind, now),
        };
        let (portal, detail) = summary(command, &done);
        let status = done.status;
        // Whoever ordered it waits until the id is on disk, so that the command never acts again. A refused one may not push the others
        // out of memory, so nothing of it is remembered or waited for: somebody who has captured a command can send it any number of times.
        let after = if status == ReplyStatus::Ok || status == ReplyStatus::Failed {
            let taken = Some((command.jti.clone(), command.exp));
            self.record(Event::Command { portal, status, detail, taken }, Flush::Now, now)
        } else {
            let code = done.error.as_ref().map_or(ErrorCode::InvalidField, |error| error.code);
            if self.is_recorded_alone(MessageKind::Command, code, now) {
                self.record(Event::Command { portal, status, detail, taken: None }, Flush::Soon, now);
            }
            0
        };
        if opens {
            return self.keep_command(after, command, now);
        }
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

    pub(super) fn carry_out(&mut self, kind: &CommandKind, now: Now) -> Done {
        match kind {
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
            CommandKind::Forgive { uid } => {
                self.forgive(*uid, ForgivenBy::Command, now);
                Done::ok()
            }
        }
    }

    /// Whether nothing that opens can reach a portal. Of one put together from several devices a reader may be away and the lock at
    /// work: then the lock's device counts.
    fn is_known_offline(&self, portal: &PortalId) -> bool {
        let is_away = self.online.get(portal) == Some(&false) && !self.reports_return(portal);
        let is_unlinked = self.unlinked.as_ref().is_some_and(|(portals, _)| portals.contains(portal));
        is_away || is_unlinked || self.outputs_offline.contains(portal)
    }

    /// Opens a gate or door once. Whether it may is judged here also where it was before.
    pub(super) fn release(&mut self, portal: &PortalId, now: Now) -> Done {
        if let Some(refused) = self.release_refusal(portal, now) {
            return refused;
        }
        let Some(p) = self.portal(portal.as_str()) else { return unknown_portal(portal) };
        let hold_ms = p.hold_ms.max(self.release_left_ms(portal, now));
        let by = GrantReason::Remote;
        let grant = Grant::new(p.id.clone(), None, by, Some(hold_ms));
        self.order(PortalOrder::Release { grant });
        self.released(portal, Release { uid: None, by, hold_ms }, now);
        Done::ok()
    }

    pub(super) fn release_refusal(&self, portal: &PortalId, now: Now) -> Option<Done> {
        let rejected = |message| Some(Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message));
        match self.portal(portal.as_str()) {
            None => Some(unknown_portal(portal)),
            Some(p) if p.kind == PortalKind::PowerBox => rejected(format!("`{portal}` is a power box; use `power`")),
            // Whoever closed a portal closed it for everybody (wire contract, section 6).
            Some(p) if self.posture(p, now) == Posture::OutOfService => {
                rejected(format!("`{portal}` is out of service; set its posture to `secure` first"))
            }
            Some(_) => self.is_known_offline(portal).then(|| offline(portal)),
        }
    }

    /// Switches a power box. Whether it may be on is judged here also where it was before.
    pub(super) fn power(&mut self, portal: &PortalId, on: bool, now: Now) -> Done {
        if let Some(refused) = self.power_refusal(portal, on, now) {
            return refused;
        }
        if on {
            self.end_trips(portal, "the command `power` on", now);
            self.at_box(portal, now, PowerBox::ordered_on);
            return Done::ok();
        }
        self.at_box(portal, now, PowerBox::ordered_off);
        self.withdraw_commands(portal, now);
        // A cut is kept for a portal that is away; it is not done yet.
        if self.is_known_offline(portal) { offline(portal) } else { Done::ok() }
    }

    pub(super) fn power_refusal(&self, portal: &PortalId, on: bool, now: Now) -> Option<Done> {
        let rejected = |message| Some(Done::refused(ReplyStatus::Rejected, ErrorCode::InvalidField, message));
        let p = match self.portal(portal.as_str()) {
            None => return Some(unknown_portal(portal)),
            Some(p) if p.kind != PortalKind::PowerBox => {
                return rejected(format!("`{portal}` is no power box; use `release`"));
            }
            Some(p) => p,
        };
        if !on {
            return None;
        }
        // The command itself ends the rest after a trip; what reports the trip still is against it.
        let facts = Facts { trip: self.input_trip(portal), ..self.facts(Some(p), now) };
        if let Some(denial) = against_power(&facts, p) {
            let why = facts.trip.map_or(String::new(), |trip| format!(" ({trip})"));
            let reason = denial.reason.as_str();
            return rejected(format!("nothing may be on at `{portal}` now: {reason}{why}; end that first"));
        }
        self.is_known_offline(portal).then(|| offline(portal))
    }

    /// What would be decided for `uid`, at one portal or at all; opens nothing and is not audited here.
    ///
    /// # Errors
    /// A sentence that names the portal this gateway does not have.
    pub fn query(&self, uid: CardUid, portal: Option<&PortalId>, now: Now) -> Result<Vec<Verdict>, String> {
        let one = match portal {
            None => None,
            Some(id) => Some(self.portal(id.as_str()).ok_or_else(|| not_configured(id))?),
        };
        let portals = one.map_or(self.portals.as_slice(), std::slice::from_ref);
        let verdict = |portal: &super::Portal| {
            let request = self.read_of(portal, uid);
            let decision = self.what_if(portal, &request, now);
            let mut verdict =
                Verdict::new(portal.id.clone(), Outcome::from(&decision), decision.also().iter().collect());
            verdict.flags = decision.flags().iter().map(Into::into).collect();
            if one.is_some() {
                verdict.steps = self.steps(portal, &request, &decision, now);
            }
            verdict
        };
        Ok(portals.iter().map(verdict).collect())
    }

    /// The verdict for a card that nobody presents: a query.
    fn what_if(&self, portal: &Portal, request: &Request, now: Now) -> Decision {
        let way = portal.direction.or(request.direction);
        let card = identify(&self.state.list, &request.presented).card();
        self.judged(portal, request, self.observe(portal, card, way, now).0, now)
    }

    /// Whether the list, the posture and the hours let a card in at a portal, whatever was observed of it.
    pub(super) fn has_right(&self, portal: &Portal, uid: CardUid, now: Now) -> bool {
        let decision = self.judged(portal, &self.read_of(portal, uid), Observed::default(), now);
        matches!(decision, Decision::Grant(_))
    }

    pub(super) fn judged(&self, portal: &Portal, request: &Request, observed: Observed, now: Now) -> Decision {
        decide(&self.facts(Some(portal), now), &Question::of(request, Some(portal), observed))
    }

    /// Which cards at these places of the list would be granted at a portal now, and how many places the list has: a long list is
    /// asked for in slices.
    ///
    /// # Errors
    /// When the portal is unknown; the text names it.
    pub fn may_open(&self, portal: &PortalId, places: Range<usize>, now: Now) -> Result<(Vec<MayOpen>, usize), String> {
        let portal = self.portal(portal.as_str()).ok_or_else(|| not_configured(portal))?;
        let len = self.state.list.len();
        let granted = places.take_while(|place| *place < len).filter_map(|place| {
            let uid = self.state.list.uid_at(place)?;
            let decision = self.what_if(portal, &self.read_of(portal, uid), now);
            let outcome = Outcome::from(&decision);
            matches!(outcome, Outcome::Grant(_)).then(|| MayOpen { uid, holder: self.holder_of(Some(&uid)), outcome })
        });
        Ok((granted.collect(), len))
    }

    /// A read of a card that nobody presents, by the reader that is there: a card that it cannot distinguish from another is nobody.
    pub(super) fn read_of(&self, portal: &Portal, uid: CardUid) -> Request {
        Request {
            portal: portal.id.as_str().to_owned(),
            id: None,
            presented: self.as_read_at(&portal.id, uid),
            direction: None,
            // What would be decided of a read that is as good as the portal wants it.
            assurance: portal.min_assurance,
            stale: false,
            slot: 0,
        }
    }

    fn steps(&self, portal: &Portal, request: &Request, decision: &Decision, now: Now) -> Vec<Step> {
        let mut against = decision.also();
        if let Decision::Deny(denial) = decision {
            against.insert(denial.reason);
        }
        let facts = self.facts(Some(portal), now);
        let owner = |kind| self.streams.iter().find(|role| role.owns.contains(&kind)).map(|role| role.name.clone());
        let card = identify(&self.state.list, &request.presented).card();
        let observed = |reason| self.observed_for(reason, portal, card, now);
        steps(&facts, portal, &request.presented, against, &observed, &owner)
    }
}

/// The portal of a command, and for a person what became of it.
pub(super) fn summary(command: &Command, done: &Done) -> (Option<PortalId>, String) {
    let portal = match &command.kind {
        CommandKind::Release { portal } | CommandKind::Power { portal, .. } => Some(portal.clone()),
        CommandKind::Query { portal, .. } => portal.clone(),
        CommandKind::Resync { .. } | CommandKind::Forgive { .. } => None,
    };
    let actor = command.actor.as_deref().unwrap_or("unnamed");
    let error = done.error.as_ref().map_or(String::new(), |error| format!(": {}", error.message));
    (portal, format!("{} by {actor} of {}{error}", command.kind.as_str(), command.stream))
}

fn offline(portal: &PortalId) -> Done {
    let message = format!("`{portal}` is offline; check its power and its connection");
    Done::refused(ReplyStatus::Failed, ErrorCode::InvalidField, message)
}

pub(super) fn unknown_portal(portal: &PortalId) -> Done {
    Done::refused(ReplyStatus::Rejected, ErrorCode::UnknownPortal, not_configured(portal))
}

fn not_configured(portal: &PortalId) -> String {
    format!("no portal `{portal}` is configured at this gateway; its configuration names those that are")
}
