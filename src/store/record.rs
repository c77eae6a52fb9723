//! The access state as the fold of the journal, and as records on disk: one value a card, a holder, a stream and so on.
//!
//! A value is a format version and an [`Entry`] in postcard, a documented, stable and compact serde format. A value that cannot
//! be read is an error that names its place; nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Fold;
use crate::access::change::{RegisterKind, SuspendReason};
use crate::access::credential::{CardMark, FlagRegister};
use crate::access::event::{AuditEvent, Event};
use crate::access::id::{CardUid, GatewayId, PortalId, ScheduleName, StreamName, Timestamp, Zone};
use crate::access::list::{CardRecord, HolderEntry, PostureRegister, ScheduleRegister};
use crate::access::moment::Moment;
use crate::access::portal::Posture;
use crate::access::power_box::PowerSource;
use crate::access::presence::Passage;
use crate::access::revocation::Revocation;
use crate::access::state::State;
use crate::access::stream::StreamTrack;
use crate::access::trip::TripRecord;
use crate::wire::{down, snapshot};

/// Leads every value. A generation of another version is set aside and its state replayed from the journal. Before it is raised,
/// keep a directory of the program that writes this one: `tests/formats/README.md`.
const RECORD_VERSION: u8 = 11;
/// The oldest version that is read. Version 6 added the entries `Passages` and `ReportsPassing`, version 7 `Trips`, version 8
/// `DayOfVisitor`, version 9 `Marks`, version 10 `BoxOff`, version 11 `Gateway` and `Owner`.
const RECORD_VERSION_MIN: u8 = 5;

/// One value. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Card(CardRecord),
    Holder(HolderEntry),
    Stream(StreamName, StreamTrack),
    Box(PortalId, PowerSource),
    Command(String, Timestamp),
    Operator(Option<PortalId>, Posture),
    Power(Zone, BTreeMap<SuspendReason, FlagRegister>),
    Posture(Option<PortalId>, PostureRegister),
    Schedule(ScheduleName, ScheduleRegister),
    Rest {
        fire: bool,
        fire_inputs: BTreeSet<PortalId>,
        last_n: u64,
        trusted_at: Timestamp,
    },
    Revocation(u64, Revocation),
    Passages(CardUid, Vec<Passage>),
    ReportsPassing(PortalId),
    Trips(PortalId, Vec<TripRecord>),
    DayOfVisitor(CardUid, Timestamp),
    /// The marks of the card's enrolment; follows the card.
    Marks(CardUid, Vec<CardMark>),
    /// When a power box that is not on was switched off.
    BoxOff(PortalId, Moment),
    /// Whose state it is.
    Gateway(GatewayId),
    /// Which stream numbers the registers of a kind.
    Owner(RegisterKind, StreamName),
}

impl Entry {
    fn encode(&self) -> Result<Vec<u8>, String> {
        postcard::to_extend(self, vec![RECORD_VERSION]).map_err(|error| format!("{self:?} cannot be encoded: {error}"))
    }

    fn decode(value: &[u8]) -> Result<Self, String> {
        match value.split_first() {
            None => Err("it is empty".to_owned()),
            Some((&(RECORD_VERSION_MIN..=RECORD_VERSION), body)) => match postcard::take_from_bytes(body) {
                Ok((entry, [])) => Ok(entry),
                Ok((_, rest)) => Err(format!("{} bytes follow it", rest.len())),
                Err(error) => Err(error.to_string()),
            },
            Some((version, _)) => {
                Err(format!("it has version {version}, this program reads {RECORD_VERSION_MIN} to {RECORD_VERSION}"))
            }
        }
    }

    fn restore(self, state: &mut State) {
        let site = &mut state.list.site;
        match self {
            Self::Card(card) => state.list.restore_card(&card),
            Self::Holder(holder) => state.list.restore_holder(&holder),
            Self::Stream(name, track) => state.streams.extend([(name, track)]),
            Self::Box(portal, source) => state.boxes.extend([(portal, source)]),
            Self::BoxOff(portal, moment) => state.boxes_off.extend([(portal, moment)]),
            Self::Gateway(gateway) => state.gateway = Some(gateway),
            Self::Owner(kind, stream) => state.owners.extend([(kind, stream)]),
            Self::Command(jti, exp) => state.commands.extend([(jti, exp)]),
            Self::Revocation(n, revocation) => state.revocations.insert(n, revocation),
            Self::Passages(uid, passages) => state.presence.restore(uid, passages),
            Self::ReportsPassing(portal) => state.presence.restore_reporting(portal),
            Self::DayOfVisitor(uid, made) => state.list.made_on(uid, made),
            Self::Trips(portal, trips) => state.trips.extend([(portal, trips)]),
            Self::Marks(uid, marks) => state.list.restore_marks(uid, marks.into_iter().collect()),
            Self::Operator(portal, posture) => state.operator.extend([(portal, posture)]),
            Self::Power(zone, reasons) => site.power.extend([(zone, reasons)]),
            Self::Posture(None, register) => site.all_portals = Some(register),
            Self::Posture(Some(portal), register) => site.portals.extend([(portal, register)]),
            Self::Schedule(name, register) => site.schedules.extend([(name, register)]),
            Self::Rest { fire, fire_inputs, last_n, trusted_at } => {
                (state.fire, state.fire_inputs, state.last_n, state.trusted_at) =
                    (fire, fire_inputs, last_n, trusted_at);
            }
        }
    }
}

