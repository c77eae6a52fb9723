//! Events erased from the journal, and nothing else of it: what is left of each keeps the chain whole (`wire::erased`).
//!
//! Only what the center has is erased, and only what both kept generations hold, so that no start misses it. Segments are written again
//! one by one, each replaced as a whole: a power cut leaves every event either as it was or erased.

use std::collections::HashSet;
use std::io;

use foldhash::fast::RandomState;

use super::events::Erasure;
use super::medium::Medium;
use super::segment::{self, Found, Frame, HEADER_BYTES, Header, Walk};
use super::segments::{self, Segment};
use super::shared::Shared;
use crate::access::event::{AuditEvent, EventKind};
use crate::access::id::{CardUid, Holder};
use crate::lock;
use crate::wire::audit::{self, Decoded};
use crate::wire::erased::{self, Erased, ErasedBy};

/// The types of event that can be erased: what happened at portals, and what is only for a person. The others make the list, explain
/// losses, or the clock.
pub const ERASABLE: [EventKind; 14] = [
    EventKind::Decision,
    EventKind::Taken,
    EventKind::NotTaken,
    EventKind::PowerOn,
    EventKind::PowerOrdered,
    EventKind::PowerOff,
    EventKind::PowerTrip,
    EventKind::Revoked,
    EventKind::RevocationConfirmed,
    EventKind::Command,
    EventKind::Posture,
    EventKind::Alarm,
    EventKind::PortalOnline,
    EventKind::PortalOffline,
];

/// The cards of a holder, as far as the journal names them, to find what names the card alone.
type Cards = HashSet<CardUid, RandomState>;

/// Whether an event is about the holder.
fn is_of(event: &AuditEvent, holder: &Holder, cards: &Cards) -> bool {
    match event.body.holder() {
        Some(of) => of == holder,
        None => event.body.uid().is_some_and(|uid| cards.contains(&uid)),
    }
}

/// Calls `each` with every event of these segments.
fn each_event(medium: &dyn Medium, segments: &[Segment], each: &mut dyn FnMut(&AuditEvent)) -> io::Result<()> {
    segments::each_frame(medium, segments, &mut |frame| {
        // What another version wrote is for nobody's holder.
        audit::decode(frame.json).into_iter().for_each(|decoded| each(&decoded.event));
    })
}

/// Erases the events of `holder` up to `through` in the segments that are not written any more.
pub(super) fn holder(shared: &Shared, holder: &Holder, through: u64) -> io::Result<Erasure> {
    let medium = &*shared.medium;
    let segments = lock(&shared.index).segments.clone();
    let mut cards = Cards::default();
    each_event(medium, &segments, &mut |event| {
        if event.body.holder() == Some(holder) {
            cards.extend(event.body.uid());
        }
    })?;
    let mut out = Erasure { through, ..Erasure::default() };
    let wanted = |event: &AuditEvent| event.n <= through && is_of(event, holder, &cards);
    for segment in segments.iter().filter(|segment| segment.first_n <= through) {
        out.erased += rewrite(shared, *segment, (ErasedBy::Operator, false), &wanted)?;
    }
    each_event(medium, &lock(&shared.index).segments.clone(), &mut |event| {
        out.kept += u64::from(event.n > through && ERASABLE.contains(&event.kind()) && is_of(event, holder, &cards));
    })?;
    Ok(out)
}

/// Writes a segment again with the `wanted` events erased, and encrypted if `seal` is set; gives how many were
/// erased. A damaged one stays as it is, for a person to look at.
pub(super) fn rewrite(
    shared: &Shared,
    segment: Segment,
    (by, seal): (ErasedBy, bool),
    wanted: &dyn Fn(&AuditEvent) -> bool,
) -> io::Result<u64> {
    let bytes = segment.read(&*shared.medium)?;
    let Some(header) = Header::decode(&bytes) else { return Ok(0) };
    let seals = header.sealed || seal;
    let (mut out, mut erased) = (Header { sealed: seals, ..header }.encode(), 0);
    for step in Walk::new(&bytes, HEADER_BYTES) {
        let Found::Frame(frame) = step.found else { return Ok(0) };
        let left = audit::decode(frame.json).ok().and_then(|decoded| left_of(&decoded, frame.json, by, wanted));
        erased += u64::from(left.is_some());
        let kept = left.as_ref().map_or(frame, |json| Frame { json, evidence: &[], ..frame });
        if !segment::push_frame(&mut out, &kept, seals) {
            return Ok(0);
        }
    }
    if erased == 0 && header.sealed == seals {
        return Ok(0);
    }
    shared.reader.replace(segment.first_n, &out).map(|()| erased)
}

/// What stays of an event that is wanted to go.
fn left_of(decoded: &Decoded, json: &[u8], by: ErasedBy, wanted: &dyn Fn(&AuditEvent) -> bool) -> Option<Vec<u8>> {
    let event = &decoded.event;
    let (was, hash, prev) = (event.kind(), audit::hash(json), decoded.prev);
    if !ERASABLE.contains(&was) || decoded.evidence.is_some() || !wanted(event) {
        return None;
    }
    erased::encode(&Erased { n: event.n, at: event.at, clock: event.clock, was, by, hash, prev }).ok()
}
