//! The named limits of the wire, each with its unit and what happens at it. The contract's own figures are marked so.

/// Longest message from a center in bytes (wire contract, 2.3). A longer one that is well signed is refused as `too_large`
/// and still uses up its number.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest packet that is opened at all, in bytes: the number of a message that is too large is still read, and named in the answer. A
/// longer packet is refused as `too_large` unread and uses up no number.
pub const PACKET_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Deepest nesting of JSON objects and lists. What lies deeper is not read, and the message is refused as `too_large`.
pub const JSON_DEPTH_MAX: usize = 16;
/// Faults of form (keys given twice, nesting) that are reported of one document. Further ones are not listed; one is enough to refuse.
pub const JSON_FAULTS_MAX: usize = 16;
/// Ops in one change message: more than [`MESSAGE_BYTES_MAX`] can hold, of which the shortest op takes 32 bytes before the encoding.
/// More: `too_large`.
pub const OPS_MAX: usize = 6_500;
/// Errors reported of one change message. Further ones are counted in the last.
pub const OP_ERRORS_MAX: usize = 32;
/// Longest part of a snapshot as the center's side writes it, in bytes, signed and encoded (wire contract, 2.5).
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// Longest part of a snapshot that is read, in bytes: 64 KiB of JSON, signed and encoded, for a center that cuts before it signs. Longer:
/// `too_large`.
pub const PART_BYTES_READ_MAX: usize = PART_BYTES_MAX * 4 / 3 + 2 * JWS_HEADER_BYTES_MAX;
/// Longest id of a snapshot in characters. Longer: `invalid_field`.
pub const SNAPSHOT_ID_CHARS_MAX: usize = 64;
/// Entitlements in one enrolment. More: `too_large`.
pub const ENTITLEMENTS_MAX: usize = 1_024;
/// Portals named in one `set_posture`. More: `too_large`; `*` names them all.
pub const PORTALS_MAX: usize = 1_024;
/// Windows of one day of a schedule. More: `too_large`.
pub const WINDOWS_MAX: usize = 48;
/// Holidays of a schedule. More: `too_large`.
pub const HOLIDAYS_MAX: usize = 1_000;
/// Longest name of a time zone in bytes; a longer one is in no database.
pub const TIMEZONE_BYTES_MAX: usize = 64;
/// Longest JWS header in bytes, encoded. Longer: `bad_signature`.
pub const JWS_HEADER_BYTES_MAX: usize = 1_024;
/// Longest command id (`jti`) in characters. Longer: `invalid_field`.
pub const JTI_CHARS_MAX: usize = 64;
/// Longest `actor` of a command in characters. Longer: `invalid_field`.
pub const ACTOR_CHARS_MAX: usize = 128;
/// Longest life of a command, `exp` minus `iat`, in seconds (wire contract, 2.6). Longer: `invalid_field`.
pub const COMMAND_LIFE_S_MAX: i64 = 30;
/// Longest command message in bytes. Longer: `too_large`.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Longest `head` or `audit-ack` message in bytes. Longer: `too_large`.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest `request` of a portal in bytes. A longer one is a malformed request and is answered without an id.
pub const REQUEST_BYTES_MAX: usize = 1_024;
/// Longest `state` of a portal in bytes. A longer one is ignored, with an error.
pub const PORTAL_STATE_BYTES_MAX: usize = 4 * 1_024;
/// Longest `decision` or `control` that the portal's side reads, in bytes. A longer one is an error.
pub const PORTAL_ORDER_BYTES_MAX: usize = 4 * 1_024;
/// Longest `id` of a request in characters. A request with a longer one is malformed and is answered without an id.
pub const REQUEST_ID_CHARS_MAX: usize = 64;
/// Longest portal name in a topic, in characters. A topic with a longer one is outside the contract.
pub const PORTAL_TEXT_CHARS_MAX: usize = 64;
/// How much of a received value is repeated in a message or kept for the audit, in characters. The rest becomes `…`.
pub const QUOTE_CHARS_MAX: usize = 64;
/// Events in one audit batch (wire contract, section 3). Callers cut their batches to it.
pub const AUDIT_BATCH_EVENTS_MAX: usize = 200;
/// Longest message of a gateway that the center's side reads, in bytes. A longer one is an error.
pub const UP_BYTES_MAX: usize = PACKET_BYTES_MAX;
