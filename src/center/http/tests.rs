//! What the API guarantees without a network: its description is whole, tokens and permissions are judged, errors have one shape.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::http::HeaderMap;
use futures_util::FutureExt;
use serde_json::Value;

use super::auth::Client;
use super::*;
use crate::access::change::{Op, Subject};
use crate::access::credential::{Enrolment, Flag, Role};
use crate::access::id::Timestamp;
use crate::access::schedule::timezone;
use crate::browser::bearer;
use crate::center::database::Retention;
use crate::center::sheet::Enrolments;
use crate::center::{Attention, Center, Directory, Layout, create};
use crate::config::{LinkSpec, Secret};
use crate::wire::allowed::{AllowedOps, OpName, STANDING};
use crate::wire::down;
use crate::wire::envelope::Scope;

#[test]
fn every_route_and_no_other_is_in_the_description() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.clone(), path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let served: BTreeSet<_> = routes().iter().map(|r| (r.method.to_owned(), r.path.to_owned())).collect();
    assert_eq!(described, served);
    // What is referred to is there, and every variable of a path is described.
    for (at, _) in OPENAPI.match_indices("\"#/") {
        let pointer = OPENAPI.get(at + 2..).unwrap().split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    for (path, item) in paths {
        for variable in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            for (method, operation) in item.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|p| p["name"] == variable && p["in"] == "path"), "{method} {path}");
            }
        }
    }
}

fn spec(name: &str, may: AllowedOps, gateways: Option<&[&str]>) -> ClientSpec {
    ClientSpec {
        name: name.to_owned(),
        token: Secret::new(format!("{name}-0123456789abcdef")),
        may,
        may_read: true,
        may_load: true,
        gateways: gateways.map(|all| all.iter().map(|gateway| gateway.parse().unwrap()).collect()),
    }
}

#[test]
fn wrong_tokens_are_refused_then_slowed_down_and_a_right_one_is_always_taken() {
    let keeper = Doorkeeper::new(&[spec("a", STANDING, None), spec("b", STANDING, None)], Metrics::default());
    let at = |last: u8| Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
    let code = |token: Option<&str>, from| {
        keeper.client(token, from).map(|client| client.name.clone()).map_err(|f| f.code().0.to_owned())
    };
    assert_eq!(code(Some("b-0123456789abcdef"), at(1)), Ok("b".to_owned()));
    for wrong in [None, Some(""), Some("b-0123456789abcde"), Some("b-0123456789abcdef ")] {
        assert_eq!(code(wrong, at(1)), Err("unauthorized".to_owned()));
    }
    for _ in 4..30 {
        assert_eq!(code(Some("guess"), at(1)), Err("unauthorized".to_owned()));
    }
    assert_eq!(code(Some("guess"), at(1)), Err("too_many_wrong_tokens".to_owned()));
    assert_eq!(code(Some("guess"), at(2)), Err("unauthorized".to_owned()), "another address is not slowed down");
    assert_eq!(code(Some("a-0123456789abcdef"), at(1)), Ok("a".to_owned()));
}

