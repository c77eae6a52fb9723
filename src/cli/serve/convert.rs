//! The checked configuration as each part wants it.

use crate::access::engine::StreamRole;
use crate::config::{AuditAck, Config, LinkConfig, Scope, StreamConfig};
use crate::mqtt::{BrokerUrl, LinkSpec, Secret};
use crate::store::Options;
use crate::uplink::AuditAckBy;
use crate::wire::envelope::{self, StreamSpec};
use crate::wire::may::{MaySet, OpName};

/// Whose words are heard, for the envelope.
pub fn stream_specs(config: &Config) -> Vec<StreamSpec> {
    let spec = |stream: &StreamConfig| StreamSpec {
        name: stream.name.clone(),
        scope: match stream.scope {
            Scope::Campus => envelope::Scope::Campus,
            Scope::Gateway => envelope::Scope::Gateway,
        },
        keys: stream.public_keys.clone(),
        insecure_unsigned: stream.insecure_unsigned,
        may: may(stream),
    };
    config.streams.iter().map(spec).collect()
}

/// Whose words are heard, for the rules.
pub fn stream_roles(config: &Config) -> Vec<StreamRole> {
    let role = |stream: &StreamConfig| StreamRole {
        name: stream.name.clone(),
        owns_standing: may(stream).contains(OpName::Issue) || may(stream).contains(OpName::Reissue),
    };
    config.streams.iter().map(role).collect()
}

fn may(stream: &StreamConfig) -> MaySet {
    // The configuration checked the names against the same list; a name it let through that is none is one nobody may say.
    MaySet::from_names(stream.may.iter().copied()).unwrap_or(MaySet::NONE)
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
