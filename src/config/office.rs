//! The file of `dormgate center serve`: who publishes what to which gateways, and who may order it over HTTP.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::SigningKey;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::center::Allowed;
use super::http::{self, address};
use super::link::LinkTable;
use super::secret::FileKey;
use super::{
    ConfigError, Context, DEFAULT_TIMEZONE, LinkSpec, Secret, Surroundings, center, link, own_id, unencrypted_links,
    zone,
};
use crate::access::id::{GatewayId, StreamName};
use crate::profile::diagnostic::hint;
use crate::profile::document::{self, Diagnostic, Key, List, Log, NotBlank, Text, Whole};
use crate::wire::allowed::{AllowedOps, OpName};
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::keys;

/// Where `dormgate center serve` looks for its file when the command line names none.
pub const CENTER_PATH: &str = "/etc/dormgate-center/center.toml";
/// The database when the file names none.
const DEFAULT_DATA_FILE: &str = "/var/lib/dormgate-center/center.db";
/// The address listened on when the file names none.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8490);
/// The client's name at the broker when the file names none.
const DEFAULT_CLIENT_ID: &str = "dormgate-center";
/// Most gateways of one center.
const GATEWAYS_MAX: usize = 10_000;
/// Most clients of the API.
const CLIENTS_MAX: usize = 256;
/// The name in `may` and `gateways` for everything.
const ALL: &str = "*";
/// The name in `may` for everything that changes nothing.
const READ: &str = "read";
/// The name in `may` for loading whole lists.
const LOAD: &str = "load";

/// A checked file of a center.
#[derive(Clone, Debug)]
pub struct CenterSite {
    /// The database.
    pub data_file: PathBuf,
    /// The epoch of new messages.
    pub epoch: NonZeroU32,
    /// Where the day of a visitor ends.
    pub timezone: TimeZone,
    /// The broker.
    pub broker: LinkSpec,
    /// Where the API is served.
    pub listen: SocketAddr,
    /// How long audit events are kept, in days.
    pub audit_days: u32,
    /// How long acks and alarms are kept, in days.
    pub acks_days: u32,
    /// How long answers to requests with an `Idempotency-Key` are kept, in days.
    pub requests_days: u32,
    /// The streams with their keys.
    pub streams: Vec<(StreamSpec, SigningKey)>,
    /// The gateways published to.
    pub gateways: Vec<GatewayId>,
    /// Who may use the API.
    pub clients: Vec<ClientSpec>,
}

impl CenterSite {
    /// What is configured insecurely, a short line each.
    #[must_use]
    pub fn insecure(&self) -> Vec<String> {
        let mut found: Vec<String> =
            unencrypted_links("broker", &self.broker).chain(http::unencrypted(self.listen)).collect();
        for (place, (stream, key)) in self.streams.iter().enumerate() {
            let first = self.streams.iter().take(place).find(|(_, other)| other.to_bytes() == key.to_bytes());
            found.extend(first.map(|(other, _)| {
                let (name, other) = (&stream.name, &other.name);
                format!(
                    "stream {name}: has the key of {other}, so whoever holds it publishes as both; make a key for each"
                )
            }));
        }
        found
    }

    /// What an office may not expect, a short line each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let acknowledges = self.streams.iter().any(|(stream, _)| stream.allowed.contains(OpName::Command));
        let audit = "no stream has `command` in `may`: the gateways' audit is kept here, and another center has to acknowledge it";
        (!acknowledges).then(|| audit.to_owned()).into_iter().collect()
    }

    /// The keys and tables in which `other` differs and which a running center takes over only when it starts: all but the
    /// gateways and the clients.
    pub(crate) fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            data_file,
            epoch,
            timezone,
            broker: _,
            listen,
            audit_days,
            acks_days,
            requests_days,
            streams,
            gateways: _,
            clients: _,
        } = other;
        // The password is read again for each connection.
        let broker = |of: &Self| {
            let mut link = of.broker.clone();
            link.credentials.iter_mut().for_each(|own| own.password = None);
            link
        };
        let days = |of: &Self| (of.audit_days, of.acks_days, of.requests_days);
        let all = [
            ("center.data_file", self.data_file != *data_file),
            ("center.epoch", self.epoch != *epoch),
            ("center.timezone", self.timezone != *timezone),
            ("broker", broker(self) != broker(other)),
            ("http.listen", self.listen != *listen),
            ("retention", days(self) != (*audit_days, *acks_days, *requests_days)),
            ("stream", self.streams != *streams),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// One client of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// Its name, for the log and for its idempotency keys.
    pub name: String,
    /// What it presents.
    pub token: Secret,
    /// The ops that it may order, `command` among them.
    pub may: AllowedOps,
    /// Whether it may read.
    pub may_read: bool,
    /// Whether it may load a whole list, which enrols and withdraws at once.
    pub may_load: bool,
    /// Its gateways; `None`: all of them, and the campus.
    pub gateways: Option<Vec<GatewayId>>,
}

