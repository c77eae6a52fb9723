//! `dormgate simulate`: simulates every portal of a configuration; and its subcommands, which present cards to the running simulator,
//! set values and make devices fail.
//!
//! The running simulator listens on a socket in `data_dir`. A request is a line with the words of the subcommand, the answer is a
//! line `ok …` or `failed …`.

mod lines;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::{Ended, Exit, bad_config, failed, misused, print_error, print_line};
use crate::access::effect::Verdict;
use crate::access::portal::Direction;
use crate::config::{self, PortalDevice};
use crate::http::{SOCKET_NAME, client};
use crate::workbench::Refused;
use crate::workbench::modbus::fault::{FAULTS, Fault, fault_words};
use crate::workbench::site::Site;

/// The socket's name in `data_dir`.
const SOCKET: &str = "simulate.sock";
/// Longest request in bytes; a longer one is refused.
const LINE_BYTES_MAX: u64 = 1_024;
/// How long the simulator may take to answer, in seconds; a decision and a relay take less.
const ANSWER_S: u64 = 10;
/// How long the gateway may take to answer what it would decide, in seconds.
const VERDICT_S: u64 = 2;

/// Simulate every portal of a configuration until Ctrl-C; or command the simulator that runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of the gateway.
    #[arg(long, value_name = "FILE", global = true, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Simulate a serial bus on this port, with the speed and parity of the configuration: a second adapter on the line, or the far
    /// end of a pair. Without it, a pseudo-terminal is made under the name that the configuration gives to the port.
    #[arg(long = "port", value_name = "BUS=PORT", value_parser = bus_port)]
    ports: Vec<(String, String)>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Present a card at a portal, and print the decision and what the relay does. In a power box the card stays.
    Present {
        /// The portal.
        portal: String,
        /// The UID; at a native portal any text may be presented.
        uid: String,
        /// Which way, at a gate: `in` or `out`.
        #[arg(long, value_parser = direction)]
        direction: Option<Direction>,
        /// The slot of a power box, counted from 0; default: that of this card, else the first empty one, else 0.
        #[arg(long)]
        slot: Option<u16>,
    },
    /// Take the card away.
    Remove {
        /// The portal.
        portal: String,
        /// The slot of a power box, counted from 0; default: the first with a card.
        #[arg(long)]
        slot: Option<u16>,
    },
    /// Make a device, or a whole Modbus line, fail in one way from now on; `none` ends it.
    #[command(after_help = faults_help())]
    Fault {
        /// `BUS/UNIT`, e.g. `riser-2/3`; `BUS`, every device of the line; `mqtt/NAME`, a device with MQTT topics of its own; or
        /// `modbus_server/UNIT`, a controller, which can be `silent` or `none`.
        place: String,
        /// The fault, e.g. `silent` or `slow 300`.
        #[arg(required = true, num_args = 1..=2, value_name = "FAULT")]
        fault: Vec<String>,
    },
    /// Set what a device reports, e.g. the reading of a meter or a contact.
    Set {
        /// `BUS/UNIT`, e.g. `riser-2/31`; `mqtt/NAME`, a device with MQTT topics of its own; or `modbus_server/UNIT`, a controller.
        place: String,
        /// The point of its profile; `dormgate profile show` lists them. A controller has `contact` (1: open), `tamper` and `fire`.
        point: String,
        /// The value, in the point's unit; a flag is 0 or 1.
        #[arg(allow_negative_numbers = true)]
        value: f64,
        /// The channel, counted from 0.
        #[arg(long, default_value_t = 0)]
        channel: u16,
    },
}

/// The help of `fault`: every fault and what it does.
fn faults_help() -> String {
    let of_device = FAULTS.map(|(words, what)| format!("  {words:<14}  {what}\n")).concat();
    format!(
        "Faults of a device:\n{of_device}Fault of a whole line, named by BUS alone:\n  {:<14}  nothing listens, and the serial port \
         is gone; `none` plugs it in again",
        "unplugged"
    )
}

fn bus_port(text: &str) -> Result<(String, String), String> {
    let (bus, port) = text.split_once('=').ok_or("`BUS=PORT` is wanted, e.g. `riser-2=/dev/ttyUSB1`")?;
    Ok((bus.to_owned(), port.to_owned()))
}

