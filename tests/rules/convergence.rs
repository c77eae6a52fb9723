//! The list against the reference model: whatever arrives, in whatever order, late, twice or never.

use dormgate::access::change::{Op, PortalSet, Subject, SuspendReason};
use dormgate::access::credential::{Flag, Role};
use dormgate::access::effect::Outcome;
use dormgate::access::id::{CardUid, Revision, Timestamp};
use dormgate::access::input::Input;
use dormgate::access::list::AccessList;
use dormgate::access::policy::Policy;
use dormgate::access::portal::{Direction, Posture};
use dormgate::access::schedule::{Holiday, Schedule};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model;
use crate::world::{APARTMENT, BEGIN_MS, OFFICE, World, assert_same_state, at, enrolment, name, uid};

const CARDS: [&str; 5] = ["A", "B", "R", "X", "C5"];
const HOLDERS: [&str; 3] = ["p1", "p2", "p3"];
/// Messages of each stream and epoch.
const MESSAGES: usize = 6;
const EPOCHS: usize = 2;

fn card() -> impl Strategy<Value = CardUid> {
    select(&CARDS[..]).prop_map(uid)
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![card().prop_map(Subject::Card), select(&HOLDERS[..]).prop_map(|h| Subject::Holder(name(h)))]
}

pub fn office_op() -> impl Strategy<Value = Op> {
    let holder = || select(&HOLDERS[..]).prop_map(name);
    prop_oneof![
        2 => (card(), holder()).prop_map(|(uid, holder)| Op::Issue { uid, holder }),
        3 => (holder(), card(), proptest::option::of(card()))
            .prop_map(|(holder, new_uid, old_uid)| Op::Reissue { holder, new_uid, old_uid }),
        4 => (subject(), select(&[Flag::Lost, Flag::Frozen][..]), any::<bool>())
            .prop_map(|(subject, flag, on)| Op::SetFlag { subject, flag, on }),
        1 => subject().prop_map(|subject| Op::SetFlag { subject, flag: Flag::Cancelled, on: true }),
        1 => card().prop_map(|uid| Op::Reinstate { uid }),
    ]
}

pub fn apartment_op() -> impl Strategy<Value = Op> {
    let rights = [
        "gate:* door:412 power_box:412",
        "door:413 power_box:413",
        "gate:other",
        "power_box:*",
        "",
        "gate:*@term gate:lobby@nights door:412@term power_box:412@term power_box:413@nights",
        "power_box:412@nobody power_box:412",
    ];
    let edge = || proptest::option::of(select(&[-1_i64, 0, 1][..]).prop_map(|ms| Timestamp(BEGIN_MS + ms)));
    let enrol = (card(), select(&HOLDERS[..]), select(rights.to_vec()), edge(), edge(), select(Role::ALL));
    let until = proptest::option::of(select(&[-1_i64, 0, 1][..]).prop_map(|ms| Timestamp(BEGIN_MS + ms)));
    let portals = prop_oneof![Just(PortalSet::All), Just(PortalSet::Some(vec![name("gate-in"), name("power-412")]))];
    prop_oneof![
        12 => enrol.prop_map(|(uid, holder, rights, not_before, not_after, role)| {
            let mut enrolment = enrolment(holder, rights);
            (enrolment.not_before, enrolment.not_after, enrolment.role) = (not_before, not_after, role);
            Op::Enrol { uid, enrolment }
        }),
        4 => subject().prop_map(|subject| Op::Withdraw { subject }),
        2 => (select(&["412", "413"][..]), select(&SuspendReason::ALL[..2]), any::<bool>())
            .prop_map(|(zone, reason, suspended)| Op::Power { zone: name(zone), reason, suspended }),
        2 => (select(&["term", "nights"][..]), schedule())
            .prop_map(|(schedule, windows)| Op::DefineSchedule { name: name(schedule), schedule: windows }),
        1 => (portals, select(Posture::ALL), until)
            .prop_map(|(portals, posture, until)| Op::SetPosture { portals, posture, until }),
    ]
}

/// Schedules that open and close about when the tests begin, which is a Tuesday at 08:00 in Shanghai.
fn schedule() -> impl Strategy<Value = Schedule> {
    let windows = || {
        const ALL: [&str; 7] =
            ["", "06:00-23:00", "07:59-08:00", "08:00-08:01", "08:01-08:00", "22:00-08:00", "22:00-08:01 08:02-08:03"];
        select(&ALL[..]).prop_map(|windows| windows.split_whitespace().map(name).collect::<Vec<_>>())
    };
    let holiday = select(&["2026-08-31", "2026-09-01"][..]);
    let holiday = (holiday, windows()).prop_map(|(date, windows)| Holiday { date: name(date), windows });
    (vec(windows(), 7), proptest::option::of(holiday)).prop_map(|(weekly, holiday)| Schedule {
        weekly: weekly.try_into().unwrap(),
        holidays: holiday.into_iter().collect(),
        timezone: None,
    })
}

/// Everything that both offices report: by stream, epoch and number.
fn all_messages() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let office = vec(vec(office_op(), 1..4), MESSAGES * EPOCHS);
    let apartment = vec(vec(apartment_op(), 1..4), MESSAGES * EPOCHS);
    (office, apartment).prop_map(|(mut all, more)| {
        all.extend(more);
        all
    })
}

