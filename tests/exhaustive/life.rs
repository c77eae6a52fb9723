//! One gateway after a history, and what has to hold in it whatever the history was.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use dormgate::access::change::{Head, Op, Position};
use dormgate::access::effect::{Effect, Outcome, Resync, ResyncReason};
use dormgate::access::id::Revision;
use dormgate::access::input::{Input, Receipt, ReceivedPart};
use dormgate::access::list::AccessList;
use dormgate::access::snapshot::SnapshotEntry;
use dormgate::access::state::State;
use dormgate::access::stream::StreamTrack;
use dormgate::wire::digest;
use dormgate::wire::snapshot::{read_kept_part, write_parts};

use crate::campus::{Campus, PARTS, STREAMS, Step};
use crate::model;
use crate::world::{APARTMENT, OFFICE, Seen, World, fold, name, owned_by, uid};

const CARDS: [&str; 2] = ["A", "B"];
/// The lists have converged within so many rounds of 31 s, or never do.
const ROUNDS_MAX: usize = 12;

/// What the gateway has taken of an office.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Message(usize, u64),
    Snapshot(usize, u64),
}

/// One gateway after a history.
pub struct Life {
    w: World,
    campus: Campus,
    /// How much of the journal is on disk.
    durable: usize,
    /// What was taken, with the length of the journal behind it.
    taken: Vec<(usize, Taken)>,
    /// What was acknowledged: it waits for an event, or has left.
    waiting: Vec<(u64, Taken)>,
    acknowledged: BTreeSet<Taken>,
    /// Parts that are held, in the order of their arrival, and what has arrived since a snapshot was whole.
    held: Vec<(usize, u64, u32)>,
    since_whole: Vec<Step>,
    /// The first head of the card office since the gateway was new.
    first_head: Option<u64>,
    wrong: Option<String>,
}

impl Life {
    pub fn new() -> Self {
        let w = World::new();
        let durable = w.journal.len();
        Self {
            w,
            campus: Campus::default(),
            durable,
            taken: Vec::new(),
            waiting: Vec::new(),
            acknowledged: BTreeSet::new(),
            held: Vec::new(),
            since_whole: Vec::new(),
            first_head: None,
            wrong: None,
        }
    }

