//! What the client guarantees where answers are late, lost or not an API's: against a server that follows a script.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::Seen;
use super::super::client::{ANSWER_S, ServerError};
use super::*;
use crate::center::GatewayEvent;

const LINKED: &str = "id: 7-1\nevent: link\ndata: {\"data\":{\"up\":true}}\n\n";
const APPLIED: &str = r#"{"messages":[],"acks":[{"gateway":"g1","took_ms":12,"stream":"office","epoch":1,"seq":7,"outcome":"applied","applied_through":7,"missing":[],"errors":[],"revoked":["1EA68671"],"cut":[],"received_at":"2026-09-01T08:00:00.000Z"}],"waiting":[]}"#;

/// What the server does with one connection, after it has read the request.
#[derive(Clone, Copy)]
enum Step {
    /// Ends it.
    Close,
    /// Answers with this status and body, and ends it.
    Answer(&'static str, &'static str),
    /// Keeps it open in silence.
    Hang,
}

/// A server that does one step a connection, and gives the requests as text.
async fn script(steps: &'static [Step]) -> (Remote, JoinHandle<Vec<String>>) {
    let (remote, serving, _) = script_counted(steps).await;
    (remote, serving)
}

/// The same with the number of requests that it has received.
async fn script_counted(steps: &'static [Step]) -> (Remote, JoinHandle<Vec<String>>, watch::Receiver<usize>) {
    let (count, counted) = watch::channel(0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut requests, mut open) = (Vec::new(), Vec::new());
        for step in steps {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let whole = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).to_lowercase();
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                (body.len() >= length.map_or(0, |length| length.parse().unwrap())).then_some(())
            };
            while whole(&bytes).is_none() {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the request is whole");
            }
            requests.push(String::from_utf8(bytes).unwrap());
            count.send_replace(requests.len());
            match step {
                Step::Close => {}
                Step::Answer(status, body) => {
                    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                Step::Hang => open.push(stream),
            }
        }
        if !open.is_empty() {
            std::future::pending::<()>().await;
        }
        requests
    });
    let link = LinkSpec::plain(Vec::new(), "");
    let remote = Remote::new(url.parse().unwrap(), Secret::new("token"), &link, "key-1".to_owned()).unwrap();
    (remote, serving, counted)
}

/// The client of a service that is not there yet, and its address.
async fn away() -> (Remote, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let link = LinkSpec::plain(Vec::new(), "");
    let url = format!("http://{address}").parse().unwrap();
    (Remote::new(url, Secret::new("token"), &link, "key-1".to_owned()).unwrap(), address)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_there_is_tried_again_three_times_for_a_change_and_for_what_only_asks() {
    let began = Instant::now();
    let (remote, _) = away().await;
    let refused = remote.changes(None, &lost(), Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, ServerError::Refused { .. }), "nothing was sent: {refused}");
    let three_times = Duration::from_millis(AGAIN_MS) * AGAIN_MAX;
    assert!(began.elapsed() >= three_times, "{:?}", began.elapsed());
    let again = Instant::now();
    let refused = remote.plan(None, &Enrolments::default()).await.unwrap_err();
    assert!(matches!(refused, ServerError::Refused { .. }) && again.elapsed() >= three_times, "{refused}");
}

