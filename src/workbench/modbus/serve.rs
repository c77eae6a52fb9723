//! The bytes of a simulated line: frames in, answers out, over TCP and on a serial port. It knows nothing about devices.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::wire::modbus::{MBAP_BYTES, Mbap, RtuDecoder, rtu_frame, rtu_open, rtu_request_bytes, tcp_frame};

use super::{Answer, Line};

/// Late answers that one connection has under way; further ones are dropped.
const LATE_MAX: usize = 64;

/// The line's port and tasks; dropping it closes the line.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) tasks: JoinSet<()>,
}

impl Served {
    /// Whether it still listens.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.tasks.is_empty()
    }
}

/// The sending side of a connection, for immediate and for late answers.
struct Out {
    bytes: mpsc::Sender<Vec<u8>>,
    late: JoinSet<()>,
}

impl Out {
    /// Sends the answer. `false`: the connection has to end.
    async fn send(&mut self, answer: Answer) -> bool {
        while self.late.try_join_next().is_some() {}
        match answer {
            Answer::Now(bytes) => self.bytes.send(bytes).await.is_ok(),
            Answer::Later(after, bytes) if self.late.len() < LATE_MAX => {
                let out = self.bytes.clone();
                self.late.spawn(async move {
                    sleep(after).await;
                    // The client may have disconnected meanwhile.
                    drop(out.send(bytes).await);
                });
                true
            }
            Answer::Later(..) | Answer::Nothing => true,
            Answer::HangUp => false,
        }
    }
}

/// Runs the reading and the writing half of a connection until one of them ends.
async fn both<W: AsyncWrite + Unpin>(mut write: W, read: impl AsyncFnOnce(Out) -> io::Result<()>) -> io::Result<()> {
    let (bytes, mut ready) = mpsc::channel::<Vec<u8>>(LATE_MAX);
    let writing = async {
        while let Some(bytes) = ready.recv().await {
            write.write_all(&bytes).await?;
            write.flush().await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = read(Out { bytes, late: JoinSet::new() }) => ended,
        ended = writing => ended,
    }
}

impl Line {
    /// Listens on a TCP port of the loopback; port 0 chooses one. Fails when the port cannot be bound.
    pub async fn serve_tcp(&self, port: u16) -> io::Result<Served> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let line = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let line = line.clone();
                connections.spawn(async move {
                    // An error ends this connection and nothing else.
                    drop(stream.set_nodelay(true));
                    drop(line.connection(stream).await);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Served { address, tasks })
    }

    /// Serves one Modbus TCP connection, over any stream of bytes, until it ends. Fails when the connection fails or sends no Modbus.
    pub async fn connection(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let (mut read, write) = tokio::io::split(stream);
        both(write, async |mut out: Out| {
            loop {
                let mut header = [0; MBAP_BYTES];
                read.read_exact(&mut header).await?;
                let mbap = Mbap::parse(header).ok_or(io::ErrorKind::InvalidData)?;
                let mut pdu = vec![0; mbap.pdu_bytes];
                read.read_exact(&mut pdu).await?;
                let frame = |unit: u8, pdu: &[u8]| tcp_frame(mbap.transaction, unit, pdu);
                if !out.send(self.transact(mbap.unit, &pdu, frame).await).await {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Serves a serial port until it ends.
    pub async fn serve_rtu(&self, port: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let (mut read, write) = tokio::io::split(port);
        both(write, async |mut out: Out| {
            let mut decoder = RtuDecoder::default();
            loop {
                let mut bytes = [0; 256];
                let got = read.read(&mut bytes).await?;
                if got == 0 {
                    return Ok(());
                }
                decoder.push(bytes.get(..got).unwrap_or_default());
                let fits = |bytes: &[u8]| rtu_request_bytes(bytes) == Some(bytes.len());
                while let Some((_, request)) = decoder.next(fits, |_| 0) {
                    if let Some((unit, pdu)) = rtu_open(&request) {
                        // A serial line has no connection to close, so that fault is silence here.
                        out.send(self.transact(unit, pdu, rtu_frame).await).await;
                    }
                }
            }
        })
        .await
    }
}
