//! `[center]`: the streams, their keys, and who may say what. Exactly one stream owns an op, and ops that write the same
//! registers are of one stream, because revisions of two streams cannot be compared.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{PUBLIC_KEY_LENGTH, VerifyingKey};

use crate::access::id::StreamName;
use crate::wire::document::{Table, Value, nearest};

/// Everything a stream may be allowed to say (wire contract, 2.3), and [`COMMAND`].
pub const OPS: [&str; 15] = [
    "issue",
    "reissue",
    "report_lost",
    "found",
    "freeze",
    "unfreeze",
    "cancel",
    "reinstate",
    "enrol",
    "withdraw",
    "suspend_power",
    "resume_power",
    "define_schedule",
    "set_posture",
    COMMAND,
];
/// The word in `may` for commands and audit acks (wire contract, 2.6).
pub const COMMAND: &str = "command";
/// The word in `may` for everything.
const ALL: &str = "*";
/// Most streams of one gateway.
const STREAMS_MAX: usize = 16;
/// Most keys of one stream; each is tried on each of its messages.
const KEYS_MAX: usize = 4;

/// Ops that write the same registers, and what those are.
const GROUPS: [(&[&str], &str); 3] = [
    (
        &["issue", "reissue", "report_lost", "found", "freeze", "unfreeze", "cancel", "reinstate"],
        "the standing of cards",
    ),
    (&["enrol", "withdraw"], "enrolments"),
    (&["suspend_power", "resume_power"], "the power of rooms"),
];

/// On which topics a stream publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The gateway's own.
    Gateway,
    /// Those of the campus; a resync it answers on the gateway's own.
    Campus,
}

/// One office's stream of changes.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Its name: `iss` and `kid` of its messages.
    pub name: StreamName,
    /// Where it publishes.
    pub scope: Scope,
    /// Any of these verifies its messages; empty only with `insecure_unsigned`.
    pub public_keys: Vec<VerifyingKey>,
    /// Bare JSON is taken too.
    pub insecure_unsigned: bool,
    /// What it may say, out of [`OPS`]; never empty, `*` spelled out.
    pub may: BTreeSet<&'static str>,
}

struct Draft<'a> {
    name: Option<(Value<'a>, StreamName)>,
    config: Option<StreamConfig>,
    may: Vec<(Value<'a>, String)>,
}

/// Reads `[center]`: the streams and `require_issue`.
pub(super) fn read(top: &mut Table<'_>) -> (Vec<StreamConfig>, bool) {
    top.table("center", |table| {
        let require_issue = table.flag("require_issue", false);
        let drafts = table.tables("stream", read_stream);
        if drafts.len() > STREAMS_MAX {
            table.mistake_at("stream", format!("at most {STREAMS_MAX} streams are served"));
        }
        name_once(&drafts);
        let owners = check_owners(&drafts);
        if require_issue && !owners.contains("issue") && !owners.contains("reissue") {
            let message = "no stream may `issue` or `reissue`, so every card would be unknown; allow them to one, or leave this out";
            table.mistake_at("require_issue", message);
        }
        (drafts.into_iter().filter_map(|draft| draft.config).collect(), require_issue)
    })
    .unwrap_or_default()
}

fn read_stream<'a>(table: &mut Table<'a>) -> Draft<'a> {
    let name = table.need("name").and_then(|v| v.parsed(str::parse::<StreamName>).map(|name| (v, name)));
    let scope = table.choice("scope", &[("gateway", Scope::Gateway), ("campus", Scope::Campus)], Scope::Gateway);
    let insecure_unsigned = table.flag("insecure_unsigned", false);
    let listed = table.get("public_keys").map(|value| (value.items(), value));
    let public_keys: Vec<_> = match &listed {
        None => Vec::new(),
        Some((items, value)) => {
            if items.len() > KEYS_MAX {
                value.mistake(format!("at most {KEYS_MAX} keys are tried; take out those no longer used"));
            }
            items.iter().filter_map(|item| item.parsed(read_key)).collect()
        }
    };
    if listed.is_none_or(|(items, _)| items.is_empty()) && !insecure_unsigned {
        table.mistake(
            "a stream needs one of `public_keys`; for a trial without signatures write `insecure_unsigned = true`",
        );
    }
    let may: Vec<(Value<'a>, String)> = match table.need("may") {
        None => Vec::new(),
        Some(value) => {
            let items = value.items();
            if items.is_empty() {
                value.mistake("a stream that may say nothing is of no use; list its ops, or take the stream out");
            }
            items.into_iter().filter_map(|item| item.text().map(|op| (item, op))).collect()
        }
    };
    let all = may.iter().any(|(_, op)| op == ALL);
    let allowed = OPS.into_iter().filter(|op| all || may.iter().any(|(_, said)| said == op)).collect();
    let config = name.as_ref().map(|(_, name)| StreamConfig {
        name: name.clone(),
        scope,
        public_keys,
        insecure_unsigned,
        may: allowed,
    });
    Draft { name, config, may }
}

