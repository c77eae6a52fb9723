//! The texts that the commands print.

use serde_json::json;

use super::*;

#[test]
fn the_status_has_a_line_for_each_part_that_is_offline_malformed_or_insecure() {
    let status = json!({
        "boot": "b1", "version": "0.1.0", "streams": [{ "name": "apartment", "epoch": 3, "seq": 7, "missing": 1, "age_s": 12 }],
        "cards": 2, "portals": { "online": 1, "offline": 1 }, "offline": ["door-412"],
        "causes": [{ "portal": "door-412", "cause": "nothing came on `tele/x/LWT`" }],
        "broker_faults": [{ "link": "uplink", "fault": "keeps_no_head", "detail": "no retained `head` came" }],
        "modes": [{ "portal": "gate-in", "posture": "lockdown" }], "malformed": [{ "portal": "gate-in", "wrong": "`fire`: true or false is wanted" }],
        "unconfirmed": [{ "portal": "power-412", "uid": "1EA68671", "since": "2026-09-01T08:00:00.000Z" }],
        "alarms": [{ "alarm": "held_open", "portal": "door-412", "since": "2026-09-01T08:00:00.000Z" },
            { "alarm": "store", "since": "2026-09-01T09:00:00.000Z" }],
        "audit": { "last": 9, "acked": 8 }, "clock": "trusted",
        "links": [{ "link": "uplink", "up": false, "why": "Connection refused" }, { "link": "local", "up": true, "for_s": 7 }],
        "insecure": [], "meters": [{ "portal": "power-412", "power_w": 41.2 }],
    });
    let expected = "dormgate 0.1.0, run b1\ncards    2\nportals  1 online, 1 offline\naudit    last 9, the center has 8\n\
                clock    trusted\noffline  door-412: nothing came on `tele/x/LWT`\nmode     gate-in: lockdown\n\
                revoked  power-412: not confirmed off since 1EA68671 was revoked at 2026-09-01T08:00:00.000Z\n\
                ALARM    held_open at door-412 since 2026-09-01T08:00:00.000Z\nALARM    store since 2026-09-01T09:00:00.000Z\n\
                wrong    gate-in: `fire`: true or false is wanted\n\
                link     uplink: not connected: Connection refused\nlink     local: connected for 7 s\n\
                broker   uplink: keeps_no_head: no retained `head` came\n\
                stream   apartment: 3.7, 1 missing, 12 s old\nmeter    power-412: 41.2 W";
    assert_eq!(status_text(&status), expected);
    let mut worse = status;
    worse["not_ready"] = json!(["the store cannot be written"]);
    worse["list"] = json!("damaged");
    worse["damaged"] = json!(["visitors"]);
    worse["unreported"] = json!(["door-412"]);
    worse["causes"] = json!([]);
    let text = status_text(&worse);
    assert!(text.contains("\nPROBLEM  the store cannot be written\n"), "{text}");
    assert!(text.contains("\noffline  door-412: nothing reported since the start"), "{text}");
    assert!(text.contains("\nLIST     damaged or restored: nothing is granted from it"), "{text}");
    assert!(
        text.contains("\nLIST     visitors is not sent again yet; if its center sends nothing, have it publish a head"),
        "{text}"
    );
}

#[test]
fn a_query_names_each_step_of_a_revocation_and_what_is_not_confirmed() {
    let at = |s| format!("2026-09-01T08:00:0{s}.000Z");
    let portals = json!([
        { "portal": "power-412", "confirmed_at": at(4), "how": "off" },
        { "portal": "power-413", "confirmed_at": at(5), "how": "on_by_right" },
        { "portal": "power-414", "confirmed_at": at(6), "how": "removed" },
        { "portal": "power-415" },
    ]);
    let proof = json!({
        "n": 7, "stream": "card-office", "epoch": 3, "seq": 1042, "received_at": at(1), "in_force_at": at(2), "portals": portals,
    });
    let answer = json!({
        "verdicts": [{ "portal": "gate-in", "decision": "deny", "reason": "replaced", "also": ["expired"] }], "revocations": [proof],
    });
    let expected = "gate-in                  deny  replaced (also expired)\n\
                revoked by card-office 3.1042: received 2026-09-01T08:00:01.000Z, in force 2026-09-01T08:00:02.000Z, on disk not yet\n  \
                power-412: confirmed off 2026-09-01T08:00:04.000Z\n  \
                power-413: on by another right since 2026-09-01T08:00:05.000Z\n  \
                power-414: not configured any more since 2026-09-01T08:00:06.000Z\n  \
                power-415: NOT CONFIRMED off yet";
    assert_eq!(query_text(&answer), expected);
}

#[test]
fn a_query_for_one_portal_explains_the_flags_of_a_grant() {
    let words = |en, zh| json!({ "en": en, "zh": zh });
    let flag = json!({ "flag": "late", "words": words("w", "晚"), "remedy": words("r", "问") });
    let steps = json!([{ "step": "lost", "ok": true, "fact": "never lost" }]);
    let answer = json!({ "verdicts": [{
        "portal": "gate-in", "decision": "grant", "reason": "granted", "also": [], "words": words("ok", "可"),
        "flags": [flag], "steps": steps,
    }] });
    let shown = query_text(&answer);
    assert!(shown.contains("\n  flag   late: w; r\n         晚。问\n"), "{shown}");
}

#[test]
fn an_answer_that_is_too_long_is_reported_as_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        let spaces = [b' '; 64 * 1024];
        // Whoever reads ends when it has read enough.
        while stream.write_all(&spaces).is_ok() {}
    });
    let error = ask(&socket, "GET", "/api/v1/may").unwrap_err().to_string();
    assert!(error.contains("longer than 16 MiB"), "{error}");
    server.join().unwrap();
}
