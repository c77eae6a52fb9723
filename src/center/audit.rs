//! The audits of the gateways as the center keeps them: events byte for byte, and whether they are what the gateway wrote.
//!
//! An event is kept when it follows the last one: next number, and `prev` is the hash of the last event's bytes. A gap between
//! two batches may be a batch still on its way. It is taken for a loss at once where the gateway reports that the events are gone:
//! beside the batch, or in a `log_gap` event of it; and where its state names them as acknowledged, because it never sends those
//! again: this center was restored from an old copy, begins with an empty database, or another center acknowledges. Otherwise only when
//! the gateway sends the same beginning again, because then that is where its own cursor stands. So it is with what comes before the first
//! event received.
//!
//! An event that was received before comes again where the ack was lost, and is then the same, byte for byte. One that is another, or that
//! was passed as lost, shows that the gateway's audit goes on from an older copy of its data, or from a new store, or that somebody else
//! published in its name. Neither chain may be lost: what was received before stays, and what comes now is kept as another one, once the
//! gateway has sent it again. Only what is kept, the same byte for byte, is acknowledged.

use std::collections::HashMap;

use super::storage::{KeptEvent, Link};
use super::{Center, CenterError, SignedMessage, Storage};
use crate::access::event::{AuditEvent, EVENT_MAX, Event};
use crate::access::id::{GatewayId, Timestamp};
use crate::wire::allowed::OpName;
use crate::wire::audit::{self, Decoded, Hash};
use crate::wire::down::{self, AuditAck};
use crate::wire::envelope::sign;
use crate::wire::state;
use crate::wire::topic::{Down, Topic};
use crate::wire::up::{self, AuditBody};

/// Most ranges of numbers that are remembered as gone of one gateway. A gap that only others fill is waited for.
const GONE_MAX: usize = 4_096;
/// How far a batch may begin beyond the last event that is kept, and beyond the last that the gateway's state names; one further on is not
/// kept. Whoever has the account of one gateway may publish any number, and what he publishes must not stand in the way of all that comes.
pub const JUMP_MAX: u64 = 1_000_000;
/// A gap that is still there this many seconds after it was first seen is a loss. Less than the 30 s after which a gateway sends
/// again what nobody acknowledged.
pub const GAP_IS_LOSS_S: i64 = 20;
/// After so many seconds a later batch passes the gap, too: the one that showed it would have come again by now if it ever does.
/// Another center may have acknowledged it.
pub const GAP_IS_PASSED_S: i64 = 45;

/// What stands in front of the first event of an audit.
const NONE: Link = Link { n: 0, hash: audit::NO_HASH };

/// What is wrong with an audit received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditTrouble {
    /// The batch cannot be read; it is not acknowledged.
    #[error("a batch cannot be read: {0}")]
    Unreadable(String),
    /// Not what follows the last event; it is not acknowledged.
    #[error("event {n} does not follow event {after}: its `prev` is not the hash of that event; somebody changed one of them", after = n.saturating_sub(1))]
    Broken {
        /// The event.
        n: u64,
    },
    /// An event that was received before comes again with other content; it is not acknowledged.
    #[error(
        "event {n} was received before and is different now; the gateway's store was replaced, or somebody changed it"
    )]
    Different {
        /// The event.
        n: u64,
    },
    /// The gateway sends again what is different or does not follow: it has nothing else. What was received before is kept aside, and
    /// this event begins another chain.
    #[error(
        "from event {n} on the gateway has another audit than it sent before: an older copy of its data was put back without `dormgate restore`, or somebody changed it or published in its name; what it sent before is kept in {place}, and what it sends now beside it"
    )]
    Forked {
        /// The event.
        n: u64,
        /// Where what was received before is kept.
        place: String,
    },
    /// An event below the last one that is kept, which is not kept itself; it is not acknowledged.
    #[error(
        "event {n} comes after later ones that are kept, and is not kept: it was passed as lost, or is older than all that is kept; it is kept when the gateway sends it again"
    )]
    NotKept {
        /// The event.
        n: u64,
    },
    /// A batch that begins too far beyond what the gateway has, as far as is known; it is not acknowledged.
    #[error(
        "event {n} is too far beyond event {last}, the last one that is kept or that the gateway's state names: more than {JUMP_MAX}; if the gateway has it, its next state names it, and else look who may publish on its topics"
    )]
    TooFar {
        /// The event.
        n: u64,
        /// The last one known.
        last: u64,
    },
    /// Events between are missing; the batch is not acknowledged yet.
    #[error("events {from} to {to} are missing; waiting for them")]
    Waiting {
        /// First missing.
        from: u64,
        /// Last missing.
        to: u64,
    },
    /// Events between are lost: the gateway sends what comes after them again and again.
    #[error("events {from} to {to} are lost")]
    Lost {
        /// First lost.
        from: u64,
        /// Last lost.
        to: u64,
    },
    /// The gateway's audit starts again: its store is new. What was received before is kept aside.
    #[error("the gateway begins its audit again at event 1; what it sent before is kept in {0}")]
    Restarted(String),
}