#[test]
fn a_token_counts_only_with_the_scheme_bearer() {
    for right in ["Bearer t-1", "bearer t-1", "BEARER  t-1 "] {
        assert_eq!(bearer(right), Some("t-1"), "{right}");
    }
    for wrong in ["Basic t-1", "Token t-1", "Bearer", "t-1", "Bearert-1", ""] {
        assert_eq!(bearer(wrong), None, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_count_for_a_minute_and_beyond_many_addresses_together() {
    let keeper = Doorkeeper::new(&[spec("a", STANDING, None)], Metrics::default());
    let wrong = |address: u32| {
        let from = IpAddr::V4(Ipv4Addr::from_bits(address));
        keeper.client(Some("guess"), Some(from)).map(|_| ()).map_err(|failure| failure.code().0.to_owned())
    };
    let (unauthorized, too_many) = (Err("unauthorized".to_owned()), Err("too_many_wrong_tokens".to_owned()));
    for _ in 0..30 {
        assert_eq!(wrong(1), unauthorized);
    }
    assert_eq!(wrong(1), too_many);
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert_eq!(wrong(1), too_many);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(wrong(1), unauthorized, "a minute is over");
    // The first 4 096 addresses are counted one by one, all others together.
    for address in 2..=4_096 {
        assert_eq!(wrong(address), unauthorized);
    }
    for address in 0..30 {
        assert_eq!(wrong(10_000 + address), unauthorized);
    }
    assert_eq!(wrong(20_000), too_many);
    assert_eq!(wrong(2), unauthorized);
}

#[test]
fn a_client_orders_only_its_ops_and_campus_wide_ones_only_with_all_gateways() {
    let stream = |name: &str, scope, allowed| StreamSpec {
        name: name.parse().unwrap(),
        scope,
        keys: vec![],
        insecure_unsigned: false,
        allowed,
    };
    let streams = [
        stream("card-office", Scope::Campus, STANDING),
        stream("apartment", Scope::Gateway, AllowedOps::all() - STANDING),
    ];
    let owner = |name| streams.iter().find(|stream| stream.allowed.contains(name));
    let lost = Op::SetFlag { subject: Subject::Card("1EA68671".parse().unwrap()), flag: Flag::Lost, on: true };
    let withdraw = Op::Withdraw { subject: Subject::Card("1EA68671".parse().unwrap()) };
    let judge = |may: AllowedOps, gateways, ops: &[Op]| {
        let client = Client { spec: Arc::new(spec("x", may, gateways)), person: None };
        client.orders_all(ops, owner).map_err(|failure| failure.code().0.to_owned())
    };
    let both = [lost.clone(), withdraw.clone()];
    assert_eq!(judge(AllowedOps::all(), None, &both), Ok(()));
    assert_eq!(judge(AllowedOps::only(OpName::ReportLost), None, &both), Err("forbidden_op".to_owned()));
    assert_eq!(judge(AllowedOps::all(), Some(&["g1"]), &both), Err("forbidden_gateway".to_owned()));
    assert_eq!(judge(AllowedOps::all(), Some(&["g1"]), &[withdraw]), Ok(()));
    let own = Client { spec: Arc::new(spec("x", STANDING, Some(&["g1"]))), person: None };
    assert!(own.needs(&"g1".parse().unwrap()).is_ok() && own.needs(&"g2".parse().unwrap()).is_err());
    let silent = ClientSpec { may_read: false, ..spec("x", STANDING, None) };
    let silent = Client { spec: Arc::new(silent), person: None };
    assert_eq!(silent.reads().map_err(|failure| failure.code().0.to_owned()), Err("forbidden".to_owned()));
    assert!(own.reads().is_ok());
}

#[test]
fn an_error_of_an_op_names_the_code_the_op_and_the_field() {
    let wrong = [
        (
            r#"[{"op":"found","uid":"1EA68671"},{"op":"found","uid":"1E"}]"#,
            ("invalid_uid", Some(1), Some("ops[1].uid")),
        ),
        (r#"[{"op":"tea"}]"#, ("unknown_op", Some(0), Some("ops[0].op"))),
    ];
    for (text, expected) in wrong {
        let failure = Failure::ops(&down::read_ops(text).unwrap_err());
        assert_eq!(failure.code(), expected, "{text}");
    }
}

/// 2026-09-01, 16:00 in Shanghai.
const NOW: Timestamp = Timestamp(1_788_249_600_000);

/// An API whose center never reaches its broker.
fn api(dir: &std::path::Path) -> Api {
    create(&dir.join("trial"), Layout::One, NonZeroU32::MIN).unwrap();
    let (_, streams) = Directory::open(&dir.join("trial")).unwrap();
    let specs = streams.iter().map(|(spec, _)| spec.clone()).collect();
    let (file, retention) = (dir.join("center.db"), Retention { audit_days: 1, acks_days: 1, requests_days: 1 });
    let database = Database::open(&file, NonZeroU32::MIN, retention).unwrap();
    let center = Center::new(database, streams, vec!["g1".parse().unwrap()]).unwrap();
    let (clock, _) = Clock::manual(NOW);
    let link = LinkSpec::plain(vec!["mqtt://127.0.0.1:1".parse().unwrap()], "center");
    let service = Service::start(center, link, clock.clone(), Attention::Everything).unwrap();
    let (_, zone) = timezone("Asia/Shanghai").unwrap();
    Api::new(service, specs, Reader::open(&file).unwrap(), &[], (&clock, zone))
}

#[tokio::test]
async fn without_the_task_of_its_center_it_is_not_ready_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let api = Arc::new(api(dir.path()));
    let ready = || async { to_bytes(readyz(State(Arc::clone(&api))).await.into_body(), 100).await.unwrap() };
    assert_eq!(ready().await, "not ready: the broker is not connected\n");
    let ended = api.ended();
    assert!(ended.now_or_never().is_none(), "it works");
    let asked = api.service.ask(|_| panic!("as if a message were too much for it")).await;
    assert!(matches!(asked, Err(CenterError::Stopped)));
    api.ended().await;
    assert_eq!(ready().await, "not ready: the center has stopped\n");
}

#[tokio::test]
async fn a_request_that_is_repeated_needs_no_more_room_than_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let api = Arc::new(Api { room: Semaphore::new(1), ..api(dir.path()) });
    let client = || Client { spec: Arc::new(spec("x", AllowedOps::all(), None)), person: None };
    let headers = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), "key-1".parse().unwrap())]);
    for time in ["first", "again"] {
        let body = Bytes::from_static(br#"{"gateway":"g1","ops":[{"op":"report_lost","uid":"1EA68671"}]}"#);
        let wait = Ok(queried::Queried(changes::Wait { wait_ms: None }));
        let answer = changes::changes(State(Arc::clone(&api)), client(), wait, headers.clone(), Ok(body)).await;
        assert_eq!(answer.map(|answer| answer.status()).map_err(|f| f.status()), Ok(StatusCode::ACCEPTED), "{time}");
    }
}

