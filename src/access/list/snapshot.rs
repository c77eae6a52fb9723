//! What a stream owns of a list, as the entries of a snapshot: for a center that has the list.

use super::super::change::{RegisterKind, RegisterKinds};
use super::super::snapshot::{EnrolmentEntry, SnapshotEntry, StandingEntry};
use super::AccessList;
use super::card::CardRecord;

impl AccessList {
    /// The entries of a snapshot of the stream that owns `owns`: one a card, so as many cards as entries name one.
    #[must_use]
    pub fn snapshot(&self, owns: &RegisterKinds) -> Vec<SnapshotEntry> {
        let mut entries = Vec::new();
        let [standing, enrolment] = [RegisterKind::Standing, RegisterKind::Enrolment].map(|kind| owns.contains(&kind));
        for place in 0..self.len() {
            let Some(card) = self.record_at(place) else { continue };
            let is_in_force = self.enrolment_in_force_at(place);
            let CardRecord { uid, birth, issued_to, flags, enrolment: register } = card;
            let named = birth.is_some() || issued_to.is_some() || !flags.is_empty();
            let issued_to = issued_to.map(|(_, holder)| holder);
            let standing = (standing && named).then_some(StandingEntry { issued_to, birth, flags });
            let enrolment = register.filter(|_| enrolment).map(|(revision, register)| EnrolmentEntry {
                revision: Some(revision),
                enrolment: register.filter(|_| is_in_force),
            });
            if standing.is_some() || enrolment.is_some() {
                entries.push(SnapshotEntry::Card { uid, standing, enrolment });
            }
        }
        if owns.contains(&RegisterKind::Standing) {
            let holders = self.holder_entries().filter(|entry| !entry.flags.is_empty());
            entries.extend(holders.map(|entry| SnapshotEntry::Holder { holder: entry.holder, flags: entry.flags }));
        }
        self.site_entries(owns, &mut entries);
        entries
    }

    fn site_entries(&self, owns: &RegisterKinds, entries: &mut Vec<SnapshotEntry>) {
        let site = &self.site;
        if owns.contains(&RegisterKind::Power) {
            for (zone, reasons) in &site.power {
                let reasons: Vec<_> = reasons.iter().filter(|(_, r)| r.on).map(|(reason, _)| *reason).collect();
                if !reasons.is_empty() {
                    entries.push(SnapshotEntry::Power { zone: zone.clone(), reasons });
                }
            }
        }
        if owns.contains(&RegisterKind::Posture) {
            let all = site.all_portals.as_ref();
            let own = site.portals.iter().filter(|(_, own)| all.is_none_or(|all| own.revision > all.revision));
            let own = own.map(|(portal, register)| (Some(portal.clone()), register));
            entries.extend(all.map(|register| (None, register)).into_iter().chain(own).map(|(portal, register)| {
                SnapshotEntry::Posture { portal, posture: register.posture, until: register.until }
            }));
        }
        if owns.contains(&RegisterKind::Schedule) {
            entries.extend(site.schedules.iter().map(|(name, register)| SnapshotEntry::Schedule {
                name: name.clone(),
                revision: register.revision,
                schedule: register.schedule.clone(),
            }));
        }
    }
}
