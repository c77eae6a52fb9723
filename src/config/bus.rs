//! `[[bus]]`: Modbus lines on which the gateway asks; `[modbus_server]`: where controllers ask the gateway.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::broker::is_host;
use super::{Surroundings, non_empty, socket_address, whole};
use crate::access::id::PortalId;
use crate::profile::document::{Table, Value};

/// Speeds of serial lines, in bits per second: those that devices and adapters can be set to.
const BAUDS: [u32; 15] =
    [300, 600, 1_200, 2_400, 4_800, 9_600, 14_400, 19_200, 28_800, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600];
/// Speed when the file does not say, in bits per second (Modbus over serial line V1.02, 2.5.1).
const BAUD_DEFAULT: u32 = 19_200;

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// None.
    None,
    /// Even; the default of Modbus over serial line V1.02, 2.5.1.
    Even,
    /// Odd.
    Odd,
}

/// Stop bits of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBits {
    /// One.
    One,
    /// Two.
    Two,
}

/// A serial line; always 8 data bits, as RTU asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialConfig {
    /// The device file.
    pub port: PathBuf,
    /// Bits per second; default 19200 (Modbus over serial line V1.02, 2.5.1).
    pub baud: u32,
    /// Parity; default even.
    pub parity: Parity,
    /// Stop bits; default one.
    pub stop_bits: StopBits,
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
    /// The same for every way to write one name or address.
    fn spelled_alike(&self) -> Self {
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

/// What a bus is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusLine {
    /// RTU.
    Serial(SerialConfig),
    /// Modbus TCP.
    Tcp(TcpPeer),
}

/// One Modbus line on which the gateway asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// Its id; portals name it.
    pub id: String,
    /// What it is made of.
    pub line: BusLine,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u32,
    /// Whether the adapter of a serial line repeats what is sent on it; `None`: it is found out.
    pub echo: Option<bool>,
    /// Takes the answer of the one request under way whatever transaction it names: for TCP converters that answer all with 0.
    pub any_transaction: bool,
    /// Where device profiles are, beside the built-in ones.
    pub devices_dir: Option<PathBuf>,
}

/// Where controllers ask the gateway; at least one of `tcp` and `serial` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusServerConfig {
    /// The address listened on.
    pub tcp: Option<SocketAddr>,
    /// The line listened on.
    pub serial: Option<SerialConfig>,
    /// Who may connect over TCP; by default only this machine.
    pub allow: Vec<IpNet>,
}

/// A bus as far as it could be read; its id is known to portals also when the rest is wrong.
pub(super) struct BusDraft {
    /// Its id.
    pub(super) id: Option<String>,
    /// The whole, if nothing is wrong.
    pub(super) config: Option<BusConfig>,
}

/// Which serial ports are taken, and by what.
#[derive(Default)]
pub(super) struct SerialPorts(HashMap<PathBuf, String>);

impl SerialPorts {
    fn take(&mut self, port: &Path, value: &Value<'_>) {
        // Two names may be one device: what udev puts in /dev/serial are links.
        let device = port.canonicalize().unwrap_or_else(|_| port.to_owned());
        match self.0.get(&device) {
            Some(taken) => {
                value.diagnostic(format!("`{}` is taken by `{taken}`; a line has one owner", port.display()));
            }
            None => {
                self.0.insert(device, value.path().to_owned());
            }
        }
    }
}

