//! `dormgate run`: the gateway.

use tokio::signal::unix::{SignalKind, signal};

use super::serve::{ServeError, Source, serve_file};
use super::{ConfigArg, Exit, bad_config, print_error};
use crate::config;

pub(super) fn run(args: &ConfigArg) -> Exit {
    // One thread for all links and the gateway: a request is decided without waking another thread, which costs more than the
    // decision. Slow work (the disk, the parsing of a bulk load, digests) has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(format!("the runtime cannot be started: {error}"));
            return Exit::Failed;
        }
    };
    // Before anything that takes time: a stop during the start is a stop too, and not the end by a signal.
    let signals = runtime.block_on(async { Ok::<_, std::io::Error>((stop_signal()?, signal(SignalKind::hangup())?)) });
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    let outcome = runtime.block_on(async {
        let (stop, hangup) = signals.map_err(|source| ServeError::Listen { what: "signals".to_owned(), source })?;
        serve_file(&config, Source { file: args.config.clone(), hangup }, stop).await
    });
    // Does not wait for a thread that hangs on a stuck disk; what was acknowledged is on the disk.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => Exit::Done,
        Err(error) => {
            print_error(error);
            Exit::Failed
        }
    }
}

/// Done at SIGTERM or Ctrl-C. Fails when the operating system refuses to report signals.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
