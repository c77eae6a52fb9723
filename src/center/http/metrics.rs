//! Counters for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::super::{GatewayEvent, Report};
use super::Shared;
use crate::browser;

/// What is counted. Clones count together.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    pub(super) messages: Counter,
    pub(super) wrong_tokens: Counter,
    acks: Counter,
    rejected: Counter,
    alarms: Counter,
    audit_events: Counter,
    audit_trouble: Counter,
    resyncs: Counter,
    problems: Counter,
    link_up: Gauge,
    ahead: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("dormgate_center");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let (messages, wrong_tokens) = (
            counter("messages_published", "Change messages signed and kept"),
            counter("wrong_tokens", "Requests without the token of a client"),
        );
        let acks = counter("acks", "Acks received");
        let rejected = counter("acks_rejected", "Acks received with which a gateway refuses a message");
        let alarms = counter("alarms", "Alarms received");
        let audit_events = counter("audit_events", "Audit events kept");
        let audit_trouble = counter("audit_trouble", "Batches of an audit that do not follow what is kept");
        let resyncs = counter("resyncs", "Requests of gateways to send again");
        let problems = counter("problems", "Messages of gateways that cannot be read, or are passed over");
        let link_up = Gauge::default();
        registry.register("link_up", "1 while the broker is connected", link_up.clone());
        let ahead = Gauge::default();
        let help = "Streams of gateways that have numbers which this center never published: its own were used before";
        registry.register("streams_ahead", help, ahead.clone());
        let registry = Arc::new(registry);
        Self {
            registry,
            messages,
            wrong_tokens,
            acks,
            rejected,
            alarms,
            audit_events,
            audit_trouble,
            resyncs,
            problems,
            link_up,
            ahead,
        }
    }
}

impl Metrics {
    pub(super) fn count(&self, Report { gateway, event }: &Report) {
        match event {
            GatewayEvent::Up => drop(self.link_up.set(1)),
            GatewayEvent::Down(_) => drop(self.link_up.set(0)),
            GatewayEvent::Ack(ack) => {
                self.acks.inc();
                if ack.outcome == crate::access::effect::Outcome::Rejected {
                    self.rejected.inc();
                }
            }
            GatewayEvent::Alarm(_) => drop(self.alarms.inc()),
            GatewayEvent::Audit(events) => {
                self.audit_events.inc_by(u64::try_from(events.len()).unwrap_or(0));
            }
            GatewayEvent::Trouble(_) => drop(self.audit_trouble.inc()),
            GatewayEvent::Resync(..) => drop(self.resyncs.inc()),
            GatewayEvent::Problem(_) if gateway.is_some() => drop(self.problems.inc()),
            GatewayEvent::Reply(_) | GatewayEvent::State(_) | GatewayEvent::Problem(_) => {}
        }
    }
}

pub(super) async fn page(State(api): State<Shared>) -> Response {
    // While the center stops, the last number stands.
    if let Ok(ahead) = api.service.ask(|center| center.ahead().len()).await {
        api.metrics.ahead.set(i64::try_from(ahead).unwrap_or(i64::MAX));
    }
    browser::metrics(&api.metrics.registry)
}
