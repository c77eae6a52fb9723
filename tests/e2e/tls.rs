//! The uplink as a campus has it: TLS, a client certificate, a user and a password. Against a real mosquitto only.

use rumqttc::{TlsConfiguration, Transport};
use serde_json::json;

use crate::authority::Authority;
use crate::center::{enrol, issue};
use crate::mosquitto::{Mosquitto, Rules};
use crate::peer::{Door, Peer};
use crate::site::{Hub, Site};

const CARD: &str = "1EA68671";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto, which tests/run installs"]
async fn a_gateway_with_certificate_user_and_password_serves_and_one_with_a_wrong_password_reports_so_and_still_decides()
 {
    // The gateway does so for itself; here it is for the client outside.
    drop(tokio_rustls::rustls::crypto::ring::default_provider().install_default());
    let directory = tempfile::tempdir().unwrap();
    let campus = Authority::new();
    let ca_file = campus.write(directory.path(), "ca");
    let (cert, key) = campus.issue(directory.path(), "localhost");
    let rules = Rules {
        tls: Some((ca_file.clone(), cert, key)),
        users: vec![("xing1".into(), "correct horse".into())],
        ..Rules::default()
    };
    let broker = Mosquitto::start(rules);
    let url = broker.url();
    let (peer_cert, peer_key) = campus.issue(directory.path(), "outside");
    let tls = TlsConfiguration::Simple {
        ca: campus.pem.clone().into_bytes(),
        alpn: None,
        client_auth: Some((std::fs::read(peer_cert).unwrap(), std::fs::read(peer_key).unwrap())),
    };
    let door = Door {
        host: url.host.clone(),
        port: url.port,
        user: Some(("xing1".into(), "correct horse".into())),
        transport: Transport::tls_with_config(tls),
    };
    let peer = Peer::connect(&door).await;
    let mut site = Site::of(Hub::of(broker), peer);
    let (cert_file, key_file) = campus.issue(directory.path(), "gateway");
    let uplink = |password: &str| {
        std::fs::write(site.dir().join("password"), format!("{password}\n")).unwrap();
        format!(
            "urls = [\"mqtts://{}:{}\"]\nusername = \"xing1\"\npassword_file = \"password\"\nca_file = \"{}\"\n\
             cert_file = \"{}\"\nkey_file = \"{}\"",
            url.host,
            url.port,
            ca_file.display(),
            cert_file.display(),
            key_file.display()
        )
    };
    // No `[local]`: the same broker, with the same secrets, on a connection of its own.
    site.uplink = Some(uplink("correct horse"));
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    let log = gateway.stop().await;
    assert!(!log.contains("correct horse"), "no secret in the log: {log}");

    std::fs::write(site.dir().join("password"), "battery staple\n").unwrap();
    let gateway = site.launch();
    gateway.logged("serving").await;
    let line = gateway.logged("NotAuthorized").await;
    assert!(line.contains("uplink") || line.contains("local"), "{line}");
    let (status, body) =
        crate::program::page_by_socket(&site.socket(), "/api/v1/query?uid=1EA68671&portal=door-412").await;
    assert!(status == 200 && body.contains("\"grant\""), "{status} {body}");
    let log = gateway.stop().await;
    assert!(!log.contains("battery staple"), "{log}");
}
