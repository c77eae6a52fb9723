//! A list that is loaded: what it changes, that the center has it after a restart, and that gateways come to the same digest whatever
//! was lost, shuffled or repeated.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use proptest::prelude::*;

use super::super::{Layout, create};
use super::*;
use crate::access::change::{Op, PortalSet, Subject, SuspendReason};
use crate::access::credential::{Entitlement, Flag, ZoneSet};
use crate::access::effect::{Have, Resync, ResyncReason};
use crate::access::id::Mono;
use crate::access::portal::{PortalKind, Posture};
use crate::access::snapshot::{Staged, Staging};
use crate::wire::down;
use crate::wire::envelope::{Channel, StreamSpec, open};
use crate::wire::topic::{Down, Topic};

const NOW: Timestamp = Timestamp(1_788_249_600_000);

fn g1() -> GatewayId {
    "g1".parse().unwrap()
}

fn center(dir: &Path, layout: Layout) -> Center {
    if !dir.join("center.toml").exists() {
        create(dir, layout, NonZeroU32::MIN).unwrap();
    }
    Center::open(dir, &[g1(), "g2".parse().unwrap()]).unwrap()
}

fn uid(n: u32) -> CardUid {
    format!("1E{n:06X}").parse().unwrap()
}

fn enrolment(n: u32, zone: &str) -> Enrolment {
    let one = |kind, zone| Entitlement { kind, zone, schedule: None };
    Enrolment::resident(
        format!("h{n}").parse().unwrap(),
        vec![one(PortalKind::Gate, ZoneSet::Any), one(PortalKind::Door, ZoneSet::One(zone.parse().unwrap()))],
    )
}

fn list(cards: std::ops::Range<u32>) -> Enrolments {
    cards.map(|n| (uid(n), enrolment(n, "412"))).collect()
}

/// What a gateway has of one stream that publishes to it alone.
struct Gateway {
    list: AccessList,
    staging: Staging,
    spec: StreamSpec,
    through: u64,
    /// The number of the last snapshot applied.
    snapshot: u64,
}

impl Gateway {
    fn of(center: &Center, stream: &str) -> Self {
        let streams = crate::config::streams(center.configuration()).unwrap();
        let spec = streams.into_iter().find(|one| one.name.as_str() == stream).unwrap();
        Self { list: AccessList::default(), staging: Staging::default(), spec, through: 0, snapshot: 0 }
    }

    fn take(&mut self, message: &SignedMessage) {
        let streams = [self.spec.clone()];
        let opened = open(&message.payload, Channel::Gateway, &g1(), &streams).unwrap();
        if matches!(message.topic, Topic::Down(_, Down::Snapshot)) {
            let part = snapshot::read_part(&opened).unwrap();
            // An older snapshot than the last one is stale, as a gateway has it.
            if part.head.at.seq < self.snapshot {
                return;
            }
            if let Staged::Complete(whole) = self.staging.take(part, &message.payload, Mono(0)) {
                let owns = digest::registers_of(self.spec.allowed);
                self.list.replay_snapshot(&owns, (whole.head.at, None), &whole.entries);
                self.snapshot = whole.head.at.seq;
                self.through = self.through.max(self.snapshot);
            }
        } else {
            let changes = down::read_changes(&opened).unwrap();
            if changes.at.seq <= self.snapshot {
                return;
            }
            self.list.replay(&changes.content.unwrap(), changes.at, None);
            if changes.at.seq == self.through + 1 {
                self.through += 1;
            }
        }
    }

    fn digest(&self) -> digest::Digest {
        digest::of(&self.list, &digest::registers_of(self.spec.allowed))
    }

    /// Asks for what it lacks below `last` and takes what it gets.
    fn resync(&mut self, center: &mut Center, last: u64) {
        let missing = if self.through < last { vec![(self.through + 1, last)] } else { Vec::new() };
        let reason = ResyncReason::Gap;
        let have = Have { epoch: 1, seq: self.through };
        let request = Resync { stream: self.spec.name.clone(), reason, have, missing };
        center.answer(&g1(), &request, NOW).unwrap().iter().for_each(|message| self.take(message));
    }
}

