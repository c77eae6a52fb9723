//! What is ordered from the console: by whom, from where, and with what wrong input.

use serde_json::{Value, json};

use crate::center::portal;
use crate::http::{Events, send};
use crate::program::within;
use crate::rig::{CARD, Rig, TOKEN};
use crate::site::{BOX, DOOR, GATE};

/// The orders that a warden gives, with what each is in the audit.
fn all() -> [(Value, &'static str); 7] {
    [
        (json!({"order": "release", "portal": GATE}), "release by Li Wei at the console"),
        (json!({"order": "power", "portal": BOX, "on": true}), "power on by Li Wei at the console"),
        (json!({"order": "power", "portal": BOX, "on": false}), "power off by Li Wei at the console"),
        (
            json!({"order": "posture", "portals": [DOOR], "posture": "lockdown"}),
            "posture lockdown at door-412 by Li Wei at the console",
        ),
        (json!({"order": "posture", "posture": "secure"}), "posture secure at every portal by Li Wei at the console"),
        (json!({"order": "forgive", "uid": "0514229873"}), "forgive …8671 by Li Wei at the console"),
        (json!({"order": "acknowledge", "from": 1, "to": 1}), "alarm 1 acknowledged by Li Wei at the console"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_acts_once_and_is_in_the_audit_with_who_gave_it() {
    let mut rig = Rig::new().await;
    rig.site.peer.report(&portal(GATE, "state"), json!({"online": true}).to_string()).await;
    rig.site.peer.report(&portal(BOX, "state"), json!({"online": true}).to_string()).await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    rig.log_in("Li Wei").await;
    let mark = rig.site.peer.mark();
    for (order, detail) in all() {
        let answer = rig.post("/api/v1/orders", &order.to_string()).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"done": true})), "{order}");
        let event = rig.site.event(mark, detail, |event| event["detail"] == detail).await;
        let expected = if order["order"] == "acknowledge" { "config" } else { "command" };
        assert_eq!(event["type"], expected, "{event}");
    }
    let released = |r: &crate::peer::Received| {
        (r.topic == portal(GATE, "control") && r.json["action"] == "release").then(|| r.json.clone())
    };
    rig.site.peer.find(mark, "the release", released).await;
    let controls = rig.site.peer.since(mark);
    let count = controls.iter().filter(|r| r.topic == portal(GATE, "control") && r.json["action"] == "release").count();
    assert_eq!(count, 1);
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posture_of_no_portal_is_refused_and_sets_none() {
    let mut rig = Rig::new().await;
    rig.log_in("Li Wei").await;
    let order = json!({"order": "posture", "portals": [], "posture": "free_access"}).to_string();
    let answer = rig.post("/api/v1/orders", &order).await;
    assert!(answer.status == 400 && answer.error().contains("`portals`"), "{}", answer.body);
    let now = rig.get("/api/v1/now").await.json();
    assert_eq!(now["status"]["modes"], json!([]), "{now}");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_replaced_ends_its_sessions_and_the_new_one_counts_without_a_restart() {
    let mut rig = Rig::new().await;
    rig.log_in("Li Wei").await;
    let order = json!({"order": "release", "portal": GATE}).to_string();
    let file = rig.site.dir().join("console_token");
    std::fs::write(&file, " \n").unwrap();
    rig.gateway.signal("HUP");
    rig.gateway.logged("the token is blank").await;
    assert_eq!(rig.post("/api/v1/orders", &order).await.status, 200, "the token of before counts");
    std::fs::write(&file, "another token of a test, 32 characters\n").unwrap();
    rig.gateway.signal("HUP");
    rig.gateway.logged("the configuration is in force: http.token_file").await;
    assert_eq!(rig.post("/api/v1/orders", &order).await.status, 401);
    let login = |token: &str| json!({"name": "Li Wei", "token": token}).to_string();
    assert_eq!(rig.post("/api/v1/session", &login(TOKEN)).await.status, 401);
    assert_eq!(rig.post("/api/v1/session", &login("another token of a test, 32 characters")).await.status, 200);
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_shown_until_somebody_has_seen_to_it_also_after_a_restart() {
    let mut rig = Rig::new().await;
    let mark = rig.site.peer.mark();
    assert_eq!(rig.site.reason(GATE, crate::rig::LOST).await, "lost");
    let n = rig.site.alarm(mark, "dead_card").await["n"].as_u64().unwrap();
    rig.log_in("Li Wei").await;
    let shown = async |rig: &Rig| {
        let now = rig.get("/api/v1/now").await.json();
        let alarms = now["alarms"].as_array().unwrap();
        (now["n"].as_u64().unwrap(), alarms.iter().any(|alarm| alarm["n"] == n))
    };
    // The board follows the disk: ask until it has the event.
    let until = async |rig: &Rig, through: u64| {
        loop {
            let (at, is_shown) = shown(rig).await;
            if at >= through {
                return is_shown;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(until(&rig, n).await);
    let order = json!({"order": "acknowledge", "from": n, "to": n}).to_string();
    assert_eq!(rig.post("/api/v1/orders", &order).await.status, 200);
    let detail = format!("alarm {n} acknowledged by Li Wei at the console");
    let seen_to =
        rig.site.event(mark, &detail, |event| event["detail"] == detail.as_str()).await["n"].as_u64().unwrap();
    assert!(!until(&rig, seen_to).await, "somebody has seen to it");
    let Rig { site, gateway, address, .. } = rig;
    gateway.stop().await;
    let gateway = site.start().await;
    gateway.logged("serving").await;
    let rig = Rig { site, gateway, address, cookie: String::new() };
    assert!(!until(&rig, seen_to).await, "and it stays so");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_without_the_token_or_from_another_page() {
    let mut rig = Rig::new().await;
    let mark = rig.site.peer.mark();
    let order = json!({"order": "release", "portal": GATE}).to_string();
    let (own, address) = (rig.own(), rig.address.clone());
    assert_eq!(send(&address, "POST", "/api/v1/orders", &own, &order).await.status, 401, "not logged in");
    let login = json!({"name": "Li Wei", "token": TOKEN}).to_string();
    for lines in ["", "Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = send(&address, "POST", "/api/v1/session", lines, &login).await;
        assert!(answer.status == 403 && answer.header("set-cookie").is_none(), "a login from elsewhere: {lines}");
    }
    rig.log_in("Li Wei").await;
    for lines in [
        String::new(),
        "Origin: http://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        format!("Origin: http://{address}\r\nSec-Fetch-Site: same-site\r\n"),
        format!("Origin: http://{address}\r\nSec-Fetch-Site: cross-site\r\n"),
    ] {
        let lines = format!("{}{lines}", rig.cookie);
        let answer = send(&address, "POST", "/api/v1/orders", &lines, &order).await;
        assert_eq!(answer.status, 403, "{lines}: {}", answer.body);
    }
    // No method that a link or an image can make changes anything.
    let by_link = rig.get("/api/v1/orders?order=release&portal=gate-in").await;
    assert!(by_link.status == 405 && by_link.error().contains("does not take GET"), "{}", by_link.body);
    let nowhere = rig.get("/api/v1/nothing").await;
    assert!(nowhere.status == 404 && nowhere.error().contains("there is no `/api/v1/nothing`"), "{}", nowhere.body);
    let long = rig.post("/api/v1/orders", &" ".repeat(5_000)).await;
    assert!(long.status == 413 && long.error().contains("at most 4096 bytes"), "{}", long.body);
    // A program with the token needs no page, and may name for whom it acts.
    let bearer = format!("Authorization: Bearer {TOKEN}\r\nDormgate-Actor: Wang Fang\r\n");
    rig.site.peer.report(&portal(GATE, "state"), json!({"online": true}).to_string()).await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    let answer = send(&address, "POST", "/api/v1/orders", &bearer, &order).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let detail = "release by Wang Fang at the console";
    rig.site.event(mark, detail, |event| event["detail"] == detail).await;
    let controls = rig.site.peer.since(mark);
    let count = controls.iter().filter(|r| r.topic == portal(GATE, "control") && r.json["action"] == "release").count();
    assert_eq!(count, 1, "only the last one");
    // After the logout the cookie is worth nothing, whoever kept it.
    let out = send(&address, "DELETE", "/api/v1/session", &rig.own(), "").await;
    assert!(out.status == 200 && out.header("set-cookie").unwrap().contains("Max-Age=0"), "{}", out.head);
    assert_eq!(rig.post("/api/v1/orders", &order).await.status, 401);
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_the_token_is_stopped_and_sessions_go_on() {
    let mut rig = Rig::new().await;
    rig.log_in("Li Wei").await;
    let wrong = json!({"name": "x", "token": "guess"}).to_string();
    let most = dormgate::http::console::WRONG_A_MINUTE_MAX;
    let mut statuses = Vec::new();
    for _ in 0..=most {
        statuses.push(rig.post("/api/v1/session", &wrong).await.status);
    }
    assert!(
        statuses[..most as usize].iter().all(|status| *status == 401) && statuses[most as usize] == 429,
        "{statuses:?}"
    );
    let refused = rig.post("/api/v1/session", &json!({"name": "x", "token": TOKEN}).to_string()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")), "{}", refused.body);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(send(&rig.address, "GET", "/api/v1/now", &bearer, "").await.status, 429);
    assert_eq!(rig.get("/api/v1/session").await.json()["changes"], true, "who is in stays in");
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_is_named_and_changes_nothing() {
    let mut rig = Rig::new().await;
    for (body, part) in [
        (r#"{"name":"","token":"x"}"#, "`name`: 1 to 128 printable characters"),
        (r#"{"name":"a\nb","token":"x"}"#, "`name`: 1 to 128 printable characters"),
        (r#"{"name":"Li"}"#, "the body: `token` is missing; add it"),
        (r#"{"name":"Li","token":"x","admin":true}"#, "unknown field `admin`"),
        ("name=Li&token=x", "the body: expected ident; send a JSON object, see deploy/console.md"),
        ("", "the body: the JSON ends too early; send a JSON object, see deploy/console.md"),
    ] {
        let answer = rig.post("/api/v1/session", body).await;
        assert!(answer.status == 400 && answer.error().contains(part), "{body}: {}", answer.body);
    }
    rig.log_in("Li Wei").await;
    let last = async |rig: &Rig| rig.get("/api/v1/now").await.json()["status"]["audit"]["last"].as_u64().unwrap();
    let before = last(&rig).await;
    let long = format!(r#"{{"order":"release","portal":"{}"}}"#, "x".repeat(5_000));
    for (body, status, part) in [
        (
            r#"{"order":"relase","portal":"gate-in"}"#,
            400,
            "`power`, `posture`, `fire_reset`, `forgive`, `acknowledge` is wanted, got `relase`",
        ),
        (r#"{"order":"release"}"#, 400, "`portal` is missing; add it"),
        (r#"{"order":"release","portal":"a b"}"#, 400, "an identifier is 1 to 64"),
        (r#"{"order":"release","portal":"gate-in","hold_ms":9}"#, 400, "unknown field `hold_ms`"),
        (r#"{"order":"power","portal":"power-412","on":"yes"}"#, 400, "`true` or `false` is wanted, got text"),
        (r#"{"order":"posture","posture":"party"}"#, 400, "is wanted, got `party`"),
        (r#"{"order":"forgive","uid":"12"}"#, 400, "a card UID has 4, 7 or 10 bytes"),
        (r#"{"order":"acknowledge","from":-1,"to":1}"#, 400, "a whole number from 0 is wanted, got a number below 0"),
        ("[]", 400, "the body: an object in braces is wanted, got a list"),
        ("[\"release\",null]", 400, "the body: an object in braces is wanted, got a list"),
        (r#"{"order":null}"#, 400, "is wanted, got `null`"),
        (
            r#"{"order":"acknowledge","from":5,"to":1}"#,
            400,
            "`from` 5 is above `to` 1: numbers of events are wanted, the lower first",
        ),
        (long.as_str(), 413, ""),
    ] {
        let answer = rig.post("/api/v1/orders", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.body.contains(part), "{body}: {}", answer.body);
    }
    assert_eq!(last(&rig).await, before, "nothing was ordered");
    // What can be read and cannot be done is in the audit, with why.
    let mark = rig.site.peer.mark();
    for (order, status, part) in [
        (json!({"order": "release", "portal": "nowhere"}), 404, "no portal `nowhere` is configured"),
        (json!({"order": "release", "portal": BOX}), 409, "`power-412` is a power box; use `power`"),
        (json!({"order": "power", "portal": GATE, "on": true}), 409, "`gate-in` is no power box; use `release`"),
        (json!({"order": "posture", "portals": ["nowhere"], "posture": "secure"}), 404, "no portal `nowhere`"),
        (json!({"order": "fire_reset"}), 409, "no fire latch is set"),
        (json!({"order": "acknowledge", "from": 0, "to": 1}), 409, "numbers of events are wanted"),
    ] {
        let answer = rig.post("/api/v1/orders", &order.to_string()).await;
        assert!(answer.status == status && answer.error().contains(part), "{order}: {}", answer.body);
        let is_it = |event: &Value| {
            event["type"] == "command"
                && event["reason"] == "rejected"
                && event["detail"].as_str().is_some_and(|d| d.contains(part))
        };
        rig.site.event(mark, part, is_it).await;
    }
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_in_the_configuration_nothing_is_changed_and_the_remedy_is_named() {
    let rig = Rig::on("127.0.0.1", false).await;
    let order = json!({"order": "release", "portal": GATE}).to_string();
    let login = json!({"name": "Li", "token": TOKEN}).to_string();
    for (target, body) in [("/api/v1/orders", order), ("/api/v1/session", login)] {
        let answer = rig.post(target, &body).await;
        assert!(answer.status == 403 && answer.error().contains("set `[http] token_file`"), "{}", answer.body);
    }
    assert_eq!(rig.get("/api/v1/now").await.status, 200);
    rig.gateway.stop().await;
}

/// Its text is what stays, and the hash in it is that of what was erased: a hash beside it would not be that of the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_event_that_was_erased_there_is_no_hash_and_its_place_in_the_chain_holds() {
    let mut rig = Rig::with("127.0.0.1", true, "[audit]\nack = \"broker\"\n").await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    rig.log_in("Li Wei").await;
    let mut live = Events::open(&rig.address, "/api/v1/live?after=0", &rig.cookie).await;
    let n = loop {
        let event = live.next("audit").await;
        if event.data["type"] == "decision" {
            break event.id.unwrap();
        }
    };
    let target = format!("/api/v1/audit/event?n={n}");
    let whole = rig.get(&target).await.json();
    assert_eq!(whole["hash"], crate::site::hash(whole["text"].as_str().unwrap()), "{whole}");
    let config = rig.site.config();
    let erased = within("the erasure, once the broker has the event", async {
        loop {
            let mut order = tokio::process::Command::new(env!("CARGO_BIN_EXE_dormgate"));
            order.args(["audit", "erase", "--holder", "h1", "--actor", "office", "--config"]).arg(&config);
            assert!(order.output().await.unwrap().status.success());
            let event = rig.get(&target).await.json();
            if event["event"]["type"] == "erased" {
                break event;
            }
        }
    })
    .await;
    assert!(erased["text"].as_str().unwrap().contains(whole["hash"].as_str().unwrap()), "{erased}");
    assert_eq!((&erased["before"], &erased["after"]), (&"holds".into(), &"holds".into()), "{erased}");
    assert!(erased["hash"].is_null(), "{erased}");
    rig.gateway.stop().await;
}
