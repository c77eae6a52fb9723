//! The gateway put together from its parts, for `run` and `demo`: one long flat list of who is connected to whom.

mod adapters;
pub(super) mod convert;
pub(super) mod modbus;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::access::engine::{Engine, Setup};
use crate::access::input::Input;
use crate::access::state::State;
use crate::clock::Clock;
use crate::config::{Config, PortalDevice};
use crate::gateway::desk::{Desk, Identity};
use crate::gateway::metrics::Metrics;
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder, PortalOutlets, UPLINK_ORDERS_MAX, UplinkOrder};
use crate::http::{Links, Pages, Readiness, SOCKET_NAME};
use crate::mqtt::{LinkError, LinkMetrics, WallClock};
use crate::portals::modbus::server::ModbusServer;
use crate::portals::mqtt::{NativePortals, NativeSpec};
use crate::store::{Closed, Recovered, Store, StoreError, StoreEvents, Wholeness};
use crate::uplink::{Uplink, UplinkSpec};

use adapters::{AuditOf, ModbusObserver};

pub use modbus::{Profiles, buses, load, portals};

/// How long the end may take altogether, in milliseconds: SIGTERM drains within 5 s (configuration, command line).
const DRAIN_MS: u64 = 4_800;

/// Why the gateway cannot start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A link that can never connect.
    #[error("`[{link}]`: {source}")]
    Link {
        /// Which section.
        link: &'static str,
        /// Why.
        source: LinkError,
    },
    /// The Modbus portals.
    #[error("{0}")]
    Modbus(String),
    /// A listener.
    #[error("`{what}` cannot be listened on: {source}; is it in use?")]
    Listen {
        /// Which address or socket.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The operating system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// A part ended before it was told to.
    #[error("the gateway task ended unexpectedly; see the log")]
    Ended,
}

/// A running gateway, for whoever started it.
#[derive(Debug)]
pub struct Running {
    /// Where `/metrics` is served.
    pub http: Option<std::net::SocketAddr>,
    /// The operator's socket.
    pub socket: PathBuf,
}

/// Serves the configured gateway until `stop` is done; `ready` is called once it is being served.
///
/// # Errors
/// [`ServeError`] says what could not be started, and what to do.
pub async fn serve(
    config: &Config,
    stop: impl Future<Output = ()> + Send,
    ready: impl FnOnce(&Running),
) -> Result<(), ServeError> {
    let clock = Clock::system();
    let boot = random_id().map_err(ServeError::Random)?;
    let metrics = Metrics::default();
    let mut registry = Registry::with_prefix("dormgate");
    metrics.register(&mut registry);

    let (store, store_events, recovered) = open_store(config)?;
    if let Some(last) = recovered.last_wall_time {
        clock.not_before(last);
    }
    let (inbox, taken) = Inbox::new();
    let wall: WallClock = {
        let clock = clock.clone();
        Arc::new(move || clock.now().wall)
    };

    // The links, each with its way in and its way out. They connect when they run, and nothing here waits for them.
    let mut links = Vec::new();
    let mut outlets = PortalOutlets::default();
    let mut shown = Links::default();
    let uplink = start_uplink(config, &boot, &inbox, &store, &wall, &mut shown, &mut links)?;
    start_native(config, &boot, &inbox, &wall, &mut shown, &mut outlets, &mut links)?;
    shown.register(&mut registry);
    let lines = start_modbus(config, &inbox, &mut registry, &mut outlets)?;
    let server = start_modbus_server(config, &inbox, &mut outlets).await?;

    let identity = Identity {
        boot: boot.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        insecure: config.insecure.clone(),
        streams: convert::stream_specs(config).into_iter().map(|s| (s.name, s.may)).collect(),
    };
    let desk = start_desk(config, recovered, &store, &clock, outlets, uplink, identity, &metrics)?;

    // From here on cards are decided.
    let (end, ended) = watch::channel(false);
    let mut gateway =
        tokio::spawn(crate::gateway::run(desk, taken, store_events, clock.clone(), metrics, over(&ended)));

    let readiness = Readiness::default();
    let pages = Pages { registry: Arc::new(registry), readiness: readiness.clone(), inbox: inbox.clone() };
    let (running, pages_served) = start_pages(config, pages, &ended).await?;
    readiness.set(true);
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("serving")]);
    tracing::info!(gateway = %config.gateway, boot, "serving");
    ready(&running);

    told_to_stop(stop, &mut gateway).await?;
    // Leave in order: take nothing new, finish what was taken, deliver, close the store.
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping: finishing what was taken");
    readiness.set(false);
    end.send_replace(true);
    let until = Instant::now() + Duration::from_millis(DRAIN_MS);
    let desk = gateway.await.map_err(|_| ServeError::Ended)?;
    // The desk holds the ways to the links; without it they end, and say goodbye.
    drop(desk);
    let goodbyes = async {
        for link in links {
            if link.await.is_err() {
                tracing::error!("a link ended badly");
            }
        }
    };
    // Side by side: a broker that is gone takes no time from a relay that has to be switched off.
    tokio::join!(goodbyes, stop_modbus(server, lines));
    for page in pages_served {
        page.abort();
    }
    match tokio::time::timeout_at(until, store.close()).await {
        Ok(Closed::Drained) => {}
        Ok(Closed::Unfinished) | Err(_) => {
            tracing::warn!("the store did not finish in time; what was acknowledged is on disk");
        }
    }
    // A socket that is left behind answers nobody.
    if let Err(error) = std::fs::remove_file(&running.socket) {
        tracing::debug!(%error, "the socket was not there any more");
    }
    tracing::info!("stopped");
    Ok(())
}

