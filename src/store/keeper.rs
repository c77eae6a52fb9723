//! The background chores: generations, retention, the audit cursor, the reserve file, the scrub of old segments.
//! Nothing waits for them, and the engine takes no part: a generation is the fold of the journal.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::building::{self, NotWritten, write_generation};
use super::events::{Erasure, RecoveryIssue, StoreEvent};
use super::limit::{self, Removal};
use super::replay;
use super::reserve::Reserve;
use super::segments::{Counts, Segment};
use super::shared::{Shared, Written};
use super::{Fold, erase, generation, marks, retained};
use crate::access::event::{AuditEvent, EventKind};
use crate::access::id::Holder;
use crate::lock;
use crate::wire::erased::ErasedBy;

/// A generation is written at least this often while events come.
const GENERATION_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Pause after a generation that could not be written.
const GENERATION_RETRY: Duration = Duration::from_secs(300);
/// At close a generation is written only if this many events came since the last: replaying fewer is faster.
const CLOSING_EVENTS: u64 = 1000;
/// Pause before the reserve file is made again.
const RESERVE_RETRY: Duration = Duration::from_secs(600);
/// How often the chores are looked at without a request; the thread is idle otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;

/// What goes next at the hard limit.
enum NextRemoval {
    /// The segment that begins with this event: the center has all of it.
    Acknowledged(u64),
    /// What a `log_gap` has to name first.
    Named(Removal),
}

/// Does the chores.
pub(super) struct Keeper<F> {
    shared: Arc<Shared>,
    /// Position of the newest generation that can be opened.
    generation: u64,
    /// Position of the one before it that can; `None`: it does not exist, or it was not looked for yet.
    before: Option<u64>,
    /// When it was looked for in vain.
    looked: Option<Instant>,
    /// From here on the generations are encrypted, as far as it is known.
    sealed_from: Option<u64>,
    /// When the newest generation was written, or the start.
    generated: Option<Instant>,
    failed: Option<Instant>,
    /// The last event when a generation could not be written because events are lost and no `log_gap` names them yet: it comes next.
    unnamed: Option<u64>,
    cursor: u64,
    /// When the reserve file was last looked at.
    reserve: Option<Instant>,
    known: Vec<RecoveryIssue>,
    /// What is to go at the hard limit once a `log_gap` names it.
    removal: Option<Removal>,
    /// Up to here the segments hold only what goes last.
    thinned_through: u64,
    /// How many of the configured types were erased from each segment, and whether it was to be encrypted.
    aged: BTreeMap<u64, (usize, bool)>,
    counts: Counts,
    fold: PhantomData<fn() -> F>,
}

impl<F: Fold> Keeper<F> {
    /// `known`: what the start already reported.
    pub(super) fn new(shared: Arc<Shared>, (generation, sealed): (u64, bool), known: Vec<RecoveryIssue>) -> Self {
        let (generated, cursor) = (shared.now(), shared.acked.load(Ordering::Relaxed));
        Self {
            shared,
            generation,
            before: None,
            looked: None,
            sealed_from: sealed.then_some(generation),
            generated,
            failed: None,
            unnamed: None,
            cursor,
            reserve: None,
            known,
            removal: None,
            thinned_through: 0,
            aged: BTreeMap::new(),
            counts: Counts::default(),
            fold: PhantomData,
        }
    }

    fn passed(since: Option<Instant>, time: Duration) -> bool {
        since.is_some_and(|since| since.elapsed() >= time)
    }

    /// All chores that are due or asked for, without waiting.
    pub(super) fn chores_asked(&mut self) {
        if let Some(requested) = self.shared.requests.wait(Duration::ZERO) {
            self.chores(requested);
        }
    }

    /// All chores that are due.
    pub(super) fn chores(&mut self, requested: bool) {
        self.keep_cursor();
        let last = lock(&self.shared.index).last;
        let events = last.saturating_sub(self.generation);
        let due = events >= self.shared.options.generation_events
            || events > 0 && Self::passed(self.generated, GENERATION_EVERY);
        let resting = self.failed.is_some() && !Self::passed(self.failed, GENERATION_RETRY);
        if requested || due && !resting && self.unnamed != Some(last) {
            // A failure is reported.
            drop(self.write_generation(u64::MAX));
        }
        self.retain();
        self.erase_old();
        while let Some((holder, done)) = self.shared.requests.erasure() {
            // Whoever asked may have gone.
            drop(done.send(self.erase(&holder)));
        }
        self.keep_limit();
        if Self::passed(self.reserve, RESERVE_RETRY) || self.reserve.is_none() {
            self.keep_reserve();
        }
    }

