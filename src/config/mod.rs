//! The file, and from it a checked [`Config`]: everything the rest of the program is told about its site.
//!
//! Owns every key of the configuration, its default, its range and what must fit together, and says all diagnostics at once
//! with line, key and remedy. Refuses to own what the keys set off: it opens no socket, no port and no store.

mod broker;
mod bus;
mod center;
mod device;
mod link;
mod policy;
mod portal;
mod secret;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::access::id::{GatewayId, IdentifierError};
use crate::access::policy::Policy;
use crate::profile::document::{self, Diagnostic, Table, Value};
use crate::wire::envelope::StreamSpec;
use crate::wire::topic;

pub use broker::{BrokerUrl, UrlError};
pub use bus::{BusConfig, BusLine, ModbusServerConfig, Parity, SerialConfig, StopBits, TcpPeer};
pub use device::{ModbusPart, MqttPart, Part, PortalDevice, ProfileUse, Role, UNIT_SELF};
pub use link::{ClientCert, Credentials, LinkSpec, RESYNC_SPREAD_S_DEFAULT, Session};
pub use policy::{AuditAckBy, AuditConfig};
pub use portal::PortalConfig;
pub use secret::Secret;

/// Where commands look for the configuration when they are not told.
pub const DEFAULT_PATH: &str = "/etc/dormgate/dormgate.toml";
/// Where the gateway keeps what survives, when the file does not say.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/dormgate";
/// The time zone of windows and schedules, when the file does not say.
pub const DEFAULT_TIMEZONE: &str = "Asia/Shanghai";
/// Largest configuration in bytes; a larger file is not one.
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A checked configuration. Every path in it is absolute or relative to the working directory, no longer to the file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this gateway is.
    pub gateway: GatewayId,
    /// The time zone of windows and schedules that name none.
    pub timezone: TimeZone,
    /// The IANA name of `timezone`.
    pub timezone_name: String,
    /// Where the gateway keeps what survives.
    pub data_dir: PathBuf,
    /// The link to the center; without it the gateway runs from its store alone.
    pub uplink: Option<LinkSpec>,
    /// The link to MQTT portals; the uplink's broker on a connection of its own when the file has no `[local]`.
    pub local: Option<LinkSpec>,
    /// Who may say what.
    pub streams: Vec<StreamSpec>,
    /// The site's choices, `center.require_issue` among them.
    pub policy: Policy,
    /// How the audit is kept and forwarded.
    pub audit: AuditConfig,
    /// Console, API and metrics.
    pub http: Option<HttpConfig>,
    /// Modbus lines on which the gateway asks.
    pub buses: Vec<BusConfig>,
    /// Where controllers ask the gateway.
    pub modbus_server: Option<ModbusServerConfig>,
    /// The portals, in the order of the file.
    pub portals: Vec<PortalConfig>,
    /// What is configured insecurely, for the log, `up/state` and the console; one short line each.
    pub insecure: Vec<String>,
}

/// Where console, API and metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address listened on.
    pub listen: std::net::SocketAddr,
    /// What a caller must show to change anything; without it, and only on loopback, nothing can be changed over HTTP.
    pub token: Option<Secret>,
}

/// Why there is no configuration. Its text is ready to print: one line a diagnostic, each beginning with the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; name the configuration with `--config FILE`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file can be read and is wrong.
    #[error("{}", Lines(path, diagnostics))]
    Diagnostics {
        /// Which file.
        path: PathBuf,
        /// Every diagnostic, in the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
}

struct Lines<'e>(&'e Path, &'e [Diagnostic]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.1.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{diagnostic}", self.0.display())?;
        }
        Ok(())
    }
}

/// Judges what only device profiles can tell.
pub trait Devices {
    /// Says whether a device profile can do what the configuration wants of it.
    ///
    /// # Errors
    /// What is wrong, and what to do; it becomes the diagnostic at the profile's name.
    fn profile(&self, wanted: &ProfileUse<'_>) -> Result<(), String>;

    /// What is wrong among these lines and portals. Only those are given that have no diagnostic of their own.
    fn site(&self, buses: &[BusConfig], portals: &[PortalConfig]) -> Vec<Diagnostic>;
}

/// Judges profiles alone: for tests of other things.
impl<F: Fn(&ProfileUse<'_>) -> Result<(), String>> Devices for F {
    fn profile(&self, wanted: &ProfileUse<'_>) -> Result<(), String> {
        self(wanted)
    }

    fn site(&self, _: &[BusConfig], _: &[PortalConfig]) -> Vec<Diagnostic> {
        Vec::new()
    }
}

/// Accepts every profile: for tests of other things.
///
/// # Errors
/// None.
pub fn any_profile(_: &ProfileUse<'_>) -> Result<(), String> {
    Ok(())
}

/// What a configuration leans on beside its own text.
pub struct Surroundings<'p> {
    /// What relative paths are relative to: the directory of the file.
    pub base_dir: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts a service's secrets.
    pub credentials_dir: Option<PathBuf>,
    /// Judges the devices named.
    pub devices: &'p dyn Devices,
}

