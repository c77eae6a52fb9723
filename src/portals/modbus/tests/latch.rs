//! A power box whose reader latches a card and sets its latch again while the card lies there.

use super::*;

const LATCH_BOX: &str = r#"
schema = 1
id = "latch-box"
name = "latch box"
source = "a test"
[link]
address_base = 0
byte_order = "big"
word_order = "big"
[points]
flag = { space = "holding", address = 0, type = "u16" }
uid = { space = "holding", address = 1, type = "bytes", registers = 2 }
relay = { space = "coil", address = 0, type = "bool" }
[[poll]]
name = "card"
every_ms = 50
atomic = true
points = ["flag", "uid"]
[[poll]]
name = "status"
every_ms = 50
points = ["relay"]
[[reader]]
trigger = { latch = "flag", release = { space = "holding", address = 0, value = 0 }, repeats_ms = 300 }
uid = { point = "uid", length = 4, order = "msb_first" }
gone_ms = 100
[output]
state = "relay"
on = { space = "coil", address = 0 }
off = { space = "coil", address = 0, value = 0 }
pulse = { by = "gateway" }
"#;

#[tokio::test]
async fn a_box_with_a_latch_that_is_set_again_is_on_as_long_as_the_card_lies_there() {
    let profile = Arc::new(crate::profile::read(LATCH_BOX).unwrap());
    let part = Part { bus: "riser".into(), unit: 5, profile: Arc::clone(&profile), channel: 0 };
    let spec = ModbusPortalSpec {
        id: "power".parse().unwrap(),
        kind: PortalKind::PowerBox,
        direction: None,
        slots: 1,
        reader: Some(part.clone()),
        output: Some(part),
        meter: None,
        inputs: None,
    };
    let fake = FakeGateway::start(Line::new([(5, profile)]), vec![spec], &[CARD]).await;
    fake.reports(|r| r.card_present == Some(false)).await;
    fake.line.present(5, 0, uid(CARD));
    fake.relay(5, 0, true).await;
    // It is released and shown again many times meanwhile, and counts as one presentation.
    let polls = fake.line.received().len();
    let again = async {
        while fake.line.received().len() < polls + 40 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(LIMIT, again).await.is_ok());
    assert_eq!(fake.requests(), 1);
    assert!(fake.line.relay(5, 0));
    fake.line.remove(5, 0);
    fake.relay(5, 0, false).await;
}