    fn keep_cursor(&mut self) {
        let acked = self.shared.acked.load(Ordering::Relaxed);
        if acked != self.cursor {
            match marks::write_acked(&*self.shared.medium, acked) {
                Ok(()) => {
                    self.cursor = acked;
                    self.shared.works(Written::Cursor);
                }
                Err(error) => self.shared.fails(Written::Cursor, &error),
            }
        }
    }

    fn keep_reserve(&mut self) {
        let bytes = self.shared.options.reserve_bytes;
        self.reserve = self.shared.now();
        if !Reserve::is_there(&*self.shared.medium, bytes)
            && let Err(error) = self.shared.reserve.make(&*self.shared.medium, bytes)
        {
            tracing::warn!("no room for the reserve file of {bytes} bytes: {error}");
        }
    }

    fn write_generation(&mut self, until: u64) -> Result<(), String> {
        let begun = self.shared.now();
        let written = write_generation::<F>(&self.shared, self.generation, until);
        self.generated = self.shared.now();
        match written {
            Ok(None) => {}
            Ok(Some(building::Written { position, before, records })) => {
                self.generation = position;
                self.before = Some(before).filter(|before| *before > 0);
                if self.shared.medium.seals() {
                    self.sealed_from.get_or_insert(position);
                }
                self.failed = None;
                let took = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                self.shared.outbox.report(StoreEvent::GenerationWritten { position, records, took });
            }
            Err(NotWritten::Unnamed { last, detail }) => {
                self.unnamed = Some(last);
                return Err(detail);
            }
            Err(NotWritten::Failed(detail)) => {
                self.failed = self.shared.now();
                self.shared.outbox.report(StoreEvent::GenerationFailed { detail: detail.clone() });
                return Err(detail);
            }
        }
        Ok(())
    }

    /// Up to here two generations that can be opened hold the state: what stands before may go. To find out, one is read whole, so it is
    /// asked only where something is to go.
    fn held(&mut self) -> Option<u64> {
        let looks = self.looked.is_none() || Self::passed(self.looked, GENERATION_RETRY);
        if self.before.is_none() && looks {
            self.before = generation::before(&*self.shared.medium, self.generation);
            self.looked = self.shared.now();
        }
        self.before
    }

    /// Removes whole segments from the front: those that the center has, that no kept generation needs, and that are beyond
    /// the configured number or age by trusted time.
    fn retain(&mut self) {
        if self.oldest_beyond(u64::MAX).is_none() {
            return;
        }
        let Some(held) = self.held() else { return };
        let mut removed = false;
        while self.oldest_beyond(held).is_some_and(|first_n| self.remove_segment(first_n)) {
            removed = true;
        }
        let _ = removed && self.report_retained();
    }

    /// Removes a segment, the oldest one once the mark of it is durable. `false`: it is not yet.
    fn remove_segment(&self, first_n: u64) -> bool {
        let next = lock(&self.shared.index).after_oldest(first_n);
        if next.is_some_and(|next| !retained::before_removal(&*self.shared.medium, next)) {
            return false;
        }
        lock(&self.shared.index).segments.retain(|segment| segment.first_n != first_n);
        if let Err(error) = self.shared.medium.remove(&Segment::path(first_n)) {
            tracing::warn!("cannot remove the old segment `{}`: {error}", Segment::path(first_n));
        }
        true
    }

