//! Readers that repeat their card, and whose messages end.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_first_card_that_a_repeating_reader_shows_after_it_was_silent_is_no_presentation() {
    let tag = |uid: &str| format!("{{\"uid\":\"{uid}\"}}");
    let there = |uid: &str| vec![CardEvent::There(Presented::Card(uid.parse().unwrap()))];
    // From the start, with a card in it, and while it was empty.
    for before in [None, Some("1E-A6-86-71"), Some("")] {
        for silent_ms in [6_500, 8_000, 20_000] {
            let mut rig = Rig::new("esphome-tag");
            rig.kept("hall/status", "online");
            if let Some(before) = before {
                rig.sends("hall/tag", &tag(""));
                rig.after(2_000);
                rig.sends("hall/tag", &tag(before));
            }
            rig.after(4_750);
            assert_eq!(rig.reader.as_ref().unwrap().is_read(), before.is_some());
            rig.after(silent_ms - 4_750);
            assert!(rig.reader.as_ref().unwrap().is_read(), "a card that is there would have been reported");
            rig.sends("hall/tag", &tag("1E-A6-86-71"));
            assert_eq!(rig.cards(), there("1EA68671"), "{before:?}, {silent_ms} ms");
            // Taken out and put in, as the reader is seen to report.
            rig.after(1_000);
            rig.sends("hall/tag", &tag(""));
            rig.after(2_000);
            rig.sends("hall/tag", &tag("1E-A6-86-71"));
            assert_eq!(rig.cards(), presented("1EA68671"), "{before:?}, {silent_ms} ms");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reports_once_that_a_card_has_left_is_not_silent_while_it_is_empty() {
    let mut rig = Rig::once_removed();
    rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}");
    rig.after(1_000);
    rig.sends("hall/tag", "{\"uid\":\"\"}");
    rig.after(60_000);
    rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}");
    assert_eq!(rig.cards(), presented("1EA68671"));
    // A card that is there would have been reported.
    let mut rig = Rig::once_removed();
    rig.after(6_000);
    rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}");
    assert_eq!(rig.cards(), presented("1EA68671"));
    // That it has left was lost, or the reader was: nobody knows.
    rig.after(20_000);
    rig.sends("hall/tag", "{\"uid\":\"1E-A6-86-71\"}");
    assert_eq!(rig.cards(), [CardEvent::There(Presented::Card("1EA68671".parse().unwrap()))]);
}
