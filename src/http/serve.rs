//! Serves pages over TCP. A client that does not finish the head of its request gives its place to the next one.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::console::Bounded;

/// So long the head of a request may take, from the connection or the last answer on.
const HEAD_MAX: Duration = Duration::from_secs(20);

/// Serves `app` until `stop` is done and each connection has its answer.
pub(super) async fn serve(mut listener: Bounded, app: Router, stop: impl Future<Output = ()>) {
    let (end, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            (stream, peer, place) = listener.accept() => {
                let served = connection(stream, peer, app.clone(), ended.clone());
                drop(connections.spawn(async move {
                    served.await;
                    drop(place);
                }));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    end.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection. After `ended` it has no further request.
async fn connection(stream: TcpStream, peer: SocketAddr, app: Router, mut ended: watch::Receiver<bool>) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        app.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let over = async { drop(ended.wait_for(|ended| *ended).await) };
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = over => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(%error, "a connection of the console ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Sends `request`, and reads until the end of the connection.
    async fn exchange(stream: &mut TcpStream, request: &str) -> String {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A connection that is reset has given all it had.
        drop(stream.read_to_string(&mut answer).await);
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_head_does_not_end_gives_its_place_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/healthz", get(|ConnectInfo(_): ConnectInfo<SocketAddr>| async { "ok" }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(serve(Bounded::new(listener, 1), app, stopped));
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        let answer = exchange(&mut next, "GET /healthz HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
        assert_eq!(exchange(&mut slow, "").await, "");
        drop(stop);
        served.await.unwrap();
    }
}
