//! The gateway put together from its parts, for `run` and `demo`: one long flat list of who is connected to whom.

mod adapters;
mod desk;
mod links;
pub(super) mod modbus;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::metrics::Metrics;
use crate::gateway::owner::Identity;
use crate::gateway::ports::{Inbox, PortalOutlets};
use crate::http::{Links, Pages, Readiness};
use crate::mqtt::{LinkError, WallClock};
use crate::portals::modbus::ModbusPortals;
use crate::portals::modbus::server::ModbusServer;
use crate::store::{Closed, StoreError};

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
    #[error("a part of the gateway ended unexpectedly; see the log")]
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

    let (store, store_events, recovered) = desk::open_store(config)?;
    clock.not_before(recovered.state.trusted_at);
    let (inbox, taken) = Inbox::new();
    let wall: WallClock = {
        let clock = clock.clone();
        Arc::new(move || clock.now().wall)
    };

    // The links, each with its way in and its way out. They connect when they run, and nothing here waits for them.
    let mut links = JoinSet::new();
    let mut outlets = PortalOutlets::default();
    let mut shown = Links::default();
    let uplink = links::start_uplink(config, &boot, &inbox, &store, &wall, &mut shown, &mut links)?;
    links::start_native(config, &boot, &inbox, &wall, &mut shown, &mut outlets, &mut links)?;
    shown.register(&mut registry);
    let mut lines = links::start_modbus(config, &inbox, &mut registry, &mut outlets)?;
    let mut server = links::start_modbus_server(config, &inbox, &mut outlets).await?;

    let identity = Identity {
        boot: boot.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        insecure: config.insecure.clone(),
        streams: config.streams.iter().map(|s| (s.name.clone(), s.may)).collect(),
    };
    let desk = desk::start_desk(config, recovered, &store, &clock, outlets, uplink, identity, &metrics)?;

    // From here on cards are decided.
    let (end, ended) = watch::channel(false);
    let mut gateway =
        tokio::spawn(crate::gateway::run(desk, taken, store_events, clock.clone(), metrics, over(&ended)));

    let readiness = Readiness::default();
    let pages = Pages { registry: Arc::new(registry), readiness: readiness.clone(), inbox: inbox.clone() };
    let (running, pages_served) = links::start_pages(config, pages, &ended).await?;
    readiness.set(true);
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("serving")]);
    tracing::info!(gateway = %config.gateway, boot, "serving");
    ready(&running);

    let failed = async {
        tokio::select! {
            () = failed(Some(&mut links)) => {}
            () = failed(lines.as_mut().map(|lines| &mut lines.tasks)) => {}
            () = failed(server.as_mut().map(|server| &mut server.tasks)) => {}
        }
    };
    told_to_stop(stop, &mut gateway, failed).await?;
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
        while let Some(link) = links.join_next().await {
            if link.is_err() {
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

async fn stop_modbus(server: Option<ModbusServer>, lines: Option<ModbusPortals>) {
    if let Some(server) = server {
        server.stop().await;
    }
    if let Some(lines) = lines {
        lines.stop().await;
    }
}

/// Waits until `stop` is done. Without its gateway task, or one of the tasks around it, a process only looks alive: it ends, so
/// that it is started anew.
async fn told_to_stop<T>(
    stop: impl Future<Output = ()>,
    gateway: &mut JoinHandle<T>,
    failed: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    tokio::select! {
        () = stop => Ok(()),
        _ = gateway => Err(ServeError::Ended),
        () = failed => Err(ServeError::Ended),
    }
}

/// Done when one of `tasks` has panicked; those that end well are forgotten.
async fn failed(tasks: Option<&mut JoinSet<()>>) {
    if let Some(tasks) = tasks {
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err() {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn without_its_gateway_task_the_process_ends() {
        let mut gateway = tokio::spawn(async { panic!("as if a rule were broken") });
        let told = told_to_stop(pending(), &mut gateway, pending()).await;
        assert!(matches!(told, Err(ServeError::Ended)));
        let mut gateway = tokio::spawn(pending::<()>());
        assert!(told_to_stop(async {}, &mut gateway, pending()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn without_one_of_its_links_the_process_ends() {
        let mut gateway = tokio::spawn(pending::<()>());
        let mut links = JoinSet::new();
        links.spawn(async {});
        let limit = Duration::from_secs(1);
        let told = told_to_stop(pending(), &mut gateway, failed(Some(&mut links)));
        assert!(tokio::time::timeout(limit, told).await.is_err(), "a task that ends well is no failure");
        links.spawn(async { panic!("as if a link were broken") });
        let told = told_to_stop(pending(), &mut gateway, failed(Some(&mut links))).await;
        assert!(matches!(told, Err(ServeError::Ended)));
    }
}
