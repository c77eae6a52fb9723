//! `dormgate connect --test` as an installer runs it, at brokers that are each wrong in one way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(dead_code, reason = "of what tests share, a part is used")]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/center.rs"]
mod center;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use std::path::Path;
use std::process::Command;

use authority::Authority;
use center::{Office, now_s};
use mosquitto::{Mosquitto, Rules};
use serde_json::{Value, json};

/// A broker and a configuration that fit together.
struct Fitting {
    dir: tempfile::TempDir,
    authority: Authority,
    rules: Rules,
    /// Keys of `[uplink]` beside `urls`.
    keys: Vec<(&'static str, String)>,
    office: Office,
}

impl Fitting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca = authority.write(dir.path(), "ca");
        let (cert, key) = authority.issue(dir.path(), "localhost");
        authority.issue(dir.path(), "gateway");
        let users = vec![("xing1".to_owned(), "correct horse".to_owned())];
        std::fs::write(dir.path().join("password"), "correct horse").unwrap();
        let keys = [
            "ca_file=ca.pem",
            "cert_file=gateway.pem",
            "key_file=gateway.key",
            "username=xing1",
            "password_file=password",
        ];
        let keys = keys.iter().map(|pair| pair.split_once('=').unwrap()).map(|(key, value)| (key, value.to_owned()));
        let keys = keys.collect();
        Self {
            dir,
            authority,
            rules: Rules { tls: Some((ca, cert, key)), users, ..Rules::default() },
            keys,
            office: Office::card_office(),
        }
    }

    fn with(mut self, extra: &str) -> Self {
        self.rules.extra = format!("{extra}\n");
        self
    }

    /// Another value for a key, or none.
    fn key(mut self, key: &'static str, value: Option<&str>) -> Self {
        self.keys.retain(|(name, _)| *name != key);
        self.keys.extend(value.map(|value| (key, value.to_owned())));
        self
    }

    fn start(&self) -> Mosquitto {
        Mosquitto::start(self.rules.clone())
    }

    /// A head of the card office, kept by the broker.
    fn keeps_head(&self, broker: &Mosquitto, of: &Office, more: &Value) {
        let mut head = json!({"epoch": 1, "seq": 7, "cards": 0, "digest": "0".repeat(64)});
        head.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = of.sign(&of.claims("campus", head));
        let url = broker.url();
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let mut publish = Command::new("mosquitto_pub");
        publish.args([
            "-h",
            &url.host,
            "-p",
            &url.port.to_string(),
            "-u",
            "xing1",
            "-P",
            "correct horse",
            "-q",
            "1",
            "-r",
        ]);
        publish.args(["--cafile", &file("ca.pem"), "--cert", &file("gateway.pem"), "--key", &file("gateway.key")]);
        publish.args(["-t", "dormgate/v1/campus/down/head/card-office", "-m", &message]);
        assert!(publish.status().unwrap().success());
    }

    /// Whether nothing was wrong, and what was printed.
    fn tried(&self, url: &str) -> (bool, String) {
        let keys: String = self.keys.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
        let config = format!(
            "[gateway]\nid = \"xing1\"\n[uplink]\nurls = [\"{url}\"]\n{keys}[[center.stream]]\nname = \"card-office\"\n\
             scope = \"campus\"\npublic_keys = [\"{}\"]\nmay = [\"issue\"]\n",
            self.office.public_key()
        );
        let (good, printed) = try_config(self.dir.path(), &config);
        assert_eq!(good, !printed.contains("WRONG"), "{printed}");
        // Without `[local]`, the same broker is tried for the portals' link as well.
        let uplink = printed.split("\nlocal ").next().unwrap();
        (!uplink.contains("WRONG"), uplink.to_owned())
    }
}

fn try_config(dir: &Path, config: &str) -> (bool, String) {
    let file = dir.join("dormgate.toml");
    std::fs::write(&file, config).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    let ended = program.args(["connect", "--test", "--config"]).arg(&file).env_remove("RUST_LOG").output().unwrap();
    let printed = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap();
    (ended.status.code() == Some(0), printed)
}

/// The last line that is printed.
fn last(printed: &str) -> &str {
    printed.trim_end().lines().last().unwrap()
}

#[test]
#[ignore = "needs mosquitto; tests/run installs it"]
fn a_broker_that_fits_passes_every_step_and_nothing_stays_at_it() {
    let fitting = Fitting::new();
    let broker = fitting.start();
    fitting.keeps_head(&broker, &fitting.office, &json!({}));
    for _ in 0..2 {
        let (good, printed) = fitting.tried(&broker.url().to_string());
        assert!(good, "{printed}");
        for step in ["resolve", "connect", "tls", "login", "subscribe", "echo", "retained", "size", "center"] {
            assert!(printed.contains(&format!("  ok    {step:<9} ")), "{step}: {printed}");
        }
        assert!(last(&printed).contains("`card-office` is at 1.7, "), "{printed}");
    }
    // What the test had retained is gone.
    let url = broker.url();
    let file = |name: &str| fitting.dir.path().join(name).display().to_string();
    let mut subscribe = Command::new("mosquitto_sub");
    subscribe.args(["-h", &url.host, "-p", &url.port.to_string(), "-u", "xing1", "-P", "correct horse", "-v"]);
    subscribe.args(["--cafile", &file("ca.pem"), "--cert", &file("gateway.pem"), "--key", &file("gateway.key")]);
    let kept = subscribe.args(["-t", "dormgate/#", "--retained-only", "-W", "2"]).output().unwrap();
    let kept = String::from_utf8(kept.stdout).unwrap();
    assert!(kept.lines().all(|line| line.starts_with("dormgate/v1/campus/down/head/card-office ")), "{kept}");
}

