//! Where a card is dead, as `GET /v1/cards/UID/proof` answers it from what gateways published.

use std::num::NonZeroU32;
use std::path::Path;

use dormgate::access::change::Position;
use dormgate::access::effect::{Ack, Outcome};
use dormgate::access::event::{AuditEvent, Event, StreamRevision};
use dormgate::access::id::{ClockTrust, GatewayId, Holder, Mono, Now, Timestamp};
use dormgate::center::database::{Database, Retention};
use dormgate::center::{Audience, Center as Office, Published, PublishedKind};
use dormgate::wire::{audit, digest, down, up};
use serde_json::{Value, json};

use crate::rig::{ALL, Center, NEW, NO_BROKER, OLD};

const NOW: Timestamp = Timestamp(1_788_249_600_000);

/// The center's database before it starts.
struct Filled(Office<Database>, Vec<(GatewayId, Vec<Vec<u8>>)>);

impl Filled {
    fn of(dir: &Path) -> Self {
        let at = dormgate::config::load_center(&dir.join("center.toml")).unwrap();
        let retention = Retention { audit_days: 1, acks_days: 1, requests_days: 1 };
        let database = Database::open(&at.data_file, NonZeroU32::MIN, retention).unwrap();
        Self(Office::new(database, at.streams, at.gateways).unwrap(), Vec::new())
    }

    fn publish(&mut self, to: Option<&str>, ops: &Value) {
        let ops = down::read_ops(&ops.to_string()).unwrap();
        let to = to.map(|to| to.parse::<GatewayId>().unwrap());
        self.0.publish_ops(to.as_ref(), &ops, NOW).unwrap();
    }

    fn published(&mut self, gateway: &str, kind: PublishedKind, body: String) {
        let one = Published { gateway: gateway.parse().unwrap(), received_at: NOW, kind, body };
        self.0.keep(&[one], &[]).unwrap();
    }

    /// The gateway's answer to message 1.`seq` of the card office.
    fn ack(&mut self, gateway: &str, seq: u64, outcome: Outcome, revoked: &[&str]) {
        self.ack_through(gateway, seq, (outcome, seq), revoked);
    }

    /// The same of one that has all messages up to `through`.
    fn ack_through(&mut self, gateway: &str, seq: u64, (outcome, through): (Outcome, u64), revoked: &[&str]) {
        let ack = Ack {
            stream: Some("card-office".parse().unwrap()),
            at: Some(Position { epoch: NonZeroU32::MIN, seq }),
            outcome,
            applied_through: through,
            revoked: revoked.iter().map(|uid| uid.parse().unwrap()).collect(),
            ..Ack::rejected(Vec::new(), NOW)
        };
        let body = String::from_utf8(up::encode_ack(&ack, NOW).unwrap()).unwrap();
        self.published(gateway, PublishedKind::Ack(Box::new(ack)), body);
    }

    fn state(&mut self, gateway: &str, seq: u64, digest: &str) {
        let stream = json!({"name": "card-office", "epoch": 1, "seq": seq, "missing": 0, "digest": digest});
        let state = json!({"v": 1, "state": "online", "streams": [stream]});
        self.published(gateway, PublishedKind::State, state.to_string());
    }

    /// The digest of the card office's list here.
    fn digest(&self) -> String {
        let allowed = self.0.streams().find(|stream| stream.name.as_str() == "card-office").unwrap().allowed;
        digest::of(self.0.list(&Audience::Campus).unwrap(), &digest::registers_of(allowed)).sha256
    }

