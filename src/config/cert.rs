//! The certificates that the configuration names: what is in a PEM file, until when it is valid, which hosts it names, and
//! whether its key belongs to it.
//!
//! A file that holds no certificate is a diagnostic. What TLS will refuse, or soon will, is a hint of `dormgate check`: the gateway
//! starts without it, because it works without a center. TLS reads the files again at each connection.

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{BrokerUrl, LinkSpec};

/// Largest PEM file in bytes; the bundle of a system's authorities has a quarter of that.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// A certificate that expires within so many days has a hint.
const SOON_DAYS: i64 = 30;
/// Seconds in a day.
const DAY_S: i64 = 86_400;
/// Most certificates of one file that are described; a system's bundle has more.
const DESCRIBED_MAX: usize = 5;

// Tags of DER (ITU-T X.690) and of RFC 5280.
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
// Object ids: 2.5.4.3, 2.5.29.17 and 2.5.29.19.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];

/// One certificate of a file.
struct Certificate {
    subject: String,
    is_ca: bool,
    not_before: Timestamp,
    not_after: Timestamp,
    /// The names of hosts, in lower case; the first label may be `*`.
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// Drops the byte order mark that some editors write before a text.
pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

/// Whether the PEM file at `path` holds certificates. The error names what it holds instead, and what to do.
pub(super) fn check(path: &Path) -> Result<(), String> {
    certificates(path).map(drop)
}

/// A line for each certificate of a link, and hints for what TLS refuses or soon will.
pub(crate) fn describe(name: &str, link: &LinkSpec, now: Timestamp) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut hints) = (Vec::new(), Vec::new());
    let own = link.client_cert.as_ref().map(|own| ("cert_file", &own.cert_file));
    for (key, path) in link.ca_file.iter().map(|path| ("ca_file", path)).chain(own) {
        let found = certificates(path).unwrap_or_default();
        for certificate in found.iter().take(DESCRIBED_MAX) {
            let what = format!("`{name}.{key}`: {}", certificate.describe());
            hints.extend(certificate.time_hint(now).map(|hint| format!("{what}: {hint}")));
            let tls = || link.urls.iter().filter(|url| url.tls);
            if key == "ca_file" && !certificate.is_ca && !tls().any(|url| certificate.names(url)) {
                let urls: Vec<String> = tls().map(ToString::to_string).collect();
                hints.push(format!(
                    "{what}: it is not an authority, and it does not name the host of {}; name the file of the authority, or a \
                     certificate that names the host",
                    urls.join(" or ")
                ));
            }
            notes.push(what);
        }
        if found.len() > DESCRIBED_MAX {
            notes.push(format!("`{name}.{key}`: {} more certificates", found.len() - DESCRIBED_MAX));
        }
    }
    let key = link.client_cert.as_ref().and_then(|own| check_key(&own.cert_file, &own.key_file).err());
    hints.extend(key.map(|why| format!("`{name}.key_file`: {why}")));
    (notes, hints)
}

/// Whether TLS can use the private key in the PEM file `key_file` with the first certificate in `cert_file`. The error names what is
/// wrong, and what to do.
fn check_key(cert_file: &Path, key_file: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()));
    let (chain, key) = (read(cert_file)?, read(key_file)?);
    let chain = CertificateDer::pem_slice_iter(without_bom(&chain)).filter_map(Result::ok).collect();
    let (certificate, file) = (cert_file.display(), key_file.display());
    let key = PrivateKeyDer::from_pem_slice(without_bom(&key))
        .map_err(|_| format!("`{file}` holds no private key in PEM; name the file with the key of `{certificate}`"))?;
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(format!(
            "the key in `{file}` does not belong to the certificate in `{certificate}`; name the two files that were made together"
        )),
        Err(error) => Err(format!("the key in `{file}` cannot be used with `{certificate}`: {error}; make a new pair")),
    }
}

impl Certificate {
    fn describe(&self) -> String {
        let kind = if self.is_ca { "authority" } else { "certificate" };
        let hosts: Vec<String> =
            self.hosts.iter().cloned().chain(self.addresses.iter().map(ToString::to_string)).collect();
        let hosts = if hosts.is_empty() { String::new() } else { format!(" for {}", hosts.join(", ")) };
        format!("{kind} `{}`{hosts}, valid until {}", self.subject, self.not_after)
    }

