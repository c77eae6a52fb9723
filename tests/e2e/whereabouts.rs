//! Who is inside, who was where, and who may open a portal, asked of a running gateway on the command line.

use serde_json::json;

use crate::center::{enrol, issue};
use crate::program::within;
use crate::proof::{asked, printed};
use crate::site::{GATE, Site};

const CARD: &str = "1EA68671";
const OTHER: &str = "2EA68672";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_lists_who_is_inside_who_was_where_and_who_may_open_a_portal() {
    let mut site = Site::new().await;
    let gateway = site.start().await;
    site.report_cards(json!([issue(CARD, "h1"), issue(OTHER, "h2")])).await;
    site.report_rooms(json!([enrol(CARD, "h1")])).await;
    assert_eq!(site.reason(GATE, CARD).await, "granted");
    assert_eq!(site.reason(GATE, OTHER).await, "not_enrolled");

    let inside = printed(&site, &["roll-call"]).await;
    let lines: Vec<&str> = inside.lines().collect();
    assert!(lines[0].starts_with("granted  h1 1EA68671  in  gate-in "), "{inside}");
    assert_eq!(lines[1..], ["1 inside: 0 taken, 1 granted, 0 doubtful"]);
    for who in [CARD, "h1", "1e:a6:86:71"] {
        let seen = printed(&site, &["where", who]).await;
        assert!(seen.starts_with("h1 1EA68671\n  in  gate-in ") && seen.ends_with(" granted\n"), "{who}: {seen}");
    }
    assert!(printed(&site, &["where", "h2"]).await.starts_with("not seen"));
    assert_eq!(printed(&site, &["may", GATE]).await, format!("h1 1EA68671  granted\n1 cards may open {GATE} now\n"));
    for place in [GATE, "lobby"] {
        // The audit answers from the disk, and a decision is there within `audit.flush_ms`.
        let recorded = async {
            loop {
                let who = printed(&site, &["audit", "who", place]).await;
                if !who.is_empty() {
                    return who;
                }
            }
        };
        let who = within("the decision is on disk", recorded).await;
        assert!(who.starts_with("h1 1EA68671  last ") && who.lines().count() == 1, "{who}");
    }
    for (args, error) in [
        (["may", "gate-9"].as_slice(), "`gate-9`"),
        (&["roll-call", "412"], "`412`"),
        (&["where", "a b"], "`a b`"),
        (&["audit", "who", "gate-un"], "did you mean"),
    ] {
        let (code, printed, reported) = asked(&site, args).await;
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{args:?}");
        assert!(reported.contains(error), "{args:?}: {reported}");
    }
    gateway.stop().await;
}