    /// The gateway's next event: the card of `holder` is revoked by message 1.`seq` of a stream.
    fn revoked(&mut self, gateway: &str, holder: &str, (stream, seq): (&str, u64)) {
        let gateway: GatewayId = gateway.parse().unwrap();
        if !self.1.iter().any(|(of, _)| *of == gateway) {
            self.1.push((gateway.clone(), Vec::new()));
        }
        let events = &mut self.1.iter_mut().find(|(of, _)| *of == gateway).unwrap().1;
        let n = events.len() as u64 + 1;
        let prev = events.last().map_or(audit::NO_HASH, |last| audit::hash(last));
        let now = Now { wall: NOW, mono: Mono(0), clock: ClockTrust::Trusted };
        let holder: Option<Holder> = Some(holder.parse().unwrap());
        let revision = StreamRevision { stream: stream.parse().unwrap(), epoch: NonZeroU32::MIN, seq };
        let event = Event::Revoked { uid: OLD.parse().unwrap(), holder, revision, received_at: NOW, cut: Vec::new() };
        let bytes = audit::encode(&AuditEvent::new(n, "b1", now, event), &[], &prev);
        let batch = up::encode_audit("b1", n - 1, n, std::slice::from_ref(&bytes)).unwrap();
        events.push(bytes);
        assert_eq!(self.0.receive_audit(&gateway, &batch, NOW).unwrap().0.trouble, []);
    }
}

/// The proof that a center without a broker gives after `fill`: whether the card is dead, where and by what, and where it is unknown.
/// `alone`: of the card office; another center enrols.
async fn proof(alone: bool, fill: impl FnOnce(&mut Filled)) -> (bool, Vec<(String, Value)>, Value) {
    let prepare = |dir: &Path| {
        let file = dir.join("center.toml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        if alone {
            let (before, apartment) = text.split_once("[[stream]]\nname = \"apartment\"").unwrap();
            let (_, after) = apartment.split_once("[[gateway]]").unwrap();
            text = format!("{before}[[gateway]]{after}");
        }
        // The clock of this machine goes on, and what was received at `NOW` must not become too old to be kept.
        std::fs::write(&file, text + "[retention]\naudit_days = 36500\nacks_days = 36500\n").unwrap();
        fill(&mut Filled::of(dir));
    };
    let center = Center::start_prepared(NO_BROKER, &["g1", "g2"], prepare).await;
    let body = center.get(&format!("/v1/cards/{OLD}/proof"), ALL).await.body;
    center.program.stop().await;
    let gateways = body["gateways"].as_array().unwrap().iter();
    let gateways = gateways.map(|at| (at["gateway"].as_str().unwrap().to_owned(), at["known_by"].clone())).collect();
    (body["dead"].as_bool().unwrap(), gateways, body["unknown"].clone())
}

fn at(gateway: &str, known_by: impl Into<Value>) -> (String, Value) {
    (gateway.to_owned(), known_by.into())
}

#[tokio::test]
async fn a_gateway_that_refused_the_message_is_unknown_until_it_has_the_list_that_is_here() {
    let refused = |filled: &mut Filled| {
        filled.publish(None, &json!([{"op": "issue", "uid": OLD, "holder": "h1"}]));
        filled.publish(None, &json!([{"op": "report_lost", "uid": OLD}]));
        filled.ack("g1", 2, Outcome::Applied, &[OLD]);
        filled.ack("g2", 2, Outcome::Rejected, &[]);
        filled.state("g2", 2, &"00".repeat(32));
    };
    let shown = proof(false, refused).await;
    assert_eq!(shown, (true, vec![at("g1", "ack"), at("g2", Value::Null)], json!(["g2"])));
    let has_it = |filled: &mut Filled| {
        refused(filled);
        let digest = filled.digest();
        filled.state("g2", 2, &digest);
    };
    let shown = proof(false, has_it).await;
    assert_eq!(shown, (true, vec![at("g1", "ack"), at("g2", "state")], json!([])));
}

