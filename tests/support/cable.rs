//! A cable between a client and a broker that a test can pull and plug.

use std::net::SocketAddr;
use std::sync::Arc;

use dormgate::mqtt::BrokerUrl;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Cable {
    address: SocketAddr,
    plugged: Arc<watch::Sender<bool>>,
}

impl Cable {
    /// A plugged cable to `to`.
    pub async fn to(to: &BrokerUrl) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let plugged = Arc::new(watch::channel(true).0);
        let (state, to) = (Arc::clone(&plugged), format!("{}:{}", to.host, to.port));
        tokio::spawn(async move {
            loop {
                let Ok((mut near, _)) = listener.accept().await else { return };
                let mut state = state.subscribe();
                let to = to.clone();
                tokio::spawn(async move {
                    near.set_nodelay(true).ok();
                    // Pulled: the connection is accepted and ends, as behind a router that has lost its line.
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    far.set_nodelay(true).ok();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|plugged| !plugged) => {}
                    }
                });
            }
        });
        Self { address, plugged }
    }

    /// The near end.
    pub fn url(&self) -> BrokerUrl {
        BrokerUrl { tls: false, host: self.address.ip().to_string(), port: self.address.port() }
    }

    pub fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub fn plug(&self) {
        self.plugged.send_replace(true);
    }
}
