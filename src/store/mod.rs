//! What survives: the journal of audit events, which is the truth, and generations, which shorten its replay.
//!
//! One writer thread writes the journal; one keeper thread does the chores in the background. Handing events over never blocks
//! and never waits. Over a [`MemoryDisk`] the same rules run without threads, one [`Stepper::step`] at a time. What events mean
//! is not decided here: the state is a [`Fold`] of the caller.
//!
//! ```text
//! mod      the handle                       open        a store from its parts    shared  what its threads share
//! queue    what waits for the writer        writer      the thread that commits
//! journal  appends, repairs                 segment     its bytes                 marks   how far it is durable
//! recover  the start                        replay      the one judge of the chain, also of `verify`
//! verify   all of it without a state        reach       the one judge of how far it must reach
//! keeper   generations, retention           generation  which one counts, sled    record  the state as records
//! building makes one
//! reader   the audit feed                   events      what is reported          reserve a file to give back
//! limit    what goes when it is too long    backup      all of it in one file     restore and back
//! medium   the disk's interface             disk        a directory               memory  a simulated disk
//! resolve  the UIDs behind hashes           sealed      an encrypted disk
//! erase    events taken out of the chain    retained    what went from its front   ranges  of event numbers
//! segments which there are, and what is in them
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use crate::access::event::{AuditEvent, EventKind, Record};
use crate::access::id::{CardUid, Holder};
use crate::lock;
use crate::wire::audit::Hash;
use crate::wire::uid_key::UidKey;

mod backup;
mod building;
mod disk;
mod erase;
mod events;
mod generation;
mod journal;
mod keeper;
mod limit;
mod marks;
mod medium;
mod memory;
mod open;
mod queue;
mod ranges;
mod reach;
mod reader;
mod record;
mod recover;
mod replay;
mod reserve;
mod resolve;
mod restore;
mod retained;
mod sealed;
mod segment;
mod segments;
mod shared;
mod space;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BackupError, Inventory, back_up};
pub use erase::ERASABLE;
pub use events::{Break, Erasure, Front, Integrity, RecoveryIssue, StoreEvent, StoreEvents, Verified};
pub use memory::{Fault, MemoryDisk};
pub use open::Stepper;
pub use reader::StoredEvent;
pub use replay::Prove;
pub use restore::restore;
pub use sealed::StoreKey;
pub use space::free_bytes;
pub use verify::{verify, verify_signed};
pub use writer::Stepped;

use disk::Directory;
use shared::Shared;

/// Longest time [`Store::close`] waits for what is left to be written, in milliseconds; SIGTERM must drain within 5 s.
pub const CLOSE_MS_MAX: u64 = 4000;
/// Events read at once, at most.
pub const PAGE_EVENTS_MAX: usize = 1_000;
/// Bytes of events read at once, about.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Locked while a data directory is in use.
const LOCK: &str = "lock";

/// How the store is to behave. [`Options::default`] has the contract's figures.
#[derive(Clone, Debug)]
pub struct Options {
    /// [`crate::access::event::Flush::Soon`] events are on disk at most this much later, in milliseconds.
    pub flush_ms: u64,
    /// Events kept at least where nothing else asks for more.
    pub retain_events: u64,
    /// Days kept at most where nothing else asks for more, counted back from the newest event.
    pub retain_days: u32,
    /// Length at which a segment is full, in bytes.
    pub segment_bytes: u64,
    /// [`crate::access::event::Flush::Soon`] events that may wait for the disk; more are lost.
    pub soon_max: usize,
    /// Events after which a generation is written.
    pub generation_events: u64,
    /// Size of the reserve file in bytes.
    pub reserve_bytes: u64,
    /// How many days events of these types are kept, where that is less: then they are erased, and the chain stays.
    pub retain_kinds: Vec<(EventKind, u32)>,
    /// Length of the whole journal from which events go that the center does not have, in bytes.
    pub limit_bytes: u64,
    /// The key of the hashes that stand in the journal for UIDs, also of those that were written before.
    pub uid_key: Option<UidKey>,
    /// Whether events are written with the hash in place of the UID.
    pub hash_uids: bool,
    /// What events and generations are encrypted with on the disk; `None`: they are in clear.
    pub key: Option<StoreKey>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flush_ms: 50,
            retain_events: 1_000_000,
            retain_days: 180,
            segment_bytes: 8 * 1024 * 1024,
            soon_max: 50_000,
            generation_events: 10_000,
            reserve_bytes: 16 * 1024 * 1024,
            retain_kinds: Vec::new(),
            limit_bytes: 2 * 1024 * 1024 * 1024,
            uid_key: None,
            hash_uids: false,
            key: None,
        }
    }
}

