//! The gateway's audit as the center keeps it: events byte for byte, and whether they are what was written.
//!
//! An event is kept when it follows the last one: next number, and `prev` is the hash of the last event's bytes. A gap between
//! two batches may be a batch still on its way; it is taken for a loss only when the gateway sends the same beginning again,
//! because then that is where its own cursor stands.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::CenterError;
use crate::access::event::AuditEvent;
use crate::access::id::Timestamp;
use crate::wire::audit::{self, Decoded, Hash};
use crate::wire::up::{self, AuditBody};

/// A gap that is still there this many seconds after it was first seen is a loss. Less than the 30 s after which a gateway sends
/// again what nobody acknowledged.
pub const GAP_IS_LOSS_S: i64 = 20;
/// How much of the file's end is read to find the last event, in bytes; far more than one event has.
const TAIL_BYTES: u64 = 4 * 1024 * 1024;

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
    /// An event that was received before comes again with other content.
    #[error(
        "event {n} was received before and is different now; the gateway's store was replaced, or somebody changed it"
    )]
    Different {
        /// The event.
        n: u64,
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
    #[error("the gateway begins its audit again at event 1; what it sent before is kept in `{0}`")]
    Restarted(String),
}

/// What a batch brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The events that are new.
    pub events: Vec<AuditEvent>,
    /// What is wrong.
    pub trouble: Vec<AuditTrouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    n: u64,
    hash: Hash,
}

/// The audit received from one gateway.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    last: Option<Last>,
    /// Where a batch began after a gap, and when that was first seen.
    gap: Option<(u64, Timestamp)>,
}

impl AuditLog {
    pub(super) fn open(folder: &Path) -> Result<Self, CenterError> {
        fs::create_dir_all(folder).map_err(CenterError::file(folder))?;
        let path = folder.join("audit.jsonl");
        let file = Self::open_file(&path)?;
        let mut log = Self { path, file, last: None, gap: None };
        log.catch_up()?;
        Ok(log)
    }

    fn open_file(path: &Path) -> Result<File, CenterError> {
        OpenOptions::new().read(true).append(true).create(true).open(path).map_err(CenterError::file(path))
    }

    /// The last event received without a hole before it that could still be filled; what is acknowledged.
    #[must_use]
    pub fn through(&self) -> Option<u64> {
        self.last.map(|last| last.n)
    }

    /// Finds the last event in the file, which another process may have written, and drops a half one.
    fn catch_up(&mut self) -> Result<(), CenterError> {
        // Opened again, because another process may have put the file aside.
        self.file = Self::open_file(&self.path)?;
        let mut tail = Vec::new();
        let length = self.file.metadata().map_err(CenterError::file(&self.path))?.len();
        let from = length.saturating_sub(TAIL_BYTES);
        self.file
            .seek(SeekFrom::Start(from))
            .and_then(|_| self.file.read_to_end(&mut tail))
            .map_err(CenterError::file(&self.path))?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < tail.len() {
            self.file.set_len(from + whole as u64).map_err(CenterError::file(&self.path))?;
        }
        let line = tail.get(..whole.saturating_sub(1)).unwrap_or_default().rsplit(|byte| *byte == b'\n').next();
        self.last = match line.filter(|line| !line.is_empty()) {
            None => None,
            Some(line) => {
                let decoded = audit::decode(line).map_err(|e| {
                    CenterError::damaged(&self.path, format!("the last line: {e}; move the file away to starts again"))
                })?;
                Some(Last { n: decoded.event.n, hash: audit::hash(line) })
            }
        };
        Ok(())
    }