fn head(center: &mut Center, stream: &str) -> (u64, digest::Digest) {
    let streams = crate::config::streams(center.configuration()).unwrap();
    let name = stream.parse().unwrap();
    let topic = Topic::Down(g1(), Down::Head(name)).to_string();
    let heads = center.heads(NOW).unwrap();
    let message = heads.iter().find(|message| message.topic.to_string() == topic).unwrap();
    let opened = open(&message.payload, Channel::Gateway, &g1(), &streams).unwrap();
    let head = down::read_head(&opened, &stream.parse().unwrap()).unwrap();
    (head.at.seq, digest::Digest { cards: head.cards, sha256: head.digest })
}

#[test]
fn the_plan_names_what_happens_to_each_card() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let mut before = list(0..4);
    before.insert(
        uid(9),
        Enrolment { entitlements: enrolment(9, "412").entitlements.into_iter().rev().collect(), ..enrolment(9, "412") },
    );
    let ops: Vec<Op> = before.into_iter().map(|(uid, enrolment)| Op::Enrol { uid, enrolment }).collect();
    center.publish_ops(Some(&g1()), &ops, NOW).unwrap();
    // A card of a holder whose enrolments were withdrawn is enrolled again.
    let withdraw = Op::Withdraw { subject: Subject::Holder("h0".parse().unwrap()) };
    center.publish_ops(Some(&g1()), &[withdraw], NOW).unwrap();
    let mut wanted = list(0..2);
    wanted.insert(uid(2), enrolment(2, "413"));
    wanted.insert(uid(9), enrolment(9, "412"));
    let plan = center.plan(Some(&g1()), &wanted, NOW).unwrap();
    let expected = BTreeMap::from([
        (uid(0), CardChange::Added(enrolment(0, "412"))),
        (uid(2), CardChange::Updated { from: enrolment(2, "412"), to: enrolment(2, "413") }),
        (uid(3), CardChange::Withdrawn(enrolment(3, "412"))),
    ]);
    assert_eq!((plan.unchanged, &plan.changes), (2, &expected), "the order of entitlements does not matter");
    assert_eq!((plan.added(), plan.updated(), plan.withdrawn()), (1, 1, 1));
    assert_eq!(plan.shrink(), Shrink { before: 4, removed: 1 });
}

#[test]
fn a_list_is_published_in_parts_with_everything_else_that_the_stream_owns_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::One);
    let mut gateway = Gateway::of(&center, "center");
    let zone = || "412".parse().unwrap();
    let ops = [
        Op::Issue { uid: uid(0), holder: "h0".parse().unwrap() },
        Op::SetFlag { subject: Subject::Card(uid(1)), flag: Flag::Lost, on: true },
        Op::Reissue { holder: "h0".parse().unwrap(), new_uid: uid(7), old_uid: None },
        Op::Power { zone: zone(), reason: SuspendReason::Arrears, suspended: true },
        Op::SetPosture { portals: PortalSet::All, posture: Posture::Lockdown, until: None },
        Op::Enrol { uid: uid(0), enrolment: enrolment(0, "412") },
    ];
    for message in center.publish_ops(Some(&g1()), &ops, NOW).unwrap() {
        gateway.take(&message);
    }
    let wanted = list(0..1_500);
    let loaded = center.load(Some(&g1()), &wanted, false, NOW).unwrap();
    assert!(loaded.messages.len() > 2, "{}", loaded.messages.len());
    assert!(loaded.messages.iter().all(|m| m.number.as_ref().unwrap().1.seq == 2));
    loaded.messages.iter().rev().for_each(|message| gateway.take(message));
    let (seq, digest) = head(&mut center, "center");
    assert_eq!((seq, &digest), (2, &gateway.digest()));
    let lines = digest::lines(&gateway.list, &digest::registers_of(gateway.spec.allowed)).0;
    for line in ["W|412|arrears", "P|*|lockdown|", "H|h0|replaced", "S|1E000001||lost"] {
        assert!(lines.iter().any(|one| one == line), "{line}");
    }
    assert_eq!(center.enrolments(Some(&g1())).unwrap(), wanted);

    let again = center.load(Some(&g1()), &wanted, false, NOW).unwrap();
    assert_eq!((again.plan.unchanged, again.plan.changes.len(), again.messages.len()), (1_500, 0, 0));
    assert_eq!(head(&mut center, "center").0, 2, "no number was used");
}

