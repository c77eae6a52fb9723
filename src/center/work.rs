//! The task of a service: it carries out orders, many in one transaction, receives what the gateways publish, and answers it.

mod again;
mod receive;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::warn;

use super::notes::Notes;
use super::order::{Attention, GatewayEvent, Order, Report, Stage, Staged, hand_over};
use super::{COMMAND_LIFE_S, Center, CenterError, DraftClaims, JournalName, SignedMessage, Storage};
use crate::access::change::Position;
use crate::access::id::{GatewayId, Timestamp};
use crate::access::input::CommandKind;
use crate::clock::Clock;
use crate::mqtt::{Connection, Event, MessageId, PublishError, Retention};

use again::Again;
use receive::Logged;

/// Time between two heads of a journal that does not change, in seconds (wire contract, 2.4).
pub const HEAD_EVERY_S: u64 = 300;
/// Shortest time between two heads of a journal that changes, in milliseconds: a digest walks the whole list.
const HEAD_REST_MS: u64 = 1_000;
/// Orders carried out in one transaction. They share its wait for the disk.
const ORDERS_AT_ONCE_MAX: usize = 512;
/// Messages that wait for the broker in memory; beyond, orders to publish are refused. One transaction may exceed it.
const WAITING_MAX: usize = 100_000;
/// Messages that the connection has at once. New ones go first, then those that a gateway asked for again.
const UNDER_WAY_MAX: usize = 256;
/// Time between two removals of what is older than its retention, in seconds.
const REMOVE_EVERY_S: u64 = 600;
/// Names of gateways that are not configured here, each logged once; beyond, they are passed over in silence.
const STRANGERS_MAX: usize = 64;

/// The task of a service.
pub(super) struct Work<S> {
    center: Center<S>,
    connection: Connection,
    clock: Clock,
    attention: Attention,
    reports: broadcast::Sender<Report>,
    is_up: watch::Sender<bool>,
    undelivered: watch::Sender<usize>,
    /// Messages not yet handed to the connection, oldest first.
    fresh: VecDeque<SignedMessage>,
    /// What gateways asked for again.
    again: Again,
    /// New messages that the connection has.
    under_way: HashMap<MessageId, (JournalName, Position)>,
    /// How many messages of each number the broker does not have yet: a list has many parts, and is delivered with its last.
    outstanding: BTreeMap<(JournalName, Position), usize>,
    notes: Notes,
    removals: Interval,
    /// Journals that have changed since their last head.
    changed: BTreeSet<JournalName>,
    heads_not_before: Instant,
    all_heads: Interval,
    strangers: HashSet<GatewayId>,
    logged: Logged,
}

impl<S: Storage> Work<S> {
    pub(super) fn new(
        center: Center<S>,
        connection: Connection,
        (clock, attention): (Clock, Attention),
        reports: broadcast::Sender<Report>,
        (is_up, undelivered): (watch::Sender<bool>, watch::Sender<usize>),
    ) -> Self {
        let every = |seconds| {
            let mut interval = tokio::time::interval(Duration::from_secs(seconds));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        Self {
            center,
            connection,
            clock,
            attention,
            reports,
            is_up,
            undelivered,
            fresh: VecDeque::new(),
            again: Again::default(),
            under_way: HashMap::new(),
            outstanding: BTreeMap::new(),
            notes: Notes::default(),
            removals: every(REMOVE_EVERY_S),
            changed: BTreeSet::new(),
            heads_not_before: Instant::now(),
            all_heads: every(HEAD_EVERY_S),
            strangers: HashSet::new(),
            logged: Logged::default(),
        }
    }

    /// Works until it is ordered to close, or until nobody is left to give orders.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Order<S>>) {
        self.publish_undelivered();
        let attends = self.attention == Attention::Everything;
        loop {
            self.send();
            self.undelivered.send_replace(self.fresh.len() + self.connection.undelivered());
            // A head that overtakes its messages makes gateways ask for them.
            let heads_may = self.fresh.is_empty();
            // Without a connection they would only wait, and are sent anyway once there is one.
            let all_may = heads_may && attends && *self.is_up.borrow();
            let (heads_wait, heads_at) = (!self.changed.is_empty(), self.heads_not_before);
            let keep_at = self.notes.due();
            tokio::select! {
                order = inbox.recv() => {
                    let Some(order) = order else { return };
                    if let Some((within, answer)) = self.carry_out(order, &mut inbox) {
                        // Nobody may be left to receive it.
                        answer.send(self.close(within).await).ok();
                        return;
                    }
                }
                event = self.connection.next() => self.happened(event),
                () = tokio::time::sleep_until(heads_at), if heads_may && heads_wait => self.send_changed_heads(),
                _ = self.all_heads.tick(), if all_may => self.send_all_heads(),
                () = tokio::time::sleep_until(keep_at.unwrap_or(heads_at)), if keep_at.is_some() => self.keep(),
                _ = self.removals.tick(), if S::KEEPS_PUBLISHED => self.remove_old(),
            }
        }
    }

