//! Orders on their way to the links: what opens is sent now or never; what closes, and what a center waits for, is kept until it is
//! taken. What may leave only when an event is on disk waits here for that.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::metrics::Metrics;
use super::ports::{PortalOrder, PortalOutlets, UplinkOrder};
use crate::access::id::{Mono, Timestamp};

/// How soon an order that did not fit is offered again, in milliseconds.
pub(super) const RETRY_MS: u64 = 20;
/// Replies and alarms that wait for room on their way to the uplink. Beyond it they are dropped: an alarm is in the audit, a
/// command is asked again.
pub(super) const UPLINK_QUEUED_MAX: usize = 4096;
/// Acks and replies that wait for the disk, and then for room. Beyond it they are dropped: a center sends again what is not
/// acknowledged. More than the 65 535 messages that MQTT lets be under way with QoS 1, so that the broker gets its acknowledgement of
/// each of those; changes of a clean session, or while the disk takes nothing, and commands come with QoS 0, without such a limit.
pub(super) const ANSWERS_MAX: usize = 65_536;

/// The ways out, and what is queued for them.
pub(super) struct Dispatch {
    outlets: PortalOutlets,
    uplink: Option<mpsc::Sender<UplinkOrder>>,
    /// The standing order that did not fit, one a portal: the cut of a box, the mode of a gate or door. The newest counts.
    queued: BTreeMap<String, PortalOrder>,
    uplink_queue: VecDeque<UplinkOrder>,
    /// Acks and replies by the event that must be durable before; they wait for ever.
    answers: BTreeMap<u64, Vec<UplinkOrder>>,
    /// How many; at most [`ANSWERS_MAX`].
    answers_waiting: usize,
    /// Alarms in the order of the event that must be durable before, with the time at which each leaves all the same.
    alarms: VecDeque<(u64, Mono, UplinkOrder)>,
    metrics: Metrics,
}

impl Dispatch {
    pub(super) fn new(outlets: PortalOutlets, uplink: Option<mpsc::Sender<UplinkOrder>>, metrics: Metrics) -> Self {
        Self {
            outlets,
            uplink,
            queued: BTreeMap::new(),
            uplink_queue: VecDeque::new(),
            answers: BTreeMap::new(),
            answers_waiting: 0,
            alarms: VecDeque::new(),
            metrics,
        }
    }

