//! A line in memory between the gateway and simulated devices: it takes the time that bytes take on a real one, and spoils answers by a seed.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::super::serial::silence;
use std::sync::Mutex;

use super::*;
use crate::config::{Parity, SerialConfig, TcpPeer};
use crate::wire::modbus::{MBAP_BYTES, rtu_frame, rtu_open};

/// What an adapter or converter does to every exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adapter {
    #[default]
    Plain,
    /// Returns what is sent.
    Echoes,
    /// Puts a byte before each answer.
    Noise,
    /// Ends the connection some milliseconds after each answer; what is sent meanwhile is lost.
    Closes,
    /// Answers with transaction 0.
    TransactionZero,
}

/// After this time a device that has not answered is dead. Longer than any pace a test gives its line.
const DEAD_MS: u64 = 20;
/// Time from an answer to the end of the connection of a converter that closes it.
const CLOSE_MS: u64 = 3;

/// How an answer is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Arrives,
    /// It is lost, or its request before the device receives it.
    Lost,
    /// It comes after its deadline, and within the time in which the gateway expects late answers.
    Late,
    Garbled,
    /// The answer of another unit comes in its place or before it.
    Foreign,
}

/// Numbers that look like chance and are the same in every run (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

struct Inner {
    line: Line,
    /// The speed of a serial line; none: Modbus TCP.
    baud: Option<u32>,
    each_percent: u64,
    /// Units that answer only after this time, while the line goes on.
    slow: Mutex<HashMap<u8, Duration>>,
    adapter: Mutex<Adapter>,
    /// Something sends on the line all the time.
    babble: watch::Sender<bool>,
    dice: Mutex<Dice>,
    requests: AtomicUsize,
    after: Box<dyn Fn(&Line) + Send + Sync>,
}

/// One line; every [`Cable::plug`] is a new connection to it.
#[derive(Clone)]
pub struct Cable(Arc<Inner>);

thread_local! {
    /// The cables of the tests of this thread, by the number in their names.
    static CABLES: RefCell<Vec<Cable>> = const { RefCell::new(Vec::new()) };
}

/// The cable that a line of the configuration names, if it is one.
pub fn named(line: &BusLine) -> Option<Cable> {
    let (BusLine::Serial(SerialConfig { port: name, .. }) | BusLine::Tcp(TcpPeer { host: name, .. })) = line;
    let number: usize = name.strip_prefix("cable-")?.parse().ok()?;
    CABLES.with_borrow(|cables| cables.get(number).cloned())
}

impl Cable {
    /// A line without faults.
    pub fn new(line: &Line, baud: Option<u32>) -> Self {
        Self::bad(line, baud, 0, 0, |_| {})
    }

    /// A line on which `each_percent` of the answers are lost, as many late, garbled, and replaced by foreign ones. `after` is called after
    /// each transaction that reached a device.
    pub fn bad(
        line: &Line,
        baud: Option<u32>,
        each_percent: u64,
        seed: u64,
        after: impl Fn(&Line) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            line: line.clone(),
            baud,
            each_percent,
            slow: Mutex::default(),
            adapter: Mutex::default(),
            babble: watch::Sender::new(false),
            dice: Mutex::new(Dice(seed)),
            requests: AtomicUsize::new(0),
            after: Box::new(after),
        }))
    }

    /// Requests received so far, over all connections.
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// From now on `unit` answers only after this time, and the line goes on meanwhile.
    pub fn slow(&self, unit: u8, after: Duration) {
        self.0.slow.lock().unwrap().insert(unit, after);
    }

    /// Whether something sends on the line all the time.
    pub fn babble(&self, on: bool) {
        self.0.babble.send_replace(on);
    }

    /// From now on the adapter behaves so.
    pub fn adapter(&self, adapter: Adapter) {
        *self.0.adapter.lock().unwrap() = adapter;
    }

    /// A line of the configuration that is this cable, for [`named`].
    pub fn line(&self) -> BusLine {
        let name = CABLES.with_borrow_mut(|cables| {
            cables.push(self.clone());
            format!("cable-{}", cables.len() - 1)
        });
        match self.0.baud {
            Some(baud) => BusLine::Serial(SerialConfig { port: name, baud, parity: Parity::None, stop_bits: 1 }),
            None => BusLine::Tcp(TcpPeer { host: name, port: 502 }),
        }
    }

    /// A new connection: its near end.
    pub fn plug(&self) -> DuplexStream {
        let (near, from_gateway) = duplex(4096);
        let (to_device, far) = duplex(4096);
        let (line, serial) = (self.0.line.clone(), self.0.baud.is_some());
        tokio::spawn(async move {
            drop(if serial { line.serve_rtu(far).await } else { line.connection(far).await });
        });
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { drop(inner.carry(from_gateway, to_device).await) });
        near
    }
}

impl Inner {
    fn roll(&self, end: u64) -> u64 {
        self.dice.lock().unwrap().below(end)
    }

