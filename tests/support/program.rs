//! The program as an operator starts it: a child process with a log that can be waited on. Ends its own child and nothing else.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Every wait of a test ends after this, in seconds: by what it waits for, or as failed on a machine however busy.
pub const PATIENCE_S: u64 = 60;

/// Waits for `what`, but not for ever; `name` names it where it does not come.
pub async fn within<T>(name: &str, what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(PATIENCE_S), what).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE_S} s: {name}"),
    }
}

/// A running `dormgate`.
pub struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// How many lines there are; closed when the program has closed its log.
    count: watch::Receiver<usize>,
}

impl Program {
    /// `dormgate run --config FILE`.
    pub fn run(config: &Path) -> Self {
        Self::start(&["run", "--config", &config.display().to_string()])
    }

    /// The same, logging what `filter` selects.
    pub fn run_logging(config: &Path, filter: &str) -> Self {
        let config = config.display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        Self::spawn(command.args(["run", "--config", &config]), Some(filter))
    }

    /// `run` of another program than the one under test.
    pub fn other(program: &str, config: &Path) -> Self {
        Self::spawn(Command::new(program).args(["run", "--config", &config.display().to_string()]), None)
    }

    pub fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(env!("CARGO_BIN_EXE_dormgate")).args(args), None)
    }

    /// The same as a service manager starts it, which is notified at this socket, and has to be within this time again and again.
    pub fn notifying(config: &Path, socket: &Path, watchdog: Duration) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dormgate"));
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        Self::spawn(command.args(["run", "--config", &config.display().to_string()]), None)
    }

    /// The same under `strace` with these options. The tracer is no parent of the program, and ends with it.
    pub fn traced(options: &[&str], args: &[&str]) -> Self {
        let mut command = Command::new("strace");
        Self::spawn(command.arg("-D").args(options).arg(env!("CARGO_BIN_EXE_dormgate")).args(args), None)
    }

    fn spawn(command: &mut Command, filter: Option<&str>) -> Self {
        command.env_remove("RUST_LOG").envs(filter.map(|filter| ("RUST_LOG", filter)));
        let mut child = command
            .env_remove("CREDENTIALS_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let mut log = BufReader::new(child.stderr.take().expect("a log")).lines();
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                let mut kept = kept.lock().expect("no panic");
                kept.push(line);
                counted.send_replace(kept.len());
            }
        });
        Self { child, lines, count }
    }

    /// All it has logged so far.
    pub fn log(&self) -> String {
        self.lines.lock().expect("no panic").join("\n")
    }

    /// Waits for a line that contains `part`.
    pub async fn logged(&self, part: &str) -> String {
        let mut count = self.count.clone();
        let found = async {
            loop {
                count.borrow_and_update();
                if let Some(line) = self.lines.lock().expect("no panic").iter().find(|line| line.contains(part)) {
                    return Some(line.clone());
                }
                if count.changed().await.is_err() {
                    return self.lines.lock().expect("no panic").iter().find(|line| line.contains(part)).cloned();
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(PATIENCE_S), found).await {
            Ok(Some(line)) => line,
            Ok(None) | Err(_) => panic!("`{part}` was not logged:\n{}", self.log()),
        }
    }

    /// Sends a signal, e.g. `TERM`, `STOP`, `KILL`. The child was not waited for, so the id is still its own.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill");
        assert!(sent.success(), "the signal is sent");
    }

    /// Waits for its end, and for the end of its log.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = within("the end of the program", self.child.wait()).await.expect("a child");
        let mut count = self.count.clone();
        within("the end of the log", async { while count.changed().await.is_ok() {} }).await;
        status
    }

    /// Kills it as a power cut would.
    pub async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        self.ended().await;
    }

    /// Ends it in order and expects that it ends well. Gives its log.
    pub async fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

/// Runs the program to its end; gives the exit code and the log.
pub async fn exit_of(args: &[&str]) -> (Option<i32>, String) {
    let mut program = Program::start(args);
    let status = program.ended().await;
    (status.code(), program.log())
}

/// The status and body of a page, over the operator's socket.
pub async fn page_by_socket(socket: &Path, path: &str) -> (u16, String) {
    let stream = UnixStream::connect(socket).await.expect("the socket is served");
    within(path, get(stream, path)).await
}

/// The status and body of a page, over TCP.
pub async fn page(address: &str, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.expect("the pages are served");
    within(path, get(stream, path)).await
}

async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it listens");
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("it answers");
    let text = String::from_utf8(text).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}