    /// Whether something waits for room.
    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty() || !self.uplink_queue.is_empty()
    }

    /// Sends an order to its portal's link. One that stands and does not fit is kept, and sent before anything else when it does.
    pub(super) fn portal(&mut self, order: PortalOrder) {
        let stands = order.stands();
        // Nothing overtakes what is queued, or a box would be switched off by a cut from before its newest grant.
        match (self.queued.remove(order.portal()).and_then(|before| self.offer(before)), stands) {
            // The mode that waits is not lost for an order that concerns one release.
            (Some(before @ PortalOrder::Mode { .. }), true) if !matches!(order, PortalOrder::Mode { .. }) => {
                self.keep(before);
                self.dropped("is too far behind");
            }
            (Some(_), true) => self.keep(order),
            (Some(before), false) => {
                self.keep(before);
                self.dropped("is too far behind");
            }
            (None, _) => match self.offer(order) {
                Some(order) if stands => {
                    tracing::error!(
                        ?order,
                        "the portal's link is too far behind; the order is sent as soon as it takes one"
                    );
                    self.keep(order);
                }
                // What opens may not open late.
                Some(_) => self.dropped("is too far behind"),
                None => {}
            },
        }
    }

    fn keep(&mut self, order: PortalOrder) {
        self.queued.insert(order.portal().to_owned(), order);
    }

    /// Sends an ack or a reply to the uplink once event `after` is durable.
    pub(super) fn answer_after(&mut self, after: u64, order: UplinkOrder) {
        if self.answers_waiting >= ANSWERS_MAX {
            tracing::error!("the disk is too far behind; an answer to the center was dropped");
            return;
        }
        self.answers_waiting += 1;
        self.answers.entry(after).or_default().push(order);
    }

    /// Sends an alarm to the uplink once event `after` is durable, at `by` at the latest.
    pub(super) fn alarm_after(&mut self, after: u64, alarm: UplinkOrder, by: Mono) {
        self.alarms.push_back((after, by, alarm));
    }

    /// Sends what waited for event `through` or an earlier one, in order.
    pub(super) fn durable(&mut self, through: u64, at: Timestamp) {
        let later = self.answers.split_off(&through.saturating_add(1));
        for mut order in std::mem::replace(&mut self.answers, later).into_values().flatten() {
            self.answers_waiting = self.answers_waiting.saturating_sub(1);
            if let UplinkOrder::Acknowledge { durable_at, .. } = &mut order {
                *durable_at = at;
            }
            self.uplink(order);
        }
        self.alarms_while(|after, _| after <= through);
    }

    /// Sends the alarms that have waited long enough for the disk.
    pub(super) fn overdue_alarms(&mut self, now: Mono) {
        self.alarms_while(|_, by| by <= now);
    }

    fn alarms_while(&mut self, is_due: impl Fn(u64, Mono) -> bool) {
        while self.alarms.front().is_some_and(|(after, by, _)| is_due(*after, *by))
            && let Some((.., alarm)) = self.alarms.pop_front()
        {
            self.uplink(alarm);
        }
    }

    /// When the next alarm has waited long enough.
    pub(super) fn next_alarm(&self) -> Option<Mono> {
        self.alarms.front().map(|(_, by, _)| *by)
    }

    /// Whether an ack or a reply waits for the disk.
    pub(super) fn has_answers(&self) -> bool {
        self.answers_waiting > 0
    }

    /// Sends an order to the uplink. Acks, replies, alarms and resync requests wait for room, in order; a state does not, the next is
    /// newer. `false`: it was dropped for want of room.
    pub(super) fn uplink(&mut self, order: UplinkOrder) -> bool {
        self.retry_uplink();
        let Some(uplink) = &self.uplink else { return true };
        let order = match uplink.try_send(order) {
            // What is under way to an uplink that has ended is sent again after the next start.
            Ok(()) | Err(TrySendError::Closed(_)) => return true,
            Err(TrySendError::Full(order)) => order,
        };
        let room = match order {
            UplinkOrder::State(_) => return false,
            UplinkOrder::Acknowledge { .. } => ANSWERS_MAX,
            UplinkOrder::Streams(_) | UplinkOrder::Unacknowledged(_) => usize::MAX,
            UplinkOrder::Reply(_) | UplinkOrder::Alarm(_) | UplinkOrder::Resync(_) => UPLINK_QUEUED_MAX,
        };
        let fits = self.uplink_queue.len() < room;
        if fits {
            self.uplink_queue.push_back(order);
        } else {
            tracing::error!("the uplink is too far behind; a message to the center was dropped");
        }
        fits
    }

    /// Offers again what did not fit.
    pub(super) fn retry(&mut self) {
        self.retry_uplink();
        for order in std::mem::take(&mut self.queued).into_values() {
            if let Some(order) = self.offer(order) {
                self.keep(order);
            }
        }
    }

    fn retry_uplink(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        while let Some(order) = self.uplink_queue.pop_front() {
            if let Err(TrySendError::Full(order)) = uplink.try_send(order) {
                self.uplink_queue.push_front(order);
                return;
            }
        }
    }

    /// Gives the order back if the link has no room for it.
    fn offer(&self, order: PortalOrder) -> Option<PortalOrder> {
        let unknown = self.outlets.unknown.as_ref().filter(|_| matches!(order, PortalOrder::Answer { .. }));
        let outlet = self.outlets.by_portal.get(order.portal()).or(unknown);
        match outlet?.try_send(order) {
            Ok(()) => None,
            Err(TrySendError::Full(order)) => Some(order),
            Err(TrySendError::Closed(_)) => {
                self.dropped("has ended");
                None
            }
        }
    }

    fn dropped(&self, why: &str) {
        self.metrics.orders_dropped.inc();
        tracing::error!("an order was dropped: the portal's link {why}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::access::decision::Grant;
    use crate::access::portal::Posture;

    fn dispatch(room: usize) -> (Dispatch, mpsc::Receiver<PortalOrder>) {
        let (to, taken) = mpsc::channel(room);
        let by_portal = ["gate", "power", "power-2"].map(|id| (id.parse().unwrap(), to.clone()));
        let outlets = PortalOutlets { by_portal: HashMap::from(by_portal), unknown: None };
        (Dispatch::new(outlets, None, Metrics::default()), taken)
    }

    fn cut(portal: &str) -> PortalOrder {
        PortalOrder::Cut { portal: portal.parse().unwrap(), reason: "replaced" }
    }

    fn energise(portal: &str) -> PortalOrder {
        PortalOrder::Energise { grant: Grant::for_test(portal.parse().unwrap(), None, None), announced: false }
    }

    fn mode(posture: Posture) -> PortalOrder {
        PortalOrder::Mode { portal: "gate".parse().unwrap(), posture }
    }

    fn sent(taken: &mut mpsc::Receiver<PortalOrder>) -> Vec<String> {
        let name = |order: PortalOrder| match &order {
            PortalOrder::Energise { .. } => format!("energise {}", order.portal()),
            PortalOrder::Cut { .. } => format!("cut {}", order.portal()),
            PortalOrder::Mode { posture, .. } => posture.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| taken.try_recv().ok()).map(name).collect()
    }

    #[test]
    fn a_cut_is_never_dropped_because_its_link_is_behind() {
        let (mut dispatch, mut taken) = dispatch(1);
        dispatch.portal(energise("power"));
        dispatch.portal(cut("power"));
        dispatch.portal(cut("power-2"));
        dispatch.portal(cut("power"));
        assert!(dispatch.has_queued());
        assert_eq!(sent(&mut taken), ["energise power"]);
        dispatch.retry();
        assert_eq!(sent(&mut taken), ["cut power"]);
        dispatch.retry();
        assert_eq!(sent(&mut taken), ["cut power-2"]);
        assert!(!dispatch.has_queued());
    }

    #[test]
    fn what_opens_never_overtakes_a_cut_that_waits_and_is_not_kept_for_later() {
        let (mut dispatch, mut taken) = dispatch(1);
        dispatch.portal(energise("power-2"));
        dispatch.portal(cut("power"));
        dispatch.portal(energise("power"));
        assert_eq!(sent(&mut taken), ["energise power-2"]);
        dispatch.portal(energise("power"));
        assert_eq!(sent(&mut taken), ["cut power"], "the cut took the only place");
        assert!(!dispatch.has_queued());
        dispatch.portal(energise("power"));
        assert_eq!(sent(&mut taken), ["energise power"]);
    }

    #[test]
    fn of_the_modes_that_wait_the_newest_is_sent() {
        let (mut dispatch, mut taken) = dispatch(1);
        dispatch.portal(cut("power"));
        dispatch.portal(mode(Posture::FreeAccess));
        dispatch.portal(mode(Posture::Lockdown));
        assert_eq!(sent(&mut taken), ["cut power"]);
        dispatch.retry();
        assert_eq!(sent(&mut taken), ["lockdown"]);
        assert!(!dispatch.has_queued());
    }

    #[test]
    fn a_mode_that_waits_is_not_lost_for_an_order_that_concerns_one_release() {
        let (mut dispatch, mut taken) = dispatch(1);
        dispatch.portal(cut("power"));
        dispatch.portal(mode(Posture::Lockdown));
        dispatch.portal(PortalOrder::Withdraw { portal: "gate".parse().unwrap(), reason: "lost" });
        assert_eq!(sent(&mut taken), ["cut power"]);
        dispatch.retry();
        assert_eq!(sent(&mut taken), ["lockdown"]);
        assert!(!dispatch.has_queued());
    }

    #[test]
    fn what_a_center_waits_for_is_queued_in_order_and_a_state_is_not() {
        use crate::access::effect::{Have, Resync, ResyncReason};
        let (to, mut orders) = mpsc::channel(1);
        let mut dispatch = Dispatch::new(PortalOutlets::default(), Some(to), Metrics::default());
        let resync = |name: &str| {
            let resync = Resync {
                stream: name.parse().unwrap(),
                reason: ResyncReason::Gap,
                have: Have { epoch: 1, seq: 1 },
                missing: Vec::new(),
            };
            UplinkOrder::Resync(Box::new(resync))
        };
        let names = |order| match order {
            UplinkOrder::Resync(resync) => resync.stream.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        for name in ["a", "b", "c"] {
            dispatch.uplink(resync(name));
        }
        dispatch.uplink(UplinkOrder::State(Box::default()));
        let mut received = Vec::new();
        while let Ok(order) = orders.try_recv() {
            received.push(names(order));
            dispatch.retry();
        }
        assert_eq!(received, ["a", "b", "c"]);
    }

    #[test]
    fn acks_that_wait_for_the_disk_or_for_room_are_bounded_and_the_first_are_kept() {
        use crate::access::effect::Ack;
        use crate::access::input::Receipt;
        let (to, mut orders) = mpsc::channel(1);
        let mut dispatch = Dispatch::new(PortalOutlets::default(), Some(to), Metrics::default());
        let ack = |n| UplinkOrder::Acknowledge {
            ack: Box::new(Ack::rejected(Vec::new(), Timestamp(0))),
            receipt: Receipt(n),
            durable_at: Timestamp(0),
        };
        let answers_max = u64::try_from(ANSWERS_MAX).unwrap();
        for n in 1..=answers_max + 10 {
            dispatch.answer_after(n, ack(n));
        }
        for n in 1..=10 {
            dispatch.durable(n, Timestamp(0));
            dispatch.answer_after(n + 2 * answers_max, ack(n + 2 * answers_max));
        }
        dispatch.durable(u64::MAX, Timestamp(0));
        for n in 1..=answers_max {
            dispatch.uplink(ack(n));
        }
        let mut received = Vec::new();
        while let Ok(UplinkOrder::Acknowledge { receipt, .. }) = orders.try_recv() {
            received.push(receipt.0);
            dispatch.retry();
        }
        // One is in the channel beside what is queued.
        assert_eq!(received.len(), ANSWERS_MAX + 1);
        assert!(received.iter().take(ANSWERS_MAX).copied().eq(1..=answers_max), "the oldest");
    }
}
