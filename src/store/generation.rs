//! Generations: the state as records at a place in the journal. Which one counts and which are kept, and each as a sled database
//! that is filled once, closed, synced file by file, sealed, and never written again.
//!
//! The only file that names sled. sled's flush is no fsync and its reader may panic on damaged bytes; so the files are synced
//! here, and a seal over their raw bytes is checked before sled sees them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Fold;
use super::events::RecoveryIssue;
use super::medium::{self, Container, ContainerError, Medium, SEALED_MANIFEST};
use super::segment;
use super::segments::{self, Base, Place};
use crate::access::id::Timestamp;
use crate::wire::audit::Hash;

/// Where the generations are.
pub(super) const GENERATIONS: &str = "generations";
/// How the directory of an unfinished generation begins.
const UNFINISHED: &str = "building-";
/// Format of manifest and container. Another one is not read.
const FORMAT: u8 = 2;

/// SHA-256 over all records in order, each with its length.
fn sum(records: &[Vec<u8>]) -> Hash {
    let mut sum = Sha256::new();
    for record in records {
        sum.update((record.len() as u64).to_le_bytes());
        sum.update(record);
    }
    sum.finalize().into()
}

/// In bytes: [`FORMAT`] 1 · n 8 · hash at n 32 · trusted time at n 8 · record count 8 · sum 32.
fn encode(place: Place, records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&place.n.to_le_bytes());
    out.extend_from_slice(&place.hash);
    out.extend_from_slice(&place.trusted_at.0.to_le_bytes());
    out.extend_from_slice(&(records.len() as u64).to_le_bytes());
    out.extend_from_slice(&sum(records));
    out
}

fn decode(manifest: &[u8]) -> Option<Place> {
    let (format, rest) = manifest.split_first()?;
    let (n, rest) = rest.split_first_chunk()?;
    let (hash, rest) = rest.split_first_chunk()?;
    let (trusted_at, _) = rest.split_first_chunk()?;
    let place =
        Place { n: u64::from_le_bytes(*n), hash: *hash, trusted_at: Timestamp(i64::from_le_bytes(*trusted_at)) };
    (*format == FORMAT).then_some(place)
}

/// The place of the generation in a container, if that has what was written under this name.
fn place(name: &str, container: &Container) -> Result<Place, String> {
    let place = decode(&container.manifest).ok_or("its manifest is missing or of another version")?;
    if container.manifest != encode(place, &container.records) || position_of(name) != Some(place.n) {
        return Err("its records are not those of its manifest".to_owned());
    }
    Ok(place)
}

/// The state behind a container.
fn open<F: Fold>(name: &str, container: &Container) -> Result<(F, Place), String> {
    let place = place(name, container)?;
    Ok((F::import(&container.records)?, place))
}

/// The journal position in a generation's name.
pub(super) fn position_of(name: &str) -> Option<u64> {
    name.split_once('-').and_then(|(digits, _)| segment::number(digits))
}

fn path(name: &str) -> String {
    format!("{GENERATIONS}/{name}")
}

/// The names of all generations, oldest first.
pub(super) fn names(medium: &dyn Medium) -> Vec<String> {
    let mut names = medium.list(GENERATIONS).unwrap_or_default();
    names.retain(|name| position_of(name).is_some());
    names
}

