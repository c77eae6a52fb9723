//! What gateways publish, written to the database: audit events, acks, alarms and states; and how long it is kept.

use rusqlite::{OptionalExtension, params};

use super::super::CenterError;
use super::super::storage::KeptEvent;
use super::super::storage::{Published, PublishedKind};
use super::{Database, int};
use crate::access::id::{GatewayId, Timestamp};

/// Rows removed at once from one table. More stay for the next time, so that nobody waits long for a removal.
const REMOVED_AT_ONCE: i64 = 10_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// How long what is only looked up is kept, in days. Messages are kept for ever: a gateway may ask for any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Audit events.
    pub audit_days: u32,
    /// Acks and alarms.
    pub acks_days: u32,
    /// Answers to requests with an `Idempotency-Key`.
    pub requests_days: u32,
}

impl Database {
    /// The run of the gateway's audit that is received now; `None`: none was begun.
    pub(super) fn audit_run(&self, gateway: &GatewayId) -> Result<Option<i64>, CenterError> {
        if let Some(run) = self.begun_runs.get(gateway) {
            return Ok(Some(*run));
        }
        self.run(|sql| {
            let mut query = sql.prepare_cached("SELECT max(run) FROM audit WHERE gateway = ?1")?;
            query.query_row([gateway.as_str()], |row| row.get(0))
        })
    }

    /// Begins another run of the gateway's audit.
    pub(super) fn begin_audit_run(&mut self, gateway: &GatewayId) -> Result<String, CenterError> {
        let old = self.audit_run(gateway)?.unwrap_or(0);
        self.begun_runs.insert(gateway.clone(), old.saturating_add(1));
        Ok(format!("run {old} of its audit"))
    }

    pub(super) fn keep_event(
        &self,
        (gateway, run): (&GatewayId, i64),
        kept: &KeptEvent,
        now: Timestamp,
    ) -> Result<(), CenterError> {
        let (event, bytes) = (&kept.event, String::from_utf8_lossy(&kept.bytes));
        let body = &event.body;
        let uid = body.uid().map(|uid| uid.to_string());
        self.run(|sql| {
            let mut insert = sql.prepare_cached(
                "INSERT INTO audit (gateway, run, n, at, received, type, portal, uid, holder, event, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?;
            let row = params![
                gateway.as_str(),
                run,
                int(event.n),
                event.at.0,
                now.0,
                event.kind().as_str(),
                body.portal().map(|portal| portal.as_str()),
                uid,
                body.holder().map(|holder| holder.as_str()),
                bytes,
                kept.hash,
            ];
            insert.execute(row).map(|_| ())
        })
    }

    pub(super) fn keep_one(&self, one: &Published) -> Result<(), CenterError> {
        let (gateway, at, body) = (one.gateway.as_str(), one.received_at.0, one.body.as_str());
        self.run(|sql| match &one.kind {
            PublishedKind::Ack(ack) => {
                let Some((stream, number)) = ack.stream.as_ref().zip(ack.at) else { return Ok(0) };
                let (epoch, seq) = (number.epoch.get(), int(number.seq));
                sql.prepare_cached(
                    "INSERT INTO ack (gateway, stream, epoch, seq, outcome, at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![gateway, stream.as_str(), epoch, seq, ack.outcome.as_str(), at, body])
            }
            PublishedKind::Alarm => sql
                .prepare_cached("INSERT INTO alarm (gateway, at, body) VALUES (?1, ?2, ?3)")?
                .execute(params![gateway, at, body]),
            PublishedKind::State => sql
                .prepare_cached("INSERT OR REPLACE INTO state (gateway, at, body) VALUES (?1, ?2, ?3)")?
                .execute(params![gateway, at, body]),
        })
        .map(|_| ())
    }

    /// Removes what was received before its retention. Of each gateway's audit the newest event stays: the next one must follow it.
    pub(super) fn remove_before(&self, now: Timestamp) -> Result<(), CenterError> {
        let before = |days: u32| now.0.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
        let Retention { audit_days, acks_days, requests_days } = self.retention;
        // The oldest rows have the lowest ids, so that nothing else is looked at.
        let oldest = |table: &str| format!("id IN (SELECT id FROM {table} ORDER BY id LIMIT {REMOVED_AT_ONCE})");
        let removals = [
            (format!("DELETE FROM ack WHERE at < ?1 AND {}", oldest("ack")), acks_days),
            (format!("DELETE FROM alarm WHERE at < ?1 AND {}", oldest("alarm")), acks_days),
            (
                format!(
                    "DELETE FROM audit WHERE received < ?1 AND {} AND EXISTS (SELECT 1 FROM audit newer
                     WHERE newer.gateway = audit.gateway AND (newer.run, newer.n) > (audit.run, audit.n))",
                    oldest("audit")
                ),
                audit_days,
            ),
            ("DELETE FROM request WHERE at < ?1".to_owned(), requests_days),
        ];
        removals.iter().try_for_each(|(delete, days)| {
            self.run(|sql| sql.prepare_cached(delete)?.execute([before(*days)]).map(|_| ()))
        })
    }

    /// The kept answer to a request of `client` under `key`, and the hash of its body.
    pub fn answer_under(&self, client: &str, key: &str) -> Result<Option<(Vec<u8>, String)>, CenterError> {
        self.run(|sql| {
            let mut query = sql.prepare_cached("SELECT body, answer FROM request WHERE client = ?1 AND key = ?2")?;
            query.query_row([client, key], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
    }

    /// Keeps the answer to a request, in the transaction of its changes.
    pub fn keep_answer(
        &self,
        (client, key): (&str, &str),
        body: &[u8],
        answer: &str,
        now: Timestamp,
    ) -> Result<(), CenterError> {
        self.run(|sql| {
            let insert = "INSERT INTO request (client, key, body, answer, at) VALUES (?1, ?2, ?3, ?4, ?5)";
            sql.prepare_cached(insert)?.execute(params![client, key, body, answer, now.0]).map(|_| ())
        })
    }
}
