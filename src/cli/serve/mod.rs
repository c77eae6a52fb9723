//! Runs the gateway from start to stop, for `run` and `demo`.

mod assembly;
mod files;
mod reload;
mod watchdog;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use self::assembly::{Assembly, over};
use self::reload::Reloader;
use super::random_hex;
use crate::access::event::AlarmKind;
use crate::access::input::Input;
use crate::clock::{Clock, SYNCHRONISED_FILE};
use crate::config::Site;
use crate::gateway::ports::{Inbox, Part};
use crate::http::{DiskRoom, Pages};
use crate::portals::modbus::server::ModbusServer;
use crate::portals::parts::PartPortals;
use crate::store::Closed;

pub use assembly::{Running, ServeError};
use reload::Shared;
pub(super) use reload::Source;

/// How long the stop may take in all, in milliseconds: after SIGTERM the process ends within 5 s.
const DRAIN_MS: u64 = 4_800;
/// How often it is looked up when the system last synchronised its clock.
const SYNCHRONISED_EVERY: Duration = Duration::from_secs(3_600);

/// Runs the configured gateway until `stop` is done; `ready` is called when it serves. Its configuration is not read again. The error
/// names what could not be started, and what to do.
pub async fn serve(
    config: &Site,
    stop: impl Future<Output = ()> + Send,
    ready: impl FnOnce(&Running),
) -> Result<(), ServeError> {
    serve_with(config, (random_id()?, None), stop, ready, |_| {}).await
}

/// As [`serve`]; the configuration is read again from `source` at its signal, and when an operator asks.
pub(super) async fn serve_file(
    config: &Site,
    source: Source,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_with(config, (random_id()?, Some(source)), stop, |_| {}, |_| {}).await
}

/// As [`serve`]; `extra` may add tasks to those of the links.
async fn serve_with(
    config: &Site,
    (boot, source): (String, Option<Source>),
    stop: impl Future<Output = ()> + Send,
    ready: impl FnOnce(&Running),
    extra: impl FnOnce(&mut JoinSet<()>),
) -> Result<(), ServeError> {
    files::raise_limit();
    let (mut parts, store_events, recovered, inbox) = Assembly::open(config, boot)?;
    let uplink = parts.uplink()?;
    parts.native()?;
    let mut lines = parts.parts()?;
    let mut server = parts.modbus_server().await?;
    extra(&mut parts.links);
    let core = parts.core(recovered, uplink)?;
    let (readiness, progress) = (core.readiness(), core.progress());

    // Cards are decided from here on.
    let (end, ended) = watch::channel(false);
    let mut gateway = tokio::spawn(crate::gateway::run(core, inbox, store_events, parts.clock.clone(), over(&ended)));

    let synchronisation = tokio::spawn(watch_synchronisation(parts.clock.clone(), parts.inbox.clone()));

    let disk = DiskRoom::default();
    disk.clone().register(&mut parts.registry);
    let watching = tokio::spawn(disk.clone().watch(config.data_dir.clone()));
    let registry = Arc::new(std::mem::take(&mut parts.registry));
    let (inbox, links) = (parts.inbox.clone(), parts.shown.clone());
    let (token, token_now) = watch::channel(config.http.as_ref().and_then(|http| http.token.clone()));
    let (zone, zone_now) = watch::channel(config.timezone_name.clone());
    let (reload, asks) = Reloader::channel();
    let pages =
        Pages { registry, readiness: readiness.clone(), inbox, links, audit: parts.store.clone(), disk, reload };
    let (running, pages_served) = parts.pages(pages, (token_now, zone_now), &ended).await?;
    let reloading = source.map(|source| {
        let shared = Shared { token, zone, allow: server.as_ref().map(|server| server.allow.clone()) };
        tokio::spawn(Reloader::new(source, config.clone(), parts.inbox.clone(), shared, asks).run())
    });
    readiness.ready(Part::Gateway);
    notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("serving")]);
    let watchdog = tokio::spawn(watchdog::feed(progress));
    tracing::info!(gateway = %config.gateway, boot = parts.boot, "serving");
    ready(&running);

    let failed = async {
        tokio::select! {
            () = failed(Some(&mut parts.links)) => {}
            () = failed(Some(&mut lines.tasks)) => {}
            () = failed(server.as_mut().map(|server| &mut server.tasks)) => {}
        }
    };
    let mut end_cause = end_cause(stop, &mut gateway, failed).await;
    // Whatever the cause, stop in this order: accept nothing new, finish what was accepted, deliver, close the store.
    notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping: finishing what was accepted");
    readiness.not_ready(Part::Gateway, "stopping");
    end.send_replace(true);
    let until = Instant::now() + Duration::from_millis(DRAIN_MS);
    if end_cause != EndCause::GatewayEnded && gateway.await.is_err() {
        end_cause = EndCause::GatewayEnded;
    }
    // The core held the channels to the links. Now that it has ended they deliver what is left, disconnect and end.
    let links_end = async {
        while let Some(link) = parts.links.join_next().await {
            if link.is_err() {
                tracing::error!("a link failed");
            }
        }
    };
    // In parallel: a broker that does not answer takes no time from a relay that has to be switched off.
    let parts_end = async { tokio::join!(links_end, stop_parts(server, lines)) };
    if tokio::time::timeout_at(until, parts_end).await.is_err() {
        tracing::warn!("a link did not end in time");
    }
    for task in pages_served.into_iter().chain([synchronisation, watching, watchdog]).chain(reloading) {
        task.abort();
    }
    match tokio::time::timeout_at(until, parts.store.close()).await {
        Ok(Closed::Drained) => {}
        Ok(Closed::Unfinished) | Err(_) => {
            tracing::warn!("the store did not finish in time; what was acknowledged is on disk");
        }
    }
    // Nothing answers at a socket that is left behind.
    if let Err(error) = std::fs::remove_file(&running.socket) {
        tracing::debug!(%error, "the socket was not removed");
    }
    tracing::info!("stopped");
    if end_cause == EndCause::Stop { Ok(()) } else { Err(ServeError::Ended) }
}

