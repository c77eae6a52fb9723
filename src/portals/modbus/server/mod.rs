//! Portals whose controllers ask the gateway: one unit id a portal, over TCP or on a serial line (wire contract, section 5).
//!
//! Own framing and own limits, because this side faces a network: a list of who may connect, a number of connections, an idle
//! time, and no byte sequence that ends the task.

mod desk;
mod frames;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod repeat_tests;
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
use crate::access::portal::PortalKind;
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder};

use super::SerialSpec;
use super::line::open_serial;
use super::stopped;
use desk::Desk;
use frames::Desks;

pub use desk::{CONTROLLER_SILENT_MS, DECISION_MS};
pub use frames::IDLE_MS_MAX;

/// Most connections at a time. One more is closed at once.
pub const CONNECTIONS_MAX: usize = 128;
/// What the log calls the line on which controllers ask: the table of the configuration.
const SERVER_BUS: &str = "modbus_server";
/// Wait after an error of the listener or the serial port, in milliseconds.
const AGAIN_MS: u64 = 1000;
/// How often silent controllers are looked for, in milliseconds.
const WATCH_MS: u64 = 1000;

/// Where controllers may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// The address listened on.
    pub tcp: Option<SocketAddr>,
    /// The line listened on.
    pub serial: Option<SerialSpec>,
    /// Who may connect over TCP.
    pub allow: Vec<IpNet>,
}

/// One portal whose controller asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPortal {
    /// Its id.
    pub id: PortalId,
    /// What it is.
    pub kind: PortalKind,
    /// Its unit id, 1 to 255.
    pub unit: u8,
}

/// The running server.
pub struct ModbusServer {
    /// Where it listens; port 0 in the specification has become a real one.
    pub address: Option<SocketAddr>,
    /// Where each portal takes its orders.
    pub outlets: Vec<(PortalId, mpsc::Sender<PortalOrder>)>,
    /// Everything that runs for it. None ends before it is stopped, unless it fails.
    pub tasks: JoinSet<()>,
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

/// Listens for controllers.
///
/// # Errors
/// When the address cannot be listened on. A serial port that is not there is tried again for ever.
pub async fn serve(spec: ServerSpec, portals: Vec<ServerPortal>, inbox: &Inbox) -> io::Result<ModbusServer> {
    let listener = match spec.tcp {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut outlets = Vec::new();
    let mut desks = HashMap::new();
    for ServerPortal { id, kind, unit } in portals {
        let (orders, mut taken) = mpsc::channel(PORTAL_ORDERS_MAX);
        let desk = Arc::new(Desk::new(id.clone(), kind, unit, inbox.clone()));
        outlets.push((id, orders));
        desks.insert(unit, Arc::clone(&desk));
        tasks.spawn(async move {
            while let Some(order) = taken.recv().await {
                desk.obey(order);
            }
        });
    }
    let desks: Desks = Arc::new(desks);
    if let Some(listener) = listener {
        tasks.spawn(accept(listener, Arc::clone(&desks), spec.allow, stopping.clone()));
    }
    if let Some(serial) = spec.serial {
        tasks.spawn(serve_serial(serial, Arc::clone(&desks), stopping.clone()));
    }
    tasks.spawn(async move {
        loop {
            sleep(Duration::from_millis(WATCH_MS)).await;
            desks.values().for_each(|desk| desk.watch());
        }
    });
    Ok(ModbusServer { address, outlets, tasks, stop })
}

fn allowed(allow: &[IpNet], peer: IpAddr) -> bool {
    // On a listener for both, an IPv4 peer comes as an IPv6 address.
    let peer = peer.to_canonical();
    allow.iter().any(|net| net.contains(&peer))
}

async fn accept(listener: TcpListener, desks: Desks, allow: Vec<IpNet>, mut stop: watch::Receiver<bool>) {
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
                sleep(Duration::from_millis(AGAIN_MS)).await;
                continue;
            }
        };
        if !allowed(&allow, peer.ip()) {
            tracing::warn!(bus = SERVER_BUS, %peer, "not in `modbus_server.allow`: closed");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(bus = SERVER_BUS, %peer, "{CONNECTIONS_MAX} controllers are connected: closed");
            continue;
        };
        let desks = Arc::clone(&desks);
        connections.spawn(async move {
            connection(&desks, peer, stream).await;
            drop(place);
        });
    }
}

async fn connection(desks: &Desks, peer: SocketAddr, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(bus = SERVER_BUS, %peer, %error, "no nodelay");
    }
    let peer = peer.to_string();
    if let Err(error) = frames::serve_tcp(desks, &peer, stream).await {
        tracing::debug!(bus = SERVER_BUS, peer, %error, "the controller's connection ended");
    }
}

async fn serve_serial(spec: SerialSpec, desks: Desks, mut stop: watch::Receiver<bool>) {
    let mut last = String::new();
    loop {
        let served = async {
            let port = open_serial(&spec)?;
            tracing::info!(bus = SERVER_BUS, port = spec.port, "controllers are served on the serial line");
            frames::serve_rtu(&desks, &spec.port, port).await
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
        sleep(Duration::from_millis(AGAIN_MS)).await;
    }
}
