//! `[[area]]` and `[[walk]]`: areas whose anti-passback differs from that of `[policy]`, and how long nobody takes less between two
//! places.

use std::collections::HashMap;

use serde::Deserialize;

use super::Context;
use super::parts::PortalConfig;
use super::policy::{AntiPassback, TIMED_S_MAX, seconds};
use crate::access::id::Zone;
use crate::access::policy::{AreaRule, Place, Policy, Walk};
use crate::access::portal::PortalKind;
use crate::profile::diagnostic::hint;
use crate::profile::document::{Key, List, Text, Whole};

/// Most walking times of one gateway.
const WALKS_MAX: usize = 1_024;
/// Longest walking time in seconds.
const WALK_S_MAX: i64 = 3_600;

#[derive(Deserialize)]
pub(super) struct AreaTable {
    zone: Key<Text<Zone>>,
    anti_passback: Key<AntiPassback>,
    timed_s: Key<Whole<0, TIMED_S_MAX>>,
}

#[derive(Deserialize)]
pub(super) struct WalkTable {
    from: Key<String>,
    to: Key<String>,
    seconds: Key<Whole<1, WALK_S_MAX>>,
}

/// The areas; what one leaves out is that of `policy`.
pub(super) fn areas(
    cx: &Context<'_>,
    list: &List<AreaTable>,
    policy: &Policy,
    portals: &[PortalConfig],
) -> Vec<AreaRule> {
    let mut owners: HashMap<Zone, String> = HashMap::new();
    let gates = || portals.iter().filter(|p| p.portal.kind == PortalKind::Gate).map(|p| p.portal.zone.as_str());
    let area = |key: &Key<AreaTable>| {
        let t = key.get()?;
        let Text(zone) = t.zone.need(cx.log, "")?;
        if let Some(owner) = owners.insert(zone.clone(), key.place.path.clone()) {
            t.zone.wrong(cx.log, format!("`{zone}` is the area of `{owner}`; write what holds for it in one place"));
        }
        if !gates().any(|known| known == zone.as_str()) {
            t.zone.wrong(cx.log, format!("no gate is in the zone `{zone}`; {}", hint(zone.as_str(), gates())));
        }
        Some(AreaRule {
            zone: zone.clone(),
            anti_passback: t.anti_passback.get().map_or(policy.anti_passback, |named| named.severity()),
            timed_ms: seconds(&t.timed_s).unwrap_or(policy.anti_passback_timed_ms),
        })
    };
    list.items().iter().filter_map(area).collect()
}

/// The walking times.
pub(super) fn walks(cx: &Context<'_>, list: &List<WalkTable>, portals: &[PortalConfig]) -> Vec<Walk> {
    if list.items().len() > WALKS_MAX {
        list.wrong(cx.log, format!("at most {WALKS_MAX} walking times are judged by one gateway"));
    }
    let mut owners: HashMap<[String; 2], String> = HashMap::new();
    let place = |key: &Key<String>| {
        let name = key.need(cx.log, "")?;
        let of = |p: &PortalConfig| (p.portal.id.as_str() == name).then(|| Place::Portal(p.portal.id.clone()));
        let within = |p: &PortalConfig| (p.portal.zone.as_str() == name).then(|| Place::Zone(p.portal.zone.clone()));
        let found = portals.iter().find_map(of).or_else(|| portals.iter().find_map(within));
        if found.is_none() {
            let known = portals.iter().flat_map(|p| [p.portal.id.as_str(), p.portal.zone.as_str()]);
            key.wrong(cx.log, format!("no portal and no zone is named `{name}`; {}", hint(name, known)));
        }
        found
    };
    let walk = |key: &Key<WalkTable>| {
        let t = key.get()?;
        t.seconds.need(cx.log, "");
        let (from, to) = (place(&t.from), place(&t.to));
        let (from, to, walk_ms) = (from?, to?, seconds(&t.seconds)?);
        let mut ends = [t.from.get()?.clone(), t.to.get()?.clone()];
        if from == to {
            t.to.wrong(cx.log, "is the same place as `from`; name the place at the other end of the way");
        }
        ends.sort();
        if let Some(owner) = owners.insert(ends, key.place.path.clone()) {
            key.wrong(cx.log, format!("its way is that of `{owner}`, which holds in both directions; leave one out"));
        }
        Some(Walk { from, to, walk_ms })
    };
    list.items().iter().filter_map(walk).collect()
}