/// The same with those whose number no event can have.
fn all_names(medium: &dyn Medium) -> Vec<String> {
    let mut names = medium.list(GENERATIONS).unwrap_or_default();
    names.retain(|name| {
        name.split_once('-').is_some_and(|(digits, _)| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
    });
    names
}

/// The newest generation whose bytes are those that were written: its position and its path. Nothing is written to find out, so a
/// gateway may be running.
pub(super) fn newest_sealed(medium: &dyn Medium) -> Option<(u64, String)> {
    let found = names(medium).into_iter().rev().find(|name| medium.has_container(&path(name)))?;
    position_of(&found).map(|position| (position, path(&found)))
}

/// The state of the newest generation that is good, or the empty state at the start of the journal. A damaged one is moved
/// to `damaged/`.
///
/// # Errors
/// `Unsupported`: one was written by a later version.
pub(super) fn newest<F: Fold>(medium: &dyn Medium, issues: &mut Vec<RecoveryIssue>) -> io::Result<(F, Base)> {
    for name in all_names(medium).into_iter().rev() {
        if position_of(&name).is_none() {
            set_aside(medium, &name);
            issues.push(RecoveryIssue::GenerationSetAside { name, why: "no event has its number".to_owned() });
            continue;
        }
        let why = match medium.read_container(&path(&name)) {
            Ok(container) if container.manifest.first() == Some(&SEALED_MANIFEST) => {
                let why = "it is encrypted, and there is no key".to_owned();
                issues.push(RecoveryIssue::GenerationUnreadable { name, why });
                continue;
            }
            Ok(container) => {
                if let Some(version) = container.records.first().and_then(|record| F::later_version(record)) {
                    let detail =
                        format!("`{}` has records of version {version}, later than this program's", path(&name));
                    return Err(io::Error::new(io::ErrorKind::Unsupported, detail));
                }
                match open::<F>(&name, &container) {
                    Ok((_, place)) if !container.opened && was_sealed_before(medium, place.n) => {
                        "it is in clear, and what was written before it is encrypted".to_owned()
                    }
                    Ok((state, place)) => return Ok((state, Base { place, sealed: container.opened })),
                    Err(why) => why,
                }
            }
            Err(ContainerError::Damaged(why)) => why,
            Err(ContainerError::Unreadable(error)) => {
                issues.push(RecoveryIssue::GenerationUnreadable { name, why: error.to_string() });
                continue;
            }
        };
        set_aside(medium, &name);
        issues.push(RecoveryIssue::GenerationSetAside { name, why });
    }
    Ok((F::default(), Base { place: Place::START, sealed: false }))
}

/// Whether event `n` is in an encrypted segment, or an older generation is encrypted. The segments of before are encrypted only once
/// both kept generations are, so no generation in clear is as new.
fn was_sealed_before(medium: &dyn Medium, n: u64) -> bool {
    let segments = segments::list(medium).unwrap_or_default();
    let holds = segments::after(&segments, n.saturating_sub(1)).first();
    let older = || names(medium).into_iter().filter(|name| position_of(name).is_some_and(|position| position < n));
    medium.seals()
        && (holds.is_some_and(|segment| segment.sealed && segment.first_n <= n)
            || older().any(|name| medium.read_container(&path(&name)).is_ok_and(|container| container.opened)))
}

fn set_aside(medium: &dyn Medium, name: &str) {
    let moved = medium::set_aside(medium, &path(name), name).and_then(|()| medium.sync_dir(GENERATIONS));
    if let Err(error) = moved {
        tracing::warn!("cannot move the damaged generation `{name}` to `damaged/`: {error}");
    }
}

/// Writes `state` as the generation at `place`, reads it back, makes it current, and returns how many records it has. After
/// an error nothing has changed. Of the state, its records, and what is read back only one is in memory at a time: on a small box
/// this is the largest part of the program.
pub(super) fn write<F: Fold>(medium: &dyn Medium, state: F, place: Place) -> Result<u64, String> {
    let records = state.export()?;
    drop(state);
    let manifest = encode(place, &records);
    let count = records.len() as u64;
    let name = format!("{UNFINISHED}{:020}", place.n);
    let written = build(
        medium,
        &path(&name),
        &path(&format!("{:020}-{FORMAT}", place.n)),
        Container { records, manifest, opened: false },
    );
    if written.is_err() {
        drop(medium.remove(&path(&name)));
    }
    written.map(|()| count)
}

fn build(medium: &dyn Medium, new: &str, current: &str, container: Container) -> Result<(), String> {
    let disk = |error: io::Error| error.to_string();
    medium.remove(new).map_err(disk)?;
    medium.write_container(new, &container).map_err(disk)?;
    let Container { records, manifest, .. } = container;
    drop(records);
    match medium.read_container(new) {
        // The manifest has the sum of the records.
        Ok(read)
            if read.manifest == manifest
                && decode(&manifest).is_some_and(|place| encode(place, &read.records) == manifest) => {}
        Ok(_) => return Err("it does not read back as it was written".to_owned()),
        Err(ContainerError::Damaged(why)) => return Err(why),
        Err(ContainerError::Unreadable(error)) => return Err(disk(error)),
    }
    medium.rename(new, current).map_err(disk)?;
    medium.sync_dir(GENERATIONS).map_err(disk)
}

/// Removes what was never finished.
pub(super) fn remove_unfinished(medium: &dyn Medium) {
    let names = medium.list(GENERATIONS).unwrap_or_default();
    remove(medium, names.iter().filter(|name| name.starts_with(UNFINISHED)));
}

/// Removes the generations before the one at `position`, which was opened to make the one after it: two that can be opened are kept, and
/// whatever cannot takes no place of theirs.
pub(super) fn remove_before(medium: &dyn Medium, position: u64) {
    let is_before = |name: &&String| position_of(name).is_some_and(|n| n < position);
    remove(medium, names(medium).iter().filter(is_before));
}

fn remove<'n>(medium: &dyn Medium, names: impl Iterator<Item = &'n String>) {
    for name in names {
        if let Err(error) = medium.remove(&path(name)) {
            tracing::warn!("cannot remove the old generation `{name}`: {error}");
        }
    }
}

/// The position of the newest generation before `position` that can be opened.
pub(super) fn before(medium: &dyn Medium, position: u64) -> Option<u64> {
    let opens = |name: &&String| medium.read_container(&path(name)).is_ok_and(|read| place(name, &read).is_ok());
    let names = names(medium);
    let mut before = names.iter().rev().filter(|name| position_of(name).is_some_and(|n| n < position));
    before.find(opens).and_then(|name| position_of(name))
}

