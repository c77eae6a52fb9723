//! What a connection is told before it starts: where, as whom, and what it subscribes to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::wire::topic::Subscription;

/// Port of `mqtt://` without one (IANA `mqtt`).
const PORT_PLAIN: u16 = 1883;
/// Port of `mqtts://` without one (IANA `secure-mqtt`).
const PORT_TLS: u16 = 8883;

/// Text that is not printed in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` out of logs.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire only.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A host name or an address; an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no broker's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("a broker's URL begins with `mqtt://` or `mqtts://`, got `{0}`")]
    Scheme(String),
    /// User and password in the URL end up in logs.
    #[error("no user name in a broker's URL; use `username` and `password_file`")]
    UserInfo,
    /// Anything after the port.
    #[error("a broker's URL ends after the port, `{0}` is too much")]
    Path(String),
    /// Not a host name.
    #[error("`{0}` is no host name or address; write e.g. `mqtts://broker.example:8883`, an IPv6 address in brackets")]
    Host(String),
    /// Not a port.
    #[error("`{0}` is no port; a number from 1 to 65535 is wanted")]
    Port(String),
    /// A certificate names no bracketed address.
    #[error("`mqtts://` needs a host name or an IPv4 address, because the broker's certificate is checked against it")]
    TlsIpv6,
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" | "tls" => true,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if rest.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((_, path)) = rest.split_once(['/', '?', '#']) {
            return Err(UrlError::Path(path.to_owned()));
        }
        // The last colon outside brackets begins the port.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c)),
        };
        if !is_host {
            return Err(UrlError::Host(host.to_owned()));
        }
        if tls && bracketed.is_some() {
            return Err(UrlError::TlsIpv6);
        }
        let port = match port {
            None if tls => PORT_TLS,
            None => PORT_PLAIN,
            Some(text) => text.parse().ok().filter(|p: &u16| *p > 0).ok_or_else(|| UrlError::Port(text.to_owned()))?,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "mqtts" } else { "mqtt" }, self.host, self.port)
    }
}

/// Where to connect and as whom: `[uplink]` or `[local]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// Tried in turn.
    pub urls: Vec<BrokerUrl>,
    /// One client, one id: a second connection with it ends the first.
    pub client_id: String,
    /// User name, if the broker wants one.
    pub username: Option<String>,
    /// Password, if the broker wants one.
    pub password: Option<Secret>,
    /// PEM file of the CAs that may sign the broker's certificate; the system's if `None`.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and what it is signed by.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
}

impl LinkSpec {
    /// A connection without user, password or TLS files of its own.
    #[must_use]
    pub fn plain(urls: Vec<BrokerUrl>, client_id: impl Into<String>) -> Self {
        Self {
            urls,
            client_id: client_id.into(),
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// Whether the broker keeps subscriptions and QoS 1 messages for an absent client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Kept: what must arrive late rather than never.
    Persistent,
    /// Not kept: what must never arrive late.
    Clean,
}

/// What the broker publishes, with QoS 1, when the connection breaks.
#[derive(Clone)]
pub struct Will {
    /// Where.
    pub topic: String,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// What, by the number of the connection, from 1.
    pub payload: Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
}

/// What a link does with its connection.
#[derive(Clone)]
pub struct Setup {
    /// The link's name in logs: `uplink`, `local`.
    pub link: &'static str,
    /// What the broker keeps.
    pub session: Session,
    /// Subscribed on every connect.
    pub subscriptions: Vec<Subscription>,
    /// Last will.
    pub will: Option<Will>,
    /// A topic of our own for the start-up echo; `None`: not measured.
    pub echo_topic: Option<String>,
}

/// Why a connection cannot even be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nowhere to connect to.
    #[error("`urls` is empty; name at least one broker")]
    NoUrls,
    /// The broker keeps a session by the client's id.
    #[error("`client_id` is empty; a broker that keeps a session needs one")]
    NoClientId,
    /// One without the other.
    #[error("`cert_file` and `key_file` belong together; give both or none")]
    HalfClientCertificate,
}

impl LinkSpec {
    pub(super) fn check(&self) -> Result<(), LinkError> {
        if self.urls.is_empty() {
            return Err(LinkError::NoUrls);
        }
        if self.client_id.is_empty() {
            return Err(LinkError::NoClientId);
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(LinkError::HalfClientCertificate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_whether_tls_is_spoken() {
        let read = |text: &str| text.parse::<BrokerUrl>().map(|u| u.to_string());
        assert_eq!(read("mqtt://127.0.0.1"), Ok("mqtt://127.0.0.1:1883".into()));
        assert_eq!(read("mqtts://mqtt-a.campus.example"), Ok("mqtts://mqtt-a.campus.example:8883".into()));
        assert_eq!(read("MQTT://[::1]:1884/"), Ok("mqtt://[::1]:1884".into()));
        assert_eq!(read("mqtt://[::1]"), Ok("mqtt://[::1]:1883".into()));
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong() {
        let error = |text: &str| text.parse::<BrokerUrl>().unwrap_err();
        assert_eq!(error("broker:1883"), UrlError::Scheme("broker:1883".into()));
        assert_eq!(error("http://broker"), UrlError::Scheme("http://broker".into()));
        assert_eq!(error("mqtt://u:p@broker"), UrlError::UserInfo);
        assert_eq!(error("mqtt://broker/topic"), UrlError::Path("topic".into()));
        assert_eq!(error("mqtt://"), UrlError::Host(String::new()));
        assert_eq!(error("mqtt://::1"), UrlError::Host(":".into()));
        assert_eq!(error("mqtt://broker:0"), UrlError::Port("0".into()));
        assert_eq!(error("mqtts://[::1]:8883"), UrlError::TlsIpv6);
    }

    #[test]
    fn a_password_is_not_printed() {
        let mut spec = LinkSpec::plain(Vec::new(), "g");
        spec.password = Some(Secret::new("hunter2"));
        assert!(!format!("{spec:?}").contains("hunter2"));
    }
}