/// What a batch brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedAudit {
    /// The events that are new.
    pub events: Vec<AuditEvent>,
    /// What is wrong.
    pub trouble: Vec<AuditTrouble>,
}

/// Of each gateway what is known beyond the last event that is kept. In memory only: the gateway sends again what is not acknowledged.
pub(super) type Gaps = HashMap<GatewayId, Beyond>;

/// See [`Gaps`].
#[derive(Clone, Default)]
pub(super) struct Beyond {
    /// Where a batch began after a gap, and when that was first seen.
    gap: Option<(u64, Timestamp)>,
    /// Numbers of events that the gateway reports to be gone: inclusive, in order, with others between them.
    gone: Vec<(u64, u64)>,
    /// How far the gateway's audit is, where its state was received: it never sends again what it has as acknowledged, by whomever, and
    /// all others until somebody acknowledges them.
    state: Option<state::Audit>,
}

impl Beyond {
    fn is_gone(&self, from: u64, to: u64) -> bool {
        self.gone.iter().any(|(first, last)| *first <= from && to <= *last)
    }

    /// Whether the gap before event `n` is to be waited for. The lowest number is remembered: several batches are under way at once, and
    /// the gateway begins with the lowest when it sends them again.
    fn waits_for(&mut self, n: u64, now: Timestamp) -> bool {
        match self.gap {
            Some((at, since)) if at <= n => {
                let patience_s = if at == n { GAP_IS_LOSS_S } else { GAP_IS_PASSED_S };
                now.0.saturating_sub(since.0) < patience_s * 1000
            }
            Some(_) | None => {
                self.gap = Some((n, now));
                true
            }
        }
    }

