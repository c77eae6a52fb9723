//! The whole ladder for one question, rung by rung: whether each holds, the facts it was judged by, and the change that set them.
//! For a person who asks why; a decision is never made here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::change::{RegisterKind, SuspendReason};
use super::credential::{Entitlement, Flag, Role};
use super::decide::{Facts, end_of, identify, is_outdated_for};
use super::decision::{Reason, Reasons};
use super::id::{CardUid, ClockTrust, Revision, ScheduleName, StreamName, Timestamp};
use super::input::Presented;
use super::list::{CardView, FlagWriter};
use super::portal::{Portal, PortalKind, Posture};

/// Most entitlements that one step names.
const ENTITLEMENTS_SHOWN_MAX: usize = 16;

/// One rung of the ladder, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The reason with which this rung denies.
    pub step: Reason,
    /// Whether it does not deny.
    pub ok: bool,
    /// What it was judged by; empty: nothing is known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fact: String,
    /// The change that set this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<SetBy>,
}

/// The op that wrote a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBy {
    /// Whose numbers these are.
    pub stream: StreamName,
    /// Epoch, message, place in the message.
    pub revision: (u32, u64, u32),
    /// When its message was applied, as far as the audit still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// Every rung that concerns this portal, in the order in which they are judged. `owner` names the stream that numbers a register.
#[must_use]
pub fn steps(
    facts: &Facts<'_>,
    portal: &Portal,
    presented: &Presented,
    against: Reasons,
    observed: &dyn Fn(Reason) -> Option<String>,
    owner: &dyn Fn(RegisterKind) -> Option<StreamName>,
) -> Vec<Step> {
    let uid = identify(facts.list, presented).card();
    let asked = Asked { facts, portal, observed, uid, card: uid.and_then(|uid| facts.list.card(&uid)) };
    let step = |reason: Reason| {
        let (fact, register) = asked.fact(reason)?;
        let set_by = register.and_then(|(kind, revision)| {
            let Revision { epoch, seq, place } = revision;
            Some(SetBy { stream: owner(kind)?, revision: (epoch.get(), seq, place), at: None })
        });
        Some(Step { step: reason, ok: !against.contains(reason), fact, set_by })
    };
    Reason::ALL.iter().copied().filter_map(step).collect()
}

/// A fact, and the register that it stands in.
type Fact = (String, Option<(RegisterKind, Revision)>);

struct Asked<'a> {
    facts: &'a Facts<'a>,
    portal: &'a Portal,
    /// What was observed of the portal and the card; `None`: the rung does not concern this portal.
    observed: &'a dyn Fn(Reason) -> Option<String>,
    uid: Option<CardUid>,
    card: Option<CardView<'a>>,
}

