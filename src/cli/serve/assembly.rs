//! Puts the parts of the gateway together: each link gets the inbox of the core, and gives the channel by which the core sends to it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::access::engine::{Engine, Setup, StreamRole};
use crate::access::event::AlarmKind;
use crate::access::id::GatewayId;
use crate::access::input::Input;
use crate::access::state::State;
use crate::clock::Clock;
use crate::config::{PortalConfig, PortalDevice, Secret, Site};
use crate::gateway::metrics::Metrics;
use crate::gateway::owner::{GatewayCore, Identity};
use crate::gateway::ports::{
    Inbox, InboxReceiver, PORTAL_ORDERS_MAX, Part, PortalOrder, PortalOutlets, Readiness, UPLINK_ORDERS_MAX,
    UplinkOrder,
};
use crate::http::{Links, Pages, SOCKET_NAME};
use crate::mqtt::{LinkError, LinkMetrics};
use crate::portals::DeviceCounters;
use crate::portals::modbus::Observer;
use crate::portals::modbus::server::ModbusServer;
use crate::portals::mqtt::NativePortals;
use crate::portals::parts::{self, PartPortals};
use crate::store::{Integrity, Options, Recovered, Store, StoreError, StoreEvents, StoreKey, cannot_be_written};
use crate::uplink::{Uplink, UplinkSpec};
use crate::wire::digest::registers_of;
use crate::wire::envelope::StreamSpec;
use crate::wire::uid_key::UidKey;

/// How often it is tried again to make the operator's socket while its directory cannot be written.
const SOCKET_RETRY: Duration = Duration::from_secs(60);

/// Why the gateway cannot start, or ended unexpectedly.
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
    /// The store of another gateway.
    #[error(
        "`{dir}` is the data directory of gateway `{of}`, and `{wanted}` is configured; set `gateway.id` to `{of}`, or give `{wanted}` a \
         `gateway.data_dir` of its own: move this one away, and the centers send it its list"
    )]
    OtherGateway {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        of: GatewayId,
        /// Who is configured.
        wanted: GatewayId,
    },
    /// A listener.
    #[error("`{what}` cannot be listened on: {source}; end the process that uses it, or correct the address")]
    Listen {
        /// Which address or socket.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}; see its log")]
    Random(getrandom::Error),
    /// A part ended before the stop.
    #[error("a part of the gateway ended unexpectedly; see the log")]
    Ended,
}

/// Where a running gateway can be reached.
#[derive(Debug)]
pub struct Running {
    /// Where `/metrics` is served.
    pub http: Option<std::net::SocketAddr>,
    /// The operator's socket; if the disk cannot be written it is made later.
    pub socket: PathBuf,
}

/// What the parts share while they are put together.
pub(super) struct Assembly<'c> {
    config: &'c Site,
    pub(super) boot: String,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) inbox: Inbox,
    pub(super) registry: Registry,
    /// The tasks of the MQTT links.
    pub(super) links: JoinSet<()>,
    metrics: Metrics,
    outlets: PortalOutlets,
    pub(super) shown: Links,
}

impl<'c> Assembly<'c> {
    /// Opens the store of the configured gateway and logs what was found.
    pub(super) fn open(
        config: &'c Site,
        boot: String,
    ) -> Result<(Self, StoreEvents, Recovered<State>, InboxReceiver), ServeError> {
        let (store, events, recovered) = Store::open::<State>(&config.data_dir, store_options(config))?;
        if let Some(of) = recovered.state.gateway.clone().filter(|of| *of != config.gateway) {
            return Err(ServeError::OtherGateway { dir: config.data_dir.clone(), of, wanted: config.gateway.clone() });
        }
        for issue in &recovered.issues {
            tracing::warn!("store: {issue}");
        }
        let owners = config.streams.iter().map(stream_role).map(|role| (role.name, role.owns)).collect();
        for change in recovered.state.changes_of_owner(&owners) {
            tracing::warn!("streams: {change}");
        }
        tracing::info!(
            cards = recovered.state.list.len(),
            events_replayed = recovered.events_replayed,
            next_n = recovered.next_n,
            took_ms = recovered.took_ms,
            complete = recovered.integrity == Integrity::Complete,
            "the store is open"
        );
        let clock = Clock::system();
        clock.not_before(recovered.state.trusted_at);
        let known = recovered.state.streams.iter().filter_map(|(stream, track)| Some((stream, track.newest_iat?)));
        known.for_each(|(stream, iat)| clock.message_known(stream, iat));
        let (inbox, taken) = Inbox::new();
        let (metrics, mut registry) = (Metrics::default(), Registry::with_prefix("dormgate"));
        metrics.register(&mut registry);
        let (links, outlets, shown) = (JoinSet::new(), PortalOutlets::default(), Links::default());
        let this = Self { config, boot, clock, store, inbox, registry, links, metrics, outlets, shown };
        Ok((this, events, recovered, taken))
    }

