//! Who was at a place: the visits that the events of its portals show, one line a card.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What of an event counts here. A UID that is hashed in the audit stays as it stands there.
#[derive(Deserialize)]
struct Passed<'e> {
    #[serde(rename = "type")]
    kind: &'e str,
    at: String,
    portal: Option<String>,
    uid: Option<String>,
    holder: Option<String>,
    decision: Option<&'e str>,
    reason: Option<&'e str>,
    direction: Option<String>,
}

/// The visits of one card.
#[derive(Debug, Default)]
struct Visits {
    first: String,
    last: String,
    portal: String,
    direction: Option<String>,
    certainty: &'static str,
    times: u64,
}

/// The visits of all cards.
#[derive(Debug, Default)]
pub struct Visitors(BTreeMap<(Option<String>, Option<String>), Visits>);

impl Visitors {
    /// Takes in one event, oldest first, if it is at one of these portals. A denial is no visit; a release without a card is nobody's.
    pub fn add(&mut self, event: &str, portals: &BTreeSet<&str>) {
        let Ok(event) = serde_json::from_str::<Passed<'_>>(event) else { return };
        let Some(portal) = event.portal.filter(|portal| portals.contains(portal.as_str())) else { return };
        let certainty = match (event.kind, event.decision, event.reason) {
            ("taken", _, _) => "taken",
            ("decision", Some("grant"), Some("free_access" | "fire")) => "doubtful",
            ("decision", Some("grant"), _) => "granted",
            _ => return,
        };
        if event.uid.is_none() && event.holder.is_none() {
            return;
        }
        let visits = self.0.entry((event.holder, event.uid)).or_default();
        if visits.times == 0 {
            visits.first.clone_from(&event.at);
        }
        // That the release was taken is the same visit once more.
        visits.times += u64::from(certainty != "taken" || visits.times == 0);
        (visits.last, visits.certainty) = (event.at, certainty);
        (visits.portal, visits.direction) = (portal, event.direction);
    }

    /// `08193021 1EA68671  last 2026-09-01T08:00:00.000Z gate-in in taken, first …, 3 times`, whoever was there last at the end.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by(|(_, a), (_, b)| a.last.cmp(&b.last));
        let line = |((holder, uid), v): (&(Option<String>, Option<String>), &Visits)| {
            let way = v.direction.as_ref().map_or(String::new(), |way| format!(" {way}"));
            let times = if v.times == 1 { String::new() } else { format!(", first {}, {} times", v.first, v.times) };
            let name = |name: &Option<String>| name.as_deref().unwrap_or("-").to_owned();
            format!("{} {}  last {} {}{way} {}{times}", name(holder), name(uid), v.last, v.portal, v.certainty)
        };
        all.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_that_was_taken_is_one_and_a_denial_is_none() {
        let (mut visitors, there) = (Visitors::default(), BTreeSet::from(["gate-in"]));
        let event = |kind: &str, at: &str, who: &str, more: &str| {
            format!(r#"{{"n":1,"type":"{kind}","at":"2026-09-01T08:00:0{at}.000Z","portal":"gate-in"{who}{more}}}"#)
        };
        let (p1, p2) = (r#","uid":"1EA68671","holder":"p1""#, r#","uid":"h:0011","holder":"p2""#);
        let grant = r#","decision":"grant","reason":"granted","direction":"in""#;
        for (kind, at, who, more) in [
            ("decision", "1", p1, grant),
            ("taken", "2", p1, r#","direction":"in""#),
            ("decision", "3", p2, r#","decision":"grant","reason":"free_access""#),
            ("decision", "4", p1, r#","decision":"deny","reason":"lost""#),
            ("decision", "5", "", r#","decision":"grant","reason":"exit""#),
            ("decision", "6", p1, grant),
        ] {
            visitors.add(&event(kind, at, who, more), &there);
            visitors.add(&event(kind, at, who, more), &BTreeSet::from(["gate-out"]));
        }
        assert_eq!(
            visitors.lines(),
            [
                "p2 h:0011  last 2026-09-01T08:00:03.000Z gate-in doubtful",
                "p1 1EA68671  last 2026-09-01T08:00:06.000Z gate-in in granted, first 2026-09-01T08:00:01.000Z, 2 times",
            ]
        );
    }
}
