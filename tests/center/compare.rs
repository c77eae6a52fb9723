//! `dormgate center compare`: what it prints of a gateway, and how it ends.

use std::num::NonZeroU32;

use dormgate::access::credential::{Enrolment, Entitlement, ZoneSet};
use dormgate::access::decision::{GrantReason, Reason};
use dormgate::access::effect::{QueryResult, Verdict};
use dormgate::access::engine::StreamStatus;
use dormgate::access::event::Outcome;
use dormgate::access::id::{CardUid, Timestamp};
use dormgate::access::portal::PortalKind;
use dormgate::center::Audience;
use dormgate::wire::digest;
use tempfile::TempDir;

use super::gateway::stream;
use super::*;
use crate::command_line::dormgate;

/// The wait of a comparison that cannot end before, in seconds: until then what is missing may arrive.
const WAIT_S: &str = "5";
const CARDS: [&str; 2] = ["02020304", "01020305"];

/// A center that published three messages, each with its own directory and broker.
struct Published {
    dir: TempDir,
    broker: Broker,
    gateway: Gateway,
    /// Of what was published.
    digest: String,
}

impl Published {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let configuration = create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
        let mut center = Center::open(dir.path(), &[g1()]).unwrap();
        let entitlements = vec![Entitlement { kind: PortalKind::Gate, zone: ZoneSet::Any, schedule: None }];
        let holder = "h1".parse().unwrap();
        let enrolment = Enrolment::resident(holder, entitlements);
        let enrol = |uid: &str| Op::Enrol { uid: uid.parse().unwrap(), enrolment: enrolment.clone() };
        let lost = Op::SetFlag { subject: Subject::Card(CARDS[0].parse().unwrap()), flag: Flag::Lost, on: true };
        for op in [enrol(CARDS[0]), enrol(CARDS[1]), lost] {
            center.publish_ops(Some(&g1()), &[op], Timestamp(1_788_249_600_000)).unwrap();
        }
        let owns = digest::registers_of(center.streams().next().unwrap().allowed);
        let digest = digest::of(center.list(&Audience::Gateway(g1())).unwrap(), &owns).sha256;
        let broker = Broker::start().await.unwrap();
        let gateway = Gateway::start(&broker, &configuration).await;
        Self { dir, broker, gateway, digest }
    }

    async fn compare(&self, more: &[&str]) -> (i32, String, String) {
        let args: Vec<&str> = ["compare"].into_iter().chain(more.iter().copied()).collect();
        dormgate(self.dir.path(), Some(&self.broker), &args).await
    }
}

/// The exit code and the output, when the gateway reports `status` and nothing else within the wait.
async fn compared(status: impl FnOnce(String) -> StreamStatus, more: &[&str]) -> (i32, String) {
    let mut published = Published::new().await;
    let status = status(published.digest.clone());
    published.gateway.state(status, 2, &[]).await;
    let more: Vec<&str> = ["--wait", WAIT_S].iter().chain(more).copied().collect();
    let (code, out, err) = published.compare(&more).await;
    assert_eq!(err, "", "{out}");
    (code, out)
}

#[tokio::test]
async fn a_gateway_that_has_everything_agrees() {
    let (code, out) = compared(|digest| stream(1, 3, Some(digest)), &[]).await;
    assert_eq!((code, out.as_str()), (0, "center 1.3 agrees\n"));
}

