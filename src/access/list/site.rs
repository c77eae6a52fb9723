//! The registers of rooms, portals and schedules: suspended power, standing modes, weekly windows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::change::{RegisterKind, RegisterKinds, SuspendReason};
use super::super::credential::FlagRegister;
use super::super::id::{PortalId, Revision, ScheduleName, Timestamp, Zone};
use super::super::portal::Posture;
use super::super::schedule::Schedule;

/// A posture and the op that set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureRegister {
    /// The op that last wrote it.
    pub revision: Revision,
    /// The mode.
    pub posture: Posture,
    /// Until when; then `secure`, and no older posture comes back.
    pub until: Option<Timestamp>,
}

/// A schedule and the op that defined it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRegister {
    /// The op that last wrote it.
    pub revision: Revision,
    /// The windows.
    pub schedule: Schedule,
}

/// The registers of rooms, portals and schedules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Suspended power by room, one register a reason.
    pub power: BTreeMap<Zone, BTreeMap<SuspendReason, FlagRegister>>,
    /// The posture of `*`.
    pub all_portals: Option<PostureRegister>,
    /// The postures of single portals.
    pub portals: BTreeMap<PortalId, PostureRegister>,
    /// The schedules.
    pub schedules: BTreeMap<ScheduleName, ScheduleRegister>,
}

impl Site {
    /// Whether power in `zone` is suspended for `reason`.
    #[must_use]
    pub fn is_suspended_for(&self, zone: &Zone, reason: SuspendReason) -> bool {
        self.power.get(zone).and_then(|reasons| reasons.get(&reason)).is_some_and(|register| register.on)
    }

    /// Whether power in `zone` is suspended for any reason but this.
    #[must_use]
    pub fn is_suspended_beside(&self, zone: &Zone, reason: SuspendReason) -> bool {
        let beside = |(other, register): (&SuspendReason, &FlagRegister)| *other != reason && register.on;
        self.power.get(zone).is_some_and(|reasons| reasons.iter().any(beside))
    }

    /// The posture that the centers set for `portal`: the newer of its own register and that of `*`.
    #[must_use]
    pub fn posture(&self, portal: &PortalId) -> Option<&PostureRegister> {
        self.portals.get(portal).into_iter().chain(&self.all_portals).max_by_key(|register| register.revision)
    }

    /// The earliest end of a posture after `now`.
    #[must_use]
    pub fn next_posture_end(&self, now: Timestamp) -> Option<Timestamp> {
        let all = self.portals.values().chain(&self.all_portals);
        all.filter_map(|r| r.until).filter(|until| *until > now).min()
    }

    /// The revisions of all registers of these kinds.
    pub(super) fn revisions_mut(&mut self, kinds: &RegisterKinds) -> impl Iterator<Item = &mut Revision> {
        let [power, schedule, posture] =
            [RegisterKind::Power, RegisterKind::Schedule, RegisterKind::Posture].map(|kind| kinds.contains(&kind));
        let power =
            self.power.values_mut().flat_map(|r| r.values_mut()).map(|r| &mut r.revision).filter(move |_| power);
        let schedules = self.schedules.values_mut().map(|r| &mut r.revision).filter(move |_| schedule);
        let postures = self.all_portals.iter_mut().chain(self.portals.values_mut());
        power.chain(schedules).chain(postures.map(|r| &mut r.revision).filter(move |_| posture))
    }

    /// The revision of the newest register of this kind.
    pub(super) fn newest(&self, kind: RegisterKind) -> Option<Revision> {
        match kind {
            RegisterKind::Power => self.power.values().flat_map(BTreeMap::values).map(|r| r.revision).max(),
            RegisterKind::Schedule => self.schedules.values().map(|r| r.revision).max(),
            RegisterKind::Posture => self.portals.values().chain(&self.all_portals).map(|r| r.revision).max(),
            RegisterKind::Standing | RegisterKind::Enrolment => None,
        }
    }

    pub(super) fn set_power(&mut self, zone: &Zone, reason: SuspendReason, revision: Revision, on: bool) {
        let reasons = self.power.entry(zone.clone()).or_default();
        let register = reasons.entry(reason).or_insert(FlagRegister { revision, on });
        if register.revision < revision {
            *register = FlagRegister { revision, on };
        }
    }

    pub(super) fn set_posture(&mut self, portal: Option<&PortalId>, new: PostureRegister) {
        let old = match portal {
            None => self.all_portals.get_or_insert(new),
            Some(id) => self.portals.entry(id.clone()).or_insert(new),
        };
        if old.revision < new.revision {
            *old = new;
        }
    }

    pub(super) fn define_schedule(&mut self, name: &ScheduleName, revision: Revision, schedule: &Schedule) {
        let new = ScheduleRegister { revision, schedule: schedule.clone() };
        let old = self.schedules.entry(name.clone()).or_insert_with(|| new.clone());
        if old.revision < revision {
            *old = new;
        }
    }
}
