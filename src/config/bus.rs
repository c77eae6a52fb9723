//! `[[bus]]`: Modbus lines on which the gateway is the master; `[modbus_server]`: where controllers send requests to the gateway.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::Context;
use super::broker::is_host;
use super::http::address;
use super::secret::FileKey;
use crate::access::id::PortalId;
use crate::profile::document::{Key, List, Text, Whole};

/// Speeds of serial lines that devices and adapters have, in bits per second.
const BAUDS: [u32; 15] =
    [300, 600, 1_200, 2_400, 4_800, 9_600, 14_400, 19_200, 28_800, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];
/// Speed when the file names none, in bits per second (Modbus over serial line V1.02, 2.5.1).
const BAUD_DEFAULT: u32 = 19_200;

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parity {
    /// None.
    None,
    /// Even; the default of Modbus over serial line V1.02, 2.5.1.
    Even,
    /// Odd.
    Odd,
}

/// A serial line; always 8 data bits, as RTU requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// The device file, best one of `/dev/serial/by-id`.
    pub port: String,
    /// Bits per second; default 19200 (Modbus over serial line V1.02, 2.5.1).
    pub baud: u32,
    /// Parity; default even.
    pub parity: Parity,
    /// Stop bits, 1 or 2; default 1.
    pub stop_bits: u8,
}

/// The address of a Modbus TCP device or gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpPeer {
    /// Host name or address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl TcpPeer {
    /// The same value for every spelling of a name or address.
    fn canonical(&self) -> Self {
        let host = match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => self.host.to_ascii_lowercase(),
        };
        Self { host, port: self.port }
    }
}

impl fmt::Display for TcpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The line of a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusLine {
    /// RTU.
    Serial(SerialConfig),
    /// Modbus TCP.
    Tcp(TcpPeer),
}

impl BusLine {
    /// The speed of a serial line, in bits per second.
    #[must_use]
    pub fn baud(&self) -> Option<u32> {
        match self {
            Self::Serial(serial) => Some(serial.baud),
            Self::Tcp(_) => None,
        }
    }
}

impl fmt::Display for BusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => f.write_str(&serial.port),
            Self::Tcp(peer) => peer.fmt(f),
        }
    }
}

/// One Modbus line on which the gateway is the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// Its id; portals name it.
    pub id: String,
    /// Its line.
    pub line: BusLine,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u32,
    /// Whether the adapter of a serial line repeats what is sent on it; `None`: it is detected.
    pub echo: Option<bool>,
    /// Whether an answer is accepted whatever its transaction, for TCP converters that answer with 0. One request is under way at a
    /// time.
    pub any_transaction: bool,
    /// Where device profiles are, beside the built-in ones.
    pub devices_dir: Option<PathBuf>,
}

/// Where controllers send requests to the gateway; at least one of `tcp` and `serial` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusServerConfig {
    /// The address listened on.
    pub tcp: Option<SocketAddr>,
    /// The line listened on.
    pub serial: Option<SerialConfig>,
    /// Who may connect over TCP; by default only this machine.
    pub allow: Vec<IpNet>,
}

impl FromStr for TcpPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`host:port` is wanted, e.g. `192.0.2.9:502`, got `{text}`");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let named = six.is_some() || !host.contains(':');
        let host = six.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if named && is_host(host) { Ok(Self { host: host.to_owned(), port }) } else { Err(wrong()) }
    }
}

#[derive(Deserialize)]
pub(super) struct BusTable {
    id: Key<Text<PortalId>>,
    serial: Key<SerialTable>,
    tcp: Key<Text<TcpPeer>>,
    timeout_ms: Key<Whole<10, 10_000>>,
    echo: Key<bool>,
    any_transaction: Key<bool>,
    devices_dir: FileKey,
}

#[derive(Deserialize)]
struct SerialTable {
    port: FileKey,
    baud: Key<Whole<1, 9_999_999>>,
    parity: Key<Parity>,
    stop_bits: Key<Whole<1, 2>>,
}

#[derive(Deserialize)]
pub(super) struct ServerTable {
    tcp: Key<String>,
    serial: Key<SerialTable>,
    allow: List<String>,
}

fn net(text: &str) -> Result<IpNet, String> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| format!("a network such as `192.0.2.0/24` or an address is wanted, got `{text}`"))
}

/// A bus as far as it could be read. Portals may refer to its id also when the rest has errors.
pub(super) struct BusDraft {
    pub(super) id: String,
    /// Where it has device profiles of its own.
    pub(super) devices_dir: Option<PathBuf>,
    /// It names a directory of profiles that does not exist.
    pub(super) wrong_dir: bool,
    /// The whole, if its line and its directory are valid.
    pub(super) config: Option<BusConfig>,
}

/// The serial ports in use, with the path of the key that names each.
pub(super) type SerialPorts = HashMap<PathBuf, String>;

