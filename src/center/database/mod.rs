//! The state of an office's center in one SQLite file: journal and numbers, the audits of all gateways, acks, alarms and states.
//!
//! One process writes, and holds a lock beside the file; others may read. A commit is on disk when it returns (write-ahead log,
//! `synchronous = FULL`), so a number that was given out is never given out again, whatever is killed or loses its power.

mod keep;
mod search;
#[cfg(test)]
mod tests;

pub use keep::Retention;
pub use search::{NAMED, Reader, Row, Search, Table};

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::storage::KeptEvent;
use super::storage::{Audience, Entry, JournalName, Link, Published, Storage};
use super::{CenterError, Used, UsedAt};
use crate::access::change::Position;
use crate::access::id::{GatewayId, StreamName, Timestamp};
use crate::wire::audit::Hash;
use crate::wire::topic::CAMPUS;

/// The version of the schema, in the file's `user_version`.
const SCHEMA_VERSION: i64 = 3;
/// What version 1 lacks.
const FROM_1: &str = "ALTER TABLE message ADD COLUMN ordered_by TEXT;";
/// What version 2 lacks.
const FROM_2: &str = include_str!("used.sql");
/// Entries read from a journal at once.
const READ_AT_ONCE: i64 = 1_000;
/// Longest wait for a reader that is in the way of a write, in seconds.
const BUSY_S: u64 = 5;

/// The storage of an office. See the module's head.
pub struct Database {
    path: PathBuf,
    sql: Connection,
    epoch: NonZeroU32,
    /// The journals that were read to their end.
    is_read: HashSet<JournalName>,
    /// The journal that is read at present, and how far.
    reading: Option<(JournalName, Position)>,
    /// Runs of audits that were begun in this transaction.
    begun_runs: HashMap<GatewayId, i64>,
    retention: Retention,
    _lock: File,
}

impl Database {
    /// The database at `path`, made if it does not exist. `epoch` is that of new messages; it may only rise. Fails when another center
    /// has it, it is of another version, or the epoch is lower than that of its messages.
    pub fn open(path: &Path, epoch: NonZeroU32, retention: Retention) -> Result<Self, CenterError> {
        let lock = lock(path)?;
        let failed = failed(path);
        let sql = Connection::open(path).map_err(&failed)?;
        sql.busy_timeout(Duration::from_secs(BUSY_S)).map_err(&failed)?;
        sql.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(&failed)?;
        let version: i64 = sql.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&failed)?;
        match version {
            SCHEMA_VERSION => {}
            0..SCHEMA_VERSION => {
                let make = match version {
                    0 => vec![include_str!("schema.sql"), FROM_2],
                    1 => vec![FROM_1, FROM_2],
                    _ => vec![FROM_2],
                };
                let make = make.concat();
                let all = format!("BEGIN IMMEDIATE; {make} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
                sql.execute_batch(&all).map_err(&failed)?;
            }
            other => {
                let why = format!(
                    "its version is {other}, and this program reads {SCHEMA_VERSION}; use the program that wrote it"
                );
                return Err(CenterError::damaged(path, why));
            }
        }
        let newest: Option<i64> =
            sql.query_row("SELECT max(epoch) FROM message", [], |row| row.get(0)).map_err(&failed)?;
        if newest.is_some_and(|newest| newest > i64::from(epoch.get())) {
            let newest = newest.unwrap_or_default();
            let why =
                format!("it has messages of epoch {newest}, and `epoch` is {epoch}; set `epoch` to {newest} or higher");
            return Err(CenterError::damaged(path, why));
        }
        let path = path.to_owned();
        Ok(Self {
            path,
            sql,
            epoch,
            is_read: HashSet::new(),
            reading: None,
            begun_runs: HashMap::new(),
            retention,
            _lock: lock,
        })
    }

    /// Records who ordered messages, a client or a person at its console, in the transaction that keeps them.
    pub fn ordered(&self, messages: &[(JournalName, Position)], by: &str) -> Result<(), CenterError> {
        self.run(|sql| {
            let mut update = sql.prepare_cached(
                "UPDATE message SET ordered_by = ?5 WHERE audience = ?1 AND stream = ?2 AND epoch = ?3 AND seq = ?4",
            )?;
            for (journal, at) in messages {
                let (aud, stream) = (journal.audience.aud(), journal.stream.as_str());
                update.execute(params![aud, stream, at.epoch.get(), int(at.seq), by])?;
            }
            Ok(())
        })
    }

    fn run<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CenterError> {
        query(&self.sql).map_err(failed(&self.path))
    }
}

fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> CenterError {
    let path = path.to_owned();
    move |error| CenterError::Database { path: path.clone(), why: error.to_string() }
}