    fn counters(&mut self, link: &'static str) -> Arc<LinkMetrics> {
        let counters = Arc::new(LinkMetrics::default());
        self.shown.add(link, &counters);
        counters
    }

    /// Starts the link to the centers. It connects by itself; nothing here waits for it.
    pub(super) fn uplink(&mut self) -> Result<Option<mpsc::Sender<UplinkOrder>>, ServeError> {
        let Some(link) = &self.config.uplink else { return Ok(None) };
        let (orders, taken) = mpsc::channel(UPLINK_ORDERS_MAX);
        let spec = UplinkSpec {
            link: link.clone(),
            gateway: self.config.gateway.clone(),
            streams: self.config.streams.clone(),
            boot: self.boot.clone(),
            audit_ack: self.config.audit.ack,
        };
        let (audit, counters) = (Arc::new(self.store.clone()), self.counters("uplink"));
        let uplink = Uplink::new(spec, self.inbox.clone(), taken, audit, self.clock.clone(), counters)
            .map_err(|source| ServeError::Link { link: "uplink", source })?;
        self.links.spawn(uplink.run());
        Ok(Some(orders))
    }

    /// Starts the link to the native portals.
    pub(super) fn native(&mut self) -> Result<(), ServeError> {
        let Some(link) = &self.config.local else { return Ok(()) };
        let (orders, taken) = mpsc::channel::<PortalOrder>(PORTAL_ORDERS_MAX);
        let is_native = |p: &&PortalConfig| matches!(p.device, PortalDevice::NativeMqtt);
        let (native, others): (Vec<_>, Vec<_>) = self.config.portals.iter().partition(is_native);
        let [portals, elsewhere] =
            [native, others].map(|all| all.iter().map(|p| p.portal.id.clone()).collect::<Vec<_>>());
        self.outlets.by_portal.extend(portals.iter().map(|id| (id.clone(), orders.clone())));
        self.outlets.unknown = Some(orders);
        let (gateway, boot, inbox) = (self.config.gateway.clone(), self.boot.clone(), self.inbox.clone());
        let (clock, counters) = (self.clock.clone(), self.counters("local"));
        let link = NativePortals::new(link.clone(), gateway, boot, inbox, clock, counters)
            .map_err(|source| ServeError::Link { link: "local", source })?;
        self.links.spawn(link.run(taken, portals, elsewhere));
        Ok(())
    }

    /// Starts the portals that consist of parts: the Modbus lines on which the gateway is the client, and the link to devices with
    /// MQTT topics of their own.
    pub(super) fn parts(&mut self) -> Result<PartPortals, ServeError> {
        let observer: Arc<dyn Observer> = Arc::new(DeviceCounters::register(&mut self.registry));
        let Site { buses, portals, .. } = self.config;
        let local = self.config.devices_link().map(|spec| (spec, self.counters("devices")));
        let running = parts::start(buses, portals, local, &self.inbox, &observer)
            .map_err(|source| ServeError::Link { link: "local", source })?;
        self.outlets.by_portal.extend(running.outlets.iter().cloned());
        Ok(running)
    }

