//! TLS for a broker connection: roots, client certificate, and errors that report which file is wrong.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rumqttc::tokio_rustls::rustls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::faults::BrokerFault;
use super::metrics::LinkMetrics;
use crate::config::LinkSpec;
use crate::config::cert::without_bom;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("cannot read `{path}`: {error}; check `{key}`")]
    Read { key: &'static str, path: PathBuf, error: std::io::Error },
    #[error("`{path}` holds no PEM {what}; check `{key}`")]
    Empty { key: &'static str, path: PathBuf, what: &'static str },
    #[error("the system has no CA certificates; install them or set `ca_file`")]
    NoRoots,
    #[error("client certificate and key do not fit: {0}; check `cert_file` and `key_file`")]
    Client(rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The TLS files of a link. They are read again for each connection, so that a renewed certificate needs no restart. While one of
/// them is wrong, those that were right before stay in force: a renewal that goes wrong does not cut a gateway off.
pub(super) struct TlsFiles {
    link: &'static str,
    metrics: Arc<LinkMetrics>,
    last: Mutex<Option<Arc<ClientConfig>>>,
}

impl TlsFiles {
    pub(super) fn new(link: &'static str, metrics: Arc<LinkMetrics>) -> Self {
        Self { link, metrics, last: Mutex::default() }
    }

    /// What the next connection uses: what was `read`, or what was right before.
    pub(super) fn in_force(&self, read: Result<Arc<ClientConfig>, String>) -> Result<Arc<ClientConfig>, String> {
        let mut last = crate::lock(&self.last);
        match (read, &*last) {
            (Ok(config), _) => {
                self.metrics.faults.over(BrokerFault::TlsFiles);
                Ok(Arc::clone(last.insert(config)))
            }
            (Err(why), Some(config)) => {
                let detail = format!("{why}; the TLS files as they were before are used until this is put right");
                self.metrics.faults.found(self.link, BrokerFault::TlsFiles, "", &detail);
                Ok(Arc::clone(config))
            }
            (Err(why), None) => Err(why),
        }
    }
}

/// Reads the files: TLS with the roots and the client certificate that `spec` names. Call it where blocking is allowed. The error names
/// which file is wrong, and how.
pub fn tls_config(spec: &LinkSpec) -> Result<Arc<ClientConfig>, String> {
    client_config(spec).map_err(|error| error.to_string())
}

fn client_config(spec: &LinkSpec) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &spec.ca_file {
        Some(path) => {
            let (added, _) = roots.add_parsable_certificates(certificates("ca_file", path)?);
            if added == 0 {
                return Err(TlsError::Empty { key: "ca_file", path: path.clone(), what: "CA certificate" });
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(TlsError::NoRoots);
            }
        }
    }
    // Named here, because other crates in the graph may bring another provider and then none is the default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let config = match &spec.client_cert {
        Some(own) => {
            let chain = certificates("cert_file", &own.cert_file)?;
            let pem = read("key_file", &own.key_file)?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Empty {
                key: "key_file",
                path: own.key_file.clone(),
                what: "private key",
            })?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Client)?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(key, path)?;
    let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect::<Vec<_>>();
    if found.is_empty() {
        return Err(TlsError::Empty { key, path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::read(path).map_err(|error| TlsError::Read { key, path: path.to_owned(), error })?;
    Ok(without_bom(&bytes).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_before_the_pem_is_dropped() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, format!("\u{feff}{pem}")).unwrap();
        assert_eq!(certificates("ca_file", &path).unwrap().len(), 1);
    }
}
