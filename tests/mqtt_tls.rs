//! TLS with client certificates and passwords against a real mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::sync::Arc;
use std::time::Duration;

use authority::Authority;
use dormgate::mqtt::{ClientCert, Connection, Credentials, Event, LinkSpec, Secret, Session, Setup};
use mosquitto::{Mosquitto, Rules};

fn plain() -> Setup {
    Setup {
        link: "test",
        session: Session::Persistent,
        subscriptions: Vec::new(),
        packet_bytes_max: 65_536,
        will: None,
        echo_topic: None,
    }
}

/// Connects; gives why not, if not.
async fn attempt(spec: LinkSpec) -> Result<(), String> {
    let mut link = Connection::new(spec, plain(), Arc::default()).unwrap();
    for _ in 0..1000 {
        if let Ok(Event::Up { .. }) = tokio::time::timeout(Duration::from_millis(10), link.next()).await {
            return Ok(());
        }
        if let Some(why) = link.last_failure() {
            return Err(why.to_owned());
        }
    }
    panic!("neither connected nor refused");
}

#[tokio::test]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_gateway_proves_itself_with_a_certificate_and_a_password_and_checks_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let ca_file = ours.write(directory.path(), "ca");
    let (cert, key) = ours.issue(directory.path(), "localhost");
    let rules = Rules {
        tls: Some((ca_file.clone(), cert, key)),
        user: Some(("xing1".into(), "correct horse".into())),
        ..Rules::default()
    };
    let broker = Mosquitto::start(rules);
    let (cert_file, key_file) = ours.issue(directory.path(), "gateway");
    let as_user =
        |password: &str| Some(Credentials { username: "xing1".into(), password: Some(Secret::new(password)) });
    let spec = LinkSpec {
        credentials: as_user("correct horse"),
        ca_file: Some(ca_file),
        client_cert: Some(ClientCert { cert_file, key_file }),
        ..LinkSpec::plain(vec![broker.url()], "gateway")
    };
    assert_eq!(attempt(spec.clone()).await, Ok(()));

    let wrong_password = LinkSpec { credentials: as_user("wrong"), ..spec.clone() };
    let why = attempt(wrong_password).await.unwrap_err();
    assert!(why.contains("NotAuthorized") || why.contains("BadUserNamePassword"), "{why}");

    let no_certificate = LinkSpec { client_cert: None, ..spec.clone() };
    let why = attempt(no_certificate).await.unwrap_err();
    assert!(why.to_lowercase().contains("certificate"), "{why}");

    let stranger = Authority::new().write(directory.path(), "stranger");
    let why = attempt(LinkSpec { ca_file: Some(stranger), ..spec.clone() }).await.unwrap_err();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");

    let mut other_name = broker.url();
    other_name.host = "127.0.0.1".into();
    let why = attempt(LinkSpec { urls: vec![other_name], ..spec }).await.unwrap_err();
    assert!(why.contains("not valid for name"), "{why}");
}
