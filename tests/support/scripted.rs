//! A broker of a few lines that reports what a test wants it to report, also what no broker should.
#![allow(dead_code, reason = "each test uses a part")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use dormgate::mqtt::BrokerUrl;

/// `CONNACK`, accepted, no session (MQTT 3.1.1, 3.2).
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// A packet of a type that does not exist (MQTT 3.1.1, 2.2.1: 15 is reserved).
pub const GARBAGE: [u8; 3] = [0xF0, 1, 0];

pub struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    pub fn url(&self) -> BrokerUrl {
        let address = self.listener.local_addr().expect("an address");
        BrokerUrl { tls: false, host: address.ip().to_string(), port: address.port() }
    }

    /// The next client, and whether it asks for a clean session.
    pub async fn client(&self) -> (TcpStream, bool) {
        let (mut stream, _) = self.listener.accept().await.expect("a client");
        let (kind, body) = packet(&mut stream).await.expect("a CONNECT");
        assert_eq!(kind, 0x10);
        // Name (6), level (1), then the flags; bit 1 is the clean session.
        let clean = body.get(7).is_some_and(|flags| flags & 2 != 0);
        (stream, clean)
    }
}

/// The next packet: its first byte and what follows the length. `None`: the client is gone.
pub async fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    packet_from(stream).await
}

/// The same from one half of a connection.
pub async fn packet_from(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// Reports these bytes; a client that has gone does not receive them.
pub async fn report(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.ok();
}

/// Waits for the SUBSCRIBE and answers each filter with this code; gives the QoS that was asked for.
pub async fn grant(stream: &mut TcpStream, code: u8) -> Vec<u8> {
    loop {
        let (kind, body) = packet(stream).await.expect("a SUBSCRIBE");
        if kind != 0x82 {
            continue;
        }
        let (id, mut filters) = body.split_at(2);
        let mut reply = id.to_vec();
        let mut asked = Vec::new();
        while let [high, low, rest @ ..] = filters {
            let length = usize::from(*high) * 256 + usize::from(*low);
            asked.extend(rest.get(length));
            filters = rest.get(length + 1..).expect("a filter and its QoS");
            reply.push(code);
        }
        let length = u8::try_from(reply.len()).expect("few filters");
        report(stream, &[0x90, length]).await;
        report(stream, &reply).await;
        return asked;
    }
}
