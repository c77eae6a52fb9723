//! What is wrong with a broker, by name: found by the link that uses it, logged once, and shown in the gateway's status until it is over.
//!
//! The gateway goes on in each of these cases; resync brings what a broker loses. They are named so that somebody mends the broker.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tracing::warn;

use crate::access::names;
use crate::lock;

names! {
    /// What can be wrong with a broker that a client notices.
    pub enum BrokerFault {
        /// It closes connections before CONNACK.
        ClosesUnanswered,
        /// It rejects a subscription.
        RejectsSubscription,
        /// It grants QoS 0 where QoS 1 was asked for.
        LowersQos,
        /// Connections end as soon as they are made: another client uses the same client id, or the broker ends them for what is published.
        SharesClientId,
        /// It keeps sending what cannot be decoded.
        SendsGarbage,
        /// It never answers a subscription.
        NeverSubscribes,
        /// It kept the session and lost messages of it.
        LosesMessages,
        /// It has no retained head.
        KeepsNoHead,
        /// What was asked for again does not arrive.
        DropsAnswers,
        /// The audit is delivered to it and acknowledged by no center.
        DropsAudit,
        /// A TLS file on this machine is wrong; the files read before it changed are used.
        TlsFiles,
    }
}

/// The faults of one broker connection: of each kind at most one a subject (a filter, a stream), so never more than the site has.
#[derive(Debug, Default)]
pub struct BrokerFaults(Mutex<BTreeMap<(BrokerFault, String), String>>);

impl BrokerFaults {
    /// Notes a fault. Logged when it is new or its detail another.
    pub fn found(&self, link: &'static str, fault: BrokerFault, subject: &str, detail: &str) {
        let before = lock(&self.0).insert((fault, subject.to_owned()), detail.to_owned());
        if before.as_deref() != Some(detail) {
            warn!(link, fault = fault.as_str(), "{detail}");
        }
    }

    /// The faults of this kind are over, of every subject.
    pub fn over(&self, fault: BrokerFault) {
        lock(&self.0).retain(|(of, _), _| *of != fault);
    }

    /// The fault of this kind and subject is over.
    pub fn over_for(&self, fault: BrokerFault, subject: &str) {
        lock(&self.0).remove(&(fault, subject.to_owned()));
    }

    /// Every fault there is now, with what it is and what to do.
    #[must_use]
    pub fn all(&self) -> Vec<(BrokerFault, String)> {
        lock(&self.0).iter().map(|((fault, _), detail)| (*fault, detail.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_kept_once_a_subject_until_it_is_over() {
        let faults = BrokerFaults::default();
        faults.found("test", BrokerFault::LowersQos, "a", "first");
        faults.found("test", BrokerFault::LowersQos, "a", "second");
        faults.found("test", BrokerFault::LowersQos, "b", "other");
        faults.found("test", BrokerFault::KeepsNoHead, "", "no head");
        let texts = |faults: &BrokerFaults| faults.all().into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(&faults), ["second", "other", "no head"]);
        faults.over_for(BrokerFault::LowersQos, "a");
        assert_eq!(texts(&faults), ["other", "no head"]);
        faults.over(BrokerFault::LowersQos);
        assert_eq!(texts(&faults), ["no head"]);
    }
}
