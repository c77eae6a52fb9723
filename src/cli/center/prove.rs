//! `center prove`: over all gateways, whether a card is dead and since when, and where that is not known yet.

use super::super::{Exit, print_error, print_line};
use super::link::{self, Client};
use super::target::Kept;
use super::{Args, Ended, failed};
use crate::access::decision::{GrantReason, Reason};
use crate::access::effect::{PortalProof, QueryResult, RevocationProof, Verdict};
use crate::access::event::Outcome;
use crate::access::id::{CardUid, GatewayId};
use crate::access::input::CommandKind;
use crate::center::Attention;

/// Who asks, for the audit of the gateways.
const ACTOR: &str = "center prove";

#[derive(Debug, clap::Args)]
pub(super) struct ProveArgs {
    /// The card.
    uid: CardUid,
}

pub(super) fn run(args: &Args, prove: &ProveArgs) -> Ended {
    let Client { runtime, target, gateways } = link::start_all(args, Attention::Answers)?;
    let (uid, wait) = (prove.uid, args.link.wait());
    runtime.block_on(async {
        let kind = CommandKind::Query { uid, portal: None };
        let replies = target.command_all(gateways, &kind, ACTOR, wait).await;
        let mut kept = target.kept_proof(uid).await.map_err(failed)?;
        target.close().await;
        let mut proofs = Vec::with_capacity(replies.len());
        for (gateway, reply) in replies {
            let answer = match reply {
                Ok(reply) => reply.and_then(|reply| reply.result),
                // What is kept of its audit may prove it all the same.
                Err(error) => {
                    print_error(format!("`{gateway}` was not asked: {error}"));
                    None
                }
            };
            proofs.push(Proof::new(answer, kept.remove(&gateway), gateway));
        }
        proofs.sort_by(|one, other| (&one.gateway, &one.state).cmp(&(&other.gateway, &other.state)));
        Ok(report(uid, &proofs))
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

/// What a card is at one gateway, since when, and what has followed from that there.
#[derive(Debug)]
struct Proof {
    gateway: GatewayId,
    state: State,
    /// Newest first.
    revocations: Vec<RevocationProof>,
}

impl Proof {
    /// From the gateway's answer, and from what the center has where the gateway does not answer or does not remember.
    fn new(answer: Option<QueryResult>, kept: Option<Kept>, gateway: GatewayId) -> Self {
        let mut state = State::of(answer.as_ref());
        let mut revocations = answer.map(|answer| answer.revocations).unwrap_or_default();
        if let Some((known_by, revocation)) = kept {
            if state == State::NotKnown {
                state = State::Dead(vec![known_by]);
            }
            if revocations.is_empty() && matches!(state, State::Dead(_)) {
                revocations.push(revocation);
            }
        }
        Self { gateway, state, revocations }
    }

    /// Since when the card opens nothing. After the newest revocation nothing was given back.
    fn since(&self) -> String {
        match (&self.state, self.revocations.first()) {
            (State::Opens(_) | State::NotKnown, _) => String::new(),
            (State::Denied(_) | State::Dead(_), Some(newest)) => format!("; since {}", newest.in_force_at),
            (State::Denied(_), None) => String::new(),
            (State::Dead(_), None) => {
                "; since when is NOT KNOWN: it could open nothing there before, or the gateway has forgotten".to_owned()
            }
        }
    }

    fn open_portals(&self) -> impl Iterator<Item = &PortalProof> {
        let all = self.revocations.iter().flat_map(|revocation| &revocation.portals);
        all.filter(|portal| portal.confirmed_at.is_none())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:<16} {}{}", self.gateway.as_str(), self.state.text(), self.since())];
        if matches!(self.state, State::Opens(_) | State::NotKnown) {
            return lines;
        }
        for (at, revocation) in self.revocations.iter().enumerate() {
            // Of an older revocation only what is still to be done counts.
            let is_open = revocation.portals.iter().any(|portal| portal.confirmed_at.is_none());
            if at == 0 || is_open {
                lines.push(format!("  {}", times(revocation)));
                let portals = revocation.portals.iter().filter(|portal| at == 0 || portal.confirmed_at.is_none());
                lines.extend(portals.map(|portal| format!("  {}", confirmation(portal))));
            }
        }
        lines
    }
}

/// `card-office 1.2: received 2026-09-01T08:00:00.000Z, in force 2026-09-01T08:00:00.001Z, on disk 2026-09-01T08:00:00.020Z`
fn times(revocation: &RevocationProof) -> String {
    let RevocationProof { revision, received_at, in_force_at, durable_at, .. } = revocation;
    let durable = durable_at.map_or_else(|| "NOT YET on disk".to_owned(), |at| format!("on disk {at}"));
    let (stream, epoch, seq) = (&revision.stream, revision.epoch, revision.seq);
    format!("{stream} {epoch}.{seq}: received {received_at}, in force {in_force_at}, {durable}")
}

/// `power-412: confirmed 2026-09-01T08:00:00.200Z (off)`
fn confirmation(portal: &PortalProof) -> String {
    let how = portal.how.map_or(String::new(), |how| format!(" ({})", how.as_str()));
    match portal.confirmed_at {
        Some(at) => format!("{}: confirmed {at}{how}", portal.portal),
        None => format!("{}: NOT CONFIRMED; the gateway goes on asking it", portal.portal),
    }
}

/// Some lines a gateway, and the sum; done only if the card is dead everywhere and every portal has confirmed it.
fn report(uid: CardUid, proofs: &[Proof]) -> Exit {
    for line in proofs.iter().flat_map(Proof::lines) {
        print_line(line);
    }
    let count = |is: fn(&State) -> bool| proofs.iter().filter(|proof| is(&proof.state)).count();
    let dead = count(|state| matches!(state, State::Dead(_)));
    let open = count(|state| matches!(state, State::Opens(_)));
    let unknown = count(|state| matches!(state, State::NotKnown));
    let denied = proofs.len() - dead - open - unknown;
    let unconfirmed = proofs.iter().flat_map(Proof::open_portals).count();
    let unconfirmed_text = match unconfirmed {
        0 => String::new(),
        1 => ", 1 portal has not confirmed it".to_owned(),
        n => format!(", {n} portals have not confirmed it"),
    };
    let sum = format!(
        "card {uid}: dead at {dead} of {} gateways, denied for another reason at {denied}, not known at {unknown}, opens something at {open}{unconfirmed_text}",
        proofs.len()
    );
    match print_line(sum) {
        Exit::Done | Exit::Closed if dead == proofs.len() && unconfirmed == 0 => Exit::Done,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::event::{Confirmation, StreamRevision};
    use crate::access::id::Timestamp;

    fn verdict(outcome: Outcome, also: &[Reason]) -> Verdict {
        Verdict::new("gate-in".parse().unwrap(), outcome, also.to_vec())
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

    fn revocation(seq: u64, in_force: i64, portals: &[(&str, Option<i64>)]) -> RevocationProof {
        let portal = |(name, at): &(&str, Option<i64>)| PortalProof {
            portal: name.parse().unwrap(),
            confirmed_at: at.map(Timestamp),
            how: at.map(|_| Confirmation::Off),
        };
        RevocationProof {
            n: seq,
            revision: StreamRevision { stream: "office".parse().unwrap(), epoch: NonZeroU32::MIN, seq },
            received_at: Timestamp(in_force - 1),
            in_force_at: Timestamp(in_force),
            durable_at: Some(Timestamp(in_force + 9)),
            portals: portals.iter().map(portal).collect(),
        }
    }

    fn proof(revocations: Vec<RevocationProof>, kept: Option<Kept>) -> Proof {
        let verdicts = vec![verdict(Outcome::Deny(Reason::Replaced), &[])];
        Proof::new(Some(QueryResult { verdicts, revocations }), kept, "xing1".parse().unwrap())
    }

    #[test]
    fn a_dead_card_is_shown_with_the_times_of_its_newest_revocation_and_with_what_is_still_open() {
        let newest = revocation(9, 10_000, &[("power-412", Some(10_200)), ("power-413", None)]);
        let older = revocation(3, 5_000, &[("power-1", Some(5_100)), ("power-2", None)]);
        let shown = proof(vec![newest, older, revocation(1, 1_000, &[("power-3", Some(2_000))])], None);
        assert_eq!(
            shown.lines(),
            [
                "xing1            dead       replaced; since 1970-01-01T00:00:10.000Z",
                "  office 1.9: received 1970-01-01T00:00:09.999Z, in force 1970-01-01T00:00:10.000Z, on disk 1970-01-01T00:00:10.009Z",
                "  power-412: confirmed 1970-01-01T00:00:10.200Z (off)",
                "  power-413: NOT CONFIRMED; the gateway goes on asking it",
                "  office 1.3: received 1970-01-01T00:00:04.999Z, in force 1970-01-01T00:00:05.000Z, on disk 1970-01-01T00:00:05.009Z",
                "  power-2: NOT CONFIRMED; the gateway goes on asking it",
            ]
        );
        assert_eq!(shown.open_portals().count(), 2);
        let uid = "1EA68671".parse().unwrap();
        assert_eq!(report(uid, &[shown]), Exit::Failed, "two portals have not confirmed it");
        assert_eq!(report(uid, &[proof(vec![revocation(9, 10_000, &[("power-412", Some(1))])], None)]), Exit::Done);
    }

    #[test]
    fn what_the_center_has_proves_it_where_the_gateway_does_not_answer_or_does_not_remember() {
        let kept = || Some(("no answer now, known by its audit", revocation(9, 10_000, &[])));
        let text = |proof: &Proof| proof.lines().swap_remove(0);
        let silent = Proof::new(None, kept(), "xing1".parse().unwrap());
        let known = "xing1            dead       no answer now, known by its audit; since 1970-01-01T00:00:10.000Z";
        assert_eq!(text(&silent), known);
        assert_eq!(
            text(&proof(vec![], kept())),
            "xing1            dead       replaced; since 1970-01-01T00:00:10.000Z"
        );
        let nowhere = text(&proof(vec![], None));
        assert!(nowhere.contains("since when is NOT KNOWN"), "{nowhere}");
        let opens = vec![verdict(Outcome::Grant(GrantReason::Granted), &[])];
        let opens = QueryResult { verdicts: opens, revocations: vec![] };
        let opens = Proof::new(Some(opens), kept(), "xing1".parse().unwrap());
        assert_eq!(opens.lines(), ["xing1            OPENS      gate-in"], "the gateway's own word counts");
    }
}
