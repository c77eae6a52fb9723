//! `dormgate simulate`: stands in for every portal of a configuration, and hands cards to the stand-in that runs.
//!
//! The running one listens on a socket in `data_dir`. One line in, `present PORTAL UID [in|out]` or `remove PORTAL`; one line
//! out, `ok …` or `failed …`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::serve::{check_profile, convert, modbus};
use super::{Exit, bad_config, complain, say};
use crate::access::portal::Direction;
use crate::config::{self, BusLine, Config, PortalDevice};
use crate::portals::modbus::PartSpec;
use crate::simulate::site::{Device, Part, PortalSpec, Site, SiteSpec};

/// The socket's name in `data_dir`.
const SOCKET: &str = "simulate.sock";
/// Longest line through the socket in bytes; a longer one is refused.
const LINE_BYTES_MAX: u64 = 1_024;
/// How long an answer through the socket may take, in seconds; a decision and a relay are quicker.
const ANSWER_S: u64 = 10;

/// Stand in for every portal of a configuration, until Ctrl-C; or hand a card to the one that runs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of the gateway.
    #[arg(long, value_name = "FILE", global = true, default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Present a card at a portal, and say what came of it. In a power box it stays.
    Present {
        /// Where.
        portal: String,
        /// What; at a native portal anything may be presented.
        uid: String,
        /// Which way, at a gate: `in` or `out`.
        #[arg(long, value_parser = direction)]
        direction: Option<Direction>,
    },
    /// Take the card away.
    Remove {
        /// Where.
        portal: String,
    },
}

fn direction(text: &str) -> Result<Direction, String> {
    Direction::parse(text).ok_or_else(|| "`in` or `out` is wanted".to_owned())
}

pub(super) fn run(args: &Args) -> Exit {
    let Some(command) = &args.command else { return stand_in(&args.config) };
    let line = match command {
        Command::Present { portal, uid, direction } => {
            // The UID may have spaces between its bytes, the line may not.
            let uid: String = uid.chars().filter(|c| !c.is_whitespace()).collect();
            format!("present {portal} {uid}{}", direction.map_or(String::new(), |d| format!(" {}", d.as_str())))
        }
        Command::Remove { portal } => format!("remove {portal}"),
    };
    match config::data_dir(&args.config) {
        Ok(data_dir) => ask(&data_dir.join(SOCKET), &line),
        Err(error) => bad_config(&error),
    }
}

/// Hands one line to the running stand-in.
fn ask(socket: &Path, line: &str) -> Exit {
    let asked = || -> std::io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S)))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(LINE_BYTES_MAX * 8)).read_line(&mut answer)?;
        Ok(answer)
    };
    match asked() {
        Ok(answer) => match answer.trim_end().split_once(' ') {
            Some(("ok", text)) => say(text),
            Some((_, text)) => {
                complain(text);
                Exit::Failed
            }
            None => {
                complain("the stand-in ended before it answered");
                Exit::Failed
            }
        },
        Err(error) => {
            let what = "start it with `dormgate simulate --config FILE`";
            complain(format!("no stand-in answers at `{}`: {error}; {what}", socket.display()));
            Exit::Failed
        }
    }
}

