//! SIGHUP and `dormgate reload` at a running gateway: all of its file is taken over, or nothing.

use ed25519_dalek::SigningKey;
use serde_json::json;

use crate::center::{Office, cancel, enrol, issue};
use crate::program::{Program, exit_of, within};
use crate::site::{DOOR, GATE, Site};

const CARD: &str = "1EA68671";
const OTHER: &str = "04A1B2C3D4E5F6";

fn write(site: &Site, text: &str) {
    std::fs::write(site.dir().join("dormgate.toml"), text).unwrap();
}

/// `text` with another value for what it has exactly once.
fn with(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old}");
    text.replace(old, new)
}

/// Sends SIGHUP and waits for the `count`th line with `part`.
async fn hang_up(gateway: &Program, part: &str, count: usize) {
    gateway.signal("HUP");
    let found = async {
        while gateway.log().matches(part).count() < count {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(part, found).await;
}

async fn site() -> (Site, Program) {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    site.expect_everywhere(CARD, "granted").await;
    (site, gateway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sighup_hours_and_policy_change_without_a_restart_and_the_audit_has_it() {
    let (site, gateway) = site().await;
    let mark = site.peer.mark();
    // No schedule of this name is ever open.
    let never = "[policy]\nafter_hours = \"deny\"\n[[schedule]]\nname = \"never\"\nweekly = {}\n";
    let text = with(&site.config_text(), "hold_ms = 3000", "hold_ms = 3000\nhours = \"never\"") + never;
    write(&site, &text);
    hang_up(&gateway, "the configuration is in force: ", 1).await;
    for key in ["schedule `never` (added)", "policy.after_hours", "portal `gate-in`: hours"] {
        assert!(gateway.log().contains(key), "{key}: {}", gateway.log());
    }
    assert_eq!(site.reason(GATE, CARD).await, "outside_schedule");
    assert_eq!(site.reason(DOOR, CARD).await, "granted");
    let reloaded = |event: &serde_json::Value| {
        event["detail"].as_str().is_some_and(|detail| detail.starts_with("the configuration was read again; changed: "))
    };
    assert_eq!(site.event(mark, "the reload", reloaded).await["type"], "config");
    hang_up(&gateway, "nothing that the gateway takes over has changed", 1).await;
    write(&site, &site.config_text());
    hang_up(&gateway, "the configuration is in force: ", 2).await;
    site.expect_everywhere(CARD, "granted").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_or_a_key_that_needs_a_restart_changes_nothing_and_every_place_is_named() {
    let (site, gateway) = site().await;
    let mark = site.peer.mark();
    let (good, config) = (site.config_text(), site.dir().join("dormgate.toml").display().to_string());
    let denies = "[policy]\nafter_hours = \"deny\"\n[[schedule]]\nname = \"never\"\nweekly = {}\n";
    let strict = with(&good, "hold_ms = 3000", "hold_ms = 3000\nhours = \"never\"") + denies;
    // Right in what would close the gate, wrong in two other places.
    let wrong = with(&with(&strict, "hold_ms = 5000", "hold_msec = 5000"), "kind = \"power_box\"", "kind = \"power\"");
    write(&site, &wrong);
    hang_up(&gateway, "nothing of the file is in force", 1).await;
    for part in ["dormgate.toml:", "did you mean `hold_ms`?", "`power`"] {
        assert!(gateway.log().contains(part), "{part}: {}", gateway.log());
    }
    site.expect_everywhere(CARD, "granted").await;
    let (code, text) = exit_of(&["reload", "--config", &config]).await;
    assert!(code == Some(1) && text.contains("did you mean `hold_ms`?") && text.contains("`power`"), "{code:?} {text}");

    write(&site, &with(&strict, "zone = \"412\"\nhold_ms", "zone = \"413\"\nhold_ms"));
    let (code, text) = exit_of(&["reload", "--config", &config]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("only a restart takes over portal `door-412`: zone; nothing of the file is in force"),
        "{text}"
    );
    site.expect_everywhere(CARD, "granted").await;
    let refused = |event: &serde_json::Value| {
        event["detail"]
            .as_str()
            .is_some_and(|detail| detail.ends_with("only a restart takes over portal `door-412`: zone"))
    };
    assert_eq!(site.event(mark, "the refusal", refused).await["type"], "config");

    // What is wrong with a file is in the audit: the first of it, and how much more there is.
    write(&site, &with(&with(&strict, "hold_ms = 3000", "hold_ms = \"x\""), "kind = \"door\"", "kind = \"dor\""));
    assert_eq!(exit_of(&["reload", "--config", &config]).await.0, Some(1));
    let named = |event: &serde_json::Value| {
        let detail = event["detail"].as_str().unwrap_or_default();
        detail.contains("refused: ")
            && detail.contains("`portal[0].hold_ms`: ")
            && detail.ends_with("(and 1 more, which are in the log)")
    };
    assert_eq!(site.event(mark, "what is wrong", named).await["type"], "config");

    // Two files that the command cannot bring to the gateway: one that is no TOML, and one of another directory.
    write(&site, "[gateway\n");
    let (code, text) = exit_of(&["reload", "--config", &config]).await;
    assert!(code == Some(1) && text.contains("no gateway was asked") && text.contains(":1:"), "{code:?} {text}");
    write(&site, &with(&good, "data_dir = \"data\"", "data_dir = \"data2\""));
    let (code, text) = exit_of(&["reload", "--config", &config]).await;
    assert!(
        code == Some(1) && text.contains("`gateway.data_dir`") && text.contains("only a restart"),
        "{code:?} {text}"
    );
    site.expect_everywhere(CARD, "granted").await;

    write(&site, &strict);
    let (code, log) = exit_of(&["reload", "--config", &config]).await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(site.reason(GATE, CARD).await, "outside_schedule");
    let log = gateway.stop().await;
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_center_is_replaced_without_a_restart_and_the_old_one_counts_no_more() {
    let (mut site, gateway) = site().await;
    let old = Office { seq: site.cards.seq, ..Office::card_office() };
    site.cards.key = SigningKey::from_bytes(&[33; 32]);
    write(&site, &site.config_text());
    hang_up(&gateway, "the configuration is in force: center.stream `card-office`: public_keys", 1).await;
    // The old key signs the next number: it is refused, and the new one signs it again.
    let mark = site.peer.mark();
    let stolen = old.sign(&old.numbered(old.aud(), old.seq + 1, &json!([issue(OTHER, "h9")])));
    site.peer.report(&old.topic(), stolen).await;
    let refused = |event: &serde_json::Value| event["type"] == "rejected_message";
    site.event(mark, "the message of the old key", refused).await;
    site.report_cards(json!([cancel(CARD)])).await;
    site.expect_everywhere(CARD, "cancelled").await;
    assert_eq!(site.reason(GATE, OTHER).await, "unknown_credential");
    gateway.stop().await;
}