fn lost() -> Vec<Op> {
    down::read_ops(r#"[{"op":"report_lost","uid":"1EA68671"}]"#).unwrap()
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_sent_again_under_the_same_key() {
    let (remote, serving) = script(&[Step::Close, Step::Answer("200 OK", APPLIED)]).await;
    let answered = remote.changes(None, &lost(), Duration::ZERO).await.unwrap();
    let (ack, took) = answered[0].ack.as_ref().unwrap();
    assert_eq!((answered.len(), took.as_millis(), ack.revoked.len()), (1, 12, 1));
    let requests = serving.await.unwrap();
    assert!(requests[0].contains("idempotency-key: key-1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("authorization: Bearer token\r\n"), "{}", requests[0]);
    assert_eq!(requests[0], requests[1]);
}

#[tokio::test]
async fn a_change_that_is_never_answered_names_the_key_to_repeat_it_with() {
    let (remote, serving) = script(&[Step::Close; 4]).await;
    let error = remote.changes(None, &lost(), Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().contains("repeat the command with `--idempotency-key key-1`"), "{error}");
    assert_eq!(serving.await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_command_is_never_sent_twice() {
    let (remote, serving) = script(&[Step::Close]).await;
    let kind = CommandKind::Release { portal: "gate-in".parse().unwrap() };
    let error = remote.command(&"g1".parse().unwrap(), &kind, Some("staff:1"), Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, ServerError::Broken { .. }), "{error}");
    let requests = serving.await.unwrap();
    assert!(
        requests[0].ends_with(r#"{"gateway":"g1","actor":"staff:1","command":"release","portal":"gate-in"}"#),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_the_wait_at_the_named_limit() {
    let (remote, serving, mut received) = script_counted(&[Step::Hang]).await;
    let asking = tokio::spawn(async move { remote.gateways().await });
    received.wait_for(|count| *count == 1).await.unwrap();
    tokio::time::pause();
    let limit = Duration::from_secs(ANSWER_S + 1);
    let error = tokio::time::timeout(limit, asking).await.expect("the wait ends").unwrap().unwrap_err();
    assert!(matches!(error, ServerError::Late { .. }), "{error}");
    serving.abort();
}

#[tokio::test]
async fn refusals_of_the_api_and_of_what_stands_before_it_differ() {
    let cases: [(&'static [Step], &str); 4] = [
        (
            &[Step::Answer("413 Too Long", r#"{"error":{"code":"too_large","message":"a body has at most 9 bytes"}}"#)],
            "413 too_large: a body has at most 9 bytes; send it in several parts",
        ),
        (&[Step::Answer("404 Not Found", "<html>")], "is no `dormgate center serve`, or a server between answers"),
        (&[Step::Answer("200 OK", "{}")], "the answer cannot be read"),
        (
            &[Step::Answer("308 Moved\r\nLocation: https://center.example/", "")],
            "the service is at `https://center.example/`; name it with `--server`",
        ),
    ];
    for (steps, part) in cases {
        let (remote, serving) = script(steps).await;
        let error = remote.changes(None, &lost(), Duration::ZERO).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert_eq!(serving.await.unwrap().len(), 1, "not sent again: {part}");
    }
}

#[tokio::test]
async fn events_go_on_behind_the_last_one_after_a_lost_connection() {
    let (remote, serving) = script(&[
        Step::Answer("200 OK", LINKED),
        Step::Answer("200 OK", "id: 7-2\nevent: missed\ndata: {\"message\":\"too many\"}\n\n"),
        Step::Answer("401 Unauthorized", r#"{"error":{"code":"unauthorized","message":"the token is of no client"}}"#),
    ])
    .await;
    let mut events = remote.events().await.unwrap();
    assert!(matches!(events.next().await, Ok(Seen::Event(None, GatewayEvent::Up))));
    assert!(matches!(events.next().await, Ok(Seen::Lost(_))));
    assert!(matches!(events.next().await, Ok(Seen::Back)));
    assert!(matches!(events.next().await, Ok(Seen::Missed(why)) if why == "too many"));
    assert!(matches!(events.next().await, Ok(Seen::Lost(_))));
    let end = events.next().await;
    assert!(matches!(&end, Err(ServerError::Status { .. })), "{end:?}");
    let requests = serving.await.unwrap();
    let last_id = |request: &String| {
        request.split("last-event-id: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap().to_owned())
    };
    let ids: Vec<Option<String>> = requests.iter().map(last_id).collect();
    assert_eq!(ids, [None, Some("7-1".to_owned()), Some("7-2".to_owned())]);
}

#[tokio::test]
async fn over_https_only_a_certificate_of_the_named_authority_is_taken() {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(default_provider().into()).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: ServerUrl = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust the certificate ends the connection here.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            let body = r#"{"gateways":[{"gateway":"g1","published":[]}]}"#;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
        }
    });
    let with = |ca_file: Option<std::path::PathBuf>| {
        let link = LinkSpec { ca_file, ..LinkSpec::plain(Vec::new(), "") };
        Remote::new(url.clone(), Secret::new("token"), &link, "key-1".to_owned())
    };
    let gateways = with(Some(ca_file)).unwrap().gateways().await.unwrap();
    assert_eq!(gateways, [("g1".parse().unwrap(), None)]);
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other_file = dir.path().join("other.pem");
    std::fs::write(&other_file, other.cert.pem()).unwrap();
    let error = with(Some(other_file)).unwrap().gateways().await.unwrap_err().to_string();
    assert!(error.contains("TLS with `https://localhost") && error.contains("`--ca-file` names"), "{error}");
    let error = with(Some(dir.path().join("missing.pem"))).err().unwrap().to_string();
    assert!(error.contains("missing.pem"), "{error}");
    serving.abort();
}
