//! `center prove`: over all gateways, whether a card is dead, and where that is not known.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::{Exit, print_line};
use super::{Args, failed, link};
use crate::access::decision::{GrantReason, Reason};
use crate::access::effect::{QueryResult, Verdict};
use crate::access::event::Outcome;
use crate::access::id::{CardUid, GatewayId};
use crate::access::input::CommandKind;
use crate::center::Attention;

/// Longest time to end the link, in seconds.
const CLOSE_S: u64 = 2;
/// Who asks, for the audit of the gateways.
const ACTOR: &str = "center prove";

#[derive(Debug, clap::Args)]
pub(super) struct ProveArgs {
    /// The card.
    uid: CardUid,
}

pub(super) fn run(args: &Args, prove: &ProveArgs) -> Exit {
    let link::CenterClient { runtime, service, gateways } = match link::start_all(args, Attention::Answers) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let (uid, wait) = (prove.uid, args.link.wait());
    let (service, count) = (Arc::new(service), gateways.len());
    runtime.block_on(async {
        let mut asked = JoinSet::new();
        for gateway in gateways {
            let service = Arc::clone(&service);
            asked.spawn(async move {
                let kind = CommandKind::Query { uid, portal: None };
                let reply = service.command(&gateway, kind, Some(ACTOR), wait).await;
                (gateway, reply)
            });
        }
        let mut proofs = Vec::with_capacity(count);
        while let Some(answered) = asked.join_next().await {
            let Ok((gateway, reply)) = answered else { continue };
            match reply {
                Ok(reply) => proofs.push((gateway, State::of(reply.and_then(|reply| reply.result).as_ref()))),
                Err(error) => return failed(&error),
            }
        }
        if let Some(service) = Arc::into_inner(service) {
            service.close(Duration::from_secs(CLOSE_S)).await;
        }
        proofs.sort();
        report(uid, &proofs)
    })
}

/// What a card is at one gateway. The worst comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It opens these portals.
    Opens(Vec<String>),
    /// The gateway does not answer.
    NotKnown,
    /// It opens nothing at present, for a reason that is no end of the card.
    Denied(Vec<&'static str>),
    /// Replaced, cancelled or lost.
    Dead(Vec<&'static str>),
}

const ENDS: [Reason; 3] = [Reason::Replaced, Reason::Cancelled, Reason::Lost];

impl State {
    fn of(answer: Option<&QueryResult>) -> Self {
        let Some(answer) = answer.filter(|answer| !answer.verdicts.is_empty()) else { return Self::NotKnown };
        // A way out, fire and free access let everybody pass; what stands against the card is then in `also`.
        let is_granted = |verdict: &&Verdict| verdict.outcome == Outcome::Grant(GrantReason::Granted);
        let opens: Vec<String> =
            answer.verdicts.iter().filter(is_granted).map(|verdict| verdict.portal.to_string()).collect();
        if !opens.is_empty() {
            return Self::Opens(opens);
        }
        let reasons = |verdict: &Verdict| {
            let first = match verdict.outcome {
                Outcome::Deny(reason) => Some(reason),
                Outcome::Grant(_) => None,
            };
            first.into_iter().chain(verdict.also.iter().copied()).collect::<Vec<_>>()
        };
        let mut all: Vec<Reason> = answer.verdicts.iter().flat_map(reasons).collect();
        all.sort_unstable();
        all.dedup();
        let is_dead = answer.verdicts.iter().all(|verdict| reasons(verdict).iter().any(|reason| ENDS.contains(reason)));
        if is_dead {
            return Self::Dead(all.into_iter().filter(|reason| ENDS.contains(reason)).map(Reason::as_str).collect());
        }
        Self::Denied(all.into_iter().map(Reason::as_str).collect())
    }

    fn text(&self) -> String {
        match self {
            Self::Opens(portals) => format!("OPENS      {}", portals.join(" ")),
            Self::NotKnown => "NOT KNOWN  no answer".to_owned(),
            Self::Denied(reasons) => format!("denied     {}", reasons.join(", ")),
            Self::Dead(reasons) => format!("dead       {}", reasons.join(", ")),
        }
    }
}

/// One line a gateway, and the sum; done only if the card is dead everywhere.
fn report(uid: CardUid, proofs: &[(GatewayId, State)]) -> Exit {
    for (gateway, state) in proofs {
        if print_line(format!("{:<16} {}", gateway.to_string(), state.text())) != Exit::Done {
            return Exit::Failed;
        }
    }
    let count = |is: fn(&State) -> bool| proofs.iter().filter(|(_, state)| is(state)).count();
    let dead = count(|state| matches!(state, State::Dead(_)));
    let open = count(|state| matches!(state, State::Opens(_)));
    let unknown = count(|state| matches!(state, State::NotKnown));
    let denied = proofs.len() - dead - open - unknown;
    let sum = format!(
        "card {uid}: dead at {dead} of {} gateways, denied for another reason at {denied}, not known at {unknown}, opens something at {open}",
        proofs.len()
    );
    match print_line(sum) {
        Exit::Done if dead == proofs.len() => Exit::Done,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome, also: &[Reason]) -> Verdict {
        Verdict { portal: "gate-in".parse().unwrap(), outcome, also: also.to_vec() }
    }

    fn state(verdicts: Vec<Verdict>) -> State {
        State::of(Some(&QueryResult { verdicts, revocations: Vec::new() }))
    }

    #[test]
    fn a_card_is_dead_only_where_every_portal_denies_it_for_its_end() {
        let deny = |reason, also: &[Reason]| verdict(Outcome::Deny(reason), also);
        let table = [
            (
                vec![deny(Reason::Replaced, &[]), deny(Reason::OutOfService, &[Reason::Lost])],
                "dead       replaced, lost",
            ),
            (vec![verdict(Outcome::Grant(GrantReason::Exit), &[Reason::Cancelled])], "dead       cancelled"),
            (vec![verdict(Outcome::Grant(GrantReason::FreeAccess), &[])], "denied     "),
            (vec![deny(Reason::Replaced, &[]), deny(Reason::NotEnrolled, &[])], "denied     replaced, not_enrolled"),
            (vec![deny(Reason::UnknownCredential, &[])], "denied     unknown_credential"),
            (vec![deny(Reason::Lost, &[]), verdict(Outcome::Grant(GrantReason::Granted), &[])], "OPENS      gate-in"),
            (vec![], "NOT KNOWN  no answer"),
        ];
        for (verdicts, text) in table {
            assert_eq!(state(verdicts).text(), text);
        }
        assert_eq!(State::of(None), State::NotKnown);
    }

    #[test]
    fn what_is_worst_is_reported_first() {
        let mut all = [State::Dead(vec![]), State::Opens(vec![]), State::Denied(vec![]), State::NotKnown];
        all.sort();
        assert_eq!(all, [State::Opens(vec![]), State::NotKnown, State::Denied(vec![]), State::Dead(vec![])]);
    }
}
