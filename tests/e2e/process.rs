//! The process: how it starts, ends, refuses to start, and what it shows on its pages.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::center::{cancel, enrol, issue, portal, up};
use crate::program::{Program, exit_of, page, within};
use crate::site::{GATE, Site};

const CARD: &str = "1EA68671";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reported_to_end_it_finishes_what_it_took_disconnects_and_exits_0_within_5_s() {
    let mut site = Site::new().await;
    let mut gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    let mark = site.peer.mark();
    // Taken the moment before: acknowledged before the end, or delivered again after it.
    let change = site.rooms.next(&json!([enrol(CARD, "h1")]));
    site.peer.report(&site.rooms.topic(), change).await;
    #[expect(clippy::disallowed_methods, reason = "a test measures the real end")]
    let reported = Instant::now();
    gateway.signal("TERM");
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(reported.elapsed() < Duration::from_secs(5), "{:?}", reported.elapsed());
    for topic in [up("state"), "dormgate/v1/xing1/gateway/state".to_owned()] {
        let offline = |h: &crate::peer::Received| (h.topic == topic && h.json["state"] == "offline").then_some(());
        site.peer.find(mark, &format!("offline on {topic}"), offline).await;
    }
    assert!(!site.socket().exists(), "the socket is gone");
    let gateway = site.start().await;
    let ack = site.ack(mark, "apartment", 1).await;
    assert_eq!(ack["applied_through"], 1, "{ack}");
    site.expect_everywhere(CARD, "granted").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reported_to_end_without_a_broker_it_ends_all_the_same_within_5_s() {
    let mut site = Site::new().await;
    let mut gateway = site.start().await;
    site.hub.stop().await;
    #[expect(clippy::disallowed_methods, reason = "a test measures the real end")]
    let reported = Instant::now();
    gateway.signal("TERM");
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(reported.elapsed() < Duration::from_secs(5), "{:?}", reported.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_notified_of_the_start_and_again_and_again_while_nobody_is_there() {
    let site = Site::new().await;
    let path = site.config().with_file_name("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let gateway = Program::notifying(&site.config(), &path, Duration::from_secs(3));
    let next = async || {
        let mut message = [0; 256];
        let length = within("a notification", socket.recv(&mut message)).await.unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    assert_eq!(next().await, "READY=1\nSTATUS=serving\n");
    for _ in 0..3 {
        assert_eq!(next().await, "WATCHDOG=1\n");
    }
    gateway.signal("TERM");
    while next().await != "STOPPING=1\n" {}
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_is_reported_offline_by_its_last_wills() {
    let site = Site::new().await;
    let gateway = site.start().await;
    let mark = site.peer.mark();
    gateway.kill().await;
    for topic in [up("state"), "dormgate/v1/xing1/gateway/state".to_owned()] {
        let offline = |h: &crate::peer::Received| (h.topic == topic && h.json["state"] == "offline").then_some(());
        site.peer.find(mark, &format!("offline on {topic}"), offline).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_on_the_same_data_fails_at_once_and_the_first_goes_on() {
    let site = Site::new().await;
    let gateway = site.start().await;
    let config = site.config().display().to_string();
    let (code, log) = exit_of(&["run", "--config", &config]).await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is in use by another gateway") && log.contains("data_dir"), "{log}");
    assert_eq!(site.reason(GATE, CARD).await, "unknown_credential");
    assert_eq!(crate::program::page_by_socket(&site.socket(), "/readyz").await.0, 200, "the socket is the first one's");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_or_missing_configuration_exits_78_with_its_place_and_a_wrong_call_exits_2() {
    let site = Site::new().await;
    let path = site.config();
    let config = path.display().to_string();
    let text =
        site.config_text().replace("hold_ms = 5000", "hold_msec = 5000").replace("kind = \"gate\"", "kind = \"gat\"");
    std::fs::write(&path, text).unwrap();
    let (code, log) = exit_of(&["run", "--config", &config]).await;
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("did you mean `hold_ms`?") && log.contains("`gat`"), "all diagnostics at once: {log}");
    assert!(!site.data().exists(), "nothing was begun");

    let missing = format!("{config}.not-there");
    let (code, log) = exit_of(&["run", "--config", &missing]).await;
    assert!(code == Some(78) && log.contains(&missing), "{code:?} {log}");
    std::fs::write(&path, "[gateway\nid").unwrap();
    assert_eq!(exit_of(&["run", "--config", &config]).await.0, Some(78));
    std::fs::write(&path, [0xFF, 0xFE, 0x00]).unwrap();
    assert_eq!(exit_of(&["run", "--config", &config]).await.0, Some(78));
    for wrong in [&["fly"][..], &["run", "--confug", "x"], &[]] {
        assert_eq!(exit_of(wrong).await.0, Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_report_alive_ready_and_how_much() {
    let mut site = Site::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    site.extra = format!("[http]\nlisten = \"{free}\"\n");
    let gateway = site.start().await;
    gateway.logged("serving").await;
    assert_eq!(page(&free, "/healthz").await.0, 200);
    assert_eq!(page(&free, "/readyz").await.0, 200);
    assert_eq!(page(&free, "/nothing").await.0, 404);
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    assert_eq!(site.reason(GATE, "04A1B2C3D4E5F6").await, "unknown_credential");
    let (status, text) = page(&free, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "dormgate_decisions_total{kind=\"gate\",decision=\"grant\",reason=\"granted\"} 1",
        "dormgate_decisions_total{kind=\"power_box\",decision=\"grant\",reason=\"granted\"} 1",
        "dormgate_decisions_total{kind=\"gate\",decision=\"deny\",reason=\"unknown_credential\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.trim_end().ends_with("# EOF"), "OpenMetrics ends so");
    site.report_cards(json!([cancel(CARD)])).await;
    assert_eq!(site.reason(GATE, CARD).await, "cancelled");
    // The age of the list is refreshed with the state.
    let shown = async {
        loop {
            let (_, text) = page(&free, "/metrics").await;
            let has = |begin: &str| text.lines().any(|line| line.starts_with(begin));
            let age = |stream: &str| has(&format!("dormgate_stream_age_seconds{{stream=\"{stream}\"}} "));
            let (_, status) = crate::program::page_by_socket(&site.socket(), "/api/v1/status").await;
            let room = has("dormgate_disk_free_bytes ") && status.contains("\"disk_free_bytes\":");
            if has("dormgate_alarms_total{kind=\"dead_card\"} 1") && age("card-office") && age("apartment") && room {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the alarm, the age of each stream and the room on the disk are shown", shown).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_is_nobodys_is_refused_and_the_same_request_is_answered_alike_and_audited_once() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    assert_eq!(site.reason("door-999", CARD).await, "unknown_portal");
    let request = json!({"v": 1, "id": "b7f3-118", "uid": "1e:a6:86:71"}).to_string();
    let mark = site.peer.mark();
    let answers = async |count: usize| {
        let topic = portal(GATE, "decision");
        loop {
            let received: Vec<_> = site.peer.since(mark).into_iter().filter(|h| h.topic == topic).collect();
            if received.len() >= count {
                return received;
            }
            site.peer.find(site.peer.mark().max(mark), "a decision", |h| (h.topic == topic).then_some(())).await;
        }
    };
    site.peer.report(&portal(GATE, "request"), request.clone()).await;
    answers(1).await;
    site.peer.report(&portal(GATE, "request"), request).await;
    let received = answers(2).await;
    assert_eq!(received[0].payload, received[1].payload);
    let query = site.command("after", json!({"command": "query", "uid": CARD})).await;
    assert_eq!(query["status"], "ok");
    site.event(mark, "the command", |e| e["type"] == "command").await;
    let decided = |event: &&String| event.contains("\"type\":\"decision\"") && event.contains("gate-in");
    assert_eq!(site.audit().events.values().filter(decided).count(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_the_place_of_the_data_directory_is_named_and_the_exit_is_78() {
    let site = Site::new().await;
    std::fs::write(site.data(), "a file in the way").unwrap();
    let mut gateway: Program = site.launch();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(78), "{}", gateway.log());
    assert!(gateway.log().contains("`gateway.data_dir`"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_read_is_refused_as_json_with_its_parameter_and_what_is_wanted() {
    let site = Site::new().await;
    let gateway = site.start().await;
    for (path, status, wanted) in [
        ("/api/v1/query", 400, "`uid` is missing; `/api/v1/query` takes `uid`, `portal`"),
        (
            "/api/v1/query?uid=1EA68671&zz=1",
            400,
            "`zz` is not a parameter of `/api/v1/query`, which takes `uid`, `portal`",
        ),
        ("/api/v1/status?zz=1", 400, "`zz` is not a parameter of `/api/v1/status`, which takes none"),
        ("/api/v1/where", 400, "`who` is missing"),
        ("/api/v1/may", 400, "`portal` is missing"),
        ("/api/v1/audit?from=abc", 400, "`from` is `abc`; a whole number is wanted"),
        ("/api/v1/audit?from=5&back=2", 400, "`from` and `back`: give one of them"),
        (
            "/api/v1/audit?type=decisions",
            400,
            "`type`: `decisions` is not a type of audit event; did you mean `decision`?",
        ),
        (
            "/api/v1/audit?flag=stale_lists",
            400,
            "`flag`: `stale_lists` is not a flag of decisions; did you mean `stale_list`?",
        ),
        ("/api/v1/where?who=%20", 400, "`who`: ` ` is neither a UID in hex nor a holder"),
        ("/api/v1/query?uid=1EA68671&portal=a.b", 400, "`portal`: an identifier is"),
        ("/api/v1/query?uid=zz", 400, "`uid`: `zz`: a card UID is written in hex"),
        ("/api/v1/may?portal=a.b", 400, "`portal`: an identifier is"),
        (
            "/api/v1/may?portal=gate-x",
            404,
            "no portal `gate-x` is configured at this gateway; its configuration names those that are",
        ),
        ("/api/v1/roll-call?zone=a.b", 400, "`zone`: an identifier is"),
        (
            "/api/v1/roll-call?zone=attic",
            404,
            "no gate has the zone `attic`; name the zone of a gate, or leave `zone` out for the whole building",
        ),
        ("/api/v1/roll-call?zones=lobby", 400, "`zones` is not a parameter"),
        ("/api/v1/nothing", 404, "there is no `/api/v1/nothing`"),
        ("/", 404, "there is no `/`"),
        ("/api/v1/posture", 405, "`/api/v1/posture` does not take GET"),
    ] {
        let (found, text) = crate::program::page_by_socket(&site.socket(), path).await;
        let body: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert_eq!(found, status, "{path}: {text}");
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(wanted), "{path}: {error}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_cannot_do_is_refused_by_name() {
    let site = Site::new().await;
    let gateway = site.start().await;
    let config = site.config().display().to_string();
    for (words, wanted, exit) in [
        (&["posture", GATE, "gate-nowhere", "lockdown"][..], "no portal `gate-nowhere` is configured", 1),
        (&["posture", GATE, "party"], "`party` is not a posture; known: ", 2),
        // An empty variable of a script is not the whole building.
        (&["posture", "", "lockdown"], "`portals`: a name is empty; `*` is for all", 1),
        (&["posture", &format!("{GATE},"), "lockdown"], "`portals`: a name is empty; `*` is for all", 1),
        (&["fire", "reset"], "no fire latch is set", 1),
    ] {
        let (code, log) = exit_of(&[words, &["--config", &config]].concat()).await;
        assert_eq!(code, Some(exit), "{words:?}: {log}");
        assert!(log.contains(wanted), "{words:?}: {log}");
    }
    assert_eq!(site.reason(GATE, CARD).await, "unknown_credential", "nothing was set at the portal that is one");
    assert_eq!(exit_of(&["clock", "trust", "--config", &config]).await.0, Some(0));
    for (posture, reason) in [("fire", "fire"), ("secure", "unknown_credential")] {
        assert_eq!(exit_of(&["posture", "*", posture, "--config", &config]).await.0, Some(0));
        assert_eq!(site.present(GATE, CARD).await["reason"], reason);
    }
    gateway.stop().await;
}
