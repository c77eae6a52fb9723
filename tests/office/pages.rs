//! The pages of a center in headless Chromium; `browser.py` is what is done there. One gateway is there, another never.

use serde_json::json;

use crate::browser::Browser;
use crate::center::{enrol, issue};
use crate::rig::{ALL, Center, NEW, OLD, SOME, site, start_gateway};
use crate::site::{DOOR, GATE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium and mosquitto; tests/run installs them"]
async fn every_page_works_in_a_browser_in_both_languages_with_and_without_a_mouse() {
    let site = site().await;
    let center = Center::start(&site.hub.url(), &["xing1", "xing2"]).await;
    let gateway = start_gateway(&site).await;
    center.connected().await;
    let mut body = json!({ "ops": [issue(OLD, "08193021")] });
    center.post("/v1/changes", ALL, None, &body).await;
    body = json!({ "gateway": "xing1", "ops": [enrol(OLD, "08193021")] });
    assert_eq!(center.post("/v1/changes?wait_ms=30000", ALL, None, &body).await.status, 200);
    assert_eq!(site.reason(GATE, OLD).await, "granted");
    let mut browser = Browser::start("office/browser.py", &[&center.address, ALL, SOME, OLD, NEW]);
    let mut running = Some(gateway);
    while let Some(line) = browser.asked().await {
        let mut with = String::new();
        match line.as_str() {
            // The reason at the gate of the card that was reissued.
            "present" => with = site.reason(GATE, OLD).await,
            "alarm" => assert_eq!(site.reason(DOOR, OLD).await, "replaced"),
            "away" => {
                running.take().unwrap().stop().await;
            }
            "back" => running = Some(start_gateway(&site).await),
            other => panic!("`{other}` is unknown"),
        }
        browser.done(&with).await;
    }
    browser.end().await;
    running.unwrap().stop().await;
    center.program.stop().await;
}
