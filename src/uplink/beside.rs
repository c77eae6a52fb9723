//! The parts of snapshots, decoded on a thread of their own: neither a request nor a revocation waits while a list is parsed.
//!
//! What comes after a part may overtake it. A snapshot has every change up to its number whenever it arrives, and its parts may come in
//! any order.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::decode::{Decoded, Decoder};
use crate::access::id::Timestamp;
use crate::access::input::Receipt;
use crate::mqtt::AckToken;

/// Parts that are being decoded or wait for it. While there are so many, nothing is received: each has at most some 85 KiB.
pub(super) const PARTS_MAX: usize = 32;

/// What a message is, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter {
    /// What the gateway acknowledges it with.
    pub receipt: Receipt,
    /// What the broker wants it acknowledged with.
    pub ack: Option<AckToken>,
    /// A copy that the broker kept.
    pub retain: bool,
    /// When it came.
    pub at: Timestamp,
}

/// A part on its way to the thread, with the keys of the moment in which it came.
struct Part {
    decoder: Arc<Decoder>,
    topic: String,
    payload: Vec<u8>,
    letter: Letter,
}

/// A part as it comes back.
pub(super) struct Done {
    /// What it means by these keys.
    pub decoded: Decoded,
    pub decoder: Arc<Decoder>,
    pub letter: Letter,
}

/// The thread; it ends when this is dropped.
pub(super) struct Beside {
    parts: mpsc::Sender<Part>,
    decoded: mpsc::Receiver<Done>,
    waiting: usize,
}

impl Beside {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (parts, mut received) = mpsc::channel::<Part>(PARTS_MAX);
        let (done, decoded) = mpsc::channel(PARTS_MAX);
        let decode = move || {
            crate::wait_behind_requests();
            while let Some(Part { decoder, topic, payload, letter }) = received.blocking_recv() {
                let Letter { receipt, retain, at, .. } = letter;
                let decoded = decoder.decode(&topic, payload, retain, receipt, at);
                if done.blocking_send(Done { decoded, decoder, letter }).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("uplink-parts".to_owned()).spawn(decode)?;
        Ok(Self { parts, decoded, waiting: 0 })
    }

    /// Whether one has to be taken back before another can be given.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= PARTS_MAX
    }

    /// Gives a part to the thread. `false`: the thread is gone.
    pub(super) fn give(&mut self, decoder: &Arc<Decoder>, topic: String, payload: Vec<u8>, letter: Letter) -> bool {
        let given = self.parts.try_send(Part { decoder: Arc::clone(decoder), topic, payload, letter }).is_ok();
        self.waiting += usize::from(given);
        given
    }

    /// The next part that is decoded, in the order in which they were given. `None`: the thread is gone.
    pub(super) async fn next(&mut self) -> Option<Done> {
        let done = self.decoded.recv().await;
        self.waiting -= usize::from(done.is_some());
        done
    }
}
