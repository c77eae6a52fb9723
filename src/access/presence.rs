//! Where cards are: the last passages of each card through gates, and how certain they are. State is the fold of audit events, as
//! everything that survives; which gates make up an area is the configuration's business and is handed in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::decision::GrantReason;
use super::event::{AuditEvent, Event, ForgivenBy, Forgiveness, GapCause, Mark, Moment, Outcome};
use super::id::{CardSet, CardUid, PortalId};
use super::portal::Direction;

/// Cards whose passages are remembered at once. Beyond it the tenth that passed longest ago is forgotten: nothing is known of them,
/// and whoever is unknown is never refused.
pub const CARDS_TRACKED_MAX: usize = 65_536;
/// Gates at which the last passage of one card is remembered, the newest first.
pub const PASSAGES_MAX: usize = 4;

names! {
    /// How certain a passage is; the later, the more certain.
    pub enum Certainty {
        /// A gate of the area was held open since, or was then, so the card may have passed without being read; or the gate did not
        /// confirm the release; or events are lost.
        Doubtful,
        /// The gate was released for the card, and nothing reports whether somebody passed.
        Granted,
        /// The gate reported that somebody passed on the card's release.
        Taken,
    }
}

/// The last passage of a card through one gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Which gate.
    pub portal: PortalId,
    /// Which way.
    pub direction: Direction,
    /// When.
    pub moment: Moment,
    /// How certain it is.
    pub certainty: Certainty,
    /// It does not count against the next passage.
    pub forgiven: bool,
}

/// Where all cards are. See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// The newest passage first, at most one a gate. Shared with whoever lists where all cards were at one moment.
    cards: HashMap<CardUid, Arc<Vec<Passage>>, RandomState>,
    /// The gates and doors that ever reported that somebody passed.
    reporting: BTreeSet<PortalId>,
    /// The names in use, so that each is in memory once.
    names: BTreeSet<PortalId>,
}

impl Presence {
    /// The last passages of a card, the newest first, at most one a gate.
    #[must_use]
    pub fn of(&self, uid: &CardUid) -> &[Passage] {
        self.cards.get(uid).map_or(&[], |passages| passages.as_slice())
    }

    /// All cards with a passage, in no order.
    pub fn all(&self) -> impl Iterator<Item = (CardUid, &[Passage])> {
        self.cards.iter().map(|(uid, passages)| (*uid, passages.as_slice()))
    }

    /// All cards with a passage as they are now, in no order: nothing is copied that a card has, so this is quick.
    pub(super) fn at_this_moment(&self) -> Vec<(CardUid, Arc<Vec<Passage>>)> {
        self.cards.iter().map(|(uid, passages)| (*uid, Arc::clone(passages))).collect()
    }

    /// Every passage, to change it.
    fn each(&mut self) -> impl Iterator<Item = &mut Passage> {
        self.cards.values_mut().flat_map(Arc::make_mut)
    }

    /// Every passage of one card, to change it.
    fn each_of(&mut self, uid: &CardUid) -> impl Iterator<Item = &mut Passage> {
        self.cards.get_mut(uid).into_iter().flat_map(Arc::make_mut)
    }

    /// Whether the portal ever reported that somebody passed, so that a release alone is no passage there.
    #[must_use]
    pub fn reports_passing(&self, portal: &PortalId) -> bool {
        self.reporting.contains(portal)
    }

    /// The portals that ever reported that somebody passed.
    pub fn reporting(&self) -> impl Iterator<Item = &PortalId> {
        self.reporting.iter()
    }

    /// Puts back what was kept of a portal that reports passing.
    pub fn restore_reporting(&mut self, portal: PortalId) {
        self.reporting.insert(portal);
    }

    /// Puts back what was kept of a card.
    pub fn restore(&mut self, uid: CardUid, mut passages: Vec<Passage>) {
        for passage in &mut passages {
            passage.portal = self.name(&passage.portal);
        }
        self.cards.insert(uid, Arc::new(passages));
    }

