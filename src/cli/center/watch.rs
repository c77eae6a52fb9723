//! The center at its desk: everything the gateway says, printed, until somebody ends it.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::super::{Exit, complain, say};
use super::{Args, link, print};
use crate::workbench::center::Attention;

/// Longest time to deliver the last audit ack at the end, in seconds.
const CLOSE_S: u64 = 2;

pub(super) fn run(args: &Args) -> Exit {
    let link::Desk { runtime, service, gateway } = match link::start(args, Attention::Everything) {
        Ok(desk) => desk,
        Err(exit) => return exit,
    };
    runtime.block_on(async {
        let mut heard = service.heard();
        complain(format!("listening to `{gateway}`; Ctrl-C ends it"));
        let exit = loop {
            tokio::select! {
                next = heard.recv() => match next {
                    Ok(heard) => {
                        // Whoever reads may have gone away; then nothing is left to do here.
                        if print::heard(&heard).into_iter().any(|line| say(line) != Exit::Done) {
                            break Exit::Failed;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        complain(format!("{missed} lines are not shown, because the reader is too slow; all audit events are in the directory"));
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
