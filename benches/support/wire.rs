//! A serial line that takes the time that a real one takes: two pseudo-terminals and a thread between them that lets a byte through
//! every 11 bits. Only the benchmarks of Modbus have such lines.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a panic ends a benchmark, and it measures time"
)]

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dormgate::profile::{Profile, shipped};
use dormgate::workbench::modbus::Line;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::{SerialPort, SerialStream};

pub fn profile(id: &str) -> Arc<Profile> {
    Arc::new(shipped(id).unwrap())
}

/// Time of `bytes` characters of 11 bits.
pub fn characters(bytes: usize, baud: u32) -> Duration {
    Duration::from_nanos(bytes as u64 * 11 * 1_000_000_000 / u64::from(baud))
}

/// 3.5 characters, and above 19 200 Bd the fixed 1.75 ms (Modbus over serial line 1.02, 2.5.1.1).
pub fn silence(baud: u32) -> Duration {
    if baud > 19_200 { Duration::from_micros(1_750) } else { characters(7, baud) / 2 }
}

/// Two serial ports and the wire between them, which takes the time that a real one takes.
pub struct Wire {
    pub near: String,
    far: String,
    _open: [File; 2],
}

impl Wire {
    /// `at_once`: the bytes that the adapter hands to its reader at once.
    pub fn new(baud: u32, at_once: usize) -> Self {
        let (ready, pairs) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let [(gateway, near), (device, far)] = [SerialStream::pair().unwrap(), SerialStream::pair().unwrap()];
                ready.send([near.name().unwrap(), far.name().unwrap()]).unwrap();
                // Both names are opened by their users; these ends of ours must not hold their locks.
                carry(gateway, device, (baud, at_once), (near, far)).await;
            });
        });
        let [near, far] = pairs.recv().unwrap();
        let open = [File::open(&near).unwrap(), File::open(&far).unwrap()];
        Self { near, far, _open: open }
    }
}

/// Lets bytes through when their time has come. The thread is its own, so it may sleep.
async fn carry(
    mut gateway: SerialStream,
    mut device: SerialStream,
    (baud, at_once): (u32, usize),
    held: (SerialStream, SerialStream),
) {
    drop(held);
    let (mut ask, mut answer) = ([0; 256], [0; 256]);
    let mut free_at = Instant::now();
    loop {
        let (to, bytes) = tokio::select! {
            read = gateway.read(&mut ask) => (&mut device, read.map(|n| ask[..n].to_vec())),
            read = device.read(&mut answer) => {
                free_at += silence(baud);
                (&mut gateway, read.map(|n| answer[..n].to_vec()))
            }
        };
        // Neither end is open yet, or not any more.
        let Ok(bytes) = bytes else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        free_at = free_at.max(Instant::now());
        for bytes in bytes.chunks(at_once) {
            free_at += characters(bytes.len(), baud);
            std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
            if to.write_all(bytes).await.is_err() {
                break;
            }
        }
    }
}

pub async fn serve(line: &Line, wire: &Wire) -> tokio::task::JoinHandle<()> {
    let port = tokio_serial::new(&wire.far, 115_200);
    let far = tokio_serial::SerialPortBuilderExt::open_native_async(port).unwrap();
    let line = line.clone();
    tokio::spawn(async move { drop(line.serve_rtu(far).await) })
}