#[test]
#[ignore = "needs mosquitto; tests/run installs it"]
fn the_first_thing_that_is_wrong_is_named_with_its_remedy() {
    let readable = "user xing1\ntopic readwrite dormgate/v1/xing1/gateway/echo/+\ntopic read dormgate/v1/#\n";
    let acl = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("acl");
        std::fs::write(&file, text).unwrap();
        (format!("acl_file {}", file.display()), dir)
    };
    let (without_echo, _kept) = acl("user xing1\ntopic read dormgate/v1/#\n");
    let (with_echo, _also_kept) = acl(readable);
    let stranger = |fitting: Fitting| {
        Authority::new().write(fitting.dir.path(), "stranger");
        fitting.key("ca_file", Some("stranger.pem"))
    };
    let with_strange_certificate = |fitting: Fitting| {
        Authority::new().issue(fitting.dir.path(), "strange");
        fitting.key("cert_file", Some("strange.pem")).key("key_file", Some("strange.key"))
    };
    let cases: [(&str, Fitting, &[&str]); 11] = [
        ("QoS 0", Fitting::new().with("max_qos 0"), &["subscribe", "mosquitto: `max_qos`"]),
        (
            "a certificate of a stranger",
            with_strange_certificate(Fitting::new()),
            &["login", "issued by the authority that the broker trusts"],
        ),
        (
            "no password",
            Fitting::new().key("password_file", None),
            &[
                "login",
                "there is no password for `username`: name its file as `password_file`, or give the credential `uplink_password`",
            ],
        ),
        ("a stranger's authority", stranger(Fitting::new()), &["tls", "`ca_file` has to be of the authority"]),
        (
            "no certificate of its own",
            Fitting::new().key("cert_file", None).key("key_file", None),
            &["login", "set `cert_file` and `key_file`"],
        ),
        (
            "another user",
            Fitting::new().key("username", Some("xing2")),
            &["login", "`username` and the password are not"],
        ),
        ("no access to the echo", Fitting::new().with(&without_echo), &["echo", "does not come back; allow this user"]),
        (
            "access",
            Fitting::new().with(&with_echo),
            &["center", "no head is retained", "or its access rules keep this user from reading `head`"],
        ),
        (
            "no retained messages",
            Fitting::new().with("retain_available false"),
            &["retained", "`retain_available true`"],
        ),
        ("short messages", Fitting::new().with("message_size_limit 65536"), &["size", "`message_size_limit`"]),
        ("short packets", Fitting::new().with("max_packet_size 65536"), &["size", "`max_packet_size`"]),
    ];
    for (name, fitting, wanted) in cases {
        let broker = fitting.start();
        let (good, printed) = fitting.tried(&broker.url().to_string());
        assert_eq!(good, name == "access", "{name}: {printed}");
        let line = last(&printed);
        let mark = if good { "poor" } else { "WRONG" };
        assert!(
            line.contains(&format!("  {mark:<5} {:<9} ", wanted[0])) && line.contains(wanted[1]),
            "{name}: {printed}"
        );
    }
}

#[test]
#[ignore = "needs mosquitto; tests/run installs it"]
fn a_wrong_address_is_named_with_what_is_there() {
    let fitting = Fitting::new();
    let broker = fitting.start();
    let port = broker.url().port;
    let plain = Mosquitto::start(Rules::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    let cases = [
        (format!("mqtts://127.0.0.1:{port}"), "tls", "write a host that is in the certificate"),
        (format!("mqtts://127.0.0.1:{}", plain.url().port), "tls", "this port uses no TLS"),
        (format!("mqtt://127.0.0.1:{port}"), "login", "a port for TLS wants mqtts://"),
        (format!("mqtt://127.0.0.1:{silent}"), "login", "may be no MQTT broker"),
    ];
    for (url, step, remedy) in cases {
        let fitting = if url.starts_with("mqtts") {
            &fitting
        } else {
            &Fitting::new().key("ca_file", None).key("cert_file", None).key("key_file", None)
        };
        let (good, printed) = fitting.tried(&url);
        let line = last(&printed);
        assert!(!good && line.contains(&format!("WRONG {step:<9} ")) && line.contains(remedy), "{url}: {printed}");
    }
}

/// A broker that answers each CONNECT with this code.
fn refusing(code: u8) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The step before keeps its connection and sends nothing.
            std::thread::spawn(move || {
                if matches!(stream.read(&mut [0; 512]), Ok(1..)) {
                    drop(stream.write_all(&[0x20, 2, 0, code]));
                }
            });
        }
    });
    url
}

