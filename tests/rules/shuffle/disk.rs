//! What is on disk, and what a power cut leaves of it.

use dormgate::access::change::Changes;
use dormgate::access::event::{EventKind, Record};

use super::{Applied, Proof};
use crate::world::fold_onto;

impl Proof {
    /// The disk gets on by some way, and acks that waited for it leave.
    pub(super) fn flush_some(&mut self) {
        let waiting = self.records.len() - self.durable;
        self.durable += self.dice.below(waiting + 1);
        let through = self.records[..self.durable].last().map_or(0, |r| r.event.n);
        let (kept, due): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(after, ..)| *after > through);
        self.waiting = kept;
        for (_, place, seq) in due {
            self.acknowledged[place].insert(seq);
        }
    }

    /// The gateway loses power: what was not flushed is gone, and without a session what is on its way.
    pub(super) fn power_cut(&mut self) {
        self.flush_some();
        self.records.truncate(self.durable);
        self.waiting.clear();
        fold_onto(&mut self.disk, &self.records, &self.w.received);
        self.applied = self.on_disk();
        for (place, acknowledged) in self.acknowledged.iter().enumerate() {
            let lost = acknowledged.iter().find(|seq| !self.applied.seqs[place].contains(seq));
            assert_eq!(lost, None, "an acknowledged message of {} did not survive", self.offices[place].stream);
        }
        if self.is_clean {
            self.wire.clear();
            self.others.clear();
        }
        self.w.elapsed_ms += 5_000;
        let boot = self.w.restart_with(self.disk.clone());
        assert_eq!(boot.openings(), 0, "nothing is switched on from memory");
        self.take(boot.0);
        self.assert_boxes();
        self.link_up();
    }

    /// The messages whose application is on disk.
    fn on_disk(&self) -> Applied {
        let mut applied = Applied::default();
        for record in self.records.iter().filter(|r| r.event.kind() == EventKind::ChangesApplied) {
            let (stream, from, to) = self.span_of(record);
            let place = Self::place_of(&stream);
            (from..=to).for_each(|seq| applied.add(place, &self.offices[place], seq));
        }
        applied
    }

    fn span_of(&self, record: &Record) -> (String, u64, u64) {
        if let Ok(place) = <[u8; 8]>::try_from(record.evidence.as_slice()) {
            let Changes { stream, at, .. } = &self.w.received[usize::from_le_bytes(place)];
            return (stream.to_string(), at.seq, at.seq);
        }
        let snapshot = dormgate::wire::snapshot::read_evidence(&record.evidence).unwrap();
        (snapshot.head.stream.to_string(), 1, snapshot.head.at.seq)
    }
}
