//! TLS with client certificates and passwords against a real mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::sync::Arc;
use std::time::Duration;

use authority::Authority;
use dormgate::mqtt::{BrokerFault, ClientCert, Connection, Credentials, Event, LinkSpec, Secret, Session, Setup};
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
        users: vec![("xing1".into(), "correct horse".into())],
        ..Rules::default()
    };
    let broker = Mosquitto::start(rules);
    let (cert_file, key_file) = ours.issue(directory.path(), "gateway");
    let as_user = |password: &str| {
        Some(Credentials { username: "xing1".into(), password: Some(Secret::new(password)), password_file: None })
    };
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

#[tokio::test]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_password_is_read_at_each_connect_and_while_its_file_is_gone_the_one_of_the_start_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let rules = Rules { users: vec![("xing1".into(), "correct horse".into())], ..Rules::default() };
    let broker = Mosquitto::start(rules);
    let file = directory.path().join("password");
    let with = |at_start: &str| {
        let password = Some(Secret::new(at_start));
        let own = Credentials { username: "xing1".into(), password, password_file: Some(file.clone()) };
        LinkSpec { credentials: Some(own), ..LinkSpec::plain(vec![broker.url()], "gateway") }
    };
    std::fs::write(&file, "wrong\n").unwrap();
    assert!(attempt(with("correct horse")).await.is_err());
    std::fs::write(&file, "correct horse\n").unwrap();
    assert_eq!(attempt(with("wrong")).await, Ok(()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(attempt(with("correct horse")).await, Ok(()));
    std::fs::write(&file, "").unwrap();
    assert_eq!(attempt(with("correct horse")).await, Ok(()));
}

#[tokio::test]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_renewed_certificate_is_used_at_the_next_connect_and_a_wrong_file_leaves_the_old_one_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let ca_file = ours.write(directory.path(), "ca");
    let (cert, key) = ours.issue(directory.path(), "localhost");
    let rules = Rules {
        tls: Some((ca_file.clone(), cert, key)),
        // The broker names clients by their certificates, and logs the names.
        extra: "use_identity_as_username true\nlog_type all\n".into(),
        ..Rules::default()
    };
    let mut broker = Mosquitto::start(rules);
    let (cert_file, key_file) = ours.issue(directory.path(), "gateway");
    let own = ClientCert { cert_file: cert_file.clone(), key_file: key_file.clone() };
    let spec =
        LinkSpec { ca_file: Some(ca_file), client_cert: Some(own), ..LinkSpec::plain(vec![broker.url()], "gateway") };
    let mut link = Connection::new(spec, plain(), Arc::default()).unwrap();
    let metrics = Arc::clone(link.metrics());
    let until_up = async |link: &mut Connection| {
        let up = async { while !matches!(link.next().await, Event::Up { .. }) {} };
        tokio::time::timeout(Duration::from_secs(60), up).await.unwrap();
    };
    let users = |broker: &Mosquitto, name: &str| broker.log().matches(&format!("u'{name}'")).count();
    until_up(&mut link).await;
    assert_eq!((users(&broker, "gateway"), users(&broker, "renewed")), (1, 0), "{}", broker.log());

    // Half of a renewal: the new certificate, and the key of the old one.
    let (renewed_cert, renewed_key) = ours.issue(directory.path(), "renewed");
    std::fs::copy(&renewed_cert, &cert_file).unwrap();
    broker.restart(Duration::ZERO);
    until_up(&mut link).await;
    assert_eq!((users(&broker, "gateway"), users(&broker, "renewed")), (1, 0), "{}", broker.log());
    let (fault, detail) = metrics.faults.all().pop().unwrap();
    assert_eq!(fault, BrokerFault::TlsFiles);
    assert!(detail.contains("do not fit") && detail.contains("`key_file`"), "{detail}");

    // Gone altogether.
    std::fs::remove_file(&key_file).unwrap();
    broker.restart(Duration::ZERO);
    until_up(&mut link).await;
    assert_eq!(users(&broker, "gateway"), 1);
    assert!(metrics.faults.all().pop().unwrap().1.contains("cannot read"));

    std::fs::copy(&renewed_key, &key_file).unwrap();
    broker.restart(Duration::ZERO);
    until_up(&mut link).await;
    assert_eq!((users(&broker, "gateway"), users(&broker, "renewed")), (0, 1), "{}", broker.log());
    assert!(metrics.faults.all().is_empty());
}
