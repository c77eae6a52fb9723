//! Which event is the end of an erasure.

use super::is_end;

#[test]
fn the_end_of_an_erasure_is_known_whoever_ordered_it() {
    let of = "events of holder `h1`";
    for actor in ["office", "he who orders x"] {
        assert!(!is_end(&format!("{actor} orders the {of} to be erased"), of), "{actor}");
        assert!(is_end(&format!("3 {of} are erased, ordered by {actor}"), of), "{actor}");
        assert!(
            is_end(&format!("3 {of} up to event 12 are erased, ordered by {actor}; 2 later ones are kept"), of),
            "{actor}"
        );
        assert!(is_end(&format!("the {of} are not erased, as {actor} ordered: full"), of), "{actor}");
        assert!(!is_end(&format!("3 events of holder `h12` are erased, ordered by {actor}"), of), "{actor}");
    }
}