fn read_key(text: &str) -> Result<VerifyingKey, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| {
        format!("a key is the base64url of {PUBLIC_KEY_LENGTH} bytes (A-Z a-z 0-9 - _), this is not base64url")
    })?;
    let bytes: [u8; PUBLIC_KEY_LENGTH] = bytes.try_into().map_err(|got: Vec<u8>| {
        format!("an Ed25519 public key has {PUBLIC_KEY_LENGTH} bytes, this has {}", got.len())
    })?;
    match VerifyingKey::from_bytes(&bytes) {
        // A key of small order verifies signatures that nobody made (RFC 8032, 8.9 speaks of such points).
        Ok(key) if !key.is_weak() => Ok(key),
        Ok(_) | Err(_) => {
            Err("these bytes are no usable Ed25519 public key; ask the center for its key again".to_owned())
        }
    }
}

fn name_once(drafts: &[Draft<'_>]) {
    let mut seen = HashSet::new();
    for (value, name) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if !seen.insert(name) {
            value.mistake(format!("`{name}` is the name of an earlier stream; give each its own"));
        }
    }
}

/// Reports what is wrong with who may say what; the ops that somebody may say.
fn check_owners(drafts: &[Draft<'_>]) -> BTreeSet<&'static str> {
    let mut owner: HashMap<&str, usize> = HashMap::new();
    // Of each group its first owner; a stream that intrudes is told once.
    let mut group_owner: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut told: HashSet<(usize, &str)> = HashSet::new();
    let called = |at: usize| {
        let name = drafts.get(at).and_then(|draft| draft.name.as_ref());
        name.map_or_else(|| format!("center.stream[{at}]"), |(_, name)| name.to_string())
    };
    for (at, draft) in drafts.iter().enumerate() {
        for (value, said) in &draft.may {
            if said == ALL {
                if draft.may.len() > 1 {
                    value.mistake("`*` is everything, so it stands alone");
                }
                if drafts.len() > 1 {
                    value.mistake(
                        "`*` is only for the only stream, because exactly one stream may own an op; list its ops",
                    );
                }
                owner.extend(OPS.map(|op| (op, at)));
                continue;
            }
            let Some(op) = OPS.into_iter().find(|op| op == said) else {
                let hint = match nearest(said, OPS.into_iter()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are {}", OPS.join(", ")),
                };
                value.mistake(format!("no op is called `{said}`; {hint}"));
                continue;
            };
            let group = GROUPS.iter().find(|(ops, _)| ops.contains(&op));
            match owner.get(op) {
                Some(other) if *other == at => {
                    value.mistake(format!("`{op}` is named twice"));
                    continue;
                }
                Some(other) => {
                    value.mistake(format!(
                        "`{op}` is said by `{}` already; exactly one stream may own an op",
                        called(*other)
                    ));
                    told.extend(group.map(|(_, what)| (at, *what)));
                    continue;
                }
                None => owner.insert(op, at),
            };
            let Some((ops, what)) = group else { continue };
            match group_owner.get(what) {
                None => {
                    group_owner.insert(what, (at, op));
                }
                Some((other, _)) if *other == at => {}
                Some((other, first)) => {
                    if told.insert((at, what)) {
                        value.mistake(format!(
                            "`{op}` and `{first}`, which `{}` says, both write {what}, and what is newer shows only among \
                             the revisions of one stream; give {} to one stream",
                            called(*other),
                            ops.join(", ")
                        ));
                    }
                }
            }
        }
    }
    owner.into_keys().filter_map(|op| OPS.into_iter().find(|known| *known == op)).collect()
}
