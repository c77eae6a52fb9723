//! Where a broker is: the one way to write it, in the configuration and on the command line.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Port of `mqtt://` without one (IANA `mqtt`).
const PORT_PLAIN: u16 = 1883;
/// Port of `mqtts://` without one (IANA `secure-mqtt`).
const PORT_TLS: u16 = 8883;
/// Longest host name in characters (RFC 1035, 2.3.4, without the dot at the end).
const HOST_CHARS_MAX: usize = 253;

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether TLS is sent.
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
    #[error("a broker is written `mqtts://host:8883` or `mqtt://host:1883`, got `{0}`")]
    Scheme(String),
    /// User and password in the URL end up in logs; the text is not repeated.
    #[error("no user in a broker's address; write `username` and `password_file`")]
    UserInfo,
    /// Anything after the port.
    #[error("a broker's address ends after the port; leave out `{0}`")]
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

impl BrokerUrl {
    /// Whether the broker is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // First, because the other errors repeat what they are about.
        if text.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            return Err(UrlError::Path(rest.get(at..).unwrap_or_default().to_owned()));
        }
        // The last colon outside brackets begins the port.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match six {
            Some(address) if address.parse::<Ipv6Addr>().is_err() => return Err(UrlError::Host(host.to_owned())),
            Some(_) if tls => return Err(UrlError::TlsIpv6),
            Some(_) => {}
            None if is_host(host) && !host.contains(':') => {}
            None => return Err(UrlError::Host(host.to_owned())),
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

/// Whether `text` can be a host name, an IPv4 address or an IPv6 address without brackets.
pub(super) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (!text.is_empty()
            && text.len() <= HOST_CHARS_MAX
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_port_and_whether_tls_is_sent() {
        let read = |text: &str| text.parse::<BrokerUrl>().map(|u| u.to_string());
        assert_eq!(read("mqtt://127.0.0.1"), Ok("mqtt://127.0.0.1:1883".into()));
        assert_eq!(read("mqtts://mqtt-a.campus.example"), Ok("mqtts://mqtt-a.campus.example:8883".into()));
        assert_eq!(read("MQTT://[::1]:1884/"), Ok("mqtt://[::1]:1884".into()));
        assert_eq!(read("mqtt://[::1]"), Ok("mqtt://[::1]:1883".into()));
    }

    #[test]
    fn a_wrong_url_reports_what_is_wrong() {
        let error = |text: &str| text.parse::<BrokerUrl>().unwrap_err();
        assert_eq!(error("broker:1883"), UrlError::Scheme("broker:1883".into()));
        assert_eq!(error("http://broker"), UrlError::Scheme("http://broker".into()));
        assert_eq!(error("tcp://broker"), UrlError::Scheme("tcp://broker".into()));
        assert_eq!(error("mqtt://broker/topic"), UrlError::Path("/topic".into()));
        assert_eq!(error("mqtt://"), UrlError::Host(String::new()));
        assert_eq!(error("mqtt://::1"), UrlError::Host(":".into()));
        assert_eq!(error("mqtt://[::g]"), UrlError::Host("[::g]".into()));
        assert_eq!(error("mqtt://broker:0"), UrlError::Port("0".into()));
        assert_eq!(error("mqtts://[::1]:8883"), UrlError::TlsIpv6);
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for text in ["mqtt://u:p@broker", "http://u:p@broker", "u:p@broker"] {
            assert_eq!(text.parse::<BrokerUrl>(), Err(UrlError::UserInfo));
        }
    }

    #[test]
    fn a_broker_on_this_machine_is_known_by_its_name_and_by_its_addresses() {
        let here = |text: &str| text.parse::<BrokerUrl>().unwrap().is_loopback();
        assert!(here("mqtt://localhost") && here("mqtt://127.0.0.9") && here("mqtt://[::1]"));
        assert!(!here("mqtt://broker.example") && !here("mqtt://[2001:db8::1]") && !here("mqtt://198.51.100.1"));
    }
}