    /// Starts the Modbus server to which controllers send requests.
    pub(super) async fn modbus_server(&mut self) -> Result<Option<ModbusServer>, ServeError> {
        let Some(spec) = self.config.modbus_server.clone() else { return Ok(None) };
        let what = spec.tcp.map_or_else(|| "[modbus_server]".to_owned(), |address| address.to_string());
        let server = crate::portals::modbus::server::serve(spec, &self.config.portals, &self.inbox)
            .await
            .map_err(|source| ServeError::Listen { what, source })?;
        self.outlets.by_portal.extend(server.outlets.iter().cloned());
        Ok(Some(server))
    }

    /// The core at the start: the engine with the recovered state, and the boot in the audit. All links were started before, because
    /// the core takes their outlets.
    pub(super) fn core(
        &mut self,
        recovered: Recovered<State>,
        uplink: Option<mpsc::Sender<UplinkOrder>>,
    ) -> Result<GatewayCore, ServeError> {
        let Recovered { mut state, next_n, integrity, lost, issues, took_ms, events_replayed, .. } = recovered;
        // The store knows the highest number ever given, also if that event is lost.
        state.last_n = state.last_n.max(next_n.saturating_sub(1));
        let config = self.config;
        let setup = Setup {
            portals: config.portals.iter().map(|p| p.portal.clone()).collect(),
            lossy: config.portals.iter().filter_map(PortalConfig::lossy_reader).collect(),
            policy: config.policy.clone(),
            calendar: config.calendar.clone(),
            streams: config.streams.iter().map(stream_role).collect(),
            boot: self.boot.clone(),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let identity = Identity {
            boot: self.boot.clone(),
            version: version.clone(),
            insecure: config.insecure.clone(),
            uid_key: uid_key(config).filter(|_| config.policy.hash_uids),
            streams: config.streams.iter().map(|s| (s.name.clone(), registers_of(s.allowed))).collect(),
        };
        self.shown.clone().register(&mut self.registry);
        let (cards, outlets) = (state.list.len(), std::mem::take(&mut self.outlets));
        let engine = Engine::new(setup, state);
        let mut core = GatewayCore::new(engine, self.store.clone(), outlets, uplink, identity, self.metrics.clone());
        let now = self.clock.now();
        for (from, to) in lost {
            match integrity {
                Integrity::Complete => core.input(Input::Lost { from, to }, now),
                Integrity::Damaged { .. } => core.damaged(from, to, now),
            }
        }
        let found =
            if issues.is_empty() { "store complete".to_owned() } else { format!("{} recovery issue(s)", issues.len()) };
        let found = format!("{found}: {cards} cards, {events_replayed} events replayed in {took_ms} ms");
        core.input(Input::Boot { found, version, gateway: Some(config.gateway.clone()) }, now);
        issues.iter().for_each(|issue| core.found(issue, now));
        for detail in &config.insecure {
            core.input(Input::Alarm { kind: AlarmKind::Insecure, portal: None, detail: detail.clone() }, now);
        }
        Ok(core)
    }

    /// Serves the pages and the operator's socket.
    pub(super) async fn pages(
        &self,
        pages: Pages,
        (token, timezone): (watch::Receiver<Option<Secret>>, watch::Receiver<String>),
        ended: &watch::Receiver<bool>,
    ) -> Result<(Running, Vec<JoinHandle<()>>), ServeError> {
        let mut tasks = Vec::new();
        let mut http = None;
        if let Some(page) = &self.config.http {
            let listen = |source| ServeError::Listen { what: page.listen.to_string(), source };
            let listener = TcpListener::bind(page.listen).await.map_err(listen)?;
            http = Some(listener.local_addr().map_err(listen)?);
            let setup = crate::http::console::Setup {
                gateway: self.config.gateway.clone(),
                portals: self.config.portals.iter().map(|p| p.portal.clone()).collect(),
                token,
                clock: self.clock.clone(),
                timezone,
            };
            let room = super::files::room_of_pages(self.config);
            let serving = crate::http::serve_tcp((listener, room), pages.clone(), setup, over(ended));
            tasks.push(tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the pages are no longer served");
                }
            }));
        }
        let socket = self.config.data_dir.join(SOCKET_NAME);
        let bound = match crate::http::bind_socket(&socket).await {
            Ok(listener) => Some(listener),
            Err(error) if cannot_be_written(&error) => {
                tracing::warn!("{}", without_socket(&pages.readiness, &socket, &error));
                None
            }
            Err(source) => return Err(ServeError::Listen { what: socket.display().to_string(), source }),
        };
        let (path, over) = (socket.clone(), over(ended));
        tasks.push(tokio::spawn(async move {
            let listener = match bound {
                Some(listener) => listener,
                None => socket_later(&path, &pages.readiness).await,
            };
            if let Err(error) = crate::http::serve_socket(listener, pages, over).await {
                tracing::error!(%error, "the operator's socket is no longer served");
            }
        }));
        Ok((Running { http, socket }, tasks))
    }
}