    pub fn after(history: &[Step]) -> Self {
        let mut life = Self::new();
        history.iter().for_each(|step| life.step(*step));
        life
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(office, which) => self.campus.published[office].push(which),
            Step::Epoch => self.campus.first_epoch = Some(self.campus.last(0)),
            Step::Deliver(office, n) => self.deliver(office, n),
            Step::Head(office, n) => {
                // Of a center that began a new epoch, the first one of that counts, unless the other was reached.
                let epoch = |n| self.campus.position(0, n).epoch;
                let gives_way = |first| epoch(first) < epoch(n) && !self.reaches(first);
                if office == 0 && self.first_head.is_none_or(gives_way) {
                    self.first_head = Some(n);
                }
                let seen = self.w.head(STREAMS[office], self.campus.position(office, n));
                self.take(&seen, None);
            }
            Step::Part(office, n, part) => self.part(office, n, part),
            Step::Work => {
                let now = self.w.now();
                let effects = self.w.engine.work_at_snapshot(now);
                let seen = self.w.keep(effects);
                self.take(&seen, None);
            }
            Step::Flush => {
                self.durable = self.w.journal.len();
                self.is_durable();
            }
            Step::PutIn => {
                let seen = self.w.see("power-412", "A");
                self.take(&seen, None);
            }
            Step::Cut => self.cut(),
            Step::Lose => {
                (self.durable, self.first_head) = (0, None);
                self.acknowledged.clear();
                self.cut();
            }
        }
        let follows_whole = matches!(step, Step::Deliver(..) | Step::Work) && self.w.engine.has_snapshot_work();
        if follows_whole {
            self.since_whole.push(step);
        } else if !self.w.engine.has_snapshot_work() {
            self.since_whole.clear();
        }
    }

    fn deliver(&mut self, office: usize, n: u64) {
        let (position, op) = self.campus.ops(office, n).pop().unwrap();
        let seen = self.w.publish_at(STREAMS[office], position, vec![op]);
        self.take(&seen, Some(&Taken::Message(office, n)));
    }

    /// A part of a snapshot: its entries are dealt out to the parts in turn.
    fn part(&mut self, office: usize, n: u64, part: u32) {
        let (entries, iat) = (self.campus.snapshot(office, n), self.w.now().wall);
        let of_part = (0..).zip(&entries).filter(|(place, _)| place % PARTS == part).map(|(_, entry)| entry.clone());
        let (id, stream) = (format!("s{office}-{n}"), name(STREAMS[office]));
        let written = |entries: &[SnapshotEntry]| {
            let parts = write_parts((&stream, self.campus.position(office, n), &id), "g1", iat, entries, true);
            <[String; 1]>::try_from(parts.unwrap()).unwrap()[0].clone()
        };
        // So short a list is written in one part; each of these repeats how many cards there are in all.
        let whole = read_kept_part(written(&entries).as_bytes()).unwrap().head;
        let claims = written(&of_part.collect::<Vec<_>>());
        let mut claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
        (claims["part"], claims["parts"], claims["cards"]) = (part.into(), PARTS.into(), whole.cards.into());
        let evidence = claims.to_string().into_bytes();
        let received =
            ReceivedPart { part: read_kept_part(&evidence).unwrap(), evidence, receipt: Receipt(0), received_at: iat };
        self.held.push((office, n, part));
        if (0..PARTS).all(|part| self.held.contains(&(office, n, part))) {
            self.held.retain(|(o, m, _)| (*o, *m) != (office, n));
        }
        let seen = self.w.input(Input::SnapshotPart(received));
        self.take(&seen, None);
    }

    /// Takes note of what was applied and is to be acknowledged.
    fn take(&mut self, seen: &Seen, message: Option<&Taken>) {
        for effect in &seen.0 {
            let Effect::Acknowledge { after, ack, .. } = effect else { continue };
            let office = usize::from(ack.stream.as_ref().is_some_and(|stream| stream.as_str() == APARTMENT));
            let what = message.filter(|_| ack.snapshot.is_none()).cloned();
            let what = what.unwrap_or_else(|| Taken::Snapshot(office, self.campus.number(office, ack.at.unwrap())));
            if ack.outcome == Outcome::Applied {
                self.taken.push((self.w.journal.len(), what.clone()));
            }
            // Also one that was received before is acknowledged: it has to be on disk as well.
            if matches!(ack.outcome, Outcome::Applied | Outcome::Duplicate) {
                self.waiting.push((*after, what));
            }
        }
        self.is_durable();
    }

    fn is_durable(&mut self) {
        let on_disk = self.w.journal[..self.durable].last().map_or(0, |record| record.event.n);
        let left = self.waiting.extract_if(.., |(after, _)| *after <= on_disk);
        self.acknowledged.extend(left.map(|(_, what)| what));
    }

    fn cut(&mut self) {
        let durable = self.durable;
        self.w.journal.truncate(durable);
        self.taken.retain(|(behind, _)| *behind <= durable);
        self.waiting.clear();
        self.held.clear();
        self.first_head = None;
        self.w.restart();
        // The start is on disk before anything arrives: one history less to keep apart.
        self.durable = self.w.journal.len();
    }

    /// The ops that the gateway has, with their revisions.
    fn received(&self) -> Vec<(Revision, Op)> {
        let through = |office| {
            let of = move |taken: &Taken| matches!(taken, Taken::Snapshot(o, _) if *o == office);
            let at = |taken: &Taken| if let Taken::Snapshot(_, n) = taken { *n } else { 0 };
            self.taken.iter().map(|(_, taken)| taken).filter(|taken| of(taken)).map(at).max().unwrap_or(0)
        };
        let mut received = Vec::new();
        for office in 0..2 {
            let through = through(office);
            for (seq, (position, op)) in (1..).zip(self.campus.ops(office, self.campus.last(office))) {
                if seq <= through || self.taken.iter().any(|(_, taken)| *taken == Taken::Message(office, seq)) {
                    received.push((position.revision(0), op));
                }
            }
        }
        received
    }

    fn verdict(&self, card: &str) -> &'static str {
        let found = self.w.engine.query(uid(card), Some(&name("gate-in")), self.w.now()).unwrap();
        found[0].outcome.reason()
    }

    /// Whether the card office's message is here.
    fn has(&self, n: u64) -> bool {
        self.taken.iter().any(|(_, taken)| match taken {
            Taken::Message(0, seq) => *seq == n,
            Taken::Snapshot(0, through) => *through >= n,
            _ => false,
        })
    }

    /// Whether all of the card office's epoch up to this message is here, and what the epoch before had, which only a snapshot of
    /// this one brings. A new gateway knows of no epoch before.
    fn reaches(&self, n: u64) -> bool {
        let epoch = self.campus.position(0, n).epoch;
        let is_of_epoch = |n: &u64| self.campus.position(0, *n).epoch == epoch;
        let brings = |taken: &Taken| matches!(taken, Taken::Snapshot(0, through) if is_of_epoch(through));
        let is_before = |taken: &Taken| match taken {
            Taken::Message(0, n) | Taken::Snapshot(0, n) => self.campus.position(0, *n).epoch < epoch,
            _ => false,
        };
        let any = |what: &dyn Fn(&Taken) -> bool| self.taken.iter().any(|(_, taken)| what(taken));
        let knows_before = any(&is_before) || (self.campus.lost && epoch.get() > 1);
        let has_before = any(&brings) || !knows_before;
        has_before && (1..=n).filter(is_of_epoch).all(|n| self.has(n))
    }

    /// What is wrong in this state.
    pub fn broken(&self) -> Option<String> {
        if self.wrong.is_some() {
            return self.wrong.clone();
        }
        let received = self.received();
        let gate = self.w.setup.portals.iter().find(|portal| portal.id.as_str() == "gate-in").unwrap();
        let track = self.w.engine.state().streams.get(OFFICE);
        for card in CARDS {
            let reported = self.verdict(card);
            let waits = track.is_some_and(|track| track.goal.is_some() || track.damaged);
            let expected = if waits && !model::is_named(&received, uid(card)) {
                "unknown_credential"
            } else {
                model::judge(&received, uid(card), gate, self.w.now().wall, false)
            };
            if reported != expected {
                return Some(format!("{card} is {reported}, and by all that was received {expected}"));
            }
        }
        // Until the first head is reached, a card that the office never named may be one that it revoked.
        if self.first_head.is_some_and(|head| !self.reaches(head)) && track.is_none_or(|track| track.goal.is_none()) {
            return Some("the first head is not reached, and nothing waits for it".to_owned());
        }
        let on = self.w.engine.boxes().get("power-412").and_then(|b| b.source()?.card());
        if on.is_some() && self.verdict("A") != "granted" {
            return Some(format!("the box is on by a card that is {}", self.verdict("A")));
        }
        let gone = |taken: &&Taken| match taken {
            Taken::Message(0, n) => !self.has(*n),
            Taken::Message(office, n) | Taken::Snapshot(office, n) => !self.taken.iter().any(|(_, t)| match t {
                Taken::Message(o, seq) => (o, seq) == (office, n),
                Taken::Snapshot(o, through) => o == office && through >= n,
            }),
        };
        if let Some(taken) = self.acknowledged.iter().find(gone) {
            return Some(format!("{taken:?} was acknowledged and is not here"));
        }
        let (folded, live) = (content(&self.w.folded()), content(self.w.engine.state()));
        (folded != live).then(|| format!("a replay gives\n{folded}\nand the life was\n{live}"))
    }

    /// What distinguishes this state from others.
    pub fn key(&self) -> String {
        let heads: Vec<_> = STREAMS
            .map(|stream| {
                let track = self.w.engine.state().streams.get(stream);
                track.map(|t| (t.head.as_ref().map(|head| head.at), t.goal, t.head_known, t.damaged))
            })
            .into();
        let verdicts = CARDS.map(|card| self.verdict(card));
        let boxes = self.w.engine.boxes().get("power-412").and_then(|b| b.source());
        let on = if boxes.is_some() { "box on" } else { "box off" };
        let mut key = format!(
            "{:?} {:?} {heads:?} {verdicts:?} {on} {boxes:?} held {:?} since {:?} lost {} acknowledged {:?} taken {:?}",
            self.campus.published,
            self.campus.first_epoch,
            self.held,
            self.since_whole,
            self.campus.lost,
            self.acknowledged,
            self.taken.iter().map(|(_, taken)| taken).collect::<BTreeSet<_>>(),
        );
        write!(key, " first {:?}", self.first_head).unwrap();
        key.push_str(&content(self.w.engine.state()));
        key.push_str(&content(&fold(&self.w.journal[..self.durable], &self.w.received)));
        key
    }

    /// Everything arrives at last: heads, and what the gateway asks for. What then differs from the offices.
    pub fn differs_after_everything_arrived(mut self) -> Option<String> {
        self.w.link_up();
        for _ in 0..ROUNDS_MAX {
            let mut seen = Vec::new();
            for office in (0..2).filter(|office| self.campus.last(*office) > 0) {
                let (stream, last) = (STREAMS[office], self.campus.last(office));
                let (at, iat) = (self.campus.position(office, last), Some(self.w.now().wall));
                let there = digest::of(&self.campus.list(office, last), &owned_by(stream)).sha256;
                let head = Head { stream: name(stream), at, iat, cards: 0, digest: there };
                seen.extend(self.w.input(Input::Head(head)).0);
                let Some(track) = self.w.engine.state().streams.get(stream).filter(|track| track.above.is_empty())
                else {
                    continue;
                };
                let Some(epoch) = track.epoch else { continue };
                let at = Position { epoch, seq: track.through };
                let here = digest::of(&self.w.engine.state().list, &owned_by(stream)).sha256;
                seen.extend(self.w.input(Input::Digest { stream: name(stream), at, sha256: here }).0);
            }
            seen.extend(self.w.pass_s(31).0);
            let asked: Vec<_> = Seen(seen).resyncs().into_iter().cloned().collect();
            asked.iter().for_each(|asked| self.answer(asked));
            self.differs()?;
        }
        self.differs()
    }

    fn answer(&mut self, asked: &Resync) {
        let office = usize::from(asked.stream.as_str() == APARTMENT);
        let epoch = self.campus.position(office, self.campus.last(office)).epoch;
        let is_of_epoch = asked.have.epoch == epoch.get() || epoch.get() == 1;
        if matches!(asked.reason, ResyncReason::Gap | ResyncReason::Empty) && is_of_epoch {
            for n in 1..=self.campus.last(office) {
                let at = self.campus.position(office, n);
                let is_missing = asked.missing.iter().any(|(from, to)| (*from..=*to).contains(&at.seq));
                if at.epoch == epoch && (at.seq > asked.have.seq || is_missing) {
                    self.deliver(office, n);
                }
            }
        } else {
            (0..PARTS).for_each(|part| self.part(office, self.campus.last(office), part));
        }
        self.w.finish_snapshots();
    }

    fn differs(&self) -> Option<String> {
        let state = self.w.engine.state();
        for (office, stream) in STREAMS.into_iter().enumerate() {
            let owns = owned_by(stream);
            let lines = |list: &AccessList| {
                let (mut lines, _) = digest::lines(list, &owns);
                lines.sort();
                lines
            };
            let (here, there) = (lines(&state.list), lines(&self.campus.list(office, self.campus.last(office))));
            if here != there {
                return Some(format!("{stream}: here {here:?}, at the office {there:?}"));
            }
            let track = state.streams.get(stream);
            if track.is_some_and(|track| track.goal.is_some() || track.damaged) {
                return Some(format!("{stream} still waits: {track:?}"));
            }
        }
        None
    }
}

/// What survives a restart, without times and the numbers of events.
fn content(state: &State) -> String {
    let mut cards: Vec<_> = (0..state.list.len()).map(|place| state.list.record_at(place).unwrap()).collect();
    cards.sort_by_key(|card| card.uid);
    let mut holders: Vec<_> = state.list.holder_entries().collect();
    holders.sort_by(|a, b| a.holder.cmp(&b.holder));
    let kept = |track: &StreamTrack| StreamTrack { head: None, newest_iat: None, snapshots: 0, ..track.clone() };
    let tracks = state.streams.iter().map(|(name, track)| (name.as_str(), kept(track)));
    let tracks: Vec<_> = tracks.filter(|(_, track)| *track != StreamTrack::default()).collect();
    format!("\n{cards:?}\n{holders:?}\n{tracks:?}\n{:?}", state.boxes)
}
