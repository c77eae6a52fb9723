//! Puts an opened store together, and sets it going: with threads on a disk, step by step on a simulated one.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::watch;
use tokio::time::Instant;

use super::events::{RecoveryIssue, StoreEvents, channel};
use super::journal::{Form, Journal};
use super::keeper::{DAY_MS, Keeper};
use super::marks::MarkWriter;
use super::medium::Medium;
use super::memory::{Fault, MemoryDisk};
use super::queue::Queue;
use super::reader::{Index, Reader};
use super::reserve::Reserve;
use super::shared::{Requests, Shared};
use super::writer::{Stepped, Writer};
use super::{Fold, Handle, Options, Recovered, Store, generation, recover, retained, segments};
use crate::lock;

/// Does for a store on a [`MemoryDisk`] what threads do for one on disk, step by step on call.
pub struct Stepper<F> {
    disk: MemoryDisk,
    writer: Writer,
    pub(super) keeper: Keeper<F>,
}

impl<F: Fold> Stepper<F> {
    /// Writes and syncs one batch of what waits, and reports.
    pub fn step(&mut self) -> Stepped {
        if let Fault::Stalled { for_ms } = self.disk.fault() {
            self.writer.report_stalled(for_ms);
            return Stepped::Stalled;
        }
        self.writer.step()
    }

    /// Steps until nothing waits or the disk fails.
    pub fn flush(&mut self) -> Stepped {
        loop {
            match self.step() {
                Stepped::Done => {}
                end @ (Stepped::Idle | Stepped::Failed | Stepped::Stalled) => return end,
            }
        }
    }

    /// Does the chores that are due: the mark synced, a generation after enough events or on request, retention, the cursor, the reserve.
    pub fn chores(&mut self) {
        self.writer.sync_mark();
        self.keeper.chores_asked();
    }

    /// Ends as a clean stop does: all written, the mark synced, a last generation if it is worth it.
    pub fn close(mut self) {
        self.writer.drain();
        self.keeper.finish();
    }
}

/// A store whose threads are not running yet.
pub(super) struct Opened<F> {
    store: Store,
    events: StoreEvents,
    recovered: Recovered<F>,
    writer: Writer,
    keeper: Keeper<F>,
}

impl<F: Fold> Opened<F> {
    /// Starts the threads. `lock` is held until they have ended; a directory that cannot be written may have none.
    pub(super) fn run(self, held: Option<File>) -> io::Result<(Store, StoreEvents, Recovered<F>)> {
        let Self { store, events, recovered, writer, keeper } = self;
        let shared = Arc::clone(&store.0.0);
        *lock(&shared.lock) = held;
        let ending = Arc::clone(&shared);
        let write = move || {
            writer.run();
            ending.requests.change(|asked| asked.closing = true);
        };
        thread::Builder::new().name("store-writer".to_owned()).spawn(write)?;
        let keep = move || {
            crate::wait_behind_requests();
            keeper.run();
            shared.set_done();
        };
        thread::Builder::new().name("store-keeper".to_owned()).spawn(keep)?;
        Ok((store, events, recovered))
    }

    /// Starts nothing.
    pub(super) fn step_by_step(self, disk: MemoryDisk) -> (Store, StoreEvents, Recovered<F>, Stepper<F>) {
        let Self { store, events, recovered, writer, keeper } = self;
        (store, events, recovered, Stepper { disk, writer, keeper })
    }
}

/// Reads what is there and puts the store together.
pub(super) fn open_on<F: Fold>(medium: Arc<dyn Medium>, options: Options, timed: bool) -> io::Result<Opened<F>> {
    let begun = timed.then(Instant::now);
    // Whether it can be read at all, before anything changes.
    segments::list(&*medium)?;
    let made = recover::make_dirs(&*medium);
    recover::remove_unfinished(&*medium);
    generation::remove_unfinished(&*medium);
    let recover::Found { mut recovered, segments, end, base, sealed, acked } =
        recover::recover::<F>(&*medium, options.uid_key.as_ref())?;
    let last = end.place.n;
    let mut mark = MarkWriter::default();
    let marked = made.and_then(|()| mark.reset(&*medium, last));
    let marked =
        marked.and_then(|()| retained::make(&*medium, segments.first().map(|s| s.first_n), (last, end.place.hash)));
    if let Err(error) = marked {
        recovered.issues.push(RecoveryIssue::not_written(&error));
    }
    let index = Arc::new(Mutex::new(Index { segments, last, trusted_at: end.place.trusted_at, close_last: false }));
    let hashing = options.uid_key.clone().filter(|_| options.hash_uids);
    // Whole segments go, so an event stays no longer than this beyond `retain_days`, also in a building where few come.
    let segment_ms = (i64::from(options.retain_days) * DAY_MS / 16).max(DAY_MS).unsigned_abs();
    let form = Form { segment_bytes: options.segment_bytes, segment_ms, hashing };
    let journal = Journal::new(Arc::clone(&medium), Arc::clone(&index), form, mark, end);
    let (outbox, events) = channel(timed);
    let shared = Arc::new(Shared {
        durable: watch::Sender::new(last),
        queue: Queue::new(options.soon_max),
        reader: Reader::new(Arc::clone(&medium), Arc::clone(&index)),
        options,
        medium,
        index,
        outbox,
        requests: Requests::default(),
        acked: AtomicU64::new(acked),
        reserve: Reserve::default(),
        failing: Mutex::default(),
        gaps_written: Mutex::default(),
        lock: Mutex::default(),
        timed,
    });
    recovered.took_ms = begun.map_or(0, |begun| u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    let writer = Writer::new(Arc::clone(&shared), journal);
    let keeper = Keeper::new(Arc::clone(&shared), (base, sealed), recovered.issues.clone());
    Ok(Opened { store: Store(Arc::new(Handle(shared))), events, recovered, writer, keeper })
}
