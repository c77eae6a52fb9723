//! `[center]`: the streams, their keys, and the ops that each may send. Exactly one stream owns an op, and ops that write the same
//! registers belong to one stream, because revisions of two streams cannot be compared.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use enumset::enum_set;
use serde::Deserialize;

use crate::access::id::StreamName;
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, List, Log, Text};
use crate::wire::allowed::{AllowedOps, OpName, STANDING};
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::keys;

/// The name in `may` for every op.
const ALL: &str = "*";
/// Most streams of one gateway.
const STREAMS_MAX: usize = 16;
/// Most keys of one stream; a signature is checked against each of them.
const KEYS_MAX: usize = 4;

/// Ops that write the same registers, and the name of these registers for people.
const GROUPS: [(AllowedOps, &str); 3] = [
    (STANDING, "the standing of cards"),
    (enum_set!(OpName::Enrol | OpName::Withdraw), "enrolments"),
    (enum_set!(OpName::SuspendPower | OpName::ResumePower), "the power of rooms"),
];

#[derive(Deserialize)]
pub(super) struct CenterTable {
    require_issue: Key<bool>,
    stream: List<StreamTable>,
}

#[derive(Deserialize)]
pub(super) struct StreamTable {
    name: Key<Text<StreamName>>,
    scope: Key<Scope>,
    public_keys: List<String>,
    insecure_unsigned: Key<bool>,
    may: List<Text<Allowed>>,
}

impl StreamTable {
    /// Its name and its keys; none where it need not sign.
    pub(super) fn keys(&self) -> (String, Vec<VerifyingKey>) {
        let keys = self.public_keys.values().filter(|_| !self.insecure_unsigned.or(false));
        let name = self.name.get().map_or_else(String::new, |Text(name)| name.to_string());
        (name, keys.filter_map(|key| keys::parse_public(key).ok()).collect())
    }
}

/// One name in `may`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// `*`.
    Everything,
    /// An op, or `command`.
    One(OpName),
}

impl Allowed {
    /// The ops that it stands for.
    fn ops(self) -> AllowedOps {
        match self {
            Self::Everything => AllowedOps::all(),
            Self::One(op) => AllowedOps::only(op),
        }
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == ALL {
            return Ok(Self::Everything);
        }
        let unknown = |_| format!("`{text}` is not an op; {}", hint(text, OpName::ALL.iter().map(|op| op.as_str())));
        text.parse().map(Self::One).map_err(unknown)
    }
}

/// The streams, and `require_issue`.
pub(super) fn streams(log: &Log, center: &Key<CenterTable>) -> (Vec<StreamSpec>, bool) {
    let Some(center) = center.get() else { return (Vec::new(), false) };
    let tables = center.stream.items();
    if tables.len() > STREAMS_MAX {
        center.stream.wrong(log, format!("a gateway serves at most {STREAMS_MAX} streams; remove some"));
    }
    let mut names = HashSet::new();
    let mut streams = Vec::new();
    for table in tables {
        let Some(t) = table.get() else { continue };
        let name = name(log, &t.name, &mut names);
        if t.public_keys.items().len() > KEYS_MAX {
            t.public_keys.wrong(log, format!("a stream has at most {KEYS_MAX} keys; remove those no longer used"));
        }
        let insecure_unsigned = t.insecure_unsigned.or(false);
        if t.public_keys.items().is_empty() && !insecure_unsigned {
            let message =
                "a stream needs one of `public_keys`; for a trial without signatures write `insecure_unsigned = true`";
            table.wrong(log, message);
        }
        let allowed = allowed(log, &t.may, "this stream may send no op; list its ops, or remove the stream");
        let keys = t.public_keys.items().iter().filter_map(|key| key.parse(log, keys::parse_public)).collect();
        let scope = t.scope.or(Scope::Gateway);
        streams.extend(name.map(|name| StreamSpec { name, scope, keys, insecure_unsigned, allowed }));
    }
    let owners_of: Vec<_> = tables.iter().map(|table| table.get().map(|t| (&t.name, &t.may))).collect();
    let owned = owners(log, "center.stream", &owners_of);
    let require_issue = center.require_issue.or(false);
    if require_issue && !owned.contains(OpName::Issue) && !owned.contains(OpName::Reissue) {
        let message =
            "no stream may `issue` or `reissue`, so every card would be unknown; allow them to one, or leave this out";
        center.require_issue.wrong(log, message);
    }
    (streams, require_issue)
}

