//! The journal of one stream: every message signed, one JWS a line, on disk before anybody receives it.
//!
//! Several processes may have it open; each holds the directory's lock while it is in here.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::CenterError;
use super::dir::sync_parent;
use crate::access::change::{Op, Position};
use crate::access::id::StreamName;
use crate::wire::down;

/// One message reported.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Position,
    pub(super) message: String,
    /// `None`: content that a gateway refuses; it uses up its number all the same.
    pub(super) ops: Option<Vec<Op>>,
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    /// Bytes of the file that are in `entries`.
    read: u64,
    /// Entries that [`Journal::take_new`] gave.
    taken: usize,
}

impl Journal {
    /// The journal of `stream` in `folder`, both made if they are not there. Nothing is read yet.
    pub(super) fn open(folder: &Path, stream: &StreamName) -> Result<Self, CenterError> {
        fs::create_dir_all(folder).map_err(CenterError::file(folder))?;
        let path = folder.join(format!("{stream}.journal"));
        let is_new = !path.exists();
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(CenterError::file(&path))?;
        if is_new {
            sync_parent(&path).and_then(|()| sync_parent(folder)).map_err(CenterError::file(&path))?;
        }
        Ok(Self { path, file, entries: Vec::new(), read: 0, taken: 0 })
    }

    /// Reads what was appended since, by whomever.
    pub(super) fn catch_up(&mut self) -> Result<(), CenterError> {
        let mut text = String::new();
        let from = self.read;
        self.file
            .seek(SeekFrom::Start(from))
            .and_then(|_| self.file.read_to_string(&mut text))
            .map_err(CenterError::file(&self.path))?;
        for line in text.split_inclusive('\n') {
            let Some(message) = line.strip_suffix('\n') else {
                // Its writer ended before the line did, so nobody received it. It must not become the beginning of the next.
                self.file.set_len(self.read).map_err(CenterError::file(&self.path))?;
                break;
            };
            let received = down::read_evidence(message.as_bytes()).map_err(|refused| {
                let what = format!("message {} from its beginning is damaged: {refused}", self.entries.len() + 1);
                CenterError::damaged(
                    &self.path,
                    format!("{what}; put back a copy, or starts again with a higher epoch"),
                )
            })?;
            self.entries.push(Entry { at: received.at, message: message.to_owned(), ops: received.content.ok() });
            self.read += line.len() as u64;
        }
        Ok(())
    }

    /// The entries that were not given yet.
    pub(super) fn take_new(&mut self) -> &[Entry] {
        let from = std::mem::replace(&mut self.taken, self.entries.len());
        self.entries.get(from..).unwrap_or_default()
    }

    /// Appends a message and waits until it is on disk.
    pub(super) fn append(&mut self, message: &str) -> Result<(), CenterError> {
        let line = format!("{message}\n");
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(CenterError::file(&self.path))?;
        self.catch_up()
    }

    /// The newest message.
    pub(super) fn last(&self) -> Option<Position> {
        self.entries.last().map(|entry| entry.at)
    }

    /// The number of the next message of `epoch`.
    pub(super) fn next(&self, epoch: NonZeroU32) -> Position {
        let seq = self.last().filter(|last| last.epoch == epoch).map_or(1, |last| last.seq.saturating_add(1));
        Position { epoch, seq }
    }

    /// The messages of `epoch`, oldest first.
    pub(super) fn of_epoch(&self, epoch: NonZeroU32) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.at.epoch == epoch)
    }
}
