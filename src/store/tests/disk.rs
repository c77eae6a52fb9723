//! The store with its threads on a real directory.

use std::fs;

use super::*;
use crate::store::segments::{self, Segment};

/// A deadline for what should take milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

async fn until_durable(events: &mut StoreEvents, through: u64) {
    let reached = async {
        while let Some(event) = events.recv().await {
            if matches!(event, StoreEvent::Durable { through: t, .. } if t >= through) {
                return;
            }
        }
        panic!("the store ended");
    };
    tokio::time::timeout(DEADLINE, reached).await.unwrap();
}

#[allow(clippy::needless_pass_by_value, reason = "it is opened with once, as a rule")]
fn open_dir(dir: &Path, options: Options) -> (Store, StoreEvents, Recovered<EventLog>) {
    let mut tries = 0;
    loop {
        tries += 1;
        match Store::open::<EventLog>(dir, options.clone()) {
            // A program that another test starts has the lock too, from its fork to its exec.
            Err(StoreError::InUse(_)) if tries < 1_000 => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
}

/// A copy of the directory as it is now, as after `kill -9`.
fn copy(from: &Path, to: &Path) {
    let mut tries = 0;
    // A thread may replace a file between the listing and the copy of it.
    while let Err(error) = generation::copy_files(from, to) {
        tries += 1;
        assert!(error.kind() == std::io::ErrorKind::NotFound && tries < 1_000, "{error}");
    }
}

fn options() -> Options {
    Options { generation_events: 1_000_000, ..small() }
}

#[test]
fn a_change_is_durable_at_once_together_with_what_waits_and_decisions_within_the_gathering_time() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let hour = Options { flush_ms: 3_600_000, ..options() };
        let (store, mut events, _) = open_dir(dir.path(), hour);
        store.append(vec![soon(1), soon(2)]);
        store.append(vec![change(3)]);
        until_durable(&mut events, 3).await;
        assert_eq!(store.read(1, 10, 10_000).await.unwrap().len(), 3);
        store.append(vec![soon(4)]);
        assert_eq!(store.close().await, Closed::Drained);
        assert_eq!(store.last_durable(), 4);
        drop(store);
        let (store, mut events, recovered) = open_dir(dir.path(), options());
        assert_eq!((recovered.state, recovered.next_n, recovered.issues), (log_of(1..=4), 5, vec![]));
        store.append(vec![soon(5)]);
        until_durable(&mut events, 5).await;
    });
}

#[test]
fn a_directory_in_use_is_refused_with_its_name_and_free_again_after_close() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _events, _) = open_dir(dir.path(), options());
    let error = Store::open::<EventLog>(dir.path(), options()).err().unwrap();
    assert!(matches!(error, StoreError::InUse(_)));
    assert!(error.to_string().contains(&*dir.path().to_string_lossy()));
    assert_eq!(store.close_blocking(), Closed::Drained);
    let (_store, _events, _) = open_dir(dir.path(), options());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Store::open::<EventLog>(&file, options()), Err(StoreError::Dir { .. })));
}

#[test]
fn what_cannot_be_used_is_named_with_its_file() {
    let error = |dir: &Path, options| Store::open::<EventLog>(dir, options).err().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("lock")).unwrap();
    let found = error(dir.path(), options());
    assert!(found.contains(&format!("`{}`", dir.path().join("lock").display())), "{found}");
    let dir = tempfile::tempdir().unwrap();
    let key = || Options { key: super::sealed::key(), ..options() };
    let (store, mut events, _) = open_dir(dir.path(), key());
    runtime().block_on(async {
        store.append(vec![record(1)]);
        until_durable(&mut events, 1).await;
    });
    assert_eq!(store.close_blocking(), Closed::Drained);
    let names = segments::names(&Directory::new(dir.path()));
    let path = Segment::path(*names.last().unwrap());
    fs::remove_file(dir.path().join(&path)).unwrap();
    std::os::unix::fs::symlink(dir.path().join(&path), dir.path().join(&path)).unwrap();
    let found = error(dir.path(), key());
    assert!(found.contains(&format!("`{path}`: ")) && found.contains("symbolic links"), "{found}");
}

