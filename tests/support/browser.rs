//! A script that drives headless Chromium, and asks the test for what happens outside the browser.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::program::within;

pub struct Browser {
    script: Child,
    answers: ChildStdin,
    requests: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Starts a script of this directory.
    pub fn start(script: &str, args: &[&str]) -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut script = Command::new(format!("{root}/tests/.venv/bin/python"))
            .arg(format!("{root}/tests/{script}"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("tests/.venv is there: tests/run makes it");
        let answers = script.stdin.take().unwrap();
        let requests = BufReader::new(script.stdout.take().unwrap()).lines();
        Self { script, answers, requests }
    }

    /// What the script asks for; `None`: it is at its end. No limit of its own: each wait in the browser has one.
    pub async fn asked(&mut self) -> Option<String> {
        self.requests.next_line().await.unwrap().filter(|line| line != "end")
    }

    /// Done, with what came of it.
    pub async fn done(&mut self, with: &str) {
        self.answers.write_all(format!("done {with}\n").as_bytes()).await.unwrap();
    }

    /// The end of the script.
    pub async fn end(mut self) {
        drop(self.answers);
        let ended = within("the end of the browser", self.script.wait()).await.unwrap();
        assert!(ended.success(), "see the messages of the browser above");
    }
}