#[tokio::test]
async fn a_card_that_died_with_its_holder_stays_proven_when_its_enrolment_is_withdrawn() {
    let enrol = json!([{"op": "enrol", "uid": OLD, "holder": "h1", "entitlements": []}]);
    let died = |filled: &mut Filled| {
        filled.publish(Some("g1"), &enrol);
        filled.publish(None, &json!([{"op": "reissue", "holder": "h1", "new_uid": NEW}]));
        filled.revoked("g1", "h1", ("card-office", 1));
        filled.publish(Some("g1"), &json!([{"op": "withdraw", "uid": OLD}]));
    };
    assert_eq!(proof(false, died).await, (true, vec![at("g1", "audit")], json!([])));
    let alive = |filled: &mut Filled| {
        died(filled);
        filled.publish(Some("g1"), &json!([{"op": "enrol", "uid": OLD, "holder": "h2", "entitlements": []}]));
    };
    assert_eq!(proof(false, alive).await, (false, vec![], json!([])));
}

#[tokio::test]
async fn a_card_office_of_its_own_proves_a_death_by_what_the_gateways_published() {
    let lost = |filled: &mut Filled| {
        filled.publish(None, &json!([{"op": "report_lost", "holder": "h1"}]));
    };
    let acked = |filled: &mut Filled| {
        lost(filled);
        filled.ack("g1", 1, Outcome::Applied, &[OLD]);
    };
    let dead_at_g1 = |by: &str| (true, vec![at("g1", by), at("g2", Value::Null)], json!(["g2"]));
    assert_eq!(proof(true, acked).await, dead_at_g1("ack"));
    let written = |filled: &mut Filled| {
        lost(filled);
        filled.revoked("g1", "h1", ("card-office", 1));
    };
    assert_eq!(proof(true, written).await, dead_at_g1("audit"));
    let nothing = (false, vec![], json!([]));
    // Nothing shows that the card was the holder's.
    assert_eq!(proof(true, lost).await, nothing);
    // It is somebody else's since.
    let of_another = |filled: &mut Filled| {
        written(filled);
        filled.revoked("g1", "h2", ("apartment", 7));
    };
    assert_eq!(proof(true, of_another).await, nothing);
    // What was set for the holder is taken back.
    let found = json!([{"op": "found", "holder": "h1"}]);
    for known in [&acked as &dyn Fn(&mut Filled), &written] {
        let taken_back = |filled: &mut Filled| {
            known(filled);
            filled.publish(None, &found);
        };
        assert_eq!(proof(true, taken_back).await, nothing);
    }
}

#[tokio::test]
async fn what_a_gateway_answers_of_another_message_under_the_same_number_proves_nothing() {
    let lost = |filled: &mut Filled| {
        filled.publish(None, &json!([{"op": "issue", "uid": OLD, "holder": "h1"}]));
        filled.publish(None, &json!([{"op": "report_lost", "uid": OLD}]));
    };
    let at_both =
        |known_by: Value, unknown: Value| (true, vec![at("g1", known_by.clone()), at("g2", known_by)], unknown);
    let proven = at_both("ack".into(), json!([]));
    let not_known = at_both(Value::Null, json!(["g1", "g2"]));
    for (outcome, through, expected) in [
        // It came twice, or is contained in a list.
        (Outcome::Duplicate, 2, &proven),
        (Outcome::Stale, 2, &proven),
        // The gateways have numbers that were never published here.
        (Outcome::Duplicate, 13, &not_known),
        (Outcome::Stale, 13, &not_known),
    ] {
        let answered = |filled: &mut Filled| {
            lost(filled);
            for gateway in ["g1", "g2"] {
                filled.ack_through(gateway, 2, (outcome, through), &[]);
            }
        };
        assert_eq!(proof(false, answered).await, *expected, "{outcome:?} {through}");
    }
    // So does their state.
    let ahead = |filled: &mut Filled| {
        lost(filled);
        for gateway in ["g1", "g2"] {
            filled.ack(gateway, 2, Outcome::Duplicate, &[]);
            filled.state(gateway, 13, &"00".repeat(32));
        }
    };
    assert_eq!(proof(false, ahead).await, not_known);
}