/// The state that events add up to. Its contents are opaque here.
pub trait Fold: Default + Send + 'static {
    /// Takes in one durable event, in order, with the bytes kept beside it.
    ///
    /// # Errors
    /// Why it cannot be taken in; the start then counts it as lost.
    fn apply(&mut self, event: &AuditEvent, evidence: &[u8]) -> Result<(), String>;

    /// The cards that it knows from place `from` on, in the order in which they became known.
    fn cards_from(&self, from: usize) -> Vec<CardUid> {
        let _ = from;
        Vec::new()
    }

    /// The state as records.
    ///
    /// # Errors
    /// What cannot be encoded; no generation is then written.
    fn export(&self) -> Result<Vec<Vec<u8>>, String>;

    /// The state of exported records, which come in their order.
    ///
    /// # Errors
    /// Why the records are no state; the generation is then set aside.
    fn import(records: &[Vec<u8>]) -> Result<Self, String>;

    /// The version of this record, if a later program has written it: its generation is no damaged one, and is left where it is.
    #[must_use]
    fn later_version(record: &[u8]) -> Option<u8> {
        let _ = record;
        None
    }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error(
        "`{0}` is in use by another gateway; stop that one first, or give this one a `gateway.data_dir` of its own"
    )]
    InUse(PathBuf),
    /// What is there was written by another version.
    #[error(
        "`{dir}` was written by another version of dormgate: {detail}; start that version, or move the directory away to begin with an empty list"
    )]
    Version {
        /// The directory.
        dir: PathBuf,
        /// Which file, and the versions.
        detail: String,
    },
    /// What is there is encrypted with a key that is not this one.
    #[error("`{dir}` is encrypted: {detail}")]
    Key {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The directory cannot be used.
    #[error("`{dir}` cannot be used as `gateway.data_dir`: {source}; check that it can be read and written")]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// The error of the disk.
        source: io::Error,
    },
}

/// What the start found.
#[derive(Debug)]
pub struct Recovered<F> {
    /// The state as of the last event.
    pub state: F,
    /// The number of the next event.
    pub next_n: u64,
    /// The hash of the last event; the store chains by itself.
    pub prev: Hash,
    /// Whether all that was acknowledged is in `state`.
    pub integrity: Integrity,
    /// What is not, as inclusive ranges. Append a `log_gap` for each ([`crate::access::event::Flush::Now`]): until one names
    /// it, every start reports it again and no generation is written.
    pub lost: Vec<(u64, u64)>,
    /// Everything that is wrong on disk.
    pub issues: Vec<RecoveryIssue>,
    /// How long the start took, in milliseconds.
    pub took_ms: u64,
    /// Events replayed on top of the generation.
    pub events_replayed: u64,
}

/// Closes the store when the last handle is gone.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// How [`Store::close`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// All that was handed over and could be written is on disk.
    Drained,
    /// Writing was still under way after [`CLOSE_MS_MAX`]; what was reported durable is.
    Unfinished,
}

