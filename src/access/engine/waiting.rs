//! Commands that open or switch on wait until the event that remembers their id is on disk. Else a gateway that loses its power
//! between the two would act on the same message again. One that waits too long is dropped: what opens may not open late.

use std::collections::BTreeMap;

use super::super::change::ErrorCode;
use super::super::effect::{Effect, Reply};
use super::super::event::{Event, Flush, ReplyStatus};
use super::super::id::{Mono, Now, PortalId};
use super::super::input::{Command, CommandKind};
use super::commands::{Done, summary};
use super::{Due, Engine};

/// How long a command that opens waits for the disk, in milliseconds: as long as a portal counts an order that opens.
pub const COMMAND_WAIT_MS: u64 = 1_500;

/// A command that was taken and has not acted yet.
#[derive(Debug)]
pub(super) struct WaitingCommand {
    command: Command,
    /// Then it is too late.
    by: Mono,
}

/// By the event that remembers the id.
pub(super) type WaitingCommands = BTreeMap<u64, WaitingCommand>;

impl CommandKind {
    /// The portal that it opens or switches on.
    pub(super) fn opens(&self) -> Option<&PortalId> {
        match self {
            Self::Release { portal } | Self::Power { portal, on: true } => Some(portal),
            Self::Power { on: false, .. } | Self::Query { .. } | Self::Resync { .. } | Self::Forgive { .. } => None,
        }
    }
}

impl Engine {
    /// Why a command that opens would not be carried out now; `None`: it would, and has to wait for the disk.
    pub(super) fn refusal_to_open(&self, kind: &CommandKind, now: Now) -> Option<Done> {
        let portal = kind.opens()?;
        let releases = matches!(kind, CommandKind::Release { .. });
        if releases { self.release_refusal(portal, now) } else { self.power_refusal(portal, true, now) }
    }

    /// Keeps a command that opens until event `n`, which remembers its id, is on disk.
    pub(super) fn keep_command(&mut self, n: u64, command: &Command, now: Now) {
        let by = now.mono.plus_ms(COMMAND_WAIT_MS);
        self.waiting_commands.insert(n, WaitingCommand { command: command.clone(), by });
        self.set_command_deadline();
    }

    fn set_command_deadline(&mut self) {
        let next = self.waiting_commands.values().map(|waiting| waiting.by).min();
        self.deadlines.set(Due::Commands, next);
    }

    /// The ids up to event `through` are on disk: their commands act, in order.
    pub(super) fn commands_durable(&mut self, through: u64, now: Now) {
        let later = self.waiting_commands.split_off(&through.saturating_add(1));
        for (n, waiting) in std::mem::replace(&mut self.waiting_commands, later) {
            let WaitingCommand { command, by } = waiting;
            // The disk was slow, or this task was.
            let is_late = by <= now.mono || command.exp <= now.wall;
            // What was so when it was taken may have changed.
            let done = if is_late { self.dropped(&command) } else { self.carry_out(&command.kind, now) };
            self.end_command(n, &command, done, now);
        }
        self.set_command_deadline();
    }

    /// Drops the commands that have waited too long. Their answer does not wait for the disk: it is what is broken.
    pub(super) fn commands_due(&mut self, now: Now) {
        for (_, command) in self.take_waiting(|_, waiting| waiting.by <= now.mono) {
            let done = self.dropped(&command);
            self.end_command(0, &command, done, now);
        }
    }

    /// The events `from` to `to` are not written: what waits for one of them is dropped.
    pub(super) fn commands_lost(&mut self, from: u64, to: u64, now: Now) {
        for (_, command) in self.take_waiting(|n, _| (from..=to).contains(&n)) {
            let done = self.dropped(&command);
            self.end_command(0, &command, done, now);
        }
    }

    /// A later order switches the portal off: what waits to switch it on does not act after it.
    pub(super) fn withdraw_commands(&mut self, portal: &PortalId, now: Now) {
        for (n, command) in self.take_waiting(|_, waiting| waiting.command.kind.opens() == Some(portal)) {
            let message = format!("`{portal}` was ordered off before this command could act");
            let done = Done::refused(ReplyStatus::Failed, ErrorCode::InvalidField, message);
            self.end_command(n, &command, done, now);
        }
    }

    /// The first event that a command waits for.
    pub(super) fn first_waiting_command(&self) -> Option<u64> {
        self.waiting_commands.keys().next().copied()
    }

    /// Whether a command is still to be answered.
    #[must_use]
    pub fn has_waiting_commands(&self) -> bool {
        !self.waiting_commands.is_empty()
    }

    fn take_waiting(&mut self, is_meant: impl Fn(u64, &WaitingCommand) -> bool) -> Vec<(u64, Command)> {
        let meant = self.waiting_commands.iter().filter(|(n, waiting)| is_meant(**n, waiting)).map(|(n, _)| *n);
        let meant: Vec<_> = meant.collect();
        let take = |n| Some((n, self.waiting_commands.remove(&n)?.command));
        let taken = meant.into_iter().filter_map(take).collect();
        self.set_command_deadline();
        taken
    }

    fn dropped(&mut self, command: &Command) -> Done {
        if let Some(portal) = command.kind.opens() {
            self.out.push(Effect::OrderDropped { portal: portal.clone() });
        }
        let message = format!(
            "the id of the command was not on disk within {COMMAND_WAIT_MS} ms, so nothing was opened; look at the disk of \
             the gateway, then send a new command"
        );
        Done::refused(ReplyStatus::Failed, ErrorCode::InvalidField, message)
    }

    /// Answers a command that has waited. What came of it otherwise than was recorded when it was taken is an event of its own.
    fn end_command(&mut self, after: u64, command: &Command, done: Done, now: Now) {
        if done.status != ReplyStatus::Ok {
            let (portal, detail) = summary(command, &done);
            self.record(Event::Command { portal, status: done.status, taken: None, detail }, Flush::Soon, now);
        }
        let reply =
            Reply { jti: Some(command.jti.clone()), status: done.status, error: done.error, result: done.result };
        self.out.push(Effect::Reply { after, reply: Box::new(reply) });
    }
}