    /// Erases what has reached the age of its type, a segment at a time once all of it has: each is written again as often as there are
    /// ages. What an encrypted store had in clear is written again too, once both generations are encrypted and from the newest segment
    /// back: nothing in clear is ever newer than anything encrypted, also where a segment is damaged and stays as it is.
    fn erase_old(&mut self) {
        let shared = Arc::clone(&self.shared);
        let kinds = &shared.options.retain_kinds;
        if kinds.is_empty() && !self.shared.medium.seals() {
            return;
        }
        let Some(held) = self.held() else { return };
        let (segments, now) = {
            let index = lock(&self.shared.index);
            (index.segments.clone(), index.trusted_at)
        };
        self.aged.retain(|first_n, _| segments.iter().any(|segment| segment.first_n == *first_n));
        let mut seals = self.shared.medium.seals()
            && self.sealed_from.is_some_and(|from| from <= held)
            && segments.last().is_some_and(|segment| segment.sealed);
        // The earliest time behind it: a wrong date that was put right later makes nothing young.
        let mut behind = now;
        for (segment, next) in segments.iter().zip(segments.iter().skip(1)).rev() {
            let last = next.first_n.saturating_sub(1);
            behind = behind.min(next.trusted_at);
            let is_old = |days: u32| behind.0 < now.0.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
            let may_go = last <= self.cursor && last <= held;
            let old: Vec<EventKind> =
                kinds.iter().filter(|(_, days)| may_go && is_old(*days)).map(|(kind, _)| *kind).collect();
            let wanted = (old.len(), seals && !segment.sealed);
            if self.aged.get(&segment.first_n) == Some(&wanted) {
                seals &= segment.sealed;
                continue;
            }
            let erases = |event: &AuditEvent| old.contains(&event.kind());
            match erase::rewrite(&self.shared, *segment, (ErasedBy::Retention, wanted.1), &erases) {
                Ok(_) => {
                    self.aged.insert(segment.first_n, wanted);
                    seals &= lock(&self.shared.index).segments.iter().any(|s| s.first_n == segment.first_n && s.sealed);
                }
                Err(error) => {
                    return tracing::warn!("cannot write `{}` again: {error}", Segment::path(segment.first_n));
                }
            }
        }
    }

    /// Erases the events of a holder that the center has and that are in a segment that is not written any more. Two generations that
    /// hold them are made first.
    pub(super) fn erase(&mut self, holder: &Holder) -> Result<Erasure, String> {
        let (open, last, clear) = {
            let index = lock(&self.shared.index);
            let in_clear = |pair: &[Segment]| matches!(pair, [segment, _] if !segment.sealed);
            let clear = index.segments.windows(2).filter(|pair| in_clear(pair)).filter_map(<[_]>::last).next_back();
            let clear = clear.filter(|_| self.shared.medium.seals()).map_or(0, |next| next.first_n.saturating_sub(1));
            (index.segments.last().map_or(0, |segment| segment.first_n), index.last, clear)
        };
        let through = self.cursor.min(open.saturating_sub(1));
        while self.held().unwrap_or(0) < through {
            // What is in clear is in front of an encrypted generation, never after it.
            let until = if self.generation < through { through.max(clear) } else { last };
            if until <= self.generation {
                return Err("no generation can be written before the next event; try again".to_owned());
            }
            self.write_generation(until)?;
        }
        erase::holder(&self.shared, holder, through).map_err(|error| format!("the journal cannot be written: {error}"))
    }

    fn report_retained(&self) -> bool {
        let first = lock(&self.shared.index).segments.first().map_or(0, |segment| segment.first_n);
        self.shared.outbox.report(StoreEvent::Retained { first });
        true
    }