/// The name of a stream that is not among the earlier `names`.
pub(super) fn name(log: &Log, key: &Key<Text<StreamName>>, names: &mut HashSet<StreamName>) -> Option<StreamName> {
    let Text(name) = key.need(log, "")?.clone();
    if !names.insert(name.clone()) {
        key.wrong(log, format!("`{name}` is the name of an earlier stream; give each its own"));
    }
    Some(name)
}

/// The ops of a stream. `unused`: what is reported of a stream without an op.
pub(super) fn allowed(log: &Log, may: &List<Text<Allowed>>, unused: &str) -> AllowedOps {
    if may.need(log, "").is_some_and(Vec::is_empty) {
        may.wrong(log, unused);
    }
    may.values().flat_map(|Text(allowed)| allowed.ops().iter()).collect()
}

/// The `[[center.stream]]` table of a stream, for the configuration of the gateways that it publishes to.
#[must_use]
pub fn stream_table(stream: &StreamSpec) -> String {
    let scope = match stream.scope {
        Scope::Campus => "campus",
        Scope::Gateway => "gateway",
    };
    let list = |items: Vec<String>| items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
    let may = if stream.allowed == AllowedOps::all() {
        vec![ALL.to_owned()]
    } else {
        stream.allowed.iter().map(|op| op.to_string()).collect()
    };
    let keys = list(stream.keys.iter().map(keys::print_public).collect());
    let (name, may) = (&stream.name, list(may));
    format!("[[center.stream]]\nname = \"{name}\"\nscope = \"{scope}\"\npublic_keys = [{keys}]\nmay = [{may}]\n")
}

/// The name of a stream, and its `may`; `None`: its table cannot be read.
pub(super) type Owner<'t> = Option<(&'t Key<Text<StreamName>>, &'t List<Text<Allowed>>)>;

/// Reports ops and groups of ops with two owners; returns the ops that have an owner. `list`: where the streams are listed.
pub(super) fn owners(log: &Log, list: &str, streams: &[Owner<'_>]) -> AllowedOps {
    let mut owner: HashMap<OpName, usize> = HashMap::new();
    // The first owner of each group; another stream in it is reported once.
    let mut group_owner: HashMap<&str, (usize, OpName)> = HashMap::new();
    let mut reported: HashSet<(usize, &str)> = HashSet::new();
    let called = |at: usize| {
        let name = streams.get(at).copied().flatten().and_then(|(name, _)| name.get());
        name.map_or_else(|| format!("{list}[{at}]"), |Text(name)| name.to_string())
    };
    let all = streams.iter().enumerate().filter_map(|(at, stream)| Some((at, (*stream)?.1)));
    for (at, list, key) in all.flat_map(|(at, list)| list.items().iter().map(move |key| (at, list, key))) {
        let op = match key.get() {
            Some(Text(Allowed::One(op))) => *op,
            Some(Text(Allowed::Everything)) => {
                if list.items().len() > 1 {
                    key.wrong(log, "`*` means every op: write it alone");
                }
                if streams.len() > 1 {
                    let message =
                        "`*` is for a gateway with one stream, because exactly one stream may own an op; list its ops";
                    key.wrong(log, message);
                }
                owner.extend(AllowedOps::all().iter().map(|op| (op, at)));
                continue;
            }
            None => continue,
        };
        let group = GROUPS.iter().find(|(ops, _)| ops.contains(op));
        match owner.get(&op) {
            Some(other) if *other == at => {
                key.wrong(log, format!("`{op}` is named twice"));
                continue;
            }
            Some(other) => {
                key.wrong(
                    log,
                    format!("`{op}` belongs to `{}` already; exactly one stream may own an op", called(*other)),
                );
                reported.extend(group.map(|(_, what)| (at, *what)));
                continue;
            }
            None => owner.insert(op, at),
        };
        let Some((ops, what)) = group else { continue };
        let (other, first) = *group_owner.entry(what).or_insert((at, op));
        if other != at && reported.insert((at, what)) {
            let ops: Vec<&str> = ops.iter().map(OpName::as_str).collect();
            key.wrong(log, format!(
                "`{op}` and `{first}`, which belongs to `{}`, both write {what}, and only revisions of one stream show which is \
                 newer; give {} to one stream",
                called(other),
                ops.join(", ")
            ));
        }
    }
    owner.into_keys().collect()
}
