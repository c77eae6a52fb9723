//! A backup of the data directory in one file, taken while the gateway runs. It is put back by [`restore`](super::restore()).
//!
//! ```text
//! dormgate backup 1 \n · header: JSON in one line \n · the bytes of the files, in order · SHA-256 of all that
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::medium::JOURNAL;
use super::segments::Segment;
use super::{Store, StoreError, generation, retained, segment};
use crate::access::id::Timestamp;

/// First line of a backup.
const TITLE: &str = "dormgate backup 1\n";
/// Longest header in bytes: a line a file.
const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Length of the hash at the end in bytes.
const HASH_BYTES: u64 = 32;
/// Bytes copied at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the store holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The last durable event.
    pub last: u64,
    /// The last event the center has.
    pub acked: u64,
    /// The segments and how long each is, in bytes.
    pub segments: Vec<(String, u64)>,
    /// The generations, oldest first.
    pub generations: Vec<String>,
}

impl Inventory {
    /// Whether what it lists is still there in `later`: nothing was removed, or shortened.
    fn still_in(&self, later: &Self) -> bool {
        let is_there = |(path, length): &(String, u64)| later.segments.iter().any(|(p, l)| p == path && l >= length);
        self.segments.iter().all(is_there)
    }
}

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The gateway.
    pub gateway: String,
    /// When it was made, by the clock of the machine.
    pub made_at: Timestamp,
    /// The format of its journal.
    pub format: u8,
    /// The last event in it.
    pub last: u64,
    /// The last event the center had.
    pub acked: u64,
    /// The files in the data directory and their lengths in bytes.
    pub files: Vec<(String, u64)>,
}

/// Why there is no backup, or none is restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("`{path}`: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway removed files while they were copied.
    #[error("the gateway removed old files while they were copied; try again")]
    Changed,
    /// Not a backup, or not whole.
    #[error("`{path}` is not a whole backup: {why}")]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The backup of another gateway.
    #[error("this is the backup of gateway `{of}`, and `{wanted}` is configured; compare `gateway.id`")]
    OtherGateway {
        /// Of which it is.
        of: String,
        /// Which is configured.
        wanted: String,
    },
    /// The directory holds later events.
    #[error(
        "`{dir}` holds events up to {have}, and the backup of {made_at} ends at event {last}: {lost} events would be lost, among \
         them {changes} messages of centers and {revoked} revocations; with `--force` they are laid aside"
    )]
    BackInTime {
        /// The directory.
        dir: PathBuf,
        /// Its last event.
        have: u64,
        /// When the backup was made.
        made_at: Timestamp,
        /// Its last event.
        last: u64,
        /// How many events of the directory are later and can be read.
        lost: u64,
        /// How many of them are messages that were applied.
        changes: u64,
        /// How many of them are revocations.
        revoked: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path: path.clone(), source }
}

/// Why a file of a running store cannot be read: one that is not there any more was removed by the gateway meanwhile.
pub(super) fn read_error(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let fail = file_error(path);
    move |error| if error.kind() == io::ErrorKind::NotFound { BackupError::Changed } else { fail(error) }
}

impl Store {
    /// What the store holds now. Blocks on the disk.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let shared = &self.0.0;
        // First: what is written later is not in it.
        let generations = generation::names(&*shared.medium);
        let index = super::lock(&shared.index);
        let segments = index.segments.iter().map(|s| (Segment::path(s.first_n), s.length)).collect();
        Inventory { last: index.last, acked: self.acked(), segments, generations }
    }
}