    /// Where these cards passed is not known any more.
    pub(super) fn forget(&mut self, cards: &[CardUid]) {
        for uid in cards {
            self.cards.remove(uid);
        }
    }

    fn name(&mut self, portal: &PortalId) -> PortalId {
        if let Some(known) = self.names.get(portal) {
            return known.clone();
        }
        self.names.insert(portal.clone());
        portal.clone()
    }

    /// Folds one event. `is_known`: whether the list knows a card; the others leave no trace here.
    pub(super) fn record(&mut self, event: &AuditEvent, is_known: impl Fn(&CardUid) -> bool) {
        match &event.body {
            Event::Decision { portal: Some(portal), who, outcome: Outcome::Grant(reason), direction, .. } => {
                let (Some(uid), Some(direction)) = (who.uid, *direction) else { return };
                if !self.reports_passing(portal) && is_known(&uid) {
                    let is_open = matches!(reason, GrantReason::FreeAccess | GrantReason::Fire);
                    let certainty = if is_open { Certainty::Doubtful } else { Certainty::Granted };
                    self.passed(uid, portal, direction, certainty, event);
                }
            }
            Event::Taken { portal, who, direction } => {
                if !self.reports_passing(portal) {
                    self.reporting.insert(portal.clone());
                }
                if let Some(uid) = who.uid.filter(is_known) {
                    self.passed(uid, portal, *direction, Certainty::Taken, event);
                }
            }
            // Its gate did not do that release, as far as is known.
            Event::NotTaken { portal, who, .. } if !self.reports_passing(portal) => {
                let Some(uid) = who.uid else { return };
                self.each_of(&uid).filter(|passage| passage.portal == *portal).for_each(Passage::doubt);
            }
            Event::Config { mark: Mark::Forgiven(forgiveness), .. } => self.forgive(forgiveness),
            Event::LogGap { cause: GapCause::Damaged | GapCause::NotWritten, .. } => {
                self.each().for_each(Passage::doubt);
            }
            _ => {}
        }
    }

    fn passed(
        &mut self,
        uid: CardUid,
        portal: &PortalId,
        direction: Direction,
        certainty: Certainty,
        event: &AuditEvent,
    ) {
        if self.cards.len() >= CARDS_TRACKED_MAX && !self.cards.contains_key(&uid) {
            self.forget_oldest();
        }
        let portal = self.name(portal);
        let passages = Arc::make_mut(self.cards.entry(uid).or_default());
        passages.retain(|passage| passage.portal != portal);
        passages.truncate(PASSAGES_MAX - 1);
        let (moment, forgiven) = (event.moment(), certainty == Certainty::Doubtful);
        passages.insert(0, Passage { portal, direction, moment, certainty, forgiven });
    }

    fn forget_oldest(&mut self) {
        let newest = |passages: &Arc<Vec<Passage>>| passages.first().map_or(0, |passage| passage.moment.n);
        let mut numbers: Vec<u64> = self.cards.values().map(newest).collect();
        let place = numbers.len() / 10;
        let (_, last_to_go, _) = numbers.select_nth_unstable(place);
        let last_to_go = *last_to_go;
        self.cards.retain(|_, passages| newest(passages) > last_to_go);
    }

    fn forgive(&mut self, forgiveness: &Forgiveness) {
        let Forgiveness { cards, portals, by } = forgiveness;
        let concerned = |passage: &&mut Passage| portals.is_empty() || portals.contains(&passage.portal);
        let pardon = |passage: &mut Passage| match by {
            ForgivenBy::HeldOpen => passage.doubt(),
            ForgivenBy::Command | ForgivenBy::Operator | ForgivenBy::Daily => passage.forgiven = true,
        };
        match cards {
            CardSet::All => self.each().filter(concerned).for_each(pardon),
            CardSet::One(uid) => self.each_of(uid).filter(concerned).for_each(pardon),
        }
    }
}

impl Passage {
    /// Whether the card may be elsewhere by now without having been read.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.certainty == Certainty::Doubtful
    }

    fn doubt(&mut self) {
        (self.certainty, self.forgiven) = (Certainty::Doubtful, true);
    }
}
