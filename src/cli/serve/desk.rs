//! The desk put together: the store opened, and the engine set up over what was kept.

use tokio::sync::mpsc;

use super::{ServeError, modbus};
use crate::access::audit::AlarmKind;
use crate::access::engine::{Engine, Setup, StreamRole};
use crate::access::input::Input;
use crate::access::state::State;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::metrics::Metrics;
use crate::gateway::owner::{GatewayCore, Identity};
use crate::gateway::ports::{PortalOutlets, UplinkOrder};
use crate::store::{Options, Recovered, Store, StoreEvents, Wholeness};
use crate::wire::envelope::StreamSpec;
use crate::wire::may::OpName;

/// Opens the store of the configured gateway and logs what was found.
pub(super) fn open_store(config: &Config) -> Result<(Store, StoreEvents, Recovered<State>), ServeError> {
    let (store, events, recovered) = Store::open::<State>(&config.data_dir, store_options(config))?;
    for finding in &recovered.findings {
        tracing::warn!("store: {finding}");
    }
    tracing::info!(
        cards = recovered.state.list.len(),
        events_replayed = recovered.events_replayed,
        next_n = recovered.next_n,
        took_ms = recovered.took_ms,
        whole = recovered.whole == Wholeness::Whole,
        "the store is open"
    );
    Ok((store, events, recovered))
}

/// The desk as it stands when the gateway starts: the rules over what was kept, and the boot told to the audit.
#[expect(clippy::too_many_arguments, reason = "this is where everything meets")]
pub(super) fn start_desk(
    config: &Config,
    recovered: Recovered<State>,
    store: &Store,
    clock: &Clock,
    outlets: PortalOutlets,
    uplink: Option<mpsc::Sender<UplinkOrder>>,
    identity: Identity,
    metrics: &Metrics,
) -> Result<GatewayCore<Store>, ServeError> {
    let Recovered { mut state, next_n, whole, lost, findings, took_ms, events_replayed, .. } = recovered;
    // The store knows the highest number ever told, also where the event itself is lost.
    state.last_n = state.last_n.max(next_n.saturating_sub(1));
    let setup = Setup {
        portals: config.portals.iter().map(|p| p.portal.clone()).collect(),
        lossy: modbus::lossy_readers(config).map_err(ServeError::Modbus)?,
        policy: config.policy.clone(),
        streams: stream_roles(config),
        boot: identity.boot.clone(),
    };
    let version = identity.version.clone();
    let cards = state.list.len();
    let mut desk =
        GatewayCore::new(Engine::new(setup, state), store.clone(), outlets, uplink, identity, metrics.clone());
    let now = clock.now();
    desk.durable(store.last_durable(), now);
    desk.acked(store.acked());
    for (from, to) in lost {
        match whole {
            Wholeness::Whole => desk.input(Input::Lost { from, to }, now),
            Wholeness::Damaged { .. } => desk.damaged(from, to, now),
        }
    }
    let found = if findings.is_empty() { "store whole".to_owned() } else { format!("{} finding(s)", findings.len()) };
    let found = format!("{found}: {cards} cards, {events_replayed} events replayed in {took_ms} ms");
    desk.input(Input::Boot { found, version }, now);
    for finding in findings {
        let detail = finding.to_string();
        desk.input(Input::Alarm { kind: AlarmKind::Store, portal: None, detail }, now);
    }
    for detail in config.insecure.clone() {
        tracing::warn!("insecure: {detail}");
        desk.input(Input::Alarm { kind: AlarmKind::Insecure, portal: None, detail }, now);
    }
    Ok(desk)
}

/// Whose words are heard, for the rules.
fn stream_roles(config: &Config) -> Vec<StreamRole> {
    let role = |stream: &StreamSpec| StreamRole {
        name: stream.name.clone(),
        owns_standing: stream.may.contains(OpName::Issue) || stream.may.contains(OpName::Reissue),
    };
    config.streams.iter().map(role).collect()
}

/// How the store behaves.
fn store_options(config: &Config) -> Options {
    Options {
        flush_ms: u64::from(config.audit.flush_ms),
        retain_events: config.audit.retain_events.get(),
        retain_days: config.audit.retain_days,
        ..Options::default()
    }
}
