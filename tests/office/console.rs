//! The console of a center over TCP, as a browser uses it: who gets in, what a session may, and that it counts from the console's own
//! pages only. No broker is needed to judge that.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::center::{enrol, issue};
use crate::program::within;
use crate::rig::{ALL, Answer, Center, NEW, NO_BROKER, OLD, SOME, error, exchange};

/// A browser with the center's pages, and with a session once somebody has logged in.
pub struct Browser {
    address: String,
    cookie: String,
}

impl Browser {
    pub fn at(center: &Center) -> Self {
        Self { address: center.address.clone(), cookie: String::new() }
    }

    /// The header lines of a request from the center's own page.
    fn own(&self) -> String {
        let address = &self.address;
        format!("Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n{}", self.cookie)
    }

    async fn send(&self, target: &str, lines: &str, body: &str) -> (String, Answer) {
        exchange(&self.address, target, lines, body.as_bytes()).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &self.cookie, "").await.1
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(&format!("POST {path}"), &self.own(), body).await.1
    }

    async fn keyed(&self, path: &str, key: &str, body: &str) -> Answer {
        self.send(&format!("POST {path}"), &format!("{}Idempotency-Key: {key}\r\n", self.own()), body).await.1
    }

    pub async fn log_in(&mut self, name: &str, token: &str) {
        let login = json!({ "name": name, "token": token }).to_string();
        let (head, answer) = self.send("POST /console/session", &self.own(), &login).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = header(&head, "set-cookie").expect("a cookie");
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "it would not be sent back over plain HTTP: {cookie}");
        self.cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn issued(uid: &str) -> String {
    json!({ "ops": [issue(uid, "h1")] }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_its_client_at_the_api_and_only_from_the_consoles_own_pages() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    let mut browser = Browser::at(&center);
    let session = browser.get("/console/session").await;
    assert_eq!((session.status, &session.body["reads"], &session.body["who"]), (200, &json!(false), &Value::Null));
    assert_eq!(error(&browser.get("/v1/gateways").await), (401, "unauthorized"));
    browser.log_in("Li Wei", ALL).await;
    let session = browser.get("/console/session").await.body;
    assert_eq!(
        (&session["who"], &session["client"], &session["reads"]),
        (&"Li Wei".into(), &"all".into(), &true.into())
    );
    let has = |list: &str, op: &str| session[list].as_array().unwrap().contains(&op.into());
    assert!(has("may", "enrol") && has("campus", "issue") && !has("campus", "enrol"), "{session}");
    assert_eq!(browser.get("/v1/gateways").await.status, 200);
    assert_eq!(browser.post("/v1/changes", &issued(OLD)).await.status, 202);
    // The message, and the head that names it.
    let waits = |body: &Value| *body == json!({ "connected": false, "waiting": 2 });
    center.until("/v1/delivery", waits).await;

    // What another page makes the browser send changes nothing and shows nothing.
    let Browser { address, cookie } = &browser;
    let from = |lines: &str| format!("{cookie}{lines}");
    for lines in [
        String::new(),
        "Origin: http://evil.example\r\n".to_owned(),
        format!("Origin: http://{address}\r\nSec-Fetch-Site: cross-site\r\n"),
        format!("Origin: http://{address}\r\nSec-Fetch-Site: same-site\r\n"),
        "Origin: null\r\n".to_owned(),
    ] {
        let (_, answer) = browser.send("POST /v1/changes", &from(&lines), &issued(NEW)).await;
        assert_eq!(error(&answer), (403, "forbidden_origin"), "{lines}: {}", answer.body);
        let (_, answer) = browser.send("DELETE /console/session", &from(&lines), "").await;
        assert_eq!(error(&answer), (403, "forbidden_origin"), "{lines}");
        let login = json!({ "name": "Li Wei", "token": ALL }).to_string();
        let (_, answer) = browser.send("POST /console/session", &lines, &login).await;
        assert_eq!(error(&answer), (403, "forbidden_origin"), "{lines}");
    }
    let (_, answer) = browser.send("GET /v1/gateways", &from("Sec-Fetch-Site: cross-site\r\n"), "").await;
    assert_eq!(error(&answer), (403, "forbidden_origin"));
    assert_eq!(error(&browser.get(&format!("/v1/cards/{NEW}")).await), (404, "unknown_credential"));
    let (_, wrong) = browser.send("GET /v1/gateways", &from("Authorization: Bearer wrong\r\n"), "").await;
    assert_eq!(error(&wrong), (401, "unauthorized"), "a wrong token is not set aside by a session");

    // Over HTTPS the browser sends the cookie over HTTPS only.
    let https = format!("Origin: https://{address}\r\nSec-Fetch-Site: same-origin\r\n");
    let login = json!({ "name": "Li Wei", "token": ALL }).to_string();
    let (head, _) = browser.send("POST /console/session", &https, &login).await;
    assert!(header(&head, "set-cookie").unwrap().ends_with("; Secure"), "{head}");

    let (head, answer) = browser.send("DELETE /console/session", &browser.own(), "").await;
    assert!(answer.status == 200 && header(&head, "set-cookie").unwrap().contains("Max-Age=0"), "{head}");
    assert_eq!(error(&browser.get("/v1/gateways").await), (401, "unauthorized"), "the cookie alone is worth nothing");
    assert_eq!(browser.get("/console/session").await.body["who"], Value::Null);
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_may_what_its_client_may_and_ends_with_it() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    let mut browser = Browser::at(&center);
    browser.log_in("王芳", SOME).await;
    let enrolled = |gateway: &str| json!({ "gateway": gateway, "ops": [enrol(OLD, "h1")] }).to_string();
    assert_eq!(error(&browser.post("/v1/changes", &issued(OLD)).await), (403, "forbidden_op"));
    assert_eq!(error(&browser.post("/v1/changes", &enrolled("xing2")).await), (403, "forbidden_gateway"));
    assert_eq!(error(&browser.post("/v1/sheet?gateway=xing1", "uid\n").await), (403, "forbidden"));
    // A key for each submission: what is sent twice is one change.
    let first = browser.keyed("/v1/changes", "k1", &enrolled("xing1")).await;
    let again = browser.keyed("/v1/changes", "k1", &enrolled("xing1")).await;
    assert_eq!((first.status, again.status), (202, 202), "{}", again.body);
    assert_eq!((&first.body["messages"], &first.body["messages"][0]["seq"]), (&again.body["messages"], &json!(1)));

    let path = center.dir.path().join("center.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("may = [\"read\", \"enrol\"]", "may = [\"enrol\"]")).unwrap();
    center.program.signal("HUP");
    center.program.logged("`some` changed").await;
    assert_eq!(error(&browser.get("/v1/gateways").await), (403, "forbidden"));
    let session = browser.get("/console/session").await.body;
    assert_eq!((&session["reads"], &session["can_log_in"]), (&json!(false), &json!(false)), "{session}");
    std::fs::write(center.dir.path().join("some.token"), "another-0123456789abcdef").unwrap();
    center.program.signal("HUP");
    center.program.logged("clients are those of the file: `some` changed").await;
    let ended = async {
        while error(&browser.get("/v1/gateways").await).0 != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("the end of the session of a token that was replaced", ended).await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_as_it_happens_ends_with_the_session() {
    let center = Center::start(NO_BROKER, &["xing1"]).await;
    let mut browser = Browser::at(&center);
    browser.log_in("Li Wei", ALL).await;
    let mut events = TcpStream::connect(&center.address).await.unwrap();
    // Of another run of the center: the first that is sent is `missed`.
    let ask = format!("GET /v1/events HTTP/1.0\r\nHost: center\r\nLast-Event-ID: 1-1\r\n{}\r\n", browser.cookie);
    events.write_all(ask.as_bytes()).await.unwrap();
    let mut bytes = [0; 4096];
    let mut text = String::new();
    while !text.contains("event: missed") {
        let read = within("an event", events.read(&mut bytes)).await.unwrap();
        assert!(read > 0, "the connection was closed: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let (_, answer) = browser.send("DELETE /console/session", &browser.own(), "").await;
    assert_eq!(answer.status, 200);
    // Whatever would be sent next: here the clients are read again, and are the same.
    center.program.signal("HUP");
    within("the end of the events", async { events.read_to_end(&mut Vec::new()).await.unwrap() }).await;
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_is_given_what_it_is_to_refuse_and_guessing_is_slowed_down() {
    let center = Center::start(NO_BROKER, &["xing1"]).await;
    let browser = Browser::at(&center);
    for path in
        ["/", "/console/app.js", "/console/session", "/console/words", "/v1/gateways", "/v1/openapi.json", "/none"]
    {
        let (head, _) = browser.send(&format!("GET {path}"), "", "").await;
        let policy = header(&head, "content-security-policy").unwrap_or_default();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.contains(part) && !policy.contains("unsafe"), "{path}: {head}");
        }
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(header(&head, name), Some(value), "{path}");
        }
        assert_eq!(header(&head, "access-control-allow-origin"), None, "{path}");
    }
    let words = browser.get("/console/words").await.body;
    assert!(words["replaced"]["zh"].is_string() && words["replaced"]["do_en"].is_string(), "{words}");
    for (body, field) in [
        ("tea", "body"),
        (r#"{"name":"Li Wei"}"#, "body"),
        (r#"{"name":"Li Wei","token":"x","more":1}"#, "body"),
        (r#"{"name":"","token":"x"}"#, "name"),
    ] {
        let answer = browser.post("/console/session", body).await;
        assert_eq!((error(&answer), &answer.body["error"]["field"]), ((400, "invalid_field"), &field.into()), "{body}");
    }
    let guess = json!({ "name": "Li Wei", "token": "guessed-0123456789abcdef" }).to_string();
    // The request to `/v1/gateways` without a token was the first of 30.
    for _ in 1..30 {
        assert_eq!(error(&browser.post("/console/session", &guess).await), (401, "unauthorized"));
    }
    assert_eq!(error(&browser.post("/console/session", &guess).await), (429, "too_many_wrong_tokens"));
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sheet_is_planned_before_it_is_sent_and_every_fault_has_its_line() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    let mut browser = Browser::at(&center);
    browser.log_in("Li Wei", ALL).await;
    let sheet = format!("uid,holder,gate,姓名\n{OLD},h1,*,李\n{NEW},h2,*,王\n");
    let unknown = browser.post("/v1/sheet?gateway=xing1&dry_run=true", &sheet).await;
    let faults = &unknown.body["error"]["faults"];
    assert_eq!((error(&unknown), &faults[0]["line"]), ((400, "invalid_sheet"), &json!(1)), "{}", unknown.body);
    let target = "/v1/sheet?gateway=xing1&ignore=%E5%A7%93%E5%90%8D";
    let plan = browser.post(&format!("{target}&dry_run=true"), &sheet).await;
    assert_eq!((plan.status, &plan.body["plan"]["added"]), (200, &json!(2)), "{}", plan.body);
    let published = browser.get("/v1/gateways/xing1").await.body["published"].clone();
    assert_eq!(published, json!([]), "a plan publishes nothing");
    let sent = browser.keyed(target, "k1", &sheet).await;
    let again = browser.keyed(target, "k1", &sheet).await;
    assert_eq!((sent.status, &again.body["messages"]), (202, &sent.body["messages"]), "{}", again.body);
    let elsewhere = target.replace("xing1", "xing2");
    assert_eq!(error(&browser.keyed(&elsewhere, "k1", &sheet).await), (409, "idempotency_conflict"));
    let less = format!("uid,holder,gate\n{OLD},h1,*\n");
    assert_eq!(error(&browser.post("/v1/sheet?gateway=xing1", &less).await), (409, "shrinks"));
    assert_eq!(browser.post("/v1/sheet?gateway=xing1&allow_shrink=true", &less).await.status, 202);

    for (target, sheet, expected) in [
        ("gateway=xing1", "", (400, "invalid_sheet")),
        ("gateway=xing1", "uid,holder,gate\n1.23E+09,h1,*\n1EA68671,h1,*\n1EA68671,h2,*\n", (400, "invalid_sheet")),
        ("gateway=xing3", "uid,holder,gate\n1EA68671,h1,*\n", (404, "unknown_gateway")),
        ("", "uid,holder,gate\n1EA68671,h1,*\n", (400, "invalid_field")),
        ("gateway=xing1&dry=1", "uid,holder,gate\n1EA68671,h1,*\n", (400, "invalid_field")),
        ("gateway=xing1&wait_ms=60001", "uid,holder,gate\n1EA68671,h1,*\n", (400, "invalid_field")),
    ] {
        let answer = browser.post(&format!("/v1/sheet?{target}"), sheet).await;
        assert_eq!(error(&answer), expected, "{target} {sheet}: {}", answer.body);
        if sheet.contains("E+09") {
            let lines: Vec<_> =
                answer.body["error"]["faults"].as_array().unwrap().iter().map(|f| f["line"].clone()).collect();
            assert_eq!(lines, [2, 4], "{}", answer.body);
        }
    }
    let list = browser.get("/v1/gateways/xing1").await.body["published"][0]["seq"].clone();
    assert_eq!(list, json!(2), "what was refused has no number");
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ordered_what_for_a_card_is_kept_and_found() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    let mut browser = Browser::at(&center);
    browser.log_in("Li Wei", ALL).await;
    assert_eq!(browser.post("/v1/changes", &issued(OLD)).await.status, 202);
    let enrols = json!({ "gateway": "xing2", "ops": [enrol(NEW, "h2"), enrol(OLD, "h1")] });
    center.post("/v1/changes", ALL, None, &enrols).await;
    let sheet = browser.post("/v1/sheet?gateway=xing1", &format!("uid,holder,gate\n{OLD},h1,*\n")).await;
    assert_eq!(sheet.status, 202, "{}", sheet.body);
    let found =
        async |query: &str, token| center.get(&format!("/v1/changes?{query}"), token).await.body["items"].take();
    let shown = |items: &Value| -> Vec<(String, String, Value)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let ops = |item: &Value| {
            item["ops"].as_array().map_or(Value::Null, |ops| ops.iter().map(|op| op["op"].clone()).collect())
        };
        let item = |one: &Value| (text(&one["gateway"]), text(&one["item"]["ordered_by"]), ops(&one["item"]));
        items.as_array().unwrap().iter().map(item).collect()
    };
    let issue = ("campus".to_owned(), "all:Li Wei".to_owned(), json!(["issue"]));
    let enrol = ("xing2".to_owned(), "all".to_owned(), json!(["enrol", "enrol"]));
    let list = ("xing1".to_owned(), "all:Li Wei".to_owned(), Value::Null);
    assert_eq!(shown(&found(&format!("uid={OLD}"), ALL).await), [issue.clone(), enrol.clone(), list.clone()]);
    assert_eq!(shown(&found("uid=1e:a6:86:71&order=desc&limit=2", ALL).await), [list, enrol.clone()]);
    assert_eq!(shown(&found("holder=h2", ALL).await), std::slice::from_ref(&enrol));
    assert_eq!(shown(&found("holder=h1&gateway=xing2", ALL).await), [issue.clone(), enrol]);
    // A client of one building sees what goes there and to the campus.
    let own = shown(&found("holder=h1", SOME).await);
    assert!(own.contains(&issue) && own.iter().all(|(to, ..)| to == "campus" || to == "xing1"), "{own:?}");
    assert_eq!(found("holder=h3", ALL).await, json!([]));
    let all = found("", ALL).await;
    assert!(all[0]["received_at"].as_str().unwrap().starts_with("20"), "{all}");
    let wrong = center.get("/v1/changes?portal=gate-in", ALL).await;
    assert_eq!(error(&wrong), (400, "invalid_field"), "{}", wrong.body);
    center.program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_understands_every_spelling_of_a_card_and_the_name_of_a_holder() {
    let center = Center::start(NO_BROKER, &["xing1", "xing2"]).await;
    center.post("/v1/changes", ALL, None, &json!({ "ops": [issue(OLD, "h1")] })).await;
    center
        .post("/v1/changes", ALL, None, &json!({ "gateway": "xing2", "ops": [enrol(OLD, "h1"), enrol(NEW, "h1")] }))
        .await;
    let found = async |text: &str| center.get(&format!("/v1/search?text={text}"), ALL).await.body;
    for (text, spelling) in
        [("1ea68671", "hex"), ("1E:A6:86:71", "hex"), ("7186A61E", "hex_reversed"), ("514229873", "decimal")]
    {
        let found = found(text).await;
        let is = |card: &Value| card["uid"] == OLD && card["spelling"] == spelling && card["known"] != json!([]);
        assert!(found["cards"].as_array().unwrap().iter().any(is), "{text}: {found}");
    }
    let holder = found("h1").await;
    assert_eq!((&holder["holder"]["holder"], holder["holder"]["cards"].as_array().unwrap().len()), (&"h1".into(), 2));
    assert_eq!(found("h9").await, json!({ "cards": [] }));
    // A client of one building sees what is published there and to the campus.
    let own = center.get("/v1/search?text=h1", SOME).await.body;
    assert_eq!(own["holder"]["cards"].as_array().unwrap().len(), 1, "{own}");
    for (query, field) in [("text=", "text"), ("", "text"), ("text=a&more=b", "more")] {
        let answer = center.get(&format!("/v1/search?{query}"), ALL).await;
        assert_eq!(
            (error(&answer), &answer.body["error"]["field"]),
            ((400, "invalid_field"), &field.into()),
            "{query}"
        );
    }
    center.program.stop().await;
}
