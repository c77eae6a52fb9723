//! What is no regular file in a data directory: it is left alone, and nothing waits for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::*;

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A store of nine events in `dir`, closed.
fn written(dir: &Path) {
    let (store, _, _) = Store::open::<EventLog>(dir, small()).unwrap();
    store.append((1..=9).map(record).collect());
    assert_eq!(store.close_blocking(), Closed::Drained);
}

#[test]
fn a_directory_a_pipe_a_socket_or_a_link_to_one_is_named_left_alone_and_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (data, journal) = (dir.path().join("d"), dir.path().join("d/journal"));
    written(&data);
    let name = |n| journal.join(segment::file_name(n));
    fs::create_dir(name(770)).unwrap();
    fifo(&name(771));
    let _socket = UnixListener::bind(name(772)).unwrap();
    symlink("/dev/zero", name(773)).unwrap();
    fs::File::create(name(774)).unwrap().set_len(20_000_000_000).unwrap();
    let found = verify(&data, None).unwrap();
    assert_eq!(
        (found.last, found.broken.map(|broken| broken.file)),
        (9, Some(format!("journal/{}", segment::file_name(770))))
    );
    let (store, _, recovered) = Store::open::<EventLog>(&data, small()).unwrap();
    assert_eq!((&recovered.state, recovered.integrity), (&log_of(1..=9), Integrity::Complete));
    for n in 770..=774 {
        let named = recovered.issues.iter().filter(|issue| issue.to_string().contains(&segment::file_name(n)));
        assert_eq!(named.count(), 1, "{n}: {:?}", recovered.issues);
        assert!(name(n).symlink_metadata().is_ok(), "{n} is left alone");
    }
    store.append((10..=12).map(record).collect());
    assert_eq!(store.close_blocking(), Closed::Drained);
    assert_eq!(numbers(&store), (1..=12).collect::<Vec<_>>(), "the audit is read");
}

#[test]
fn a_pipe_in_the_place_of_a_mark_or_of_a_generations_file_stops_nothing() {
    for place in ["journal/durable", "journal/acked", "journal/retained"] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        drop(fs::remove_file(dir.path().join(place)));
        fifo(&dir.path().join(place));
        assert!(verify(dir.path(), None).unwrap().broken.is_some(), "{place}");
        let (store, _, recovered) = Store::open::<EventLog>(dir.path(), small()).unwrap();
        assert_eq!(recovered.state, log_of(1..=9), "{place}");
        assert_eq!(store.close_blocking(), Closed::Drained);
    }
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let generation = dir.path().join("generations").join(format!("{:020}-2", 9));
    fs::create_dir_all(generation.join("sled")).unwrap();
    fifo(&generation.join("seal"));
    assert_eq!(verify(dir.path(), None).unwrap().broken, None);
    let (store, _, recovered) = Store::open::<EventLog>(dir.path(), small()).unwrap();
    assert_eq!((&recovered.state, recovered.integrity), (&log_of(1..=9), Integrity::Complete));
    assert_eq!(store.close_blocking(), Closed::Drained);
}

#[test]
fn a_journal_directory_that_is_gone_is_no_audit_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    fs::remove_dir_all(dir.path().join("generations")).unwrap();
    assert_eq!(verify(dir.path(), None).unwrap().broken.map(|broken| broken.file), Some("journal".to_owned()));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(verify(empty.path(), None).unwrap().broken, None);
}

#[test]
fn a_data_directory_that_is_made_is_for_its_owner_only_and_one_that_is_there_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = dir.path().join("a/b");
    written(&data);
    assert_eq!(mode(&data), 0o700);
    assert_ne!(mode(&dir.path().join("a")), 0o700, "what leads to it is not the gateway's");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    written(&data);
    assert_eq!(mode(&data), 0o750);
}