/// sled's page cache in bytes; a generation is read once from end to end.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Records in one entry of the database. sled takes some 2 KiB for each entry while many are written, and the C library keeps what
/// is freed in between: with one entry a record, 10 000 cards cost 23 MiB for good.
const BLOCK_RECORDS: usize = 256;
/// The tree of the entries, numbered from 0. A generation of before has an entry for each record in the default tree.
const BLOCKS: &str = "blocks";
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

/// Every file and directory below `dir`, each directory after what is in it, and `dir`.
pub(super) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(below(&path)?) } else { found.push(path) }
    }
    found.push(dir.to_owned());
    Ok(found)
}

/// Every file below `dir`, sorted by path.
pub(super) fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = below(dir)?;
    files.retain(|path| !path.is_dir());
    files.sort();
    Ok(files)
}

/// Fails if something else than a regular file is at `path`: opening it may wait for ever, and reading it may never end.
pub(super) fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is no regular file", path.display())))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    check_regular(path)?;
    fs::read(path)
}

fn seal_of(database: &Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    for path in files_below(database)? {
        let name = path.strip_prefix(database).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = read_regular(&path)?;
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
pub(super) fn sync_all_below(dir: &Path) -> io::Result<()> {
    below(dir)?.iter().try_for_each(|path| File::open(path)?.sync_all())
}

/// Writes a generation to the new directory `dir` and makes all below it durable.
pub(super) fn write_container(dir: &Path, container: &Container) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let database = dir.join(DATABASE);
    with_database(&database, |db| {
        let blocks = db.open_tree(BLOCKS)?;
        for (number, block) in (0u64..).zip(container.records.chunks(BLOCK_RECORDS)) {
            let block = postcard::to_stdvec(block).map_err(io::Error::other)?;
            blocks.insert(number.to_be_bytes(), block)?;
        }
        db.open_tree(MANIFEST)?.insert(MANIFEST, container.manifest.as_slice())?;
        db.flush().map(drop)
    })?;
    let mut seal = File::create(dir.join(SEAL))?;
    seal.write_all(seal_of(&database)?.as_bytes())?;
    sync_all_below(dir)
}

/// Whether the files of the generation in `dir` are those that were written.
pub(super) fn is_sealed(dir: &Path) -> Result<(), ContainerError> {
    let damaged = |what: &str| ContainerError::Damaged(what.to_owned());
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            damaged("a file is missing")
        }
        io::ErrorKind::InvalidData => damaged(&error.to_string()),
        _ => ContainerError::Unreadable(error),
    };
    let seal = read_regular(&dir.join(SEAL)).map_err(missing)?;
    if seal_of(&dir.join(DATABASE)).map_err(missing)?.as_bytes() != seal {
        return Err(damaged("its files are not those that were written"));
    }
    Ok(())
}

/// Reads the generation in `dir`.
pub(super) fn read_container(dir: &Path) -> Result<Container, ContainerError> {
    is_sealed(dir)?;
    let database = dir.join(DATABASE);
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

pub(super) fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
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
        let each = db.iter().values().map(|value| value.map(|bytes| bytes.to_vec()));
        let mut records = each.collect::<Result<Vec<_>, _>>()?;
        for block in db.open_tree(BLOCKS)?.iter().values() {
            records.extend(postcard::from_bytes::<Vec<Vec<u8>>>(&block?).map_err(io::Error::other)?);
        }
        Ok(Container { records, manifest, opened: false })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(count: u32) -> Container {
        let records = (0..count).map(|i| [i.to_be_bytes().as_slice(), &[7; 120]].concat()).collect();
        Container { records, manifest: b"manifest".to_vec(), opened: false }
    }

    #[test]
    fn a_generation_with_an_entry_for_each_record_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let written = container(3);
        let database = dir.path().join(DATABASE);
        with_database(&database, |db| {
            for (number, record) in (0u64..).zip(&written.records) {
                db.insert(number.to_be_bytes(), record.as_slice())?;
            }
            db.open_tree(MANIFEST)?.insert(MANIFEST, written.manifest.as_slice())?;
            db.flush().map(drop)
        })
        .unwrap();
        fs::write(dir.path().join(SEAL), seal_of(&database).unwrap()).unwrap();
        let read = read_container(dir.path()).unwrap();
        assert_eq!((read.records, read.manifest), (written.records, written.manifest));
    }

    #[test]
    fn a_generation_comes_back_as_it_was_written_and_reading_changes_no_byte_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("g");
        write_container(&dir, &container(5000)).unwrap();
        let before = seal_of(&dir).unwrap();
        for _ in 0..3 {
            assert_eq!(read_container(&dir).unwrap(), container(5000));
        }
        assert_eq!(seal_of(&dir).unwrap(), before);
        // sled itself does write to files it only opens to read: that is why a copy is read.
        with_database(&dir.join(DATABASE), |_| Ok(())).unwrap();
        assert!(matches!(read_container(&dir), Err(ContainerError::Damaged(_))));
    }
}