/// Holds the database for this process.
fn lock(path: &Path) -> Result<File, CenterError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
    let file = open.map_err(CenterError::file(&lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(CenterError::damaged(path, "another center has it open; end that one, or name another `data_file`"))
        }
        Err(TryLockError::Error(source)) => Err(CenterError::File { path: lock_path, source }),
    }
}

/// A number as SQLite has it; those beyond its range are the greatest.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The claims of a JWS as text; empty for what is not a JWS.
fn claims(message: &str) -> String {
    let payload = message.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|payload| String::from_utf8(payload).ok()).unwrap_or_default()
}

fn position(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Position> {
    let (epoch, seq): (u32, i64) = (row.get(at)?, row.get(at + 1)?);
    Ok(Position { epoch: NonZeroU32::new(epoch).unwrap_or(NonZeroU32::MIN), seq: uint(seq) })
}

fn link(row: &SqlRow<'_>) -> rusqlite::Result<Link> {
    Ok(Link { n: uint(row.get(0)?), hash: row.get(1)? })
}

impl Storage for Database {
    const IS_SHARED: bool = false;
    const KEEPS_PUBLISHED: bool = true;

    fn begin(&mut self) -> Result<(), CenterError> {
        self.run(|sql| sql.execute_batch("BEGIN IMMEDIATE"))
    }

    fn commit(&mut self) -> Result<(), CenterError> {
        self.run(|sql| sql.execute_batch("COMMIT"))?;
        self.begun_runs.clear();
        Ok(())
    }

    fn rollback(&mut self) {
        self.begun_runs.clear();
        // A transaction that SQLite ended by itself needs no rollback.
        if !self.sql.is_autocommit() {
            drop(self.run(|sql| sql.execute_batch("ROLLBACK")));
        }
    }

    fn epoch(&mut self) -> Result<NonZeroU32, CenterError> {
        Ok(self.epoch)
    }

    fn unread(&mut self, journal: &JournalName) -> Result<Vec<Entry>, CenterError> {
        if self.is_read.contains(journal) {
            return Ok(Vec::new());
        }
        let after = self.reading.take().filter(|(reading, _)| reading == journal).map(|(_, at)| at);
        let (epoch, seq) = after.map_or((0, 0), |at| (i64::from(at.epoch.get()), int(at.seq)));
        let rows: Vec<(Position, String)> = self.run(|sql| {
            let mut query = sql.prepare_cached(
                "SELECT epoch, seq, message FROM message
                 WHERE audience = ?1 AND stream = ?2 AND (epoch, seq) > (?3, ?4) ORDER BY epoch, seq LIMIT ?5",
            )?;
            let (aud, stream) = (journal.audience.aud(), journal.stream.as_str());
            let rows = query.query_map(params![aud, stream, epoch, seq, READ_AT_ONCE], |row| {
                Ok((position(row, 0)?, row.get(2)?))
            })?;
            rows.collect()
        })?;
        match rows.last() {
            Some((at, _)) => self.reading = Some((journal.clone(), *at)),
            None => {
                self.is_read.insert(journal.clone());
            }
        }
        let entry = |(at, message): (Position, String)| {
            Entry::read(&message).map_err(|why| {
                let what = format!("message {}.{} of `{}` is damaged: {why}", at.epoch, at.seq, journal.stream);
                CenterError::damaged(
                    &self.path,
                    format!("{what}; restore the file from a copy, or begin again with a higher epoch"),
                )
            })
        };
        rows.into_iter().map(entry).collect()
    }

    fn rewind(&mut self) {
        self.is_read.clear();
        self.reading = None;
    }

    fn append(&mut self, journal: &JournalName, at: Position, message: &str) -> Result<(), CenterError> {
        self.run(|sql| {
            let mut insert = sql.prepare_cached(
                "INSERT INTO message (audience, stream, epoch, seq, message, claims) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let (aud, stream) = (journal.audience.aud(), journal.stream.as_str());
            insert.execute(params![aud, stream, at.epoch.get(), int(at.seq), message, claims(message)]).map(|_| ())
        })
    }

    fn messages(
        &mut self,
        journal: &JournalName,
        epoch: NonZeroU32,
        ranges: &[(u64, u64)],
        most: usize,
    ) -> Result<Option<Vec<(Position, String)>>, CenterError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let mut found = std::collections::BTreeMap::new();
        for (from, to) in ranges {
            self.run(|sql| {
                let mut query = sql.prepare_cached(
                    "SELECT epoch, seq, message FROM message
                     WHERE audience = ?1 AND stream = ?2 AND epoch = ?3 AND seq BETWEEN ?4 AND ?5 ORDER BY seq LIMIT ?6",
                )?;
                let (aud, stream) = (journal.audience.aud(), journal.stream.as_str());
                let rows = query.query_map(params![aud, stream, epoch.get(), int(*from), int(*to), limit], |row| {
                    Ok((position(row, 0)?, row.get(2)?))
                })?;
                for row in rows {
                    let (at, message) = row?;
                    found.insert(at.seq, (at, message));
                }
                Ok(())
            })?;
            if found.len() > most {
                return Ok(None);
            }
        }
        Ok(Some(found.into_values().collect()))
    }

    fn audit_ends(&mut self, gateway: &GatewayId) -> Result<Option<(Link, Link)>, CenterError> {
        let Some(run) = self.audit_run(gateway)? else { return Ok(None) };
        let end = |order: &str| {
            let query = format!("SELECT n, hash FROM audit WHERE gateway = ?1 AND run = ?2 ORDER BY n {order} LIMIT 1");
            self.run(|sql| sql.prepare_cached(&query)?.query_row(params![gateway.as_str(), run], link).optional())
        };
        Ok(end("ASC")?.zip(end("DESC")?))
    }

    fn audit_hashes(&mut self, gateway: &GatewayId, from: u64, to: u64) -> Result<HashMap<u64, Hash>, CenterError> {
        let Some(run) = self.audit_run(gateway)? else { return Ok(HashMap::new()) };
        self.run(|sql| {
            let mut query = sql
                .prepare_cached("SELECT n, hash FROM audit WHERE gateway = ?1 AND run = ?2 AND n BETWEEN ?3 AND ?4")?;
            let rows = query.query_map(params![gateway.as_str(), run, int(from), int(to)], link)?;
            rows.map(|link| link.map(|link| (link.n, link.hash))).collect()
        })
    }

    fn keep_audit(&mut self, gateway: &GatewayId, events: &[KeptEvent], now: Timestamp) -> Result<(), CenterError> {
        let run = self.audit_run(gateway)?.unwrap_or(0);
        events.iter().try_for_each(|event| self.keep_event((gateway, run), event, now))
    }

    fn set_audit_aside(&mut self, gateway: &GatewayId) -> Result<String, CenterError> {
        self.begin_audit_run(gateway)
    }

    fn undelivered(&mut self, most: usize) -> Result<Vec<(JournalName, Position, String)>, CenterError> {
        self.run(|sql| {
            let mut query = sql.prepare_cached(
                "SELECT epoch, seq, message, audience, stream FROM message
                 WHERE delivered = 0 ORDER BY id LIMIT ?1",
            )?;
            let rows = query.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
                let (audience, stream): (String, String) = (row.get(3)?, row.get(4)?);
                let audience = match audience.as_str() {
                    CAMPUS => Some(Audience::Campus),
                    gateway => gateway.parse().ok().map(Audience::Gateway),
                };
                let name = audience.zip(stream.parse().ok());
                let name = name.map(|(audience, stream)| JournalName { audience, stream });
                Ok((name, position(row, 0)?, row.get(2)?))
            })?;
            let rows: rusqlite::Result<Vec<_>> = rows.collect();
            Ok(rows?.into_iter().filter_map(|(name, at, message)| Some((name?, at, message))).collect())
        })
    }

    fn delivered(&mut self, messages: &[(JournalName, Position)]) -> Result<(), CenterError> {
        self.run(|sql| {
            let mut update = sql.prepare_cached(
                "UPDATE message SET delivered = 1 WHERE audience = ?1 AND stream = ?2 AND epoch = ?3 AND seq = ?4",
            )?;
            for (journal, at) in messages {
                let (aud, stream) = (journal.audience.aud(), journal.stream.as_str());
                update.execute(params![aud, stream, at.epoch.get(), int(at.seq)])?;
            }
            Ok(())
        })
    }

    fn keep_published(&mut self, published: &[Published]) -> Result<(), CenterError> {
        published.iter().try_for_each(|one| self.keep_one(one))
    }

    fn keep_used(&mut self, gateway: &GatewayId, stream: &StreamName, used: Used) -> Result<(), CenterError> {
        let Used { after, to } = used;
        self.run(|sql| {
            let all = params![gateway.as_str(), stream.as_str(), after.0, int(after.1), to.0, int(to.1)];
            sql.prepare_cached("INSERT OR REPLACE INTO used VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(all).map(|_| ())
        })
    }

    fn used(&mut self) -> Result<Vec<UsedAt>, CenterError> {
        self.run(search::used)
    }

    fn kept_states(&mut self) -> Result<Vec<(GatewayId, String)>, CenterError> {
        let rows = self.run(search::states)?.into_iter();
        Ok(rows.filter_map(|row| Some((row.gateway.parse().ok()?, row.body))).collect())
    }

    fn remove_old(&mut self, now: Timestamp) -> Result<(), CenterError> {
        self.remove_before(now)
    }
}
