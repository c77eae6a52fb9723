//! `dormgate center serve`: the center of an office, from its file until it is stopped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::super::{Ended, Exit, failed, print_error, print_line};
use crate::access::id::GatewayId;
use crate::center::database::{Database, Reader, Retention};
use crate::center::http::{Api, serve};
use crate::center::{Attention, Center, Service};
use crate::clock::Clock;
use crate::config::{self, CENTER_PATH, CenterSite, ConfigError};

/// How long what is under way may take to be delivered at the end, in seconds.
const CLOSE_S: u64 = 4;
/// How long requests may take to be answered at the end, in seconds.
const DRAIN_S: u64 = 2;
/// Most gateways, and most clients, that a log line names when a file is taken over.
const NAMED_MAX: usize = 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The center of an office: an HTTP API in front, the gateways of a campus behind, everything in one database.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file of the center; deploy/center.toml shows every key.
    #[arg(long, value_name = "FILE", default_value = CENTER_PATH)]
    config: PathBuf,
    /// Report what is wrong with the file, and end.
    #[arg(long)]
    check: bool,
    /// Print the `[[center.stream]]` tables for the gateways' configuration, and end.
    #[arg(long, conflicts_with = "check")]
    public: bool,
}

pub(super) fn run(args: &Args) -> Ended {
    let site = config::load_center(&args.config).map_err(|error| {
        print_error(error);
        Exit::Config
    })?;
    if args.public {
        return Ok(print_line(public(&site).trim_end()));
    }
    if args.check {
        let (streams, gateways, clients) = (site.streams.len(), site.gateways.len(), site.clients.len());
        let insecure: String = site.insecure().iter().map(|what| format!("\ninsecure: {what}")).collect();
        let notes: String = site.notes().iter().map(|what| format!("\nnote: {what}")).collect();
        return Ok(print_line(format!(
            "{}: right; {streams} streams, {gateways} gateways, {clients} clients{insecure}{notes}",
            args.config.display()
        )));
    }
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| failed(format!("the runtime does not start: {error}")))?;
    runtime.block_on(attend(&args.config, site)).map(|()| Exit::Done).map_err(failed)
}

