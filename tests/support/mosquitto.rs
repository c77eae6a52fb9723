//! A real mosquitto for tests. Ends its own child, by its id, and nothing else.
#![allow(dead_code, reason = "each test uses a part")]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dormgate::mqtt::BrokerUrl;

/// How long a start may take, in tenths of a second.
const START_TENTHS_MAX: u32 = 100;

/// Whether tests that take any broker use mosquitto: `tests/run` sets `DORMGATE_REAL_PARTS`.
pub fn real_parts() -> bool {
    std::env::var_os("DORMGATE_REAL_PARTS").is_some()
}

/// What a mosquitto asks of its clients.
#[derive(Clone, Default)]
pub struct Rules {
    /// CA, server certificate and key: TLS with client certificates wanted.
    pub tls: Option<(PathBuf, PathBuf, PathBuf)>,
    /// Users and their passwords; none: anybody may connect.
    pub users: Vec<(String, String)>,
    /// Whether sessions and retained messages survive a stop.
    pub persistent: bool,
    /// Further lines of its configuration.
    pub extra: String,
}

pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    rules: Rules,
    /// Ended by `stop`, so that its id may be another process' by now.
    stopped: bool,
    directory: tempfile::TempDir,
}

impl Mosquitto {
    pub fn start(rules: Rules) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // A port that was free a moment ago may be taken now: then try another.
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port");
            if let Some(child) = launch(&rules, free, directory.path()) {
                return Self { child, address: free, rules, stopped: false, directory };
            }
        }
        panic!("mosquitto does not start; is the Debian package `mosquitto` installed?");
    }

    pub fn url(&self) -> BrokerUrl {
        let tls = self.rules.tls.is_some();
        let host = if tls { "localhost".to_owned() } else { self.address.ip().to_string() };
        BrokerUrl { tls, host, port: self.address.port() }
    }

    /// What it has logged since it was last started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it and starts it again at the same port.
    pub fn restart(&mut self, pause: Duration) {
        self.stop();
        std::thread::sleep(pause);
        self.child = launch(&self.rules, self.address, self.directory.path()).expect("the same port again");
        self.stopped = false;
    }

    /// Kills it, as a power cut of its machine would: it saves nothing.
    pub fn kill(&mut self) {
        if !std::mem::replace(&mut self.stopped, true) {
            self.child.kill().expect("it runs");
            self.child.wait().expect("mosquitto ends");
        }
    }

    /// Ends it in order, so that it saves what it keeps.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill");
        self.child.wait().expect("mosquitto ends");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(rules: &Rules, address: SocketAddr, directory: &Path) -> Option<Child> {
    let mut text = format!("listener {} 127.0.0.1\nset_tcp_nodelay true\n", address.port());
    // Started by root, it would change to a user who cannot read the directory.
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if root {
        text.insert_str(0, "user root\n");
    }
    if rules.users.is_empty() {
        text.push_str("allow_anonymous true\n");
    } else {
        let file = directory.join("passwords");
        std::fs::write(&file, "").expect("a file of passwords");
        for (user, password) in &rules.users {
            let made = Command::new("mosquitto_passwd").arg("-b").arg(&file).args([user, password]).status();
            assert!(made.expect("mosquitto_passwd").success());
        }
        writeln!(text, "allow_anonymous false\npassword_file {}", file.display()).expect("text");
    }
    if let Some((ca, cert, key)) = &rules.tls {
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        writeln!(text, "cafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true").expect("text");
    }
    if rules.persistent {
        writeln!(text, "persistence true\npersistence_location {}/", directory.display()).expect("text");
    }
    text.push_str(&rules.extra);
    let config = directory.join("mosquitto.conf");
    std::fs::write(&config, text).expect("the configuration is written");
    let log = std::fs::File::create(directory.join("log")).expect("a log");
    let mut child = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("mosquitto is installed");
    for _ in 0..START_TENTHS_MAX {
        if child.try_wait().expect("a child").is_some() {
            eprintln!("{}", std::fs::read_to_string(directory.join("log")).unwrap_or_default());
            return None;
        }
        if TcpStream::connect(address).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().ok();
    child.wait().ok();
    None
}
