//! A reader with a latch at a door: which cards are requested, and a latch that cannot be released.

use super::*;

fn requested(inputs: &[Input]) -> Vec<bool> {
    let stale = |input: &Input| match input {
        Input::Request(request) => Some(request.stale),
        _ => None,
    };
    inputs.iter().filter_map(stale).collect()
}

async fn accepted(rig: &Rig, failed: Option<&str>) {
    let failed = failed.map(str::to_owned);
    rig.events.send(Event::Accepted { slot: 0, at: Instant::now(), failed }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_latch_that_does_not_let_go_opens_once_and_the_portal_is_offline_until_it_does() {
    for failed in [None, Some("the device refuses: illegal data address (2)")] {
        let mut rig = Rig::start(PortalKind::Door, &[ReaderKind::Latch { repeats: false }], Memory::default());
        rig.state(SourceState::Online).await;
        rig.read(vec![card(0, None)]).await;
        assert!(rig.report(|r| r.online).await);
        for _ in 0..40 {
            rig.read(vec![card(0, Some("1EA68671"))]).await;
            accepted(&rig, failed).await;
            sleep(Duration::from_millis(100)).await;
        }
        let inputs = rig.inputs().await;
        assert_eq!(requested(&inputs), [false]);
        let offline = |input: &Input| match input {
            Input::Report { report, .. } if report.online == Some(false) => report.cause.clone(),
            _ => None,
        };
        let causes: Vec<_> = inputs.iter().filter_map(offline).collect();
        let [cause] = &causes[..] else { panic!("{causes:?}") };
        assert!(
            cause.contains("does not let go of its card") && cause.contains(failed.unwrap_or("still set")),
            "{cause}"
        );
        rig.read(vec![card(0, None)]).await;
        assert!(rig.report(|r| r.online).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_that_was_presented_while_nobody_read_the_reader_is_requested_as_stale() {
    let mut rig = Rig::start(PortalKind::Door, &[ReaderKind::Latch { repeats: false }], Memory::default());
    for _ in 0..3 {
        rig.read(vec![card(0, Some("1EA68671"))]).await;
        accepted(&rig, None).await;
    }
    assert_eq!(requested(&rig.inputs().await), [true]);
    rig.state(SourceState::Offline { cause: "no answer".into() }).await;
    rig.state(SourceState::Online).await;
    rig.read(vec![card(0, Some("1EA68671"))]).await;
    assert_eq!(requested(&rig.inputs().await), [true]);
}
