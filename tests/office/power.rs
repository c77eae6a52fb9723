//! The power of a center's machine is cut: its database is what its disk would hold. `strace` writes down what the process writes and
//! flushes; from that each image of the disk is made again, with none or some of what was written and not flushed.

use std::path::Path;
use std::time::Duration;

use crate::fleet::{GATEWAYS, card, journal, post, request};
use crate::program::{Program, within};
use crate::rig::{Center, NO_BROKER};

/// So many that the write-ahead log is written back into the file in between.
const CHANGES: u64 = 300;
/// The power is cut behind each so many writes and flushes.
const CUT_EVERY: usize = 9;
/// The files of the database, in the order of their places in an image.
const FILES: [&str; 2] = ["center.db", "center.db-wal"];

/// What the process did with a file.
enum What {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

/// A call of the process, when it was made, in nanoseconds since 1970, and on which file.
struct Step {
    at_ns: i128,
    file: usize,
    what: What,
}

/// What `\x41\x42` stands for.
fn unescaped(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// A line of the trace, `PID SECONDS.NANOSECONDS call(FD<FILE>, …) = RESULT`; `None`: not about the files of an image.
fn step(line: &str) -> Option<Step> {
    let mut words = line.split_whitespace();
    let at_ns = words.nth(1)?.replace('.', "").parse().ok()?;
    let (name, rest) = words.next()?.split_once('(')?;
    let path = String::from_utf8(unescaped(rest.split('<').nth(1)?.split('>').next()?)).ok()?;
    let file = FILES.iter().position(|file| Path::new(&path).file_name().is_some_and(|name| name == *file))?;
    assert!(!line.contains("unfinished"), "the process writes from two threads at once: {line}");
    let (call, result) = line.rsplit_once(" = ").unwrap();
    let last = call.trim_end_matches(')').rsplit(", ").next().unwrap();
    let what = match name {
        "pwrite64" => {
            let bytes = unescaped(line.split('"').nth(1).unwrap());
            assert_eq!(result.trim(), bytes.len().to_string(), "{name} wrote less");
            What::Write(last.parse().unwrap(), bytes)
        }
        "ftruncate" => What::Length(last.parse().unwrap()),
        "fsync" | "fdatasync" => What::Sync,
        _ => panic!("not understood: {name}"),
    };
    Some(Step { at_ns, file, what })
}

/// A disk that has what was flushed, and keeps in mind what was not.
struct Disk<'a> {
    durable: [Vec<u8>; 2],
    unflushed: Vec<&'a Step>,
}

fn apply(files: &mut [Vec<u8>; 2], step: &Step) {
    let file = &mut files[step.file];
    match &step.what {
        What::Write(from, bytes) => {
            file.resize(file.len().max(from + bytes.len()), 0);
            file[*from..from + bytes.len()].copy_from_slice(bytes);
        }
        What::Length(length) => file.resize(*length, 0),
        What::Sync => {}
    }
}

impl<'a> Disk<'a> {
    fn take(&mut self, step: &'a Step) {
        if !matches!(step.what, What::Sync) {
            return self.unflushed.push(step);
        }
        let is_flushed = |one: &&Step| one.file == step.file;
        let (flushed, rest) = std::mem::take(&mut self.unflushed).into_iter().partition::<Vec<_>, _>(is_flushed);
        flushed.into_iter().for_each(|one| apply(&mut self.durable, one));
        self.unflushed = rest;
    }