    /// Takes note of ranges that are gone.
    fn note(&mut self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        self.gone.extend(ranges.into_iter().filter(|(from, to)| from <= to));
        self.gone.sort_unstable();
        self.gone.dedup_by(|next, before| {
            let touches = next.0 <= before.1.saturating_add(1);
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        self.gone.truncate(GONE_MAX);
    }

    /// Events up to `n` are kept, or are known to be lost.
    fn reached(&mut self, n: u64) {
        self.gap = None;
        let passed = self.gone.iter().take_while(|(_, to)| *to <= n).count();
        self.gone.drain(..passed);
    }
}

impl<S: Storage> Center<S> {
    /// Takes note of how far a gateway's audit is, as its state names it.
    pub fn note_audit(&mut self, gateway: &GatewayId, audit: state::Audit) {
        self.gaps.entry(gateway.clone()).or_default().state = Some(audit);
    }

    /// Takes a batch of a gateway's audit: checks the chain, keeps the events, and gives the acknowledgement to publish, if a stream may.
    /// The events are on disk when this returns. Fails when the storage cannot be read or written.
    pub fn receive_audit(
        &mut self,
        gateway: &GatewayId,
        batch: &[u8],
        now: Timestamp,
    ) -> Result<(ReceivedAudit, Option<SignedMessage>), CenterError> {
        let body = up::decode::<AuditBody>(batch).map_err(|error| AuditTrouble::Unreadable(error.to_string()));
        let (received, through, beyond) = self.transaction(|center| {
            let ends = center.storage.audit_ends(gateway)?;
            // Only what comes again is looked up: in most batches nothing.
            let again = body.as_ref().ok().zip(ends).and_then(|(body, (_, last))| body.known_until(last.n));
            let known = again.map(|(from, to)| center.storage.audit_hashes(gateway, from, to)).transpose()?;
            let beyond = center.gaps.get(gateway).cloned().unwrap_or_default();
            let mut reading =
                Reading { ends, known: known.unwrap_or_default(), beyond, begins_again_at: None, confirmed: None };
            let mut received = ReceivedAudit::default();
            let kept = match &body {
                Ok(body) => reading.batch(body, now, &mut received.trouble),
                Err(unreadable) => {
                    received.trouble.push(unreadable.clone());
                    Vec::new()
                }
            };
            if let Some(n) = reading.begins_again_at {
                let place = center.storage.set_audit_aside(gateway)?;
                received.trouble.push(match n {
                    1 => AuditTrouble::Restarted(place),
                    _ => AuditTrouble::Forked { n, place },
                });
            }
            if !kept.is_empty() {
                center.storage.keep_audit(gateway, &kept, now)?;
            }
            received.events.extend(kept.into_iter().map(|kept| kept.event));
            Ok((received, reading.confirmed, reading.beyond))
        })?;
        // Of a batch that is not on disk nothing is known, and what was known before still is.
        self.gaps.insert(gateway.clone(), beyond);
        // A center without `command` keeps the audit all the same; another one acknowledges it.
        let Some((stream, through)) = self.stream_of(OpName::Command).zip(through) else { return Ok((received, None)) };
        let ack = AuditAck { stream: stream.spec.name.clone(), through };
        let claims = down::write_audit_ack(&ack, gateway, now)?;
        let payload = sign(&claims, &stream.spec.name, &stream.key).into_bytes();
        let topic = Topic::Down(gateway.clone(), Down::AuditAck);
        Ok((received, Some(SignedMessage { topic, payload, number: None })))
    }
}

/// The reading of one batch.
struct Reading {
    /// The first and the last event that are kept.
    ends: Option<(Link, Link)>,
    /// The hashes of the events of the batch that are kept already.
    known: HashMap<u64, Hash>,
    beyond: Beyond,
    /// The event with which another audit begins.
    begins_again_at: Option<u64>,
    /// The last event of the batch that is kept, now or before. No later one is acknowledged: the gateway may have others under the
    /// numbers that are kept here.
    confirmed: Option<u64>,
}

impl AuditBody {
    /// Which of its events have numbers up to `last`.
    fn known_until(&self, last: u64) -> Option<(u64, u64)> {
        let behind = self.first.saturating_add(u64::try_from(self.events.len()).unwrap_or(u64::MAX));
        let to = behind.saturating_sub(1).min(last);
        (self.first <= to).then_some((self.first, to))
    }
}

impl Reading {
    /// The events of the batch that are to be kept.
    fn batch(&mut self, body: &AuditBody, now: Timestamp, trouble: &mut Vec<AuditTrouble>) -> Vec<KeptEvent> {
        let mut kept = Vec::new();
        let (events, unreadable) = read(body);
        // Before anything of it counts, also that others are gone.
        let last = self.ends.map_or(0, |(_, last)| last.n).max(self.beyond.state.map_or(0, |state| state.last));
        if let Some(first) = events.first().map(|first| first.decoded.event.n)
            && first > last.saturating_add(JUMP_MAX)
        {
            trouble.push(AuditTrouble::TooFar { n: first, last });
            return kept;
        }
        self.beyond.note(body.after.map(|after| (after.saturating_add(1), body.first.saturating_sub(1))));
        for event in &events {
            self.note_log_gap(&event.decoded.event.body);
        }
        for Read { decoded, bytes } in events {
            let (n, hash) = (decoded.event.n, audit::hash(bytes));
            match self.judge(&decoded, hash, now) {
                Verdict::Keep(found) => trouble.extend(found),
                Verdict::Known => {
                    self.confirmed = Some(n);
                    continue;
                }
                Verdict::Refuse(found) => {
                    trouble.push(found);
                    return kept;
                }
                Verdict::Restarted => {
                    // A second time only where the gateway sent both in one batch, which none does.
                    if self.begins_again_at.is_some() {
                        trouble.push(AuditTrouble::Broken { n });
                        return kept;
                    }
                    self.begins_again_at = Some(n);
                    self.ends = None;
                    self.known.clear();
                    // What its state names may be of the audit before.
                    self.beyond = Beyond::default();
                }
            }
            let link = Link { n, hash };
            self.ends = Some((self.ends.map_or(link, |(first, _)| first), link));
            self.confirmed = Some(n);
            self.beyond.reached(n);
            kept.push(KeptEvent { event: decoded.event, bytes: bytes.to_vec(), hash });
        }
        trouble.extend(unreadable);
        kept
    }

    fn note_log_gap(&mut self, event: &Event) {
        if let Event::LogGap { from, to, ranges, .. } = event {
            let whole = ranges.is_empty().then_some((*from, *to));
            self.beyond.note(whole.into_iter().chain(ranges.iter().copied()));
        }
    }

    /// Refuses an event, until the gateway sends it again: one that was changed on its way comes as it was the next time.
    fn refuse(&mut self, trouble: AuditTrouble, n: u64, now: Timestamp) -> Verdict {
        if self.beyond.waits_for(n, now) { Verdict::Refuse(trouble) } else { Verdict::Restarted }
    }

    fn judge(&mut self, decoded: &Decoded, hash: Hash, now: Timestamp) -> Verdict {
        let n = decoded.event.n;
        let (first, last) = self.ends.unwrap_or((NONE, NONE));
        let next = last.n.saturating_add(1);
        if n == next {
            return if decoded.prev == last.hash {
                Verdict::Keep(None)
            } else if self.beyond.is_gone(last.n, last.n) {
                // The gateway's disk has lost an event that is kept here: its chain goes on from the one before.
                Verdict::Keep(Some(AuditTrouble::Lost { from: last.n, to: last.n }))
            } else {
                self.refuse(AuditTrouble::Broken { n }, n, now)
            };
        }
        // Where the audit is kept from a later event on, the first one is only late.
        if n == 1 && decoded.prev == audit::NO_HASH && first.n == 1 && first.hash != hash {
            return Verdict::Restarted;
        }
        if n < next {
            return match self.known.get(&n) {
                Some(known) if *known == hash => Verdict::Known,
                Some(_) => self.refuse(AuditTrouble::Different { n }, n, now),
                // The gateway never sends it again: the broker delivers it late, or twice.
                None if self.beyond.state.is_some_and(|state| n <= state.acked) => {
                    Verdict::Refuse(AuditTrouble::NotKept { n })
                }
                None => self.refuse(AuditTrouble::NotKept { n }, n, now),
            };
        }
        let (from, to) = (next, n - 1);
        // Linked across the gap: the numbers were never used. Or the gateway reports that it no longer has the events, or never sends them.
        let is_acked = self.beyond.state.is_some_and(|state| to <= state.acked);
        if decoded.prev == last.hash || self.beyond.is_gone(from, to) || is_acked {
            return Verdict::Keep(Some(AuditTrouble::Lost { from, to }));
        }
        // Without a state of the gateway only the time shows whether it will send what is missing.
        if self.beyond.state.is_some() || self.beyond.waits_for(n, now) {
            Verdict::Refuse(AuditTrouble::Waiting { from, to })
        } else {
            Verdict::Keep(Some(AuditTrouble::Lost { from, to }))
        }
    }
}

/// An event of a batch.
struct Read<'b> {
    decoded: Decoded,
    bytes: &'b [u8],
}

/// The events of a batch up to the first that cannot be read, and what is wrong with that one.
fn read(body: &AuditBody) -> (Vec<Read<'_>>, Option<AuditTrouble>) {
    let mut events = Vec::with_capacity(body.events.len());
    for (event, place) in body.events.iter().zip(0..) {
        let Some(n) = body.first.checked_add(place).filter(|n| *n <= EVENT_MAX) else {
            let what = format!("its events begin at {}, and no audit reaches numbers beyond {EVENT_MAX}", body.first);
            return (events, Some(AuditTrouble::Unreadable(what)));
        };
        let bytes = event.get().as_bytes();
        match audit::decode(bytes) {
            Ok(decoded) if decoded.event.n == n && !bytes.contains(&b'\n') => events.push(Read { decoded, bytes }),
            Ok(_) => {
                let what = format!("event {n} is not event {n} on one line");
                return (events, Some(AuditTrouble::Unreadable(what)));
            }
            Err(error) => return (events, Some(AuditTrouble::Unreadable(format!("event {n}: {error}")))),
        }
    }
    (events, None)
}

enum Verdict {
    /// New; perhaps with something to report.
    Keep(Option<AuditTrouble>),
    /// Received before.
    Known,
    /// Not to be kept.
    Refuse(AuditTrouble),
    /// New, and the first of another audit.
    Restarted,
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
