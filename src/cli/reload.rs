//! `dormgate reload`: has a running gateway read its configuration again.

use super::ask::ask;
use super::{ConfigArg, Exit};
use crate::http::client::Answer;

/// Have a running gateway read its configuration again, without a restart.
///
/// All of the file is taken over, or nothing: if it has an error, or changes a key that needs a restart, every such place is printed
/// and the gateway goes on as before. SIGHUP does the same, and reports in the log. deploy/reference.md lists the keys.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> Exit {
    ask(&args.config, "POST", "/api/v1/reload", text)
}

fn text(answer: &Answer) -> String {
    let file = answer.get("file").and_then(|file| file.as_str()).unwrap_or("the configuration");
    let changed = answer.get("changed").and_then(|changed| changed.as_array());
    let changed: Vec<_> = changed.into_iter().flatten().filter_map(|key| key.as_str()).collect();
    match changed.as_slice() {
        [] => format!("{file}: nothing that the gateway takes over has changed"),
        keys => format!("{file} is in force: {}", keys.join(", ")),
    }
}
