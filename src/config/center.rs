//! `[center]`: the streams, their keys, and who may say what. Exactly one stream owns an op, and ops that write the same
//! registers are of one stream, because revisions of two streams cannot be compared.

use std::collections::{HashMap, HashSet};

use crate::access::id::StreamName;
use crate::profile::document::{Table, Value};
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::keys;
use crate::wire::may::{MaySet, NoSuchOp, OpName};

/// The word in `may` for everything.
const ALL: &str = "*";
/// Most streams of one gateway.
const STREAMS_MAX: usize = 16;
/// Most keys of one stream; each is tried on each of its messages.
const KEYS_MAX: usize = 4;

/// Ops that write the same registers, and what those are.
const GROUPS: [(MaySet, &str); 3] = [
    (MaySet::STANDING, "the standing of cards"),
    (MaySet::of(&[OpName::Enrol, OpName::Withdraw]), "enrolments"),
    (MaySet::of(&[OpName::SuspendPower, OpName::ResumePower]), "the power of rooms"),
];

/// One word of `may`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// `*`.
    Everything,
    /// An op, or `command`.
    One(OpName),
}

impl Said {
    fn parse(text: &str) -> Result<Self, NoSuchOp> {
        if text == ALL { Ok(Self::Everything) } else { text.parse().map(Self::One) }
    }
}

struct Draft<'a> {
    name: Option<(Value<'a>, StreamName)>,
    spec: Option<StreamSpec>,
    may: Vec<(Value<'a>, Said)>,
}

/// Reads `[center]`: the streams and `require_issue`.
pub(super) fn read(top: &mut Table<'_>) -> (Vec<StreamSpec>, bool) {
    top.table("center", |table| {
        let require_issue = table.flag("require_issue", false);
        let drafts = table.tables("stream", read_stream);
        if drafts.len() > STREAMS_MAX {
            table.diagnostic_at("stream", format!("at most {STREAMS_MAX} streams are served"));
        }
        name_once(&drafts);
        let owners = check_owners(&drafts);
        if require_issue && !owners.contains(OpName::Issue) && !owners.contains(OpName::Reissue) {
            let message = "no stream may `issue` or `reissue`, so every card would be unknown; allow them to one, or leave this out";
            table.diagnostic_at("require_issue", message);
        }
        (drafts.into_iter().filter_map(|draft| draft.spec).collect(), require_issue)
    })
    .unwrap_or_default()
}

fn read_stream<'a>(table: &mut Table<'a>) -> Draft<'a> {
    let name = table.need("name").and_then(|v| v.parsed(str::parse::<StreamName>).map(|name| (v, name)));
    let scope = table.choice("scope", &[("gateway", Scope::Gateway), ("campus", Scope::Campus)], Scope::Gateway);
    let insecure_unsigned = table.flag("insecure_unsigned", false);
    let listed = table.get("public_keys").map(|value| (value.items(), value));
    let keys: Vec<_> = match &listed {
        None => Vec::new(),
        Some((items, value)) => {
            if items.len() > KEYS_MAX {
                value.diagnostic(format!("at most {KEYS_MAX} keys are tried; take out those no longer used"));
            }
            items.iter().filter_map(|item| item.parsed(keys::parse_public)).collect()
        }
    };
    if listed.is_none_or(|(items, _)| items.is_empty()) && !insecure_unsigned {
        table.diagnostic(
            "a stream needs one of `public_keys`; for a trial without signatures write `insecure_unsigned = true`",
        );
    }
    let may: Vec<(Value<'a>, Said)> = match table.need("may") {
        None => Vec::new(),
        Some(value) => {
            let items = value.items();
            if items.is_empty() {
                value.diagnostic("a stream that may say nothing is of no use; list its ops, or take the stream out");
            }
            items.into_iter().filter_map(|item| item.parsed(Said::parse).map(|said| (item, said))).collect()
        }
    };
    let one = |said: &Said| match said {
        Said::Everything => MaySet::ALL,
        Said::One(op) => MaySet::of(&[*op]),
    };
    let allowed = may.iter().flat_map(|(_, said)| one(said).iter()).collect();
    let spec =
        name.as_ref().map(|(_, name)| StreamSpec { name: name.clone(), scope, keys, insecure_unsigned, may: allowed });
    Draft { name, spec, may }
}

fn name_once(drafts: &[Draft<'_>]) {
    let mut seen = HashSet::new();
    for (value, name) in drafts.iter().filter_map(|draft| draft.name.as_ref()) {
        if !seen.insert(name) {
            value.diagnostic(format!("`{name}` is the name of an earlier stream; give each its own"));
        }
    }
}

/// Reports what is wrong with who may say what; the ops that somebody may say.
fn check_owners(drafts: &[Draft<'_>]) -> MaySet {
    let mut owner: HashMap<OpName, usize> = HashMap::new();
    // Of each group its first owner; a stream that intrudes is told once.
    let mut group_owner: HashMap<&str, (usize, OpName)> = HashMap::new();
    let mut told: HashSet<(usize, &str)> = HashSet::new();
    let called = |at: usize| {
        let name = drafts.get(at).and_then(|draft| draft.name.as_ref());
        name.map_or_else(|| format!("center.stream[{at}]"), |(_, name)| name.to_string())
    };
    for (at, draft) in drafts.iter().enumerate() {
        for (value, said) in &draft.may {
            let op = match said {
                Said::One(op) => *op,
                Said::Everything => {
                    if draft.may.len() > 1 {
                        value.diagnostic("`*` is everything, so it stands alone");
                    }
                    if drafts.len() > 1 {
                        value.diagnostic(
                            "`*` is only for the only stream, because exactly one stream may own an op; list its ops",
                        );
                    }
                    owner.extend(MaySet::ALL.iter().map(|op| (op, at)));
                    continue;
                }
            };
            let group = GROUPS.iter().find(|(ops, _)| ops.contains(op));
            match owner.get(&op) {
                Some(other) if *other == at => {
                    value.diagnostic(format!("`{op}` is named twice"));
                    continue;
                }
                Some(other) => {
                    value.diagnostic(format!(
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
                        let ops: Vec<&str> = ops.iter().map(OpName::as_str).collect();
                        value.diagnostic(format!(
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
    owner.into_keys().collect()
}
