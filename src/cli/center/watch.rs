//! Attends to the gateways: prints everything they publish, until somebody ends it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::super::{Exit, print_error, print_line};
use super::{Args, link, print};
use crate::access::id::GatewayId;
use crate::center::{Attention, GatewayEvent, Report, Service};
use crate::wire::state;

/// Longest time to deliver the last audit ack at the end, in seconds.
const CLOSE_S: u64 = 2;

pub(super) fn run(args: &Args) -> Exit {
    let link::CenterClient { runtime, service, gateways } = match link::start_all(args, Attention::Everything) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    runtime.block_on(async {
        let mut reports = service.reports();
        let names: Vec<String> = gateways.iter().map(|gateway| format!("`{gateway}`")).collect();
        print_error(format!("listening to {}; Ctrl-C ends it", names.join(", ")));
        let mut watch = Watch { service: &service, is_named: gateways.len() > 1, states: BTreeMap::new() };
        let exit = loop {
            tokio::select! {
                next = reports.recv() => match next {
                    Ok(report) => {
                        // Whoever reads may have gone away; then nothing is left to do here.
                        if watch.lines(&report).await.into_iter().any(|line| print_line(line) != Exit::Done) {
                            break Exit::Failed;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        print_error(format!("{missed} lines are not shown, because the reader is too slow; all audit events are in the directory"));
                    }
                    Err(RecvError::Closed) => break Exit::Failed,
                },
                ended = tokio::signal::ctrl_c() => {
                    break if ended.is_ok() { Exit::Done } else { Exit::Failed };
                }
            }
        };
        service.close(Duration::from_secs(CLOSE_S)).await;
        exit
    })
}

struct Watch<'s> {
    service: &'s Service,
    /// Each line begins with the gateway's name.
    is_named: bool,
    /// The line of the last state of each gateway.
    states: BTreeMap<GatewayId, String>,
}

impl Watch<'_> {
    async fn lines(&mut self, report: &Report) -> Vec<String> {
        let lines = match (&report.gateway, &report.event) {
            (Some(gateway), GatewayEvent::State(text)) => self.state(gateway, text).await,
            (_, event) => print::received(event),
        };
        let name = report.gateway.as_ref().filter(|_| self.is_named);
        let named = |line: String| name.map_or_else(|| line.clone(), |name| format!("{name:<16} {line}"));
        lines.into_iter().map(named).collect()
    }

    /// The state, if something of it has changed that a person wants to know.
    async fn state(&mut self, gateway: &GatewayId, text: &str) -> Vec<String> {
        let state = match state::decode(text.as_bytes()) {
            Ok(state) => state,
            Err(error) => return vec![format!("PROBLEM `up/state`: {error}")],
        };
        let (asked, statuses) = (gateway.clone(), state.streams.clone());
        let agreements = self.service.ask(move |center| center.agreements(&asked, &statuses)).await;
        let agreements = match agreements {
            Ok(Ok(agreements)) => agreements,
            Ok(Err(error)) | Err(error) => return vec![format!("PROBLEM {error}")],
        };
        let line = print::state(&state, &agreements);
        let is_new = self.states.insert(gateway.clone(), line.clone()).as_ref() != Some(&line);
        if is_new { vec![line] } else { Vec::new() }
    }
}
