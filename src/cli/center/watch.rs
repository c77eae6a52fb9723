//! Attends to the gateway: prints everything it publishes, until somebody ends it.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::super::{Exit, print_error, print_line};
use super::{Args, link, print};
use crate::center::Attention;

/// Longest time to deliver the last audit ack at the end, in seconds.
const CLOSE_S: u64 = 2;

pub(super) fn run(args: &Args) -> Exit {
    let link::CenterClient { runtime, service, gateway } = match link::start(args, Attention::Everything) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    runtime.block_on(async {
        let mut reports = service.reports();
        print_error(format!("listening to `{gateway}`; Ctrl-C ends it"));
        let exit = loop {
            tokio::select! {
                next = reports.recv() => match next {
                    Ok(report) => {
                        // Whoever reads may have gone away; then nothing is left to do here.
                        if print::received(&report.event).into_iter().any(|line| print_line(line) != Exit::Done) {
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