fn stand_in(path: &Path) -> Exit {
    let config = match config::load(path, &check_profile) {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    let outcome = tokio::runtime::Runtime::new()
        .map_err(|e| format!("no runtime: {e}"))
        .and_then(|runtime| runtime.block_on(serve(&config)));
    match outcome {
        Ok(()) => Exit::Done,
        Err(why) => {
            complain(why);
            Exit::Failed
        }
    }
}

async fn serve(config: &Config) -> Result<(), String> {
    let stop = super::run::stop_signal().map_err(|e| format!("signals cannot be heard: {e}"))?;
    let socket = config.data_dir.join(SOCKET);
    if UnixStream::connect(&socket).await.is_ok() {
        return Err(format!("a stand-in runs already and listens at `{}`; end it first", socket.display()));
    }
    std::fs::create_dir_all(&config.data_dir).map_err(|e| format!("`{}`: {e}", config.data_dir.display()))?;
    let listener = crate::http::bind_socket(&socket).map_err(|e| format!("`{}`: {e}", socket.display()))?;
    let (site, news) = Site::start(spec(config)?).await.map_err(|e| e.to_string())?;
    let site = Arc::new(site);
    announce(config, &site);
    let told = tokio::select! {
        () = stop => Ok(()),
        () = print(news) => Err("nobody reads what is printed any more".to_owned()),
        ended = answer_all(listener, &site) => Err(format!("the socket is not served any more: {ended}")),
    };
    drop(std::fs::remove_file(&socket));
    if let Some(site) = Arc::into_inner(site) {
        site.stop().await;
    }
    told
}

fn announce(config: &Config, site: &Site) {
    let names: Vec<String> = site.portals().map(ToString::to_string).collect();
    complain(format!("standing in for {} of `{}`; Ctrl-C ends it", names.join(", "), config.gateway));
    for portal in site.absent() {
        complain(format!(
            "note: `{portal}` has a device on a bus that is not on this machine's loopback; it is left out"
        ));
    }
    for portal in config.portals.iter().filter(|p| matches!(p.device, PortalDevice::ModbusServer { .. })) {
        complain(format!("note: `{}` is a controller that asks the gateway; it is left out", portal.portal.id));
    }
}

async fn print(mut news: mpsc::Receiver<String>) {
    while let Some(line) = news.recv().await {
        if say(line) != Exit::Done {
            return;
        }
    }
    // No portal tells anything; who waits here waits for the end.
    std::future::pending::<()>().await;
}

async fn answer_all(listener: UnixListener, site: &Arc<Site>) -> std::io::Error {
    let mut askers = tokio::task::JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let site = Arc::clone(site);
                askers.spawn(async move {
                    // Who asks may go away; then nobody needs the answer.
                    drop(tokio::time::timeout(Duration::from_secs(ANSWER_S), answer(stream, &site)).await);
                });
                while askers.try_join_next().is_some() {}
            }
            Err(error) => return error,
        }
    }
}

async fn answer(stream: UnixStream, site: &Site) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let done = match words.as_slice() {
        ["present", portal, uid] => site.present(portal, uid, None).await,
        ["present", portal, uid, way] if Direction::parse(way).is_some() => {
            site.present(portal, uid, Direction::parse(way)).await
        }
        ["remove", portal] => site.remove(portal).await.map(|()| "removed".to_owned()),
        _ => {
            write.write_all(b"failed `present PORTAL UID [in|out]` or `remove PORTAL` is wanted\n").await?;
            return Ok(());
        }
    };
    let answer = match done {
        Ok(text) => format!("ok {text}\n"),
        Err(error) => format!("failed {error}\n"),
    };
    write.write_all(answer.as_bytes()).await
}

fn spec(config: &Config) -> Result<SiteSpec, String> {
    let part = |part: PartSpec| Part { bus: part.bus, unit: part.unit, profile: part.profile, channel: part.channel };
    let mut portals = Vec::new();
    for portal in modbus::portals(config)? {
        let (Some(reader), Some(output)) = (portal.reader, portal.output) else { continue };
        let others = portal.meter.into_iter().chain(portal.inputs).map(part).collect();
        let device = Device::Modbus { reader: part(reader), output: part(output), others };
        portals.push(PortalSpec { id: portal.id, kind: portal.kind, device });
    }
    let native = config.portals.iter().filter(|p| matches!(p.device, PortalDevice::NativeMqtt));
    portals.extend(native.map(|p| PortalSpec { id: p.portal.id.clone(), kind: p.portal.kind, device: Device::Native }));
    Ok(SiteSpec {
        gateway: config.gateway.clone(),
        local: config.local.as_ref().map(convert::link_spec),
        lines: lines(config),
        portals,
    })
}

/// The Modbus TCP lines whose address is this machine's loopback.
fn lines(config: &Config) -> BTreeMap<String, u16> {
    let here = |host: &str, port: u16| match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => (host, port).to_socket_addrs().is_ok_and(|mut all| all.all(|a| a.ip().is_loopback())),
    };
    let line = |bus: &config::BusConfig| match &bus.line {
        BusLine::Tcp(peer) if here(&peer.host, peer.port) => Some((bus.id.clone(), peer.port)),
        BusLine::Tcp(_) | BusLine::Serial(_) => None,
    };
    config.buses.iter().filter_map(line).collect()
}
