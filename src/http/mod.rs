//! Health, readiness, metrics and the console over HTTP, and a server on a Unix socket in `data_dir` for the operator's commands.
//!
//! On TCP `/healthz`, `/readyz` and `/metrics` show nothing about persons and change nothing, so that everybody may have them; who may
//! have the console is in `console/guard.rs`. Queries and commands of an operator go through the socket, whose file mode limits
//! who may use it.

mod api;
mod audit;
pub mod client;
mod collect;
pub mod console;
mod dates;
mod disk;
mod erase;
mod people;
mod serve;
pub mod visitors;

use std::io;
use std::path::Path;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::browser;

pub use crate::config::SOCKET_NAME;
pub use crate::store::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX};
pub use api::{Pages, ReloadAsk, ReloadRefusal, Reloaded};
pub use collect::Links;
pub use disk::DiskRoom;

/// Serves `/healthz`, `/readyz`, `/metrics` and the console until `stop` is done, to so many connections at once.
pub async fn serve_tcp(
    (listener, room): (TcpListener, usize),
    pages: Pages,
    setup: console::Setup,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let is_loopback = listener.local_addr()?.ip().is_loopback();
    let (end, ended) = watch::channel(false);
    // What is sent to the consoles ends first: the server waits for the end of each answer.
    let stop = async move {
        stop.await;
        end.send_replace(true);
    };
    let console = console::Console::new(pages.clone(), setup, is_loopback, ended);
    let app = public(pages).merge(console::routes(std::sync::Arc::clone(&console)));
    let app = app.fallback(no_page).method_not_allowed_fallback(no_method);
    tokio::select! {
        () = serve::serve(console::Bounded::new(listener, room), app, stop) => Ok(()),
        () = console::run(console) => Err(io::Error::other("the audit is no longer followed")),
    }
}

/// A socket at `path`, to which only the user and the group of this process may connect. Fails when the socket cannot be made;
/// `AddrInUse` while another process listens there.
pub async fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // A process that was killed leaves its socket behind.
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Serves all pages on the socket, with queries and commands of an operator, until `stop` is done.
pub async fn serve_socket(
    listener: UnixListener,
    pages: Pages,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = public(pages.clone())
        .merge(audit::routes(pages.audit.clone()))
        .merge(erase::routes(pages.clone()))
        .merge(people::routes(pages.clone()))
        .merge(api::routes(pages))
        .fallback(no_request)
        .method_not_allowed_fallback(no_method);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

fn public(pages: Pages) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

/// On the socket.
async fn no_request(uri: Uri) -> Response {
    let what = format!("there is no `{}`; deploy/protocol.md, section 7, lists what there is", uri.path());
    api::refuse(StatusCode::NOT_FOUND, what)
}

async fn no_page(uri: Uri) -> Response {
    api::refuse(StatusCode::NOT_FOUND, format!("there is no `{}`; deploy/console.md lists what there is", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let other = if method == Method::POST { Method::GET } else { Method::POST };
    api::refuse(StatusCode::METHOD_NOT_ALLOWED, format!("`{}` does not take {method}; ask with {other}", uri.path()))
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let reasons = pages.not_ready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join("; "))).into_response()
}

async fn metrics(State(pages): State<Pages>) -> Response {
    browser::metrics(&pages.registry)
}
