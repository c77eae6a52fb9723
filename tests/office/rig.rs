//! The center that an office runs, as a child process, and what is asked of it over HTTP or on the command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mosquitto::{Mosquitto, Rules};
use crate::peer::Peer;
use crate::program::{Program, within};
use crate::site::{Hub, Site};

pub const OLD: &str = "1EA68671";
pub const NEW: &str = "04A1B2C3D4E5F6";
/// Nothing listens at this broker: the center publishes nothing.
pub const NO_BROKER: &str = "mqtt://127.0.0.1:1";
/// The client that may everything.
pub const ALL: &str = "all-0123456789abcdef0123";
/// The client that may read and enrol at the first gateway.
pub const SOME: &str = "some-0123456789abcdef012";

/// A center's file, its keys and tokens, and the process.
pub struct Center {
    pub dir: tempfile::TempDir,
    pub program: Program,
    pub address: String,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
}

pub fn seed(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn public(byte: u8) -> String {
    URL_SAFE_NO_PAD.encode(seed(byte).verifying_key().as_bytes())
}

/// A site whose gateway verifies what the center signs.
pub async fn site() -> Site {
    let hub = Hub::of(Mosquitto::start(Rules::default()));
    let peer = Peer::connect(&hub.door()).await;
    Site::of(hub, peer)
}

pub fn gateway_config(site: &Site, [cards, rooms]: [&str; 2]) -> PathBuf {
    let text = site.config_text();
    let text = text.replace(&site.cards.public_key(), cards).replace(&site.rooms.public_key(), rooms);
    let path = site.dir().join("dormgate.toml");
    std::fs::write(&path, text).unwrap();
    path
}

pub async fn start_gateway(site: &Site) -> Program {
    start_gateway_of(site, [&public(1), &public(2)]).await
}

/// The same with the public keys of `card-office` and `apartment`.
pub async fn start_gateway_of(site: &Site, keys: [&str; 2]) -> Program {
    let mark = site.peer.mark();
    let gateway = Program::run(&gateway_config(site, keys));
    site.online(mark, &gateway).await;
    gateway
}

/// A directory with the file of a center, its keys and its tokens; `prepare` changes them.
pub fn prepared(url: &str, gateways: &[&str], prepare: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    for (name, byte) in [("card-office", 1), ("apartment", 2)] {
        write(&format!("{name}.key"), &dormgate::wire::keys::print_seed(&seed(byte)));
    }
    write("all.token", ALL);
    write("some.token", SOME);
    let tables: String = gateways.iter().map(|id| format!("[[gateway]]\nid = \"{id}\"\n")).collect();
    let text = format!(
        "[center]\ndata_file = \"center.db\"\n[broker]\nurls = [\"{url}\"]\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[stream]]\nname = \"card-office\"\nscope = \"campus\"\nkey_file = \"card-office.key\"\n\
         may = [\"issue\", \"reissue\", \"report_lost\", \"found\", \"freeze\", \"unfreeze\", \"cancel\", \"reinstate\"]\n\
         [[stream]]\nname = \"apartment\"\nkey_file = \"apartment.key\"\n\
         may = [\"enrol\", \"withdraw\", \"suspend_power\", \"resume_power\", \"define_schedule\", \"set_posture\", \"command\"]\n\
         {tables}\
         [[client]]\nname = \"all\"\ntoken_file = \"all.token\"\nmay = [\"*\"]\ngateways = [\"*\"]\n\
         [[client]]\nname = \"some\"\ntoken_file = \"some.token\"\nmay = [\"read\", \"enrol\"]\ngateways = [\"{}\"]\n",
        gateways[0]
    );
    write("center.toml", &text);
    prepare(dir.path());
    dir
}

impl Center {
    pub async fn start(url: &str, gateways: &[&str]) -> Self {
        Self::start_prepared(url, gateways, |_| ()).await
    }

    /// The same; `prepare` is given the directory with the file, the keys and the tokens before the process starts.
    pub async fn start_prepared(url: &str, gateways: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = prepared(url, gateways, prepare);
        let (program, address) = Self::launch(&dir).await;
        Self { dir, program, address }
    }

    pub async fn launch(dir: &tempfile::TempDir) -> (Program, String) {
        let config = dir.path().join("center.toml");
        Self::serving(Program::start(&["center", "serve", "--config", config.to_str().unwrap()])).await
    }

    /// Waits until the process serves; gives it and its address.
    pub async fn serving(program: Program) -> (Program, String) {
        let line = program.logged("serving").await;
        let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        (program, address)
    }

    /// Kills it and starts it again on the same file.
    pub async fn kill_and_start(self) -> Self {
        let Self { dir, program, .. } = self;
        program.kill().await;
        let (program, address) = Self::launch(&dir).await;
        Self { dir, program, address }
    }

    pub async fn connected(&self) {
        let ready = async {
            while send(&self.address, "GET", "/readyz", "", &[], None).await.is_none_or(|answer| answer.status != 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        within("the center reaches the broker", ready).await;
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        send(&self.address, "GET", path, token, &[], None).await.unwrap()
    }

    pub async fn post(&self, path: &str, token: &str, key: Option<&str>, body: &Value) -> Answer {
        let key = key.map(|key| ("Idempotency-Key", key));
        send(&self.address, "POST", path, token, key.as_slice(), Some(body)).await.unwrap()
    }

    /// Publishes ops and waits for the acks.
    pub async fn change(&self, gateway: Option<&str>, ops: Value) -> Answer {
        let mut body = json!({ "ops": ops });
        if let Some(gateway) = gateway {
            body["gateway"] = json!(gateway);
        }
        self.post("/v1/changes?wait_ms=30000", ALL, None, &body).await
    }

    /// Waits until `path` answers what `is` wants.
    pub async fn until(&self, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let answer = self.get(path, ALL).await;
                if answer.status == 200 && is(&answer.body) {
                    return answer.body;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within(path, found).await
    }
}

/// One request on a connection of its own; `None`: the server is gone.
pub async fn send(
    address: &str,
    method: &str,
    path: &str,
    token: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Option<Answer> {
    let body = body.map_or(String::new(), ToString::to_string);
    let mut lines = format!("Authorization: Bearer {token}\r\n");
    for (name, value) in headers {
        lines.push_str(&format!("{name}: {value}\r\n"));
    }
    let (_, answer) = exchange(address, &format!("{method} {path}"), &lines, body.as_bytes()).await?;
    Some(answer)
}

/// The same with further header lines, each ended by `\r\n`; gives the head of the answer too.
pub async fn exchange(address: &str, target: &str, lines: &str, body: &[u8]) -> Option<(String, Answer)> {
    let length = body.len();
    let head =
        format!("{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{lines}\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(&[head.as_bytes(), body].concat()).await.ok()?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.ok()?;
        let text = String::from_utf8(text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Some((head.to_owned(), Answer { status, body }))
    };
    within(target, exchange).await
}

pub fn error(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default())
}

/// `dormgate center ARGS` to its end: exit code, stdout, stderr.
pub async fn command(args: &[&str]) -> (i32, String, String) {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_dormgate"));
    let output =
        program.arg("center").args(args).env("RUST_LOG", "off").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within(&args.join(" "), output).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
