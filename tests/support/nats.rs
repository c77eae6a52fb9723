//! A cluster of NATS servers that take MQTT, for tests: Debian's `nats-server`, on free loopback ports, with its streams in a
//! temporary directory. Ends its own children, by their ids, and nothing else.
#![allow(dead_code, reason = "each test uses a part")]

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dormgate::mqtt::BrokerUrl;

/// Longest start of a cluster in tenths of a second: its servers have to find each other and to elect a leader.
const START_TENTHS_MAX: u32 = 600;
/// `CONNECT` of MQTT 3.1.1 with a clean session and the client id `probe` (3.1).
const CONNECT: [u8; 19] = [0x10, 17, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 5, b'p', b'r', b'o', b'b', b'e'];
/// `CONNACK`, accepted, no session (3.2).
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

/// The password of every user of the shipped rules.
pub const PASSWORD: &str = "correct-horse";
/// Where those rules look for it.
const PASSWORDS: [&str; 5] =
    ["NANHU_XING1_PASSWORD", "CENTER_PASSWORD", "CARD_OFFICE_PASSWORD", "APARTMENT_PASSWORD", "GATE_IN_PASSWORD"];

struct Node {
    child: Child,
    mqtt: SocketAddr,
}

pub struct Cluster {
    nodes: Vec<Node>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Three servers that each have accepted an MQTT client.
    pub fn start() -> Self {
        Self::with("", 3)
    }

    /// `servers` of them, with further lines of configuration, e.g. who may do what.
    pub fn with(extra: &str, servers: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // A port that was free a moment ago may be taken now: then try others.
        for _ in 0..5 {
            if let Some(nodes) = launch(extra, servers, directory.path()) {
                let cluster = Self { nodes, directory };
                if extra.is_empty() {
                    cluster.wait_until_served();
                }
                return cluster;
            }
        }
        panic!("nats-server does not start; is the Debian package `nats-server` installed?");
    }

    /// The MQTT address of a server.
    pub fn url(&self, node: usize) -> BrokerUrl {
        let address = self.nodes.get(node).expect("a server").mqtt;
        BrokerUrl { tls: false, host: address.ip().to_string(), port: address.port() }
    }

    /// Ends a server as a power cut does: its connections are closed by the system.
    pub fn kill(&mut self, node: usize) {
        let node = self.nodes.get_mut(node).expect("a server");
        node.child.kill().expect("it runs");
        node.child.wait().expect("a child");
    }

    /// Stops a server where it stands: its connections stay open, and nothing answers.
    pub fn freeze(&self, node: usize) {
        self.signal(node, "-STOP");
    }

    /// Lets a server go on, and waits until it has caught up: a cluster of three that loses another one before has no majority.
    pub fn thaw(&self, node: usize) {
        self.signal(node, "-CONT");
        self.wait_until_served();
    }

    fn signal(&self, node: usize, signal: &str) {
        let id = self.nodes.get(node).expect("a server").child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
    }

    fn wait_until_served(&self) {
        let mut tenths = 0;
        for (place, node) in self.nodes.iter().enumerate() {
            while !is_served(node.mqtt) {
                let log = self.directory.path().join(format!("{place}.log"));
                assert!(tenths < START_TENTHS_MAX, "{}", std::fs::read_to_string(log).unwrap_or_default());
                tenths += 1;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.child.kill().ok();
            node.child.wait().ok();
        }
    }
}

fn is_served(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let mut answer = [0; 4];
    stream.write_all(&CONNECT).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == CONNACK
}

fn launch(extra: &str, servers: usize, directory: &Path) -> Option<Vec<Node>> {
    // Held together, so that no port is given twice.
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let held: Vec<_> = (0..servers).map(|_| [free(), free(), free()]).collect();
    let addresses: Vec<_> =
        held.iter().map(|all| all.each_ref().map(|l| l.local_addr().expect("an address"))).collect();
    drop(held);
    let routes: Vec<_> = addresses.iter().map(|[_, _, cluster]| format!("\"nats-route://{cluster}\"")).collect();
    let routes = routes.join(", ");
    let mut nodes = Vec::new();
    for (place, [client, mqtt, cluster]) in addresses.into_iter().enumerate() {
        let streams = directory.join(format!("streams-{place}"));
        let mut text = format!(
            "server_name: n{place}\nlisten: \"{client}\"\nmqtt {{ listen: \"{mqtt}\" }}\njetstream {{ store_dir: \"{}\" }}\n",
            streams.display()
        );
        if servers > 1 {
            writeln!(text, "cluster {{ name: campus, listen: \"{cluster}\", no_advertise: true, routes: [{routes}] }}")
                .expect("text");
        }
        text.push_str(extra);
        let config = directory.join(format!("{place}.conf"));
        std::fs::write(&config, text).expect("the configuration is written");
        let log = std::fs::File::create(directory.join(format!("{place}.log"))).expect("a log");
        let child = Command::new("nats-server")
            .envs(PASSWORDS.map(|name| (name, PASSWORD)))
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("nats-server is installed");
        nodes.push(Node { child, mqtt });
    }
    let mut tenths = 0;
    let all_listen = |nodes: &[Node]| nodes.iter().all(|node| TcpStream::connect(node.mqtt).is_ok());
    while !all_listen(&nodes) {
        let has_ended = nodes.iter_mut().any(|node| node.child.try_wait().expect("a child").is_some());
        if has_ended || tenths > START_TENTHS_MAX {
            nodes.iter_mut().for_each(|node| {
                node.child.kill().ok();
                node.child.wait().ok();
            });
            let log = std::fs::read_to_string(directory.join("0.log")).unwrap_or_default();
            eprintln!("{log}");
            return None;
        }
        tenths += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(nodes)
}
