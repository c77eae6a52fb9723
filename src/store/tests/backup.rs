//! A backup of a running store in one file, and back to a directory.

use std::fs;

use super::*;
use crate::store::disk::Directory;
use crate::store::marks::MarkWriter;
use crate::store::restore::{self, RESTORED_NUMBERS, restore};
use crate::store::{BackupError, Inventory, backup};

const MADE_AT: Timestamp = Timestamp(1_788_249_600_000);

fn options() -> Options {
    Options { reserve_bytes: 0, ..small() }
}

fn made(dir: &Path, file: &Path, store: &Store) -> Result<backup::Header, BackupError> {
    backup::back_up(dir, file, ("g", MADE_AT), || Ok::<Inventory, BackupError>(store.inventory()))
}

/// Writes `numbers` and waits until they are on disk, with the generations that are due.
async fn fill(store: &Store, events: &mut StoreEvents, numbers: std::ops::RangeInclusive<u64>) {
    let last = *numbers.end();
    for n in numbers {
        store.append(vec![record(n)]);
    }
    store.request_generation();
    let (mut durable, mut generation) = (false, false);
    while !(durable && generation) {
        match tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap() {
            StoreEvent::Durable { through, .. } => durable |= through >= last,
            StoreEvent::GenerationWritten { position, .. } if position < last => store.request_generation(),
            StoreEvent::GenerationWritten { .. } => generation = true,
            _ => {}
        }
    }
}

/// The directory of a store of 30 events and its backup, in the first.
async fn backed_up() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let (dir, file) = (home.path().join("data"), home.path().join("backup"));
    let (store, mut events, _) = Store::open::<EventLog>(&dir, options()).unwrap();
    fill(&store, &mut events, 1..=30).await;
    made(&dir, &file, &store).unwrap();
    assert_eq!(store.close().await, Closed::Drained);
    (home, dir, file)
}

#[tokio::test]
async fn a_backup_holds_what_was_on_disk_and_a_restored_store_is_not_trusted_before_the_centers_have_sent_again() {
    let home = tempfile::tempdir().unwrap();
    let (dir, file) = (home.path().join("data"), home.path().join("backup"));
    let (store, mut events, _) = Store::open::<EventLog>(&dir, options()).unwrap();
    fill(&store, &mut events, 1..=100).await;
    store.set_acked(40);
    let header = made(&dir, &file, &store).unwrap();
    assert_eq!((header.last, header.acked), (100, 40));
    assert!(matches!(made(&dir, &file, &store), Err(BackupError::File { .. })), "what is there is not overwritten");
    fill(&store, &mut events, 101..=130).await;
    // While a gateway runs there is nothing to restore.
    let running = restore(&dir, &file, "g", None, true);
    assert!(matches!(running, Err(BackupError::Store(StoreError::InUse(_)))), "{running:?}");
    assert_eq!(store.close().await, Closed::Drained);
    drop(store);
    let other = restore(&dir, &file, "h", None, true);
    assert!(matches!(other, Err(BackupError::OtherGateway { .. })), "{other:?}");
    // It would go back in time.
    match restore(&dir, &file, "g", None, false).unwrap_err() {
        BackupError::BackInTime { have, last, lost, changes, .. } => {
            assert_eq!((have, last, lost, changes), (130, 100, 30, 10));
        }
        other => panic!("{other}"),
    }
    let (store, _, recovered) = Store::open::<EventLog>(&dir, options()).unwrap();
    assert_eq!(recovered.state, log_of(1..=130), "nothing has changed");
    assert_eq!(store.close().await, Closed::Drained);
    let (_, aside) = restore(&dir, &file, "g", None, true).unwrap();
    assert!(aside.unwrap().join("journal").exists());
    // Sound before the start too: what the backup lacks is known to be missing, and nothing else may be.
    let missing = (101, 130 + RESTORED_NUMBERS);
    let verified = verify(&dir, None).unwrap();
    assert_eq!((verified.last, verified.restored, verified.broken), (100, Some(missing), None));
    let (store, _, recovered) = Store::open::<EventLog>(&dir, options()).unwrap();
    assert_eq!((recovered.state, store.acked()), (log_of(1..=100), 40));
    // No number is used twice, and what is missing is known to be.
    let Integrity::Damaged { lost_from, lost_to } = recovered.integrity else { panic!("an old list is trusted") };
    assert_eq!((lost_from, recovered.next_n), (101, lost_to + 1));
    assert_eq!(lost_to, missing.1);
    // Once it has run, the end that the backup had is no end any more.
    store.append(vec![record(recovered.next_n)]);
    assert_eq!(store.close().await, Closed::Drained);
    let verified = verify(&dir, None).unwrap();
    assert_eq!((verified.last, verified.restored), (recovered.next_n, None));
    drop(store);
    // A journal that was durable further, or ends before the end of the backup, is broken.
    let is_broken = || verify(&dir, None).is_ok_and(|found| found.broken.is_some() && found.restored.is_none());
    restore(&dir, &file, "g", None, true).unwrap();
    assert!(!is_broken());
    MarkWriter::default().reset(&Directory::new(&dir), 1_000_000_000).unwrap();
    assert!(is_broken());
    restore(&dir, &file, "g", None, true).unwrap();
    let segments = fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments.filter(|path| path.extension().is_some()).max().unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
    assert!(is_broken());
}