/// Every `[[bus]]` with an id.
pub(super) fn buses(cx: &Context<'_>, list: &List<BusTable>, ports: &mut SerialPorts) -> Vec<BusDraft> {
    let log = cx.log;
    let mut drafts: Vec<BusDraft> = Vec::new();
    let mut peers: HashMap<TcpPeer, String> = HashMap::new();
    for table in list.items() {
        let Some(t) = table.get() else { continue };
        let id = t.id.need(log, "").map(|Text(id)| id.to_string());
        if id.as_ref().is_some_and(|id| drafts.iter().any(|draft| draft.id == *id)) {
            let message =
                format!("`{}` is the id of an earlier bus; give each its own", id.as_deref().unwrap_or_default());
            t.id.wrong(log, message);
        }
        let serial = serial(cx, &t.serial, ports);
        let tcp = t.tcp.get().map(|Text(peer)| peer.clone());
        if let Some(peer) = &tcp
            && let Some(taken) = peers.insert(peer.canonical(), t.tcp.place.path.clone())
        {
            t.tcp.wrong(log, format!(
                "`{peer}` is `{taken}` too, and a line has one owner: name that bus in the portals of both, and leave this one out"
            ));
        }
        match (t.serial.is_set(), t.tcp.is_set()) {
            (false, false) => {
                table.wrong(log, "its line is missing: `serial = { port = \"/dev/…\" }` or `tcp = \"host:502\"`");
            }
            (true, true) => t.tcp.wrong(log, "a bus is either `serial` or `tcp`; write two buses"),
            (true, false) => {
                t.any_transaction.must_not_be_set(log, "a serial line has no transactions; leave it out");
            }
            (false, true) => {
                t.echo.must_not_be_set(log, "only the adapter of a serial line repeats what is sent; leave it out");
            }
        }
        let devices_dir = devices_dir(cx, &t.devices_dir);
        let wrong_dir = t.devices_dir.is_set() && devices_dir.is_none();
        let Some(id) = id else { continue };
        let line = serial.map(BusLine::Serial).or(tcp.map(BusLine::Tcp)).filter(|_| !wrong_dir);
        let config = line.map(|line| BusConfig {
            id: id.clone(),
            line,
            timeout_ms: t.timeout_ms.number(200),
            echo: t.echo.get().copied(),
            any_transaction: t.any_transaction.or(false),
            devices_dir: devices_dir.clone(),
        });
        drafts.push(BusDraft { id, devices_dir, wrong_dir, config });
    }
    drafts
}

/// A directory of the site's own profiles.
pub(super) fn devices_dir(cx: &Context<'_>, key: &FileKey) -> Option<PathBuf> {
    let dir = cx.path(key)?;
    if !dir.is_dir() {
        let message = format!("`{}` is not a directory; the shipped profiles need none", dir.display());
        key.wrong(cx.log, message);
        return None;
    }
    Some(dir)
}

/// `[modbus_server]`.
pub(super) fn server(
    cx: &Context<'_>,
    table: &Key<ServerTable>,
    ports: &mut SerialPorts,
) -> Option<ModbusServerConfig> {
    let t = table.get()?;
    if !t.tcp.is_set() && !t.serial.is_set() {
        table.wrong(cx.log, "where to listen is missing: `tcp = \"0.0.0.0:1502\"` or `serial = { port = \"/dev/…\" }`");
    }
    if t.allow.get().is_some_and(Vec::is_empty) {
        let message = "nobody may connect; list networks such as `192.0.2.0/24`, or leave it out for this machine only";
        t.allow.wrong(cx.log, message);
    }
    let loopback = || [net("127.0.0.0/8"), net("::1")].into_iter().flatten().collect();
    let allow = t.allow.items().iter().filter_map(|key| key.parse(cx.log, net)).collect();
    Some(ModbusServerConfig {
        tcp: t.tcp.parse(cx.log, address),
        serial: serial(cx, &t.serial, ports),
        allow: if t.allow.is_set() { allow } else { loopback() },
    })
}

fn serial(cx: &Context<'_>, table: &Key<SerialTable>, ports: &mut SerialPorts) -> Option<SerialConfig> {
    let (log, t) = (cx.log, table.get()?);
    t.port.need(log, "");
    let port = cx.path(&t.port);
    if let Some(port) = &port {
        // Two names may be one device: the names in /dev/serial are links.
        let device = port.canonicalize().unwrap_or_else(|_| port.clone());
        if let Some(taken) = ports.insert(device, t.port.place.path.clone()) {
            t.port.wrong(
                log,
                format!("`{}` is `{taken}` too, and a line has one owner; name another port", port.display()),
            );
        }
    }
    let baud = t.baud.number(BAUD_DEFAULT);
    if !BAUDS.contains(&baud) {
        let all = BAUDS.map(|baud| baud.to_string()).join(", ");
        t.baud.wrong(log, format!("{baud} Bd is not a usual speed; write what the devices are set to, one of {all}"));
    }
    Some(SerialConfig {
        port: port?.display().to_string(),
        baud,
        parity: t.parity.or(Parity::Even),
        stop_bits: t.stop_bits.number(1),
    })
}