    fn time_hint(&self, now: Timestamp) -> Option<&'static str> {
        let left_s = self.not_after.as_second().saturating_sub(now.as_second());
        if left_s < 0 {
            Some("it has expired; get a new one")
        } else if now < self.not_before {
            Some("it is not valid yet; check the clock of this machine")
        } else if left_s < SOON_DAYS * DAY_S {
            Some("it expires soon; get a new one")
        } else {
            None
        }
    }

    /// Whether it names the host of `url`, as RFC 6125 compares names: `*` stands for one label.
    fn names(&self, url: &BrokerUrl) -> bool {
        let host = url.host.to_ascii_lowercase();
        match host.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.hosts.iter().any(|name| match name.strip_prefix("*.") {
                Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
                None => *name == host,
            }),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let file = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("cannot read `{file}`: {error}"))?.len();
    if length > PEM_BYTES_MAX {
        return Err(format!("`{file}` has more than {PEM_BYTES_MAX} bytes; a file of certificates is smaller"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{file}`: {error}"))?;
    let bytes = without_bom(&bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(format!("`{file}` is empty; a PEM file with a certificate is wanted"));
    }
    if bytes.first() == Some(&SEQUENCE) {
        let convert = format!("openssl x509 -inform der -in {file} -out {file}.pem");
        return Err(format!("`{file}` is DER, and PEM is wanted: convert it with `{convert}`"));
    }
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(|error| match error {
            Error::MissingSectionEnd { .. } => {
                format!("`{file}` is cut off: its line `-----END …` is missing; copy it again")
            }
            other => format!("`{file}` is damaged: {other}; copy it again"),
        })?;
        if kind == SectionKind::Certificate {
            let damaged = || format!("a certificate in `{file}` is damaged; copy it again");
            found.push(certificate(&der).ok_or_else(damaged)?);
        } else {
            others.push(kind);
        }
    }
    match (found.is_empty(), others.first()) {
        (false, _) => Ok(found),
        (true, Some(SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)) => {
            Err(format!("`{file}` holds a private key, and no certificate"))
        }
        (true, Some(_)) => Err(format!("`{file}` holds something else in PEM, and no certificate")),
        (true, None) => {
            Err(format!("`{file}` holds no certificate: a PEM file with `-----BEGIN CERTIFICATE-----` is wanted"))
        }
    }
}

/// Reads the described fields of a certificate in DER (RFC 5280, 4.1); `None`: it is damaged. A crate for all of X.509 would add
/// twenty others and 50 s of building for these few fields. Whether a certificate is trusted is decided by TLS, with its own parser.
fn certificate(der: &[u8]) -> Option<Certificate> {
    let mut tbs = Der(Der(Der(der).value(SEQUENCE)?).value(SEQUENCE)?);
    if tbs.0.first() == Some(&VERSION) {
        tbs.next()?;
    }
    let (_serial, _algorithm, _issuer) = (tbs.next()?, tbs.next()?, tbs.next()?);
    let mut validity = Der(tbs.value(SEQUENCE)?);
    let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
    let mut subject = Der(tbs.value(SEQUENCE)?).flat_map(|(_, set)| Der(set));
    let name = subject.find_map(|(_, pair)| Der(pair).after(COMMON_NAME).next());
    let subject = name.map_or("without a name".to_owned(), |(_, name)| String::from_utf8_lossy(name).into_owned());
    let mut certificate =
        Certificate { subject, is_ca: false, not_before, not_after, hosts: Vec::new(), addresses: Vec::new() };
    if let Some((_, extensions)) = tbs.find(|(tag, _)| *tag == EXTENSIONS) {
        for (_, extension) in Der(Der(extensions).value(SEQUENCE)?) {
            // A flag may come before the value: whether the extension is critical.
            let value = |id: &[u8]| Der(extension).after(id).find(|(tag, _)| *tag == OCTETS).map(|(_, value)| value);
            if let Some(value) = value(BASIC_CONSTRAINTS) {
                certificate.is_ca = Der(Der(value).value(SEQUENCE)?).value(BOOLEAN).is_some_and(|ca| ca != [0]);
            }
            for (tag, name) in
                value(ALTERNATIVE_NAMES).and_then(|value| Der(value).value(SEQUENCE)).map_or(Der(&[]), Der)
            {
                match (tag, name.len()) {
                    (DNS_NAME, _) => certificate.hosts.push(String::from_utf8_lossy(name).to_ascii_lowercase()),
                    (IP_ADDRESS, 4) => certificate.addresses.extend(<[u8; 4]>::try_from(name).map(IpAddr::from)),
                    (IP_ADDRESS, _) => certificate.addresses.extend(<[u8; 16]>::try_from(name).map(IpAddr::from)),
                    _ => {}
                }
            }
        }
    }
    Some(certificate)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; two digits of a year are those of 1950 to 2049.
fn time((tag, value): (u8, &[u8])) -> Option<Timestamp> {
    let digits = std::str::from_utf8(value).ok()?;
    let digits = match tag {
        UTC_TIME => format!("{}{digits}", if digits.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => digits.to_owned(),
        _ => return None,
    };
    DateTime::strptime("%Y%m%d%H%M%SZ", digits).ok()?.to_zoned_datetime(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// A sequence of values in DER: the tag and the content of each, up to the first that is damaged.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next value, if it has this tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// What follows the object id, if it is this one; nothing otherwise.
    fn after(mut self, id: &[u8]) -> Self {
        if self.value(OBJECT_ID) == Some(id) { self } else { Self(&[]) }
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match first {
            0..=0x7F => (usize::from(*first), rest),
            // So many bytes of length follow; more than three would be a certificate of 16 MiB.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, value))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

    use super::*;

    /// A certificate for these hosts in PEM, valid from 2020 to the end of 2029, and its key.
    fn pem(hosts: &[&str], is_ca: bool) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2029, 12, 31);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_file_without_a_certificate_is_named_by_what_it_holds() {
        let (pem, key) = pem(&["broker.example"], true);
        let (_, der) = <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).unwrap();
        let cut = pem.rsplit_once("-----END").unwrap().0;
        let garbled = pem.replace("MII", "!!!");
        let broken = pem.replacen('\n', "\nAAAA", 1);
        for (content, wanted) in [
            (der.as_slice(), "is DER, and PEM is wanted: convert it with `openssl x509"),
            (b"", "is empty"),
            (b"\xEF\xBB\xBF\n", "is empty"),
            (b"hello", "holds no certificate: a PEM file"),
            (key.as_bytes(), "holds a private key, and no certificate"),
            (cut.as_bytes(), "is cut off"),
            (garbled.as_bytes(), "is damaged"),
            (broken.as_bytes(), "is damaged"),
        ] {
            let error = check(write(content).path()).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        assert_eq!(check(write(pem.as_bytes()).path()), Ok(()));
        assert_eq!(check(write(format!("\u{feff}{pem}").as_bytes()).path()), Ok(()), "a byte order mark is dropped");
    }

    #[test]
    fn a_key_belongs_to_its_certificate_and_to_no_other() {
        let ((own, key), (_, other)) = (pem(&["g"], false), pem(&["g"], false));
        let certificate = write(own.as_bytes());
        for (content, wanted) in [
            (key.as_str(), None),
            (&format!("\u{feff}{key}"), None),
            (&other, Some("does not belong to the certificate in")),
            (&own, Some("holds no private key in PEM")),
            ("hunter2", Some("holds no private key in PEM")),
            (&key.replace("MI", "!!"), Some("holds no private key in PEM")),
        ] {
            let found = check_key(certificate.path(), write(content.as_bytes()).path());
            match wanted {
                None => assert_eq!(found, Ok(())),
                Some(wanted) => assert!(found.as_ref().is_err_and(|why| why.contains(wanted)), "{wanted}: {found:?}"),
            }
        }
    }

    #[test]
    fn kind_expiry_and_names_of_a_certificate_are_described() {
        let describe = |url: &str, hosts: &[&str], is_ca: bool, now: &str| {
            let file = write(pem(hosts, is_ca).0.as_bytes());
            let mut link = LinkSpec::plain(vec![url.parse().unwrap()], "g");
            link.ca_file = Some(file.path().to_owned());
            super::describe("uplink", &link, now.parse().unwrap())
        };
        let (good, broker) = ("2026-01-01T00:00:00Z", "mqtts://broker.example");
        let (notes, hints) = describe(broker, &[], true, good);
        assert_eq!(notes, ["`uplink.ca_file`: authority `test`, valid until 2029-12-31T00:00:00Z"]);
        assert_eq!(hints, Vec::<String>::new());
        for (url, hosts, now, wanted) in [
            (broker, &["broker.example"][..], good, None),
            (broker, &["*.example"], good, None),
            ("mqtts://192.0.2.9", &["192.0.2.9"], good, None),
            (broker, &["other.example"], good, Some("it does not name the host of mqtts://broker.example:8883")),
            (broker, &["*.broker.example"], good, Some("does not name the host")),
            (broker, &["broker.example"], "2030-01-01T00:00:00Z", Some("it has expired")),
            (broker, &["broker.example"], "2029-12-15T00:00:00Z", Some("it expires soon")),
            (broker, &["broker.example"], "2019-01-01T00:00:00Z", Some("it is not valid yet")),
        ] {
            let (_, hints) = describe(url, hosts, false, now);
            assert_eq!(hints.len(), usize::from(wanted.is_some()), "{hints:?}");
            assert!(
                wanted.is_none_or(|wanted| hints.iter().any(|hint| hint.contains(wanted))),
                "{wanted:?}: {hints:?}"
            );
        }
    }
}