#[test]
fn a_killed_gateway_finds_all_that_was_durable_and_generations_too() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copies) = (dir.path().join("live"), dir.path().join("copies"));
    runtime().block_on(async {
        let (store, mut events, _) = open_dir(&live, Options { generation_events: 40, ..options() });
        for n in 1..=130u64 {
            store.append(vec![record(n)]);
            if n.is_multiple_of(30) {
                until_durable(&mut events, n).await;
                let target = copies.join(n.to_string());
                // Generations come and go while we copy; a real kill sees one moment.
                copy(&live.join("journal"), &target.join("journal"));
                let (_, _, recovered) = open_dir(&target, options());
                assert_eq!(recovered.integrity, Integrity::Complete, "{:?}", recovered.issues);
                assert!(recovered.next_n > n);
                assert_eq!(recovered.state, log_of(1..recovered.next_n));
            }
        }
        until_durable(&mut events, 129).await;
        store.request_generation();
        let written = async {
            while let Some(event) = events.recv().await {
                if matches!(event, StoreEvent::GenerationWritten { position, .. } if position >= 129) {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, written).await.unwrap();
        assert_eq!(store.close().await, Closed::Drained);
        let (_, _, recovered) = open_dir(&live, options());
        assert_eq!((recovered.state, recovered.integrity), (log_of(1..=130), Integrity::Complete));
        assert!(recovered.events_replayed <= 1);
        assert_eq!(verify(&live, None).unwrap().broken, None);
    });
}

/// The next failure that the store reports.
async fn failure(events: &mut StoreEvents) -> RecoveryIssue {
    let failed = async {
        while let Some(event) = events.recv().await {
            match event {
                StoreEvent::Failing { issue } => return issue,
                StoreEvent::Durable { through, .. } => panic!("event {through} was reported durable"),
                _ => {}
            }
        }
        panic!("the store ended");
    };
    tokio::time::timeout(DEADLINE, failed).await.unwrap()
}

/// The names and bytes of the files below `dir`.
fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let read = |file: std::path::PathBuf| (file.strip_prefix(dir).unwrap().to_owned(), fs::read(&file).unwrap());
    generation::files_below(dir).unwrap().into_iter().map(read).collect()
}

#[test]
fn nothing_is_durable_in_a_directory_that_is_no_longer_at_its_path_and_what_is_there_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (live, moved, older) = (dir.path().join("live"), dir.path().join("moved"), dir.path().join("older"));
    runtime().block_on(async {
        let (store, mut events, _) = open_dir(&live, Options { reserve_bytes: 0, ..options() });
        store.append(vec![change(3)]);
        until_durable(&mut events, 3).await;
        copy(&live, &older);
        store.append(vec![change(6)]);
        until_durable(&mut events, 6).await;
        fs::rename(&live, &moved).unwrap();
        copy(&older, &live);
        let before = contents(&live);
        store.append(vec![change(9)]);
        let issue = failure(&mut events).await;
        assert!(matches!(issue, RecoveryIssue::NotThere { .. }), "{issue}");
        assert!(issue.to_string().contains(&*live.to_string_lossy()), "{issue}");
        // The cursor is written beside the journal: it fails too, and neither of them changes what belongs to another store.
        store.set_acked(6);
        let issue = failure(&mut events).await;
        assert!(matches!(issue, RecoveryIssue::CursorNotWritten { .. }), "{issue}");
        assert_eq!((contents(&live), store.last_durable()), (before, 6));
        fs::remove_dir_all(&live).unwrap();
        fs::rename(&moved, &live).unwrap();
        until_durable(&mut events, 9).await;
        assert_eq!(store.close().await, Closed::Drained);
        let (store, _events, recovered) = open_dir(&live, options());
        assert_eq!((recovered.state, recovered.integrity), (log_of([3, 6, 9]), Integrity::Complete));
        assert_eq!(store.acked(), 6);
    });
}

#[test]
fn nothing_is_durable_in_a_segment_that_was_removed_or_replaced() {
    for replaced in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (segment, aside) = (dir.path().join("journal/00000000000000000003.seg"), dir.path().join("aside"));
        runtime().block_on(async {
            let (store, mut events, _) = open_dir(dir.path(), Options { reserve_bytes: 0, ..options() });
            store.append(vec![change(3)]);
            until_durable(&mut events, 3).await;
            fs::rename(&segment, &aside).unwrap();
            if replaced {
                fs::copy(&aside, &segment).unwrap();
            }
            store.append(vec![change(6)]);
            let issue = failure(&mut events).await;
            assert!(matches!(issue, RecoveryIssue::NotThere { .. }), "{issue}");
            fs::rename(&aside, &segment).unwrap();
            until_durable(&mut events, 6).await;
            assert_eq!(store.close().await, Closed::Drained);
            assert_eq!(open_dir(dir.path(), options()).2.state, log_of([3, 6]));
        });
    }
}

#[test]
fn a_stop_after_many_events_leaves_a_generation() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _events, _) = open_dir(dir.path(), Options { segment_bytes: 1 << 20, ..options() });
    store.append((1..=1500).map(record).collect());
    assert_eq!(store.close_blocking(), Closed::Drained);
    let (_store, _events, recovered) = open_dir(dir.path(), options());
    assert_eq!((recovered.events_replayed, recovered.next_n), (0, 1501));
    assert_eq!(recovered.state, log_of(1..=1500));
}

#[test]
fn a_store_whose_last_handle_is_dropped_writes_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut events, _) = open_dir(dir.path(), options());
    store.append((1..=10).map(record).collect());
    drop(store);
    runtime().block_on(async { while events.recv().await.is_some() {} });
    assert_eq!(open_dir(dir.path(), options()).2.state, log_of(1..=10));
}

