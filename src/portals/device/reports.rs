//! Reports of portals on their way to the gateway: a full inbox loses no report that a card has left.
//!
//! A request that does not fit is dropped: the portal sends it again, or its reader still shows the card. A report is kept until
//! it fits, merged with the later reports of the same slot, and no request of that portal overtakes it: the order of coming and
//! leaving stays.

use std::collections::BTreeMap;

use crate::access::input::{Input, PortalReport, Request};
use crate::gateway::ports::Inbox;

/// Slots whose reports wait for room at once; a report of one more is dropped. More than a gateway has.
pub const REPORTS_PENDING_MAX: usize = 10_000;
/// How soon a report that did not fit is offered again, in milliseconds.
pub const OFFER_AGAIN_MS: u64 = 20;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// The gateway has it, or will.
    Taken,
    /// It is lost.
    Dropped,
}

/// The way into the gateway, and the reports that wait before it, by portal and slot.
pub struct Reports {
    inbox: Inbox,
    pending: BTreeMap<(String, u8), PortalReport>,
}

impl Reports {
    /// No report waits.
    #[must_use]
    pub fn new(inbox: Inbox) -> Self {
        Self { inbox, pending: BTreeMap::new() }
    }

    /// Whether a report waits for room.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Offers what belongs to no portal.
    pub fn offer(&self, input: Input) -> Offered {
        if self.inbox.offer(input) { Offered::Taken } else { Offered::Dropped }
    }

    /// Passes on what must not be dropped; waits while the lane is full.
    pub async fn urgent(&self, input: Input) {
        if self.inbox.urgent(input).await.is_err() {
            tracing::debug!("the gateway has ended");
        }
    }

    /// Offers a request, behind what its portal has reported.
    pub fn request(&mut self, request: Request) -> Offered {
        let is_of = |(portal, _): &(String, u8)| *portal == request.portal;
        while let Some(key) = self.pending.keys().find(|key| is_of(key)).cloned() {
            if self.retry_one(key) == Offered::Dropped {
                return Offered::Dropped;
            }
        }
        self.offer(Input::Request(request))
    }

    /// Offers a report, or keeps it.
    pub fn report(&mut self, portal: String, report: PortalReport) -> Offered {
        let key = (portal, report.slot);
        let whole = match self.pending.remove(&key) {
            Some(pending) => pending.then(report),
            None => report,
        };
        match self.offer(Input::Report { portal: key.0.clone(), report: whole.clone() }) {
            Offered::Dropped if self.pending.len() < REPORTS_PENDING_MAX => {
                self.pending.insert(key, whole);
                Offered::Taken
            }
            offered => offered,
        }
    }

    /// Offers again what waits.
    pub fn retry(&mut self) {
        while let Some(key) = self.pending.keys().next().cloned() {
            if self.retry_one(key) == Offered::Dropped {
                return;
            }
        }
    }

    fn retry_one(&mut self, key: (String, u8)) -> Offered {
        let Some(report) = self.pending.remove(&key) else { return Offered::Taken };
        let offered = self.offer(Input::Report { portal: key.0.clone(), report: report.clone() });
        if offered == Offered::Dropped {
            self.pending.insert(key, report);
        }
        offered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::input::Presented;
    use crate::access::portal::Assurance;
    use crate::gateway::ports::{InboxReceiver, REQUESTS_MAX};

    fn request(portal: &str) -> Request {
        Request {
            portal: portal.to_owned(),
            id: None,
            presented: Presented::Malformed(String::new()),
            direction: None,
            assurance: Assurance::Uid,
            stale: false,
            slot: 0,
        }
    }

    fn card_present(yes: bool) -> PortalReport {
        PortalReport { card_present: Some(yes), ..PortalReport::default() }
    }

    /// An inbox that is full.
    fn full() -> (Reports, InboxReceiver) {
        let (inbox, taken) = Inbox::new();
        let mut reports = Reports::new(inbox);
        for _ in 0..REQUESTS_MAX {
            assert_eq!(reports.request(request("gate")), Offered::Taken);
        }
        assert_eq!(reports.request(request("gate")), Offered::Dropped);
        (reports, taken)
    }

    fn make_room(taken: &mut InboxReceiver, places: usize) {
        for _ in 0..places {
            assert!(matches!(taken.requests.try_recv(), Ok((Input::Request(_), _))));
        }
    }

    /// What came after the queue of cards.
    fn rest(taken: &mut InboxReceiver) -> Vec<Input> {
        let all = std::iter::from_fn(|| Some(taken.requests.try_recv().ok()?.0));
        all.skip_while(|input| matches!(input, Input::Request(r) if r.portal == "gate")).collect()
    }

    #[test]
    fn a_card_that_left_while_the_inbox_was_full_is_reported_when_there_is_room() {
        let (mut reports, mut taken) = full();
        assert_eq!(reports.report("power".into(), card_present(true)), Offered::Taken);
        let draws = PortalReport { power_w: Some(3.0), ..card_present(false) };
        assert_eq!(reports.report("power".into(), draws.clone()), Offered::Taken);
        reports.retry();
        assert!(reports.is_pending());
        make_room(&mut taken, 1);
        reports.retry();
        assert!(!reports.is_pending());
        let reported = rest(&mut taken);
        assert!(
            matches!(&reported[..], [Input::Report { portal, report }] if portal == "power" && *report == draws),
            "{reported:?}"
        );
    }

    #[test]
    fn a_request_never_overtakes_what_its_portal_has_reported() {
        let (mut reports, mut taken) = full();
        assert_eq!(reports.report("power".into(), card_present(false)), Offered::Taken);
        assert_eq!(reports.request(request("power")), Offered::Dropped, "the portal asks again");
        make_room(&mut taken, 1);
        assert_eq!(reports.request(request("power")), Offered::Dropped, "the report took the only place");
        make_room(&mut taken, 1);
        assert_eq!(reports.request(request("power")), Offered::Taken);
        let reported = rest(&mut taken);
        assert!(matches!(&reported[..], [Input::Report { .. }, Input::Request(_)]), "{reported:?}");
    }

    #[test]
    fn a_fire_goes_ahead_of_everything_and_is_kept_where_not_even_that_is_free() {
        let (mut reports, mut taken) = full();
        let fire = |fire| PortalReport { fire: Some(fire), ..PortalReport::default() };
        assert_eq!(reports.report("gate".into(), fire(true)), Offered::Taken);
        assert!(matches!(taken.urgent.try_recv(), Ok(Input::Report { .. })));
        while reports.inbox.offer(Input::Report { portal: "gate".into(), report: fire(true) }) {}
        assert_eq!(reports.report("gate".into(), fire(true)), Offered::Taken);
        assert_eq!(reports.report("gate".into(), fire(false)), Offered::Taken);
        assert!(taken.urgent.try_recv().is_ok());
        reports.retry();
        let reported: Vec<_> = std::iter::from_fn(|| taken.urgent.try_recv().ok()).collect();
        assert!(reported.iter().all(|i| matches!(i, Input::Report { report, .. } if report.fire == Some(true))));
        assert!(!reports.is_pending(), "a fire that was reported is not taken back by a later report");
    }
}
