//! `dormgate run`: the gateway.

use tokio::signal::unix::{SignalKind, signal};

use super::serve::{ServeError, Source, serve_file};
use super::{ConfigArg, Ended, Exit, bad_config, failed};
use crate::config;

pub(super) fn run(args: &ConfigArg) -> Ended {
    // One thread for all links and the gateway: a request is decided without waking another thread, which costs more than the
    // decision. Slow work (the disk, the parsing of a bulk load, digests) has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("the runtime cannot be started: {error}")))?;
    // Before anything that takes time: a stop during the start is a stop too, and not the end by a signal.
    let signals = runtime.block_on(async { Ok::<_, std::io::Error>((stop_signal()?, signal(SignalKind::hangup())?)) });
    let config = config::load(&args.config).map_err(bad_config)?;
    let outcome = runtime.block_on(async {
        let (stop, hangup) = signals.map_err(|source| ServeError::Listen { what: "signals".to_owned(), source })?;
        serve_file(&config, Source { file: args.config.clone(), hangup }, stop).await
    });
    // Does not wait for a thread that hangs on a stuck disk; what was acknowledged is on the disk.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Done).map_err(failed)
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
