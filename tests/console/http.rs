//! Requests as a browser sends them, spelled out.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::program::within;

/// What came back.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{}", self.body)).to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Sends a request with further header lines, each ended by `\r\n`.
pub async fn send(address: &str, method: &str, target: &str, lines: &str, body: &str) -> Answer {
    let host =
        if lines.to_ascii_lowercase().contains("host:") { String::new() } else { format!("Host: {address}\r\n") };
    let request = format!(
        "{method} {target} HTTP/1.1\r\n{host}{lines}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        String::from_utf8(answer).expect("text")
    };
    let answer = within(target, exchange).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    Answer { status, head: head.to_owned(), body }
}

fn dechunked(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        let (chunk, rest) = rest.split_at(size);
        body.push_str(chunk);
        text = rest.strip_prefix("\r\n").expect("the end of a chunk");
    }
    body
}

/// Server-sent events of a connection that stays open.
pub struct Events {
    stream: TcpStream,
    text: String,
}

/// One of them.
#[derive(Debug)]
pub struct Sent {
    pub id: Option<u64>,
    pub data: Value,
}

impl Events {
    pub async fn open(address: &str, target: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut events = Self { stream, text: String::new() };
        let head = within("a head", events.block()).await;
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/event-stream"), "{head}");
        events
    }

    /// The text until the next empty line.
    async fn block(&mut self) -> String {
        loop {
            let text = self.text.replace("\r\n", "\n");
            if let Some((block, rest)) = text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return block;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).await.expect("it is open");
            assert!(read > 0, "the connection was closed");
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    /// The next of a kind; others are passed over.
    pub async fn next(&mut self, kind: &str) -> Sent {
        within(kind, async {
            loop {
                let block = self.block().await;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if field("event: ").as_deref() == Some(kind) {
                    let data = serde_json::from_str(&field("data: ").expect("data")).expect("JSON");
                    return Sent { id: field("id: ").map(|id| id.parse().expect("a number")), data };
                }
            }
        })
        .await
    }
}