#[test]
fn a_center_that_starts_again_has_the_list_and_the_number_and_answers_a_gap_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = center(dir.path(), Layout::Two);
    let mut gateway = Gateway::of(&first, "apartment");
    let ops = [Op::Enrol { uid: uid(5_000), enrolment: enrolment(5_000, "1") }];
    gateway.take(&first.publish_ops(Some(&g1()), &ops, NOW).unwrap()[0]);
    let loaded = first.load(Some(&g1()), &list(0..1_500), true, NOW).unwrap();
    let known = head(&mut first, "apartment");
    drop(first);
    // One part was lost with the center, the others arrived.
    loaded.messages.iter().skip(1).for_each(|message| gateway.take(message));
    assert_eq!((gateway.through, gateway.digest().cards), (1, 1), "nothing is applied by halves");

    let mut second = center(dir.path(), Layout::Two);
    assert_eq!(head(&mut second, "apartment"), known);
    let next = second.publish_ops(Some(&g1()), &[Op::Withdraw { subject: Subject::Card(uid(3)) }], NOW).unwrap();
    assert_eq!(next[0].number.as_ref().unwrap().1.seq, 3);
    // What comes behind the gap counts at once, and the snapshot does not undo it.
    gateway.take(&next[0]);
    gateway.resync(&mut second, 3);
    assert_eq!((gateway.through, gateway.digest()), (3, head(&mut second, "apartment").1));
    assert!(gateway.list.card(&uid(3)).unwrap().enrolment().is_none());
    assert!(gateway.list.card(&uid(5_000)).unwrap().enrolment().is_none(), "the list does not name it");
}

#[test]
fn a_list_that_withdraws_too_much_uses_no_number_unless_it_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    center.load(Some(&g1()), &list(0..10), false, NOW).unwrap();
    assert!(center.load(Some(&g1()), &list(0..7), false, NOW).is_ok(), "30 % are withdrawn");
    let refused = center.load(Some(&g1()), &list(0..4), false, NOW).unwrap_err();
    assert!(matches!(refused, CenterError::Shrinks(Shrink { before: 7, removed: 3 })), "{refused}");
    assert_eq!(head(&mut center, "apartment").0, 2);
    let loaded = center.load(Some(&g1()), &list(0..4), true, NOW).unwrap();
    let streams = crate::config::streams(center.configuration()).unwrap();
    let opened = open(&loaded.messages[0].payload, Channel::Gateway, &g1(), &streams).unwrap();
    let part = snapshot::read_part(&opened).unwrap();
    assert!(part.head.allow_shrink);
    assert_eq!((part.head.cards, part.entries.unwrap().len()), (10, 10), "what was withdrawn is named as such");
}

#[test]
fn what_the_same_transaction_published_before_the_list_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut center = center(dir.path(), Layout::Two);
    let suspend = Op::Power { zone: "412".parse().unwrap(), reason: SuspendReason::Arrears, suspended: true };
    let sent = center.transaction(|center| {
        let mut sent = center.stage_ops(Some(&g1()), &[suspend], NOW)?;
        sent.extend(center.stage_list(Some(&g1()), &list(0..3), false, NOW)?.messages);
        Ok(sent)
    });
    let mut gateway = Gateway::of(&center, "apartment");
    sent.unwrap().iter().for_each(|message| gateway.take(message));
    assert!(gateway.list.site.is_suspended_for(&"412".parse().unwrap(), SuspendReason::Arrears));
    assert_eq!(head(&mut center, "apartment"), (2, gateway.digest()));
}

