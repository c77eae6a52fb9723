//! A generation on disk: a sled database that is filled once, closed, synced file by file, sealed, and never written again.
//!
//! The only file that names sled. sled's flush is no fsync and its reader may panic on damaged bytes; so the files are synced
//! here, and a seal over their raw bytes is checked before sled sees them. Refuses to own which generation counts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::medium::{Container, ContainerError};
use crate::wire::audit::Hash;

/// sled's page cache in bytes; a generation is read once from end to end.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Records written to sled in one batch.
const BATCH_RECORDS: usize = 1000;
/// The database, inside a generation's directory.
const DATABASE: &str = "sled";
/// A copy of the database that sled may write to while it is read; removed afterwards.
const READING: &str = "reading";
/// Where the copy is made if the disk has no room or cannot be written.
const MEMORY_DIRS: [&str; 2] = ["/dev/shm", "/run"];
/// SHA-256 over the database's files in hex, inside a generation's directory.
const SEAL: &str = "seal";
/// The tree and the key of the manifest.
const MANIFEST: &str = "manifest";

fn to_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// Runs `work` on the database at `path`; a panic inside sled is an error like any other.
fn with_database<T>(path: &Path, work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>) -> io::Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let database =
            sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None).open().map_err(to_io)?;
        work(&database).map_err(to_io)
    }));
    outcome.unwrap_or_else(|_| Err(io::Error::other("sled panicked")))
}

/// Every file below `dir`, sorted by path.
fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

fn seal_of(database: &Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    for path in files_below(database)? {
        let name = path.strip_prefix(database).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = fs::read(&path)?;
        sum.update(format!("{name}\n{}\n", bytes.len()));
        sum.update(bytes);
    }
    let sum: Hash = sum.finalize().into();
    Ok(hex::encode(sum))
}

/// Makes a directory's names durable.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Syncs every file and directory below `dir`, and `dir`.
fn sync_all_below(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { sync_all_below(&path)? } else { File::open(&path)?.sync_all()? }
    }
    sync_names(dir)
}

/// Writes a generation to the new directory `dir` and makes all below it durable.
pub(super) fn write(dir: &Path, container: &Container) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let database = dir.join(DATABASE);
    with_database(&database, |db| {
        let mut keys = (0u64..).map(u64::to_be_bytes);
        for chunk in container.records.chunks(BATCH_RECORDS) {
            let mut batch = sled::Batch::default();
            chunk.iter().zip(keys.by_ref()).for_each(|(record, key)| batch.insert(&key, record.as_slice()));
            db.apply_batch(batch)?;
        }
        db.open_tree(MANIFEST)?.insert(MANIFEST, container.manifest.as_slice())?;
        db.flush().map(drop)
    })?;
    let mut seal = File::create(dir.join(SEAL))?;
    seal.write_all(seal_of(&database)?.as_bytes())?;
    sync_all_below(dir)
}

/// Reads the generation in `dir`.
pub(super) fn read(dir: &Path) -> Result<Container, ContainerError> {
    let database = dir.join(DATABASE);
    let damaged = |what: &str| ContainerError::Damaged(what.to_owned());
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => damaged("a file is missing"),
        _ => ContainerError::Unreadable(error),
    };
    let seal = fs::read(dir.join(SEAL)).map_err(missing)?;
    if seal_of(&database).map_err(missing)?.as_bytes() != seal {
        return Err(damaged("its files are not those that were written"));
    }
    // sled writes to what it opens; the sealed files stay as they are.
    let own = format!("dormgate-{}-{READING}", std::process::id());
    let temporary = [std::env::temp_dir()].into_iter().chain(MEMORY_DIRS.map(PathBuf::from)).map(|dir| dir.join(&own));
    let mut first_error = None;
    for reading in [dir.join(READING)].into_iter().chain(temporary) {
        let read = copy_files(&database, &reading).and_then(|()| read_database(&reading));
        drop(fs::remove_dir_all(&reading));
        match read {
            Ok(container) => return Ok(container),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    Err(ContainerError::Unreadable(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for path in files_below(from)? {
        let target = to.join(path.strip_prefix(from).unwrap_or(&path));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&path, &target)?;
    }
    Ok(())
}

fn read_database(path: &Path) -> io::Result<Container> {
    with_database(path, |db| {
        let manifest = db.open_tree(MANIFEST)?.get(MANIFEST)?.map(|bytes| bytes.to_vec()).unwrap_or_default();
        let records = db.iter().values().map(|value| value.map(|bytes| bytes.to_vec()));
        Ok(Container { records: records.collect::<Result<_, _>>()?, manifest })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(count: u32) -> Container {
        let records = (0..count).map(|i| [i.to_be_bytes().as_slice(), &[7; 120]].concat()).collect();
        Container { records, manifest: b"manifest".to_vec() }
    }

    #[test]
    fn a_generation_comes_back_as_it_was_written_and_reading_changes_no_byte_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("g");
        write(&dir, &container(5000)).unwrap();
        let before = seal_of(&dir).unwrap();
        for _ in 0..3 {
            assert_eq!(read(&dir).unwrap(), container(5000));
        }
        assert_eq!(seal_of(&dir).unwrap(), before);
        // sled itself does write to files it only opens to read: that is why a copy is read.
        with_database(&dir.join(DATABASE), |_| Ok(())).unwrap();
        assert!(matches!(read(&dir), Err(ContainerError::Damaged(_))));
    }
}