impl Asked<'_> {
    /// What the rung of `reason` is judged by; `None`: the rung does not concern this portal or this question.
    fn fact(&self, reason: Reason) -> Option<Fact> {
        let site = &self.facts.list.site;
        let plain = |text: String| Some((text, None));
        match reason {
            Reason::MalformedIdentifier => plain(self.uid.map_or(String::new(), |uid| format!("UID {uid}"))),
            Reason::OutOfService => Some(self.out_of_service()),
            Reason::Lockdown => Some(self.posture()),
            Reason::UnknownCredential => self.known(),
            Reason::Replaced => self.flag(Flag::Replaced),
            Reason::Cancelled => self.flag(Flag::Cancelled),
            Reason::Lost => self.flag(Flag::Lost),
            Reason::Frozen => self.flag(Flag::Frozen),
            Reason::NotEnrolled => self.enrolment(),
            Reason::NoEntitlement => self.enrolment().map(|(fact, register)| (fact + &self.no_visitors(), register)),
            Reason::NotYetValid => self.window(true),
            Reason::Expired => self.window(false),
            Reason::ClockUntrusted => {
                let trust = if self.facts.now.clock == ClockTrust::Trusted { "trusted" } else { "not trusted" };
                plain(format!("the clock shows {} and is {trust}", self.facts.now.wall))
            }
            Reason::PowerSuspended if self.portal.kind == PortalKind::PowerBox => {
                let reasons = site.power.get(&self.portal.zone).into_iter().flatten();
                let on: Vec<_> = reasons.filter(|(_, register)| register.on).collect();
                let newest = on.iter().map(|(_, register)| register.revision).max();
                let mut names: Vec<_> = on.iter().map(|(why, _)| why.as_str().to_owned()).collect();
                names.extend(self.facts.trip.map(|trip| trip.to_string()));
                let fact = if names.is_empty() { "not suspended".to_owned() } else { names.join(", ") };
                Some((fact, newest.map(|revision| (RegisterKind::Power, revision))))
            }
            Reason::MaintenanceOnly if self.portal.kind == PortalKind::PowerBox => {
                let in_force = site.is_suspended_for(&self.portal.zone, SuspendReason::Maintenance);
                let maintenance = if in_force { "suspended for maintenance" } else { "not suspended for maintenance" };
                let role = self.card.and_then(|card| card.enrolment()).map_or(Role::Resident, |e| e.role());
                plain(format!("{}, {maintenance}", role.as_str()))
            }
            Reason::AssuranceTooLow => plain(format!("wants {}", self.portal.min_assurance.as_str())),
            Reason::OutsideSchedule => self.schedules(),
            Reason::AntiPassback
            | Reason::InUseElsewhere
            | Reason::LockedOut
            | Reason::EscortRequired
            | Reason::SecondCardRequired
            | Reason::Interlocked => (self.observed)(reason).and_then(plain),
            Reason::RandomIdentifier | Reason::AmbiguousIdentifier => plain(String::new()),
            Reason::UnknownPortal
            | Reason::StaleRequest
            | Reason::PowerSuspended
            | Reason::MaintenanceOnly
            | Reason::InternalError => None,
        }
    }

    fn posture(&self) -> Fact {
        let set = self.facts.list.site.posture(&self.portal.id).filter(|set| set.posture == self.facts.posture);
        let until = set.and_then(|set| set.until).map_or(String::new(), |until| format!(" until {until}"));
        let register = set.map(|set| (RegisterKind::Posture, set.revision));
        (format!("posture {}{until}", self.facts.posture.as_str()), register)
    }

    /// A list that is too old keeps the card out as a posture does; that of the portal is named if it does too.
    fn out_of_service(&self) -> Fact {
        if !is_outdated_for(self.facts, self.portal, self.card.as_ref()) {
            return self.posture();
        }
        let too_old =
            format!("no message of a center for more than {} s (after_stale_s)", self.facts.policy.after_stale_s);
        match self.facts.posture {
            Posture::OutOfService | Posture::Fire => {
                let (posture, register) = self.posture();
                (format!("{too_old}; {posture}"), register)
            }
            Posture::Secure | Posture::FreeAccess | Posture::Lockdown => (too_old, None),
        }
    }

    /// What keeps visitors out whatever they are enrolled for; empty: nothing, or it is no visitor's.
    fn no_visitors(&self) -> String {
        let is_visitor = self.card.and_then(|card| card.enrolment()).is_some_and(|e| e.role() == Role::Visitor);
        let kind = self.portal.kind;
        if is_visitor && !self.facts.policy.visitor_kinds.contains(kind) {
            format!("; a visitor opens no {} (visitor_kinds)", kind.as_str())
        } else {
            String::new()
        }
    }

    fn known(&self) -> Option<Fact> {
        let Some(record) = self.card.and_then(|card| card.record()) else {
            return Some(("no office ever named this card".to_owned(), None));
        };
        let issued = record.issued_to.as_ref();
        let fact = match issued {
            Some((_, holder)) => format!("issued to {holder}"),
            None => "never issued".to_owned(),
        };
        Some((fact, issued.map(|(revision, _)| (RegisterKind::Standing, *revision))))
    }

    fn flag(&self, flag: Flag) -> Option<Fact> {
        let name = flag.as_str();
        Some(match self.card.and_then(|card| card.flag(flag)) {
            None => (format!("never {name}"), None),
            Some((register, by)) => {
                let state = if register.on { name.to_owned() } else { format!("not {name} any more") };
                let by = if by == FlagWriter::Holder { ", as a card of its holder" } else { "" };
                (format!("{state}{by}"), Some((RegisterKind::Standing, register.revision)))
            }
        })
    }

    fn enrolment(&self) -> Option<Fact> {
        let record = self.card.and_then(|card| card.record());
        let in_force = self.card.and_then(|card| card.enrolment()).is_some();
        Some(match record.and_then(|record| record.enrolment) {
            None => ("never enrolled".to_owned(), None),
            Some((revision, enrolment)) => {
                let fact = match enrolment.filter(|_| in_force) {
                    None => "the enrolment was withdrawn".to_owned(),
                    Some(enrolment) => {
                        let one = |entitlement: &Entitlement| {
                            let hours = entitlement.schedule.as_ref().map_or(String::new(), |name| format!("@{name}"));
                            format!(" {}:{}{hours}", entitlement.kind.as_str(), entitlement.zone)
                        };
                        let shown = enrolment.entitlements.iter().take(ENTITLEMENTS_SHOWN_MAX).map(one);
                        let mut fact = format!("{} {}", enrolment.role.as_str(), enrolment.holder);
                        fact.extend(enrolment.marks.iter().map(|mark| format!(", {}", mark.as_str())));
                        fact.push(':');
                        fact.extend(shown);
                        if enrolment.entitlements.len() > ENTITLEMENTS_SHOWN_MAX {
                            fact.push_str(" …");
                        }
                        fact
                    }
                };
                (fact, Some((RegisterKind::Enrolment, revision)))
            }
        })
    }

    /// The schedules that count here: of the portal, and of the card's entitlements to it; with the newest definition by a center.
    fn schedules(&self) -> Option<Fact> {
        let enrolment = self.card.and_then(|card| card.enrolment());
        let entitlements = enrolment.iter().flat_map(|e| e.entitlements(self.portal.kind));
        let own = entitlements.filter(|e| e.covers(&self.portal.zone)).filter_map(|e| e.schedule());
        let portals = self.portal.hours.iter().chain(&self.portal.power_hours);
        let names: BTreeSet<_> = own.chain(portals).collect();
        let now = self.facts.now.wall;
        let one = |name: &&ScheduleName| match self.facts.calendar.defines(name) {
            false => format!("{name} is not defined"),
            true if self.facts.calendar.is_open(name, now) => format!("{name} is open"),
            true => format!("{name} is closed"),
        };
        let fact = names.iter().map(one).collect::<Vec<_>>().join(", ");
        let revisions = names.iter().filter_map(|name| self.facts.list.site.schedules.get(*name)).map(|r| r.revision);
        Some((fact, revisions.max().map(|revision| (RegisterKind::Schedule, revision))))
    }

    fn window(&self, is_start: bool) -> Option<Fact> {
        let enrolment = self.card.and_then(|card| card.enrolment());
        let edge = enrolment.and_then(|e| if is_start { e.not_before() } else { end_of(self.facts.calendar, &e) });
        let register = self.card.and_then(|card| card.record()).and_then(|record| record.enrolment);
        let register = register.filter(|_| edge.is_some()).map(|(revision, _)| (RegisterKind::Enrolment, revision));
        let word = if is_start { "from" } else { "until" };
        Some((edge.map_or(String::new(), |edge| format!("{word} {edge}")), register))
    }
}
