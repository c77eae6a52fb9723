//! Portals whose controllers ask the gateway: one unit id a portal, over TCP or on a serial line (wire contract, section 5).
//!
//! Framing and limits are own code, because this side faces a network and the server of `tokio-modbus` cannot be made safe: an error of
//! `accept` ends it; its serial server takes only its own port type, answers every unit and does not resynchronise after noise. This
//! server has a list of who may connect, a limit of connections and an idle time, and no byte sequence ends it. The crate decodes the
//! requests.

mod frames;
mod session;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod shared_line_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::access::id::PortalId;
use crate::config::{ModbusServerConfig, PortalConfig, PortalDevice, SerialConfig};
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder};

use super::serial::open_serial;
use super::stopped;
use frames::Sessions;
use session::PortalSession;

pub use frames::IDLE_MS_MAX;
pub use session::{CONTROLLER_SILENT_MS, DECISION_MS};

/// Most connections at a time. One more is closed at once.
pub const CONNECTIONS_MAX: usize = 128;
/// The `bus` of log lines about controllers: the table of the configuration.
const SERVER_BUS: &str = "modbus_server";
/// Wait after an error of the listener or the serial port, in milliseconds.
const RETRY_MS: u64 = 1000;
/// How often silent controllers are looked for, in milliseconds.
const WATCH_MS: u64 = 1000;

/// The running server.
pub struct ModbusServer {
    /// Where it listens; port 0 in the specification has become a real one.
    pub address: Option<SocketAddr>,
    /// The sender of orders for each portal.
    pub outlets: Vec<(PortalId, mpsc::Sender<PortalOrder>)>,
    /// The tasks of the server. None ends before the server is stopped, unless it fails.
    pub tasks: JoinSet<()>,
    /// Who may connect over TCP.
    pub allow: watch::Sender<Vec<IpNet>>,
    stop: watch::Sender<bool>,
}

impl ModbusServer {
    /// Closes everything.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        drop(self.outlets);
        self.tasks.shutdown().await;
    }
}

/// Listens for the controllers of those of `portals` that have one. Fails when the address cannot be listened on. A serial port that does
/// not exist is opened again and again.
pub async fn serve(spec: ModbusServerConfig, portals: &[PortalConfig], inbox: &Inbox) -> io::Result<ModbusServer> {
    let listener = match spec.tcp {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let (stop, stopping) = watch::channel(false);
    let (allow, allowed) = watch::channel(spec.allow);
    let mut tasks = JoinSet::new();
    let mut outlets = Vec::new();
    let mut sessions = HashMap::new();
    for PortalConfig { portal, device } in portals {
        let PortalDevice::ModbusServer { unit } = *device else { continue };
        let (orders, mut taken) = mpsc::channel(PORTAL_ORDERS_MAX);
        let session = Arc::new(PortalSession::new(portal.id.clone(), portal.kind, unit, inbox.clone()));
        outlets.push((portal.id.clone(), orders));
        sessions.insert(unit, Arc::clone(&session));
        tasks.spawn(async move {
            while let Some(order) = taken.recv().await {
                session.execute(order);
            }
        });
    }
    let sessions: Sessions = Arc::new(sessions);
    if let Some(listener) = listener {
        tasks.spawn(accept(listener, Arc::clone(&sessions), allowed, stopping.clone()));
    }
    if let Some(serial) = spec.serial {
        tasks.spawn(serve_serial(serial, Arc::clone(&sessions), stopping.clone()));
    }
    tasks.spawn(async move {
        loop {
            sleep(Duration::from_millis(WATCH_MS)).await;
            sessions.values().for_each(|session| session.watch());
        }
    });
    Ok(ModbusServer { address, outlets, tasks, allow, stop })
}

fn allowed(allow: &[IpNet], peer: IpAddr) -> bool {
    // A listener for both reports an IPv4 peer as an IPv6 address.
    let peer = peer.to_canonical();
    allow.iter().any(|net| net.contains(&peer))
}

async fn accept(
    listener: TcpListener,
    sessions: Sessions,
    allow: watch::Receiver<Vec<IpNet>>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: waiting is all that can help.
                tracing::error!(bus = SERVER_BUS, %error, "controllers cannot connect");
                sleep(Duration::from_millis(RETRY_MS)).await;
                continue;
            }
        };
        if !allowed(&allow.borrow(), peer.ip()) {
            tracing::warn!(bus = SERVER_BUS, %peer, "the connection is closed: add its address to `modbus_server.allow` if it is a controller");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(bus = SERVER_BUS, %peer, "the connection is closed: {CONNECTIONS_MAX} are open already, which is the limit");
            continue;
        };
        let (sessions, mut allow) = (Arc::clone(&sessions), allow.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(&sessions, peer, stream) => {}
                Ok(_) = allow.wait_for(|allow| !allowed(allow, peer.ip())) => {
                    tracing::warn!(bus = SERVER_BUS, %peer, "the connection is closed: its address is not in `modbus_server.allow` any more");
                }
            }
            drop(place);
        });
    }
}

async fn connection(sessions: &Sessions, peer: SocketAddr, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(bus = SERVER_BUS, %peer, %error, "no nodelay");
    }
    let peer = peer.to_string();
    if let Err(error) = frames::serve_tcp(sessions, &peer, stream).await {
        tracing::debug!(bus = SERVER_BUS, peer, %error, "the controller's connection ended");
    }
}

async fn serve_serial(spec: SerialConfig, sessions: Sessions, mut stop: watch::Receiver<bool>) {
    let mut last = String::new();
    loop {
        let served = async {
            let port = open_serial(&spec)?;
            tracing::info!(bus = SERVER_BUS, port = spec.port, "controllers are served on the serial line");
            frames::serve_rtu(&sessions, &spec.port, port).await
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = stopped(&mut stop) => return,
        };
        if let Err(error) = ended {
            let cause = error.to_string();
            if cause != last {
                tracing::warn!(bus = SERVER_BUS, port = spec.port, error = cause, "the serial line is not served");
                last = cause;
            }
        }
        sleep(Duration::from_millis(RETRY_MS)).await;
    }
}
