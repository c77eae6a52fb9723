//! `[uplink]` and `[local]`: which brokers, who we are there, and how the connection is protected.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::{Secret, Surroundings, non_empty, secret};
use crate::access::id::GatewayId;
use crate::wire::document::{Table, Value};

/// Port of MQTT without TLS (IANA).
const MQTT_PORT: u16 = 1883;
/// Port of MQTT over TLS (IANA).
const MQTTS_PORT: u16 = 8883;
/// Most brokers of one link.
const URLS_MAX: usize = 16;
/// Longest client id in bytes; MQTT 3.1.1 lets brokers refuse more than 23, common ones take this.
const CLIENT_ID_BYTES_MAX: usize = 256;
/// What the local link's client id ends with by default, so that the two links never share one.
const LOCAL_SUFFIX: &str = "-local";

/// One MQTT link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// The brokers, tried in turn; at least one.
    pub urls: Vec<BrokerUrl>,
    /// Who we are to the broker; differs between the two links of one broker.
    pub client_id: String,
    /// User name and password, if the broker wants them.
    pub credentials: Option<Credentials>,
    /// PEM file of the authorities that broker certificates are checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key.
    pub client_cert: Option<ClientCert>,
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

/// How bytes get to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `mqtt://`: TCP in the clear.
    Plain,
    /// `mqtts://`: TLS.
    Tls,
}

/// The address of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// In the clear or over TLS.
    pub transport: Transport,
    /// Host name or address, an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl BrokerUrl {
    /// Whether the broker is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("{why}; a broker is written `mqtts://host:8883` or `mqtt://host:1883`, got `{text}`");
        let Some((scheme, rest)) = text.split_once("://") else { return Err(wrong("there is no scheme")) };
        let (transport, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => (Transport::Plain, MQTT_PORT),
            "mqtts" => (Transport::Tls, MQTTS_PORT),
            _ => return Err(wrong("this scheme is not known")),
        };
        if rest.contains('@') {
            return Err("no user in the address; write `username` and `password_file`".to_owned());
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(six) => {
                let (host, after) = six.split_once(']').ok_or_else(|| wrong("a `]` is missing"))?;
                host.parse::<Ipv6Addr>().map_err(|_| wrong("this is no IPv6 address"))?;
                (host, after.strip_prefix(':').or((!after.is_empty()).then_some(after)))
            }
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if !is_host(host) {
            return Err(wrong("this is no host name or address"));
        }
        let port = match port {
            None => default_port,
            Some(digits) => digits.parse().ok().filter(|p| *p != 0).ok_or_else(|| wrong("the port is no port"))?,
        };
        Ok(Self { transport, host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Plain => "mqtt",
            Transport::Tls => "mqtts",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Whether `text` can be a host name, an IPv4 or an IPv6 address.
pub(super) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= 253
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_')))
}

/// Reads `[uplink]`, or the same keys under another name; `name` also begins the names of its credentials.
pub(super) fn read(
    table: &mut Table<'_>,
    name: &str,
    default_client_id: Option<&GatewayId>,
    around: &Surroundings<'_>,
) -> Option<LinkConfig> {
    let urls = table.need("urls").and_then(|value| read_urls(&value));
    let client_id = match table.get("client_id") {
        Some(value) => value.parsed(read_client_id),
        None => default_client_id.map(|id| id.to_string()),
    };
    let username = table.get("username").map(|value| non_empty(&value));
    let password = match (&username, table.has("password_file")) {
        // MQTT 3.1.1, 3.1.2.9: no password without a user name. A credential lying about is then not for us.
        (None, true) => {
            table.mistake_at("password_file", "a password needs a `username` beside it");
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
    if let Some(urls) = &urls
        && urls.iter().all(|url| url.transport == Transport::Plain)
    {
        for key in ["ca_file", "cert_file", "key_file"].into_iter().filter(|key| table.has(key)) {
            table.mistake_at(
                key,
                "this has no effect, because no url is `mqtts://`; write `mqtts://` in `urls`, or leave it out",
            );
        }
    }
    let credentials = match username {
        None => None,
        Some(username) => Some(Credentials { username: username?, password: password? }),
    };
    Some(LinkConfig {
        urls: urls?,
        client_id: client_id?,
        credentials,
        ca_file: super::flat(ca_file)?,
        client_cert: client_cert?,
    })
}

/// `[local]`, or the uplink's broker on a connection of its own.
pub(super) fn read_local(
    section: Option<&Value<'_>>,
    uplink: Option<&LinkConfig>,
    gateway: Option<&GatewayId>,
    around: &Surroundings<'_>,
) -> Option<Option<LinkConfig>> {
    let Some(section) = section else {
        let own =
            |link: &LinkConfig| LinkConfig { client_id: format!("{}{LOCAL_SUFFIX}", link.client_id), ..link.clone() };
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
            table.mistake_at("client_id", message);
        }
        Some(link)
    };
    Some(section.table(read).flatten())
}

fn read_urls(value: &Value<'_>) -> Option<Vec<BrokerUrl>> {
    let items = if value.is_text() {
        value.mistake("a list in brackets is wanted, e.g. `[\"mqtts://host:8883\"]`");
        return None;
    } else {
        value.items()
    };
    if items.is_empty() || items.len() > URLS_MAX {
        value.mistake(format!("1 to {URLS_MAX} brokers are wanted, e.g. `[\"mqtts://host:8883\"]`"));
        return None;
    }
    let urls: Vec<_> = items.iter().map(|item| item.parsed(BrokerUrl::parse)).collect();
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
            table.mistake_at("key_file", "a key needs the certificate it belongs to: `cert_file`");
            let _ = table.get("key_file");
            return None;
        }
        let _ = table.get("key_file");
        return Some(None);
    };
    let key = secret::path(table, "key_file", &format!("{name}_key"), around);
    if key == secret::Found::Nothing {
        table.mistake_at("cert_file", "a certificate needs the key it belongs to: `key_file`");
    }
    Some(Some(ClientCert { cert_file: cert?, key_file: key.secret()?? }))
}
