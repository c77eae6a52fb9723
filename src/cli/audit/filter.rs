//! Which events a tail or an export is about.

use std::path::Path;

use super::AuditError;
use crate::access::decision::GrantFlag;
use crate::access::event::EventKind;
use crate::access::id::{CardUid, Holder, PortalId, Timestamp};
use crate::config;
use crate::http::client;
use crate::profile::diagnostic::hint;

/// Which events.
#[derive(Debug, Default, clap::Args)]
pub(super) struct FilterArgs {
    /// Only events at this portal.
    #[arg(long)]
    pub(super) portal: Option<PortalId>,
    /// Only events about this card: its UID, or the hash in its place, `h:…`.
    #[arg(long, value_parser = CardUid::parse_audited)]
    pub(super) uid: Option<CardUid>,
    /// Only events about this holder.
    #[arg(long)]
    pub(super) holder: Option<Holder>,
    /// Only events of these types, e.g. `decision` or `command,posture`; may be given several times.
    #[arg(long = "type", value_name = "TYPE", value_parser = event_kind, value_delimiter = ',')]
    pub(super) kinds: Vec<EventKind>,
    /// Only decisions with this flag, e.g. `late`.
    #[arg(long, value_parser = flag)]
    pub(super) flag: Option<String>,
    /// Only events from this time on, e.g. `2026-09-01T08:00:00+08:00`.
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<Timestamp>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<Timestamp>,
}

fn event_kind(name: &str) -> Result<EventKind, String> {
    let known = EventKind::ALL.iter().copied().find(|kind| kind.as_str() == name);
    known.ok_or_else(|| hint(name, EventKind::ALL.iter().map(|kind| kind.as_str())))
}

fn flag(name: &str) -> Result<String, String> {
    let known = GrantFlag::parse(name).map(|flag| flag.as_str().to_owned());
    known.ok_or_else(|| "a flag like `late` or `stale_list` is wanted".to_owned())
}

impl FilterArgs {
    /// As the end of a query: each begins with `&`.
    pub(super) fn query(&self) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let all = [
            ("portal", self.portal.as_ref().map(ToString::to_string)),
            ("uid", self.uid.map(|uid| uid.to_string())),
            ("holder", self.holder.as_ref().map(ToString::to_string)),
            ("type", (!kinds.is_empty()).then(|| kinds.join(","))),
            ("flag", self.flag.clone()),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ];
        let given = all.into_iter().filter_map(|(key, value)| Some(format!("&{key}={}", client::encode(&value?))));
        given.collect()
    }

    /// Nothing was found: whether a portal of the configuration was asked for. A portal of before is only in the events. With a
    /// configuration that cannot be read, nobody knows.
    pub(super) fn is_of_a_portal(&self, config: &Path) -> Result<(), AuditError> {
        let Some((id, site)) = self.portal.as_ref().zip(config::load(config).ok()) else { return Ok(()) };
        let ids: Vec<_> = site.portals.iter().map(|of| of.portal.id.as_str()).collect();
        if ids.contains(&id.as_str()) {
            return Ok(());
        }
        Err(AuditError::NoSuchPortal(id.clone(), hint(id.as_str(), ids.iter().copied())))
    }
}
