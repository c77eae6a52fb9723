//! `[uplink]` and `[local]`: which brokers, the client's name there, and how the connection is protected.

use std::path::PathBuf;

use serde::Deserialize;

use super::secret::{self, FileKey};
use super::{BrokerUrl, Context, Secret, Site};
use crate::access::id::GatewayId;
use crate::profile::document::{Key, List, NotBlank, Text, Whole};

/// Most brokers of one link.
const URLS_MAX: usize = 16;
/// Longest client id in bytes. Under MQTT 3.1.1 a broker may refuse more than 23; common brokers accept this.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// The longest random wait before a resync when the file names no time, in seconds.
pub const RESYNC_SPREAD_S_DEFAULT: u32 = 5;
/// The default client id of the local link ends with this, so that the two links never share an id.
const LOCAL_SUFFIX: &str = "-local";

/// The client id of the link to devices with MQTT topics of their own ends with this, beside that of the local link.
const DEVICES_SUFFIX: &str = "-devices";

/// The brokers of an MQTT link, and as which client it connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// The brokers, tried in turn; a configuration has at least one.
    pub urls: Vec<BrokerUrl>,
    /// The client's name at the broker. A second connection with it ends the first.
    pub client_id: String,
    /// User name and password, if the broker needs them.
    pub credentials: Option<Credentials>,
    /// PEM file of the authorities that broker certificates are checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client's certificate and its key.
    pub client_cert: Option<ClientCert>,
    /// What the broker keeps while the client is away.
    pub session: Session,
    /// The resync after a reconnect waits a random time up to this, in seconds.
    pub resync_spread_s: u32,
}

/// What a broker keeps for a client that is away: `session`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Session {
    /// Subscriptions and messages of QoS 1.
    #[default]
    Persistent,
    /// Nothing: the link uses QoS 0 and resyncs on every connect. For clustered brokers.
    Clean,
}

/// User name and password at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password, as it was at the start; MQTT allows a user without one.
    pub password: Option<Secret>,
    /// The file that the password is in, read again for each connection; `None`: it does not change.
    pub password_file: Option<PathBuf>,
}

impl Credentials {
    /// The password that the next connection uses: what is in the file now. Reads a file: call it where blocking is allowed. An error has
    /// the password as it was at the start, and why the file cannot be used.
    pub fn current_password(&self) -> Result<Option<Secret>, (Option<Secret>, String)> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        secret::read(path).map(Some).map_err(|why| (self.password.clone(), format!("`{}`: {why}", path.display())))
    }
}

/// The client's certificate at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// PEM file of the certificate chain.
    pub cert_file: PathBuf,
    /// PEM file of the private key.
    pub key_file: PathBuf,
}

impl LinkSpec {
    /// A connection without user, password or TLS files of its own.
    #[must_use]
    pub fn plain(urls: Vec<BrokerUrl>, client_id: impl Into<String>) -> Self {
        Self {
            urls,
            client_id: client_id.into(),
            credentials: None,
            ca_file: None,
            client_cert: None,
            session: Session::default(),
            resync_spread_s: RESYNC_SPREAD_S_DEFAULT,
        }
    }
}

impl Site {
    /// The link to devices with MQTT topics of their own, a further connection to the local broker; `None`: no portal has such a part.
    pub(crate) fn devices_link(&self) -> Option<LinkSpec> {
        let local = self.local.as_ref().filter(|_| !self.device_topics().is_empty())?;
        Some(LinkSpec { client_id: format!("{}{DEVICES_SUFFIX}", local.client_id), ..local.clone() })
    }
}

#[derive(Deserialize)]
pub(super) struct LinkTable {
    urls: List<Text<BrokerUrl>>,
    client_id: Key<String>,
    username: Key<Text<NotBlank>>,
    password_file: FileKey,
    ca_file: FileKey,
    cert_file: FileKey,
    key_file: FileKey,
    pub(super) session: Key<Session>,
    pub(super) resync_spread_s: Key<Whole<0, 600>>,
}

