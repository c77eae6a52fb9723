//! Reports of portals on their way to the gateway: a full inbox loses no report that a card has left.
//!
//! A request that does not fit is dropped: the portal sends it again. A report is kept until it fits, merged with the later reports
//! of its portal, and no request of that portal overtakes it: the order of coming and leaving stays.

use std::collections::BTreeMap;

use crate::access::input::{Input, PortalReport, Request};
use crate::gateway::ports::Inbox;

/// Portals whose reports wait for room at once; a report of one more is dropped and counted. More than a gateway has.
pub(super) const REPORTS_PENDING_MAX: usize = 10_000;
/// How soon a report that did not fit is offered again, in milliseconds.
pub(super) const OFFER_AGAIN_MS: u64 = 20;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Offered {
    /// The gateway has it, or will.
    Taken,
    /// It is lost.
    Dropped,
}

/// The way into the gateway, and the reports that wait before it.
pub(super) struct Reports {
    inbox: Inbox,
    pending: BTreeMap<String, PortalReport>,
}

impl Reports {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self { inbox, pending: BTreeMap::new() }
    }

    /// Whether a report waits for room.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Offers what belongs to no portal.
    pub(super) fn offer(&self, input: Input) -> Offered {
        if self.inbox.offer(input) { Offered::Taken } else { Offered::Dropped }
    }

    /// Offers a request, behind what its portal has reported.
    pub(super) fn request(&mut self, request: Request) -> Offered {
        if let Some((portal, pending)) = self.pending.remove_entry(&request.portal)
            && let Some(pending) = self.hand_over(&portal, pending)
        {
            self.pending.insert(portal, pending);
            return Offered::Dropped;
        }
        self.offer(Input::Request(request))
    }

    /// Offers a report, or keeps it.
    pub(super) fn report(&mut self, portal: String, report: PortalReport) -> Offered {
        let whole = match self.pending.remove(&portal) {
            Some(pending) => pending.then(report),
            None => report,
        };
        match self.hand_over(&portal, whole) {
            None => Offered::Taken,
            Some(_) if self.pending.len() >= REPORTS_PENDING_MAX => Offered::Dropped,
            Some(whole) => {
                self.pending.insert(portal, whole);
                Offered::Taken
            }
        }
    }

    /// Offers again what waits.
    pub(super) fn retry(&mut self) {
        while let Some((portal, report)) = self.pending.pop_first() {
            if let Some(report) = self.hand_over(&portal, report) {
                self.pending.insert(portal, report);
                return;
            }
        }
    }

    /// Gives the report back if there is no room for it.
    fn hand_over(&self, portal: &str, report: PortalReport) -> Option<PortalReport> {
        let input = Input::Report { portal: portal.to_owned(), report: report.clone() };
        (!self.inbox.offer(input)).then_some(report)
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
            assert!(matches!(taken.requests.try_recv(), Ok(Input::Request(_))));
        }
    }

    /// What came after the queue of cards.
    fn rest(taken: &mut InboxReceiver) -> Vec<Input> {
        let all = std::iter::from_fn(|| taken.requests.try_recv().ok());
        all.skip_while(|input| matches!(input, Input::Request(r) if r.portal == "gate")).collect()
    }

    #[test]
    fn a_card_that_left_while_the_inbox_was_full_is_told_when_there_is_room() {
        let (mut reports, mut taken) = full();
        assert_eq!(reports.report("power".into(), card_present(true)), Offered::Taken);
        let draws = PortalReport { power_w: Some(3.0), ..card_present(false) };
        assert_eq!(reports.report("power".into(), draws.clone()), Offered::Taken);
        reports.retry();
        assert!(reports.is_pending());
        make_room(&mut taken, 1);
        reports.retry();
        assert!(!reports.is_pending());
        let told = rest(&mut taken);
        assert!(
            matches!(&told[..], [Input::Report { portal, report }] if portal == "power" && *report == draws),
            "{told:?}"
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
        let told = rest(&mut taken);
        assert!(matches!(&told[..], [Input::Report { .. }, Input::Request(_)]), "{told:?}");
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
        let told: Vec<_> = std::iter::from_fn(|| taken.urgent.try_recv().ok()).collect();
        assert!(told.iter().all(|i| matches!(i, Input::Report { report, .. } if report.fire == Some(true))));
        assert!(!reports.is_pending(), "a fire that was told is not taken back by what was told after it");
    }
}