#[derive(Deserialize)]
struct Document {
    center: Key<CenterTable>,
    broker: Key<LinkTable>,
    http: Key<HttpTable>,
    retention: Key<RetentionTable>,
    stream: List<StreamTable>,
    gateway: List<GatewayTable>,
    client: List<ClientTable>,
}

#[derive(Deserialize)]
struct CenterTable {
    data_file: FileKey,
    epoch: Key<Whole<1, 4_294_967_295>>,
    timezone: Key<String>,
}

#[derive(Deserialize)]
struct HttpTable {
    listen: Key<String>,
}

#[derive(Deserialize)]
struct RetentionTable {
    audit_days: Key<Whole<1, 36_500>>,
    acks_days: Key<Whole<1, 36_500>>,
    requests_days: Key<Whole<1, 3_650>>,
}

#[derive(Deserialize)]
struct StreamTable {
    name: Key<Text<StreamName>>,
    scope: Key<Scope>,
    key_file: FileKey,
    may: List<Text<Allowed>>,
}

#[derive(Deserialize)]
struct GatewayTable {
    id: Key<String>,
}

#[derive(Deserialize)]
struct ClientTable {
    name: Key<Text<NotBlank>>,
    token_file: FileKey,
    may: List<Text<May>>,
    gateways: List<Text<Whose>>,
}

/// One name in a client's `may`.
#[derive(Clone, Copy)]
enum May {
    Everything,
    Read,
    Load,
    One(OpName),
}

impl FromStr for May {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || [ALL, READ, LOAD].into_iter().chain(OpName::ALL.iter().map(|op| op.as_str()));
        match text {
            ALL => Ok(Self::Everything),
            READ => Ok(Self::Read),
            LOAD => Ok(Self::Load),
            _ => text.parse().map(Self::One).map_err(|_| format!("`{text}` is no permission; {}", hint(text, known()))),
        }
    }
}

/// One name in a client's `gateways`.
enum Whose {
    All,
    One(GatewayId),
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == ALL { Ok(Self::All) } else { own_id(text).map(Self::One) }
    }
}

/// The configuration of a center in the file at `path`. Fails when the file cannot be read or has diagnostics; it then names them all.
pub fn load_center(path: &Path) -> Result<CenterSite, ConfigError> {
    let text = super::read_file(path)?;
    parse_center(&text, &Surroundings::of(path))
        .map_err(|diagnostics| ConfigError::Diagnostics { path: path.to_owned(), diagnostics })
}

/// The configuration of a center in `text`.
pub fn parse_center(text: &str, around: &Surroundings) -> Result<CenterSite, Vec<Diagnostic>> {
    document::read(text, |document, log| site(document, &Context { log, around }))
}

fn site(t: &Document, cx: &Context<'_>) -> Option<CenterSite> {
    let log = cx.log;
    let (center, http, retention) = (t.center.get(), t.http.get(), t.retention.get());
    let streams = streams(cx, &t.stream);
    let gateways = gateways(log, &t.gateway);
    let clients = clients(cx, &t.client, &gateways);
    let data_file = center.and_then(|table| cx.path(&table.data_file));
    let listen = http.and_then(|table| table.listen.parse(log, address));
    let timezone = center.and_then(|table| table.timezone.parse(log, zone)).or_else(|| zone(DEFAULT_TIMEZONE).ok());
    let days = |key: fn(&RetentionTable) -> Option<u32>, default| retention.and_then(key).unwrap_or(default);
    Some(CenterSite {
        data_file: data_file.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_FILE)),
        epoch: NonZeroU32::new(center.map_or(1, |table| table.epoch.number(1_u32)))?,
        timezone: timezone?.1,
        broker: broker(cx, &t.broker)?,
        listen: listen.unwrap_or(DEFAULT_LISTEN),
        audit_days: days(|t| Some(t.audit_days.number(400)), 400),
        acks_days: days(|t| Some(t.acks_days.number(90)), 90),
        requests_days: days(|t| Some(t.requests_days.number(30)), 30),
        streams,
        gateways,
        clients,
    })
}

fn broker(cx: &Context<'_>, table: &Key<LinkTable>) -> Option<LinkSpec> {
    let found = table.need(cx.log, "the center publishes at a broker; add `[broker]` with its `urls`")?;
    let client = DEFAULT_CLIENT_ID.parse().ok();
    found.resync_spread_s.must_not_be_set(cx.log, "this is a gateway's; a center asks for nothing, leave it out");
    Some(link::link(cx, found, "broker", client.as_ref()))
}