    /// Takes a batch, `up/audit`. Call with the directory's lock held.
    pub(super) fn receive(&mut self, batch: &[u8], now: Timestamp) -> Result<Received, CenterError> {
        self.catch_up()?;
        let mut received = Received::default();
        let body = match up::decode::<AuditBody>(batch) {
            Ok(body) => body,
            Err(error) => {
                received.trouble.push(AuditTrouble::Unreadable(error.to_string()));
                return Ok(received);
            }
        };
        let mut lines = Vec::new();
        for (event, n) in body.events.iter().zip(body.first..) {
            let bytes = event.get().as_bytes();
            let decoded = match audit::decode(bytes) {
                Ok(decoded) if decoded.event.n == n && !bytes.contains(&b'\n') => decoded,
                Ok(_) => {
                    received.trouble.push(AuditTrouble::Unreadable(format!("event {n} is not event {n} on one line")));
                    break;
                }
                Err(error) => {
                    received.trouble.push(AuditTrouble::Unreadable(format!("event {n}: {error}")));
                    break;
                }
            };
            let hash = audit::hash(bytes);
            match self.judge(&decoded, hash, now) {
                Verdict::Keep(trouble) => received.trouble.extend(trouble),
                Verdict::Known => continue,
                Verdict::Refuse(trouble) => {
                    received.trouble.push(trouble);
                    break;
                }
                Verdict::Restarted => received.trouble.push(self.begin_again()?),
            }
            self.last = Some(Last { n, hash });
            self.gap = None;
            lines.extend_from_slice(bytes);
            lines.push(b'\n');
            received.events.push(decoded.event);
        }
        if !lines.is_empty() {
            let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
            written.map_err(CenterError::file(&self.path))?;
        }
        Ok(received)
    }

    fn judge(&mut self, decoded: &Decoded, hash: Hash, now: Timestamp) -> Verdict {
        let n = decoded.event.n;
        let Some(last) = self.last else { return Verdict::Keep(None) };
        let next = last.n.saturating_add(1);
        if n == next {
            let follows = decoded.prev == last.hash;
            return if follows { Verdict::Keep(None) } else { Verdict::Refuse(AuditTrouble::Broken { n }) };
        }
        if n == last.n && hash != last.hash || n == 1 && decoded.prev == audit::NO_HASH && !self.is_first(hash) {
            let again = n == 1 && decoded.prev == audit::NO_HASH;
            return if again { Verdict::Restarted } else { Verdict::Refuse(AuditTrouble::Different { n }) };
        }
        if n < next {
            return Verdict::Known;
        }
        let (from, to) = (next, n - 1);
        // Linked across the gap: the numbers were never used.
        if decoded.prev == last.hash {
            return Verdict::Keep(Some(AuditTrouble::Lost { from, to }));
        }
        match self.gap {
            Some((at, since)) if at == n && now.0.saturating_sub(since.0) >= GAP_IS_LOSS_S * 1000 => {
                Verdict::Keep(Some(AuditTrouble::Lost { from, to }))
            }
            Some((at, _)) if at == n => Verdict::Refuse(AuditTrouble::Waiting { from, to }),
            Some(_) | None => {
                self.gap = Some((n, now));
                Verdict::Refuse(AuditTrouble::Waiting { from, to })
            }
        }
    }

    /// Whether the first event of the file has this hash.
    fn is_first(&self, hash: Hash) -> bool {
        let mut head = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(TAIL_BYTES).read_to_end(&mut head));
        read.is_ok() && head.split(|byte| *byte == b'\n').next().is_some_and(|line| audit::hash(line) == hash)
    }

    /// Puts the file aside and begins another.
    fn begin_again(&mut self) -> Result<AuditTrouble, CenterError> {
        let names = (1_u32..).map(|count| self.path.with_file_name(format!("audit-{count}.jsonl")));
        let aside = names.into_iter().find(|path| !path.exists()).unwrap_or_else(|| self.path.with_extension("old"));
        fs::rename(&self.path, &aside).map_err(CenterError::file(&self.path))?;
        self.file = Self::open_file(&self.path)?;
        Ok(AuditTrouble::Restarted(aside.display().to_string()))
    }
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