    /// Beyond the hard limit: segments that the center has go whole; then, of the others, what matters least goes, oldest first, once
    /// a `log_gap` that names it is durable. One segment at a time.
    fn keep_limit(&mut self) {
        loop {
            let segments = lock(&self.shared.index).segments.clone();
            let bytes: u64 = segments.iter().map(|segment| segment.length).sum();
            if bytes <= self.shared.options.limit_bytes {
                self.removal = None;
                return;
            }
            let Some(held) = self.held() else { return };
            match self.removal.take() {
                Some(removal) if self.is_named(&removal) => {
                    if !self.carry_out(&segments, &removal) {
                        self.removal = Some(removal);
                        return;
                    }
                }
                Some(removal) => {
                    self.removal = Some(removal);
                    return;
                }
                None => match self.next_removal(&segments, held) {
                    Some(NextRemoval::Acknowledged(first_n)) => {
                        if !(self.remove_segment(first_n) && self.report_retained()) {
                            return;
                        }
                    }
                    Some(NextRemoval::Named(removal)) => {
                        lock(&self.shared.gaps_written).clear();
                        self.shared.outbox.report(StoreEvent::Removing { ranges: removal.ranges.clone() });
                        self.removal = Some(removal);
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    fn is_named(&self, removal: &Removal) -> bool {
        let last = removal.ranges.last().map(|(_, to)| *to);
        lock(&self.shared.gaps_written).iter().any(|to| Some(*to) == last)
    }

    /// Removes what a durable `log_gap` names. `false`: the disk does not let it; it is tried again.
    fn carry_out(&mut self, segments: &[Segment], removal: &Removal) -> bool {
        if removal.whole {
            return self.remove_segment(removal.first_n) && self.report_retained();
        }
        let Some(segment) = segments.iter().find(|segment| segment.first_n == removal.first_n) else { return true };
        match limit::rewrite(&self.shared, *segment, removal) {
            Ok(()) => {
                self.thinned_through = removal.first_n;
                self.counts.forget(removal.first_n);
                true
            }
            Err(error) => {
                tracing::warn!("cannot shorten `{}`: {error}; tried again", Segment::path(removal.first_n));
                false
            }
        }
    }

    /// What goes next. Nothing that a generation may need, and not the segment that is written.
    fn next_removal(&mut self, segments: &[Segment], held: u64) -> Option<NextRemoval> {
        let closed = segments.windows(2).filter_map(|pair| match pair {
            [segment, next] if next.first_n.saturating_sub(1) <= held => Some((*segment, next.first_n)),
            _ => None,
        });
        let closed: Vec<(Segment, u64)> = closed.collect();
        let (oldest, next_n) = *closed.first()?;
        if next_n.saturating_sub(1) <= self.cursor {
            return Some(NextRemoval::Acknowledged(oldest.first_n));
        }
        for (segment, next_n) in &closed {
            if segment.first_n <= self.thinned_through {
                continue;
            }
            match limit::removal(&*self.shared.medium, *segment, *next_n) {
                Ok(Some(removal)) => return Some(NextRemoval::Named(removal)),
                Ok(None) => self.thinned_through = segment.first_n,
                Err(error) => {
                    tracing::warn!("cannot read `{}`: {error}", Segment::path(segment.first_n));
                    return None;
                }
            }
        }
        let ranges = vec![(oldest.first_n, next_n.saturating_sub(1))];
        Some(NextRemoval::Named(Removal { first_n: oldest.first_n, ranges, whole: true }))
    }

    /// The oldest segment, if it may go and a generation holds all up to `held`.
    fn oldest_beyond(&mut self, held: u64) -> Option<u64> {
        let (options, medium) = (&self.shared.options, &*self.shared.medium);
        let age_ms = i64::from(options.retain_days).saturating_mul(DAY_MS);
        let (segments, newest, trusted_at) = {
            let index = lock(&self.shared.index);
            (index.segments.clone(), index.last, index.trusted_at)
        };
        let [oldest, later @ ..] = segments.as_slice() else { return None };
        let (next, behind) = (later.first()?, later.iter().map(|segment| segment.trusted_at).min()?);
        let last = next.first_n.saturating_sub(1);
        let may_go = last <= self.cursor && last <= held;
        let is_beyond = may_go
            && (behind.0 < trusted_at.0.saturating_sub(age_ms)
                || self.counts.follow_oldest(options.retain_events, medium, &segments, newest));
        is_beyond.then_some(oldest.first_n)
    }

    /// Walks through all segments and reports what is wrong with them, beyond what the start reported.
    pub(super) fn scrub(&mut self) {
        let segments = lock(&self.shared.index).segments.clone();
        let medium = &*self.shared.medium;
        let mut replayed = replay::check(medium, &segments);
        replayed.keep_copies(medium);
        replayed.reported(&self.known);
        replayed.settle();
        for issue in replayed.issues {
            if !self.known.contains(&issue) && !matches!(issue, RecoveryIssue::KnownLoss { .. }) {
                self.shared.outbox.report(StoreEvent::Found(issue));
            }
        }
    }

    /// What is left to do when the writer has ended.
    pub(super) fn finish(&mut self) {
        self.keep_cursor();
        let last = lock(&self.shared.index).last;
        if last.saturating_sub(self.generation) >= CLOSING_EVENTS.min(self.shared.options.generation_events) {
            drop(self.write_generation(u64::MAX));
        }
    }

    /// Runs until the store is closed.
    pub(super) fn run(mut self) {
        self.chores(false);
        if !self.shared.requests.closing() {
            self.scrub();
        }
        while let Some(requested) = self.shared.requests.wait(LOOK_EVERY) {
            self.chores(requested);
        }
        self.finish();
    }
}
