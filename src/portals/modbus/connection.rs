//! Keeps a line open: when it is opened, kept quiet after a failure, or dropped. A line that cannot be opened is tried again after a
//! wait that doubles.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Line, NotReady};
use super::received::{LocalEcho, Unsolicited};
use crate::config::BusConfig;

/// First wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MIN: u64 = 100;
/// Longest wait before a line that cannot be opened is tried again, in milliseconds.
pub const REOPEN_MS_MAX: u64 = 5000;
/// Failures in a row, of whichever units, after which a serial port is closed and opened again.
const FAILURES_TO_REOPEN: u32 = 8;
/// How long a serial port is kept quiet after it was opened, in milliseconds: requests of an earlier program are answered meanwhile.
const OPEN_QUIET_MS: u64 = 50;
/// Connections in a row that ended after one answer, after which each request gets a connection of its own: the converter closes
/// after each answer, and a request that crosses the close is lost.
const SHORT_CONNECTIONS_MAX: u32 = 2;

/// What went wrong in an exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The line has ended.
    Ended,
    /// A wrong answer.
    Nonsense,
    /// No answer, or only another unit's, or bytes that are no frame.
    Silence,
    /// No answer of a unit that was offline before.
    Probe,
}

/// The line, while it is open.
pub(super) struct Connection {
    spec: BusConfig,
    /// The slowest reply of all units.
    slowest: Duration,
    pub(super) line: Option<Line>,
    transaction: u16,
    /// Answers on this connection, and connections in a row that ended after one.
    answers: u32,
    short_connections: u32,
    /// That the adapter echoes, and that it does not, was logged.
    echo_logged: [bool; 2],
    failures: u32,
    reopen_wait: Duration,
    reopen_at: Instant,
    last_cause: String,
    unsolicited: Vec<Unsolicited>,
}

