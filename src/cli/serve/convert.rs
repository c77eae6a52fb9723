//! The checked configuration as each part wants it.

use crate::access::engine::StreamRole;
use crate::config::{AuditAck, Config, LinkConfig};
use crate::mqtt::{BrokerUrl, LinkSpec, Secret};
use crate::store::Options;
use crate::uplink::AuditAckBy;
use crate::wire::envelope::StreamSpec;
use crate::wire::may::OpName;

/// Whose words are heard, for the rules.
pub fn stream_roles(config: &Config) -> Vec<StreamRole> {
    let role = |stream: &StreamSpec| StreamRole {
        name: stream.name.clone(),
        owns_standing: stream.may.contains(OpName::Issue) || stream.may.contains(OpName::Reissue),
    };
    config.streams.iter().map(role).collect()
}

/// Where a link connects.
pub fn link_spec(link: &LinkConfig) -> LinkSpec {
    let credentials = link.credentials.as_ref();
    let urls: Vec<BrokerUrl> = link.urls.iter().filter_map(|url| url.to_string().parse().ok()).collect();
    LinkSpec {
        urls,
        client_id: link.client_id.clone(),
        username: credentials.map(|c| c.username.clone()),
        password: credentials.and_then(|c| c.password.as_ref()).map(|p| Secret::new(p.expose())),
        ca_file: link.ca_file.clone(),
        cert_file: link.client_cert.as_ref().map(|c| c.cert_file.clone()),
        key_file: link.client_cert.as_ref().map(|c| c.key_file.clone()),
    }
}

/// How the store behaves.
pub fn store_options(config: &Config) -> Options {
    Options {
        flush_ms: u64::from(config.audit.flush_ms),
        retain_events: config.audit.retain_events.get(),
        retain_days: config.audit.retain_days,
        ..Options::default()
    }
}

/// Who moves the audit's cursor.
pub fn audit_ack(config: &Config) -> AuditAckBy {
    match config.audit.ack {
        AuditAck::Center => AuditAckBy::Center,
        AuditAck::Broker => AuditAckBy::Broker,
    }
}