async fn attend(file: &Path, site: CenterSite) -> Result<(), Failure> {
    let mut stop = std::pin::pin!(super::super::run::stop_signal()?);
    let mut reload = signal(SignalKind::hangup())?;
    let retention =
        Retention { audit_days: site.audit_days, acks_days: site.acks_days, requests_days: site.requests_days };
    let database = Database::open(&site.data_file, site.epoch, retention)?;
    let reader = Reader::open(&site.data_file)?;
    let clock = Clock::system();
    let center = Center::new(database, site.streams.clone(), site.gateways.clone())?;
    let center = center.in_timezone(site.timezone.clone());
    let listener = TcpListener::bind(site.listen).await.map_err(|error| {
        format!("cannot listen on `{}`: {error}; correct `listen` in `[http]`, or end what listens there", site.listen)
    })?;
    let address: SocketAddr = listener.local_addr()?;
    let streams = center.streams().cloned().collect();
    let service = Service::start(center, site.broker.clone(), clock.clone(), Attention::Everything)?;
    let api = Arc::new(Api::new(service, streams, reader, &site.clients, (&clock, site.timezone.clone())));
    let (end, ended) = oneshot::channel::<()>();
    let mut serving = tokio::spawn(serve(listener, Arc::clone(&api), async move { drop(ended.await) }));
    tracing::info!(%address, data_file = %site.data_file.display(), "serving");
    notify(&[NotifyState::Ready]);
    let mut running = site;
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(()) = reload.recv() => reread(file, &mut running, &api).await,
            done = &mut serving => return Err(match done {
                Ok(Err(error)) => format!("the API ended: {error}").into(),
                _ => "the API ended".into(),
            }),
            // The service manager starts it again, and the next start publishes what is not delivered yet.
            () = api.ended() => return Err("the center has stopped by a fault of the program; see the lines before".into()),
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: delivering what is under way");
    end.send(()).ok();
    // A client that listens to events never ends by itself.
    if tokio::time::timeout(Duration::from_secs(DRAIN_S), &mut serving).await.is_err() {
        serving.abort();
        drop(serving.await);
    }
    if !api.close(Duration::from_secs(CLOSE_S)).await {
        tracing::warn!("not all of it was delivered; the next start publishes the rest");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Reads the file again, at SIGHUP. All of its gateways and clients are taken over, or, if anything in the file is wrong, nothing.
/// `running` is what the center works with.
async fn reread(file: &Path, running: &mut CenterSite, api: &Api) {
    tracing::info!(file = %file.display(), "reading the configuration again");
    let began = NotifyState::monotonic_usec_now().ok();
    notify(&[NotifyState::Reloading].into_iter().chain(began).collect::<Vec<_>>());
    let path = file.to_owned();
    let status = match tokio::task::spawn_blocking(move || config::load_center(&path)).await {
        Ok(Ok(site)) => match api.replace_gateways(site.gateways.clone()).await {
            Ok(()) => taken_over(running, site, api),
            Err(error) => refused(&error),
        },
        Ok(Err(error)) => refused(&error),
        Err(error) => refused(&ConfigError::Unreadable { path: file.to_owned(), source: error.into() }),
    };
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Serves the clients of the file, and logs what is different from before.
fn taken_over(running: &mut CenterSite, site: CenterSite, api: &Api) -> String {
    let waiting = running.needs_restart(&site);
    api.replace_clients(&site.clients);
    let gateways = differences(&running.gateways, &site.gateways, GatewayId::as_str);
    let clients = differences(&running.clients, &site.clients, |client| &client.name);
    (running.gateways, running.clients) = (site.gateways, site.clients);
    tracing::info!(gateways = running.gateways.len(), "the gateways are those of the file: {gateways}");
    tracing::info!(clients = running.clients.len(), "the clients are those of the file: {clients}");
    let changes = format!("gateways: {gateways}; clients: {clients}");
    if waiting.is_empty() {
        return format!("serving; {changes}");
    }
    let waiting = waiting.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    tracing::warn!("changed in the file and not here: {waiting}; restart the center to take it over");
    format!("serving; {changes}; a restart takes over {waiting}")
}

/// Logs why a file is not taken over.
fn refused(error: &impl ToString) -> String {
    for line in error.to_string().lines() {
        tracing::error!("{line}");
    }
    tracing::error!("nothing of the file is taken over, the center goes on as before; correct it and reload again");
    "serving; the changed file was refused, see the log".to_owned()
}

/// What is different among gateways or clients, by their names and without tokens.
fn differences<T: PartialEq>(before: &[T], after: &[T], name: impl Fn(&T) -> &str) -> String {
    let by_name = |all| -> HashMap<&str, &T> { <[T]>::iter(all).map(|one| (name(one), one)).collect() };
    let (old, new) = (by_name(before), by_name(after));
    let changed = after.iter().filter_map(|one| match old.get(name(one)) {
        None => Some(format!("`{}` added", name(one))),
        Some(old) => (*old != one).then(|| format!("`{}` changed", name(one))),
    });
    let withdrawn = before.iter().filter(|one| !new.contains_key(name(one)));
    let changes: Vec<_> = changed.chain(withdrawn.map(|one| format!("`{}` withdrawn", name(one)))).collect();
    if changes.is_empty() { "none changed".to_owned() } else { crate::few(&changes, NAMED_MAX, ", ") }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not notified");
    }
}

/// The tables that a gateway needs to verify what this center signs.
fn public(site: &CenterSite) -> String {
    let tables = site.streams.iter().map(|(stream, _)| config::stream_table(stream));
    tables.collect::<Vec<_>>().join("\n")
}