#[tokio::test]
async fn what_is_wrong_with_a_gateway_is_named_with_its_remedy_and_fails() {
    let behind = |_| StreamStatus { missing: 1, ..stream(1, 1, None) };
    let (behind, shown, differs, ahead, none, no_digest, epoch) = tokio::join!(
        compared(behind, &[]),
        compared(behind, &["--show", "1"]),
        compared(|_| stream(1, 3, Some("0".repeat(64))), &[]),
        compared(|digest| stream(1, 4, Some(digest)), &[]),
        compared(|_| stream(0, 0, None), &[]),
        compared(|_| stream(1, 3, None), &[]),
        compared(|digest| stream(2, 1, Some(digest)), &[]),
    );
    let lines = |(code, out): (i32, String)| {
        assert_eq!(code, 1, "{out}");
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let behind = lines(behind);
    assert_eq!(
        behind[..2],
        ["center 1.3 BEHIND, has all up to 1.1", "  of the messages behind 1 it reports 1 as missing",]
    );
    assert!(behind[2].starts_with("  1.2 [{") && behind[2].contains(r#""uid":"01020305""#), "{behind:?}");
    assert_eq!(behind[3], r#"  1.3 [{"op":"report_lost","uid":"02020304"}]"#);
    assert!(behind[4].contains("`center watch`") && behind.len() == 5, "{behind:?}");
    let shown = lines(shown);
    assert!(shown[2].starts_with("  1.2 ") && shown[3] == "  and 1 more; `--show 2` shows them", "{shown:?}");
    for (found, line, remedy) in [
        (differs, "center 1.3 DIFFERS", "`center --gateway g1 command resync center` repairs what is missing there"),
        (ahead, "center 1.3 is OLDER than what the gateway has, 1.4", "write it into the file `epoch`"),
        (none, "center 1.3 NOT RECEIVED", "`[[center.stream]]` named `center`"),
        (no_digest, "center 1.3 received, no digest yet", "compare again"),
        (epoch, "center 1.3 is OLDER than what the gateway has, 2.1", "write it into the file `epoch`"),
    ] {
        let found = lines(found);
        assert_eq!(found[0], line);
        assert!(found[1].contains(remedy) && found.len() == 2, "{found:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_away_or_unknown_is_not_compared() {
    let (mut away, unknown) = tokio::join!(Published::new(), Published::new());
    let offline = dormgate::wire::state::encode_offline("b1", 1);
    away.gateway.publish(Up::State, offline).await;
    let (away, unknown) = tokio::join!(away.compare(&[]), unknown.compare(&["--wait", "1"]));
    assert_eq!((away.0, away.1.as_str(), unknown.0, unknown.1.as_str()), (1, "", 1, ""));
    assert!(away.2.contains("`g1` is offline"), "{away:?}");
    assert!(unknown.2.contains("`g1` has no state at this broker"), "{unknown:?}");
}

/// Replies to the next question, for one card.
async fn reply(gateway: &mut Gateway, verdict: impl Fn(CardUid) -> Option<(Outcome, Vec<Reason>)>) {
    let Understood::Command(jti, kind) = gateway.next_but_heads().await else { panic!("no command") };
    let CommandKind::Query { uid, portal: None } = kind else { panic!("{kind:?}") };
    let result = verdict(uid).map(|(outcome, also)| QueryResult {
        verdicts: vec![Verdict::new("gate-in".parse().unwrap(), outcome, also)],
        revocations: Vec::new(),
    });
    let status = if result.is_some() { ReplyStatus::Ok } else { ReplyStatus::Rejected };
    let reply = Reply { jti: Some(jti), status, error: None, result };
    gateway.publish(Up::Reply, up::encode(&reply).unwrap()).await;
}

#[tokio::test]
async fn each_card_is_asked_for_and_what_is_known_otherwise_is_listed() {
    const GRANT: Outcome = Outcome::Grant(GrantReason::Granted);
    let lost: CardUid = CARDS[0].parse().unwrap();
    let right = |uid| if uid == lost { Outcome::Deny(Reason::Lost) } else { GRANT };
    let mut published = Published::new().await;
    published.gateway.state(stream(1, 3, Some(published.digest.clone())), 2, &[]).await;
    let Published { dir, broker, mut gateway, .. } = published;
    let compare = || dormgate(dir.path(), Some(&broker), &["compare", "--cards"]);

    let answering = async {
        for _ in CARDS {
            reply(&mut gateway, |uid| Some((right(uid), Vec::new()))).await;
        }
    };
    let ((code, out, err), ()) = tokio::join!(compare(), answering);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out, "center 1.3 agrees\n2 cards asked for, 0 known otherwise there\n");

    // The digest agrees, and yet the gateway lets the lost card pass.
    let answering = async {
        for _ in CARDS {
            reply(&mut gateway, |_| Some((GRANT, Vec::new()))).await;
        }
    };
    let ((code, out, err), ()) = tokio::join!(compare(), answering);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert_eq!(
        out,
        "center 1.3 agrees\n02020304 lost here and not there\n2 cards asked for, 1 known otherwise there\n"
    );

    let ((code, out, err), ()) = tokio::join!(compare(), reply(&mut gateway, |_| None));
    assert_eq!((code, out.as_str()), (1, "center 1.3 agrees\n"));
    assert!(err.contains("`g1` did not answer for") && err.contains("card 1 of 2"), "{err}");
}
