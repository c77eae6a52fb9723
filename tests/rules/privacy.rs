//! What must not name cards: alarms' words for a person, and whatever is logged.

use dormgate::access::change::{ErrorCode, Op, OpError};
use dormgate::access::engine::OFF_AGAIN_MS_MIN;
use dormgate::access::event::{AlarmKind, Event, EventKind, Record};
use dormgate::access::id::CardUid;
use dormgate::access::input::{Input, PortalReport, Presented};
use dormgate::access::policy::Policy;
use dormgate::access::state::State;
use dormgate::access::transform::{Form, Transform, Turn};
use dormgate::store::{MemoryDisk, Options, Stepped, Store};
use dormgate::wire::audit;
use dormgate::wire::down::write_changes;
use dormgate::wire::ops::check;
use dormgate::wire::uid_key::UidKey;

use crate::world::{OFFICE, Seen, World, assert_same_state, at, name, op, portals, uid};

/// The same last three bytes as card A.
const TWIN: &str = "99A68671";

/// A life in which every alarm that is about cards is raised, and a box goes from one card to another.
fn life(policy: Policy) -> (World, Vec<Seen>) {
    let wiegand26 = Transform { turn: Turn::AsSent, form: Form::Last(3) };
    let mut w = World::of(policy, portals(), vec![(name("door-413"), wiegand26)]);
    let mut all = Vec::new();
    for ops in [
        vec![op::issue("A", "p1"), op::issue("B", "p1"), op::issue(TWIN, "p2")],
        vec![op::enrol("A", "p1", "gate:* door:* power_box:*"), op::enrol("B", "p1", "gate:* power_box:*")],
        vec![op::enrol(TWIN, "p2", "gate:* door:*"), op::enrol("R", "p3", "gate:* power_box:*")],
    ] {
        all.push(w.publish(ops));
    }
    all.push(w.see("power-413", "R"));
    all.push(w.sits("power-413", "R", Some(true)));
    all.push(w.see("power-412", "A"));
    all.push(w.sits("power-412", "A", Some(true)));
    all.push(w.see("gate-in", "A"));
    let request = w.request("door-413", Presented::Lossy(wiegand26.read(uid("A"))));
    all.push(w.input(Input::Request(request)));
    all.push(w.sits("power-412", "B", Some(true)));
    all.push(w.publish(vec![op::report_lost("uid:B")]));
    all.push(w.see("gate-in", "B"));
    for _ in 0..5 {
        all.push(w.pass_ms(OFF_AGAIN_MS_MIN));
    }
    all.push(w.sits("power-412", TWIN, None));
    all.push(w.report("power-412", PortalReport { relay: Some(false), ..PortalReport::default() }));
    (w, all)
}

fn whole_uids(text: &str) -> Vec<String> {
    ["A", "B", "R", TWIN]
        .map(|card| uid(card).to_string())
        .into_iter()
        .filter(|uid| text.contains(uid.as_str()))
        .collect()
}

#[test]
fn an_alarm_names_a_card_by_the_end_of_its_uid_and_its_field_has_it_whole() {
    let (_, all) = life(Policy::default());
    let mut raised = Vec::new();
    for event in all.iter().flat_map(Seen::records).map(|record| &record.event.body) {
        assert_eq!(whole_uids(event.detail()), Vec::<String>::new(), "{event:?}");
        if let Event::Alarm { kind, who, .. } = event {
            raised.push((*kind, who.uid));
        }
    }
    for kind in [
        AlarmKind::List,
        AlarmKind::Clone,
        AlarmKind::DeadCard,
        AlarmKind::UnconfirmedRevocation,
        AlarmKind::PowerWithoutCard,
    ] {
        assert!(raised.iter().any(|(of, _)| *of == kind), "{kind:?} is missing: {raised:?}");
    }
    assert!(raised.contains(&(AlarmKind::DeadCard, Some(uid("B")))), "{raised:?}");
}

#[test]
fn where_the_audit_has_hashes_no_detail_has_what_a_reader_gave() {
    let reading = "A68671";
    let details = |policy| {
        let (_, all) = life(policy);
        all.iter().flat_map(Seen::records).map(|record| record.event.body.detail().to_owned()).collect::<String>()
    };
    assert!(details(Policy::default()).contains(reading));
    assert!(!details(Policy { hash_uids: true, ..Policy::default() }).contains(reading));
}

#[test]
fn where_the_audit_has_hashes_a_reader_that_is_set_up_wrongly_fills_it_with_no_uids() {
    let detail = |policy| {
        let mut w = World::of(policy, portals(), Vec::new());
        let request = w.request("gate-in", Presented::Malformed("UID:1EA68671".to_owned()));
        let seen = w.input(Input::Request(request));
        seen.records().map(|record| record.event.body.detail().to_owned()).collect::<String>()
    };
    assert_eq!(detail(Policy::default()), "presented `UID:1EA68671`");
    let hashed = Policy { hash_uids: true, ..Policy::default() };
    assert_eq!(detail(hashed), "presented 12 characters that are no UID");
}