/// Takes the directory's lock; `None`: it cannot be written and has no lock file, so nothing else writes there either.
fn claim(dir: &Path) -> Result<Option<File>, StoreError> {
    let path = dir.join(LOCK);
    let fail = |source| StoreError::Dir { dir: dir.to_owned(), source: in_file(&path.display(), &source) };
    let lock = match OpenOptions::new().write(true).create(true).truncate(false).open(&path) {
        Ok(lock) => lock,
        // The list may still lie there to be read.
        Err(error) if cannot_be_written(&error) => match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        },
        Err(error) => return Err(fail(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

/// Whether a file is not written because its disk or directory cannot be: read-only, full, failing, or closed to this user.
#[must_use]
pub fn cannot_be_written(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let forbidden = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
    let fails = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    fails || full.contains(&error.kind()) || forbidden.contains(&error.kind())
}

/// An error with the file that it is about.
fn in_file(path: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{path}`: {error}"))
}

fn store_error(dir: &Path, error: io::Error) -> StoreError {
    let dir = dir.to_owned();
    match error.kind() {
        io::ErrorKind::Unsupported => StoreError::Version { dir, detail: error.to_string() },
        io::ErrorKind::InvalidInput => StoreError::Key { dir, detail: error.to_string() },
        _ => StoreError::Dir { dir, source: error },
    }
}

/// A handle to an open store. Cheap to clone; the store closes when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

impl Store {
    /// Opens the store in `dir`, making the directory if it is not there. Blocks while the journal is replayed.
    ///
    /// # Errors
    /// [`StoreError`]. Neither damaged contents nor a disk that can be read and not written are errors: see
    /// [`Recovered::integrity`] and [`Recovered::issues`].
    pub fn open<F: Fold>(dir: &Path, options: Options) -> Result<(Self, StoreEvents, Recovered<F>), StoreError> {
        let fail = |source| StoreError::Dir { dir: dir.to_owned(), source };
        disk::make_data_dir(dir).map_err(fail)?;
        let held = claim(dir)?;
        restore::finish(dir).map_err(fail)?;
        sealed::over(Arc::new(Directory::new(dir)), options.key.as_ref())
            .and_then(|medium| open::open_on::<F>(medium, options, true))
            .and_then(|opened| opened.run(held))
            .map_err(|error| store_error(dir, error))
    }

    /// Opens the store on a simulated disk. Nothing happens by itself: the [`Stepper`] does it.
    ///
    /// # Errors
    /// [`StoreError::Dir`] when the disk fails.
    pub fn open_in_memory<F: Fold>(
        disk: &MemoryDisk,
        options: Options,
    ) -> Result<(Self, StoreEvents, Recovered<F>, Stepper<F>), StoreError> {
        let fail = |error| store_error(Path::new("memory"), error);
        let medium = sealed::over(Arc::new(disk.clone()), options.key.as_ref()).map_err(fail)?;
        let opened = open::open_on::<F>(medium, options, false).map_err(fail)?;
        Ok(opened.step_by_step(disk.clone()))
    }

    /// Hands events over, in the order of their numbers. Never blocks: [`StoreEvent::Durable`] reports when they are on disk.
    pub fn append(&self, records: Vec<Record>) {
        self.0.0.queue.append(records);
    }

    /// How many events wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.0.queue.depth()
    }

    /// How many of them an acknowledgement waits for, so that they are never dropped, and the length of their messages in bytes.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        self.0.0.queue.kept()
    }

    /// The first event that is kept; 0: no event.
    #[must_use]
    pub fn first(&self) -> u64 {
        lock(&self.0.0.index).segments.first().map_or(0, |segment| segment.first_n)
    }

    /// What stands for this UID in the audit where it has hashes; the UID itself without a key.
    #[must_use]
    pub fn hash_of(&self, uid: CardUid) -> CardUid {
        self.0.0.options.uid_key.as_ref().map_or(uid, |key| key.hash(uid))
    }

    /// The last durable event; 0: no event.
    #[must_use]
    pub fn last_durable(&self) -> u64 {
        lock(&self.0.0.index).last
    }

    /// The number of the last durable event, as it changes.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.0.0.durable.subscribe()
    }

    /// The last event the center has.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.0.0.acked.load(Ordering::Relaxed)
    }

    /// Moves the cursor forward; on disk within some seconds. Numbers that are not durable yet count as the last durable one.
    pub fn set_acked(&self, through: u64) {
        let through = through.min(self.last_durable());
        self.0.0.acked.fetch_max(through, Ordering::Relaxed);
    }

    /// The next events begin a new segment, so that all that is written now can be erased. Asked for before an event that orders it.
    pub fn close_segment(&self) {
        lock(&self.0.0.index).close_last = true;
    }

    /// Erases the events of `holder` that the center has, in the background; gives how many, or why none. Blocks until it is done.
    ///
    /// # Errors
    /// Why it cannot be done now.
    pub fn erase_blocking(&self, holder: &Holder) -> Result<Erasure, String> {
        self.0.0.requests.erase(holder).recv().unwrap_or_else(|_| Err("the store is closed".to_owned()))
    }

    /// Asks for a generation, written in the background.
    pub fn request_generation(&self) {
        self.0.0.requests.change(|asked| asked.generation = true);
    }

    /// Durable events from number `from` on, skipping holes; at most `max_events` and about `max_bytes`, but at least one if
    /// there is one. Blocks on the disk.
    pub fn read_blocking(&self, from: u64, max_events: usize, max_bytes: usize) -> io::Result<Vec<StoredEvent>> {
        self.0.0.reader.read(from, max_events, max_bytes)
    }

    /// Hands on the durable events from `from` on below `end`, in their order; no more than a page of them is in memory. Blocks on the
    /// disk.
    pub fn each_blocking(&self, (mut from, end): (u64, u64), mut each: impl FnMut(StoredEvent)) -> io::Result<()> {
        while from < end {
            let events = self.read_blocking(from, PAGE_EVENTS_MAX, PAGE_BYTES_MAX)?;
            let Some(last) = events.last() else { break };
            from = last.n + 1;
            events.into_iter().filter(|event| event.n < end).for_each(&mut each);
        }
        Ok(())
    }

    /// [`Self::read_blocking`] on a thread made for that.
    pub async fn read(&self, from: u64, max_events: usize, max_bytes: usize) -> io::Result<Vec<StoredEvent>> {
        let store = self.clone();
        let reading = tokio::task::spawn_blocking(move || store.read_blocking(from, max_events, max_bytes));
        reading.await.map_err(io::Error::other)?
    }

    /// Writes what waits, a last generation if it is worth it, and ends. Blocks for at most [`CLOSE_MS_MAX`].
    #[must_use]
    pub fn close_blocking(&self) -> Closed {
        self.0.0.queue.close();
        if self.0.0.requests.wait_done(Duration::from_millis(CLOSE_MS_MAX)) {
            Closed::Drained
        } else {
            Closed::Unfinished
        }
    }

    /// [`Self::close_blocking`] on a thread made for that.
    pub async fn close(&self) -> Closed {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.close_blocking()).await.unwrap_or(Closed::Unfinished)
    }
}
