//! Reads the configuration again, at SIGHUP and when an operator asks: all of it is taken over, or nothing.
//!
//! A file that changes a key that needs a restart changes nothing, so that what runs is always what one file has, and not a mixture
//! of two.

use std::path::PathBuf;

use ipnet::IpNet;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use super::notify;
use crate::access::input::Operator;
use crate::access::rules::Rules;
use crate::config::{self, ConfigError, Secret, Site};
use crate::gateway::ports::{Ask, Inbox, Reload};
use crate::http::{ReloadAsk, ReloadRefusal, Reloaded};

/// Operators that ask for a reload at once; more wait.
const ASKS_MAX: usize = 8;
/// Keys that an event names.
const KEYS_NAMED_MAX: usize = 100;

/// The file of a gateway that is read again, and the signal at which it is.
pub(crate) struct Source {
    /// The file.
    pub(crate) file: PathBuf,
    /// SIGHUP.
    pub(crate) hangup: Signal,
}

/// What others take over of a file that was read again.
pub(super) struct Shared {
    /// What is presented at the console's login.
    pub(super) token: watch::Sender<Option<Secret>>,
    /// The time zone that the console shows.
    pub(super) zone: watch::Sender<String>,
    /// Who may connect to the Modbus server.
    pub(super) allow: Option<watch::Sender<Vec<IpNet>>>,
}

/// See the module's head.
pub(super) struct Reloader {
    source: Source,
    /// What is in force.
    running: Site,
    inbox: Inbox,
    token: watch::Sender<Option<Secret>>,
    /// The time zone that the console shows.
    zone: watch::Sender<String>,
    /// Who may connect to the Modbus server.
    allow: Option<watch::Sender<Vec<IpNet>>>,
    asks: mpsc::Receiver<ReloadAsk>,
}

impl Reloader {
    /// The way in for operators; where there is no file, nobody is behind it.
    pub(super) fn channel() -> (mpsc::Sender<ReloadAsk>, mpsc::Receiver<ReloadAsk>) {
        mpsc::channel(ASKS_MAX)
    }

    pub(super) fn new(
        source: Source,
        running: Site,
        inbox: Inbox,
        Shared { token, zone, allow }: Shared,
        asks: mpsc::Receiver<ReloadAsk>,
    ) -> Self {
        Self { source, running, inbox, token, zone, allow, asks }
    }

    /// Reads the file whenever it is asked for.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                Some(()) = self.source.hangup.recv() => drop(self.reread().await),
                Some(ReloadAsk(answer)) = self.asks.recv() => {
                    let done = self.reread().await;
                    if answer.send(done).is_err() {
                        tracing::debug!("whoever asked for the reload has gone");
                    }
                }
                else => return,
            }
        }
    }

    async fn reread(&mut self) -> Result<Reloaded, ReloadRefusal> {
        let file = self.source.file.clone();
        tracing::info!(file = %file.display(), "reading the configuration again");
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let read = read.unwrap_or_else(|error| Err(ConfigError::Unreadable { path: file, source: error.into() }));
        let done = match read {
            Ok(new) => self.take_over(new).await,
            Err(error) => Err(ReloadRefusal::Wrong(error.to_string())),
        };
        match &done {
            Ok(reloaded) if reloaded.changed.is_empty() => {
                tracing::info!("nothing that the gateway takes over has changed");
            }
            Ok(reloaded) => tracing::info!("the configuration is in force: {}", reloaded.changed.join(", ")),
            Err(refusal) => self.refused(refusal).await,
        }
        done
    }

    async fn take_over(&mut self, new: Site) -> Result<Reloaded, ReloadRefusal> {
        let differences = self.running.differences(&new);
        let file = self.source.file.clone();
        if !differences.restart.is_empty() {
            return Err(ReloadRefusal::NeedsRestart { file, keys: differences.restart });
        }
        let changed = differences.live;
        let mut on_disk = true;
        if !changed.is_empty() {
            let rules = Rules {
                portals: new.portals.iter().map(|portal| portal.portal.clone()).collect(),
                policy: new.policy.clone(),
                calendar: new.calendar.clone(),
            };
            let detail = format!("the configuration was read again; changed: {}", named(&changed));
            let reload = Reload { rules, detail, streams: new.streams.clone(), insecure: new.insecure.clone() };
            let (answer, done) = oneshot::channel();
            let asked = self.inbox.ask(Ask::Reload { reload: Box::new(reload), answer }).await;
            let stopping = || ReloadRefusal::NotNow("the gateway is stopping".to_owned());
            asked.map_err(|_| stopping())?;
            on_disk = done.await.map_err(|_| stopping())?.is_ok();
            self.token.send_replace(new.http.as_ref().and_then(|http| http.token.clone()));
            self.zone.send_replace(new.timezone_name.clone());
            if let Some((allow, server)) = self.allow.as_ref().zip(new.modbus_server.as_ref()) {
                allow.send_replace(server.allow.clone());
            }
            self.running = new;
        }
        notify(&[sd_notify::NotifyState::Status("serving")]);
        Ok(Reloaded { file, changed, on_disk })
    }

    /// Logs why a file is not taken over, and has it in the audit.
    async fn refused(&self, refusal: &ReloadRefusal) {
        let text = refusal.to_string();
        text.lines().for_each(|line| tracing::error!("{line}"));
        notify(&[sd_notify::NotifyState::Status("serving; the changed file was refused, see the log")]);
        let why = match refusal {
            ReloadRefusal::Wrong(text) => {
                let (first, more) = (text.lines().next().unwrap_or_default(), text.lines().count().saturating_sub(1));
                if more == 0 { first.to_owned() } else { format!("{first} (and {more} more, which are in the log)") }
            }
            ReloadRefusal::NeedsRestart { keys, .. } => format!("only a restart takes over {}", named(keys)),
            ReloadRefusal::NotNow(why) => why.clone(),
        };
        let command = Operator::Note { detail: format!("the configuration was read again and refused: {why}") };
        let (answer, done) = oneshot::channel();
        if self.inbox.ask(Ask::Operator { command, actor: None, answer }).await.is_err() || done.await.is_err() {
            tracing::debug!("the gateway is stopping: the refusal is not in the audit");
        }
    }
}

/// Keys for the audit, where an event has to fit into a batch: a large building has a thousand portals with several keys each.
fn named(keys: &[String]) -> String {
    let rest = if keys.len() > KEYS_NAMED_MAX { ", which are in the log" } else { "" };
    crate::few(keys, KEYS_NAMED_MAX, ", ") + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_some_keys_and_how_many_more_there_are() {
        let keys = |count: usize| vec!["policy.clone".to_owned(); count];
        assert_eq!(named(&keys(2)), "policy.clone, policy.clone");
        assert!(named(&keys(KEYS_NAMED_MAX)).ends_with("policy.clone"));
        assert!(named(&keys(KEYS_NAMED_MAX + 7)).ends_with("policy.clone and 7 more, which are in the log"));
    }
}