/// Reads every `[[bus]]`.
pub(super) fn read_all(top: &mut Table<'_>, around: &Surroundings<'_>, ports: &mut SerialPorts) -> Vec<BusDraft> {
    let mut seen: Vec<String> = Vec::new();
    let mut peers: HashMap<TcpPeer, String> = HashMap::new();
    top.tables("bus", |table| {
        let id = table.need("id").and_then(|value| {
            let id = value.parsed(|text| text.parse::<PortalId>().map(|_| text.to_owned()))?;
            if seen.contains(&id) {
                value.diagnostic(format!("`{id}` is the id of an earlier bus; give each its own"));
            }
            seen.push(id.clone());
            Some(id)
        });
        let serial = table.get("serial").map(|value| read_serial(&value, around, ports));
        let tcp = table.get("tcp").map(|value| {
            let peer = value.parsed(read_peer)?;
            match peers.get(&peer.spelled_alike()) {
                Some(taken) => value.diagnostic(format!(
                    "`{peer}` is `{taken}` too; a line has one owner: let the portals of both name that bus, and leave this one out"
                )),
                None => {
                    peers.insert(peer.spelled_alike(), value.path().to_owned());
                }
            }
            Some(peer)
        });
        let line = match (serial, tcp) {
            (Some(serial), None) => serial.map(BusLine::Serial),
            (None, Some(tcp)) => tcp.map(BusLine::Tcp),
            (None, None) => {
                table.diagnostic("what line it is is missing: `serial = { port = \"/dev/…\" }` or `tcp = \"host:502\"`");
                None
            }
            (Some(_), Some(_)) => {
                table.diagnostic_at("tcp", "a bus is either `serial` or `tcp`; make two of it");
                None
            }
        };
        let timeout_ms = whole(table, "timeout_ms", 10..=10_000, 200);
        let echo = table.has("echo").then(|| table.flag("echo", false));
        let any_transaction = table.flag("any_transaction", false);
        match &line {
            Some(BusLine::Tcp(_)) if echo.is_some() => {
                table.diagnostic_at("echo", "only the adapter of a serial line repeats what is sent; leave it out");
            }
            Some(BusLine::Serial(_)) if any_transaction => {
                table.diagnostic_at("any_transaction", "a serial line has no transactions; leave it out");
            }
            Some(BusLine::Tcp(_) | BusLine::Serial(_)) | None => {}
        }
        let devices_dir = table.get("devices_dir").map(|value| {
            let dir = around.base_dir.join(non_empty(&value)?);
            if !dir.is_dir() {
                value.diagnostic(format!("`{}` is no directory; the shipped profiles need none", dir.display()));
                return None;
            }
            Some(dir)
        });
        let config =
            || Some(BusConfig { id: id.clone()?, line: line?, timeout_ms, echo, any_transaction, devices_dir: super::flat(devices_dir)? });
        BusDraft { config: config(), id }
    })
}

/// Reads `[modbus_server]`.
pub(super) fn read_server(
    table: &mut Table<'_>,
    around: &Surroundings<'_>,
    ports: &mut SerialPorts,
) -> Option<ModbusServerConfig> {
    let tcp = table.get("tcp").map(|value| value.parsed(socket_address));
    let serial = table.get("serial").map(|value| read_serial(&value, around, ports));
    if tcp.is_none() && serial.is_none() {
        table.diagnostic("where to listen is missing: `tcp = \"0.0.0.0:1502\"` or `serial = { port = \"/dev/…\" }`");
    }
    let allow = match table.get("allow") {
        None => {
            vec![IpNet::from(IpAddr::from([127, 0, 0, 1])), IpNet::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST))]
                .into_iter()
                .map(loopback_net)
                .collect()
        }
        Some(value) => {
            let items = value.items();
            if items.is_empty() {
                value.diagnostic(
                    "nobody may connect; list networks such as `192.0.2.0/24`, or leave it out for this machine only",
                );
            }
            items.iter().filter_map(|item| item.parsed(read_net)).collect()
        }
    };
    Some(ModbusServerConfig { tcp: super::flat(tcp)?, serial: super::flat(serial)?, allow })
}

/// The loopback network of an address's family: all of 127.0.0.0/8, but only ::1.
fn loopback_net(address: IpNet) -> IpNet {
    match address {
        IpNet::V4(four) => ipnet::Ipv4Net::new(four.addr(), 8).map_or(address, |net| IpNet::V4(net.trunc())),
        IpNet::V6(_) => address,
    }
}

fn read_net(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("a network such as `192.0.2.0/24` or an address is wanted, got `{text}`"))
}

fn read_peer(text: &str) -> Result<TcpPeer, String> {
    let wrong = || format!("`host:port` is wanted, e.g. `192.0.2.9:502`, got `{text}`");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let named = six.is_some() || !host.contains(':');
    let host = six.unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    if named && is_host(host) { Ok(TcpPeer { host: host.to_owned(), port }) } else { Err(wrong()) }
}

fn read_baud(value: &Value<'_>) -> Option<u32> {
    let baud = u32::try_from(value.number(1..10_000_000)?).ok()?;
    if !BAUDS.contains(&baud) {
        let all = BAUDS.map(|baud| baud.to_string()).join(", ");
        value.diagnostic(format!("no device runs at {baud} Bd; write what the devices are set to, one of {all}"));
        return None;
    }
    Some(baud)
}

fn read_serial(value: &Value<'_>, around: &Surroundings<'_>, ports: &mut SerialPorts) -> Option<SerialConfig> {
    let read = |table: &mut Table<'_>| {
        let port = table.need("port").and_then(|value| {
            let port = around.base_dir.join(non_empty(&value)?);
            ports.take(&port, &value);
            Some(port)
        });
        let baud = table.get("baud").and_then(|value| read_baud(&value)).unwrap_or(BAUD_DEFAULT);
        let parity = table.choice(
            "parity",
            &[("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)],
            Parity::Even,
        );
        let stop_bits = match whole(table, "stop_bits", 1..=2, 1_u8) {
            2 => StopBits::Two,
            _ => StopBits::One,
        };
        Some(SerialConfig { port: port?, baud, parity, stop_bits })
    };
    value.table(read).flatten()
}
