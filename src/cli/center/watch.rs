//! Prints everything that the gateways publish, until somebody ends it: attends to them from a directory, or listens to the service
//! that does.

use std::collections::BTreeMap;

use tokio::sync::broadcast::error::RecvError;

use super::super::{Exit, print_error, print_line};
use super::link::{self, Client};
use super::target::Target;
use super::{Args, Ended, print};
use crate::access::id::GatewayId;
#[cfg(feature = "center")]
use crate::center::http::{Remote, Seen, ServerError};
use crate::center::{Attention, GatewayEvent, Service};
use crate::wire::state;

pub(super) fn run(args: &Args) -> Ended {
    let Client { runtime, target, gateways } = link::start_all(args, Attention::Everything)?;
    runtime.block_on(async {
        let names: Vec<String> = gateways.iter().map(|gateway| format!("`{gateway}`")).collect();
        let is_named = gateways.len() > 1;
        let mut watch = Watch { target: target.clone(), gateways, is_named, states: BTreeMap::new() };
        let listening = format!("listening to {}; Ctrl-C ends it", names.join(", "));
        let watching = async {
            match &target {
                Target::Directory(service) => {
                    let service = service.clone();
                    watch.directory(&service, &listening).await
                }
                #[cfg(feature = "center")]
                Target::Server(remote) => {
                    let remote = remote.clone();
                    watch.service(&remote, &listening).await.unwrap_or_else(super::failed)
                }
            }
        };
        let exit = tokio::select! {
            exit = watching => exit,
            ended = tokio::signal::ctrl_c() => if ended.is_ok() { Exit::Done } else { Exit::Failed },
        };
        target.close().await;
        Ok(exit)
    })
}

struct Watch {
    target: Target,
    gateways: Vec<GatewayId>,
    /// Each line begins with the gateway's name.
    is_named: bool,
    /// The line of the last state of each gateway.
    states: BTreeMap<GatewayId, String>,
}

impl Watch {
    async fn directory(&mut self, service: &Service, listening: &str) -> Exit {
        let mut reports = service.reports_since_start();
        print_error(listening);
        loop {
            let report = tokio::select! {
                report = reports.recv() => report,
                () = service.ended() => Err(RecvError::Closed),
            };
            match report {
                Ok(report) => {
                    // Whoever reads may have gone away; then nothing is left to do here.
                    let printed = self.print(report.gateway.as_ref(), &report.event).await;
                    if printed != Exit::Done {
                        return printed;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    print_error(format!(
                        "{missed} lines are not shown, because the reader is too slow; all audit events are in the directory"
                    ));
                }
                Err(RecvError::Closed) => return Exit::Failed,
            }
        }
    }

    #[cfg(feature = "center")]
    async fn service(&mut self, remote: &Remote, listening: &str) -> Result<Exit, ServerError> {
        // Listens first, so that no state falls between.
        let mut events = remote.events().await?;
        print_error(listening);
        let printed = self.states_kept(remote).await?;
        if printed != Exit::Done {
            return Ok(printed);
        }
        loop {
            let printed = match events.next().await? {
                Seen::Event(gateway, event) => self.print(gateway.as_ref(), &event).await,
                Seen::Trouble(gateway, trouble) => self.lines(gateway.as_ref(), vec![print::trouble(&trouble)]),
                Seen::Missed(why) => self.lines(None, vec![format!("PROBLEM {why}")]),
                Seen::Lost(why) => {
                    print_error(format!("the connection to the service is lost: {why}; it is made again every second"));
                    Exit::Done
                }
                Seen::Back => {
                    print_error("the connection to the service is back");
                    self.states_kept(remote).await?
                }
            };
            if printed != Exit::Done {
                return Ok(printed);
            }
        }
    }

    /// The states that the service has, where they are new.
    #[cfg(feature = "center")]
    async fn states_kept(&mut self, remote: &Remote) -> Result<Exit, ServerError> {
        for (gateway, state) in remote.gateways().await? {
            if let Some((_, text)) = state {
                let printed = self.print(Some(&gateway), &GatewayEvent::State(text)).await;
                if printed != Exit::Done {
                    return Ok(printed);
                }
            }
        }
        Ok(Exit::Done)
    }

    async fn print(&mut self, gateway: Option<&GatewayId>, event: &GatewayEvent) -> Exit {
        // A service has gateways that were not named.
        if gateway.is_some_and(|gateway| !self.gateways.contains(gateway)) {
            return Exit::Done;
        }
        let lines = match (gateway, event) {
            (Some(gateway), GatewayEvent::State(text)) => self.state(gateway, text).await,
            (_, event) => print::received(event),
        };
        self.lines(gateway, lines)
    }

    fn lines(&self, gateway: Option<&GatewayId>, lines: Vec<String>) -> Exit {
        let name = gateway.filter(|_| self.is_named);
        let named = |line: String| name.map_or_else(|| line.clone(), |name| format!("{:<16} {line}", name.as_str()));
        lines.into_iter().map(named).map(print_line).find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
    }

    /// The state, if something of it has changed that a person wants to know.
    async fn state(&mut self, gateway: &GatewayId, text: &str) -> Vec<String> {
        let state = match state::decode(text.as_bytes()) {
            Ok(state) => state,
            Err(error) => return vec![format!("PROBLEM `up/state`: {error}")],
        };
        let agreements = match self.target.agreements(gateway, &state.streams).await {
            Ok(agreements) => agreements,
            Err(error) => return vec![format!("PROBLEM {error}")],
        };
        let line = print::state(&state, &agreements);
        let is_new = self.states.insert(gateway.clone(), line.clone()).as_ref() != Some(&line);
        if is_new { vec![line] } else { Vec::new() }
    }
}