    async fn close(mut self, within: Duration) -> bool {
        self.keep();
        while let Some(message) = self.fresh.front() {
            if hand_over(&mut self.connection, message, Retention::UntilDelivered).is_err() {
                break;
            }
            self.fresh.pop_front();
        }
        let all = self.fresh.is_empty();
        if all {
            self.send_changed_heads();
        }
        self.connection.close(within).await && all
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    fn report(&self, gateway: Option<&GatewayId>, event: GatewayEvent) {
        // Without a listener nothing is lost: what matters is on disk.
        drop(self.reports.send(Report { gateway: gateway.cloned(), event }));
    }

    /// Carries out `first` and the orders that wait behind it; gives an order to close.
    fn carry_out(
        &mut self,
        first: Order<S>,
        inbox: &mut mpsc::Receiver<Order<S>>,
    ) -> Option<(Duration, oneshot::Sender<bool>)> {
        let mut publications = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Publish(stage, staged) => publications.push((stage, staged)),
                other => {
                    self.publish_all(std::mem::take(&mut publications));
                    match other {
                        Order::Close(within, answer) => return Some((within, answer)),
                        Order::Ask(question) => question(&mut self.center),
                        Order::Write(to, claims, answer) => {
                            drop(answer.send(self.write(to.as_ref(), &claims)));
                        }
                        Order::Command(gateway, kind, actor, answer) => {
                            drop(answer.send(self.command(&gateway, kind, actor.as_deref())));
                        }
                        Order::LastFailure(answer) => {
                            drop(answer.send(self.connection.last_failure().map(str::to_owned)));
                        }
                        Order::Publish(..) => {}
                    }
                }
            }
            next = if publications.len() < ORDERS_AT_ONCE_MAX { inbox.try_recv().ok() } else { None };
        }
        self.publish_all(publications);
        None
    }

    /// Publishes these in one transaction. Nobody is answered, and nothing is published, before it is on disk.
    fn publish_all(&mut self, publications: Vec<(Stage<S>, Staged)>) {
        if publications.is_empty() {
            return;
        }
        let (now, waiting) = (self.now(), self.fresh.len());
        let (stages, answers): (Vec<_>, Vec<_>) = publications.into_iter().unzip();
        let done = self.center.transaction(|center| {
            let mut results = Vec::with_capacity(stages.len());
            for stage in stages {
                if waiting >= WAITING_MAX {
                    results.push(Err(CenterError::Busy(waiting)));
                    continue;
                }
                match stage(center, now) {
                    Err(error) if error.is_of_storage() => return Err(error),
                    result => results.push(result),
                }
            }
            Ok(results)
        });
        match done {
            Ok(results) => {
                for (result, answer) in results.into_iter().zip(answers) {
                    if let Ok(messages) = &result {
                        messages.iter().for_each(|message| self.take_up(message));
                    }
                    drop(answer.send(result));
                }
            }
            Err(error) => {
                warn!("{error}");
                for answer in answers {
                    drop(answer.send(Err(CenterError::NotKept(error.to_string()))));
                }
            }
        }
    }

    /// A new message: to be sent, and its journal's head after it.
    fn take_up(&mut self, message: &SignedMessage) {
        self.fresh.push_back(message.clone());
        let Some(number) = self.center.journal_of(message) else { return };
        self.changed.insert(number.0.clone());
        if S::KEEPS_PUBLISHED {
            *self.outstanding.entry(number).or_insert(0) += 1;
        }
    }

    /// Takes up what was on disk and not with the broker when the last run ended.
    fn publish_undelivered(&mut self) {
        match self.center.undelivered(WAITING_MAX) {
            Ok(messages) => messages.iter().for_each(|message| self.take_up(message)),
            Err(error) => self.failed(&error),
        }
    }

    /// Notes in the storage what waits to be noted.
    fn keep(&mut self) {
        match self.notes.write(&mut self.center) {
            Ok(tokens) => tokens.into_iter().for_each(|token| self.connection.ack(token)),
            Err(error) => self.failed(&error),
        }
    }

    fn remove_old(&mut self) {
        if let Err(error) = self.center.remove_old(self.now()) {
            self.failed(&error);
        }
    }

    fn write(&mut self, to: Option<&GatewayId>, claims: &DraftClaims) -> Result<SignedMessage, CenterError> {
        let written = self.center.publish_as_written(to, claims, self.now());
        match &written {
            Ok(message) if claims.is_numbered() => self.fresh.push_back(message.clone()),
            Ok(message) => self.take_up(message),
            Err(_) => {}
        }
        written
    }

    fn command(&mut self, gateway: &GatewayId, kind: CommandKind, actor: Option<&str>) -> Result<String, CenterError> {
        let (jti, message) = self.center.command(gateway, kind, actor, self.now())?;
        let life = Duration::from_secs(COMMAND_LIFE_S.unsigned_abs());
        self.publish(&message, Retention::Until(Instant::now() + life));
        Ok(jti)
    }

    /// Publishes what need not be kept until there is room for it.
    fn publish(&mut self, message: &SignedMessage, retention: Retention) {
        if let Err(error) = hand_over(&mut self.connection, message, retention) {
            self.report(None, GatewayEvent::Problem(format!("not sent to `{}`: {error}", message.topic)));
        }
    }

    fn send(&mut self) {
        while self.connection.undelivered() < UNDER_WAY_MAX {
            let is_fresh = !self.fresh.is_empty();
            if !is_fresh && let Some((gateway, request)) = self.again.next() {
                self.answer(&gateway, request);
                continue;
            }
            let queue = if is_fresh { &mut self.fresh } else { &mut self.again.messages };
            let Some(message) = queue.front() else { return };
            match hand_over(&mut self.connection, message, Retention::UntilDelivered) {
                Ok(id) => {
                    if is_fresh && S::KEEPS_PUBLISHED {
                        self.under_way.extend(self.center.journal_of(message).map(|number| (id, number)));
                    }
                }
                Err(PublishError::Full) => return,
                // Never of a message that was signed here; it must not stop those behind it.
                Err(error) => warn!("not sent to `{}`: {error}", message.topic),
            }
            queue.pop_front();
        }
    }

    fn send_changed_heads(&mut self) {
        self.heads_not_before = Instant::now() + Duration::from_millis(HEAD_REST_MS);
        let now = self.now();
        for journal in std::mem::take(&mut self.changed) {
            match self.center.head(&journal, now) {
                Ok(head) => head.iter().for_each(|head| self.send_head(head)),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn send_all_heads(&mut self) {
        match self.center.heads(self.now()) {
            Ok(heads) => heads.iter().for_each(|head| self.send_head(head)),
            Err(error) => self.failed(&error),
        }
    }

    fn send_head(&mut self, head: &SignedMessage) {
        self.publish(head, Retention::Newest(head.topic.to_string()));
    }

    fn failed(&self, error: &CenterError) {
        warn!("{error}");
        self.report(None, GatewayEvent::Problem(error.to_string()));
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Up { .. } => {
                self.is_up.send_replace(true);
                // A broker that lost its power may have lost what it confirmed, and its sessions do not show it.
                self.all_heads.reset_immediately();
                self.report(None, GatewayEvent::Up);
            }
            Event::Down { why } => {
                self.is_up.send_replace(false);
                self.report(None, GatewayEvent::Down(why));
            }
            Event::Message(message) => {
                // What is noted is acknowledged once it is on disk.
                if !self.receive(&message)
                    && let Some(token) = message.ack
                {
                    self.connection.ack(token);
                }
            }
            Event::Delivered(id) => {
                if let Some(number) = self.under_way.remove(&id) {
                    self.is_delivered(number);
                }
            }
            Event::SubscriptionRefused { filter } => {
                let problem = format!("the broker refuses to deliver `{filter}`; look at its access list");
                self.report(None, GatewayEvent::Problem(problem));
            }
        }
    }

    /// The broker has one more message of this number.
    fn is_delivered(&mut self, number: (JournalName, Position)) {
        let Some(left) = self.outstanding.get_mut(&number) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.outstanding.remove(&number);
            self.notes.delivered(number);
        }
    }
}