#[tokio::test]
async fn what_a_list_would_change_is_planned_by_the_clock_of_the_center() {
    let dir = tempfile::tempdir().unwrap();
    let visitor = Enrolment { role: Role::Visitor, ..Enrolment::resident("guest-17".parse().unwrap(), Vec::new()) };
    let list = Enrolments::from([("5B3C0D92".parse().unwrap(), visitor)]);
    let planned = list::planned(&Arc::new(api(dir.path())), Some("g1".parse().unwrap()), list).await.unwrap();
    let body = to_bytes(planned.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains(&Timestamp(NOW.0 + 8 * 3_600_000).to_string()), "it ends with the day: {text}");
}

#[test]
fn a_field_that_an_op_or_a_card_does_not_have_is_refused_with_its_path() {
    let card = r#""uid":"1EA68671","holder":"h1","entitlements":[{"kind":"gate","zone":"*"},{"kind":"door","zone":"1","schedule":"t"}]"#;
    let right = [
        format!(r#"[{{"op":"enrol",{card},"role":"visitor","marks":[],"not_before":null,"not_after":null}}]"#),
        r#"[{"op":"reissue","holder":"h1","new_uid":"1EA68671","old_uid":"04A1B2C3D4E5F6"},{"op":"reinstate","uid":"1EA68671"}]"#.to_owned(),
        r#"[{"op":"define_schedule","name":"t","weekly":{},"holidays":[{"date":"2026-10-01","windows":[]}],"timezone":"UTC"}]"#.to_owned(),
        r#"[{"op":"set_posture","portals":"*","posture":"secure","until":null},{"op":"resume_power","zone":"1","reason":"arrears"}]"#.to_owned(),
    ];
    for text in right {
        assert!(down::read_ops(&text).is_ok(), "{text}");
        assert!(fields::of_ops(&text).is_ok(), "{text}");
    }
    let wrong = [
        (
            format!(r#"[{{"op":"found","uid":"1EA68671"}},{{"op":"enrol",{card},"not_afte":"x"}}]"#),
            1,
            "ops[1].not_afte",
        ),
        (format!(r#"[{{"op":"enrol",{}}}]"#, card.replace("schedule", "shedule")), 0, "ops[0].entitlements[1].shedule"),
        (
            r#"[{"op":"define_schedule","name":"t","weekly":{},"holidays":[{"day":1}]}]"#.to_owned(),
            0,
            "ops[0].holidays[0].day",
        ),
    ];
    for (text, op, path) in wrong {
        assert_eq!(fields::of_ops(&text).unwrap_err().code(), ("invalid_field", Some(op), Some(path)), "{text}");
    }
    for name in AllowedOps::all() - OpName::Command {
        let text = format!(r#"[{{"op":"{name}","tea":1}}]"#);
        assert_eq!(fields::of_ops(&text).unwrap_err().code(), ("invalid_field", Some(0), Some("ops[0].tea")));
    }
    let lists = [
        (format!(r#"{{"cards":[{{{card},"not_afte":"x"}}]}}"#), "invalid_field", "cards[0].not_afte"),
        (format!(r#"{{"cards":[{{{card},"op":"enrol"}}]}}"#), "invalid_field", "cards[0].op"),
        (r#"{"cards":null}"#.to_owned(), "invalid_field", "cards"),
        (r#"{"cards":{}}"#.to_owned(), "invalid_field", "cards"),
        (r#"{"cards":[{}]}"#.to_owned(), "invalid_field", "cards[0].uid"),
        (r#"{"cards":[7]}"#.to_owned(), "invalid_field", "cards[0]"),
        (r#"{"cards":[{"uid":"tea","holder":"h","entitlements":[]}]}"#.to_owned(), "invalid_uid", "cards[0].uid"),
        (r#"{"cards":[{"uid":"00000000","holder":"h","entitlements":[]}]}"#.to_owned(), "invalid_uid", "cards[0].uid"),
        (r#"{"cards":[{"uid":"08010203","holder":"h","entitlements":[]}]}"#.to_owned(), "random_uid", "cards[0].uid"),
    ];
    for (text, code, path) in lists {
        assert_eq!(list::read(text.as_bytes()).err().unwrap().code(), (code, None, Some(path)), "{text}");
    }
    assert!(list::read(format!(r#"{{"cards":[{{{card}}}]}}"#).as_bytes()).is_ok());
}
