//! The configuration file, and the checked [`Site`] that is read from it: the one description of the building for the whole program.
//!
//! Owns every key of the configuration, its default, its range and what must fit together, and reports all diagnostics at once
//! with line, key and remedy. Each device profile is read here, once. It opens no socket, no port and no store.

mod area;
mod broker;
mod building;
mod bus;
mod center;
pub mod cert;
mod http;
mod link;
#[cfg(feature = "center")]
mod office;
mod parts;
mod policy;
mod portal;
mod profiles;
mod reload;
mod schedule;
mod secret;
mod sheet;
mod shown;
#[cfg(test)]
mod tests;
mod wiring;

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::access::calendar::Calendar;
use crate::access::id::{GatewayId, IdentifierError};
use crate::access::policy::Policy;
use crate::access::schedule::timezone;
use crate::profile::document::{self, Diagnostic, Key, List, Log, NotBlank, Place, Text};
use crate::wire::envelope::StreamSpec;
use crate::wire::signed::StreamKeys;
use crate::wire::topic;

pub use broker::BrokerUrl;
pub use building::{Building, SHEET, Unservable, Wiring, describe};
pub use bus::{BusConfig, BusLine, ModbusServerConfig, Parity, SerialConfig, TcpPeer};
pub use center::stream_table;
pub use http::HttpConfig;
pub use link::{ClientCert, Credentials, LinkSpec, RESYNC_SPREAD_S_DEFAULT, Session};
#[cfg(feature = "center")]
pub use office::{CENTER_PATH, CenterSite, ClientSpec, load_center, parse_center};
pub use parts::{ModbusPart, MqttPart, Part, Parts, PortalConfig, PortalDevice, Role, SLOTS_MAX, UNIT_SELF};
pub use policy::{AuditAckBy, AuditConfig};
pub use reload::Differences;
pub use secret::{Secret, TOKEN_HINT, TOKEN_SHORT};
pub use shown::without_secrets;

/// The configuration when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/dormgate/dormgate.toml";
/// Where the gateway keeps its data, when the file names no directory.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/dormgate";
/// The time zone of windows and schedules, when the file names none.
pub const DEFAULT_TIMEZONE: &str = "Asia/Shanghai";
/// Highest number of a Modbus unit that is not reserved (Modbus over serial line V1.02, 2.2).
const UNIT_MAX: u8 = 247;
/// Largest configuration in bytes; a larger file is refused.
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A checked configuration. Its paths are absolute or relative to the working directory, not to the file.
#[derive(Clone, Debug)]
pub struct Site {
    /// Who this gateway is.
    pub gateway: GatewayId,
    /// The schedules of the file, and the time zone of those that name none.
    pub calendar: Calendar,
    /// The IANA name of that time zone.
    pub timezone_name: String,
    /// Where the gateway keeps its data.
    pub data_dir: PathBuf,
    /// The link to the center; without it the gateway runs from its store alone.
    pub uplink: Option<LinkSpec>,
    /// The link to MQTT portals. Without `[local]` it is a second connection to the uplink's broker.
    pub local: Option<LinkSpec>,
    /// The streams, and which ops each may send.
    pub streams: Vec<StreamSpec>,
    /// The site's choices, `center.require_issue` among them.
    pub policy: Policy,
    /// How the audit is kept and forwarded.
    pub audit: AuditConfig,
    /// What the store is encrypted with; `None`: it is not.
    pub store_key: Option<Secret>,
    /// Console, API and metrics.
    pub http: Option<HttpConfig>,
    /// Modbus lines on which the gateway is the master.
    pub buses: Vec<BusConfig>,
    /// Where controllers send requests to the gateway.
    pub modbus_server: Option<ModbusServerConfig>,
    /// The portals, in the order of the file.
    pub portals: Vec<PortalConfig>,
    /// The sheet of portals names its columns and has no row.
    pub is_sheet_empty: bool,
    /// What is configured insecurely, a short line each, for the log, `up/state` and the console.
    pub insecure: Vec<String>,
}

