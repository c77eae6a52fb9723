//! The URL of a broker, as the configuration and the command line have it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Port of `mqtt://` without one (IANA `mqtt`).
const PORT_PLAIN: u16 = 1883;
/// Port of `mqtts://` without one (IANA `secure-mqtt`).
const PORT_TLS: u16 = 8883;
/// Longest host name in characters (RFC 1035, 2.3.4, without the dot at the end).
const HOST_CHARS_MAX: usize = 253;

/// The URL of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether TLS is used.
    pub tls: bool,
    /// A host name or an address; an IPv6 address in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl BrokerUrl {
    /// Whether the broker is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // First, because the other errors repeat a part of the URL, and errors are logged.
        if text.contains('@') {
            return Err("a broker's URL has no user; write `username` and `password_file`".to_owned());
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(format!("a broker is written `mqtts://host:8883` or `mqtt://host:1883`, got `{text}`")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((_, path)) = rest.find(['/', '?', '#']).and_then(|at| rest.split_at_checked(at)) {
            return Err(format!("a broker's URL ends after the port; leave out `{path}`"));
        }
        // The last colon outside brackets begins the port.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let six = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_right = match six {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_host(host) && !host.contains(':'),
        };
        if !is_right {
            return Err(format!(
                "`{host}` is not a host name or address; write e.g. `mqtts://broker.example:8883`, an IPv6 address in brackets"
            ));
        }
        // The TLS library takes no address in brackets as the name to check.
        if tls && six.is_some() {
            return Err("`mqtts://` needs a host name or an IPv4 address, because the broker's certificate is checked against it"
                .to_owned());
        }
        let default = if tls { PORT_TLS } else { PORT_PLAIN };
        let wrong = |text: &str| format!("`{text}` is not a port; write a number from 1 to 65535");
        let parse = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong(text));
        let port = port.map_or(Ok(default), parse)?;
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
    fn a_url_has_a_host_a_port_tls_or_not_and_may_be_this_machine() {
        for (text, wanted, is_here) in [
            ("mqtt://127.0.0.1", "mqtt://127.0.0.1:1883", true),
            ("mqtt://127.0.0.9", "mqtt://127.0.0.9:1883", true),
            ("mqtt://localhost", "mqtt://localhost:1883", true),
            ("MQTT://[::1]:1884/", "mqtt://[::1]:1884", true),
            ("mqtt://[::1]", "mqtt://[::1]:1883", true),
            ("mqtts://mqtt-a.campus.example", "mqtts://mqtt-a.campus.example:8883", false),
            ("mqtt://[2001:db8::1]", "mqtt://[2001:db8::1]:1883", false),
            ("mqtt://198.51.100.1", "mqtt://198.51.100.1:1883", false),
        ] {
            let url: BrokerUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.is_loopback()), (wanted, is_here));
        }
    }

    #[test]
    fn a_wrong_url_reports_what_is_wrong_and_repeats_no_password() {
        for (text, wanted) in [
            ("broker:1883", "got `broker:1883`"),
            ("http://broker", "got `http://broker`"),
            ("tcp://broker", "`mqtts://host:8883` or `mqtt://host:1883`"),
            ("mqtt://broker/topic", "ends after the port; leave out `/topic`"),
            ("mqtt://", "`` is not a host name"),
            ("mqtt://::1", "`:` is not a host name"),
            ("mqtt://[::g]", "`[::g]` is not a host name"),
            ("mqtt://broker:0", "`0` is not a port; write a number from 1 to 65535"),
            ("mqtts://[::1]:8883", "needs a host name or an IPv4 address"),
            ("mqtt://u:p@broker", "a broker's URL has no user"),
            ("http://u:p@broker", "a broker's URL has no user"),
            ("u:p@broker", "a broker's URL has no user"),
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err();
            assert!(error.contains(wanted) && !error.contains("u:p"), "{text}: {error}");
        }
    }
}
