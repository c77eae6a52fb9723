//! One entry of a snapshot, read and written. The fields that an entry has show what it is about.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::super::json::{Wrong, invalid};
use super::super::ops::{Body, EnrolmentBody, EntitlementBody, Judge, PortalsBody};
use super::super::schedule::{HolidayBody, ScheduleBody, WeekBody};
use crate::access::change::{ErrorCode, Position, RegisterKind, RegisterKinds, SuspendReason};
use crate::access::credential::{CardMark, Flag, Flags, Role};
use crate::access::id::{CardUid, Holder, Revision, ScheduleName, Timestamp, Zone};
use crate::access::portal::Posture;
use crate::access::snapshot::{EnrolmentEntry, SnapshotEntry, StandingEntry};

/// `[epoch, seq, place]`.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct RevisionBody(NonZeroU32, u64, u32);

/// Flags with the revisions that last wrote them. A misspelt flag would be a lost revocation, so an unknown one is refused.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FlagsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<RevisionBody>,
}

/// One entry; each kind of entry has some of these fields.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, expecting = "an entry in braces")]
pub(super) struct EntryBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<CardUid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marks: Option<Vec<CardMark>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entitlements: Option<Vec<EntitlementBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    born: Option<RevisionBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<FlagsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared: Option<FlagsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power: Option<Vec<SuspendReason>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    posture: Option<Posture>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weekly: Option<WeekBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holidays: Option<Vec<HolidayBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

impl From<Revision> for RevisionBody {
    fn from(revision: Revision) -> Self {
        Self(revision.epoch, revision.seq, revision.place)
    }
}

impl RevisionBody {
    /// The revision, if a snapshot at `at` can contain it.
    fn within(self, at: Position, field: &str) -> Result<Revision, Wrong> {
        let Self(epoch, seq, place) = self;
        if (Position { epoch, seq }) > at {
            let what = format!(
                "revision {epoch}.{seq}.{place} is newer than the snapshot, which is at {}.{}",
                at.epoch, at.seq
            );
            return Err(invalid(field, what));
        }
        Ok(Revision { epoch, seq, place })
    }
}

impl FlagsBody {
    fn of(flags: &Flags, on: bool) -> Option<Self> {
        let revision = |flag| flags.get(flag).filter(|register| register.on == on).map(|r| r.revision.into());
        let [lost, frozen, replaced, cancelled] =
            [Flag::Lost, Flag::Frozen, Flag::Replaced, Flag::Cancelled].map(revision);
        let is_empty = [lost, frozen, replaced, cancelled].iter().all(Option::is_none);
        (!is_empty).then_some(Self { lost, frozen, replaced, cancelled })
    }

    fn write(self, flags: &mut Flags, on: bool, at: Position) -> Result<(), Wrong> {
        for (flag, revision) in [
            (Flag::Lost, self.lost),
            (Flag::Frozen, self.frozen),
            (Flag::Replaced, self.replaced),
            (Flag::Cancelled, self.cancelled),
        ] {
            let Some(revision) = revision else { continue };
            let field = format!("{}.{}", if on { "set" } else { "cleared" }, flag.as_str());
            let revision = revision.within(at, &field)?;
            if flags.get(flag).is_some() {
                return Err(invalid(field, "is in `set` too; a flag is either set or cleared"));
            }
            flags.write(flag, revision, on);
        }
        Ok(())
    }
}

