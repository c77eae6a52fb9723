//! A dormitory with a console: a resident with a card, one whose card was reported lost, and a token.

use serde_json::json;

use crate::center::{enrol, issue};
use crate::http::{Answer, send};
use crate::program::Program;
use crate::site::Site;

/// The resident's card.
pub const CARD: &str = "1EA68671";
/// A card that was reported lost.
pub const LOST: &str = "04A1B2C3D4E5F6";
/// What is presented at the login.
pub const TOKEN: &str = "a token of a test, 32 characters or more";

pub struct Rig {
    pub site: Site,
    pub gateway: Program,
    pub address: String,
    /// Sent with each request of the person who is logged in.
    pub cookie: String,
}

impl Rig {
    pub async fn new() -> Self {
        Self::on("127.0.0.1", true).await
    }

    /// A console on an address of this machine, with a token or without.
    pub async fn on(ip: &str, has_token: bool) -> Self {
        Self::with(ip, has_token, "").await
    }

    /// The same, with further sections of the configuration.
    pub async fn with(ip: &str, has_token: bool, more: &str) -> Self {
        Self::at(Site::new().await, ip, has_token, more).await
    }

    /// A building of so many rooms more, each with a door and a power box, from a sheet, and a door `a1` before them.
    pub async fn building(rooms: usize) -> Self {
        let mut site = Site::new().await;
        let row = |n: usize| format!("door-{n},door,{n},native\npower-{n},power_box,{n},native\n");
        let rows: String = (1001..=1000 + rooms).map(row).collect();
        std::fs::write(site.dir().join("portals.csv"), format!("id,kind,zone,device.mqtt\na1,door,1,native\n{rows}"))
            .unwrap();
        site.head = "portals = \"portals.csv\"\n".to_owned();
        Self::at(site, "127.0.0.1", true, "").await
    }

    async fn at(mut site: Site, ip: &str, has_token: bool, more: &str) -> Self {
        let free = std::net::TcpListener::bind(format!("{ip}:0")).unwrap().local_addr().unwrap();
        let token = if has_token { "token_file = \"console_token\"\n" } else { "" };
        std::fs::write(site.dir().join("console_token"), format!("{TOKEN}\n")).unwrap();
        site.extra = format!("[http]\nlisten = \"{free}\"\n{token}{more}");
        let gateway = site.start().await;
        gateway.logged("serving").await;
        let lost = json!({"op": "report_lost", "uid": LOST});
        site.report_cards(json!([issue(CARD, "h1"), issue(LOST, "h2")])).await;
        site.report_cards(json!([lost])).await;
        site.report_rooms(json!([enrol(CARD, "h1"), enrol(LOST, "h2")])).await;
        let address = format!("127.0.0.1:{}", free.port());
        Self { site, gateway, address, cookie: String::new() }
    }

    /// The header lines that a browser adds to what the console's own page sends.
    pub fn own(&self) -> String {
        let address = &self.address;
        format!(
            "Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n{}",
            self.cookie
        )
    }

    pub async fn get(&self, target: &str) -> Answer {
        send(&self.address, "GET", target, &self.cookie, "").await
    }

    pub async fn post(&self, target: &str, body: &str) -> Answer {
        send(&self.address, "POST", target, &self.own(), body).await
    }

    pub async fn log_in(&mut self, name: &str) {
        let answer = self.post("/api/v1/session", &json!({"name": name, "token": TOKEN}).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
        for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "it would not be sent back over plain HTTP: {cookie}");
        self.cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    }
}
