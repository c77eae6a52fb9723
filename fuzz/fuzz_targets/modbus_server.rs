//! Any bytes over a connection to the server that controllers ask: it goes on answering others.
#![no_main]

use std::time::Duration;

use dormgate::access::portal::PortalKind;
use dormgate::gateway::ports::Inbox;
use dormgate::config::ModbusServerConfig;
use dormgate::portals::modbus::server::{ServerPortal, serve};
use dormgate::wire::modbus::{Request, Space, tcp_frame};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const UNIT: u8 = 13;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (inbox, _taken) = Inbox::new();
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        let spec = ModbusServerConfig { tcp: Some("127.0.0.1:0".parse().unwrap()), serial: None, allow };
        let door = ServerPortal { id: "door".parse().unwrap(), kind: PortalKind::Door, unit: UNIT };
        let server = serve(spec, vec![door], &inbox).await.unwrap();
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
