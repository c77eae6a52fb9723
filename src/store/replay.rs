//! The fold of the journal: every good event after a position, in order, into a state; and what is missing between them.
//!
//! Numbers may have holes on disk (events dropped before they were written), so a loss is seen by the hash chain: an event
//! that does not follow from the last one read has lost its predecessors. Used at start, by the builder of generations and
//! by the scrub, so that all three judge alike. Refuses to change anything on disk but to keep a copy of a damaged segment.

use super::Fold;
use super::finding::Finding;
use super::medium::Medium;
use super::segment::{self, Found, Frame, HEADER_BYTES, Header, Walk};
use crate::access::event::Event;
use crate::access::id::Timestamp;
use crate::wire::audit::{self, Decoded, Hash};

/// Where the segments are.
pub(super) const JOURNAL: &str = "journal";
/// Where copies of damaged files are kept; never emptied.
pub(super) const DAMAGED: &str = "damaged";

/// A segment on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Number of its first event.
    pub first_n: u64,
    /// Bytes of it that count.
    pub length: u64,
    /// When its first event happened.
    pub at: Timestamp,
}

impl Segment {
    pub(super) fn path(first_n: u64) -> String {
        format!("{JOURNAL}/{}", segment::file_name(first_n))
    }
}

/// A place in the journal: the last event seen, its hash and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub n: u64,
    pub hash: Hash,
    pub at: Timestamp,
}

impl Place {
    /// Before the first event.
    pub(super) const START: Self = Self { n: 0, hash: audit::NO_HASH, at: Timestamp(0) };
}

/// How the last segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub first_n: u64,
    /// Bytes up to the end of its last good frame, or of its header.
    pub good: u64,
    /// Bytes after that.
    pub bad: u64,
    /// What its header says, if it can be read.
    pub header: Option<Header>,
    /// Number of its last good event.
    pub last_n: Option<u64>,
}

/// What a replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// Events given to the state.
    pub events: u64,
    /// Inclusive ranges of events that the state lacks.
    pub lost: Vec<(u64, u64)>,
    pub findings: Vec<Finding>,
    /// The end of the last segment; `None` if there is none.
    pub tail: Option<Tail>,
    /// `log_gap` events: their number and range.
    gaps: Vec<(u64, (u64, u64))>,
    /// Events at or before the base that are gone.
    audit_lost: Vec<(u64, u64)>,
}

impl Replayed {
    fn lose(ranges: &mut Vec<(u64, u64)>, from: u64, to: u64) {
        match ranges.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) && from >= last.0 => last.1 = last.1.max(to),
            Some(_) | None => ranges.push((from, to)),
        }
    }

    /// Notes that the state lacks these events.
    pub(super) fn lost(&mut self, from: u64, to: u64) {
        Self::lose(&mut self.lost, from, to);
    }

    /// Notes that the audit, but not the state, lacks these events.
    pub(super) fn audit_lost(&mut self, from: u64, to: u64) {
        Self::lose(&mut self.audit_lost, from, to);
    }

    /// Takes out of the losses what a later `log_gap` already speaks of, and makes findings of all.
    pub(super) fn settle(&mut self) {
        let known = |gaps: &[(u64, (u64, u64))], (from, to): (u64, u64)| {
            gaps.iter().any(|(n, gap)| *n > to && gap.0 <= from && to <= gap.1)
        };
        for (from, to) in std::mem::take(&mut self.lost) {
            if known(&self.gaps, (from, to)) {
                self.findings.push(Finding::KnownLoss { from, to });
            } else {
                self.lost.push((from, to));
                self.findings.push(Finding::Lost { from, to });
            }
        }
        for (from, to) in std::mem::take(&mut self.audit_lost) {
            let known = known(&self.gaps, (from, to));
            self.findings.push(if known { Finding::KnownLoss { from, to } } else { Finding::AuditLost { from, to } });
        }
    }
}

/// The segments on the medium, oldest first, with their whole length.
pub(super) fn segments(medium: &dyn Medium) -> std::io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for first_n in medium.list(JOURNAL)?.iter().filter_map(|name| segment::first_of(name)) {
        let head = medium.read(&Segment::path(first_n), 0, HEADER_BYTES as u64).unwrap_or_default();
        let at = Header::decode(&head).map_or(Timestamp(i64::MAX), |header| header.at);
        found.push(Segment { first_n, length: u64::MAX, at });
    }
    Ok(found)
}

/// The segments that may hold events after `n`.
pub(super) fn after(segments: &[Segment], n: u64) -> &[Segment] {
    let first = segments.partition_point(|s| s.first_n <= n.saturating_add(1)).saturating_sub(1);
    segments.get(first..).unwrap_or(&[])
}

/// One replay under way.
struct Replay<'a, F> {
    medium: &'a dyn Medium,
    state: Option<&'a mut F>,
    base_n: u64,
    place: Place,
    out: Replayed,
}

/// Applies every good event after `base` to `state` and says where the journal ends and what is missing.
///
/// Without a state nothing is applied, and the chain is judged from the first event found on.
pub(super) fn replay<F: Fold>(
    medium: &dyn Medium,
    segments: &[Segment],
    base: Place,
    state: Option<&mut F>,
) -> (Place, Replayed) {
    let mut replay = Replay { medium, state, base_n: base.n, place: base, out: Replayed::default() };
    let mut scrubbed = None;
    for (i, segment) in segments.iter().enumerate() {
        replay.segment(*segment, i + 1 == segments.len(), &mut scrubbed);
    }
    (replay.place, replay.out)
}

