//! The file of one journal: every message signed, one JWS a line, on disk before anybody receives it.
//!
//! Several processes may have it open; each holds the directory's lock while it is in here.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use super::super::CenterError;
use super::super::storage::Entry;
use super::make::sync_parent;
use crate::access::change::Position;
use crate::access::id::StreamName;

pub(super) struct JournalFile {
    path: PathBuf,
    file: File,
    /// Every message of the file up to `read`, and its number.
    messages: Vec<(Position, String)>,
    /// Bytes of the file that are in `messages`.
    read: u64,
    /// Lines appended in this transaction, and their numbers.
    appended: Vec<(Position, String)>,
}

impl JournalFile {
    /// The journal of `stream` in `folder`; both are made if they do not exist. Nothing is read yet.
    pub(super) fn open(folder: &Path, stream: &StreamName) -> Result<Self, CenterError> {
        fs::create_dir_all(folder).map_err(CenterError::file(folder))?;
        let path = folder.join(format!("{stream}.journal"));
        let is_new = !path.exists();
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(CenterError::file(&path))?;
        if is_new {
            sync_parent(&path).and_then(|()| sync_parent(folder)).map_err(CenterError::file(&path))?;
        }
        Ok(Self { path, file, messages: Vec::new(), read: 0, appended: Vec::new() })
    }

    /// Reads what other processes appended.
    pub(super) fn unread(&mut self) -> Result<Vec<Entry>, CenterError> {
        let mut text = String::new();
        let from = self.read;
        self.file
            .seek(SeekFrom::Start(from))
            .and_then(|_| self.file.read_to_string(&mut text))
            .map_err(CenterError::file(&self.path))?;
        let mut entries = Vec::new();
        for line in text.split_inclusive('\n') {
            let Some(message) = line.strip_suffix('\n') else {
                // Its writer ended before the line did, so nobody received it. It must not become the beginning of the next.
                self.file.set_len(self.read).map_err(CenterError::file(&self.path))?;
                break;
            };
            let entry = Entry::read(message).map_err(|why| {
                let which = self.messages.len() + 1;
                let remedy = "restore the file from a copy, or begin again with a higher epoch";
                let why = format!("message {which} of the file is damaged: {why}; {remedy}");
                CenterError::damaged(&self.path, why)
            })?;
            self.messages.push((entry.at, message.to_owned()));
            self.read += line.len() as u64;
            entries.push(entry);
        }
        Ok(entries)
    }

    pub(super) fn append(&mut self, at: Position, message: &str) {
        self.appended.push((at, message.to_owned()));
    }

    /// Writes what was appended, and waits until it is on disk.
    pub(super) fn write(&mut self) -> Result<(), CenterError> {
        if self.appended.is_empty() {
            return Ok(());
        }
        let lines: String = self.appended.iter().map(|(_, message)| format!("{message}\n")).collect();
        let written = self.file.write_all(lines.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(CenterError::file(&self.path))?;
        self.read += lines.len() as u64;
        self.messages.append(&mut self.appended);
        Ok(())
    }

    pub(super) fn discard(&mut self) {
        self.appended.clear();
    }

    /// The messages of `epoch` in `ranges`, oldest first; `None`: more than `most`.
    pub(super) fn messages(
        &self,
        epoch: NonZeroU32,
        ranges: &[(u64, u64)],
        most: usize,
    ) -> Option<Vec<(Position, String)>> {
        let is_wanted =
            |at: &Position| at.epoch == epoch && ranges.iter().any(|(from, to)| (*from..=*to).contains(&at.seq));
        let found: Vec<_> = self.messages.iter().filter(|(at, _)| is_wanted(at)).take(most + 1).cloned().collect();
        (found.len() <= most).then_some(found)
    }
}