async fn stop_modbus(server: Option<ModbusServer>, lines: Option<crate::portals::modbus::ModbusPortals>) {
    if let Some(server) = server {
        server.stop().await;
    }
    if let Some(lines) = lines {
        lines.stop().await;
    }
}

/// Waits until `stop` is done. Without its gateway task a process only looks alive: it ends, so that it is started anew.
async fn told_to_stop<T>(stop: impl Future<Output = ()>, gateway: &mut JoinHandle<T>) -> Result<(), ServeError> {
    tokio::select! {
        () = stop => Ok(()),
        _ = gateway => Err(ServeError::Ended),
    }
}

fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Done when the end is told, or when nobody is left to tell it.
fn over(ended: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut ended = ended.clone();
    async move {
        if ended.wait_for(|over| *over).await.is_err() {
            tracing::debug!("whoever would have told the end is gone");
        }
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

fn open_store(config: &Config) -> Result<(Store, StoreEvents, Recovered<State>), ServeError> {
    let (store, events, recovered) = Store::open::<State>(&config.data_dir, convert::store_options(config))?;
    for finding in &recovered.findings {
        tracing::warn!("store: {finding}");
    }
    tracing::info!(
        cards = recovered.state.list.len(),
        events_replayed = recovered.events_replayed,
        next_n = recovered.next_n,
        took_ms = recovered.took_ms,
        whole = recovered.whole == Wholeness::Whole,
        "the store is open"
    );
    Ok((store, events, recovered))
}

#[expect(clippy::too_many_arguments, reason = "this is where everything meets")]
fn start_desk(
    config: &Config,
    recovered: Recovered<State>,
    store: &Store,
    clock: &Clock,
    outlets: PortalOutlets,
    uplink: Option<mpsc::Sender<UplinkOrder>>,
    identity: Identity,
    metrics: &Metrics,
) -> Result<Desk<Store>, ServeError> {
    let Recovered { mut state, next_n, whole, lost, findings, took_ms, events_replayed, .. } = recovered;
    // The store knows the highest number ever told, also where the event itself is lost.
    state.last_n = state.last_n.max(next_n.saturating_sub(1));
    let setup = Setup {
        portals: config.portals.iter().map(|p| p.portal.clone()).collect(),
        lossy: modbus::lossy_readers(config).map_err(ServeError::Modbus)?,
        policy: config.policy.clone(),
        streams: convert::stream_roles(config),
        boot: identity.boot.clone(),
    };
    let version = identity.version.clone();
    let cards = state.list.len();
    let mut desk = Desk::new(Engine::new(setup, state), store.clone(), outlets, uplink, identity, metrics.clone());
    let now = clock.now();
    desk.durable(store.last_durable(), now);
    desk.acked(store.acked());
    for (from, to) in lost {
        match whole {
            Wholeness::Whole => desk.input(Input::Lost { from, to }, now),
            Wholeness::Damaged { .. } => desk.damaged(from, to, now),
        }
    }
    let found = if findings.is_empty() { "store whole".to_owned() } else { format!("{} finding(s)", findings.len()) };
    let found = format!("{found}: {cards} cards, {events_replayed} events replayed in {took_ms} ms");
    desk.input(Input::Boot { found, version }, now);
    for finding in findings {
        let detail = finding.to_string();
        desk.input(Input::Alarm { kind: crate::access::audit::AlarmKind::Store, portal: None, detail }, now);
    }
    for detail in config.insecure.clone() {
        tracing::warn!("insecure: {detail}");
        desk.input(Input::Alarm { kind: crate::access::audit::AlarmKind::Insecure, portal: None, detail }, now);
    }
    Ok(desk)
}

fn start_uplink(
    config: &Config,
    boot: &str,
    inbox: &Inbox,
    store: &Store,
    wall: &WallClock,
    shown: &mut Links,
    links: &mut Vec<JoinHandle<()>>,
) -> Result<Option<mpsc::Sender<UplinkOrder>>, ServeError> {
    let Some(link) = &config.uplink else { return Ok(None) };
    let (orders, taken) = mpsc::channel(UPLINK_ORDERS_MAX);
    let counters = Arc::new(LinkMetrics::default());
    shown.add("uplink", &counters);
    let spec = UplinkSpec {
        link: convert::link_spec(link),
        gateway: config.gateway.clone(),
        streams: convert::stream_specs(config),
        boot: boot.to_owned(),
        audit_ack: convert::audit_ack(config),
    };
    let audit = Arc::new(AuditOf(store.clone()));
    let uplink = Uplink::new(spec, inbox.clone(), taken, audit, Arc::clone(wall), counters)
        .map_err(|source| ServeError::Link { link: "uplink", source })?;
    links.push(tokio::spawn(uplink.run()));
    Ok(Some(orders))
}

fn start_native(
    config: &Config,
    boot: &str,
    inbox: &Inbox,
    wall: &WallClock,
    shown: &mut Links,
    outlets: &mut PortalOutlets,
    links: &mut Vec<JoinHandle<()>>,
) -> Result<(), ServeError> {
    let Some(link) = &config.local else { return Ok(()) };
    let (orders, taken) = mpsc::channel::<PortalOrder>(PORTAL_ORDERS_MAX);
    let native = config.portals.iter().filter(|p| matches!(p.device, PortalDevice::NativeMqtt));
    outlets.by_portal.extend(native.map(|p| (p.portal.id.clone(), orders.clone())));
    outlets.unknown = Some(orders);
    let counters = Arc::new(LinkMetrics::default());
    shown.add("local", &counters);
    let spec = NativeSpec { link: convert::link_spec(link), gateway: config.gateway.clone(), boot: boot.to_owned() };
    let native = NativePortals::new(spec, inbox.clone(), taken, Arc::clone(wall), counters)
        .map_err(|source| ServeError::Link { link: "local", source })?;
    links.push(tokio::spawn(native.run()));
    Ok(())
}

fn start_modbus(
    config: &Config,
    inbox: &Inbox,
    registry: &mut Registry,
    outlets: &mut PortalOutlets,
) -> Result<Option<crate::portals::modbus::ModbusPortals>, ServeError> {
    let portals = modbus::portals(config).map_err(ServeError::Modbus)?;
    if portals.is_empty() {
        return Ok(None);
    }
    let observer = crate::http::ModbusCounters::register(registry);
    let observer: Arc<dyn crate::portals::modbus::Observer> = Arc::new(ModbusObserver(observer));
    let lines = crate::portals::modbus::start(modbus::buses(config), portals, inbox, &observer)
        .map_err(|errors| ServeError::Modbus(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    outlets.by_portal.extend(lines.outlets.iter().cloned());
    Ok(Some(lines))
}

async fn start_modbus_server(
    config: &Config,
    inbox: &Inbox,
    outlets: &mut PortalOutlets,
) -> Result<Option<ModbusServer>, ServeError> {
    let Some((spec, portals)) = modbus::server(config) else { return Ok(None) };
    let what = spec.tcp.map_or_else(|| "[modbus_server]".to_owned(), |address| address.to_string());
    let server = crate::portals::modbus::server::serve(spec, portals, inbox)
        .await
        .map_err(|source| ServeError::Listen { what, source })?;
    outlets.by_portal.extend(server.outlets.iter().cloned());
    Ok(Some(server))
}

async fn start_pages(
    config: &Config,
    pages: Pages,
    ended: &watch::Receiver<bool>,
) -> Result<(Running, Vec<JoinHandle<()>>), ServeError> {
    let mut served = Vec::new();
    let mut http = None;
    if let Some(page) = &config.http {
        let listen = |source| ServeError::Listen { what: page.listen.to_string(), source };
        let listener = TcpListener::bind(page.listen).await.map_err(listen)?;
        http = Some(listener.local_addr().map_err(listen)?);
        let serving = crate::http::serve_tcp(listener, pages.clone(), over(ended));
        served.push(tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the pages are not served any more");
            }
        }));
    }
    let socket = config.data_dir.join(SOCKET_NAME);
    let listener = crate::http::bind_socket(&socket)
        .map_err(|source| ServeError::Listen { what: socket.display().to_string(), source })?;
    let serving = crate::http::serve_socket(listener, pages, over(ended));
    served.push(tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the operator's socket is not served any more");
        }
    }));
    Ok((Running { http, socket }, served))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_its_gateway_task_the_process_ends() {
        let mut gateway = tokio::spawn(async { panic!("as if a rule were broken") });
        let told = told_to_stop(std::future::pending(), &mut gateway).await;
        assert!(matches!(told, Err(ServeError::Ended)));
        let mut gateway = tokio::spawn(std::future::pending::<()>());
        assert!(told_to_stop(async {}, &mut gateway).await.is_ok());
    }
}
