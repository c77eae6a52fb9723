//! Hashes in place of UIDs, for an audit without UIDs (`audit.uid = "hashed"`), and the UIDs behind them. The state is the fold of the audit, and its lists,
//! boxes and passages are by UID; the list that is folded with it has every card that matters, so a hash is looked up among the
//! hashes of its cards. One that no known card has, a stranger's, stays a hash, which is nobody's UID.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Fold;
use crate::access::event::{AuditEvent, Event, Forgiveness, Mark};
use crate::access::id::{CardSet, CardUid};
use crate::access::power_box::PowerSource;
use crate::wire::uid_key::UidKey;

/// The card of an event, to be replaced; as [`Event::uid`].
fn uid_mut(event: &mut Event) -> Option<&mut CardUid> {
    match event {
        Event::Decision { who, .. }
        | Event::Taken { who, .. }
        | Event::NotTaken { who, .. }
        | Event::PowerOff { who, .. }
        | Event::PowerTrip { who, .. }
        | Event::RevocationConfirmed { who, .. }
        | Event::Alarm { who, .. } => who.uid.as_mut(),
        Event::PowerOn { source, .. } | Event::PowerOrdered { source, .. } => match source {
            PowerSource::Card(uid) | PowerSource::Reported(uid) => Some(uid),
            PowerSource::Remote => None,
        },
        Event::Revoked { uid, .. } => Some(uid),
        Event::Config { mark: Mark::Forgiven(Forgiveness { cards: CardSet::One(uid), .. }), .. } => Some(uid),
        _ => None,
    }
}

/// The event with the hash in place of the UID; `None`: it has no UID.
pub(super) fn hashed(event: &AuditEvent, key: &UidKey) -> Option<AuditEvent> {
    event.body.uid()?;
    let mut event = event.clone();
    uid_mut(&mut event.body).into_iter().for_each(|uid| *uid = key.hash(*uid));
    Some(event)
}

/// What hashes stand for, as far as it was needed: nothing is hashed where no hash is met.
pub(super) struct Resolver<'k> {
    key: Option<&'k UidKey>,
    known: HashMap<CardUid, CardUid, RandomState>,
    /// The card that is to be hashed next, in the order in which the state came to know them.
    next: usize,
}

impl<'k> Resolver<'k> {
    pub(super) fn new(key: Option<&'k UidKey>) -> Self {
        Self { key, known: HashMap::default(), next: 0 }
    }

    /// Puts the UID in the place of its hash, if `state` knows the card.
    pub(super) fn resolve<F: Fold>(&mut self, event: &mut AuditEvent, state: &F) {
        // A snapshot may change the order in which the cards are known.
        if matches!(event.body, Event::ChangesApplied { snapshot: Some(_), .. }) {
            self.next = 0;
        }
        let Some((uid, key)) = uid_mut(&mut event.body).filter(|uid| uid.is_hashed()).zip(self.key) else { return };
        if !self.known.contains_key(uid) {
            for card in state.cards_from(self.next) {
                self.known.insert(key.hash(card), card);
                self.next += 1;
            }
        }
        if let Some(card) = self.known.get(uid) {
            *uid = *card;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;

    use super::*;
    use crate::access::change::RegisterKinds;
    use crate::access::event::{AlarmKind, AppliedSnapshot, StreamRevision, Who};
    use crate::access::id::{ClockTrust, Mono, Now, Timestamp};

    #[test]
    fn whatever_has_a_uid_has_its_hash_afterwards() {
        let (uid, key): (CardUid, _) = ("1EA68671".parse().unwrap(), UidKey::new(b"key"));
        let who = Who { uid: Some(uid), holder: None };
        let cards = CardSet::One(uid);
        let forgiven = Forgiveness { cards, portals: Vec::new(), by: crate::access::event::ForgivenBy::Operator };
        let (kind, detail) = (AlarmKind::DeadCard, String::new);
        let bodies = [
            Event::Alarm { kind, portal: None, who, count: 0, ended: false, detail: detail() },
            Event::Config { mark: Mark::Forgiven(forgiven), detail: detail() },
        ];
        let bodies: Vec<_> =
            crate::wire::audit::tests::samples().chain(bodies).filter(|body| body.uid().is_some()).collect();
        assert_eq!(bodies.iter().map(Event::kind).collect::<BTreeSet<_>>().len(), 11);
        for body in bodies {
            let now = Now { wall: Timestamp(0), mono: Mono(0), clock: ClockTrust::Trusted };
            let event = AuditEvent::new(1, "b", now, body);
            let written = hashed(&event, &key).unwrap();
            assert_eq!((event.body.uid(), written.body.uid()), (Some(uid), Some(key.hash(uid))), "{event:?}");
        }
    }

    /// A state that knows these cards, in this order.
    #[derive(Default)]
    struct Known(Vec<CardUid>);

    impl Fold for Known {
        fn apply(&mut self, _: &AuditEvent, _: &[u8]) -> Result<(), String> {
            Ok(())
        }

        fn cards_from(&self, from: usize) -> Vec<CardUid> {
            self.0.iter().skip(from).copied().collect()
        }

        fn export(&self) -> Result<Vec<Vec<u8>>, String> {
            Ok(Vec::new())
        }

        fn import(_: &[Vec<u8>]) -> Result<Self, String> {
            Ok(Self::default())
        }
    }

    #[test]
    fn after_a_snapshot_the_cards_are_looked_through_from_the_first_again() {
        let [first, second]: [CardUid; 2] = ["1EA68671", "04A1B2C3D4E5F6"].map(|uid| uid.parse().unwrap());
        let key = UidKey::new(b"key");
        let mut resolver = Resolver::new(Some(&key));
        let event = |body| {
            let now = Now { wall: Timestamp(0), mono: Mono(0), clock: ClockTrust::Trusted };
            AuditEvent::new(1, "b", now, body)
        };
        let card_of = |resolver: &mut Resolver<'_>, uid, known: &[CardUid]| {
            let who = Who { uid: Some(key.hash(uid)), holder: None };
            let mut event = event(Event::NotTaken { portal: "gate-in".parse().unwrap(), who, detail: String::new() });
            resolver.resolve(&mut event, &Known(known.to_vec()));
            event.body.uid()
        };
        assert_eq!(card_of(&mut resolver, first, &[first]), Some(first));
        let revision = StreamRevision { stream: "center".parse().unwrap(), epoch: NonZeroU32::MIN, seq: 2 };
        let snapshot = AppliedSnapshot { id: "s1".to_owned(), owns: RegisterKinds::default() };
        let mut snapshot = event(Event::ChangesApplied { revision, snapshot: Some(snapshot) });
        resolver.resolve(&mut snapshot, &Known::default());
        assert_eq!(card_of(&mut resolver, second, &[second, first]), Some(second));
    }
}
