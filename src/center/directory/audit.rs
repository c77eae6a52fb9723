//! The file with the audit of one gateway: events as they were received, one a line.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::CenterError;
use super::super::storage::KeptEvent;
use super::super::storage::Link;
use crate::wire::audit::{self, Hash};

/// How much of the file's beginning and of its end is read to find the first and the last event, in bytes; far more than one event
/// has.
const END_BYTES: u64 = 4 * 1024 * 1024;

pub(super) struct AuditFile {
    path: PathBuf,
    file: File,
    /// Lines appended in this transaction.
    appended: Vec<u8>,
}

impl AuditFile {
    pub(super) fn open(folder: &Path) -> Result<Self, CenterError> {
        fs::create_dir_all(folder).map_err(CenterError::file(folder))?;
        let path = folder.join("audit.jsonl");
        let file = open(&path)?;
        Ok(Self { path, file, appended: Vec::new() })
    }

    /// The first and the last event in the file, which another process may have written; drops a half one.
    pub(super) fn ends(&mut self) -> Result<Option<(Link, Link)>, CenterError> {
        // Opened again, because another process may have put the file aside.
        self.file = open(&self.path)?;
        let length = self.file.metadata().map_err(CenterError::file(&self.path))?.len();
        let from = length.saturating_sub(END_BYTES);
        let tail = self.read(from, END_BYTES)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < tail.len() {
            self.file.set_len(from + whole as u64).map_err(CenterError::file(&self.path))?;
        }
        let lines = tail.get(..whole.saturating_sub(1)).unwrap_or_default();
        let Some(last) = lines.rsplit(|byte| *byte == b'\n').next().filter(|line| !line.is_empty()) else {
            return Ok(None);
        };
        let head = self.read(0, END_BYTES)?;
        let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Ok(Some((self.link(first, "first")?, self.link(last, "last")?)))
    }

    /// The hashes of the events `from` to `to` that stand near the end of the file.
    pub(super) fn hashes(&mut self, from: u64, to: u64) -> Result<HashMap<u64, Hash>, CenterError> {
        let length = self.file.metadata().map_err(CenterError::file(&self.path))?.len();
        let tail = self.read(length.saturating_sub(END_BYTES), END_BYTES)?;
        // A half line at the beginning is no event.
        let lines = tail.split(|byte| *byte == b'\n');
        let hashes = lines.filter_map(|line| Some((audit::decode(line).ok()?.event.n, audit::hash(line))));
        Ok(hashes.filter(|(n, _)| (from..=to).contains(n)).collect())
    }

    fn read(&mut self, from: u64, most: u64) -> Result<Vec<u8>, CenterError> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(from));
        let read = read.and_then(|_| (&self.file).take(most).read_to_end(&mut bytes));
        read.map_err(CenterError::file(&self.path))?;
        Ok(bytes)
    }

    fn link(&self, line: &[u8], which: &str) -> Result<Link, CenterError> {
        let decoded = audit::decode(line).map_err(|e| {
            let why = format!("the {which} line: {e}; move the file away to begin another");
            CenterError::damaged(&self.path, why)
        })?;
        Ok(Link { n: decoded.event.n, hash: audit::hash(line) })
    }

    pub(super) fn append(&mut self, events: &[KeptEvent]) {
        for event in events {
            self.appended.extend_from_slice(&event.bytes);
            self.appended.push(b'\n');
        }
    }

    /// Writes what was appended, and waits until it is on disk.
    pub(super) fn write(&mut self) -> Result<(), CenterError> {
        if self.appended.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.appended).and_then(|()| self.file.sync_data());
        self.appended.clear();
        written.map_err(CenterError::file(&self.path))
    }

    pub(super) fn discard(&mut self) {
        self.appended.clear();
    }

    /// Puts the file aside and begins another; gives the old one's new name.
    pub(super) fn set_aside(&mut self) -> Result<String, CenterError> {
        let mut names = (1_u32..).map(|count| self.path.with_file_name(format!("audit-{count}.jsonl")));
        let aside = names.find(|path| !path.exists()).unwrap_or_else(|| self.path.with_extension("old"));
        fs::rename(&self.path, &aside).map_err(CenterError::file(&self.path))?;
        self.file = open(&self.path)?;
        Ok(format!("`{}`", aside.display()))
    }
}

fn open(path: &Path) -> Result<File, CenterError> {
    OpenOptions::new().read(true).append(true).create(true).open(path).map_err(CenterError::file(path))
}