fn streams(cx: &Context<'_>, tables: &List<StreamTable>) -> Vec<(StreamSpec, SigningKey)> {
    let log = cx.log;
    tables.need(log, "a center publishes on streams; add a `[[stream]]` with `name`, `key_file` and `may`");
    let mut names = HashSet::new();
    let mut streams = Vec::new();
    for table in tables.items() {
        let Some(t) = table.get() else { continue };
        let name = center::name(log, &t.name, &mut names);
        let unused = "a stream without an op is of no use; list its ops, or remove the stream";
        let allowed = center::allowed(log, &t.may, unused);
        let Some(name) = name else { continue };
        let credential = format!("{name}_key");
        let secret = cx.secret(&t.key_file, &credential);
        if secret.is_none() && !t.key_file.is_set() {
            let remedy = format!("name the file of its key, or provide the systemd credential `{credential}`");
            t.key_file.need(log, &remedy);
        }
        let parsed = secret.map(|secret| keys::parse_seed(secret.expose()));
        let Some(key) = parsed.and_then(|key| key.map_err(|why| t.key_file.wrong(log, why.to_string())).ok()) else {
            continue;
        };
        let scope = t.scope.or(Scope::Gateway);
        let keys = vec![key.verifying_key()];
        streams.push((StreamSpec { name, scope, keys, insecure_unsigned: false, allowed }, key));
    }
    let owners = tables.items().iter().map(|table| table.get().map(|t| (&t.name, &t.may)));
    center::owners(log, "stream", &owners.collect::<Vec<_>>());
    streams
}

fn gateways(log: &Log, tables: &List<GatewayTable>) -> Vec<GatewayId> {
    tables.need(log, "a center publishes to gateways; add a `[[gateway]]` with its `id` for each");
    if tables.items().len() > GATEWAYS_MAX {
        tables.wrong(log, format!("at most {GATEWAYS_MAX} gateways are served by one center"));
    }
    let mut seen = HashSet::new();
    let mut gateways = Vec::new();
    for t in tables.values() {
        t.id.need(log, "");
        let Some(id) = t.id.parse(log, own_id) else { continue };
        if seen.insert(id.clone()) {
            gateways.push(id);
        } else {
            t.id.wrong(log, format!("`{id}` is named twice; remove one of the two"));
        }
    }
    gateways
}

fn clients(cx: &Context<'_>, tables: &List<ClientTable>, gateways: &[GatewayId]) -> Vec<ClientSpec> {
    let log = cx.log;
    if tables.items().len() > CLIENTS_MAX {
        tables.wrong(log, format!("at most {CLIENTS_MAX} clients are served"));
    }
    let mut clients: Vec<ClientSpec> = Vec::new();
    for table in tables.items() {
        let Some(t) = table.get() else { continue };
        let name = t.name.need(log, "").map(|Text(NotBlank(name))| name.clone());
        if let Some(name) = name.as_ref().filter(|name| clients.iter().any(|client| client.name == **name)) {
            t.name.wrong(log, format!("`{name}` is the name of an earlier client; give each its own"));
        }
        if t.may.need(log, "").is_some_and(Vec::is_empty) {
            t.may.wrong(log, "a client that may nothing is of no use; list its permissions, or remove it");
        }
        t.gateways.need(log, "list the gateways that it may change and read, or write `[\"*\"]`");
        for key in t.gateways.items() {
            if let Some(Text(Whose::One(gateway))) = key.get()
                && !gateways.contains(gateway)
            {
                let known = hint(gateway.as_str(), gateways.iter().map(GatewayId::as_str));
                key.wrong(log, format!("`{gateway}` is no `[[gateway]]` of this file; {known}"));
            }
        }
        let Some(name) = name else { continue };
        let credential = format!("{name}_token");
        let token = cx.token(&t.token_file, &credential, true);
        if token.is_none() && !t.token_file.is_set() {
            t.token_file
                .need(log, &format!("name the file of its token, or provide the systemd credential `{credential}`"));
        }
        let Some(token) = token else { continue };
        if let Some(other) = clients.iter().find(|client| client.token == token) {
            t.token_file.wrong(log, format!("this is the token of `{}` too; give each client its own", other.name));
        }
        let is_all = t.gateways.values().any(|Text(whose)| matches!(whose, Whose::All));
        let own = t.gateways.values().filter_map(|Text(whose)| match whose {
            Whose::All => None,
            Whose::One(gateway) => Some(gateway.clone()),
        });
        let ops = |may: &May| match may {
            May::Everything => AllowedOps::all(),
            May::Read | May::Load => AllowedOps::empty(),
            May::One(op) => AllowedOps::only(*op),
        };
        clients.push(ClientSpec {
            name,
            token,
            may: t.may.values().flat_map(|Text(may)| ops(may).iter()).collect(),
            may_read: t.may.values().any(|Text(may)| matches!(may, May::Everything | May::Read)),
            may_load: t.may.values().any(|Text(may)| matches!(may, May::Everything | May::Load)),
            gateways: (!is_all).then(|| own.collect()),
        });
    }
    clients
}

#[cfg(test)]
#[path = "office_tests.rs"]
mod tests;
