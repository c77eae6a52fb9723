//! Decisions at a gate while consoles look on: the real binary through a real mosquitto, 500 requests a second, with nobody at the
//! console and with 50 consoles that are sent every event, in turns.
//!
//! Prints p50 and p99 of a request and its decision on both sides, and the ratio. The consoles are one process of their own, which
//! reads what it is sent and draws nothing: 50 browsers would be 50 machines. Needs `mosquitto` on the path.
//! Run: `cargo bench --bench console`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a panic ends a benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use support::broker::{self, ASK, Asker, DECIDED, Kept, percentiles, request};

/// The argument with which this starts itself as the consoles; the port follows.
const CONSOLES: &str = "--consoles";
/// Consoles that look on.
const LOOKERS: usize = 50;
/// Time between the beginnings of two requests.
const EVERY: Duration = Duration::from_millis(2);
/// Each side takes so many turns of so many requests; the first of each turn are not counted.
const TURNS: usize = 8;
const REQUESTS: usize = 1_000;
const WARM_UP: usize = 200;
const CARDS: u32 = 1_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == CONSOLES) {
        Some(at) => look_on(args[at + 1].parse().unwrap()),
        None => broker::run(|runtime| runtime.block_on(measure())),
    }
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let (_broker, port) = broker::start_broker(dir.path());
    let page = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _gateway = broker::start_gateway(dir.path(), port, &key, &format!("[http]\nlisten = \"127.0.0.1:{page}\"\n"));
    let mut asker = Asker::start(port).await;
    broker::enrol_all(&mut asker, CARDS, &key).await;
    let (mut alone, mut watched, mut n) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        turn(&mut asker, &mut n, &mut alone).await;
        let consoles = start_consoles(page);
        turn(&mut asker, &mut n, &mut watched).await;
        drop(consoles);
    }
    let alone = percentiles("nobody at the console", alone);
    let watched = percentiles(&format!("{LOOKERS} consoles"), watched);
    println!("{:<28} p50 {:>8.2} x  p99 {:>8.2} x", "ratio", watched.0 / alone.0, watched.1 / alone.1);
}

async fn turn(asker: &mut Asker, n: &mut usize, times: &mut Vec<Duration>) {
    let mut next = Instant::now();
    for asked in 0..WARM_UP + REQUESTS {
        *n += 1;
        let took = asker.ask(ASK, DECIDED, request("c", *n, *n % CARDS as usize)).await;
        if asked >= WARM_UP {
            times.push(took);
        }
        next += EVERY;
        tokio::time::sleep_until(next.into()).await;
    }
}

/// The consoles, once each is sent events.
fn start_consoles(page: u16) -> Kept {
    let me = std::env::current_exe().unwrap();
    let mut command = Command::new(me);
    let mut child = command.args([CONSOLES, &page.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    Kept(child)
}

fn look_on(page: u16) {
    let open = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", page)).unwrap();
        let request = format!("GET /api/v1/live HTTP/1.0\r\nHost: 127.0.0.1:{page}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.0 200");
        stream
    };
    let streams: Vec<TcpStream> = (0..LOOKERS).map(open).collect();
    std::io::stdout().write_all(b"!").unwrap();
    std::io::stdout().flush().unwrap();
    let read = |mut stream: TcpStream| {
        std::thread::spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
        })
    };
    let threads: Vec<_> = streams.into_iter().map(read).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
