//! The center's service of an office, and one client of its API, for the benchmarks that need a whole center.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use dormgate::wire::keys;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::broker::Kept;

const TOKEN: &str = "bench-0123456789abcdef0123";
/// The file of that token, in the directory of the center.
pub const TOKEN_FILE: &str = "bench.token";

/// The center, and where its API listens.
pub fn start_center(dir: &Path, port: u16, key: &SigningKey) -> (Kept, String) {
    std::fs::write(dir.join("center.key"), keys::print_seed(key)).unwrap();
    std::fs::write(dir.join(TOKEN_FILE), TOKEN).unwrap();
    let config = format!(
        "[center]\ndata_file = \"center.db\"\n[broker]\nurls = [\"mqtt://127.0.0.1:{port}\"]\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[stream]]\nname = \"center\"\nkey_file = \"center.key\"\nmay = [\"*\"]\n[[gateway]]\nid = \"bench\"\n\
         [[client]]\nname = \"bench\"\ntoken_file = \"{TOKEN_FILE}\"\nmay = [\"*\"]\ngateways = [\"*\"]\n"
    );
    let path = dir.join("center.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
    command.args(["center", "serve", "--config"]).arg(&path).env("RUST_LOG", "info");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("serving")).expect("it serves");
    let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    std::thread::spawn(move || log.for_each(drop));
    (Kept(child), address)
}

/// Posts ops for the gateway, over a connection of its own as `curl` does; gives when the answer came.
pub async fn post(address: String, ops: Vec<Value>) -> Instant {
    let body = json!({"gateway": "bench", "ops": ops}).to_string();
    let head = format!(
        "POST /v1/changes HTTP/1.1\r\nHost: center\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let at = Instant::now();
    assert!(answer.starts_with("HTTP/1.1 202") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    at
}

/// The ops that issue these cards and enrol each for the gates.
pub fn enrolments(cards: std::ops::Range<u32>) -> Vec<Value> {
    let ops = cards.flat_map(|card| {
        let (uid, holder) = (super::uid(card).to_string(), super::holder(card).to_string());
        [
            json!({"op": "issue", "uid": uid, "holder": holder}),
            json!({"op": "enrol", "uid": uid, "holder": holder, "entitlements": [{"kind": "gate", "zone": "*"}]}),
        ]
    });
    ops.collect()
}