fn client_id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > CLIENT_ID_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("a client id has 1 to {CLIENT_ID_BYTES_MAX} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

/// The uplink and the local link. Without `[local]` the local link is a second connection to the uplink's broker.
pub(super) fn links(
    cx: &Context<'_>,
    uplink: &Key<LinkTable>,
    local: &Key<LinkTable>,
    gateway: Option<&GatewayId>,
) -> (Option<LinkSpec>, Option<LinkSpec>) {
    let up = uplink.get().map(|table| link(cx, table, "uplink", gateway));
    let Some(table) = local.get() else {
        let own = |link: &LinkSpec| LinkSpec { client_id: format!("{}{LOCAL_SUFFIX}", link.client_id), ..link.clone() };
        let own = up.as_ref().map(own);
        return (up, own);
    };
    let mut own = link(cx, table, "local", gateway);
    if !table.client_id.is_set() {
        own.client_id.push_str(LOCAL_SUFFIX);
    }
    let same = |up: &&LinkSpec| up.client_id == own.client_id && up.urls.iter().any(|url| own.urls.contains(url));
    if let Some(up) = up.as_ref().filter(same) {
        let message = format!(
            "the uplink is `{}` at the same broker, which would end one connection for the other; leave this out",
            up.client_id
        );
        table.client_id.wrong(cx.log, message);
    }
    (up, Some(own))
}

/// One link. The names of its systemd credentials begin with `name`.
pub(super) fn link(cx: &Context<'_>, t: &LinkTable, name: &str, gateway: Option<&GatewayId>) -> LinkSpec {
    let log = cx.log;
    if let Some(urls) = t.urls.need(log, "")
        && (urls.is_empty() || urls.len() > URLS_MAX)
    {
        t.urls.wrong(log, format!("write 1 to {URLS_MAX} brokers, e.g. `[\"mqtts://host:8883\"]`"));
    }
    let urls: Vec<BrokerUrl> = t.urls.values().map(|Text(url)| url.clone()).collect();
    if !urls.is_empty() && urls.iter().all(|url| !url.tls) {
        for key in [&t.ca_file, &t.cert_file, &t.key_file] {
            let why = "this has no effect, because no url is `mqtts://`; write `mqtts://` in `urls`, or leave it out";
            key.must_not_be_set(log, why);
        }
    }
    let client_id = t.client_id.parse(log, client_id);
    let client_id = client_id.or_else(|| gateway.map(ToString::to_string)).unwrap_or_default();
    // MQTT 3.1.1, 3.1.2.9: no password without a user name. A systemd credential is not used then.
    let credential = format!("{name}_password");
    let credentials = t.username.get().map(|Text(NotBlank(username))| {
        let found = cx.secret_and_file(&t.password_file, &credential);
        let (password, password_file) = found.unzip();
        Credentials { username: username.clone(), password, password_file }
    });
    if !t.username.is_set() {
        t.password_file.must_not_be_set(log, "a password needs a `username` beside it");
    }
    let mut client_cert = None;
    if t.cert_file.is_set() {
        let key_file = cx.secret_file(&t.key_file, &format!("{name}_key"));
        if key_file.is_none() && !t.key_file.is_set() {
            t.cert_file.wrong(log, "a certificate needs the key it belongs to: `key_file`");
        }
        client_cert =
            cx.certificates(&t.cert_file).zip(key_file).map(|(cert_file, key_file)| ClientCert { cert_file, key_file });
    } else {
        t.key_file.must_not_be_set(log, "a key needs the certificate it belongs to: `cert_file`");
    }
    LinkSpec {
        urls,
        client_id,
        credentials,
        ca_file: cx.certificates(&t.ca_file),
        client_cert,
        session: t.session.or(Session::default()),
        resync_spread_s: t.resync_spread_s.number(RESYNC_SPREAD_S_DEFAULT),
    }
}