#[test]
fn half_a_line_of_a_list_was_published_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    center(dir.path(), Layout::Two).load(Some(&g1()), &list(0..10), false, NOW).unwrap();
    let path = dir.path().join("g1/apartment.journal");
    let journal = std::fs::read(&path).unwrap();
    std::fs::write(&path, &journal[..journal.len() - 40]).unwrap();
    let mut center = center(dir.path(), Layout::Two);
    assert_eq!(center.enrolments(Some(&g1())).unwrap(), Enrolments::new());
    let loaded = center.load(Some(&g1()), &list(0..10), false, NOW).unwrap();
    assert_eq!(loaded.messages[0].number.as_ref().unwrap().1.seq, 1);
}

#[test]
fn a_list_of_a_campus_stream_goes_to_each_gateway_and_the_journal_has_it_once() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), Layout::One, NonZeroU32::MIN).unwrap();
    let toml = dir.path().join("center.toml");
    let campus = std::fs::read_to_string(&toml).unwrap().replace("\"gateway\"", "\"campus\"");
    std::fs::write(&toml, campus).unwrap();
    let mut first = center(dir.path(), Layout::One);
    let mut gateway = Gateway::of(&first, "center");
    let loaded = first.load(None, &list(0..10), false, NOW).unwrap();
    let to: Vec<String> = loaded.messages.iter().map(|message| message.topic.to_string()).collect();
    assert_eq!(to, ["dormgate/v1/g1/down/snapshot", "dormgate/v1/g2/down/snapshot"]);
    gateway.take(&loaded.messages[0]);
    let mut again = center(dir.path(), Layout::One);
    assert_eq!(again.enrolments(None).unwrap(), list(0..10));
    let mine = digest::of(again.list(&Audience::Campus).unwrap(), &digest::registers_of(gateway.spec.allowed));
    assert_eq!(mine, gateway.digest());
}

#[derive(Clone, Debug)]
enum Step {
    Enrol(u32, u32),
    Withdraw(u32),
    WithdrawHolder(u32),
    Load(Vec<(u32, u32)>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_u32, 0..3_u32).prop_map(|(card, zone)| Step::Enrol(card, zone)),
        1 => (0..12_u32).prop_map(Step::Withdraw),
        1 => (0..12_u32).prop_map(Step::WithdrawHolder),
        2 => prop::collection::vec((0..12_u32, 0..3_u32), 1..12).prop_map(Step::Load),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ops and lists in any order, some of their messages lost, the others shuffled, and the center started again in between: once the
    /// gateway has asked for what it lacks, both have the same digest.
    #[test]
    fn whatever_is_lost_and_shuffled_the_digests_agree_in_the_end(
        steps in prop::collection::vec(step(), 1..12),
        lost in prop::collection::vec(any::<bool>(), 64),
        order in Just((0..64_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut at_work = center(dir.path(), Layout::Two);
        let mut sent = Vec::new();
        for step in steps {
            let op = |op: Op| vec![op];
            let zone = |zone: u32| zone.to_string();
            let ops = match step {
                Step::Enrol(card, z) => op(Op::Enrol { uid: uid(card), enrolment: enrolment(card % 4, &zone(z)) }),
                Step::Withdraw(card) => op(Op::Withdraw { subject: Subject::Card(uid(card)) }),
                Step::WithdrawHolder(n) => op(Op::Withdraw { subject: Subject::Holder(format!("h{}", n % 4).parse().unwrap()) }),
                Step::Load(cards) => {
                    let wanted = cards.into_iter().map(|(n, z)| (uid(n), enrolment(n % 4, &zone(z)))).collect();
                    sent.extend(at_work.load(Some(&g1()), &wanted, true, NOW).unwrap().messages);
                    prop_assert_eq!(at_work.enrolments(Some(&g1())).unwrap(), wanted);
                    continue;
                }
                Step::Restart => {
                    at_work = center(dir.path(), Layout::Two);
                    continue;
                }
            };
            sent.extend(at_work.publish_ops(Some(&g1()), &ops, NOW).unwrap());
        }
        prop_assume!(!sent.is_empty());
        let mut gateway = Gateway::of(&at_work, "apartment");
        for place in order {
            if let Some(message) = sent.get(place).filter(|_| !lost[place]) {
                gateway.take(message);
            }
        }
        let (last, digest) = head(&mut at_work, "apartment");
        gateway.resync(&mut at_work, last);
        prop_assert_eq!(gateway.digest(), digest);
    }
}
