//! What is a repeat of a request, and what is another request under the same counter.

use std::sync::Arc;

use tokio::sync::watch;

use super::*;
use crate::wire::registers::encode_request;

const CARD: &str = "1EA68671";
const OTHER: &str = "04A1B2C3";

/// A session whose gateway grants to `CARD` and denies everybody else, and how often it decided.
fn judged_session(portal: &'static str) -> (Arc<PortalSession>, watch::Receiver<u32>) {
    let (inbox, mut taken) = Inbox::new();
    let kind = PortalKind::Gate;
    let session = Arc::new(PortalSession::new(portal.parse().unwrap(), kind, 13, inbox));
    let to = Arc::clone(&session);
    let (count, judged) = watch::channel(0);
    tokio::spawn(async move {
        let good = CARD.parse().unwrap();
        while let Some(input) = taken.requests.recv().await {
            let Input::Request(request) = input else { continue };
            count.send_modify(|n| *n += 1);
            let decision = if request.presented == Presented::Card(good) {
                Decision::Grant(Grant::for_test(portal.parse().unwrap(), Some(good), Some(3000)))
            } else {
                Decision::Deny(Reason::UnknownCredential.into())
            };
            to.execute(PortalOrder::Answer { portal: portal.to_owned(), id: request.id, decision, delay_ms: None });
        }
    });
    (session, judged)
}

/// Asks, and reads the counter answered and the decision.
async fn ask(session: &PortalSession, counter: u16, card: &str, direction: Option<Direction>) -> (u16, u16) {
    let words = encode_request(counter, card.parse().unwrap(), direction);
    session.serve(&Request::WriteRegisters { address: 0, values: words.to_vec() }).await.unwrap();
    let read = Request::Read { space: Space::Input, address: 0, count: 2 };
    let Reply::Words(words) = session.serve(&read).await.unwrap() else { panic!("no registers") };
    (words[0], words[1])
}

#[tokio::test(start_paused = true)]
async fn the_same_counter_is_a_repeat_only_with_the_same_card_and_direction() {
    let (session, judged) = judged_session("gate");
    assert_eq!(ask(&session, 1, CARD, None).await, (1, 1));
    assert_eq!(ask(&session, 1, CARD, None).await, (1, 1));
    assert_eq!(*judged.borrow(), 1, "repeated because its reply was lost");
    assert_eq!(ask(&session, 1, OTHER, None).await, (1, 2), "a controller that restarted, and another card");
    assert_eq!(ask(&session, 1, CARD, Some(Direction::Out)).await, (1, 1));
    assert_eq!(*judged.borrow(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_comes_late_or_after_a_cut_is_judged_again() {
    let (session, judged) = judged_session("gate");
    ask(&session, 1, CARD, None).await;
    tokio::time::advance(Duration::from_millis(REPEAT_MS)).await;
    ask(&session, 1, CARD, None).await;
    assert_eq!(*judged.borrow(), 2, "late");
    session.execute(PortalOrder::Cut { portal: "gate".parse().unwrap(), reason: "lost" });
    ask(&session, 1, CARD, None).await;
    assert_eq!(*judged.borrow(), 3, "cut");
}

#[tokio::test]
async fn a_cut_that_follows_a_grant_ends_it_although_the_controller_was_not_answered_yet() {
    let (inbox, mut taken) = Inbox::new();
    let portal: PortalId = "power".parse().unwrap();
    let session = PortalSession::new(portal.clone(), PortalKind::PowerBox, 13, inbox);
    let card = CARD.parse().unwrap();
    let request = Request::WriteRegisters { address: 0, values: encode_request(1, card, None).to_vec() };
    let orders = async {
        let id = loop {
            if let Input::Request(request) = taken.requests.recv().await.unwrap() {
                break request.id;
            }
        };
        // Both come before the task that waits for the answer runs.
        let grant = Grant::for_test(portal.clone(), Some(card), None);
        session.execute(PortalOrder::Answer {
            portal: "power".into(),
            id,
            decision: Decision::Grant(grant),
            delay_ms: None,
        });
        session.execute(PortalOrder::Cut { portal: portal.clone(), reason: "replaced" });
    };
    let (served, ()) = tokio::join!(session.serve(&request), orders);
    served.unwrap();
    let answer = session.answer();
    assert_eq!((answer.counter, answer.decision, answer.output), (1, 1, 0), "granted, and cut since");
}