fn direction(text: &str) -> Result<Direction, String> {
    Direction::parse(text).ok_or_else(|| "`in` or `out` is wanted".to_owned())
}

pub(super) fn run(args: &Args) -> Ended {
    let Some(command) = &args.command else { return simulate(&args.config, &args.ports) };
    let line = match command {
        Command::Present { portal, uid, direction, slot } => {
            // A UID may have spaces between its bytes; in the request, spaces separate words.
            let uid: String = uid.chars().filter(|c| !c.is_whitespace()).collect();
            let (way, slot) = (direction.map_or("-", Direction::as_str), slot_word(*slot));
            format!("present {portal} {uid} {way} {slot}")
        }
        Command::Remove { portal, slot } => format!("remove {portal} {}", slot_word(*slot)),
        Command::Fault { place, fault } => {
            let words: Vec<&str> = fault.iter().map(String::as_str).collect();
            // `unplugged` is a fault of a whole line, not of a device.
            if (words != ["unplugged"] || place.contains('/'))
                && let Err(wrong) = Fault::parse(&words)
            {
                return Err(misused(wrong));
            }
            format!("fault {place} {}", words.join(" "))
        }
        Command::Set { place, point, value, channel } => format!("set {place} {point} {value} {channel}"),
    };
    ask(&config::data_dir(&args.config).map_err(bad_config)?.join(SOCKET), &line)
}

/// A slot in a request; `-`: none is named.
fn slot_word(slot: Option<u16>) -> String {
    slot.map_or("-".to_owned(), |slot| slot.to_string())
}

/// Sends a request to the running simulator and prints the answer.
fn ask(socket: &Path, line: &str) -> Ended {
    let asked = || -> io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S)))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX * 8)).read_line(&mut answer)?;
        Ok(answer)
    };
    let why = match asked() {
        Ok(answer) => match answer.trim_end().split_once(' ') {
            Some(("ok", text)) => return Ok(print_line(text)),
            Some((_, text)) => text.to_owned(),
            None => "the simulator ended before it answered; start it again".to_owned(),
        },
        Err(error) => {
            let what = "start it with `dormgate simulate --config FILE`";
            format!("no simulator answers at `{}`: {error}; {what}", socket.display())
        }
    };
    Err(failed(why))
}

fn simulate(path: &Path, ports: &[(String, String)]) -> Ended {
    let config = config::load(path).map_err(bad_config)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(format!("no runtime: {error}")))?;
    runtime.block_on(serve(&config, ports)).map(|()| Exit::Done).map_err(failed)
}

async fn serve(config: &config::Site, ports: &[(String, String)]) -> Result<(), String> {
    let stop = super::run::stop_signal().map_err(|e| format!("signals cannot be received: {e}"))?;
    let (lines, notes) = lines::lines(config, ports)?;
    let socket = config.data_dir.join(SOCKET);
    std::fs::create_dir_all(&config.data_dir).map_err(|e| format!("`{}`: {e}", config.data_dir.display()))?;
    let listener = crate::http::bind_socket(&socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("a simulator of this configuration runs already, at `{}`; stop it first", socket.display())
        }
        _ => format!("`{}`: {error}", socket.display()),
    })?;
    let (site, news) = Site::start(config, lines).await.map_err(|e| e.to_string())?;
    let site = Arc::new(site);
    announce(config, &site, &notes);
    if site.portals().next().is_none() && site.lines().is_empty() {
        drop(std::fs::remove_file(&socket));
        return Err("nothing is left to simulate".to_owned());
    }
    let gateway = config.data_dir.join(SOCKET_NAME);
    let reported = tokio::select! {
        () = stop => Ok(()),
        // What cannot be written was named.
        () = print(news) => Ok(()),
        ended = answer_all(listener, &site, &gateway) => Err(format!("`{}` is no longer served: {ended}", socket.display())),
    };
    drop(std::fs::remove_file(&socket));
    if let Some(site) = Arc::into_inner(site) {
        site.stop().await;
    }
    reported
}