/// The configuration in the file at `path`.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read or has diagnostics; it then names them all.
pub fn load(path: &Path, devices: &dyn Devices) -> Result<Config, ConfigError> {
    let text = read_file(path)?;
    let around = Surroundings {
        base_dir: base_dir(path),
        credentials_dir: std::env::var_os("CREDENTIALS_DIRECTORY").filter(|d| !d.is_empty()).map(PathBuf::from),
        devices,
    };
    parse(&text, &around).map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })
}

/// The `data_dir` of the file at `path`, and nothing else of it: for commands that ask a running gateway through its
/// socket there. They may run without access to the secrets, and while an operator is halfway through an edit.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read, is not TOML, or has a diagnostic in `gateway.data_dir`.
pub fn data_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let text = read_file(path)?;
    let base = base_dir(path);
    document::read(&text, |top| {
        top.entries();
        let read = |t: &mut Table<'_>| {
            t.entries();
            t.text("data_dir")
        };
        base.join(top.table("gateway", read).flatten().unwrap_or_else(|| DEFAULT_DATA_DIR.to_owned()))
    })
    .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })
}

fn base_dir(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > CONFIG_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {CONFIG_BYTES_MAX} bytes")));
        }
        Ok(text)
    };
    read().map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// The configuration in `text`.
///
/// # Errors
/// Every diagnostic, in the order of the text.
pub fn parse(text: &str, around: &Surroundings<'_>) -> Result<Config, Vec<Diagnostic>> {
    // A section that is missing altogether is reported by what needs it, so nothing here is `None` without a diagnostic.
    document::read(text, |top| read_config(top, around))
        .and_then(|config| config.ok_or_else(|| vec![incomplete("the configuration is incomplete")]))
}

/// The `[[center.stream]]` tables of a text that has nothing else: what the reference center keeps in its directory.
///
/// # Errors
/// Every diagnostic, in the order of the text.
pub fn streams(text: &str) -> Result<Vec<StreamSpec>, Vec<Diagnostic>> {
    document::read(text, |top| center::read(top).0)
}

fn incomplete(message: &str) -> Diagnostic {
    Diagnostic { line: 1, column: 1, path: String::new(), message: message.to_owned() }
}

fn read_config(top: &mut Table<'_>, around: &Surroundings<'_>) -> Option<Config> {
    let gateway = top.need("gateway").and_then(|v| v.table(|t| read_gateway(t, around)));
    let id = gateway.as_ref().and_then(|g| g.id.clone());

    let uplink = top.table("uplink", |t| link::read(t, "uplink", id.as_ref(), around));
    let local = top.get("local");
    let has_broker = uplink.is_some() || local.is_some();
    let local = link::read_local(local.as_ref(), uplink.as_ref().and_then(Option::as_ref), id.as_ref(), around);

    let (streams, require_issue) = center::read(top);
    let policy = policy::read(top, require_issue);
    let audit = policy::read_audit(top);
    let http = top.table("http", |t| read_http(t, around));

    let mut ports = bus::SerialPorts::default();
    let buses = bus::read_all(top, around, &mut ports);
    let modbus_server = top.table("modbus_server", |t| bus::read_server(t, around, &mut ports));
    let site = device::Site { buses: &buses, has_broker, has_modbus_server: modbus_server.is_some(), around };
    let portals = portal::read_all(top, &site);
    let lines: Vec<BusConfig> = buses.iter().filter_map(|draft| draft.config.clone()).collect();
    let good: Vec<PortalConfig> = portals.iter().flatten().cloned().collect();
    around.devices.site(&lines, &good).into_iter().for_each(|diagnostic| top.report(diagnostic));

    let gateway = gateway?;
    let mut config = Config {
        gateway: gateway.id?,
        timezone: gateway.timezone.1,
        timezone_name: gateway.timezone.0,
        data_dir: gateway.data_dir,
        uplink: flat(uplink)?,
        local: flat(local)?,
        streams,
        policy,
        audit,
        http: flat(http)?,
        buses: buses.into_iter().map(|draft| draft.config).collect::<Option<_>>()?,
        modbus_server: flat(modbus_server)?,
        portals: portals.into_iter().collect::<Option<_>>()?,
        insecure: Vec::new(),
    };
    config.insecure = insecure(&config);
    Some(config)
}