/// Raises the alarm `clock` when the system has not synchronised its clock for a day: once, until it has, which ends it.
async fn watch_synchronisation(clock: Clock, inbox: Inbox) {
    let mut raised = false;
    loop {
        let last = clock.synchronised_too_long_ago(Path::new(SYNCHRONISED_FILE));
        if last.is_none() && raised && inbox.urgent(Input::ClockSynchronised).await.is_err() {
            return;
        }
        if let Some(last) = last.filter(|_| !raised) {
            let detail = format!(
                "the system last synchronised its clock at {last}, more than a day ago; look at its network and `timedatectl timesync-status`"
            );
            if inbox.urgent(Input::Alarm { kind: AlarmKind::Clock, portal: None, detail }).await.is_err() {
                return;
            }
        }
        raised = last.is_some();
        tokio::time::sleep(SYNCHRONISED_EVERY).await;
    }
}

async fn stop_parts(server: Option<ModbusServer>, lines: PartPortals) {
    if let Some(server) = server {
        server.stop().await;
    }
    lines.stop().await;
}

/// Why the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndCause {
    Stop,
    GatewayEnded,
    PartFailed,
}

/// Waits until `stop` is done, or the gateway task or one of the tasks around it has ended: a process without one of them only looks
/// alive, so it ends and is started again.
async fn end_cause<T>(
    stop: impl Future<Output = ()>,
    gateway: &mut JoinHandle<T>,
    failed: impl Future<Output = ()>,
) -> EndCause {
    tokio::select! {
        () = stop => EndCause::Stop,
        _ = gateway => EndCause::GatewayEnded,
        () = failed => EndCause::PartFailed,
    }
}

/// Done when one of `tasks` has panicked; tasks that end well do not count.
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

fn random_id() -> Result<String, ServeError> {
    random_hex::<8>().map_err(ServeError::Random)
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not notified");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::path::Path;

    use super::*;
    use crate::access::state::State;
    use crate::config::{Surroundings, parse};
    use crate::store::{Options, Store};

    fn config(dir: &Path) -> Site {
        let text = "[gateway]\nid = \"g\"\n[[portal]]\nid = \"gate\"\nkind = \"gate\"\nzone = \"1\"\ndevice = { mqtt = \"native\" }\n\
                    [local]\nurls = [\"mqtt://127.0.0.1:1\"]\n";
        let around = Surroundings { base_dir: dir.into(), credentials_dir: None };
        let mut config = parse(text, &around).unwrap();
        config.data_dir = dir.join("data");
        config
    }

    #[tokio::test]
    async fn without_its_gateway_task_the_process_ends() {
        let mut gateway = tokio::spawn(async { panic!("as if a rule were broken") });
        assert_eq!(end_cause(pending(), &mut gateway, pending()).await, EndCause::GatewayEnded);
        let mut gateway = tokio::spawn(pending::<()>());
        assert_eq!(end_cause(async {}, &mut gateway, pending()).await, EndCause::Stop);
    }

    #[tokio::test]
    async fn a_socket_that_another_process_listens_on_is_an_error_and_stays_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        std::fs::create_dir(&config.data_dir).unwrap();
        let socket = config.data_dir.join(crate::http::SOCKET_NAME);
        let _other = tokio::net::UnixListener::bind(&socket).unwrap();
        let served = serve(&config, pending(), |_| {}).await;
        assert!(
            matches!(&served, Err(ServeError::Listen { what, .. }) if what.ends_with("dormgate.sock")),
            "{served:?}"
        );
        tokio::net::UnixStream::connect(&socket).await.unwrap();
    }

    #[tokio::test]
    async fn the_data_directory_of_another_gateway_is_refused_with_both_ids() {
        let dir = tempfile::tempdir().unwrap();
        let own = config(dir.path());
        serve(&own, async {}, |_| {}).await.unwrap();
        let other = Site { gateway: "xing2".parse().unwrap(), ..own.clone() };
        let why = serve(&other, async {}, |_| {}).await.unwrap_err().to_string();
        assert!(why.contains("is the data directory of gateway `g`, and `xing2` is configured"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_well_is_no_failure() {
        let mut links = JoinSet::new();
        links.spawn(async {});
        assert!(tokio::time::timeout(Duration::from_secs(1), failed(Some(&mut links))).await.is_err());
    }

    #[tokio::test]
    async fn a_link_that_panics_ends_the_process_after_everything_is_finished_and_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let (inbox_out, inbox_in) = std::sync::mpsc::channel();
        let served = serve_with(
            &config,
            ("b".into(), None),
            pending(),
            |running| inbox_out.send(running.socket.clone()).unwrap(),
            |links| drop(links.spawn(async { panic!("as if a link were broken") })),
        );
        assert!(matches!(served.await, Err(ServeError::Ended)));
        assert!(!inbox_in.recv().unwrap().exists(), "the drain has run to its end");
        let (_, _, recovered) = Store::open::<State>(&config.data_dir, Options::default()).unwrap();
        assert_eq!((recovered.issues, recovered.next_n), (Vec::new(), 2), "the start is on disk");
    }
}