impl<F: Fold> Replay<'_, F> {
    /// `old` is the place among the events that the base already holds.
    fn segment(&mut self, segment: Segment, last: bool, old: &mut Option<Place>) {
        let path = Segment::path(segment.first_n);
        let bytes = match self.medium.read(&path, 0, segment.length) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.out.findings.push(Finding::SegmentUnreadable { segment: path, why: error.to_string() });
                return;
            }
        };
        let header = Header::decode(&bytes).filter(|h| h.first_n == segment.first_n);
        let mut bad = Vec::new();
        let start = match header {
            Some(header) => {
                self.loss_before(header);
                HEADER_BYTES
            }
            // Whatever stands there is no header; the walk says where the first event is.
            None => 0,
        };
        let (mut good, mut last_n) = (start, None);
        for step in Walk::new(&bytes, start) {
            match step.found {
                Found::Bad => bad.push((step.from, step.to)),
                Found::Frame(frame) => {
                    let headless = header.is_none() && last_n.is_none();
                    (good, last_n) = (step.to, Some(frame.n));
                    if frame.n <= self.base_n {
                        if self.state.is_some() {
                            // The generation holds it, and what is wrong before it is for the scrub to say.
                            bad.clear();
                        } else {
                            self.old_event(frame, old);
                        }
                    } else {
                        self.event(frame, headless);
                    }
                }
            }
        }
        if last {
            let count = |n: usize| n as u64;
            bad.retain(|(from, _)| *from < good);
            self.out.tail = Some(Tail {
                first_n: segment.first_n,
                good: count(good),
                bad: count(bytes.len() - good.min(bytes.len())),
                header,
                last_n,
            });
        }
        for (from, to) in bad {
            self.out.findings.push(Finding::BadBytes { segment: path.clone(), from: from as u64, to: to as u64 });
            keep_copy(self.medium, segment.first_n);
        }
    }

    /// A segment begun after a loss says so in its header.
    fn loss_before(&mut self, header: Header) {
        if header.lost_to > self.place.n {
            self.out.lost(self.place.n + 1, header.lost_to);
            self.place = Place { n: header.lost_to, hash: header.prev, at: self.place.at };
        }
    }

    /// An event that the base already holds: only the chain is judged.
    fn old_event(&mut self, frame: Frame<'_>, old: &mut Option<Place>) {
        let Ok(decoded) = audit::decode(frame.json) else {
            self.out.findings.push(Finding::NotApplied { n: frame.n, why: "it cannot be read".to_owned() });
            return;
        };
        self.out.gaps.extend(gap_of(&decoded));
        if let Some(old) = old.filter(|old| old.hash != decoded.prev) {
            if old.n + 1 < frame.n {
                self.out.audit_lost(old.n + 1, frame.n - 1);
            } else {
                self.out.findings.push(Finding::ChainBroken { n: frame.n });
            }
        }
        *old = Some(Place { n: frame.n, hash: audit::hash(frame.json), at: decoded.event.at });
    }

    /// An event for the state. `headless`: the header that may have spoken of a loss before it cannot be read.
    fn event(&mut self, frame: Frame<'_>, headless: bool) {
        let n = frame.n;
        if n <= self.place.n {
            self.out.findings.push(Finding::OutOfOrder { n });
            return;
        }
        let here = |at| Place { n, hash: audit::hash(frame.json), at };
        let decoded = match read_event(frame) {
            Ok(decoded) => decoded,
            Err(why) => {
                // What it said is not in the state, and neither is what may be missing before it.
                self.out.lost(self.place.n + 1, n);
                self.out.findings.push(Finding::NotApplied { n, why });
                self.place = here(self.place.at);
                return;
            }
        };
        let follows = decoded.prev == self.place.hash;
        if self.place.n + 1 < n && (!follows || headless) {
            self.out.lost(self.place.n + 1, n - 1);
        } else if !follows {
            self.out.lost(n - 1, n - 1);
            self.out.findings.push(Finding::ChainBroken { n });
        }
        self.out.gaps.extend(gap_of(&decoded));
        self.place = here(decoded.event.at);
        self.out.events += 1;
        if let Some(Err(why)) = self.state.as_mut().map(|state| state.apply(&decoded.event, frame.evidence)) {
            self.out.lost(n, n);
            self.out.findings.push(Finding::NotApplied { n, why });
        }
    }
}

fn gap_of(decoded: &Decoded) -> Option<(u64, (u64, u64))> {
    match decoded.event.body {
        Event::LogGap { from, to, .. } => Some((decoded.event.n, (from, to))),
        _ => None,
    }
}

/// The event of a frame, if the frame holds what its event says it holds.
pub(super) fn read_event(frame: Frame<'_>) -> Result<Decoded, String> {
    let decoded = audit::decode(frame.json).map_err(|e| e.to_string())?;
    if decoded.event.n != frame.n {
        return Err(format!("it calls itself {}", decoded.event.n));
    }
    let evidence = (!frame.evidence.is_empty()).then(|| audit::hash(frame.evidence));
    if decoded.evidence != evidence {
        return Err("the evidence beside it is not the one it names".to_owned());
    }
    Ok(decoded)
}

/// Keeps a damaged segment in `damaged/` too, so that retention does not take it. If that fails it still lies in `journal/`.
pub(super) fn keep_copy(medium: &dyn Medium, first_n: u64) {
    let name = segment::file_name(first_n);
    if medium.list(DAMAGED).is_ok_and(|names| names.contains(&name)) {
        return;
    }
    if let Err(error) = medium.keep(&Segment::path(first_n), &format!("{DAMAGED}/{name}")) {
        tracing::warn!("cannot keep a copy of the damaged segment `{name}`: {error}");
    }
}