/// Stream, epoch and number of the message at this place.
fn place(i: usize) -> (&'static str, u32, u64) {
    let stream = if i < MESSAGES * EPOCHS { OFFICE } else { APARTMENT };
    let (epoch, seq) = ((i / MESSAGES) % EPOCHS, i % MESSAGES);
    (stream, u32::try_from(epoch).unwrap() + 1, u64::try_from(seq).unwrap() + 1)
}

fn received_of(messages: &[Vec<Op>], accepted: &[usize]) -> Vec<(Revision, Op)> {
    let of = |i: &usize| {
        let (_, epoch, seq) = place(*i);
        let ops = (0..).zip(&messages[*i]);
        ops.map(move |(p, op)| (at(epoch, seq).revision(p), op.clone())).collect::<Vec<_>>()
    };
    accepted.iter().flat_map(of).collect()
}

fn agree(w: &World, received: &model::Received, require_issue: bool) -> Result<(), TestCaseError> {
    for card in CARDS {
        for portal in &w.setup.portals {
            let reported = &w.engine.query(uid(card), Some(&portal.id), w.now()).unwrap()[0];
            let expected = match portal.direction {
                Some(Direction::Out) => "exit",
                Some(Direction::In) | None => model::judge(received, uid(card), portal, w.now().wall, require_issue),
            };
            prop_assert_eq!(reported.outcome.reason(), expected, "{} at {}", card, &portal.id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_list_judges_as_the_definitions_do_whatever_arrived(
        messages in all_messages(),
        order in vec(0..MESSAGES * EPOCHS * 2, 0..40),
        require_issue in any::<bool>(),
        occupied in card(),
    ) {
        // All happens in one instant: a box that was on often would rest, and the ack has one that waits for the end of its rest, too.
        let mut w = World::with(Policy { require_issue, max_energise_per_min: 0, ..Policy::default() });
        let mut accepted = Vec::new();
        let mut received = Vec::new();
        for i in order {
            let (stream, epoch, seq) = place(i);
            let could = CARDS.map(|c| model::could_open(&received, uid(c), w.now().wall, require_issue));
            let on_before = w.is_on("power-412");
            let seen = w.publish_at(stream, at(epoch, seq), messages[i].clone());
            if seen.ack().outcome == Outcome::Applied {
                accepted.push(i);
                received = received_of(&messages, &accepted);
            }
            let gone = |(card, could): (&&str, bool)| {
                let now = model::could_open(&received, uid(card), w.now().wall, require_issue);
                (could && !now).then(|| uid(card))
            };
            let mut expected: Vec<_> = CARDS.iter().zip(could).filter_map(gone).collect();
            let mut revoked = seen.ack().revoked.clone();
            expected.sort();
            revoked.sort();
            prop_assert_eq!(revoked, expected);
            agree(&w, &received, require_issue)?;
            // A box that is on is on by right, and the ack reports what was cut.
            let box_412 = w.setup.portals.iter().find(|p| p.id.as_str() == "power-412").unwrap().clone();
            if let Some(on) = w.engine.boxes().get("power-412").and_then(|b| b.source()?.card()) {
                prop_assert_eq!(model::judge(&received, on, &box_412, w.now().wall, require_issue), "granted");
            }
            prop_assert_eq!(seen.ack().cut.len(), usize::from(on_before && !w.is_on("power-412")));
            w.input(Input::Request(dormgate::access::input::Request {
                id: None,
                ..w.request("power-412", dormgate::access::input::Presented::Card(occupied))
            }));
        }
        assert_same_state(&w.folded(), w.engine.state());
    }

    #[test]
    fn the_same_messages_in_another_order_give_the_same_list(
        messages in all_messages(),
        order in Just((0..MESSAGES * EPOCHS * 2).collect::<Vec<_>>()).prop_shuffle(),
        again in vec(0..MESSAGES * EPOCHS * 2, 0..10),
    ) {
        // The list itself, without the numbering in front of it that drops an earlier epoch.
        let apply = |order: &[usize]| {
            let mut list = AccessList::default();
            for i in order {
                let (_, epoch, seq) = place(*i);
                list.apply(&messages[*i], (at(epoch, seq), Timestamp(BEGIN_MS)), &Policy::default(), Timestamp(BEGIN_MS));
            }
            list
        };
        let ordered: Vec<_> = (0..messages.len()).collect();
        let shuffled: Vec<_> = order.into_iter().chain(again).collect();
        let state = |list| dormgate::access::state::State { list, ..Default::default() };
        assert_same_state(&state(apply(&ordered)), &state(apply(&shuffled)));
        let mut w = World::new();
        w.restart_with(state(apply(&shuffled)));
        agree(&w, &received_of(&messages, &ordered), false)?;
    }
}

/// An op that a newer one has superseded names a holder, or does not, by the order of arrival: nothing to keep.
#[test]
fn a_holder_of_whom_nothing_is_reported_is_not_kept() {
    let enrol = |holder: &str| Op::Enrol { uid: uid("A"), enrolment: enrolment(holder, "gate:*") };
    let list = |order: &[(u64, &str)]| {
        let mut list = AccessList::default();
        for (seq, holder) in order {
            list.replay(&[enrol(holder)], at(1, *seq), None);
        }
        dormgate::access::state::State { list, ..Default::default() }
    };
    assert_same_state(&list(&[(1, "p1"), (2, "p2")]), &list(&[(2, "p2"), (1, "p1")]));
}
