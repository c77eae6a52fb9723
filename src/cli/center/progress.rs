//! How far a long piece of work is: one line on the terminal that is written again and again, and nothing where nobody watches.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// Shortest time between two lines, in milliseconds.
const EVERY_MS: u64 = 100;
/// Width of the bar in characters.
const BAR_CHARS: usize = 30;

/// See the module's head.
pub(super) struct Progress {
    what: String,
    is_watched: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(super) fn new(what: String) -> Self {
        Self { what, is_watched: io::stderr().is_terminal(), shown: None }
    }

    /// So much of the work is done.
    pub(super) fn show(&mut self, done: usize, all: usize) {
        let is_early = self.shown.is_some_and(|at| at.elapsed() < Duration::from_millis(EVERY_MS));
        if self.is_watched && (!is_early || done == all) {
            self.shown = Some(Instant::now());
            write(&format!("\r{}", line(&self.what, done, all)));
        }
    }

    /// Removes the line.
    pub(super) fn end(&mut self) {
        if self.shown.take().is_some() {
            write("\r\x1b[K");
        }
    }
}

fn line(what: &str, done: usize, all: usize) -> String {
    let full = (BAR_CHARS * done.min(all)).checked_div(all).unwrap_or(BAR_CHARS);
    format!("[{}{}] {what} {done} of {all}", "#".repeat(full), " ".repeat(BAR_CHARS - full))
}

fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody is left to receive that nobody watches.
    drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(line("parts sent", 0, 4), format!("[{}] parts sent 0 of 4", " ".repeat(30)));
        assert_eq!(line("parts sent", 2, 4), format!("[{}{}] parts sent 2 of 4", "#".repeat(15), " ".repeat(15)));
        assert_eq!(line("parts sent", 4, 4), format!("[{}] parts sent 4 of 4", "#".repeat(30)));
        assert_eq!(line("parts sent", 0, 0), format!("[{}] parts sent 0 of 0", "#".repeat(30)));
    }
}
