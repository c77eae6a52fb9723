//! The TCP listener of the console: a bounded number of connections, so that however many people look, the gateway keeps the file
//! descriptors that it needs for its portals and its disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once where the limit of open files leaves room for them; more wait until one ends.
pub const CONNECTIONS_MAX: usize = 256;
/// Pause after the system refuses a connection, as when it has no file descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module's head.
pub(in crate::http) struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// How often the system refused a connection since it gave the last one.
    refused: u64,
}

impl Bounded {
    /// `room`: connections at once.
    pub(in crate::http) fn new(listener: TcpListener, room: usize) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(room.min(CONNECTIONS_MAX))), refused: 0 }
    }

    /// The next connection, once there is room for it, who connected, and its place, which is kept as long as the connection is open.
    /// May be dropped and called again without losing one.
    pub(in crate::http) async fn accept(&mut self) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    if let refused @ 1.. = std::mem::take(&mut self.refused) {
                        tracing::info!(refused, "the console takes connections again");
                    }
                    // An event is small, and is to be on the page at once.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection of the console is slow");
                    }
                    return (stream, from, place);
                }
                Err(error) => {
                    // One line for as long as it lasts.
                    if self.refused == 0 {
                        tracing::warn!(%error, "the console takes no connection");
                    }
                    self.refused = self.refused.saturating_add(1);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