/// Why there is no configuration. Its text can be printed as it is: a line for each diagnostic, which begins with the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; {}", path.display(), what_to_do(source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store is encrypted, and its key is not there.
    #[error(
        "{}: `store.key_file`: {why}; name the file, or give the credential `{STORE_KEY}` as systemd does, e.g. \
         `CREDENTIALS_DIRECTORY=/etc/dormgate/secrets dormgate …`", path.display()
    )]
    NoStoreKey {
        /// The configuration.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file can be read and has errors.
    #[error("{}", diagnostics.iter().map(|d| format!("{}:{d}", d.file.as_ref().unwrap_or(path).display())).collect::<Vec<_>>().join("\n"))]
    Diagnostics {
        /// Which file.
        path: PathBuf,
        /// Every diagnostic, in the order of the file.
        diagnostics: Vec<Diagnostic>,
    },
}

/// About a file that cannot be read.
fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "a configuration has at most 4 MiB; name a sheet of the portals as `portals`",
        _ => "name the configuration with `--config FILE`",
    }
}

/// What a configuration depends on beside its own text.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What relative paths are relative to: the directory of the file.
    pub base_dir: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`, where systemd puts a service's secrets.
    pub credentials_dir: Option<PathBuf>,
}

impl Surroundings {
    /// Those of the file at `path` in this process.
    fn of(path: &Path) -> Self {
        let credentials_dir = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
        Self { base_dir: base_dir(path), credentials_dir: credentials_dir.map(PathBuf::from) }
    }
}

/// What the reader of every section needs.
struct Context<'a> {
    log: &'a Log,
    around: &'a Surroundings,
}

/// The configuration in the file at `path`. Fails when the file cannot be read, or with all its diagnostics.
pub fn load(path: &Path) -> Result<Site, ConfigError> {
    let text = read_file(path)?;
    parse(&text, &Surroundings::of(path))
        .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })
}

/// The `data_dir` of the file at `path`, for commands that ask a running gateway through its socket there. Nothing else is read:
/// such a command works without access to the secrets, and while an operator edits the file. Fails when the file cannot be read, is not
/// TOML, or has a diagnostic in `gateway.data_dir`.
pub fn data_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    let found: Option<Text<NotBlank>> = document::read_at(&read_file(path)?, &["gateway", "data_dir"])
        .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })?;
    Ok(base_dir(path).join(found.map_or_else(|| DEFAULT_DATA_DIR.to_owned(), |Text(NotBlank(dir))| dir)))
}

/// The key of the store of the file at `path`, for commands that read the store by themselves. Nothing else is read.
pub fn store_key(path: &Path) -> Result<Option<Secret>, ConfigError> {
    let (text, around) = (read_file(path)?, Surroundings::of(path));
    let wrong = |diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics };
    if !document::read_at::<bool>(&text, &["store", "encrypt"]).map_err(wrong)?.unwrap_or(false) {
        return Ok(None);
    }
    let file: Option<Text<NotBlank>> = document::read_at(&text, &["store", "key_file"]).map_err(wrong)?;
    let file = file.map(|Text(NotBlank(file))| around.base_dir.join(file));
    let credential = around.credentials_dir.map(|dir| dir.join(STORE_KEY));
    let mut why = "the store is encrypted, and no key is named".to_owned();
    for file in file.into_iter().chain(credential) {
        match secret::read(&file) {
            Ok(secret) => return Ok(Some(secret)),
            Err(error) => why = format!("cannot read `{}`: {error}", file.display()),
        }
    }
    Err(ConfigError::NoStoreKey { path: path.to_owned(), why })
}

/// The keys of the configured streams of the file at `path`; none where one need not sign. Nothing else is read.
pub fn stream_keys(path: &Path) -> Result<StreamKeys, ConfigError> {
    let streams: Option<Vec<Key<center::StreamTable>>> = document::read_at(&read_file(path)?, &["center", "stream"])
        .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })?;
    Ok(streams.iter().flatten().filter_map(Key::get).map(center::StreamTable::keys).collect())
}

/// The `data_dir` of the file at `path` and the id of its gateway, empty where it names none.
pub fn data_dir_and_gateway(path: &Path) -> Result<(PathBuf, String), ConfigError> {
    let dir = data_dir(path)?;
    let id: Option<Text<NotBlank>> = document::read_at(&read_file(path)?, &["gateway", "id"])
        .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })?;
    Ok((dir, id.map_or_else(String::new, |Text(NotBlank(id))| id)))
}

fn base_dir(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let read = secret::bytes(path, CONFIG_BYTES_MAX);
    let bytes = read.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
        ConfigError::Diagnostics { path: path.to_owned(), diagnostics: vec![not_utf8(bytes, at)] }
    })
}

/// About a file whose first `valid` bytes are UTF-8, and the next ones are not.
fn not_utf8(bytes: &[u8], valid: usize) -> Diagnostic {
    let is_utf16 = [&[0xFF, 0xFE], &[0xFE, 0xFF]].iter().any(|mark| bytes.starts_with(*mark));
    let what = if is_utf16 { "this is UTF-16" } else { "from here on it is not UTF-8 (perhaps GB18030)" };
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = before.rsplit('\n').next().unwrap_or_default();
    let place = Place { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, path: String::new() };
    Diagnostic { file: None, place, message: format!("{what}; save it as UTF-8") }
}

#[derive(Deserialize)]
struct Document {
    gateway: Key<GatewayTable>,
    uplink: Key<link::LinkTable>,
    local: Key<link::LinkTable>,
    center: Key<center::CenterTable>,
    policy: Key<policy::PolicyTable>,
    audit: Key<policy::AuditTable>,
    store: Key<StoreTable>,
    http: Key<http::HttpTable>,
    bus: List<bus::BusTable>,
    modbus_server: Key<bus::ServerTable>,
    schedule: List<schedule::ScheduleTable>,
    #[expect(dead_code, reason = "`sheet` reads it before all others; here it is a known key with its type")]
    portals: Key<sheet::Name>,
    portal: List<portal::PortalTable>,
    area: List<area::AreaTable>,
    walk: List<area::WalkTable>,
}

#[derive(Deserialize)]
struct GatewayTable {
    id: Key<String>,
    timezone: Key<String>,
    data_dir: secret::FileKey,
    mqtt_devices_dir: secret::FileKey,
}

#[derive(Deserialize)]
struct StoreTable {
    encrypt: Key<bool>,
    key_file: secret::FileKey,
    hash_uids: Key<bool>,
}

/// The name of the operator's socket in `data_dir`. The one of the simulator there is as long.
pub const SOCKET_NAME: &str = "dormgate.sock";
/// Bytes of the path of a socket: `sun_path` without the NUL at its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The credential with the key of the store.
const STORE_KEY: &str = "store_key";

/// The id of this gateway.
fn own_id(name: &str) -> Result<GatewayId, String> {
    // Its topics would be those of the whole campus.
    if name == topic::CAMPUS {
        return Err(format!("`{name}` means every gateway in topics and `aud`; name this gateway after its building"));
    }
    name.parse().map_err(|error: IdentifierError| error.to_string())
}

/// A time zone, with its IANA name.
fn zone(name: &str) -> Result<(String, jiff::tz::TimeZone), String> {
    timezone(name)
        .ok_or_else(|| format!("no time zone `{name}` is known; write an IANA name such as `{DEFAULT_TIMEZONE}`"))
}

/// The configuration in `text`.
pub fn parse(text: &str, around: &Surroundings) -> Result<Site, Vec<Diagnostic>> {
    let read = |text: &str| document::read(text, |document, log| site(document, &Context { log, around }));
    match sheet::Sheet::of(text, around) {
        None => read(text),
        Some(sheet) => sheet.judge(text, read(&sheet.behind(text))).map(|mut site| {
            site.is_sheet_empty = sheet.is_head_only();
            site
        }),
    }
}

/// The `[[center.stream]]` tables of a text that has nothing else, as a center keeps it in its directory.
pub fn streams(text: &str) -> Result<Vec<StreamSpec>, Vec<Diagnostic>> {
    #[derive(Deserialize)]
    struct Center {
        center: Key<center::CenterTable>,
    }
    document::read(text, |document: &Center, log| Some(center::streams(log, &document.center).0))
}

fn site(t: &Document, cx: &Context<'_>) -> Option<Site> {
    let log = cx.log;
    let gateway = t.gateway.need(log, "");
    let id = gateway.and_then(|table| {
        table.id.need(log, "");
        table.id.parse(log, own_id)
    });
    let (uplink, local) = link::links(cx, &t.uplink, &t.local, id.as_ref());
    let (streams, require_issue) = center::streams(log, &t.center);
    let mut ports = bus::SerialPorts::default();
    let drafts = bus::buses(cx, &t.bus, &mut ports);
    let modbus_server = bus::server(cx, &t.modbus_server, &mut ports);
    let has_broker = t.uplink.is_set() || t.local.is_set();
    let has_modbus_server = t.modbus_server.is_set();
    let taken = wiring::Taken::default();
    let devices_dir = gateway.and_then(|table| bus::devices_dir(cx, &table.mqtt_devices_dir));
    let portals = wiring::Portals { cx, buses: &drafts, has_broker, has_modbus_server, devices_dir, taken };
    let portals = portals.read(&t.portal);
    let mut policy = policy::policy(log, &t.policy, (require_issue, policy::hashes_uids(&t.audit)));
    policy.areas = area::areas(cx, &t.area, &policy, &portals);
    policy.walks = area::walks(cx, &t.walk, &portals);
    let timezone = gateway.and_then(|table| table.timezone.parse(log, zone));
    let (timezone_name, timezone) = timezone.or_else(|| zone(DEFAULT_TIMEZONE).ok())?;
    let calendar = Calendar::new(timezone, schedule::schedules(log, &t.schedule));
    let data_dir = gateway.and_then(|table| data_dir_of(cx, &table.data_dir));
    let http = http::http(cx, &t.http, modbus_server.as_ref());
    let mut site = Site {
        gateway: id?,
        calendar,
        timezone_name,
        data_dir: data_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR)),
        uplink,
        local,
        streams,
        policy,
        audit: policy::audit(cx, &t.audit),
        store_key: store(cx, &t.store),
        http,
        buses: drafts.into_iter().filter_map(|draft| draft.config).collect(),
        modbus_server,
        portals,
        is_sheet_empty: false,
        insecure: Vec::new(),
    };
    site.insecure = insecure(&site);
    Some(site)
}

/// The directory of the data, in which the operator's socket must fit.
fn data_dir_of(cx: &Context<'_>, key: &secret::FileKey) -> Option<PathBuf> {
    let dir = cx.path(key)?;
    if dir.symlink_metadata().is_ok() && !dir.is_dir() {
        let why = format!("`{}` is not a directory; name one, or a path where one can be made", dir.display());
        key.wrong(cx.log, why);
    }
    let bytes = dir.join(SOCKET_NAME).as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let why = format!(
            "the path of the operator's socket `{SOCKET_NAME}` in it would have {bytes} bytes, and the system takes {SOCKET_PATH_BYTES_MAX}; \
             choose a shorter path"
        );
        key.wrong(cx.log, why);
    }
    Some(dir)
}

/// The key of the store, if it is to be encrypted.
fn store(cx: &Context<'_>, table: &Key<StoreTable>) -> Option<Secret> {
    let t = table.get()?;
    if t.hash_uids.or(false) {
        let why = "there are no hashes in the list: set `encrypt = true`, which hides UIDs, holders and rooms on the disk, and with which \
                   readers that give part of the UID still work";
        t.hash_uids.wrong(cx.log, why);
    }
    let key = cx.key(&t.key_file, STORE_KEY);
    let encrypt = t.encrypt.or(false);
    if encrypt && key.is_none() && !t.key_file.is_set() {
        let why = format!("needs `key_file` or the systemd credential `{STORE_KEY}`: {}", secret::KEY_HINT);
        t.encrypt.wrong(cx.log, why);
    }
    key.filter(|_| encrypt)
}

/// What the configuration allows and a building should not.
fn insecure(config: &Site) -> Vec<String> {
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
        found.extend(unencrypted_links(name, link));
    }
    found.extend(config.http.as_ref().and_then(|http| http::unencrypted(http.listen)));
    if let Some(server) = &config.modbus_server
        && server.allow.iter().any(|net| net.prefix_len() == 0)
    {
        found.push("modbus_server: allow admits every address".to_owned());
    }
    found
}

/// The addresses of a broker that are reached over a network without TLS.
fn unencrypted_links(name: &str, link: &LinkSpec) -> impl Iterator<Item = String> {
    let urls = link.urls.iter().filter(|url| !url.tls && !url.is_loopback());
    urls.map(move |url| format!("{name}: {url} is not encrypted"))
}
