//! Searches in the database, on a connection of their own that only reads: they never wait for the center, nor it for them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::super::{CenterError, Used, UsedAt};
use super::{BUSY_S, failed, uint};

/// A message as it is shown.
const ORDER: &str = "json_object('stream', stream, 'epoch', epoch, 'seq', seq, 'ordered_by', ordered_by,
    'ops', json(json_extract(claims, '$.ops')))";

/// Not a column: what an ack names anywhere. Reads every ack.
pub const NAMED: &str = "named";

/// What is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Audit events.
    Audit,
    /// Acks.
    Ack,
    /// Alarms.
    Alarm,
    /// What this center published, with who ordered it.
    Message,
}

/// What is wanted. A row must meet every condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Where.
    pub table: Table,
    /// Columns and their values. Of a message: the `uid` of a card or a `holder` that it names.
    pub is: Vec<(&'static str, String)>,
    /// Only of these gateways; `None`: of all.
    pub gateways: Option<Vec<String>>,
    /// Not before, in milliseconds since 1970.
    pub from: Option<i64>,
    /// Before, in milliseconds since 1970.
    pub to: Option<i64>,
    /// Newest first.
    pub is_newest_first: bool,
    /// The last row of the page before.
    pub after: Option<i64>,
    /// Most rows.
    pub most: usize,
}

/// A row found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place among all, by arrival.
    pub id: i64,
    /// Of which gateway, or to which.
    pub gateway: String,
    /// When it happened (audit), or was received (others), in milliseconds since 1970.
    pub at: i64,
    /// The JSON as the gateway published it; of a message its number, who ordered it, and its ops, which a whole list has none of.
    pub body: String,
}

/// A connection that only reads. Cheap to share; one search at a time.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    sql: Mutex<Connection>,
}

impl Reader {
    /// A reader of the database at `path`, which exists.
    pub fn open(path: &Path) -> Result<Self, CenterError> {
        let failed = failed(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sql = Connection::open_with_flags(path, flags).map_err(&failed)?;
        sql.busy_timeout(Duration::from_secs(BUSY_S)).map_err(&failed)?;
        Ok(Self { path: path.to_owned(), sql: Mutex::new(sql) })
    }

    fn run<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CenterError> {
        query(&crate::lock(&self.sql)).map_err(failed(&self.path))
    }

    /// The rows that `search` wants. Blocks while it reads.
    pub fn search(&self, search: &Search) -> Result<Vec<Row>, CenterError> {
        let (table, gateway, at, body) = match search.table {
            Table::Audit => ("audit", "gateway", "at", "event"),
            Table::Ack => ("ack", "gateway", "at", "body"),
            Table::Alarm => ("alarm", "gateway", "at", "body"),
            Table::Message => ("message", "audience", "json_extract(claims, '$.iat') * 1000", ORDER),
        };
        let mut conditions = vec!["1".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        for (column, value) in &search.is {
            // An op names a card by `uid`, `old_uid` or `new_uid`.
            let (condition, value) = match search.table {
                Table::Message => ("instr(claims, ?) > 0".to_owned(), format!("{column}\":\"{value}\"")),
                Table::Ack if *column == NAMED => ("instr(body, ?) > 0".to_owned(), format!("\"{value}\"")),
                _ => (format!("{column} = ?"), value.clone()),
            };
            conditions.push(condition);
            values.push(value.into());
        }
        if let Some(gateways) = &search.gateways {
            conditions.push(format!("{gateway} IN ({})", vec!["?"; gateways.len()].join(", ")));
            values.extend(gateways.iter().cloned().map(Value::from));
        }
        let order = if search.is_newest_first { ("DESC", "<") } else { ("ASC", ">") };
        let after = format!("id {} ?", order.1);
        let (from, to) = (format!("{at} >= ?"), format!("{at} < ?"));
        let bounds = [(&from, search.from), (&to, search.to), (&after, search.after)];
        for (condition, value) in bounds {
            if let Some(value) = value {
                conditions.push(condition.clone());
                values.push(value.into());
            }
        }
        values.push(i64::try_from(search.most).unwrap_or(i64::MAX).into());
        let (conditions, order) = (conditions.join(" AND "), order.0);
        let query =
            format!("SELECT id, {gateway}, {at}, {body} FROM {table} WHERE {conditions} ORDER BY id {order} LIMIT ?");
        self.run(|sql| {
            let mut query = sql.prepare_cached(&query)?;
            let rows = query.query_map(params_from_iter(values), |row| {
                Ok(Row { id: row.get(0)?, gateway: row.get(1)?, at: row.get(2)?, body: row.get(3)? })
            })?;
            rows.collect()
        })
    }

    /// The newest state of each gateway that has published one.
    pub fn states(&self) -> Result<Vec<Row>, CenterError> {
        self.run(states)
    }

    /// The numbers that were used before, of each stream and gateway of which some were.
    pub fn used(&self) -> Result<Vec<UsedAt>, CenterError> {
        self.run(used)
    }
}

pub(super) fn states(sql: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut query = sql.prepare_cached("SELECT gateway, at, body FROM state ORDER BY gateway")?;
    let rows =
        query.query_map([], |row| Ok(Row { id: 0, gateway: row.get(0)?, at: row.get(1)?, body: row.get(2)? }))?;
    rows.collect()
}

pub(super) fn used(sql: &Connection) -> rusqlite::Result<Vec<UsedAt>> {
    let mut query = sql.prepare_cached("SELECT gateway, stream, after_epoch, after_seq, to_epoch, to_seq FROM used")?;
    let rows = query.query_map([], |row| {
        let (gateway, stream): (String, String) = (row.get(0)?, row.get(1)?);
        let used = Used { after: (row.get(2)?, uint(row.get(3)?)), to: (row.get(4)?, uint(row.get(5)?)) };
        Ok(gateway.parse().ok().zip(stream.parse().ok()).map(|(gateway, stream)| (gateway, stream, used)))
    })?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect())
}
