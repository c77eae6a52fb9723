//! Audit acks (wire contract, 2.6): how far a center has the audit.

use serde_json::{Map, Value, json};

use super::changes::common;
use super::envelope::{Opened, Refused};
use super::fields::Fields;
use super::limits::HEAD_BYTES_MAX;
use super::may::OpName;
use crate::access::change::{ErrorCode, OpError};
use crate::access::id::{GatewayId, StreamName, Timestamp};

/// A center has every audit event up to `through`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditAck {
    /// The stream that sent it.
    pub stream: StreamName,
    /// The last event it has; cumulative.
    pub through: u64,
}

/// The audit ack in an opened envelope.
///
/// # Errors
/// [`Refused`] with `forbidden_op` (the stream has no `command` in `may`), `invalid_field` or `too_large`.
pub fn parse(opened: &Opened<'_>) -> Result<AuditAck, Refused> {
    read(opened).map_err(|e| opened.refuse(e))
}

fn read(opened: &Opened<'_>) -> Result<AuditAck, OpError> {
    let stream = opened.stream;
    if !stream.may.contains(OpName::Command) {
        let message = format!("stream `{}` may not acknowledge the audit; add `command` to its `may`", stream.name);
        return Err(OpError::message(ErrorCode::ForbiddenOp, message));
    }
    opened.clean(HEAD_BYTES_MAX)?;
    let through = Fields::message(opened.claims()).whole("through", 0)?;
    Ok(AuditAck { stream: stream.name.clone(), through })
}

/// The claims of an audit ack as a center writes them.
#[must_use]
pub fn claims(ack: &AuditAck, gateway: &GatewayId, iat: Timestamp) -> Map<String, Value> {
    let mut map = common(&ack.stream, gateway.as_str(), iat);
    map.insert("through".into(), json!(ack.through));
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Channel, Scope, StreamSpec, open};
    use crate::wire::may::MaySet;

    #[test]
    fn only_a_stream_that_may_command_moves_the_audit() {
        let gateway: GatewayId = "g1".parse().unwrap();
        let ack = AuditAck { stream: "office".parse().unwrap(), through: 88_213 };
        let text = Value::Object(claims(&ack, &gateway, Timestamp(0))).to_string();
        let spoiled = text.replace('}', ",\"x\":1,\"x\":2}");
        let long = text.replace('}', &format!(",\"x\":\"{}\"}}", "y".repeat(HEAD_BYTES_MAX)));
        let received = |text: &str, may| {
            let streams = [StreamSpec {
                name: ack.stream.clone(),
                scope: Scope::Gateway,
                keys: vec![],
                insecure_unsigned: true,
                may,
            }];
            let opened = open(text.as_bytes(), Channel::Gateway, &gateway, &streams).unwrap();
            parse(&opened).map_err(|r| r.error.code)
        };
        assert_eq!(received(&text, MaySet::ALL), Ok(ack.clone()));
        assert_eq!(received(&text, MaySet::of(&[OpName::Enrol])), Err(ErrorCode::ForbiddenOp));
        assert_eq!(received(&text.replace("88213", "-1"), MaySet::ALL), Err(ErrorCode::InvalidField));
        assert_eq!(
            received(&text.replace("\"through\":", "\"through\":9,\"through\":"), MaySet::ALL),
            Err(ErrorCode::InvalidField)
        );
        assert_eq!(received(&spoiled, MaySet::ALL), Err(ErrorCode::InvalidField));
        assert_eq!(received(&long, MaySet::ALL), Err(ErrorCode::TooLarge));
    }
}
