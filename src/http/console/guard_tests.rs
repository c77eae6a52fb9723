//! Who is let in: by address, token, session, origin and name; and what guessing comes to.

use axum::http::HeaderValue;

use super::*;

const TOKEN: &str = "3f9c0a11d2";
const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

fn guard(has_token: bool, is_loopback: bool) -> Guard {
    // Without a sender it does not change any more.
    Guard::new(watch::channel(has_token.then(|| Secret::new(TOKEN))).1, is_loopback)
}

fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines.split('\n').filter_map(|line| line.split_once(": ")) {
        let name: axum::http::HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// `reader`, `person`, `token` or the status of the refusal.
fn who(guard: &Guard, method: &Method, lines: &str) -> String {
    match guard.caller(method, &headers(lines), HERE) {
        Ok(Caller::Reader) => "reader".to_owned(),
        Ok(Caller::Person(..)) => "person".to_owned(),
        Ok(Caller::Token(_)) => "token".to_owned(),
        Err((status, _)) => status.as_str().to_owned(),
    }
}

#[tokio::test]
async fn reading_on_loopback_is_free_and_everything_else_needs_the_token() {
    let (get, post) = (Method::GET, Method::POST);
    let bearer = format!("Host: box:8480\nAuthorization: Bearer {TOKEN}");
    let wrong = "Host: box:8480\nAuthorization: Bearer wrong";
    let local = "Host: 127.0.0.1:8480\nOrigin: http://127.0.0.1:8480";
    // Listens on loopback, has a token: who reads, who changes.
    for (is_loopback, has_token, method, lines, expected) in [
        (true, true, &get, local, "reader"),
        (true, true, &post, local, "401"),
        (true, false, &get, local, "reader"),
        (true, false, &post, local, "403"),
        (false, true, &get, local, "401"),
        (false, true, &post, local, "401"),
        (true, true, &get, bearer.as_str(), "token"),
        (true, true, &post, bearer.as_str(), "token"),
        (false, true, &get, bearer.as_str(), "token"),
        (false, true, &post, bearer.as_str(), "token"),
        (true, false, &post, bearer.as_str(), "403"),
        (true, true, &get, wrong, "401"),
        (true, true, &post, wrong, "401"),
        (true, true, &get, "Host: localhost\nAuthorization: Basic abc", "401"),
    ] {
        let guard = guard(has_token, is_loopback);
        assert_eq!(who(&guard, method, lines), expected, "{is_loopback} {has_token} {method} {lines}");
    }
}

#[tokio::test]
async fn without_a_login_the_console_answers_to_the_names_of_loopback_only() {
    let guard = guard(true, true);
    for (host, expected) in [
        ("127.0.0.1:8480", "reader"),
        ("127.0.0.1", "reader"),
        ("127.9.9.9:1", "reader"),
        ("localhost:8480", "reader"),
        ("LOCALHOST", "reader"),
        ("[::1]:8480", "reader"),
        ("rebound.example:8480", "401"),
        ("localhost.example", "401"),
        ("127.0.0.1.example", "401"),
        ("10.0.0.1:8480", "401"),
        ("[::1", "401"),
        ("", "401"),
    ] {
        assert_eq!(who(&guard, &Method::GET, &format!("Host: {host}")), expected, "{host}");
    }
    assert_eq!(who(&guard, &Method::GET, "Accept: */*"), "401", "without a host");
}

#[tokio::test]
async fn a_session_changes_something_only_from_the_consoles_own_pages() {
    let guard = guard(true, true);
    let id = guard.sessions.open(("Li Wei".parse().unwrap(), Sha256::digest(TOKEN).into())).unwrap();
    let own = "Origin: http://box:8480";
    for (lines, get, post) in [
        (own, "person", "person"),
        ("Origin: https://box:8480", "person", "person"),
        ("Origin: http://box:8480\nSec-Fetch-Site: same-origin", "person", "person"),
        ("Origin: http://box:8480\nSec-Fetch-Site: same-site", "person", "403"),
        ("Origin: http://box:8480\nSec-Fetch-Site: cross-site", "403", "403"),
        ("Origin: http://box:8480\nSec-Fetch-Site: none", "person", "403"),
        ("Origin: http://evil.example", "person", "403"),
        ("Origin: http://box:8481", "person", "403"),
        ("Origin: http://box:8480.evil.example", "person", "403"),
        ("Origin: null", "person", "403"),
        ("Sec-Fetch-Site: same-origin", "person", "403"),
        ("Accept: */*", "person", "403"),
    ] {
        let lines = format!("Host: box:8480\nCookie: a=b; {COOKIE}={id}\n{lines}");
        assert_eq!(who(&guard, &Method::GET, &lines), get, "{lines}");
        for method in [Method::POST, Method::DELETE] {
            assert_eq!(who(&guard, &method, &lines), post, "{method} {lines}");
        }
    }
    for cookie in [format!("{COOKIE}={id}0"), format!("{COOKIE}="), format!("{COOKIE}2={id}"), id.clone()] {
        let lines = format!("Host: box:8480\nCookie: {cookie}\n{own}");
        assert_eq!(who(&guard, &Method::POST, &lines), "401", "{lines}");
    }
    guard.sessions.close(&sessions::key(&id));
    assert_eq!(who(&guard, &Method::POST, &format!("Host: box:8480\nCookie: {COOKIE}={id}\n{own}")), "401");
}

#[tokio::test(start_paused = true)]
async fn after_too_many_wrong_tokens_none_is_looked_at_for_a_minute() {
    let guard = guard(true, true);
    let status =
        |token: &str, from: Option<IpAddr>| guard.compare(token, from).err().map(|(status, _)| status.as_u16());
    for _ in 0..WRONG_A_MINUTE_MAX {
        assert_eq!(status("wrong", HERE), Some(401));
    }
    assert_eq!(status("wrong", HERE), Some(429));
    assert_eq!(status(TOKEN, HERE), Some(429), "not even the right one, or guessing would go on");
    let there = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
    assert_eq!(status(TOKEN, there(1)), None, "another address is not shut out");
    // From many addresses, each below its own limit.
    let mut looked_at = WRONG_A_MINUTE_MAX;
    while status("wrong", there(u8::try_from(looked_at).unwrap())) == Some(401) {
        looked_at += 1;
    }
    assert_eq!(looked_at, WRONG_IN_SUM_A_MINUTE_MAX);
    assert_eq!(status(TOKEN, there(1)), Some(429));
    assert!(guard.wrong.addresses() <= WRONG_IN_SUM_A_MINUTE_MAX as usize);
    tokio::time::advance(MINUTE).await;
    assert_eq!((status(TOKEN, HERE), status(TOKEN, there(1))), (None, None));
}

#[tokio::test(start_paused = true)]
async fn cards_are_looked_up_without_a_login_only_so_often_and_with_one_always() {
    let guard = guard(true, true);
    let look = |caller: &Caller, target: &str, from: Option<IpAddr>| {
        guard.look_up(caller, &target.parse().unwrap(), from).err().map(|(status, _)| status.as_u16())
    };
    let targets = ["/api/v1/card?text=1EA68671", "/api/v1/audit?type=alarm&uid=12", "/api/v1/audit/export?%75id=12"];
    for target in targets.iter().cycle().take(LOOKUPS_A_MINUTE_MAX as usize) {
        assert_eq!(look(&Caller::Reader, target, HERE), None);
    }
    for target in targets {
        assert_eq!(look(&Caller::Reader, target, HERE), Some(429), "{target}");
        assert_eq!(look(&Caller::Token([0; 32]), target, HERE), None, "a login is not limited");
    }
    assert_eq!(look(&Caller::Reader, "/api/v1/audit?holder=uid", HERE), None, "it names no card");
    let refused = guard.look_up(&Caller::Reader, &targets[0].parse().unwrap(), HERE).unwrap_err();
    assert_eq!(refusal(refused.0, refused.1).headers()[header::RETRY_AFTER], "60");
    tokio::time::advance(MINUTE).await;
    assert_eq!(look(&Caller::Reader, targets[0], HERE), None);
}