#[test]
fn where_the_audit_has_hashes_a_message_that_is_refused_for_a_uid_leaves_none_there() {
    let detail = |policy| {
        let mut w = World::of(policy, portals(), Vec::new());
        let random = uid("phone");
        let error = check(&Op::Issue { uid: random, holder: name("p1") }, Some(0)).unwrap_err();
        let whole = OpError::message(ErrorCode::InvalidUid, "`uid`: `1EA6867Z` is no UID");
        let input = w.message(OFFICE, at(1, 1), Err(vec![error.clone(), whole]));
        let seen = w.input(input);
        assert_eq!(seen.ack().errors[0], error, "the center has the whole text");
        seen.records().map(|record| record.event.body.detail().to_owned()).collect::<String>()
    };
    assert!(detail(Policy::default()).contains("`08C0FFEE` is a random UID"));
    let hashed = detail(Policy { hash_uids: true, ..Policy::default() });
    assert_eq!(hashed, "op 0: `ops[0].uid`: random_uid; `uid`: invalid_uid");
}

/// Log lines are made of such values with `?`.
#[test]
fn nothing_that_is_written_for_debugging_has_a_whole_uid() {
    let (w, all) = life(Policy::default());
    let text =
        format!("{:?} {:?} {:?}", all.iter().map(|seen| &seen.0).collect::<Vec<_>>(), w.engine, w.engine.state());
    assert!(text.contains("…8671"));
    assert_eq!(whole_uids(&text), Vec::<String>::new());
    let op = Op::Reinstate { uid: uid("A") };
    assert_eq!(whole_uids(&format!("{op:?}")), Vec::<String>::new());
}

fn hashing(key: &str) -> Options {
    Options { uid_key: Some(UidKey::new(key.as_bytes())), hash_uids: true, segment_bytes: 2000, ..Options::default() }
}

/// What was recorded, with the bytes of the messages as a center signs them.
fn recorded(w: &World) -> Vec<Record> {
    let mut all = w.journal.clone();
    for record in all.iter_mut().filter(|record| record.event.kind() == EventKind::ChangesApplied) {
        let changes = &w.received[usize::from_le_bytes(record.evidence.as_slice().try_into().unwrap())];
        let (iat, ops) = (changes.iat.unwrap(), changes.content.as_ref().unwrap());
        record.evidence = write_changes(&changes.stream, "g", iat, changes.at, ops).unwrap().into_bytes();
    }
    all
}

#[test]
fn an_audit_with_hashes_has_no_uid_and_a_restart_knows_every_card_all_the_same() {
    let (w, _) = life(Policy { hash_uids: true, ..Policy::default() });
    assert!(!w.engine.state().boxes.is_empty() && w.engine.state().presence.all().count() > 0);
    let (all, disk) = (recorded(&w), MemoryDisk::new());
    let (key, count) = (UidKey::new(b"secret"), all.len());
    let halves = [all[..count / 2].to_vec(), all[count / 2..].to_vec()];
    for (half, records) in halves.into_iter().enumerate() {
        // The second half is written onto a generation of the first.
        let (store, _events, _, mut stepper) = Store::open_in_memory::<State>(&disk, hashing("secret")).unwrap();
        store.append(records);
        assert_eq!(stepper.flush(), Stepped::Idle);
        if half == 0 {
            store.request_generation();
            stepper.chores();
        }
        let events = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
        let text: String = events.iter().map(|event| std::str::from_utf8(&event.json).unwrap()).collect();
        assert_eq!(whole_uids(&text), Vec::<String>::new());
        assert_eq!(store.hash_of(uid("A")), key.hash(uid("A")));
    }
    let (store, _events, found, _stepper) = Store::open_in_memory::<State>(&disk, hashing("secret")).unwrap();
    assert_eq!((found.issues, found.next_n), (Vec::new(), count as u64 + 1));
    assert!(found.events_replayed > 0, "the second half is replayed");
    assert_same_state(&found.state, w.engine.state());
    // A person follows a card by its hash.
    let of = |card: CardUid| {
        let all = store.read_blocking(0, usize::MAX, usize::MAX).unwrap();
        let all = all.iter().map(|event| audit::decode(&event.json).unwrap().event.body);
        all.filter(|body| body.uid() == Some(card)).count()
    };
    let live = w.journal.iter().filter(|record| record.event.body.uid() == Some(uid("A"))).count();
    assert_eq!((of(key.hash(uid("A"))), of(uid("A"))), (live, 0));
}

#[test]
fn with_another_key_nothing_is_taken_for_a_card_and_a_box_that_was_on_by_one_is_cut() {
    let (w, _) = life(Policy { hash_uids: true, ..Policy::default() });
    let disk = MemoryDisk::new();
    let (store, _events, _, mut stepper) = Store::open_in_memory::<State>(&disk, hashing("secret")).unwrap();
    store.append(recorded(&w));
    assert_eq!(stepper.flush(), Stepped::Idle);
    drop(store);
    let (_, _events, found, _stepper) = Store::open_in_memory::<State>(&disk, hashing("other")).unwrap();
    assert_eq!(found.state.list.len(), w.engine.state().list.len(), "the list is by UID, whatever the audit has");
    assert!(found.state.boxes.values().all(|source| source.card().is_some_and(|card| card.is_hashed())));
    assert_eq!(found.state.presence.all().count(), 0);
    let on = found.state.boxes.len();
    let mut w = w;
    let seen = w.restart_with(found.state);
    assert_eq!((seen.cuts().len(), on > 0), (on, true), "{seen:?}");
}
