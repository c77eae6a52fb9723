//! The pages in headless Chromium; `browser.py` is what is done there, and `building.py` where a building has some 300 portals.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::browser::Browser;
use crate::center::portal;
use crate::rig::{CARD, LOST, Rig, TOKEN};
use crate::site::{BOX, DOOR, GATE};

/// A page that only receives events, beside which the console's is measured.
struct Bare {
    address: String,
    sent: watch::Sender<u32>,
}

const BARE: &str = "<!doctype html><script>window.stamps = []; const source = new EventSource('/live'); \
                    source.onopen = () => { window.open_now = true; }; source.onmessage = () => window.stamps.push(Date.now());</script>";

impl Bare {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, sent) = (listener.local_addr().unwrap().to_string(), watch::Sender::new(0));
        let events = sent.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, events.subscribe()));
            }
        });
        Self { address, sent }
    }

    fn send(&self) {
        self.sent.send_modify(|n| *n += 1);
    }
}

async fn answer(mut stream: TcpStream, mut sent: watch::Receiver<u32>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 4096];
    let read = stream.read(&mut request).await?;
    let head = "HTTP/1.0 200 OK\r\nCache-Control: no-store\r\nContent-Type:";
    if !request[..read].starts_with(b"GET /live") {
        return stream.write_all(format!("{head} text/html\r\n\r\n{BARE}").as_bytes()).await;
    }
    sent.mark_unchanged();
    stream.write_all(format!("{head} text/event-stream\r\n\r\n: open\n\n").as_bytes()).await?;
    while sent.changed().await.is_ok() {
        let n = *sent.borrow_and_update();
        stream.write_all(format!("id: {n}\ndata: {{\"n\":{n}}}\n\n").as_bytes()).await?;
    }
    Ok(())
}

/// Now, as a browser has it.
#[expect(clippy::disallowed_methods, reason = "it is compared with the browser's clock")]
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium; tests/run installs it"]
async fn every_page_works_in_a_browser_in_both_languages_with_and_without_a_mouse() {
    let mut rig = Rig::new().await;
    for id in [GATE, DOOR, BOX] {
        rig.site.peer.report(&portal(id, "state"), json!({"online": true}).to_string()).await;
    }
    let meter = json!({"power_w": 41.2, "energy_kwh": 103.4, "relay": false});
    rig.site.peer.report(&portal(BOX, "state"), meter.to_string()).await;
    assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
    assert_eq!(rig.site.reason(DOOR, CARD).await, "granted");
    let bare = Bare::start().await;
    let args = [&rig.address, TOKEN, LOST, DOOR, &bare.address];
    let mut browser = Browser::start("console/browser.py", &args);
    while let Some(line) = browser.asked().await {
        let mut with = String::new();
        match line.as_str() {
            "measure" => {
                assert_eq!(rig.site.reason(GATE, CARD).await, "granted");
                bare.send();
                with = unix_ms().to_string();
            }
            "present" => assert_eq!(rig.site.reason(DOOR, LOST).await, "lost"),
            "restart" => {
                let Rig { site, gateway, address, cookie } = rig;
                gateway.stop().await;
                let gateway = site.start().await;
                gateway.logged("serving").await;
                rig = Rig { site, gateway, address, cookie };
            }
            other => panic!("`{other}` is unknown"),
        }
        browser.done(&with).await;
    }
    browser.end().await;
    rig.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium; tests/run installs it"]
async fn a_page_of_300_portals_shows_what_came_of_an_order_and_why_a_card_is_denied() {
    let rig = Rig::building(150).await;
    let far = ["door-1150", "power-1150"];
    let report = async |id: &str, state: serde_json::Value| {
        rig.site.peer.report(&portal(id, "state"), state.to_string()).await;
    };
    for id in far {
        report(id, json!({"online": true})).await;
    }
    let mut browser = Browser::start("console/building.py", &[&rig.address, TOKEN, LOST, far[0], far[1]]);
    while let Some(line) = browser.asked().await {
        match line.as_str() {
            "present" => assert_eq!(rig.site.reason(far[0], LOST).await, "lost"),
            "away" => report(far[0], json!({"online": false})).await,
            "online" => report(far[0], json!({"online": true})).await,
            other => panic!("`{other}` is unknown"),
        }
        browser.done("").await;
    }
    browser.end().await;
    rig.gateway.stop().await;
}