/// A section that is absent is fine (`Some(None)`); one that is there and could not be read is not (`None`).
fn flat<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        None => Some(None),
        Some(None) => None,
        Some(read) => Some(read),
    }
}

struct Gateway {
    id: Option<GatewayId>,
    timezone: (String, TimeZone),
    data_dir: PathBuf,
}

fn read_gateway(table: &mut Table<'_>, around: &Surroundings<'_>) -> Gateway {
    let id = table.need("id").and_then(|v| v.parsed(read_gateway_id));
    let named = table.get("timezone").and_then(|v| v.parsed(read_timezone));
    let timezone = named
        .unwrap_or_else(|| (DEFAULT_TIMEZONE.to_owned(), TimeZone::get(DEFAULT_TIMEZONE).unwrap_or(TimeZone::UTC)));
    let data_dir = table.get("data_dir").and_then(|v| non_empty(&v)).unwrap_or_else(|| DEFAULT_DATA_DIR.to_owned());
    Gateway { id, timezone, data_dir: around.base_dir.join(data_dir) }
}

fn read_gateway_id(name: &str) -> Result<GatewayId, String> {
    // The topics of such a gateway would be those of the whole campus.
    if name == topic::CAMPUS {
        return Err(format!("`{name}` means every gateway in topics and `aud`; name this one after its building"));
    }
    name.parse().map_err(|error: IdentifierError| error.to_string())
}

fn read_timezone(name: &str) -> Result<(String, TimeZone), String> {
    let wrong = || format!("no time zone `{name}` is known; write an IANA name such as `{DEFAULT_TIMEZONE}`");
    let zone = TimeZone::get(name).map_err(|_| wrong())?;
    let name = zone.iana_name().ok_or_else(wrong)?.to_owned();
    Ok((name, zone))
}

fn read_http(table: &mut Table<'_>, around: &Surroundings<'_>) -> Option<HttpConfig> {
    /// The console's address when the file does not say.
    const DEFAULT_LISTEN: &str = "127.0.0.1:8480";
    let given = table.get("listen");
    let listen = match &given {
        Some(value) => value.parsed(socket_address),
        None => socket_address(DEFAULT_LISTEN).ok(),
    };
    let token = secret::read(table, "token_file", "console_token", around);
    if let Some(listen) = listen
        && !listen.ip().is_loopback()
        && token == secret::Found::Nothing
    {
        table.diagnostic_at(
            "listen",
            format!(
                "`{listen}` can be reached from outside, so `token_file` is needed; or listen on `{DEFAULT_LISTEN}`"
            ),
        );
    }
    Some(HttpConfig { listen: listen?, token: token.secret()? })
}

fn socket_address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| format!("an address and port such as `127.0.0.1:8480` is wanted, got `{text}`"))
}

/// Text that is not empty.
fn non_empty(value: &Value<'_>) -> Option<String> {
    value.parsed(|text| {
        if text.trim().is_empty() {
            Err("this is empty; write a value or leave the key out")
        } else {
            Ok(text.to_owned())
        }
    })
}

/// A whole number in `range`, or `default`; both in the unit of the key's name.
fn whole<T: TryFrom<i64>>(
    table: &mut Table<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
    default: T,
) -> T {
    let number = table.get(key).and_then(|v| v.number(*range.start()..range.end().saturating_add(1)));
    number.and_then(|n| T::try_from(n).ok()).unwrap_or(default)
}

/// What the checked configuration allows that a site in earnest should not.
fn insecure(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for stream in &config.streams {
        if stream.insecure_unsigned {
            found.push(format!("center.stream {}: insecure_unsigned", stream.name));
        }
        let shares = |other: &&StreamSpec| other.keys.iter().any(|key| stream.keys.contains(key));
        let later = config.streams.iter().skip_while(|s| s.name != stream.name).skip(1);
        for other in later.filter(shares) {
            found.push(format!("center.stream {}: has a key of {}", other.name, stream.name));
        }
    }
    let links = [("uplink", &config.uplink), ("local", &config.local)];
    for (name, link) in links.into_iter().filter_map(|(name, link)| link.as_ref().map(|l| (name, l))) {
        for url in link.urls.iter().filter(|url| !url.tls && !url.is_loopback()) {
            found.push(format!("{name}: {url} is not encrypted"));
        }
    }
    if let Some(http) = &config.http
        && !http.listen.ip().is_loopback()
    {
        found.push(format!("http: {} is not encrypted", http.listen));
    }
    if let Some(server) = &config.modbus_server
        && server.allow.iter().any(|net| net.prefix_len() == 0)
    {
        found.push("modbus_server: allow lets everybody in".to_owned());
    }
    found
}
