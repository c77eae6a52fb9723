//! The state on disk: one key and one value a card, a holder, a stream and so on, each value led by a format version.
//!
//! Values are postcard (a documented, stable, compact serde format), so a generation of a million cards stays small.
//! A value that cannot be read is an error that names its key; nothing is guessed.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::access::change::{Position, SuspendReason};
use crate::access::credential::{Enrolment, Entitlement, Flag, FlagRegister, Flags, Role, ZoneSet};
use crate::access::id::{CardUid, PortalId, Revision, StreamName, Timestamp};
use crate::access::list::{CardRecord, HolderEntry, PostureRegister, ScheduleRegister, Site};
use crate::access::portal::{PortalKind, Posture};
use crate::access::power_box::PowerSource;
use crate::access::schedule::{Holiday, Schedule, Window};
use crate::access::state::State;
use crate::access::stream::StreamTrack;

/// Leads every value. A generation of another version is not read but rebuilt from the journal.
pub const RECORD_VERSION: u8 = 2;

/// Why a stored state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A key that this version does not know.
    #[error("unknown key `{0}`")]
    UnknownKey(String),
    /// A value of another version.
    #[error("value of `{key}` has version {version}, this program reads {RECORD_VERSION}")]
    Version {
        /// The key.
        key: String,
        /// The version found.
        version: u8,
    },
    /// A value that is not what its key promises.
    #[error("value of `{0}` cannot be read")]
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
struct RevisionDto(u32, u64, u32);

impl From<Revision> for RevisionDto {
    fn from(r: Revision) -> Self {
        Self(r.epoch.get(), r.seq, r.place)
    }
}

impl RevisionDto {
    fn revision(&self) -> Option<Revision> {
        Some(Revision { epoch: NonZeroU32::new(self.0)?, seq: self.1, place: self.2 })
    }
}

type FlagsDto = Vec<(u8, RevisionDto, bool)>;

fn flags_dto(flags: &Flags) -> FlagsDto {
    let one = |(i, flag): (u8, Flag)| flags.get(flag).map(|r| (i, r.revision.into(), r.on));
    (0..).zip(Flag::ALL).filter_map(one).collect()
}

fn flags(dto: &FlagsDto) -> Option<Flags> {
    let mut flags = Flags::default();
    for (i, revision, on) in dto {
        flags.write(*Flag::ALL.get(usize::from(*i))?, revision.revision()?, *on);
    }
    Some(flags)
}

#[derive(Serialize, Deserialize)]
struct EnrolmentDto {
    holder: String,
    role: u8,
    not_before: Option<i64>,
    not_after: Option<i64>,
    entitlements: Vec<(u8, Option<String>, Option<String>)>,
}

#[derive(Serialize, Deserialize)]
struct CardDto {
    birth: Option<RevisionDto>,
    issued_to: Option<(RevisionDto, String)>,
    flags: FlagsDto,
    enrolment: Option<(RevisionDto, Option<EnrolmentDto>)>,
}

#[derive(Serialize, Deserialize)]
struct HolderDto {
    flags: FlagsDto,
    withdrawn: Option<RevisionDto>,
}

#[derive(Serialize, Deserialize)]
struct StreamDto {
    epoch: u32,
    through: u64,
    above: Vec<(u64, u64)>,
    goal: Option<(u32, u64)>,
    damaged: bool,
    newest_iat: Option<i64>,
    epoch_gap: bool,
    head_known: bool,
}

#[derive(Serialize, Deserialize)]
struct PostureDto(RevisionDto, u8, Option<i64>);

type HolidayDto = ((i16, u8, u8), Vec<(u16, u16)>);

