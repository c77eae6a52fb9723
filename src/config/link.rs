//! `[uplink]` and `[local]`: which brokers, who we are there, and how the connection is protected.

use std::path::PathBuf;

use super::{BrokerUrl, Secret, Surroundings, non_empty, secret, whole};
use crate::access::id::GatewayId;
use crate::profile::document::{Table, Value};

/// Most brokers of one link.
const URLS_MAX: usize = 16;
/// Longest client id in bytes; MQTT 3.1.1 lets brokers refuse more than 23, common ones take this.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// Longest random wait before a resync, in seconds.
const RESYNC_SPREAD_S_MAX: i64 = 600;
/// The same when the file does not say.
pub const RESYNC_SPREAD_S_DEFAULT: u32 = 5;
/// What the local link's client id ends with by default, so that the two links never share one.
const LOCAL_SUFFIX: &str = "-local";

/// Where an MQTT link connects, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// The brokers, tried in turn; of a configuration at least one.
    pub urls: Vec<BrokerUrl>,
    /// Who we are to the broker: one client, one id. A second connection with it ends the first.
    pub client_id: String,
    /// User name and password, if the broker wants them.
    pub credentials: Option<Credentials>,
    /// PEM file of the authorities that broker certificates are checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub client_cert: Option<ClientCert>,
    /// What the broker keeps for us while we are away.
    pub session: Session,
    /// The resync after a reconnect waits a random time up to this, in seconds.
    pub resync_spread_s: u32,
}

/// What a broker keeps for a client that is away: `session`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// Subscriptions and messages of QoS 1.
    #[default]
    Persistent,
    /// Nothing; QoS 0 and a resync on every connect instead, for clustered brokers.
    Clean,
}

/// User name and password at a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password; MQTT knows users without.
    pub password: Option<Secret>,
}

/// Our own certificate at a broker.
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

/// Reads `[uplink]`, or the same keys under another name; `name` also begins the names of its credentials.
pub(super) fn read(
    table: &mut Table<'_>,
    name: &str,
    default_client_id: Option<&GatewayId>,
    around: &Surroundings<'_>,
) -> Option<LinkSpec> {
    let urls = table.need("urls").and_then(|value| read_urls(&value));
    let client_id = match table.get("client_id") {
        Some(value) => value.parsed(read_client_id),
        None => default_client_id.map(|id| id.to_string()),
    };
    let username = table.get("username").map(|value| non_empty(&value));
    let password = match (&username, table.has("password_file")) {
        // MQTT 3.1.1, 3.1.2.9: no password without a user name. A credential lying about is then not for us.
        (None, true) => {
            table.diagnostic_at("password_file", "a password needs a `username` beside it");
            let _ = table.get("password_file");
            None
        }
        (None, false) => {
            let _ = table.get("password_file");
            Some(None)
        }
        (Some(_), _) => secret::read(table, "password_file", &format!("{name}_password"), around).secret(),
    };
    let ca_file = table.get("ca_file").map(|value| secret::file(&value, around));
    let client_cert = read_client_cert(table, name, around);
    let session =
        table.choice("session", &[("persistent", Session::Persistent), ("clean", Session::Clean)], Session::default());
    let resync_spread_s = whole(table, "resync_spread_s", 0..=RESYNC_SPREAD_S_MAX, RESYNC_SPREAD_S_DEFAULT);
    if let Some(urls) = &urls
        && urls.iter().all(|url| !url.tls)
    {
        for key in ["ca_file", "cert_file", "key_file"].into_iter().filter(|key| table.has(key)) {
            table.diagnostic_at(
                key,
                "this has no effect, because no url is `mqtts://`; write `mqtts://` in `urls`, or leave it out",
            );
        }
    }
    let credentials = match username {
        None => None,
        Some(username) => Some(Credentials { username: username?, password: password? }),
    };
    Some(LinkSpec {
        urls: urls?,
        client_id: client_id?,
        credentials,
        ca_file: super::flat(ca_file)?,
        client_cert: client_cert?,
        session,
        resync_spread_s,
    })
}

/// `[local]`, or the uplink's broker on a connection of its own.
pub(super) fn read_local(
    section: Option<&Value<'_>>,
    uplink: Option<&LinkSpec>,
    gateway: Option<&GatewayId>,
    around: &Surroundings<'_>,
) -> Option<Option<LinkSpec>> {
    let Some(section) = section else {
        let own = |link: &LinkSpec| LinkSpec { client_id: format!("{}{LOCAL_SUFFIX}", link.client_id), ..link.clone() };
        return uplink.map(|link| Some(own(link)));
    };
    let read = |table: &mut Table<'_>| {
        let named = table.has("client_id");
        let mut link = read(table, "local", gateway, around)?;
        if !named {
            link.client_id.push_str(LOCAL_SUFFIX);
        }
        let shared =
            uplink.filter(|up| up.client_id == link.client_id && up.urls.iter().any(|url| link.urls.contains(url)));
        if let Some(up) = shared {
            let message = format!(
                "the uplink is `{}` at the same broker, and one would throw out the other; leave it out",
                up.client_id
            );
            table.diagnostic_at("client_id", message);
        }
        Some(link)
    };
    Some(section.table(read).flatten())
}

fn read_urls(value: &Value<'_>) -> Option<Vec<BrokerUrl>> {
    let items = if value.is_text() {
        value.diagnostic("a list in brackets is wanted, e.g. `[\"mqtts://host:8883\"]`");
        return None;
    } else {
        value.items()
    };
    if items.is_empty() || items.len() > URLS_MAX {
        value.diagnostic(format!("1 to {URLS_MAX} brokers are wanted, e.g. `[\"mqtts://host:8883\"]`"));
        return None;
    }
    let urls: Vec<_> = items.iter().map(|item| item.parsed(str::parse::<BrokerUrl>)).collect();
    urls.into_iter().collect()
}

fn read_client_id(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > CLIENT_ID_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("a client id has 1 to {CLIENT_ID_BYTES_MAX} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

fn read_client_cert(table: &mut Table<'_>, name: &str, around: &Surroundings<'_>) -> Option<Option<ClientCert>> {
    let cert = table.get("cert_file").map(|value| secret::file(&value, around));
    let Some(cert) = cert else {
        if table.has("key_file") {
            table.diagnostic_at("key_file", "a key needs the certificate it belongs to: `cert_file`");
            let _ = table.get("key_file");
            return None;
        }
        let _ = table.get("key_file");
        return Some(None);
    };
    let key = secret::path(table, "key_file", &format!("{name}_key"), around);
    if key == secret::Found::Nothing {
        table.diagnostic_at("cert_file", "a certificate needs the key it belongs to: `key_file`");
    }
    Some(Some(ClientCert { cert_file: cert?, key_file: key.secret()?? }))
}