impl Connection {
    /// It is opened when it is needed.
    pub(super) fn new(spec: BusConfig, slowest: Duration) -> Self {
        Self {
            slowest,
            line: None,
            transaction: 1,
            answers: 0,
            short_connections: 0,
            echo_logged: [false; 2],
            failures: 0,
            reopen_wait: Duration::from_millis(REOPEN_MS_MIN),
            reopen_at: Instant::now(),
            last_cause: String::new(),
            unsolicited: Vec::new(),
            spec,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.spec.id
    }

    /// The speed of a serial line.
    pub(super) fn baud(&self) -> Option<u32> {
        self.spec.line.baud()
    }

    /// Opens the line. Returns whether it was down before: a connection that was only dropped after a time-out changes nothing for any
    /// unit. The error names why it is down. Before its wait is over it is not tried.
    pub(super) async fn open(&mut self, now: Instant) -> Result<bool, String> {
        if now < self.reopen_at {
            return Err(self.last_cause.clone());
        }
        match self.open_quiet().await {
            Ok(line) => {
                let was_down = !self.last_cause.is_empty();
                if was_down {
                    tracing::info!(bus = %self.spec.id, line = %self.spec.line, "the line is open again");
                    self.last_cause.clear();
                }
                (self.line, self.answers, self.failures) = (Some(line), 0, 0);
                Ok(was_down)
            }
            Err(error) => {
                Err(self
                    .down(&format!("it cannot be opened: {error}; check power, cable and the line in its `[[bus]]`")))
            }
        }
    }

    async fn open_quiet(&mut self) -> io::Result<Line> {
        let mut line = Line::open(&self.spec, self.transaction).await?;
        if line.is_serial() {
            let failed = self.failures > 0;
            line.settle(if failed { self.slowest } else { Duration::from_millis(OPEN_QUIET_MS) }).await?;
        }
        Ok(line)
    }

    /// No unit can be asked before the wait is over, which doubles until a unit answers. Returns the cause.
    fn down(&mut self, why: &str) -> String {
        let cause = format!("no line to `{}`: {why}", self.spec.line);
        if self.last_cause != cause {
            tracing::warn!(bus = %self.spec.id, error = cause, "no unit on the line can be asked");
        }
        self.last_cause.clone_from(&cause);
        self.reopen_at = Instant::now() + self.reopen_wait;
        self.reopen_wait = (self.reopen_wait * 2).min(Duration::from_millis(REOPEN_MS_MAX));
        cause
    }

    /// Nothing was sent, so the request may wait for the line. But a line on which no unit ever answered, or that does not fall silent
    /// again, is down: then this returns the cause.
    pub(super) async fn not_ready(&mut self, why: NotReady) -> Option<String> {
        let was_used = self.answers > 0;
        let cause = match why {
            NotReady::Closed => {
                self.closed_by_peer();
                "it closes every connection at once; check whether it serves another client".to_owned()
            }
            NotReady::NotSilent => {
                self.poisoned(After::Nonsense).await;
                format!("it {why}")
            }
        };
        if was_used && (why == NotReady::Closed || self.line.is_some()) {
            return None;
        }
        self.close();
        Some(self.down(&cause))
    }

    fn close(&mut self) {
        self.note_received();
        if let Some(line) = self.line.take() {
            self.transaction = line.transaction();
        }
    }

    /// The other end closed the connection.
    pub(super) fn closed_by_peer(&mut self) {
        if self.line.as_ref().is_some_and(|line| !line.is_serial()) {
            self.short_connections = if self.answers == 1 { self.short_connections.saturating_add(1) } else { 0 };
        }
        self.close();
    }

    /// After any failure nothing on the line can be trusted: a connection is dropped, a serial line is kept quiet for as long
    /// as the slowest device may still answer. It is not kept quiet after a unit that was offline did not answer again: a late answer bears
    /// that unit's number, the unit is not asked meanwhile, and the others need the line.
    pub(super) async fn poisoned(&mut self, after: After) {
        self.failures = self.failures.saturating_add(1);
        let slowest = self.slowest;
        let settled = match &mut self.line {
            Some(line) if line.is_serial() && self.failures < FAILURES_TO_REOPEN => match after {
                After::Probe => {
                    line.give_up();
                    true
                }
                After::Nonsense | After::Silence => line.settle(slowest).await.is_ok(),
                After::Ended => false,
            },
            Some(_) | None => false,
        };
        match after {
            After::Ended => self.closed_by_peer(),
            _ if !settled => self.close(),
            _ => {}
        }
    }

    /// A unit answered.
    pub(super) fn works(&mut self) {
        self.failures = 0;
        self.answers = self.answers.saturating_add(1);
        self.reopen_wait = Duration::from_millis(REOPEN_MS_MIN);
        if self.short_connections >= SHORT_CONNECTIONS_MAX {
            self.close();
        }
    }

    /// Whether a unit answered on this connection.
    pub(super) fn was_used(&self) -> bool {
        self.answers > 0
    }

    /// Takes the frames that answered no request, and logs an echo that is not as configured.
    pub(super) fn take_unsolicited(&mut self) -> Vec<Unsolicited> {
        self.note_received();
        std::mem::take(&mut self.unsolicited)
    }

    fn note_received(&mut self) {
        let Some(line) = &mut self.line else { return };
        self.unsolicited.extend(line.take_unsolicited());
        let bus = tracing::field::display(&self.spec.id);
        let [present, absent] = &mut self.echo_logged;
        match (line.echo(), self.spec.echo) {
            (LocalEcho::Present, None | Some(false)) if !std::mem::replace(present, true) => tracing::info!(
                bus,
                "the adapter returns what is sent; its echo is dropped from now on: set `echo = true` in its `[[bus]]`"
            ),
            (LocalEcho::Absent, Some(true)) if !std::mem::replace(absent, true) => tracing::warn!(
                bus,
                "the adapter does not return what is sent, although that is configured: remove `echo = true` from its `[[bus]]`"
            ),
            (LocalEcho::Absent, None | Some(false)) if *present && !std::mem::replace(absent, true) => tracing::info!(
                bus,
                "the adapter returns what is sent no more: it was changed, and what comes back is an answer again"
            ),
            _ => {}
        }
    }
}