#[derive(Serialize, Deserialize)]
struct ScheduleDto {
    revision: RevisionDto,
    weekly: Vec<Vec<(u16, u16)>>,
    holidays: Vec<HolidayDto>,
    timezone: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MetaDto {
    fire: bool,
    last_n: u64,
    trusted_at: i64,
    fire_inputs: Vec<String>,
}

/// Hands every key and value of `state` to `put`.
pub fn export(state: &State, put: &mut dyn FnMut(&[u8], &[u8])) {
    for place in 0..state.list.len() {
        if let Some(card) = state.list.record_at(place) {
            let mut key = vec![b'c'];
            key.extend_from_slice(card.uid.as_bytes());
            put(&key, &value(&card_dto(&card)));
        }
    }
    for holder in state.list.holder_entries() {
        let dto = HolderDto { flags: flags_dto(&holder.flags), withdrawn: holder.withdrawn.map(Into::into) };
        put(&key(b'h', holder.holder.as_str()), &value(&dto));
    }
    for (name, track) in &state.streams {
        put(&key(b's', name.as_str()), &value(&stream_dto(track)));
    }
    export_site(&state.list.site, put);
    for (portal, on) in &state.boxes {
        let uid = on.card().map(|uid| uid.as_bytes().to_vec());
        put(&key(b'b', portal.as_str()), &value(&(matches!(on, PowerSource::Reported(_)), uid)));
    }
    for (jti, exp) in &state.commands {
        put(&key(b'j', jti), &value(&exp.0));
    }
    for (portal, posture) in &state.operator {
        put(&key(b'o', portal.as_ref().map_or("", PortalId::as_str)), &value(&posture_index(*posture)));
    }
    let fire_inputs = state.fire_inputs.iter().map(ToString::to_string).collect();
    let (fire, last_n, trusted_at) = (state.fire, state.last_n, state.trusted_at.0);
    put(b"m", &value(&MetaDto { fire, last_n, trusted_at, fire_inputs }));
}

fn export_site(site: &Site, put: &mut dyn FnMut(&[u8], &[u8])) {
    for (zone, reasons) in &site.power {
        let reasons: Vec<(u8, RevisionDto, bool)> = (0..)
            .zip(SuspendReason::ALL)
            .filter_map(|(i, reason)| reasons.get(&reason).map(|r| (i, r.revision.into(), r.on)))
            .collect();
        put(&key(b'w', zone.as_str()), &value(&reasons));
    }
    if let Some(register) = &site.all_portals {
        put(&key(b'p', ""), &value(&posture_dto(register)));
    }
    for (portal, register) in &site.portals {
        put(&key(b'p', portal.as_str()), &value(&posture_dto(register)));
    }
    for (name, register) in &site.schedules {
        let windows = |w: &Vec<Window>| w.iter().map(|w| (w.start_min, w.end_min)).collect();
        let dto = ScheduleDto {
            revision: register.revision.into(),
            weekly: register.schedule.weekly.iter().map(windows).collect(),
            holidays: register.schedule.holidays.iter().map(|h| (h.date, windows(&h.windows))).collect(),
            timezone: register.schedule.timezone.clone(),
        };
        put(&key(b'd', name.as_str()), &value(&dto));
    }
}

/// Puts one key and value back into `state`.
///
/// # Errors
/// [`RecordError`] names the key of what cannot be read.
pub fn import(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let printable = || String::from_utf8_lossy(key).into_owned();
    let Some((kind, name)) = key.split_first() else { return Err(RecordError::UnknownKey(printable())) };
    match value.first() {
        Some(&RECORD_VERSION) => {}
        Some(&version) => return Err(RecordError::Version { key: printable(), version }),
        None => return Err(RecordError::Unreadable(printable())),
    }
    let body = value.get(1..).unwrap_or_default();
    let read = match kind {
        b'c' => import_card(state, name, body),
        b'h' | b's' | b'b' | b'j' | b'o' | b'w' | b'p' | b'd' => {
            std::str::from_utf8(name).ok().and_then(|name| import_named(state, *kind, name, body))
        }
        b'm' => dto::<MetaDto>(body).map(|meta| {
            state.fire = meta.fire;
            state.last_n = meta.last_n;
            state.trusted_at = Timestamp(meta.trusted_at);
            state.fire_inputs = meta.fire_inputs.iter().filter_map(|portal| portal.parse().ok()).collect();
        }),
        _ => return Err(RecordError::UnknownKey(printable())),
    };
    read.ok_or_else(|| RecordError::Unreadable(printable()))
}

fn import_card(state: &mut State, uid: &[u8], body: &[u8]) -> Option<()> {
    let card: CardDto = dto(body)?;
    let issued_to = match card.issued_to {
        None => None,
        Some((revision, holder)) => Some((revision.revision()?, holder.parse().ok()?)),
    };
    let enrolment = match card.enrolment {
        None => None,
        Some((revision, None)) => Some((revision.revision()?, None)),
        Some((revision, Some(dto))) => Some((revision.revision()?, Some(enrolment(dto)?))),
    };
    state.list.restore_card(&CardRecord {
        uid: CardUid::from_bytes(uid).ok()?,
        birth: match card.birth {
            None => None,
            Some(birth) => Some(birth.revision()?),
        },
        issued_to,
        flags: flags(&card.flags)?,
        enrolment,
    });
    Some(())
}

fn import_named(state: &mut State, kind: u8, name: &str, body: &[u8]) -> Option<()> {
    match kind {
        b'h' => {
            let holder: HolderDto = dto(body)?;
            let withdrawn = match holder.withdrawn {
                None => None,
                Some(revision) => Some(revision.revision()?),
            };
            let flags = flags(&holder.flags)?;
            state.list.restore_holder(&HolderEntry { holder: name.parse().ok()?, flags, withdrawn });
        }
        b's' => {
            let name: StreamName = name.parse().ok()?;
            state.streams.insert(name, track(dto(body)?)?);
        }
        b'b' => {
            let (reported, uid): (bool, Option<Vec<u8>>) = dto(body)?;
            let on = match uid.map(|uid| CardUid::from_bytes(&uid)).transpose().ok()? {
                Some(uid) if reported => PowerSource::Reported(uid),
                Some(uid) => PowerSource::Card(uid),
                None => PowerSource::Remote,
            };
            state.boxes.insert(name.parse().ok()?, on);
        }
        b'j' => {
            state.commands.insert(name.to_owned(), Timestamp(dto(body)?));
        }
        b'o' => {
            state.operator.insert(optional_portal(name)?, posture(dto(body)?)?);
        }
        b'w' => {
            let reasons: Vec<(u8, RevisionDto, bool)> = dto(body)?;
            let zone = state.list.site.power.entry(name.parse().ok()?).or_default();
            for (i, revision, on) in reasons {
                let reason = *SuspendReason::ALL.get(usize::from(i))?;
                zone.insert(reason, FlagRegister { revision: revision.revision()?, on });
            }
        }
        b'p' => {
            let PostureDto(revision, index, until) = dto(body)?;
            let register = PostureRegister {
                revision: revision.revision()?,
                posture: posture(index)?,
                until: until.map(Timestamp),
            };
            match optional_portal(name)? {
                None => state.list.site.all_portals = Some(register),
                Some(portal) => {
                    state.list.site.portals.insert(portal, register);
                }
            }
        }
        _ => {
            state.list.site.schedules.insert(name.parse().ok()?, schedule(dto(body)?)?);
        }
    }
    Some(())
}

fn optional_portal(name: &str) -> Option<Option<PortalId>> {
    if name.is_empty() { Some(None) } else { name.parse().ok().map(Some) }
}

fn key(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(name.as_bytes());
    key
}

fn value<T: Serialize>(dto: &T) -> Vec<u8> {
    // Serialising plain data into a growing vector cannot fail; an empty value would be refused when read.
    postcard::to_extend(dto, vec![RECORD_VERSION]).unwrap_or_default()
}

fn dto<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Option<T> {
    postcard::take_from_bytes(body).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}

fn card_dto(card: &CardRecord) -> CardDto {
    let enrolment = |e: &Enrolment| EnrolmentDto {
        holder: e.holder.as_str().to_owned(),
        role: index_of(&Role::ALL, e.role),
        not_before: e.not_before.map(|t| t.0),
        not_after: e.not_after.map(|t| t.0),
        entitlements: e.entitlements.iter().map(entitlement_dto).collect(),
    };
    CardDto {
        birth: card.birth.map(Into::into),
        issued_to: card.issued_to.as_ref().map(|(r, holder)| ((*r).into(), holder.as_str().to_owned())),
        flags: flags_dto(&card.flags),
        enrolment: card.enrolment.as_ref().map(|(r, e)| ((*r).into(), e.as_ref().map(enrolment))),
    }
}

fn entitlement_dto(e: &Entitlement) -> (u8, Option<String>, Option<String>) {
    let zone = match &e.zone {
        ZoneSet::Any => None,
        ZoneSet::One(zone) => Some(zone.as_str().to_owned()),
    };
    (index_of(&PortalKind::ALL, e.kind), zone, e.schedule.as_ref().map(|s| s.as_str().to_owned()))
}

fn enrolment(dto: EnrolmentDto) -> Option<Enrolment> {
    let entitlement = |(kind, zone, schedule): (u8, Option<String>, Option<String>)| {
        Some(Entitlement {
            kind: *PortalKind::ALL.get(usize::from(kind))?,
            zone: match zone {
                None => ZoneSet::Any,
                Some(zone) => ZoneSet::One(zone.parse().ok()?),
            },
            schedule: match schedule {
                None => None,
                Some(name) => Some(name.parse().ok()?),
            },
        })
    };
    Some(Enrolment {
        holder: dto.holder.parse().ok()?,
        role: *Role::ALL.get(usize::from(dto.role))?,
        not_before: dto.not_before.map(Timestamp),
        not_after: dto.not_after.map(Timestamp),
        entitlements: dto.entitlements.into_iter().map(entitlement).collect::<Option<_>>()?,
    })
}

fn stream_dto(track: &StreamTrack) -> StreamDto {
    StreamDto {
        epoch: track.epoch.map_or(0, NonZeroU32::get),
        through: track.through,
        above: track.above.clone(),
        goal: track.goal.map(|p| (p.epoch.get(), p.seq)),
        damaged: track.damaged,
        newest_iat: track.newest_iat.map(|t| t.0),
        epoch_gap: track.epoch_gap,
        head_known: track.head_known,
    }
}

fn track(dto: StreamDto) -> Option<StreamTrack> {
    let goal = match dto.goal {
        None => None,
        Some((epoch, seq)) => Some(Position { epoch: NonZeroU32::new(epoch)?, seq }),
    };
    Some(StreamTrack {
        epoch: NonZeroU32::new(dto.epoch),
        through: dto.through,
        above: dto.above,
        goal,
        damaged: dto.damaged,
        head: None,
        newest_iat: dto.newest_iat.map(Timestamp),
        epoch_gap: dto.epoch_gap,
        head_known: dto.head_known,
    })
}

fn posture_dto(register: &PostureRegister) -> PostureDto {
    PostureDto(register.revision.into(), posture_index(register.posture), register.until.map(|t| t.0))
}

fn posture_index(posture: Posture) -> u8 {
    index_of(&Posture::ALL, posture)
}

fn posture(index: u8) -> Option<Posture> {
    Posture::ALL.get(usize::from(index)).copied()
}

fn index_of<T: Copy + PartialEq>(all: &[T], one: T) -> u8 {
    // Every enum here has fewer than 256 variants, and `one` is among `all`.
    all.iter().position(|x| *x == one).and_then(|i| u8::try_from(i).ok()).unwrap_or(u8::MAX)
}

fn schedule(dto: ScheduleDto) -> Option<ScheduleRegister> {
    let windows =
        |w: Vec<(u16, u16)>| w.into_iter().map(|(start_min, end_min)| Window { start_min, end_min }).collect();
    let weekly: Vec<Vec<Window>> = dto.weekly.into_iter().map(windows).collect();
    let holiday = |(date, w)| Holiday { date, windows: windows(w) };
    Some(ScheduleRegister {
        revision: dto.revision.revision()?,
        schedule: Schedule {
            weekly: weekly.try_into().ok()?,
            holidays: dto.holidays.into_iter().map(holiday).collect(),
            timezone: dto.timezone,
        },
    })
}
