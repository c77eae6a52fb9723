//! `[http]`: where console, API and metrics are served, and who may change something there.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{Context, ModbusServerConfig, Secret, secret};
use crate::profile::document::Key;

/// The console's address when the file names none.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8480);

/// Where console, API and metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address listened on.
    pub listen: SocketAddr,
    /// What a caller must present to change anything. Without it, which is allowed on loopback only, nothing can be changed over
    /// HTTP.
    pub token: Option<Secret>,
}

#[derive(Deserialize)]
pub(super) struct HttpTable {
    listen: Key<String>,
    token_file: secret::FileKey,
}

pub(super) fn http(
    cx: &Context<'_>,
    table: &Key<HttpTable>,
    modbus_server: Option<&ModbusServerConfig>,
) -> Option<HttpConfig> {
    let t = table.get()?;
    let listen = t.listen.parse(cx.log, address).unwrap_or(DEFAULT_LISTEN);
    let token = cx.token(&t.token_file, "console_token", !listen.ip().is_loopback());
    if !listen.ip().is_loopback() && token.is_none() && !t.token_file.is_set() {
        let message = format!(
            "`{listen}` can be reached from outside, so `token_file` is needed; or listen on `{DEFAULT_LISTEN}`"
        );
        t.listen.wrong(cx.log, message);
    }
    if let Some(other) = modbus_server.and_then(|server| server.tcp)
        && is_same(listen, other)
    {
        let message = format!("`{listen}` is taken by `modbus_server.tcp` = `{other}`; give one of both another port");
        t.listen.wrong(cx.log, message);
    }
    Some(HttpConfig { listen, token })
}

/// An address that is listened on beyond this machine.
pub(super) fn unencrypted(listen: SocketAddr) -> Option<String> {
    (!listen.ip().is_loopback()).then(|| format!("http: {listen} is not encrypted"))
}

/// An address and port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("an address and port such as `127.0.0.1:8480` is wanted, got `{text}`"))
}

/// Whether only one of two can be listened on. Port 0 is a free one each time; `[::]` is every address, those of IPv4 too.
fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    let contains = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (one == other || contains(one, other) || contains(other, one))
}
