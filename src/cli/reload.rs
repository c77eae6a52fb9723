//! `dormgate reload`: has a running gateway read its configuration again.

use super::{ConfigArg, Ended, Exit, bad_config, failed, print_error, print_line};
use crate::config::{self, ConfigError};
use crate::http::SOCKET_NAME;
use crate::http::client::{self, Answer, AskError};

/// Have a running gateway read its configuration again, without a restart.
///
/// All of the file is taken over, or nothing: if it has an error, or changes a key that needs a restart, every such place is printed
/// and the gateway goes on as before. SIGHUP does the same, and reports in the log. deploy/reference.md lists the keys.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> Ended {
    let file = &args.config.config;
    // The file is there, and does not show which gateway is meant.
    let unclear = |what: String| {
        print_error(what);
        failed("no gateway was asked, and nothing of the file is in force; correct it and reload again")
    };
    let (dir, id) = config::data_dir_and_gateway(file).map_err(|error| match error {
        ConfigError::Diagnostics { .. } => unclear(error.to_string()),
        _ => bad_config(error),
    })?;
    if id.is_empty() {
        // An emptied file would lead to the default directory, and perhaps to another gateway.
        return Err(unclear(format!("{}:1:1: `gateway.id` is missing", file.display())));
    }
    let answer = client::ask(&dir.join(SOCKET_NAME), "POST", "/api/v1/reload").map_err(|error| {
        print_error(&error);
        if matches!(error, AskError::NotThere { .. }) {
            print_error("if `gateway.data_dir` has changed in the file: only a restart takes it over");
        }
        Exit::Failed
    })?;
    Ok(print_line(text(&answer)))
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
