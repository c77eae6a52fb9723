//! A whole list, loaded from a sheet into a running gateway, at each broker there is.

use std::fmt::Write as _;
use std::ops::Range;

use dormgate::center::{Audience, Center};
use dormgate::mqtt::{Connection, Event, LinkSpec};
use dormgate::wire::allowed::{AllowedOps, STANDING};
use dormgate::wire::digest;

use super::*;
use crate::brokers::{against_each, setup};

const PORTAL: &str = "
[[portal]]
id = \"door-412\"
kind = \"door\"
zone = \"412\"
device = { mqtt = \"native\" }
";

fn sheet(cards: Range<u32>) -> String {
    cards.fold("物理卡号,学号,房间,闸机,失效日期\n".to_owned(), |mut text, n| {
        writeln!(text, "1E{n:06X},{},{},*,2099-07-01", 202_600_000 + n, 100 + n % 700).unwrap();
        text
    })
}

impl Trial {
    fn sheet(&self, cards: Range<u32>) {
        std::fs::write(self.path("list.csv"), sheet(cards)).unwrap();
    }

    fn journal(&self) -> Vec<u8> {
        std::fs::read(self.path("center/g1/apartment.journal")).unwrap_or_default()
    }

    /// The digest of what the apartment center has published to the gateway.
    fn digest(&self) -> String {
        let gateway = "g1".parse().unwrap();
        let center = Center::open(&self.path("center"), std::slice::from_ref(&gateway)).unwrap();
        let owns = digest::registers_of(AllowedOps::all() - STANDING);
        digest::of(center.list(&Audience::Gateway(gateway)).unwrap(), &owns).sha256
    }

    /// Waits until the gateway publishes that it has the list of the center.
    async fn the_digest_agrees(&self) {
        let wanted = format!("\"digest\":\"{}\"", self.digest());
        let link = LinkSpec::plain(vec![self.broker.url()], "reader");
        let mut states = Connection::new(link, setup(&["dormgate/v1/g1/up/state"]), std::sync::Arc::default()).unwrap();
        let mut newest = String::new();
        let agrees = async {
            while !newest.contains(&wanted) {
                if let Event::Message(message) = states.next().await {
                    newest = String::from_utf8(message.payload.to_vec()).unwrap();
                }
            }
        };
        let agreed = timeout(PATIENCE, agrees).await.is_ok();
        assert!(agreed, "{wanted} is not in {newest}");
    }
}

#[tokio::test]
async fn five_thousand_cards_are_loaded_the_digest_agrees_and_the_same_list_again_sends_nothing() {
    against_each(|broker| async {
        let trial = Trial::on(broker).and_a_center().await;
        trial.write_site(PORTAL);
        let (_running, mut received) = trial.serve().await;
        trial.sheet(0..5_000);

        let (code, output) = trial.center(&["load", "list.csv", "--dry-run"]).await;
        assert_eq!(code, 0, "{output}");
        let table = "`list.csv`: 5000 cards, UTF-8\nunchanged        0\nupdated          0\nadded         5000\nwithdrawn        0\n";
        assert!(output.starts_with(table), "{output}");
        assert!(output.contains("added      1E000000             202600000 resident gate:* door:100 until 2099-06-30T16:00:00.000Z\n"), "{output}");
        assert!(output.ends_with("added      and 4980 more; `--show 5000` shows them\n"), "{output}");
        assert_eq!(trial.journal(), b"", "nothing was published");

        let (code, output) = trial.center(&["load", "list.csv", "--show", "0"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("\napartment snapshot 1.1 applied in "), "{output}");
        trial.the_digest_agrees().await;

        let (code, output) = trial.center(&["compare"]).await;
        assert_eq!((code, output.as_str()), (0, "apartment 1.1 agrees\n"));
        let (code, output) = trial.center(&["prove", "1E000138"]).await;
        assert!(code == 1 && output.starts_with("g1               OPENS      door-412\n"), "{output}");
        let journal = trial.journal();
        let (code, output) = trial.center(&["load", "list.csv"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("unchanged     5000\nupdated          0\nadded            0\nwithdrawn        0\n"), "{output}");
        assert!(output.ends_with("everything is unchanged; nothing was sent\n"), "{output}");
        let (_, exported) = trial.center(&["export"]).await;
        std::fs::write(trial.path("exported.csv"), exported).unwrap();
        let (_, output) = trial.center(&["load", "exported.csv"]).await;
        assert!(output.ends_with("everything is unchanged; nothing was sent\n"), "{output}");
        assert_eq!(trial.journal(), journal);

        trial.sheet(2_000..5_001);
        let (code, output) = trial.center(&["load", "list.csv"]).await;
        assert_eq!(code, 1, "{output}");
        assert!(output.contains("added            1\nwithdrawn     2000\nwithdrawn  1E000000"), "{output}");
        assert!(output.contains("would withdraw 2000 of 5000 enrolments") && output.contains("--allow-shrink"), "{output}");
        assert_eq!(trial.journal(), journal);

        let (code, output) = trial.center(&["load", "list.csv", "--allow-shrink", "--show", "1"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("apartment snapshot 1.2 applied in "), "{output}");
        assert!(output.contains(" ms; revoked ") && output.contains(" and 1980 more"), "{output}");
        trial.the_digest_agrees().await;
        let (_, output) = trial.center(&["command", "query", "1E000000"]).await;
        assert!(output.contains("door-412: deny not_enrolled"), "{output}");
        line_with(&mut received, "apartment snapshot 1.2 applied").await;
    })
    .await;
}

#[tokio::test]
async fn a_list_that_was_loaded_while_the_gateway_was_away_is_asked_for_and_sent_again() {
    against_each(|broker| async {
        let trial = Trial::on(broker).and_a_center().await;
        trial.write_site(PORTAL);
        let (running, _received) = trial.serve().await;
        trial.sheet(0..1_000);
        assert_eq!(trial.center(&["load", "list.csv"]).await.0, 0);
        trial.the_digest_agrees().await;
        // Killed, and the center with it: nobody is there but the broker, which keeps only some of it.
        drop(running);
        trial.sheet(100..1_100);
        let (code, output) = trial.center(&["load", "list.csv", "--wait", "0"]).await;
        assert_eq!(code, 1, "{output}");
        assert!(output.contains("apartment 1.2: no answer in 0 s; it stays in the journal"), "{output}");
        let enrol = ["enrol", "04A1B2C3D4E5F6", "h1", "--door", "412", "--wait", "0"];
        trial.center(&enrol).await;
        let (_running, _received) = trial.serve().await;
        trial.the_digest_agrees().await;
        let (_, output) = trial.center(&["command", "query", "1E000000"]).await;
        assert!(output.contains("door-412: deny not_enrolled"), "{output}");
        let (_, output) = trial.center(&["command", "query", "04A1B2C3D4E5F6"]).await;
        assert!(output.contains("door-412: grant granted"), "{output}");
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_sheet_is_reported_with_its_place_and_nothing_is_sent() {
    let trial = Trial::new().await.and_a_center().await;
    let text = "uid,holder,door,valid\n1.23E+09,h1,412,\n";
    std::fs::write(trial.path("list.csv"), text).unwrap();
    let (code, output) = trial.center(&["load", "list.csv"]).await;
    assert_eq!(code, 1);
    assert!(output.starts_with("`list.csv`: line 1, column `valid`: no column has this name"), "{output}");
    let (code, output) = trial.center(&["load", "list.csv", "--ignore", "valid"]).await;
    assert_eq!(code, 1);
    assert!(output.starts_with("`list.csv`: line 2, column `uid`: `1.23E+09` is what a spreadsheet makes"), "{output}");
    assert!(output.ends_with("\n1 fault; nothing was loaded\n"), "{output}");
    let (code, output) = trial.center(&["load", "absent.csv"]).await;
    assert_eq!((code, output.starts_with("`absent.csv`: ")), (1, true), "{output}");
    assert_eq!(trial.journal(), b"");
}