impl Fold for State {
    fn apply(&mut self, event: &AuditEvent, evidence: &[u8]) -> Result<(), String> {
        match &event.body {
            Event::ChangesApplied { snapshot: None, .. } => {}
            Event::ChangesApplied { snapshot: Some(applied), .. } => {
                let snapshot = snapshot::read_evidence(evidence)?;
                self.fold_snapshot(event, &snapshot, &applied.owns);
                return Ok(());
            }
            _ => {
                self.fold(event, None);
                return Ok(());
            }
        }
        match down::read_evidence(evidence) {
            Ok(parsed) if parsed.content.is_ok() => {
                self.fold(event, Some(&parsed));
                Ok(())
            }
            // It was understood when it arrived, so this program is older than the one that wrote it, or the bytes changed.
            Ok(parsed) => Err(parsed.content.err().map_or(String::new(), |errors| format!("{errors:?}"))),
            Err(refused) => Err(refused.error.message),
        }
    }

    fn later_version(record: &[u8]) -> Option<u8> {
        record.first().copied().filter(|version| *version > RECORD_VERSION)
    }

    fn cards_from(&self, from: usize) -> Vec<CardUid> {
        (from..self.list.len()).filter_map(|place| self.list.uid_at(place)).collect()
    }

    fn export(&self) -> Result<Vec<Vec<u8>>, String> {
        let site = &self.list.site;
        let cards = (0..self.list.len()).filter_map(|place| self.list.record_at(place)).map(Entry::Card);
        let marks = (0..self.list.len()).filter_map(|place| {
            let marks: Vec<_> = self.list.marks_at(place).iter().collect();
            Some(Entry::Marks(self.list.uid_at(place).filter(|_| !marks.is_empty())?, marks))
        });
        let holders = self.list.holder_entries().map(Entry::Holder);
        let streams = self.streams.iter().map(|(name, track)| Entry::Stream(name.clone(), track.clone()));
        let boxes = self.boxes.iter().map(|(portal, source)| Entry::Box(portal.clone(), *source));
        let boxes_off = self.boxes_off.iter().map(|(portal, moment)| Entry::BoxOff(portal.clone(), *moment));
        let commands = self.commands.iter().map(|(jti, exp)| Entry::Command(jti.clone(), *exp));
        let operator = self.operator.iter().map(|(portal, posture)| Entry::Operator(portal.clone(), *posture));
        let power = site.power.iter().map(|(zone, reasons)| Entry::Power(zone.clone(), reasons.clone()));
        let all_portals = site.all_portals.iter().map(|register| Entry::Posture(None, *register));
        let portals = site.portals.iter().map(|(portal, register)| Entry::Posture(Some(portal.clone()), *register));
        let schedules = site.schedules.iter().map(|(name, register)| Entry::Schedule(name.clone(), register.clone()));
        let rest = Entry::Rest {
            fire: self.fire,
            fire_inputs: self.fire_inputs.clone(),
            last_n: self.last_n,
            trusted_at: self.trusted_at,
        };
        let revocations = self.revocations.all().map(|(n, revocation)| Entry::Revocation(n, revocation.clone()));
        let by_card: BTreeMap<_, _> = self.presence.all().collect();
        let passages = by_card.into_iter().map(|(uid, passages)| Entry::Passages(uid, passages.to_vec()));
        let reporting = self.presence.reporting().map(|portal| Entry::ReportsPassing(portal.clone()));
        let visitors = self.list.days_of_visitors().map(|(uid, made)| Entry::DayOfVisitor(uid, made));
        let presence = passages.chain(reporting);
        let trips = self.trips.iter().map(|(portal, trips)| Entry::Trips(portal.clone(), trips.clone()));
        let list = cards.chain(visitors).chain(marks).chain(holders).chain(streams).chain(revocations);
        let set = boxes.chain(commands).chain(operator).chain(power).chain(all_portals).chain(portals).chain(schedules);
        let gateway = self.gateway.iter().map(|gateway| Entry::Gateway(gateway.clone()));
        let owners = self.owners.iter().map(|(kind, stream)| Entry::Owner(*kind, stream.clone()));
        list.chain(set)
            .chain(presence)
            .chain(trips)
            .chain(gateway)
            .chain(owners)
            .chain(boxes_off)
            .chain([rest])
            .map(|entry| entry.encode())
            .collect()
    }