fn announce(config: &config::Site, site: &Site, notes: &[String]) {
    let names: Vec<String> = site.portals().map(ToString::to_string).collect();
    if !names.is_empty() {
        print_error(format!("simulating {} of `{}`; Ctrl-C stops the simulator", names.join(", "), config.gateway));
    }
    for (bus, place) in site.places() {
        print_error(format!("line `{bus}` is at {place}"));
    }
    for note in notes {
        print_error(format!("note: {note}"));
    }
    for portal in site.absent() {
        print_error(format!("note: `{portal}` has a device on a bus that is not simulated; it is left out"));
    }
    if config.modbus_server.as_ref().is_some_and(|server| server.tcp.is_none()) {
        for portal in config.portals.iter().filter(|p| matches!(p.device, PortalDevice::ModbusServer { .. })) {
            let id = &portal.portal.id;
            print_error(format!(
                "note: `{id}` is a controller, and one that asks on a serial line is not simulated; it is left out: for a trial, add \
                 `tcp = \"127.0.0.1:1502\"` to `[modbus_server]`"
            ));
        }
    }
}

async fn print(mut news: mpsc::Receiver<String>) {
    let mut is_read = true;
    while let Some(line) = news.recv().await {
        // The portals are simulated also when nobody reads what happens at them.
        match if is_read { print_line(line) } else { Exit::Done } {
            Exit::Done => {}
            Exit::Closed => is_read = false,
            _ => return,
        }
    }
    // No portal is simulated that reports anything: this waits until it is dropped.
    std::future::pending::<()>().await;
}

/// Answers requests; `gateway` is the socket of the gateway to which the portals belong.
async fn answer_all(listener: UnixListener, site: &Arc<Site>, gateway: &Path) -> io::Error {
    let mut askers = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (site, gateway) = (Arc::clone(site), gateway.to_owned());
                askers.spawn(async move {
                    // If the client is gone, nobody needs the answer.
                    drop(tokio::time::timeout(Duration::from_secs(ANSWER_S), answer(stream, &site, &gateway)).await);
                });
                while askers.try_join_next().is_some() {}
            }
            Err(error) => return error,
        }
    }
}

/// What the gateway at this socket would decide, or why it does not answer and what to do.
async fn verdict(socket: PathBuf, uid: String, portal: String) -> Result<Verdict, String> {
    let asked = tokio::task::spawn_blocking(move || client::verdict(&socket, &uid, &portal));
    match tokio::time::timeout(Duration::from_secs(VERDICT_S), asked).await {
        Ok(Ok(verdict)) => verdict.map_err(|error| error.to_string()),
        Ok(Err(_)) | Err(_) => Err(format!("the gateway did not answer within {VERDICT_S} s; see its log")),
    }
}

async fn answer(stream: UnixStream, site: &Site, gateway: &Path) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = match words.as_slice() {
        // `-` is not a direction and not a number, so none is named.
        ["present", portal, uid, way, slot] => {
            let verdict = verdict(gateway.to_owned(), (*uid).to_owned(), (*portal).to_owned());
            site.present(portal, uid, Direction::parse(way), slot.parse().ok(), verdict).await
        }
        ["remove", portal, slot] => site.remove(portal, slot.parse().ok()).await,
        ["fault", place, fault @ ..] => site.fault(place, fault).await,
        ["set", place, point, value, channel] => match (value.parse(), channel.parse()) {
            (Ok(value), Ok(channel)) => site.set(place, point, channel, value).await,
            (Err(_), _) | (_, Err(_)) => Err(Refused("a number and a channel are wanted".to_owned())),
        },
        _ => {
            let faults = fault_words();
            Err(Refused(format!(
                "`present PORTAL UID in|out|- SLOT|-`, `remove PORTAL SLOT|-`, `fault BUS[/UNIT] FAULT` or `set BUS/UNIT POINT VALUE \
                 CHANNEL` is wanted; faults are {faults}, and `unplugged` of a bus"
            )))
        }
    };
    let answer = match done {
        Ok(text) => format!("ok {text}\n"),
        Err(error) => format!("failed {error}\n"),
    };
    write.write_all(answer.as_bytes()).await
}