impl EntryBody {
    pub fn into_entry(self, at: Position, judge: &Judge<RegisterKinds>) -> Result<SnapshotEntry, Wrong> {
        let entry = self.parse(at, judge)?;
        let Judge::Arrival(owns) = judge else { return Ok(entry) };
        let (field, kinds): (&str, &[RegisterKind]) = match &entry {
            SnapshotEntry::Card { standing: Some(_), enrolment: None, .. } => ("uid", &[RegisterKind::Standing]),
            SnapshotEntry::Card { standing: Some(_), enrolment: Some(_), .. } => {
                ("uid", &[RegisterKind::Standing, RegisterKind::Enrolment])
            }
            SnapshotEntry::Card { standing: None, .. } => ("uid", &[RegisterKind::Enrolment]),
            SnapshotEntry::Holder { .. } => ("holder", &[RegisterKind::Standing]),
            SnapshotEntry::Power { .. } => ("power", &[RegisterKind::Power]),
            SnapshotEntry::Posture { .. } => ("posture", &[RegisterKind::Posture]),
            SnapshotEntry::Schedule { .. } => ("schedule", &[RegisterKind::Schedule]),
        };
        match kinds.iter().find(|kind| !owns.contains(kind)) {
            Some(kind) => {
                let what = format!(
                    "this stream is not allowed what writes {}: its `may` at the gateway names none of these ops",
                    kind.as_str()
                );
                Err((ErrorCode::ForbiddenOp, field.to_owned(), what))
            }
            None => Ok(entry),
        }
    }

    fn parse(mut self, at: Position, judge: &Judge<RegisterKinds>) -> Result<SnapshotEntry, Wrong> {
        let mut flags = Flags::default();
        let names_flags = self.set.is_some() || self.cleared.is_some();
        self.set.take().map_or(Ok(()), |set| set.write(&mut flags, true, at))?;
        self.cleared.take().map_or(Ok(()), |cleared| cleared.write(&mut flags, false, at))?;
        if let Some(uid) = self.uid {
            return self.card(uid, names_flags.then_some(flags), at, judge);
        }
        if let Some(holder) = self.holder.filter(|_| names_flags) {
            return Ok(SnapshotEntry::Holder { holder, flags });
        }
        if let (Some(zone), Some(reasons)) = (self.zone, self.power) {
            return Ok(SnapshotEntry::Power { zone, reasons });
        }
        if let (Some(portal), Some(posture)) = (&self.portal, self.posture) {
            let until = self.until;
            let portal = match portal.as_str() {
                "*" => None,
                name => Some(name.parse().map_err(|_| invalid("portal", "a portal's name or `*` is wanted"))?),
            };
            judge.check(&Body::SetPosture { portals: PortalsBody::One("*".to_owned()), posture, until })?;
            return Ok(SnapshotEntry::Posture { portal, posture, until });
        }
        if let (Some(name), Some(weekly)) = (self.schedule, self.weekly) {
            let Some(rev) = self.rev else {
                return Err(invalid("rev", "is missing; add the revision that last defined the schedule"));
            };
            let revision = rev.within(at, "rev")?;
            let body = ScheduleBody { name: name.clone(), weekly, holidays: self.holidays, timezone: self.timezone };
            return Ok(SnapshotEntry::Schedule { name, revision, schedule: body.into_schedule()? });
        }
        let what = "the entry names nothing: give a card (`uid`), a holder with `set` or `cleared`, `zone` with `power`, \
                    `portal` with `posture`, or `schedule` with `weekly`";
        Err(invalid("", what))
    }

    fn card(
        self,
        uid: CardUid,
        flags: Option<Flags>,
        at: Position,
        judge: &Judge<RegisterKinds>,
    ) -> Result<SnapshotEntry, Wrong> {
        let birth = self.born.map(|born| born.within(at, "born")).transpose()?;
        let is_standing = birth.is_some() || flags.is_some();
        // Beside an enrolment `holder` is the enrolment's; the card is issued to the same one if the entry names its birth.
        let issued_to = self.holder.clone().filter(|_| birth.is_some() || self.entitlements.is_none());
        let standing = is_standing.then(|| StandingEntry { issued_to, birth, flags: flags.unwrap_or_default() });
        let revision = self.rev.map(|rev| rev.within(at, "rev")).transpose()?;
        let enrolment = match (self.entitlements, self.withdrawn) {
            (Some(entitlements), None) => {
                let holder = self.holder.ok_or_else(|| invalid("holder", "is missing; add it"))?;
                let (role, marks, not_before, not_after) = (self.role, self.marks, self.not_before, self.not_after);
                let body = Body::Enrol(EnrolmentBody { uid, holder, role, marks, entitlements, not_before, not_after });
                judge.check(&body)?;
                let Body::Enrol(body) = body else { return Err(invalid("uid", "cannot be read")) };
                Some(EnrolmentEntry { revision, enrolment: Some(body.into_enrolment()?) })
            }
            (None, Some(withdrawn)) => {
                Some(EnrolmentEntry { revision: Some(withdrawn.within(at, "withdrawn")?), enrolment: None })
            }
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(invalid("withdrawn", "stands beside `entitlements`; a card is enrolled or withdrawn"));
            }
        };
        if standing.is_none() && enrolment.is_none() {
            let what = "the entry names a card and nothing more; add `entitlements`, `born`, `set` or `cleared`";
            return Err(invalid("uid", what));
        }
        if birth.is_none() {
            judge.check(&Body::Reinstate { uid })?;
        } else if let Some(holder) = standing.as_ref().and_then(|s| s.issued_to.clone()) {
            judge.check(&Body::Issue { uid, holder })?;
        }
        Ok(SnapshotEntry::Card { uid, standing, enrolment })
    }
}

