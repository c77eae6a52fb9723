//! A center in a directory of files, for trials, scripts, the demo and the tests: to be looked into and copied, and shared by several
//! processes, which hold its lock in turn.
//!
//! ```text
//! DIR/center.toml                 the streams, as a gateway's configuration wants them
//! DIR/epoch                       the epoch of all streams
//! DIR/STREAM.key                  the seed of a stream's key, mode 0600
//! DIR/campus/STREAM.journal       the messages of a campus stream, one JWS a line
//! DIR/G/STREAM.journal            the messages of a gateway stream to the gateway G
//! DIR/G/audit.jsonl               the audit events received from G, byte for byte, one a line
//! DIR/lock                        held while any of these is read or written
//! ```

mod audit;
mod journal;
mod make;

pub use make::{Layout, create};

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use super::CenterError;
use super::storage::KeptEvent;
use super::storage::{Entry, JournalName, Link, Storage};
use crate::access::change::Position;
use crate::access::id::{GatewayId, Timestamp};
use crate::wire::audit::Hash;
use crate::wire::envelope::StreamSpec;
use crate::wire::topic::CAMPUS;
use audit::AuditFile;
use journal::JournalFile;
use make::Lock;

/// The storage of a trial. See the module's head.
pub struct Directory {
    dir: PathBuf,
    configuration: String,
    lock: Option<Lock>,
    journals: HashMap<JournalName, JournalFile>,
    audits: HashMap<GatewayId, AuditFile>,
}

impl Directory {
    /// The directory `dir`, which [`create`] made, and its streams with their keys. Fails when the center does not exist, or a file of it
    /// cannot be read or is damaged.
    pub fn open(dir: &Path) -> Result<(Self, Vec<(StreamSpec, SigningKey)>), CenterError> {
        let _lock = Lock::take(dir)?;
        let (configuration, streams) = make::read(dir)?;
        let directory =
            Self { dir: dir.to_owned(), configuration, lock: None, journals: HashMap::new(), audits: HashMap::new() };
        Ok((directory, streams))
    }

    /// The gateways that something was published to, or whose audit was received, in the directory `dir`. Fails when the directory cannot
    /// be read.
    pub fn gateways(dir: &Path) -> Result<Vec<GatewayId>, CenterError> {
        let mut gateways = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(CenterError::file(dir))? {
            let entry = entry.map_err(CenterError::file(dir))?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name().into_string().ok().filter(|name| is_folder && name != CAMPUS);
            gateways.extend(name.and_then(|name| name.parse().ok()));
        }
        gateways.sort_unstable();
        Ok(gateways)
    }

    /// The `[[center.stream]]` tables for the gateways' configuration.
    #[must_use]
    pub fn configuration(&self) -> &str {
        &self.configuration
    }

    fn journal(&mut self, name: &JournalName) -> Result<&mut JournalFile, CenterError> {
        if !self.journals.contains_key(name) {
            let folder = self.dir.join(name.audience.aud());
            self.journals.insert(name.clone(), JournalFile::open(&folder, &name.stream)?);
        }
        self.journals.get_mut(name).ok_or(CenterError::Stopped)
    }

    fn audit(&mut self, gateway: &GatewayId) -> Result<&mut AuditFile, CenterError> {
        if !self.audits.contains_key(gateway) {
            self.audits.insert(gateway.clone(), AuditFile::open(&self.dir.join(gateway.as_str()))?);
        }
        self.audits.get_mut(gateway).ok_or(CenterError::Stopped)
    }
}

impl Storage for Directory {
    const IS_SHARED: bool = true;

    fn begin(&mut self) -> Result<(), CenterError> {
        self.lock = Some(Lock::take(&self.dir)?);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CenterError> {
        let journals = self.journals.values_mut().try_for_each(JournalFile::write);
        let all = journals.and_then(|()| self.audits.values_mut().try_for_each(AuditFile::write));
        self.lock = None;
        all
    }

    fn rollback(&mut self) {
        self.journals.values_mut().for_each(JournalFile::discard);
        self.audits.values_mut().for_each(AuditFile::discard);
        self.lock = None;
    }

    fn epoch(&mut self) -> Result<NonZeroU32, CenterError> {
        make::read_epoch(&self.dir)
    }

    fn unread(&mut self, journal: &JournalName) -> Result<Vec<Entry>, CenterError> {
        self.journal(journal)?.unread()
    }

    fn rewind(&mut self) {
        self.journals.clear();
    }

    fn append(&mut self, journal: &JournalName, at: Position, message: &str) -> Result<(), CenterError> {
        self.journal(journal)?.append(at, message);
        Ok(())
    }

    fn messages(
        &mut self,
        journal: &JournalName,
        epoch: NonZeroU32,
        ranges: &[(u64, u64)],
        most: usize,
    ) -> Result<Option<Vec<(Position, String)>>, CenterError> {
        Ok(self.journal(journal)?.messages(epoch, ranges, most))
    }

    fn audit_ends(&mut self, gateway: &GatewayId) -> Result<Option<(Link, Link)>, CenterError> {
        self.audit(gateway)?.ends()
    }

    fn audit_hashes(&mut self, gateway: &GatewayId, from: u64, to: u64) -> Result<HashMap<u64, Hash>, CenterError> {
        self.audit(gateway)?.hashes(from, to)
    }

    fn keep_audit(&mut self, gateway: &GatewayId, events: &[KeptEvent], _now: Timestamp) -> Result<(), CenterError> {
        self.audit(gateway)?.append(events);
        Ok(())
    }

    fn set_audit_aside(&mut self, gateway: &GatewayId) -> Result<String, CenterError> {
        self.audit(gateway)?.set_aside()
    }
}