    fn import(values: &[Vec<u8>]) -> Result<Self, String> {
        let mut state = Self::default();
        for (place, value) in values.iter().enumerate() {
            let entry = Entry::decode(value).map_err(|why| format!("record {place} of {}: {why}", values.len()))?;
            entry.restore(&mut state);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::change::{Changes, Op, Position, Subject};
    use crate::access::credential::{Enrolment, Entitlement, Flag, Role, ZoneSet};
    use crate::access::event::{Confirmation, StreamRevision};
    use crate::access::id::{ClockTrust, Holder, Mono, Now, Revision};
    use crate::access::portal::{Direction, PortalKind};
    use crate::access::presence::Certainty;
    use crate::access::revocation::Confirmed;
    use crate::access::schedule::{Holiday, Schedule, Window};

    fn uid(text: &str) -> CardUid {
        text.parse().unwrap()
    }

    fn at(seq: u64) -> Position {
        Position { epoch: NonZeroU32::new(3).unwrap(), seq }
    }

    /// A state with something in each of its fields.
    fn state() -> State {
        let mut state = State::default();
        let holder: Holder = "08193021".parse().unwrap();
        let entitlements = vec![
            Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None },
            Entitlement {
                kind: PortalKind::PowerBox,
                zone: ZoneSet::One("412".parse().unwrap()),
                schedule: Some("term".parse().unwrap()),
            },
        ];
        let (not_before, not_after) = (Some(Timestamp(1_788_249_600_000)), None);
        let (role, marks) = (Role::Staff, CardMark::SecondToken | CardMark::Duress);
        let enrolment = Enrolment { holder: holder.clone(), role, marks, not_before, not_after, entitlements };
        let ops = vec![
            Op::Issue { uid: uid("1EA68671"), holder: holder.clone() },
            Op::Reissue { holder: holder.clone(), old_uid: None, new_uid: uid("04A1B2C3D4E5F6") },
            Op::SetFlag { subject: Subject::Holder(holder), flag: Flag::Frozen, on: true },
            Op::Enrol { uid: uid("04A1B2C3D4E5F6"), enrolment: enrolment.clone() },
            Op::Enrol { uid: uid("1EA68671"), enrolment: Enrolment { role: Role::Visitor, ..enrolment } },
        ];
        let stream: StreamName = "card-office".parse().unwrap();
        let now = |ms| Now { wall: Timestamp(ms), mono: Mono(0), clock: ClockTrust::Trusted };
        let message =
            |seq, ops| Changes { stream: stream.clone(), at: at(seq), iat: Some(Timestamp(4)), content: Ok(ops) };
        state.apply(&message(1, ops), &crate::access::policy::Policy::default(), now(5));
        state.apply(&message(4, Vec::new()), &crate::access::policy::Policy::default(), now(6));
        let portal: PortalId = "power-412".parse().unwrap();
        state.boxes.insert(portal.clone(), PowerSource::Card(uid("04A1B2C3D4E5F6")));
        state.commands.insert("01J9".to_owned(), Timestamp(7));
        state.operator.insert(None, Posture::Lockdown);
        for (n, confirmed) in [(88_000, Some(Confirmed { at: Timestamp(9), how: Confirmation::Off })), (88_001, None)] {
            let revocation = Revocation {
                uid: uid("1EA68671"),
                revision: StreamRevision { stream: stream.clone(), epoch: NonZeroU32::MIN, seq: 1 },
                received_at: Timestamp(7),
                in_force_at: Timestamp(8),
                durable_at: confirmed.map(|_| Timestamp(8)),
                portals: BTreeMap::from([(portal.clone(), confirmed)]),
            };
            state.revocations.insert(n, revocation);
        }
        let revision = Revision { epoch: NonZeroU32::MIN, seq: 9, place: 2 };
        let reasons = BTreeMap::from([(SuspendReason::ALL[0], FlagRegister { revision, on: true })]);
        state.list.site.power.insert("412".parse().unwrap(), reasons);
        let register = PostureRegister { revision, posture: Posture::FreeAccess, until: Some(Timestamp(8)) };
        state.list.site.all_portals = Some(register);
        state.list.site.portals.insert(portal.clone(), register);
        let window = Window { start_min: 360, end_min: 1380 };
        let schedule = Schedule {
            holidays: vec![Holiday { date: "2026-10-01".parse().unwrap(), windows: vec![window] }],
            timezone: Some("Asia/Shanghai".to_owned()),
            ..Schedule::default()
        };
        state.list.site.schedules.insert("term".parse().unwrap(), ScheduleRegister { revision, schedule });
        (state.fire, state.last_n, state.trusted_at) = (true, 88_001, Timestamp(1_788_249_600_000));
        state.fire_inputs.insert(portal.clone());
        let moment = Moment { at: Timestamp(8), clock: ClockTrust::Trusted, n: 88_000, mono_ms: 7 };
        let passage = Passage {
            portal: portal.clone(),
            direction: Direction::In,
            moment,
            certainty: Certainty::Taken,
            forgiven: false,
        };
        state.presence.restore(uid("1EA68671"), vec![passage.clone()]);
        state.presence.restore(uid("04A1B2C3D4E5F6"), vec![Passage { certainty: Certainty::Granted, ..passage }]);
        state.presence.restore_reporting(portal.clone());
        let trip = TripRecord { reason: SuspendReason::Overload, stays_off: true, moment };
        state.trips.insert(portal, vec![trip]);
        state.boxes_off.insert("power-413".parse().unwrap(), moment);
        state.gateway = Some("nanhu-xing1".parse().unwrap());
        state.owners.insert(RegisterKind::Standing, stream);
        state
    }

    #[test]
    fn the_state_comes_back_from_its_records() {
        let state = state();
        let values = state.export().unwrap();
        let back = State::import(&values).unwrap();
        assert_eq!(back.export().unwrap(), values);
        assert_eq!(back.list.len(), 2);
        let card = back.list.card(&uid("04A1B2C3D4E5F6")).unwrap();
        assert_eq!(card.enrolment().unwrap().marks(), CardMark::SecondToken | CardMark::Duress);
        assert_eq!((back.streams, back.boxes, back.commands), (state.streams, state.boxes, state.commands));
        assert_eq!((back.trips, back.boxes_off), (state.trips, state.boxes_off));
        assert_eq!((back.gateway, back.owners), (state.gateway, state.owners));
        let visitors: Vec<_> = back.list.days_of_visitors().collect();
        assert_eq!(visitors, [(uid("1EA68671"), Timestamp(4))]);
        assert_eq!((back.operator, back.list.site), (state.operator, state.list.site));
        assert!(back.revocations.all().eq(state.revocations.all()));
        assert_eq!(
            (back.revocations.not_durable(), back.revocations.open_portals().count()),
            (Some((88_001, 88_001)), 1)
        );
        assert_eq!((back.fire, back.fire_inputs), (true, state.fire_inputs));
        let card = uid("1EA68671");
        assert_eq!(back.presence.of(&card), state.presence.of(&card));
        assert!(back.presence.reporting().eq(state.presence.reporting()));
        assert_eq!((back.last_n, back.trusted_at), (88_001, Timestamp(1_788_249_600_000)));
    }

    #[test]
    fn the_format_is_the_one_of_its_version() {
        let bytes = state().export().unwrap().concat();
        assert_eq!(
            hex::encode(crate::wire::audit::hash(&bytes)),
            "cc49c092392926417c8cc1c1269ff3aad30b4db58dc4a7f040bc748721bc544f",
            "raise RECORD_VERSION"
        );
    }

    #[test]
    fn the_records_of_the_version_before_are_read() {
        let mut values = state().export().unwrap();
        for value in &mut values {
            value[0] = RECORD_VERSION_MIN;
        }
        assert_eq!(State::import(&values).unwrap().last_n, 88_001);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let values = state().export().unwrap();
        for (value, why) in [(vec![], "it is empty"), (vec![1, 0], "it has version 1, this program reads 5 to 11")] {
            let broken = [values[0].clone(), value];
            assert_eq!(State::import(&broken).unwrap_err(), format!("record 1 of 2: {why}"));
        }
        let cut = values[0][..values[0].len() - 1].to_vec();
        assert!(State::import(&[cut]).unwrap_err().starts_with("record 0 of 1: "));
        let longer = [values[0].as_slice(), b"x"].concat();
        assert_eq!(State::import(&[longer]).unwrap_err(), "record 0 of 1: 1 bytes follow it");
    }
}