#[test]
fn a_broker_that_refuses_the_login_by_a_code_is_answered_with_what_the_code_means() {
    let fitting = Fitting::new().key("ca_file", None).key("cert_file", None).key("key_file", None);
    for (code, remedy) in [
        (2, "the broker does not take the name: look at `client_id` (the test adds `-connect-test` to it)"),
        (3, "the broker is there and takes nobody at present: start what it needs, or try again later"),
        (5, "`username` and the password are not those that the broker knows"),
    ] {
        let (good, printed) = fitting.tried(&refusing(code));
        let line = last(&printed);
        assert!(!good && line.contains("WRONG login") && line.contains(remedy), "{code}: {printed}");
    }
}

#[test]
#[ignore = "needs mosquitto; tests/run installs it"]
fn an_office_with_another_key_or_another_clock_is_named() {
    let fitting = Fitting::new();
    let broker = fitting.start();
    let url = broker.url().to_string();
    fitting.keeps_head(&broker, &fitting.office, &json!({"iat": now_s() + 120}));
    let (good, printed) = fitting.tried(&url);
    assert!(!good && last(&printed).contains("later than the clock of this box; set the clock"), "{printed}");
    fitting.keeps_head(&broker, &fitting.office, &json!({"iat": now_s() - 3_600}));
    let (good, printed) = fitting.tried(&url);
    assert!(
        good && last(&printed).starts_with("  poor  center ") && last(&printed).contains("the center is silent"),
        "{printed}"
    );
    let mut other = Office::apartment();
    other.name = "card-office";
    fitting.keeps_head(&broker, &other, &json!({}));
    let (good, printed) = fitting.tried(&url);
    assert!(!good && last(&printed).contains("compare `public_keys`"), "{printed}");
}

#[test]
#[ignore = "needs mosquitto; tests/run installs it"]
fn the_link_to_devices_with_topics_of_their_own_is_tried_with_what_it_listens_to() {
    let dir = tempfile::tempdir().unwrap();
    let acl = dir.path().join("acl");
    let rules = "user hall\ntopic write tele/hall/LWT\nuser gateway\ntopic read dormgate/v1/#\n\
                 topic readwrite dormgate/v1/g/gateway/echo/local\n";
    std::fs::write(dir.path().join("password"), "correct horse").unwrap();
    let portal = "[[portal]]\nid = \"gate\"\nkind = \"gate\"\nzone = \"1\"\nreader = { mqtt = \"tasmota-rc522\", topic = \"hall\" }\n\
                  output = { mqtt = \"tasmota-relay\", topic = \"lock\" }\n";
    // The lock is not connected; what the reader retained is seen if it may be read.
    for (more, known) in [("", 0), ("topic read tele/+/LWT\n", 1)] {
        std::fs::write(&acl, format!("{rules}{more}")).unwrap();
        let users = ["gateway", "hall"].map(|user| (user.to_owned(), "correct horse".to_owned())).to_vec();
        let extra = format!("acl_file {}\n", acl.display());
        let broker = Mosquitto::start(Rules { users, extra, ..Rules::default() });
        let url = broker.url();
        let mut publish = Command::new("mosquitto_pub");
        publish.args([
            "-h",
            &url.host,
            "-p",
            &url.port.to_string(),
            "-u",
            "hall",
            "-P",
            "correct horse",
            "-q",
            "1",
            "-r",
        ]);
        assert!(publish.args(["-t", "tele/hall/LWT", "-m", "Online"]).status().unwrap().success());
        let local = format!(
            "[gateway]\nid = \"g\"\n[local]\nurls = [\"{url}\"]\nusername = \"gateway\"\npassword_file = \"password\"\n{portal}"
        );
        let (good, printed) = try_config(dir.path(), &local);
        let (own, devices) = printed.split_once("\ndevices mqtt://").unwrap_or_else(|| panic!("{printed}"));
        assert!(good && own.contains("  ok    echo"), "{printed}");
        assert!(devices.contains("  ok    subscribe 4 filters") && !devices.contains("echo"), "{printed}");
        assert!(devices.contains(&format!("  ok    devices   {known} device(s)")), "{printed}");
        let poor = |device: &str| {
            devices.contains(&format!("  poor  devices   `{device}` has retained nothing at `tele/{device}/LWT`"))
        };
        assert_eq!((poor("hall"), poor("lock")), (known == 0, true), "{printed}");
    }
}

#[test]
fn where_nothing_listens_and_where_no_broker_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (good, printed) =
        try_config(dir.path(), &format!("[gateway]\nid = \"g\"\n[local]\nurls = [\"mqtt://{free}\"]\n"));
    assert!(
        !good && last(&printed).contains(&format!("WRONG connect   nothing listens at {free}; start the broker")),
        "{printed}"
    );
    let (good, printed) = try_config(dir.path(), "[gateway]\nid = \"g\"\n");
    assert!(!good && printed.contains("neither `[uplink]` nor `[local]`"), "{printed}");
}