    fn delivery(&self) -> Delivery {
        let spoilt = [Delivery::Lost, Delivery::Late, Delivery::Garbled, Delivery::Foreign];
        match self.each_percent {
            0 => Delivery::Arrives,
            each => usize::try_from(self.roll(100) / each)
                .ok()
                .and_then(|at| spoilt.get(at))
                .copied()
                .unwrap_or(Delivery::Arrives),
        }
    }

    /// The time that bytes take on a serial line, with the silence before them.
    async fn takes(&self, bytes: usize) {
        if let Some(baud) = self.baud {
            let bits = 11 * u64::try_from(bytes).unwrap();
            sleep(silence(baud) + Duration::from_micros(bits * 1_000_000 / u64::from(baud))).await;
        }
    }

    async fn carry(&self, gateway: DuplexStream, mut device: DuplexStream) -> std::io::Result<()> {
        let mut bytes = [0; 512];
        let (mut gateway, answers) = tokio::io::split(gateway);
        let answers = Arc::new(tokio::sync::Mutex::new(answers));
        let (mut babble, noise) = (self.babble.subscribe(), Arc::clone(&answers));
        tokio::spawn(async move {
            while babble.wait_for(|on| *on).await.is_ok() && noise.lock().await.write_all(&[0]).await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        loop {
            let read = gateway.read(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            let unit = if self.baud.is_some() { bytes[0] } else { bytes[MBAP_BYTES - 1] };
            let slow = self.slow.lock().unwrap().get(&unit).copied();
            let delivery = if slow.is_some() { Delivery::Late } else { self.delivery() };
            let adapter = *self.adapter.lock().unwrap();
            self.takes(read).await;
            if adapter == Adapter::Echoes {
                answers.lock().await.write_all(&bytes[..read]).await?;
            }
            if delivery == Delivery::Lost && self.roll(2) == 0 {
                continue;
            }
            device.write_all(&bytes[..read]).await?;
            // A dead device sends nothing, and is not waited for.
            let Ok(answered) = timeout(Duration::from_millis(DEAD_MS), device.read(&mut bytes)).await else { continue };
            let mut answer = bytes[..answered?].to_vec();
            if answer.is_empty() {
                return Ok(());
            }
            match adapter {
                Adapter::Noise => answer.insert(0, 0),
                Adapter::TransactionZero => answer[..2].fill(0),
                Adapter::Plain | Adapter::Echoes | Adapter::Closes => {}
            }
            (self.after)(&self.line);
            self.takes(answer.len()).await;
            match delivery {
                Delivery::Arrives => answers.lock().await.write_all(&answer).await?,
                Delivery::Lost => {}
                Delivery::Late => {
                    // The line goes on meanwhile.
                    let late = slow.unwrap_or_else(|| Duration::from_millis(201 + self.roll(180)));
                    let answers = Arc::clone(&answers);
                    tokio::spawn(async move {
                        sleep(late).await;
                        drop(answers.lock().await.write_all(&answer).await);
                    });
                }
                Delivery::Garbled => answers.lock().await.write_all(&self.garbled(answer)).await?,
                Delivery::Foreign => {
                    answers.lock().await.write_all(&self.foreign(&answer)).await?;
                    if self.roll(2) == 0 {
                        answers.lock().await.write_all(&answer).await?;
                    }
                }
            }
            if adapter == Adapter::Closes {
                sleep(Duration::from_millis(CLOSE_MS)).await;
                return answers.lock().await.shutdown().await;
            }
        }
    }

    /// Spoilt in a way that can be detected: a serial frame by its checksum; a TCP frame, which has none, by its header or length.
    fn garbled(&self, mut answer: Vec<u8>) -> Vec<u8> {
        let mut dice = self.dice.lock().unwrap();
        if dice.below(4) == 0 {
            let kept = dice.below(u64::try_from(answer.len()).unwrap());
            answer.truncate(usize::try_from(kept).unwrap());
            return answer;
        }
        let breadth = if self.baud.is_some() { answer.len() } else { 6 };
        // One to three bits: what a checksum of 16 bits always finds in a frame this short.
        for _ in 0..=dice.below(3) {
            let at = usize::try_from(dice.below(u64::try_from(breadth).unwrap())).unwrap();
            answer[at] ^= 1 << dice.below(8);
        }
        answer
    }

    /// The answer of another unit, or to another question, with other contents.
    fn foreign(&self, answer: &[u8]) -> Vec<u8> {
        let mut dice = self.dice.lock().unwrap();
        let mut spoil = |pdu: &mut [u8]| {
            if pdu[0] <= 4 {
                pdu[2..].iter_mut().for_each(|byte| *byte = dice.byte());
            }
        };
        if self.baud.is_some() {
            let (unit, pdu) = rtu_open(answer).unwrap();
            let mut pdu = pdu.to_vec();
            spoil(&mut pdu);
            return rtu_frame(unit.wrapping_add(1), &pdu);
        }
        let mut other = answer.to_vec();
        spoil(&mut other[MBAP_BYTES..]);
        // Another transaction of the same unit, or another unit in the same transaction.
        let at = if dice.below(2) == 0 { 1 } else { 6 };
        other[at] = other[at].wrapping_add(1);
        other
    }
}
