//! Readers that lose part of the UID, on a line: what they make of a card comes, lies and leaves as a whole UID does.

use super::*;

fn lossy(text: &str) -> (Arc<Profile>, impl Fn(&str) -> Presented) {
    let profile = Arc::new(crate::profile::read(text).unwrap());
    let transform = profile.readers[0].uid.transform().unwrap();
    (profile, move |card| Presented::Lossy(transform.read(uid(card))))
}

async fn with(mut spec: ModbusPortalSpec, profile_of_reader: Arc<Profile>) -> FakeGateway {
    let line = Line::new([(8, Arc::clone(&profile_of_reader)), (21, profile("waveshare-relay-8ch"))]);
    spec.reader = Some(Part { bus: "riser".into(), unit: 8, profile: profile_of_reader, channel: 0 });
    let fake = FakeGateway::start(line, vec![spec], &[]).await;
    fake.online().await;
    fake
}

#[tokio::test]
async fn what_a_lossy_reader_makes_of_a_card_comes_lies_there_and_leaves() {
    let (reader, reported) = lossy(include_str!("../../../../tests/profiles/digits-reader.toml"));
    let fake = with(power_box(1), reader).await;
    fake.line.present(8, 0, uid("01230405"));
    fake.receives(|i| matches!(i, Input::Request(r) if r.presented == reported("01230405"))).await;
    // The reader is away for a while, and another card makes it report the same.
    fake.line.fault(8, Fault::Silent);
    fake.reports(|r| r.online == Some(false)).await;
    fake.line.present(8, 0, uid("12030405"));
    fake.line.fault(8, Fault::None);
    fake.reports(|r| r.card_present == Some(true) && r.uid.as_ref() == Some(&reported("12030405"))).await;
    assert_eq!(reported("01230405"), reported("12030405"));
    let before = fake.received.borrow().len();
    fake.line.remove(8, 0);
    let left = |i: &Input| matches!(i, Input::Report { report, .. } if report.card_present == Some(false));
    let mut received = fake.received.clone();
    let found = received.wait_for(|all| all.iter().skip(before).any(left));
    assert!(timeout(LIMIT, found).await.is_ok_and(|r| r.is_ok()));
}

#[tokio::test]
async fn a_converter_that_counts_reports_the_same_card_again() {
    let (reader, reported) = lossy(include_str!("../../../../tests/profiles/wiegand-converter.toml"));
    let fake = with(door(), reader).await;
    for times in 1..=2 {
        fake.line.present(8, 0, uid(CARD));
        let asked = |i: &&Input| matches!(i, Input::Request(r) if r.presented == reported(CARD));
        let mut received = fake.received.clone();
        let found = received.wait_for(|all| all.iter().filter(asked).count() == times);
        assert!(timeout(LIMIT, found).await.is_ok_and(|r| r.is_ok()), "not asked {times} times");
    }
}