#[tokio::test]
async fn an_encrypted_backup_without_its_key_is_refused_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (sealed, dir, file) = (home.path().join("sealed"), home.path().join("data"), home.path().join("backup"));
    let with_key = Options { key: super::sealed::key(), ..options() };
    let (store, mut events, _) = Store::open::<EventLog>(&sealed, with_key).unwrap();
    fill(&store, &mut events, 1..=50).await;
    made(&sealed, &file, &store).unwrap();
    assert_eq!(store.close().await, Closed::Drained);
    let (store, mut events, _) = Store::open::<EventLog>(&dir, options()).unwrap();
    fill(&store, &mut events, 1..=30).await;
    assert_eq!(store.close().await, Closed::Drained);
    drop(store);
    for (key, why) in [(None, "`store.encrypt`"), (StoreKey::new(b"another"), "another key")] {
        match restore(&dir, &file, "g", key.as_ref(), true) {
            Err(BackupError::Store(StoreError::Key { detail, .. })) => assert!(detail.contains(why), "{detail}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(verify(&dir, None).unwrap().last, 30);
    }
    let (header, _) = restore(&dir, &file, "g", super::sealed::key().as_ref(), true).unwrap();
    assert_eq!(header.last, 50);
}

#[tokio::test]
async fn what_a_restoration_would_lose_is_counted_by_kind() {
    let (_home, dir, file) = backed_up().await;
    let (store, mut events, _) = Store::open::<EventLog>(&dir, options()).unwrap();
    let revoked = |n: u64| {
        let body = Event::Revoked {
            uid: "04A1B2C3".parse().unwrap(),
            holder: None,
            revision: StreamRevision { stream: "s".parse().unwrap(), epoch: NonZeroU32::MIN, seq: n },
            received_at: MADE_AT,
            cut: Vec::new(),
        };
        Record { event: AuditEvent { body, ..event(n) }, evidence: Vec::new(), flush: Flush::Now }
    };
    store.append(vec![revoked(31), revoked(32), change(33), soon(34)]);
    let on_disk = async {
        while !matches!(events.recv().await.unwrap(), StoreEvent::Durable { through, .. } if through >= 34) {}
    };
    tokio::time::timeout(Duration::from_secs(20), on_disk).await.unwrap();
    assert_eq!(store.close().await, Closed::Drained);
    drop(store);
    match restore(&dir, &file, "g", None, false).unwrap_err() {
        BackupError::BackInTime { lost, changes, revoked, .. } => assert_eq!((lost, changes, revoked), (4, 1, 2)),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_backup_that_was_changed_in_one_byte_or_cut_short_is_refused_and_changes_nothing() {
    let (home, _, file) = backed_up().await;
    let whole = fs::read(&file).unwrap();
    let target = home.path().join("new");
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        assert!(restore(&target, &file, "g", None, true).is_err(), "byte {at}");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(restore(&target, &file, "g", None, true).is_err(), "cut at {at}");
    }
    assert!(!target.exists());
    // A path out of the directory is refused, also with a right hash.
    for name in ["../journal/x", "journal/../../x", "/journal/x", "lock"] {
        let header = serde_json::json!({
            "gateway": "g", "made_at": "2026-09-01T08:00:00.000Z", "format": segment::VERSION, "last": 1, "acked": 0, "files": [[name, 1]],
        });
        let mut bytes = format!("dormgate backup 1\n{header}\nx").into_bytes();
        let hash = crate::wire::audit::hash(&bytes);
        bytes.extend_from_slice(&hash);
        fs::write(&file, &bytes).unwrap();
        let refused = restore(&target, &file, "g", None, true);
        assert!(
            matches!(&refused, Err(BackupError::NotABackup { why, .. }) if why.contains("its files")),
            "{refused:?}"
        );
    }
    fs::write(&file, &whole).unwrap();
    restore(&target, &file, "g", None, false).unwrap();
    assert_eq!(Store::open::<EventLog>(&target, options()).unwrap().2.state, log_of(1..=30));
}

#[tokio::test]
async fn a_restoration_that_was_interrupted_at_any_step_is_finished_by_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let (old, file) = (home.path().join("old"), home.path().join("backup"));
    let (store, mut events, _) = Store::open::<EventLog>(&old, options()).unwrap();
    fill(&store, &mut events, 1..=100).await;
    let header = made(&old, &file, &store).unwrap();
    fill(&store, &mut events, 101..=130).await;
    assert_eq!(store.close().await, Closed::Drained);
    drop(store);
    // Two parts, each laid aside and each put into its place.
    for steps in 1..=4 {
        let dir = home.path().join(format!("after-{steps}"));
        generation::copy_files(&old, &dir).unwrap();
        restore::prepare(&dir, &file, &header, None, true).unwrap();
        let mut left = steps;
        let outcome = restore::finish_steps(&dir, &mut || {
            left -= 1;
            if left == 0 { Err(std::io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        });
        assert!(outcome.is_err(), "{steps}: {outcome:?}");
        let (store, _, recovered) = Store::open::<EventLog>(&dir, options()).unwrap();
        // The restored list, which is not trusted, and no number that may have been used.
        let found = (recovered.state, recovered.integrity, store.acked());
        let (lost_from, lost_to) = (101, 130 + RESTORED_NUMBERS);
        assert_eq!(found, (log_of(1..=100), Integrity::Damaged { lost_from, lost_to }, 0), "after {steps} steps");
        assert_eq!(recovered.next_n, lost_to + 1);
        // What was there is kept, each part once.
        for part in ["journal", generation::GENERATIONS] {
            let kept = (1..=2).filter(|n| dir.join(format!("replaced-{n}")).join(part).exists());
            assert_eq!(kept.count(), 1, "{part} after {steps} steps");
        }
    }
}

#[tokio::test]
async fn a_restoration_that_was_not_prepared_to_its_end_changes_nothing_and_the_next_one_succeeds() {
    let (_home, dir, file) = backed_up().await;
    fs::create_dir_all(dir.join("restoring.unfinished/journal")).unwrap();
    let (store, _, recovered) = Store::open::<EventLog>(&dir, options()).unwrap();
    assert_eq!((recovered.state, recovered.integrity), (log_of(1..=30), Integrity::Complete));
    assert_eq!(store.close().await, Closed::Drained);
    drop(store);
    restore(&dir, &file, "g", None, false).unwrap();
    let recovered = Store::open::<EventLog>(&dir, options()).unwrap().2;
    assert!(matches!(recovered.integrity, Integrity::Damaged { lost_from: 31, .. }), "{:?}", recovered.integrity);
}

#[tokio::test]
async fn a_start_after_a_restoration_reports_no_generation_that_could_not_be_written() {
    let (_home, dir, file) = backed_up().await;
    restore(&dir, &file, "g", None, false).unwrap();
    let (store, mut events, recovered) = Store::open::<EventLog>(&dir, options()).unwrap();
    let Integrity::Damaged { lost_from, lost_to } = recovered.integrity else { panic!("nothing is lost") };
    // Asked for before the loss has a name in the journal, and again once it has one.
    store.request_generation();
    store.append(vec![gap(recovered.next_n, (lost_from, lost_to))]);
    let mut reported = Vec::new();
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
        match event {
            StoreEvent::Durable { .. } => store.request_generation(),
            StoreEvent::GenerationWritten { position, .. } if position == recovered.next_n => break,
            other => reported.push(other),
        }
    }
    assert!(!reported.iter().any(|e| matches!(e, StoreEvent::GenerationFailed { .. })), "{reported:?}");
    assert_eq!(store.close().await, Closed::Drained);
}

#[test]
fn a_file_that_may_not_be_read_is_none_that_the_gateway_removed() {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    let of = |kind: std::io::ErrorKind| backup::read_error(Path::new("journal/1"))(kind.into());
    assert!(matches!(of(NotFound), BackupError::Changed));
    assert!(of(PermissionDenied).to_string().contains("`journal/1`: permission denied"), "{}", of(PermissionDenied));
}

#[tokio::test]
async fn what_is_restored_belongs_to_whoever_owns_the_data_directory() {
    use std::os::unix::fs::{MetadataExt, chown};

    let (home, dir, file) = backed_up().await;
    // Only root gives files to others; anybody else restores what is their own.
    let service = (4711, 4712);
    let is_root = chown(&dir, Some(service.0), Some(service.1)).is_ok();
    let (_, aside) = restore(&dir, &file, "g", None, true).unwrap();
    let aside = aside.unwrap();
    let made_now = generation::files_below(&dir.join("journal")).unwrap();
    let made_now = made_now.into_iter().chain(generation::files_below(&dir.join(generation::GENERATIONS)).unwrap());
    let places = [dir.join("journal"), dir.join(generation::GENERATIONS), dir.join("lock"), aside];
    let found = |path: &Path| fs::metadata(path).map(|it| (it.uid(), it.gid())).unwrap();
    let own = found(home.path());
    for path in made_now.chain(places) {
        assert_eq!(found(&path), if is_root { service } else { own }, "{}", path.display());
    }
    assert_eq!(restore::owner_to_give((0, 0), (7, 8)), Some((7, 8)));
    assert_eq!(restore::owner_to_give((7, 9), (7, 8)), None, "one's own");
}
