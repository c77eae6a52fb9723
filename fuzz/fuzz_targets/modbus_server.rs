//! Any bytes over a connection to the server that controllers ask: it goes on answering others.
#![no_main]

use std::time::Duration;

use dormgate::config::{ModbusServerConfig, Surroundings, parse};
use dormgate::gateway::ports::Inbox;
use dormgate::portals::modbus::server::serve;
use dormgate::wire::modbus::{Request, Space, tcp_frame};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const UNIT: u8 = 13;
const SITE: &str = r#"
[gateway]
id = "g"
[modbus_server]
tcp = "127.0.0.1:1502"
[[portal]]
id = "door"
kind = "door"
zone = "1"
device = { modbus_server = 13 }
"#;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (inbox, _taken) = Inbox::new();
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        let spec = ModbusServerConfig { tcp: Some("127.0.0.1:0".parse().unwrap()), serial: None, allow };
        let site = parse(SITE, &Surroundings::default()).unwrap();
        let server = serve(spec, &site.portals, &inbox).await.unwrap();
        let mut stranger = TcpStream::connect(server.address.unwrap()).await.unwrap();
        drop(stranger.write_all(bytes).await);
        let read = Request::Read { space: Space::Input, address: 0, count: 2 };
        let mut controller = TcpStream::connect(server.address.unwrap()).await.unwrap();
        controller.write_all(&tcp_frame(7, UNIT, &read.encode())).await.unwrap();
        let mut reply = [0; 13];
        timeout(Duration::from_secs(5), controller.read_exact(&mut reply)).await.expect("in time").unwrap();
        assert!(read.check(&reply[7..]).is_ok());
        server.stop().await;
    });
});
