//! What runs beside the gateway: the links to the center and to the portals, and the pages. Each is given its way in (the inbox)
//! and gives its way out (the outlets).

use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::adapters::{AuditOf, ModbusObserver};
use super::{Running, ServeError, modbus, over};
use crate::config::{Config, PortalDevice};
use crate::gateway::ports::{Inbox, PORTAL_ORDERS_MAX, PortalOrder, PortalOutlets, UPLINK_ORDERS_MAX, UplinkOrder};
use crate::http::{Links, Pages, SOCKET_NAME};
use crate::mqtt::{LinkMetrics, WallClock};
use crate::portals::modbus::server::ModbusServer;
use crate::portals::modbus::{ModbusPortals, Observer};
use crate::portals::mqtt::{NativePortals, NativeSpec};
use crate::store::Store;
use crate::uplink::{Uplink, UplinkSpec};

pub(super) fn start_uplink(
    config: &Config,
    boot: &str,
    inbox: &Inbox,
    store: &Store,
    wall: &WallClock,
    shown: &mut Links,
    links: &mut JoinSet<()>,
) -> Result<Option<mpsc::Sender<UplinkOrder>>, ServeError> {
    let Some(link) = &config.uplink else { return Ok(None) };
    let (orders, taken) = mpsc::channel(UPLINK_ORDERS_MAX);
    let counters = Arc::new(LinkMetrics::default());
    shown.add("uplink", &counters);
    let spec = UplinkSpec {
        link: link.clone(),
        gateway: config.gateway.clone(),
        streams: config.streams.clone(),
        boot: boot.to_owned(),
        audit_ack: config.audit.ack,
    };
    let audit = Arc::new(AuditOf(store.clone()));
    let uplink = Uplink::new(spec, inbox.clone(), taken, audit, Arc::clone(wall), counters)
        .map_err(|source| ServeError::Link { link: "uplink", source })?;
    links.spawn(uplink.run());
    Ok(Some(orders))
}

pub(super) fn start_native(
    config: &Config,
    boot: &str,
    inbox: &Inbox,
    wall: &WallClock,
    shown: &mut Links,
    outlets: &mut PortalOutlets,
    links: &mut JoinSet<()>,
) -> Result<(), ServeError> {
    let Some(link) = &config.local else { return Ok(()) };
    let (orders, taken) = mpsc::channel::<PortalOrder>(PORTAL_ORDERS_MAX);
    let native = config.portals.iter().filter(|p| matches!(p.device, PortalDevice::NativeMqtt));
    outlets.by_portal.extend(native.map(|p| (p.portal.id.clone(), orders.clone())));
    outlets.unknown = Some(orders);
    let counters = Arc::new(LinkMetrics::default());
    shown.add("local", &counters);
    let spec = NativeSpec { link: link.clone(), gateway: config.gateway.clone(), boot: boot.to_owned() };
    let native = NativePortals::new(spec, inbox.clone(), taken, Arc::clone(wall), counters)
        .map_err(|source| ServeError::Link { link: "local", source })?;
    links.spawn(native.run());
    Ok(())
}

pub(super) fn start_modbus(
    config: &Config,
    inbox: &Inbox,
    registry: &mut Registry,
    outlets: &mut PortalOutlets,
) -> Result<Option<ModbusPortals>, ServeError> {
    let portals = modbus::portals(config).map_err(ServeError::Modbus)?;
    if portals.is_empty() {
        return Ok(None);
    }
    let observer = crate::http::ModbusCounters::register(registry);
    let observer: Arc<dyn Observer> = Arc::new(ModbusObserver(observer));
    let lines = crate::portals::modbus::start(modbus::buses(config), portals, inbox, &observer)
        .map_err(|errors| ServeError::Modbus(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    outlets.by_portal.extend(lines.outlets.iter().cloned());
    Ok(Some(lines))
}

pub(super) async fn start_modbus_server(
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

pub(super) async fn start_pages(
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
