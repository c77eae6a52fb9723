//! The ops and commands as arguments.

use std::ops::RangeInclusive;

use clap::{ArgGroup, Args, Subcommand};

use crate::access::change::{Op as Change, PortalSet, Subject, SuspendReason};
use crate::access::credential::{CardMark, Enrolment, Entitlement, Flag, Role, ZoneSet};
use crate::access::id::{CardUid, Holder, PortalId, ScheduleName, StreamName, Timestamp, Zone};
use crate::access::input::{CardSet, CommandKind};
use crate::access::operator::Actor;
use crate::access::portal::{PortalKind, Posture};
use crate::access::schedule::{DayError, Holiday, Schedule, Window, WindowError, timezone};
use crate::center::sheet::cell;

/// The days of the week on the command line.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Debug, Subcommand)]
pub(super) enum Op {
    /// The card exists.
    Issue {
        /// The card.
        uid: CardUid,
        /// Whose it is.
        holder: Holder,
    },
    /// What the card may open; replaces its earlier enrolment whole.
    Enrol(Enrol),
    /// A new card; the holder's earlier ones open nothing from now on.
    Reissue {
        /// Whose.
        holder: Holder,
        /// The new card.
        new: CardUid,
        /// The old card; without it, all of the holder's other cards.
        #[arg(long, value_name = "UID")]
        old: Option<CardUid>,
    },
    /// The card is lost.
    ReportLost(Whose),
    /// The card was found.
    Found(Whose),
    /// Freeze the card.
    Freeze(Whose),
    /// Unfreeze the card.
    Unfreeze(Whose),
    /// End the card for ever.
    Cancel(Whose),
    /// Remove the enrolment.
    Withdraw(Whose),
    /// Undo a mistaken `cancel` or replacement.
    Reinstate {
        /// The card.
        uid: CardUid,
    },
    /// Power off in a room.
    SuspendPower(Power),
    /// Power on again in a room.
    ResumePower(Power),
    /// Define a schedule, whole: what is not given is closed.
    DefineSchedule(Define),
    /// Set the standing mode of portals.
    Posture {
        /// `secure`, `free_access`, `lockdown`, `out_of_service` or `fire`.
        #[arg(value_parser = posture)]
        posture: Posture,
        /// The portals, or `*` for all.
        #[arg(required = true, value_name = "PORTAL")]
        portals: Vec<String>,
        /// Until when, e.g. `2026-09-01T08:00:00Z`; then `secure`.
        #[arg(long, value_name = "TIME", value_parser = instant)]
        until: Option<Timestamp>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Enrol {
    /// The card.
    uid: CardUid,
    /// Whose it is.
    holder: Holder,
    /// Gates it opens: a zone or `*`. May be given again, as all of these.
    #[arg(long, value_name = "ZONE", value_parser = cell::zone_set)]
    gate: Vec<ZoneSet>,
    /// Doors it opens.
    #[arg(long, value_name = "ZONE", value_parser = cell::zone_set)]
    door: Vec<ZoneSet>,
    /// Power boxes it energises.
    #[arg(long, value_name = "ZONE", value_parser = cell::zone_set)]
    power: Vec<ZoneSet>,
    /// Anything else, e.g. `door:412:term`.
    #[arg(long, value_name = "KIND:ZONE[:SCHEDULE]", value_parser = cell::entitlement)]
    entitlement: Vec<Entitlement>,
    /// `resident`, `staff` or `visitor`.
    #[arg(long, default_value = "resident", value_parser = role)]
    role: Role,
    /// `second_token`, `extended_hold` or `duress`: what is special about the card. May be given again.
    #[arg(long, value_name = "MARK", value_parser = cell::mark)]
    mark: Vec<CardMark>,
    /// Valid from, inclusive, e.g. `2026-09-01T08:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_before: Option<Timestamp>,
    /// Valid until, exclusive.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    not_after: Option<Timestamp>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["uid", "holder"]))]
pub(super) struct Whose {
    /// The card.
    uid: Option<CardUid>,
    /// All cards that this holder has by now.
    #[arg(long, value_name = "HOLDER")]
    holder: Option<Holder>,
}

#[derive(Debug, Args)]
pub(super) struct Power {
    /// The room.
    zone: Zone,
    /// `arrears`, `overload`, `restricted_load` or `maintenance`.
    #[arg(value_parser = suspend_reason)]
    reason: SuspendReason,
}

#[derive(Debug, Args)]
pub(super) struct Define {
    /// Its name, as entitlements name it.
    name: ScheduleName,
    /// When it is open, e.g. `mon-fri=06:00-23:00` or `sat=06:00-12:00,22:00-02:00`. May be given again for other days.
    #[arg(long, value_name = "DAYS=WINDOWS", value_parser = days)]
    weekly: Vec<Days>,
    /// A date whose windows replace those of its weekday, e.g. `2026-10-01` (closed) or `2026-10-01=10:00-16:00`. May be given again.
    #[arg(long, value_name = "DATE[=WINDOWS]", value_parser = holiday)]
    holiday: Vec<Holiday>,
    /// Its time zone, e.g. `Asia/Shanghai`; without it that of each gateway.
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    timezone: Option<String>,
}

/// The windows of several days of the week, each counted from Monday.
#[derive(Clone, Debug)]
struct Days {
    days: RangeInclusive<usize>,
    windows: Vec<Window>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Open a gate or door once.
    Release {
        /// Which.
        portal: PortalId,
        #[command(flatten)]
        by: By,
    },
    /// Switch a power box.
    Power {
        /// Which.
        portal: PortalId,
        /// `on` or `off`.
        switch: Switch,
        #[command(flatten)]
        by: By,
    },
    /// Ask what would be decided for a card, and why. Opens nothing.
    Query {
        /// The card.
        uid: CardUid,
        /// Where; everywhere without it.
        portal: Option<PortalId>,
        #[command(flatten)]
        by: By,
    },
    /// Forget where a card is, for anti-passback.
    Forgive {
        /// The card, or `*` for all.
        #[arg(value_parser = card_or_all)]
        uid: CardSet,
        #[command(flatten)]
        by: By,
    },
    /// Make the gateway ask for a stream again.
    Resync {
        /// Which.
        stream: StreamName,
        #[command(flatten)]
        by: By,
    },
}

#[derive(Debug, Args)]
pub(super) struct By {
    /// Who orders it, for the audit, e.g. `staff:77`.
    #[arg(long, value_name = "WHO")]
    actor: Option<Actor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

fn one_of<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    let names = || all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| format!("one of {} is wanted", names()))
}

fn posture(text: &str) -> Result<Posture, String> {
    one_of(text, Posture::ALL, Posture::as_str)
}

fn role(text: &str) -> Result<Role, String> {
    one_of(text, Role::ALL, Role::as_str)
}

fn suspend_reason(text: &str) -> Result<SuspendReason, String> {
    one_of(text, SuspendReason::ALL, SuspendReason::as_str)
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "a time like `2026-09-01T08:00:00Z` or `2026-09-01T16:00:00+08:00` is wanted".to_owned())
}

fn zone(text: &str) -> Result<String, String> {
    let found = timezone(text).map(|(name, _)| name);
    found.ok_or_else(|| "an IANA time zone like `Asia/Shanghai` is wanted".to_owned())
}

fn windows(text: &str) -> Result<Vec<Window>, String> {
    text.split(',').map(|window| window.trim().parse().map_err(|e: WindowError| e.to_string())).collect()
}

fn days(text: &str) -> Result<Days, String> {
    let (days, text) = text.split_once('=').ok_or("days and their windows like `mon-fri=06:00-23:00` are wanted")?;
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let place = |day: &str| {
        let found = DAYS.iter().position(|known| *known == day);
        found.ok_or_else(|| format!("`{day}` is not a day of the week; write one of {}", DAYS.join(", ")))
    };
    let days = place(first)?..=place(last)?;
    if days.is_empty() {
        return Err(format!("`{last}` is before `{first}`; give the two parts one by one"));
    }
    Ok(Days { days, windows: windows(text)? })
}

fn holiday(text: &str) -> Result<Holiday, String> {
    let (date, text) = text.split_once('=').map_or((text, None), |(date, text)| (date, Some(text)));
    let date = date.parse().map_err(|e: DayError| e.to_string())?;
    Ok(Holiday { date, windows: text.map_or(Ok(Vec::new()), windows)? })
}

fn card_or_all(text: &str) -> Result<CardSet, String> {
    text.parse().map_err(|e| format!("{e}; or `*` for all"))
}

impl Whose {
    fn subject(&self) -> Result<Subject, String> {
        match (&self.uid, &self.holder) {
            (Some(uid), None) => Ok(Subject::Card(*uid)),
            (None, Some(holder)) => Ok(Subject::Holder(holder.clone())),
            (Some(_), Some(_)) | (None, None) => Err("give either a UID or `--holder HOLDER`".to_owned()),
        }
    }
}

impl Op {
    /// The op; an error the argument parser cannot see.
    pub(super) fn change(&self) -> Result<Change, String> {
        let set = |whose: &Whose, flag, on| Ok(Change::SetFlag { subject: whose.subject()?, flag, on });
        let power =
            |power: &Power, suspended| Ok(Change::Power { zone: power.zone.clone(), reason: power.reason, suspended });
        match self {
            Self::Issue { uid, holder } => Ok(Change::Issue { uid: *uid, holder: holder.clone() }),
            Self::Enrol(enrol) => Ok(enrol.change()),
            Self::Reissue { holder, new, old } => {
                Ok(Change::Reissue { holder: holder.clone(), new_uid: *new, old_uid: *old })
            }
            Self::ReportLost(whose) => set(whose, Flag::Lost, true),
            Self::Found(whose) => set(whose, Flag::Lost, false),
            Self::Freeze(whose) => set(whose, Flag::Frozen, true),
            Self::Unfreeze(whose) => set(whose, Flag::Frozen, false),
            Self::Cancel(whose) => set(whose, Flag::Cancelled, true),
            Self::Withdraw(whose) => Ok(Change::Withdraw { subject: whose.subject()? }),
            Self::Reinstate { uid } => Ok(Change::Reinstate { uid: *uid }),
            Self::SuspendPower(room) => power(room, true),
            Self::ResumePower(room) => power(room, false),
            Self::DefineSchedule(define) => define.change(),
            Self::Posture { posture, portals, until } => {
                let portals = match portals.as_slice() {
                    [all] if all == "*" => PortalSet::All,
                    names => {
                        let parsed: Result<Vec<PortalId>, _> = names.iter().map(|name| name.parse()).collect();
                        PortalSet::Some(parsed.map_err(|e| format!("{e}; or `*` alone for all"))?)
                    }
                };
                Ok(Change::SetPosture { portals, posture: *posture, until: *until })
            }
        }
    }
}

impl Define {
    fn change(&self) -> Result<Change, String> {
        let mut schedule = Schedule { timezone: self.timezone.clone(), ..Schedule::default() };
        for Days { days, windows } in &self.weekly {
            for day in days.clone() {
                if let (Some(of_day), Some(name)) = (schedule.weekly.get_mut(day), DAYS.get(day)) {
                    if !of_day.is_empty() {
                        return Err(format!("`{name}` is given twice; join its windows with a comma"));
                    }
                    of_day.clone_from(windows);
                }
            }
        }
        for holiday in &self.holiday {
            if schedule.holidays.iter().any(|other| other.date == holiday.date) {
                return Err(format!("`{}` is given twice; join its windows with a comma", holiday.date));
            }
            schedule.holidays.push(holiday.clone());
        }
        Ok(Change::DefineSchedule { name: self.name.clone(), schedule })
    }
}

impl Enrol {
    fn change(&self) -> Change {
        let kinds =
            [(PortalKind::Gate, &self.gate), (PortalKind::Door, &self.door), (PortalKind::PowerBox, &self.power)];
        let of = |(kind, zones): (PortalKind, &Vec<ZoneSet>)| {
            zones.iter().map(|zone| Entitlement { kind, zone: zone.clone(), schedule: None }).collect::<Vec<_>>()
        };
        let mut entitlements: Vec<_> = kinds.into_iter().flat_map(of).collect();
        entitlements.extend(self.entitlement.iter().cloned());
        let enrolment = Enrolment {
            holder: self.holder.clone(),
            role: self.role,
            marks: self.mark.iter().copied().collect(),
            not_before: self.not_before,
            not_after: self.not_after,
            entitlements,
        };
        Change::Enrol { uid: self.uid, enrolment }
    }
}

impl Order {
    /// The command, and who gives it.
    pub(super) fn command(&self) -> (CommandKind, Option<&str>) {
        let (kind, by) = match self {
            Self::Release { portal, by } => (CommandKind::Release { portal: portal.clone() }, by),
            Self::Power { portal, switch, by } => {
                (CommandKind::Power { portal: portal.clone(), on: *switch == Switch::On }, by)
            }
            Self::Query { uid, portal, by } => (CommandKind::Query { uid: *uid, portal: portal.clone() }, by),
            Self::Forgive { uid, by } => (CommandKind::Forgive { uid: *uid }, by),
            Self::Resync { stream, by } => (CommandKind::Resync { stream: stream.clone() }, by),
        };
        (kind, by.actor.as_ref().map(Actor::as_str))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        op: Op,
    }