/// Counts what is written into a hash.
struct Hashing<W> {
    to: W,
    sum: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes the backup of the data directory `dir` to the new file `path`. `ask` asks the gateway what its store holds.
///
/// # Errors
/// [`BackupError`]; then there is no file, or the one that was there before.
pub fn back_up<E: From<BackupError>>(
    dir: &Path,
    path: &Path,
    (gateway, made_at): (&str, Timestamp),
    mut ask: impl FnMut() -> Result<Inventory, E>,
) -> Result<Header, E> {
    let mut new = path.as_os_str().to_owned();
    new.push(".unfinished");
    let new = PathBuf::from(new);
    let before = ask()?;
    let written = write(dir, &new, path, &before, (gateway, made_at)).map_err(E::from).and_then(|header| {
        // A segment that was shortened, or removed, may explain itself only in what came later.
        if before.still_in(&ask()?) { Ok(header) } else { Err(BackupError::Changed.into()) }
    });
    let named = written.and_then(|header| {
        fs::rename(&new, path).map_err(file_error(path))?;
        // A backup that was reported as made is there after a power cut too.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        generation::sync_names(parent).map_err(file_error(parent))?;
        Ok(header)
    });
    if named.is_err() {
        drop(fs::remove_file(&new));
    }
    named
}

fn write(
    dir: &Path,
    new: &Path,
    path: &Path,
    inventory: &Inventory,
    (gateway, made_at): (&str, Timestamp),
) -> Result<Header, BackupError> {
    if path.exists() {
        return Err(file_error(path)(io::ErrorKind::AlreadyExists.into()));
    }
    let mut files = inventory.segments.clone();
    for name in &inventory.generations {
        let root = dir.join(generation::GENERATIONS).join(name);
        for file in generation::files_below(&root).map_err(read_error(&root))? {
            let length = fs::metadata(&file).map_err(read_error(&file))?.len();
            let relative = file.strip_prefix(dir).unwrap_or(&file);
            files.push((relative.to_string_lossy().into_owned(), length));
        }
    }
    // As long as it was made; it has from what the oldest segment follows.
    if let Ok(found) = fs::metadata(dir.join(retained::PATH)) {
        files.push((retained::PATH.to_owned(), found.len()));
    }
    let Inventory { last, acked, .. } = *inventory;
    let header = Header { gateway: gateway.to_owned(), made_at, format: segment::VERSION, last, acked, files };
    let fail = file_error(new);
    // The names of holders are in it.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new).map_err(&fail)?;
    let mut out = Hashing { to: BufWriter::new(file), sum: Sha256::new() };
    let text = serde_json::to_string(&header).map_err(|error| fail(error.into()))?;
    out.write_all(format!("{TITLE}{text}\n").as_bytes()).map_err(&fail)?;
    for (name, length) in &header.files {
        let from = dir.join(name);
        let from = File::open(&from).map_err(read_error(&from))?;
        let copied = io::copy(&mut from.take(*length), &mut out).map_err(&fail)?;
        if copied != *length {
            return Err(BackupError::Changed);
        }
    }
    let hash = out.sum.finalize();
    out.to.write_all(&hash).and_then(|()| out.to.flush()).map_err(&fail)?;
    out.to.get_ref().sync_all().map_err(&fail)?;
    Ok(header)
}

/// Reads the header of a backup and compares the hash at its end with its bytes.
///
/// # Errors
/// [`BackupError::NotABackup`] states what is wrong.
pub fn check(path: &Path) -> Result<Header, BackupError> {
    let fail = file_error(path);
    let wrong = |why: &str| BackupError::NotABackup { path: path.to_owned(), why: why.to_owned() };
    let file = File::open(path).map_err(&fail)?;
    let length = file.metadata().map_err(&fail)?.len();
    let bytes = length.checked_sub(HASH_BYTES).ok_or_else(|| wrong("it is too short"))?;
    let mut reader = BufReader::new(file);
    let mut sum = Sha256::new();
    let mut line = |limit: u64| -> Result<Vec<u8>, BackupError> {
        let mut line = Vec::new();
        (&mut reader).take(limit).read_until(b'\n', &mut line).map_err(&fail)?;
        sum.update(&line);
        Ok(line)
    };
    if line(TITLE.len() as u64)? != TITLE.as_bytes() {
        return Err(wrong("it does not begin as a backup of this version does"));
    }
    let text = line(HEADER_BYTES_MAX)?;
    let mut left = bytes.saturating_sub(TITLE.len() as u64).saturating_sub(text.len() as u64);
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let part = chunk.get_mut(..wanted).unwrap_or_default();
        reader.read_exact(part).map_err(&fail)?;
        sum.update(&*part);
        left -= wanted as u64;
    }
    let mut hash = [0; 32];
    reader.read_exact(&mut hash).map_err(&fail)?;
    if hash != <[u8; 32]>::from(sum.finalize()) {
        return Err(wrong("its hash is not that of its bytes: it was cut short, damaged or changed"));
    }
    let header: Header = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
    if header.format != segment::VERSION {
        return Err(wrong("its journal is of another version of dormgate"));
    }
    let is_inside = |name: &str| {
        let mut parts = Path::new(name).components();
        let first = parts.next().is_some_and(|c| c.as_os_str() == JOURNAL || c.as_os_str() == generation::GENERATIONS);
        first && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    let heads = (TITLE.len() + text.len()) as u64;
    let total = header.files.iter().try_fold(heads, |total, (_, length)| total.checked_add(*length));
    let is_no_number = header.last.max(header.acked) > segment::EVENT_MAX;
    if !header.files.iter().all(|(name, _)| is_inside(name)) || total != Some(bytes) || is_no_number {
        return Err(wrong("its files are not those of a data directory"));
    }
    Ok(header)
}
