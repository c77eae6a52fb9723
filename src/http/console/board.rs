//! What the page *Now* begins with: the last decision at each portal, the last decisions, and the alarms that nobody has seen to.
//! Folded from the audit in the background; bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;

use super::mask;
use crate::access::event::{AuditEvent, Event, Mark};
use crate::access::id::PortalId;
use crate::store::{Store, StoredEvent};
use crate::wire::audit::decode;

/// The newest events that are looked through at the start for what is shown.
pub const SEED_EVENTS_MAX: u64 = 20_000;
/// Alarms shown that nobody has seen to; of more the oldest are in the audit only.
pub const ALARMS_MAX: usize = 200;
/// Decisions that the page begins with.
const DECISIONS_MAX: usize = 50;

/// One event of the audit, as everybody sees it.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) n: u64,
    whole: Bytes,
    masked: Bytes,
    /// Without a login only its number and time are shown.
    pub(super) is_hidden: bool,
}

impl Frame {
    /// The event as it is sent, and what it is; `None`: it was erased, or is of another version.
    pub(super) fn new(stored: StoredEvent) -> (Arc<Self>, Option<AuditEvent>) {
        let event = decode(&stored.json).ok().map(|decoded| decoded.event);
        let is_hidden = event.as_ref().is_some_and(|event| mask::is_hidden(&event.body));
        let masked = mask::event(&stored.json, event.as_ref()).into();
        (Arc::new(Self { n: stored.n, whole: stored.json.into(), masked, is_hidden }), event)
    }

    /// Its JSON for somebody who sees whole UIDs or does not.
    pub(super) fn json(&self, whole: bool) -> &Bytes {
        if whole { &self.whole } else { &self.masked }
    }

    /// The same in a list of such events; `None`: that it is one of them is not for everybody.
    fn listed(&self, whole: bool) -> Option<&Bytes> {
        (whole || !self.is_hidden).then(|| self.json(whole))
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// The last event that is in it.
    pub(super) n: u64,
    last: BTreeMap<PortalId, Arc<Frame>>,
    alarms: VecDeque<Arc<Frame>>,
    decisions: VecDeque<Arc<Frame>>,
}

impl Board {
    /// The board of what is on disk up to event `through`. Blocks on the disk.
    pub(super) fn read(store: &Store, through: u64) -> Self {
        let mut board = Self::default();
        let from = store.first().max(through.saturating_sub(SEED_EVENTS_MAX)).max(1);
        // What cannot be read is not shown.
        drop(store.each_blocking((from, through + 1), |stored| {
            let (frame, event) = Frame::new(stored);
            board.take(&frame, event.as_ref());
        }));
        board.n = through;
        board
    }

    /// Takes in the next event.
    pub(super) fn take(&mut self, frame: &Arc<Frame>, event: Option<&AuditEvent>) {
        self.n = frame.n;
        match event.map(|event| &event.body) {
            Some(Event::Decision { portal, .. }) => {
                self.last.extend(portal.clone().map(|portal| (portal, Arc::clone(frame))));
                push(&mut self.decisions, frame, DECISIONS_MAX);
            }
            Some(Event::Alarm { .. }) => push(&mut self.alarms, frame, ALARMS_MAX),
            Some(Event::Config { mark: Mark::AlarmsAcknowledged { from, to }, .. }) => {
                self.alarms.retain(|alarm| !(*from..=*to).contains(&alarm.n));
            }
            _ => {}
        }
    }

    /// The last decision at a portal, as JSON.
    pub(super) fn last_at(&self, portal: &PortalId, whole: bool) -> Option<&Bytes> {
        self.last.get(portal)?.listed(whole)
    }

    /// The alarms and the decisions, oldest first, as two JSON lists.
    pub(super) fn lists(&self, whole: bool) -> [String; 2] {
        [&self.alarms, &self.decisions].map(|frames| list(frames.iter().filter_map(|frame| frame.listed(whole))))
    }
}

fn push(frames: &mut VecDeque<Arc<Frame>>, frame: &Arc<Frame>, max: usize) {
    if frames.len() >= max {
        frames.pop_front();
    }
    frames.push_back(Arc::clone(frame));
}

/// JSON texts as one JSON list.
pub(super) fn list<'j>(items: impl Iterator<Item = &'j Bytes>) -> String {
    let texts: Vec<_> = items.map(|json| String::from_utf8_lossy(json)).collect();
    format!("[{}]", texts.join(","))
}
