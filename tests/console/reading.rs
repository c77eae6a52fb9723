//! What is shown, and to whom.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::center::portal;
use crate::http::{Events, send};
use crate::program::{page, within};
use crate::rig::{CARD, LOST, Rig, TOKEN};
use crate::site::{BOX, DOOR, GATE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_names_a_card_whose_box_is_not_known_to_be_off_by_the_end_of_its_uid() {
    let mut rig = Rig::new().await;
    // The box is on by the card; that it is off after the revocation it never reports.
    assert_eq!(rig.site.reason(BOX, CARD).await, "granted");
    let inserted = json!({"online": true, "card_present": true, "uid": CARD, "relay": true});
    rig.site.peer.report(&portal(BOX, "state"), inserted.to_string()).await;
    rig.site.report_cards(json!([{"op": "report_lost", "uid": CARD}])).await;
    let uid = |status: &Value| status["unconfirmed"][0]["uid"].clone();
    for expected in ["…8671", CARD] {
        let mut live = Events::open(&rig.address, "/api/v1/live", &rig.cookie).await;
        let status = loop {
            let status = live.next("status").await.data;
            if !uid(&status).is_null() {
                break status;
            }
        };
        let now = rig.get("/api/v1/now").await.json();
        assert_eq!((uid(&status), uid(&now["status"])), (expected.into(), expected.into()), "{now}");
        rig.log_in("Li Wei").await;
    }
    rig.gateway.stop().await;
}

/// The page compares the names with those of its tiles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_login_the_state_names_portals_whole_whose_ids_look_like_cards() {
    const LIKE_CARDS: [&str; 2] = ["box-01-04-12-02", "door-00000412"];
    let more = |(id, kind)| {
        format!("[[portal]]\nid = \"{id}\"\nkind = \"{kind}\"\nzone = \"1\"\ndevice = {{ mqtt = \"native\" }}\n")
    };
    let portals = [(LIKE_CARDS[0], "power_box"), (LIKE_CARDS[1], "door")].map(more).concat();
    let rig = Rig::with("127.0.0.1", true, &portals).await;
    let mut live = Events::open(&rig.address, "/api/v1/live", "").await;
    let mut until = async |field: &str, expected: Value| {
        within(field, async { while live.next("status").await.data[field] != expected {} }).await;
        assert_eq!(rig.get("/api/v1/now").await.json()["status"][field], expected);
    };
    until("unreported", json!([GATE, DOOR, BOX, LIKE_CARDS[0], LIKE_CARDS[1]])).await;
    for (id, online) in [(LIKE_CARDS[0], true), (LIKE_CARDS[1], false)] {
        rig.site.peer.report(&portal(id, "state"), json!({ "online": online }).to_string()).await;
    }
    until("offline", json!([GATE, DOOR, BOX, LIKE_CARDS[1]])).await;
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_begins_with_the_board_and_goes_on_with_each_event_once() {
    let mut rig = Rig::new().await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    assert_eq!(rig.site.reason(DOOR, LOST).await, "lost");
    // The board is folded from the disk in the background: wait until the second decision is in it.
    let mut live = Events::open(&rig.address, "/api/v1/live?after=0", "").await;
    let mut seen = Vec::new();
    let lost = loop {
        let event = live.next("audit").await;
        seen.push(event.id.unwrap());
        if event.data["reason"] == "lost" && event.data["type"] == "decision" {
            break event.data;
        }
    };
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>(), "every event since the first");
    assert_eq!(lost["uid"], "…E5F6", "{lost}");
    let status = live.next("status").await.data;
    assert_eq!((&status["clock"], &status["cards"]), (&Value::from("trusted"), &Value::from(2)), "{status}");

    let now = rig.get("/api/v1/now").await.json();
    let n = now["n"].as_u64().unwrap();
    assert!(n >= *seen.last().unwrap(), "{now}");
    let tile = |id: &str| now["portals"].as_array().unwrap().iter().find(|p| p["id"] == id).unwrap().clone();
    assert_eq!((&tile(GATE)["last"]["decision"], &tile(DOOR)["last"]["reason"]), (&"grant".into(), &"lost".into()));
    assert_eq!((&tile(BOX)["last"], &tile(BOX)["kind"]), (&Value::Null, &Value::from("power_box")));
    let alarms = now["alarms"].as_array().unwrap();
    assert!(alarms.iter().any(|alarm| alarm["alarm"] == "dead_card" && alarm["uid"] == "…E5F6"), "{now}");
    assert!(!now.to_string().contains(CARD) && !now.to_string().contains(LOST), "{now}");
    let links: BTreeSet<_> =
        now["status"]["links"].as_array().unwrap().iter().map(|l| l["link"].as_str().unwrap()).collect();
    assert_eq!(links, ["local", "uplink"].into(), "{now}");

    // A connection that breaks goes on where it stopped.
    let mut live = Events::open(&rig.address, &format!("/api/v1/live?after={n}"), "").await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    let first = live.next("audit").await.id.unwrap();
    assert_eq!(first, n + 1);
    drop(live);
    assert_eq!(rig.site.reason(DOOR, CARD).await, "granted");
    let mut again = Events::open(&rig.address, "/api/v1/live?after=1", &format!("Last-Event-ID: {first}\r\n")).await;
    assert_eq!(again.next("audit").await.id, Some(first + 1), "the browser's number counts more");

    // With a login the UIDs are whole.
    rig.log_in("Li Wei").await;
    let now = rig.get("/api/v1/now").await.json();
    assert!(now.to_string().contains(LOST), "{now}");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_is_found_in_every_spelling_with_what_denies_it_and_which_change_set_that() {
    let rig = Rig::new().await;
    let card = async |text: &str| rig.get(&format!("/api/v1/card?text={text}")).await;
    for text in [
        "04a1b2c3d4e5f6",
        "04:A1:B2:C3:D4:E5:F6",
        "F6E5D4C3B2A104",
        "1303689068602870",
        "8804A1B2C3D4E5F6",
        "0x04A1B2C3D4E5F6",
    ] {
        let answer = card(text).await.json();
        assert_eq!((&answer["uid"], &answer["known"]), (&LOST.into(), &true.into()), "{text}: {answer}");
        assert_eq!(answer["verdicts"].as_array().unwrap().len(), 3, "one a portal: {answer}");
    }
    let answer = rig.get(&format!("/api/v1/card?text={LOST}&portal={DOOR}")).await.json();
    let verdict = &answer["verdicts"][0];
    assert_eq!((&verdict["reason"], &verdict["decision"]), (&"lost".into(), &"deny".into()), "{answer}");
    for key in ["words", "remedy"] {
        assert!(verdict[key]["en"].is_string() && verdict[key]["zh"].is_string(), "{verdict}");
    }
    let step = verdict["steps"].as_array().unwrap().iter().find(|step| step["ok"] == false).unwrap();
    assert_eq!((&step["step"], &step["set_by"]["stream"]), (&"lost".into(), &"card-office".into()), "{step}");
    assert!(step["set_by"]["at"].is_string() && step["set_by"]["revision"].is_array(), "{step}");
    let unknown = card("0514229874").await.json();
    assert_eq!((&unknown["known"], &unknown["spelling"]), (&false.into(), &"decimal".into()), "{unknown}");
    assert_eq!(unknown["others"].as_array().unwrap().len(), 1, "{unknown}");
    for (target, part) in [
        ("text=1EA6867", "`1EA6867` is not a card UID: a card UID has 8, 14 or 20 digits in hex, this has 7"),
        ("text=card", "`card` is not a card UID: a card UID is written in hex"),
        ("text=20260819302112345678901", "student number is not the UID"),
        ("text=", "`` is not a card UID: a card UID has 4, 7 or 10 bytes, this has 0"),
        ("text=1EA68671&portal=nowhere", "no portal `nowhere` is configured"),
        ("text=1EA68671&portal=a%20b", "`portal`: an identifier is 1 to 64"),
        ("", "`text` is missing; `/api/v1/card` takes `text`, `portal`"),
    ] {
        let answer = rig.get(&format!("/api/v1/card?{target}")).await;
        assert!(matches!(answer.status, 400 | 404) && answer.error().contains(part), "{target}: {}", answer.body);
    }
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_is_known_by_what_the_list_has_and_not_by_who_may_leave() {
    const EXIT: &str = "gate-out";
    let exit = format!(
        "[[portal]]\nid = \"{EXIT}\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"out\"\ndevice = {{ mqtt = \"native\" }}\n"
    );
    let mut rig = Rig::with("127.0.0.1", true, &exit).await;
    let card = async |rig: &Rig, text: &str| rig.get(&format!("/api/v1/card?text={text}")).await.json();
    let of = |answer: &Value| (answer["uid"].clone(), answer["known"].clone());
    rig.log_in("Li Wei").await;
    for posture in ["secure", "lockdown", "out_of_service", "free_access"] {
        let order = json!({"order": "posture", "posture": posture}).to_string();
        assert_eq!(rig.post("/api/v1/orders", &order).await.status, 200, "{posture}");
        let unknown = card(&rig, "DEADBEEF").await;
        assert_eq!(of(&unknown), ("DEADBEEF".into(), false.into()), "{posture}: {unknown}");
        let reversed = card(&rig, "F6E5D4C3B2A104").await;
        assert_eq!(of(&reversed), (LOST.into(), true.into()), "{posture}: {reversed}");
    }
    // Without any portal it is the list alone that knows.
    let Rig { site, gateway, address, .. } = rig;
    gateway.kill().await;
    let text = site.config_text();
    let without = format!("{}{}", text.split("[[portal]]").next().unwrap(), site.extra.replace(&exit, ""));
    let path = site.dir().join("without.toml");
    std::fs::write(&path, without).unwrap();
    let gateway = crate::program::Program::run(&path);
    gateway.logged("serving").await;
    let mut rig = Rig { site, gateway, address, cookie: String::new() };
    rig.log_in("Li Wei").await;
    for (text, uid, known) in [("F6E5D4C3B2A104", LOST, true), ("DEADBEEF", "DEADBEEF", false)] {
        let answer = card(&rig, text).await;
        assert_eq!(of(&answer), (uid.into(), known.into()), "{answer}");
    }
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_login_no_hash_shows_from_which_a_uid_can_be_computed() {
    let mut rig = Rig::new().await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    let targets = ["/api/v1/audit", "/api/v1/audit/export?format=jsonl", "/api/v1/audit/event?n=3", "/api/v1/now"];
    let hashes =
        |text: &str| ["\"prev\"", "\"hash\"", "\"evidence\""].into_iter().filter(|key| text.contains(key)).count();
    for target in targets {
        let text = rig.get(target).await.body;
        assert_eq!(hashes(&text), 0, "{target}: {text}");
    }
    let mut live = Events::open(&rig.address, "/api/v1/live?after=0", "").await;
    let first = live.next("audit").await.data;
    assert_eq!((first["n"].clone(), hashes(&first.to_string())), (1.into(), 0), "{first}");
    let event = rig.get("/api/v1/audit/event?n=3").await.json();
    assert_eq!(event["before"], "holds", "that it holds shows nothing: {event}");
    rig.log_in("Li Wei").await;
    assert!(hashes(&rig.get("/api/v1/audit/event?n=3").await.body) >= 2);
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duress_shows_to_nobody_who_has_not_logged_in() {
    let mut rig = Rig::new().await;
    let mut marked = crate::center::enrol(CARD, "h1");
    marked["marks"] = json!(["duress"]);
    rig.site.report_rooms(json!([marked])).await;
    let mark = rig.site.peer.mark();
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    let n = rig.site.alarm(mark, "duress").await["n"].as_u64().unwrap();
    assert!(!page(&rig.address, "/metrics").await.1.contains("duress"));
    // Somebody sees to it: that shows nothing either.
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let order = json!({"order": "acknowledge", "from": n, "to": n}).to_string();
    assert_eq!(send(&rig.address, "POST", "/api/v1/orders", &bearer, &order).await.status, 200);
    let mut live = Events::open(&rig.address, "/api/v1/live?after=0", "").await;
    for expected in 1..=n {
        let event = live.next("audit").await;
        assert_eq!(event.id, Some(expected), "no number is left out");
    }
    let found = rig.get("/api/v1/audit").await.json();
    let events = found["events"].as_array().unwrap();
    let hidden = events.iter().find(|event| event["n"] == n).unwrap();
    assert_eq!(*hidden, json!({"n": n, "at": hidden["at"], "type": "hidden"}));
    let kinds = events.iter().filter(|event| event["type"] == "hidden").count();
    assert!(kinds > 2, "it is not the only one: {found}");
    assert!(!found.to_string().contains("duress") && !found.to_string().contains("acknowledged"), "{found}");
    let one = rig.get(&format!("/api/v1/audit/event?n={n}")).await.json();
    assert_eq!((&one["event"], &one["before"]), (hidden, &"holds".into()));
    // No filter finds it, as no filter may show what it is; by time it is found.
    for query in ["type=alarm", "uid=1EA68671", "holder=h1", "portal=gate-in"] {
        let found = rig.get(&format!("/api/v1/audit?{query}")).await.json();
        assert!(!found.to_string().contains("hidden"), "{query}: {found}");
    }
    assert!(rig.get("/api/v1/audit?since=2000-01-01T00:00:00Z").await.body.contains("hidden"));
    let csv = rig.get("/api/v1/audit/export?format=csv").await.body;
    assert!(csv.lines().any(|line| line.starts_with(&format!("{n},")) && line.contains(",hidden,")), "{csv}");
    rig.log_in("Li Wei").await;
    assert_eq!(rig.get(&format!("/api/v1/audit/event?n={n}")).await.json()["event"]["alarm"], "duress");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_is_searched_newest_first_exported_and_shown_with_its_place_in_the_chain() {
    let mut rig = Rig::new().await;
    for _ in 0..3 {
        assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
        assert_eq!(rig.site.reason(DOOR, LOST).await, "lost");
    }
    let mut live = Events::open(&rig.address, "/api/v1/live?after=0", "").await;
    let mut decisions = 0;
    while decisions < 6 {
        decisions += u64::from(live.next("audit").await.data["type"] == "decision");
    }
    let found = async |query: &str| rig.get(&format!("/api/v1/audit?{query}")).await.json();
    let all = found("type=decision").await;
    let numbers: Vec<u64> = all["events"].as_array().unwrap().iter().map(|e| e["n"].as_u64().unwrap()).collect();
    assert!(numbers.len() == 6 && numbers.is_sorted_by(|a, b| a > b), "{all}");
    for (query, count) in [
        ("type=decision&portal=door-412", 3),
        ("type=decision&uid=04a1b2c3d4e5f6", 3),
        ("type=decision&uid=1303689068602870", 3),
        ("type=decision&holder=h1", 3),
        ("type=decision&since=2100-01-01T00:00:00Z", 0),
        (&format!("type=decision&before={}", numbers[1]), 4),
    ] {
        assert_eq!(found(query).await["events"].as_array().unwrap().len(), count, "{query}");
    }
    for (target, part) in [
        ("/api/v1/audit?uid=12", "`12` is not a card UID"),
        ("/api/v1/audit?type=revokes", "`revokes` is not a type"),
        ("/api/v1/audit?since=yesterday", "`since` `yesterday`"),
        ("/api/v1/audit?before=x", "before"),
        ("/api/v1/charts?x=1", "`x` is not a parameter of `/api/v1/charts`, which takes none"),
        ("/api/v1/audit?portal=gate-i", "no event names `gate-i`, and no portal is called so; did you mean `gate-in`?"),
        (
            "/api/v1/audit/export?format=csv&portal=nowhere",
            "no event names `nowhere`, and no portal is called so; known: ",
        ),
        ("/api/v1/audit?portal=", "`portal` ``: an identifier is 1 to 64"),
        ("/api/v1/audit?foo=1", "`foo` is unknown; a filter has `portal`"),
        ("/api/v1/audit/export?format=csv&before=1", "`before` is unknown"),
        ("/api/v1/audit/event?n=1&m=2", "`m` is not a parameter"),
        ("/api/v1/audit/export?format=xls", "`format`: `csv` or `jsonl` is wanted"),
        ("/api/v1/audit/export?format=csv&uid=12", "`12` is not a card UID"),
        ("/api/v1/audit/event", "`n` is missing"),
        ("/api/v1/audit/event?n=99999999", "event 99999999 is not in the journal"),
    ] {
        let answer = rig.get(target).await;
        assert!(matches!(answer.status, 400 | 404) && answer.error().contains(part), "{target}: {}", answer.body);
    }
    let live = send(&rig.address, "GET", "/api/v1/live", "Last-Event-ID: seven\r\n", "").await;
    assert!(live.status == 400 && live.error().contains("`Last-Event-ID`"), "{}", live.body);

    let csv = rig.get("/api/v1/audit/export?format=csv&type=decision").await;
    assert_eq!((csv.status, csv.body.lines().count()), (200, 7), "{}", csv.body);
    assert!(csv.body.starts_with("n,at,clock,type,portal,uid,") && csv.body.contains("…E5F6"), "{}", csv.body);
    assert_eq!(csv.header("content-disposition"), Some("attachment; filename=\"xing1-audit.csv\""));
    rig.log_in("Li Wei").await;
    let lines = rig.get("/api/v1/audit/export?format=jsonl").await.body;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = rig.get("/api/v1/audit").await.json()["last"].as_u64().unwrap();
    assert!(events.len() as u64 <= last && lines.contains(LOST), "{} of {last}", events.len());
    for (line, next) in lines.lines().zip(events.iter().skip(1)) {
        assert_eq!(next["prev"], crate::site::hash(line), "byte for byte as they are chained");
    }
    let n = numbers[2];
    let event = rig.get(&format!("/api/v1/audit/event?n={n}")).await.json();
    assert_eq!((&event["before"], &event["after"]), (&"holds".into(), &"holds".into()), "{event}");
    assert_eq!(event["event"]["n"], n);
    let first = rig.get("/api/v1/audit/event?n=1").await.json();
    assert_eq!(first["before"], "holds", "64 zeros: {first}");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_others_can_reach_it_nothing_is_shown_without_a_login() {
    let mut rig = Rig::on("0.0.0.0", true).await;
    let targets = [
        "/api/v1/charts",
        "/api/v1/now",
        "/api/v1/live",
        "/api/v1/card?text=1EA68671",
        "/api/v1/audit",
        "/api/v1/audit/event?n=1",
    ];
    for target in targets.into_iter().chain(["/api/v1/audit/export?format=csv"]) {
        let answer = rig.get(target).await;
        assert!(answer.status == 401 && answer.error().contains("a login is needed"), "{target}: {}", answer.body);
    }
    assert_eq!((page(&rig.address, "/healthz").await.0, page(&rig.address, "/metrics").await.0), (200, 200));
    let session = rig.get("/api/v1/session").await.json();
    assert_eq!((&session["reads"], &session["can_log_in"]), (&false.into(), &true.into()), "{session}");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(send(&rig.address, "GET", "/api/v1/now", &bearer, "").await.status, 200);
    rig.log_in("Li Wei").await;
    assert_eq!(rig.get("/api/v1/now").await.status, 200);
    let session = rig.get("/api/v1/session").await.json();
    assert_eq!((&session["who"], &session["changes"]), (&"Li Wei".into(), &true.into()), "{session}");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_given_what_it_is_to_refuse_and_another_site_gets_nothing() {
    let rig = Rig::new().await;
    for target in ["/api/v1/session", "/api/v1/now", "/api/v1/nothing"] {
        let answer = rig.get(target).await;
        if answer.status == 404 {
            continue;
        }
        let policy = answer.header("content-security-policy").unwrap_or_default();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.contains(part), "{target}: {}", answer.head);
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    for lines in ["Sec-Fetch-Site: cross-site\r\n", "Host: rebound.example\r\n"] {
        let answer = send(&rig.address, "GET", "/api/v1/now", lines, "").await;
        assert!(matches!(answer.status, 401 | 403), "{lines}: {}", answer.body);
    }
    rig.gateway.stop().await;
}

#[test]
fn the_figures_in_the_document_are_those_of_the_program() {
    use dormgate::http::console as limits;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/console.md");
    let text = std::fs::read_to_string(path).unwrap().replace('\u{a0}', " ");
    // Thousands are set apart by a space.
    let spaced = |n: u64| if n >= 1_000 { format!("{} {:03}", n / 1_000, n % 1_000) } else { n.to_string() };
    for figure in [
        format!("It lasts {} h", limits::SESSION_S / 3_600),
        format!("there are at most {};", limits::SESSIONS_MAX),
        format!("after {} wrong tokens from one address", limits::WRONG_A_MINUTE_MAX),
        format!("or {} from all addresses together", limits::WRONG_IN_SUM_A_MINUTE_MAX),
        format!("| {}, fewer where few files may be open", limits::CONNECTIONS_MAX),
        format!("look at once: {};", limits::STREAMS_MAX),
        format!("| {}; what is older is named", spaced(limits::RESUME_EVENTS_MAX)),
        format!("| {}, of the newest {} events", limits::ALARMS_MAX, spaced(limits::SEED_EVENTS_MAX)),
        format!("| {}, of which {} are shown", spaced(limits::SEARCHED_MAX), limits::FOUND_MAX),
        format!("{} samples of five minutes, {} series", limits::SAMPLES_MAX, spaced(limits::SERIES_MAX as u64)),
    ] {
        assert!(text.contains(&figure), "`{figure}` is not in deploy/console.md");
    }
    assert_eq!(limits::SAMPLE_EVERY_S, 300, "five minutes");
}
