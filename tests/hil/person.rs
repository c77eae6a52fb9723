//! What is output to the person at the line, and what is reported of each step.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

/// How long the person has for each thing, in seconds, when `DORMGATE_HIL_WAIT_S` does not report.
const WAIT_S: u64 = 30;
/// What a line begins with that asks the person for something.
pub const PROMPT: &str = ">>> ";

/// Steps reported so far.
#[derive(Default)]
pub struct Report {
    ok: usize,
    failed: Vec<String>,
    left_out: usize,
}

/// Past the test harness, which keeps what is printed until the end: a person is waiting.
fn report(text: impl Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("somebody reads");
}

impl Report {
    pub fn ok(&mut self, text: impl Display) {
        self.ok += 1;
        report(format_args!("ok        {text}"));
    }

    pub fn failed(&mut self, text: impl Display) {
        report(format_args!("FAILED    {text}"));
        self.failed.push(text.to_string());
    }

    pub fn left_out(&mut self, text: impl Display) {
        self.left_out += 1;
        report(format_args!("left out  {text}"));
    }

    /// Ends the run: it has failed if a step has.
    pub fn close(self) {
        report(format_args!("\n{} ok, {} failed, {} left out", self.ok, self.failed.len(), self.left_out));
        assert!(self.failed.is_empty(), "\n{}\n", self.failed.join("\n"));
        assert!(self.ok > 0, "nothing was tested");
    }
}

pub fn heading(text: impl Display) {
    report(format_args!("\n{text}"));
}

/// Asks the person for something.
pub fn please(text: impl Display) {
    report(format_args!("{PROMPT}{text} (within {} s)", wait().as_secs()));
}

/// How long the person has.
pub fn wait() -> Duration {
    let text = std::env::var("DORMGATE_HIL_WAIT_S").unwrap_or_default();
    let read = || text.parse().unwrap_or_else(|_| panic!("DORMGATE_HIL_WAIT_S is `{text}`; whole seconds are wanted"));
    Duration::from_secs(if text.is_empty() { WAIT_S } else { read() })
}

/// Whether relays may be moved: only when somebody has reported it.
pub fn outputs_may_move() -> bool {
    std::env::var("DORMGATE_HIL_OUTPUTS").is_ok_and(|yes| yes == "1")
}