    fn defined(args: &str) -> Result<Schedule, String> {
        let words = ["x", "define-schedule", "term"].into_iter().chain(args.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        match line.op.change()? {
            Change::DefineSchedule { schedule, .. } => Ok(schedule),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_schedule_is_given_by_days_and_dates() {
        let windows = |text: &str| text.split(',').map(|window| window.parse().unwrap()).collect::<Vec<Window>>();
        let args = "--weekly mon-fri=06:00-23:00 --weekly sun=06:00-12:00,22:00-02:00 --holiday 2026-10-01 \
                    --holiday 2026-10-02=10:00-16:00 --timezone asia/shanghai";
        let schedule = defined(args).unwrap();
        let week = schedule.weekly.map(|day| day.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        let term = "06:00-23:00";
        assert_eq!(week, [term, term, term, term, term, "", "06:00-12:00,22:00-02:00"]);
        let holiday = |date: &str, windows| Holiday { date: date.parse().unwrap(), windows };
        let holidays = [holiday("2026-10-01", Vec::new()), holiday("2026-10-02", windows("10:00-16:00"))];
        assert_eq!((schedule.holidays, schedule.timezone.as_deref()), (holidays.to_vec(), Some("Asia/Shanghai")));
        assert_eq!(defined("").unwrap(), Schedule::default(), "closed at all times");
    }

    #[test]
    fn a_schedule_that_is_not_clear_is_refused() {
        for (args, reported) in [
            ("--weekly mon", "mon-fri=06:00-23:00"),
            ("--weekly monday=06:00-23:00", "mon, tue"),
            ("--weekly sat-mon=06:00-23:00", "one by one"),
            ("--weekly mon=6-23", "06:00-23:00"),
            ("--weekly mon-fri=06:00-23:00 --weekly fri=23:30-24:00", "`fri` is given twice"),
            ("--holiday 2026-13-01", "2026-10-01"),
            ("--holiday 2026-10-01 --holiday 2026-10-01=10:00-16:00", "`2026-10-01` is given twice"),
            ("--timezone Nanhu", "Asia/Shanghai"),
        ] {
            let refused = defined(args).unwrap_err();
            assert!(refused.contains(reported), "{args}: {refused}");
        }
    }
}