/// The bodies of an entry: two for a card whose standing and enrolment name different holders.
pub(super) fn written(entry: &SnapshotEntry) -> Vec<EntryBody> {
    match entry {
        SnapshotEntry::Card { uid, standing, enrolment } => written_card(*uid, standing.as_ref(), enrolment.as_ref()),
        SnapshotEntry::Holder { holder, flags } => vec![EntryBody {
            holder: Some(holder.clone()),
            set: FlagsBody::of(flags, true),
            cleared: FlagsBody::of(flags, false),
            ..EntryBody::default()
        }],
        SnapshotEntry::Power { zone, reasons } => {
            vec![EntryBody { zone: Some(zone.clone()), power: Some(reasons.clone()), ..EntryBody::default() }]
        }
        SnapshotEntry::Posture { portal, posture, until } => vec![EntryBody {
            portal: Some(portal.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string)),
            posture: Some(*posture),
            until: *until,
            ..EntryBody::default()
        }],
        SnapshotEntry::Schedule { name, revision, schedule } => {
            let ScheduleBody { name, weekly, holidays, timezone } = ScheduleBody::of(name, schedule);
            let rev = Some((*revision).into());
            vec![EntryBody {
                schedule: Some(name),
                rev,
                weekly: Some(weekly),
                holidays,
                timezone,
                ..EntryBody::default()
            }]
        }
    }
}

fn written_card(uid: CardUid, standing: Option<&StandingEntry>, enrolment: Option<&EnrolmentEntry>) -> Vec<EntryBody> {
    let of_standing = |standing: &StandingEntry| EntryBody {
        uid: Some(uid),
        holder: standing.issued_to.clone(),
        born: standing.birth.map(Into::into),
        set: FlagsBody::of(&standing.flags, true),
        cleared: FlagsBody::of(&standing.flags, false),
        ..EntryBody::default()
    };
    let of_enrolment = |entry: &EnrolmentEntry| {
        let rev = entry.revision.map(RevisionBody::from);
        let Some(enrolment) = &entry.enrolment else {
            return EntryBody { uid: Some(uid), withdrawn: rev, ..EntryBody::default() };
        };
        let EnrolmentBody { holder, role, marks, entitlements, not_before, not_after, .. } =
            EnrolmentBody::of(uid, enrolment);
        let holder = Some(holder);
        EntryBody {
            uid: Some(uid),
            holder,
            role,
            marks,
            entitlements: Some(entitlements),
            not_before,
            not_after,
            rev,
            ..EntryBody::default()
        }
    };
    match (standing, enrolment.map(of_enrolment)) {
        (None, None) => Vec::new(),
        (Some(standing), None) => vec![of_standing(standing)],
        (None, Some(enrolment)) => vec![enrolment],
        (Some(standing), Some(enrolment)) => {
            let standing = of_standing(standing);
            if standing.born.is_some() && (enrolment.holder.is_none() || standing.holder == enrolment.holder) {
                let EntryBody { holder, born, set, cleared, .. } = standing;
                vec![EntryBody { holder, born, set, cleared, ..enrolment }]
            } else {
                vec![standing, enrolment]
            }
        }
    }
}
