//! A campus to try the uplink in: the reference center in a directory, and one gateway of its configuration. No guarantees of its own.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use dormgate::access::change::{Op, Subject};
use dormgate::access::credential::{Enrolment, Entitlement, Flag, ZoneSet};
use dormgate::access::id::{CardUid, GatewayId, Timestamp};
use dormgate::access::portal::PortalKind;
use dormgate::center::{Attention, Center, Layout, Service, create};
use dormgate::clock::Clock;
use dormgate::config;
use dormgate::mqtt::{BrokerUrl, LinkSpec, Session};
use dormgate::wire::digest;
use serde_json::Value;

use crate::program::{Program, page_by_socket, within};

/// Pause between two looks at a state that nobody reports, in milliseconds.
const LOOK_MS: u64 = 20;

pub struct Campus {
    dir: tempfile::TempDir,
    streams: String,
}

impl Campus {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let streams = create(&dir.path().join("center"), Layout::Two, NonZeroU32::MIN).unwrap();
        Self { dir, streams }
    }

    pub fn gateway() -> GatewayId {
        "xing1".parse().unwrap()
    }

    /// The center as it is on disk.
    pub fn center(&self) -> Center {
        Center::open(&self.dir.path().join("center"), &[Self::gateway()]).unwrap()
    }

    /// The center at work at these brokers.
    pub fn service(&self, urls: &[BrokerUrl], session: Session) -> Service {
        let link = LinkSpec { session, ..LinkSpec::plain(urls.to_vec(), "center") };
        Service::start(self.center(), link, Clock::system(), Attention::Everything).unwrap()
    }

    /// A gateway at these brokers; `more` are further lines of `[uplink]`, `local` is the broker of its portals.
    pub fn gateway_at(&self, urls: &[BrokerUrl], more: &str, local: &BrokerUrl) -> Program {
        let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
        let text = format!(
            "[gateway]\nid = \"xing1\"\ndata_dir = \"data\"\n[uplink]\nurls = [{}]\n{more}\n[local]\nurls = [\"{local}\"]\n{}\n\
             [[portal]]\nid = \"gate-in\"\nkind = \"gate\"\nzone = \"lobby\"\ndirection = \"in\"\ndevice = {{ mqtt = \"native\" }}\n",
            urls.join(", "),
            self.streams
        );
        let file = self.dir.path().join("dormgate.toml");
        std::fs::write(&file, text).unwrap();
        Program::run(&file)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("data/dormgate.sock")
    }

    async fn asked(&self, page: &str) -> Option<Value> {
        if !self.socket().exists() {
            return None;
        }
        let (status, body) = page_by_socket(&self.socket(), page).await;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    pub async fn status(&self) -> Value {
        within("the status", async {
            loop {
                if let Some(status) = self.asked("/api/v1/status").await {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        })
        .await
    }

    /// The reason that the gateway gives for a card at its gate.
    pub async fn reason(&self, card: CardUid) -> String {
        let answer = self.asked(&format!("/api/v1/query?uid={card}&portal=gate-in")).await.expect("it serves");
        answer["verdicts"][0]["reason"].as_str().unwrap().to_owned()
    }

    /// Waits until every one of these cards is denied for this reason.
    pub async fn until_all(&self, cards: &[CardUid], reason: &str) {
        for card in cards {
            within(&format!("{card} is {reason}"), async {
                while self.reason(*card).await != reason {
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                }
            })
            .await;
        }
    }

    /// Waits until a fault of a broker is shown; gives its detail.
    pub async fn fault(&self, fault: &str) -> String {
        within(&format!("the fault `{fault}`"), async {
            loop {
                let status = self.status().await;
                let all = status["broker_faults"].as_array().unwrap();
                if let Some(found) = all.iter().find(|found| found["fault"] == fault) {
                    return found["detail"].as_str().unwrap().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        })
        .await
    }

    /// Waits until the gateway has of each stream what the center has: number and digest.
    pub async fn until_equal(&self) {
        let center = self.center();
        let streams = config::streams(center.configuration()).unwrap();
        for (journal, at) in center.positions() {
            let stream = journal.stream;
            let allowed = streams.iter().find(|spec| spec.name == stream).unwrap().allowed;
            let list = center.list(&journal.audience).expect("it has published");
            let digest = digest::of(list, &digest::registers_of(allowed)).sha256;
            let is_equal = |status: &Value| {
                let all = status["streams"].as_array().unwrap();
                let here = all.iter().find(|here| here["name"] == stream.as_str()).unwrap();
                here["seq"] == at.seq && here["missing"] == 0 && here["digest"] == digest.as_str()
            };
            within(&format!("{stream} as the center has it"), async {
                while !is_equal(&self.status().await) {
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                }
            })
            .await;
        }
    }
}

pub fn now() -> Timestamp {
    Clock::system().now().wall
}

pub fn card(n: usize) -> CardUid {
    format!("04{n:012X}").parse().unwrap()
}

pub fn issue(n: usize) -> Op {
    Op::Issue { uid: card(n), holder: format!("h{n}").parse().unwrap() }
}

/// Every gate, and a room of this number, so that each enrolment can be another.
pub fn enrol(n: usize, room: usize) -> Op {
    let entitlement = |kind, zone| Entitlement { kind, zone, schedule: None };
    let room = ZoneSet::One(format!("r{room}").parse().unwrap());
    let enrolment = Enrolment::resident(
        format!("h{n}").parse().unwrap(),
        vec![entitlement(PortalKind::Gate, ZoneSet::Any), entitlement(PortalKind::Door, room)],
    );
    Op::Enrol { uid: card(n), enrolment }
}

pub fn report_lost(n: usize) -> Op {
    Op::SetFlag { subject: Subject::Card(card(n)), flag: Flag::Lost, on: true }
}