/// Notes in the readiness that the operator's socket cannot be made; gives the text for the log.
fn without_socket(readiness: &Readiness, socket: &Path, error: &io::Error) -> String {
    let socket = socket.display();
    let why = format!(
        "the operator's socket `{socket}` cannot be made: {error}; until then `dormgate status` and other commands cannot reach \
         this gateway; make the disk writable"
    );
    readiness.not_ready(Part::Socket, why.clone());
    why
}

/// Waits until the operator's socket can be made. Tried when the store can be written again, and every [`SOCKET_RETRY`].
async fn socket_later(path: &Path, readiness: &Readiness) -> UnixListener {
    loop {
        drop(tokio::time::timeout(SOCKET_RETRY, readiness.ready_again(Part::Store)).await);
        match crate::http::bind_socket(path).await {
            Ok(listener) => {
                readiness.ready(Part::Socket);
                tracing::info!("the operator's socket is served again");
                return listener;
            }
            Err(error) => tracing::debug!("{}", without_socket(readiness, path, &error)),
        }
    }
}

/// Done when the gateway stops, or when the sender of that news is gone.
pub(super) fn over(ended: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut ended = ended.clone();
    async move {
        if ended.wait_for(|over| *over).await.is_err() {
            tracing::debug!("the sender that reports the stop is gone");
        }
    }
}

/// The registers that a stream owns, for the rules.
fn stream_role(stream: &StreamSpec) -> StreamRole {
    StreamRole { name: stream.name.clone(), owns: registers_of(stream.allowed) }
}

/// The key of the hashes in the audit.
fn uid_key(config: &Site) -> Option<UidKey> {
    config.audit.uid_key.as_ref().map(|secret| UidKey::new(secret.expose().as_bytes()))
}

/// The options of the store.
fn store_options(config: &Site) -> Options {
    Options {
        flush_ms: u64::from(config.audit.flush_ms),
        retain_events: config.audit.retain_events.get(),
        retain_days: config.audit.retain_days,
        limit_bytes: u64::from(config.audit.limit_mib) * 1024 * 1024,
        retain_kinds: config.audit.retain.clone(),
        uid_key: uid_key(config),
        hash_uids: config.policy.hash_uids,
        key: config.store_key.as_ref().and_then(|secret| StoreKey::new(secret.expose().as_bytes())),
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_operators_socket_is_made_when_the_store_can_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (data, readiness) = (dir.path().join("data"), Readiness::default());
        let path = data.join(SOCKET_NAME);
        readiness.ready(Part::Gateway);
        without_socket(&readiness, &path, &io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(readiness.reasons().concat().contains("dormgate.sock` cannot be made: read-only"), "{readiness:?}");
        readiness.not_ready(Part::Store, "it cannot be written");
        let begun = tokio::time::Instant::now();
        let later = socket_later(&path, &readiness);
        let writable = async {
            tokio::task::yield_now().await;
            std::fs::create_dir(&data).unwrap();
            readiness.ready(Part::Store);
        };
        let (_listener, ()) = tokio::join!(later, writable);
        assert!(begun.elapsed() < SOCKET_RETRY, "the store's return is the event");
        assert!(path.exists() && readiness.reasons().is_empty(), "{readiness:?}");
        // If the store reports nothing, it is tried again after the named time.
        std::fs::remove_file(&path).unwrap();
        socket_later(&path, &readiness).await;
        assert_eq!(begun.elapsed().as_secs(), SOCKET_RETRY.as_secs());
    }
}
