//! Log lines on stderr, selected by `RUST_LOG`. The audit is separate from them.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// What is logged without `RUST_LOG`. sled logs every file, which helps only its authors.
pub(super) const DEFAULT_FILTER: &str = "info,sled=warn";
/// What is logged without `RUST_LOG` by commands that print on stdout: only errors.
pub(super) const QUIET_FILTER: &str = "error";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. If it was started before, as in tests, nothing changes. The error is a text for the user: `RUST_LOG` is not a filter.
pub(super) fn start(format: Format, default_filter: &str) -> Result<(), String> {
    let chosen = env::var("RUST_LOG").unwrap_or_default();
    let filter = if chosen.is_empty() { default_filter } else { &chosen };
    // What tokio-modbus logs about a frame is logged by the task of the line too, with bus and unit.
    let filter: Targets = format!("tokio_modbus=off,{filter}")
        .parse()
        .map_err(|error| format!("`RUST_LOG` is `{filter}`: {error}; write e.g. `info` or `dormgate=debug`"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
    Ok(())
}