#[test]
fn a_flipped_byte_of_a_generation_on_disk_costs_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let origin = dir.path().join("origin");
    let (store, _events, _) = open_dir(&origin, options());
    store.append((1..=1100).map(record).collect());
    assert_eq!(store.close_blocking(), Closed::Drained);
    let files = generation::files_below(&origin.join("generations")).unwrap();
    assert!(files.len() >= 3, "{files:?}");
    let whole = log_of(1..=1100);
    for (i, file) in files.iter().enumerate() {
        let length = fs::metadata(file).unwrap().len();
        for part in 0..4 {
            let damaged = dir.path().join(format!("{i}-{part}"));
            copy(&origin, &damaged);
            let target = damaged.join(file.strip_prefix(&origin).unwrap());
            let mut bytes = fs::read(&target).unwrap();
            let at = usize::try_from(length * part / 4).unwrap();
            if part == 3 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 0x10;
            }
            fs::write(&target, bytes).unwrap();
            let (store, _events, recovered) = open_dir(&damaged, options());
            assert_eq!((recovered.integrity, recovered.events_replayed), (Integrity::Complete, 1100));
            assert!(matches!(recovered.issues[..], [RecoveryIssue::GenerationSetAside { .. }]));
            assert_eq!(recovered.state, whole);
            drop(store);
            assert_eq!(fs::read_dir(damaged.join("damaged")).unwrap().count(), 1);
        }
    }
}

/// Runs `test` in a tmpfs of 2 MiB; needs root.
fn in_tmpfs(test: impl FnOnce(&Path) + std::panic::UnwindSafe) {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().to_owned();
    run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs"], &mount);
    let outcome = std::panic::catch_unwind(|| test(&mount));
    // Lazily: a thread that is just ending may still have a file open.
    run("umount", &["-l"], &mount);
    outcome.unwrap();
}

fn try_run(program: &str, args: &[&str], path: &Path) -> bool {
    std::process::Command::new(program).args(args).arg(path).status().is_ok_and(|status| status.success())
}

fn run(program: &str, args: &[&str], path: &Path) {
    assert!(try_run(program, args, path), "{program} failed");
}

/// A real disk that was mounted read-only after an error. The injected one is in `full`.
#[test]
#[ignore = "mounts a tmpfs as root, which tests/run does"]
fn a_real_read_only_disk_gives_its_state_and_goes_on_when_writable() {
    in_tmpfs(|mount| {
        let (store, _events, _) = open_dir(mount, options());
        store.append((1..=1100).map(record).collect());
        assert_eq!(store.close_blocking(), Closed::Drained);
        drop(store);
        // A thread that is just ending may still have a file open for writing.
        let mut tries = 0..500;
        while !try_run("mount", &["-o", "remount,ro"], mount) {
            tries.next().expect("the tmpfs stays busy for 10 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        let (store, mut events, recovered) = open_dir(mount, options());
        assert_eq!((recovered.state, recovered.integrity), (log_of(1..=1100), Integrity::Complete));
        assert_eq!(recovered.events_replayed, 0, "the generation was read");
        assert!(matches!(Store::open::<EventLog>(mount, options()), Err(StoreError::InUse(_))));
        store.append(vec![change(1101)]);
        runtime().block_on(async {
            let reported = tokio::time::timeout(DEADLINE, events.recv()).await.unwrap();
            assert!(matches!(reported, Some(StoreEvent::Failing { .. })), "{reported:?}");
            run("mount", &["-o", "remount,rw"], mount);
            until_durable(&mut events, 1101).await;
        });
        assert_eq!(store.close_blocking(), Closed::Drained);
    });
}

/// A real full disk. The injected one is in `full`.
#[test]
#[ignore = "mounts a tmpfs as root, which tests/run does"]
fn a_real_full_disk_stops_nothing_and_is_survived() {
    in_tmpfs(|mount| {
        runtime().block_on(async {
            let (store, mut events, _) = open_dir(mount, Options { reserve_bytes: 256 * 1024, ..options() });
            store.append(vec![change(3)]);
            until_durable(&mut events, 3).await;
            let reserve = mount.join("reserve");
            while !reserve.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let filler = mount.join("filler");
            let mut n = 3;
            drop(fs::write(&filler, vec![1; 4 << 20]));
            let failing = async {
                loop {
                    n += 3;
                    store.append(vec![Record { evidence: vec![7; 50_000], ..change(n) }]);
                    if let Ok(event) = tokio::time::timeout(Duration::from_millis(100), events.recv()).await
                        && matches!(event, Some(StoreEvent::Failing { .. }))
                    {
                        break;
                    }
                }
            };
            tokio::time::timeout(DEADLINE, failing).await.unwrap();
            assert!(!reserve.exists());
            assert!(store.last_durable() > 3, "the reserve made room");
            fs::remove_file(&filler).unwrap();
            until_durable(&mut events, n).await;
            assert_eq!(store.close().await, Closed::Drained);
            let (store, _events, recovered) = open_dir(mount, options());
            assert_eq!((recovered.integrity, recovered.next_n), (Integrity::Complete, n + 1));
            assert_eq!(store.close().await, Closed::Drained);
        });
    });
}