    /// What a cut leaves of it in `dir`, with every so many-th of the writes that were not flushed; 0: with none.
    fn leave(&self, dir: &Path, kept: usize) {
        let mut files = self.durable.clone();
        let survives = |place: usize| kept > 0 && place.is_multiple_of(kept);
        self.unflushed
            .iter()
            .enumerate()
            .filter(|(place, _)| survives(*place))
            .for_each(|(_, one)| apply(&mut files, one));
        for (name, bytes) in FILES.iter().zip(files) {
            std::fs::write(dir.join(name), bytes).unwrap();
        }
        std::fs::remove_file(dir.join("center.db-shm")).ok();
    }
}

fn now_ns() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace; tests/run installs it"]
async fn what_was_answered_survives_a_cut_of_the_power_between_any_two_writes_under_one_number() {
    let center = Center::start(NO_BROKER, &GATEWAYS).await;
    let Center { dir, program, .. } = center;
    program.stop().await;
    let database = dir.path().join(FILES[0]);
    let before = std::fs::read(&database).unwrap();
    let log = dir.path().join("trace");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (wal, config) = (path(&dir.path().join(FILES[1])), path(&dir.path().join("center.toml")));
    let (log_path, database_path) = (path(&log), path(&database));
    let options = [
        "-f",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "--absolute-timestamps=format:unix,precision:ns",
        "-o",
        &log_path,
        "-P",
        &database_path,
        "-P",
        &wal,
        "-e",
        "trace=pwrite64,pwritev,pwritev2,write,writev,ftruncate,fsync,fdatasync",
    ];
    let program = Program::traced(&options, &["center", "serve", "--config", &config]);
    let (program, address) = Center::serving(program).await;
    let mut answered = Vec::new();
    for n in 0..CHANGES {
        let messages = post(&address, n).await.expect("the center runs");
        answered.push((now_ns(), messages));
    }
    program.kill().await;
    let traced = async {
        while !std::fs::read_to_string(&log).unwrap().contains("+++ killed by SIGKILL +++") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of the trace", traced).await;

    let text = std::fs::read_to_string(&log).unwrap();
    let steps: Vec<Step> = text.lines().filter_map(step).collect();
    let is_written_back = |step: &Step| step.file == 0 && matches!(step.what, What::Sync);
    assert!(steps.iter().any(is_written_back), "the log was never written back");
    let mut disk = Disk { durable: [before, Vec::new()], unflushed: Vec::new() };
    for (place, step) in steps.iter().enumerate() {
        disk.take(step);
        if !place.is_multiple_of(CUT_EVERY) && place + 1 < steps.len() {
            continue;
        }
        for kept in [0, 1, 2] {
            disk.leave(dir.path(), kept);
            let guaranteed = answered.iter().take_while(|(at_ns, _)| *at_ns < step.at_ns).zip(0..);
            let kept = journal(&database);
            for ((_, messages), n) in guaranteed {
                let (_, (stream, audience)) = request(n);
                let number = (stream.to_owned(), audience.to_owned(), messages[0]["seq"].as_u64().unwrap());
                let claims = kept.get(&number).unwrap_or_else(|| panic!("{number:?} was answered and is lost"));
                assert!(claims.contains(&card(n)), "{number:?} is not change-{n}: {claims}");
            }
            let mut expected = (String::new(), String::new(), 0);
            for (stream, audience, seq) in kept.into_keys() {
                let is_next = (&expected.0, &expected.1) == (&stream, &audience) && seq == expected.2 + 1;
                assert!(is_next || seq == 1, "{stream} to {audience} has a hole before {seq}");
                expected = (stream, audience, seq);
            }
        }
    }
    // The center starts on what the last cut left. It gives the same answers under the same keys, and the next number to the next.
    disk.leave(dir.path(), 0);
    let (program, address) = Center::launch(&dir).await;
    for (n, (_, messages)) in (0..).zip(&answered) {
        assert_eq!(post(&address, n).await.as_ref(), Some(messages), "another answer under `change-{n}`");
    }
    let (_, (stream, audience)) = request(CHANGES);
    let used = |n: &u64| request(*n).1 == (stream, audience);
    let next = post(&address, CHANGES).await.expect("the center runs");
    assert_eq!(next[0]["seq"], (0..CHANGES).filter(used).count() + 1, "{next}");
    program.stop().await;
}
