//! What is a repeat of a request, and what is another request under the same counter.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::desk::{Desk, REPEAT_MS};
use crate::access::decision::{Decision, Grant, Reason};
use crate::access::input::{Input, Presented};
use crate::access::portal::{Direction, PortalKind};
use crate::gateway::ports::{Inbox, PortalOrder};
use crate::wire::modbus::{Reply, Request, Space};
use crate::wire::registers::encode_request;

const CARD: &str = "1EA68671";
const OTHER: &str = "04A1B2C3";

/// A desk that grants to `CARD` and denies everybody else, and how often it was judged.
fn judged_desk(portal: &'static str) -> (Arc<Desk>, watch::Receiver<u32>) {
    let (inbox, mut taken) = Inbox::new();
    let kind = PortalKind::Gate;
    let desk = Arc::new(Desk::new(portal.parse().unwrap(), kind, 13, inbox));
    let to = Arc::clone(&desk);
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
            to.obey(PortalOrder::Answer { portal: portal.to_owned(), id: request.id, decision });
        }
    });
    (desk, judged)
}

/// Asks, and reads the counter answered and the decision.
async fn ask(desk: &Desk, counter: u16, card: &str, direction: Option<Direction>) -> (u16, u16) {
    let words = encode_request(counter, card.parse().unwrap(), direction);
    desk.serve(&Request::WriteRegisters { address: 0, values: words.to_vec() }).await.unwrap();
    let read = Request::Read { space: Space::Input, address: 0, count: 2 };
    let Reply::Words(words) = desk.serve(&read).await.unwrap() else { panic!("no words") };
    (words[0], words[1])
}

#[tokio::test(start_paused = true)]
async fn the_same_counter_is_a_repeat_only_with_the_same_card_and_direction() {
    let (desk, judged) = judged_desk("gate");
    assert_eq!(ask(&desk, 1, CARD, None).await, (1, 1));
    assert_eq!(ask(&desk, 1, CARD, None).await, (1, 1));
    assert_eq!(*judged.borrow(), 1, "repeated because its reply was lost");
    assert_eq!(ask(&desk, 1, OTHER, None).await, (1, 2), "a controller that restarted, and another card");
    assert_eq!(ask(&desk, 1, CARD, Some(Direction::Out)).await, (1, 1));
    assert_eq!(*judged.borrow(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_comes_late_or_after_a_cut_is_judged_anew() {
    let (desk, judged) = judged_desk("gate");
    ask(&desk, 1, CARD, None).await;
    tokio::time::advance(Duration::from_millis(REPEAT_MS)).await;
    ask(&desk, 1, CARD, None).await;
    assert_eq!(*judged.borrow(), 2, "late");
    desk.obey(PortalOrder::Cut { portal: "gate".parse().unwrap(), reason: "lost" });
    ask(&desk, 1, CARD, None).await;
    assert_eq!(*judged.borrow(), 3, "cut");
}
