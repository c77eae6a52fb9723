//! What gateways published about a card that died with its holder: who the card was for, where the lists of this center do not name that.
//!
//! A card that was never issued is dead by what was set for its holder, and its holder stands in its enrolment only. The enrolment may be
//! withdrawn since, or another center may have it. What a gateway wrote then still names card and message.

use serde_json::Value;

use super::super::database::{NAMED, Reader, Row, Search, Table};
use super::super::{Audience, Center, CenterError, Storage};
use crate::access::change::{Op, Position, Subject};
use crate::access::effect::{Ack, Outcome};
use crate::access::id::{CardUid, GatewayId, Holder, Revision, StreamName};

/// Events looked at for one step at one gateway.
const EVENTS_MAX: usize = 100;

/// A card could open something at this gateway before this message and nothing after it.
pub(super) struct Trace {
    gateway: GatewayId,
    at: (u64, u64),
    /// Whose it was; an ack does not name that.
    holder: Option<Holder>,
}

/// What `gateways` (`None`: all) published about `uid` and the messages of `stream`: newest first, the audits before the acks. `acks`:
/// whether these are read, too, which takes long.
pub(super) fn read(
    reader: &Reader,
    gateways: Option<&[GatewayId]>,
    (uid, stream): (CardUid, &StreamName),
    acks: bool,
) -> Result<Vec<Trace>, CenterError> {
    let of = |table: Table, is: Vec<(&'static str, String)>| Search {
        gateways: gateways.map(|own| own.iter().map(ToString::to_string).collect()),
        ..search(table, is)
    };
    let events = found(reader, &of(Table::Audit, vec![("uid", uid.to_string())]))?;
    let revoked = found(reader, &of(Table::Audit, vec![("uid", uid.to_string()), ("type", "revoked".to_owned())]))?;
    let mut traces = Vec::new();
    for (row, event) in revoked {
        let Ok(gateway) = row.gateway.parse::<GatewayId>() else { continue };
        let number = event.get("revision").and_then(|revision| revision.get(stream.as_str()));
        let number = number.and_then(|number| Some((number.get(0)?.as_u64()?, number.get(1)?.as_u64()?)));
        let Some((at, holder)) = number.zip(holder_in(&event)) else { continue };
        // Whoever it was for later is not known here, so what was set for an earlier holder proves nothing.
        let later = events.iter().find(|(other, event)| other.gateway == row.gateway && holder_in(event).is_some());
        if later.is_none_or(|(_, event)| holder_in(event).as_ref() == Some(&holder)) {
            traces.push(Trace { gateway, at, holder: Some(holder) });
        }
    }
    if acks && traces.is_empty() {
        for (row, _) in found(reader, &of(Table::Ack, vec![(NAMED, uid.to_string())]))? {
            let Ok((gateway, ack)) =
                row.gateway.parse().map_err(|_| ()).and_then(|gateway| {
                    serde_json::from_str::<Ack>(&row.body).map(|ack| (gateway, ack)).map_err(|_| ())
                })
            else {
                continue;
            };
            let at = ack.at.map(|at| (u64::from(at.epoch.get()), at.seq));
            let is_of = ack.stream.as_ref() == Some(stream) && ack.outcome != Outcome::Rejected;
            if let Some(at) = at.filter(|_| is_of && ack.revoked.contains(&uid)) {
                traces.push(Trace { gateway, at, holder: None });
            }
        }
    }
    Ok(traces)
}

fn holder_in(event: &Value) -> Option<Holder> {
    event.get("holder")?.as_str()?.parse().ok()
}

impl Trace {
    /// Whether it is of this gateway.
    pub(super) fn is_of(&self, gateway: &GatewayId) -> bool {
        self.gateway == *gateway
    }

    /// The message, if it is what still ends the cards of whoever had this one. `death` gives by which message the card is dead if it is a
    /// holder's.
    pub(super) fn death<S: Storage>(
        &self,
        center: &mut Center<S>,
        stream: &StreamName,
        death: impl Fn(&Center<S>, &Holder) -> Option<Revision>,
    ) -> Result<Option<Revision>, CenterError> {
        let is_this = |revision: &Revision| (u64::from(revision.epoch.get()), revision.seq) == self.at;
        if let Some(holder) = &self.holder {
            return Ok(death(center, holder).filter(is_this));
        }
        // Of an ack: by whatever holder of the message it was, his cards have to be dead by it.
        let Some(epoch) = u32::try_from(self.at.0).ok().and_then(std::num::NonZeroU32::new) else { return Ok(None) };
        let at = Position { epoch, seq: self.at.1 };
        let mut ops = center.ops_of(stream, &Audience::Campus, at)?;
        ops.extend(center.ops_of(stream, &Audience::Gateway(self.gateway.clone()), at)?);
        let holders = ops.iter().filter_map(holder_of).collect::<Vec<_>>();
        let deaths: Option<Vec<Revision>> =
            holders.into_iter().map(|holder| death(center, holder).filter(is_this)).collect();
        Ok(deaths.and_then(|deaths| deaths.first().copied()))
    }
}

/// Whose cards an op may end.
fn holder_of(op: &Op) -> Option<&Holder> {
    match op {
        Op::Reissue { holder, .. } | Op::SetFlag { subject: Subject::Holder(holder), on: true, .. } => Some(holder),
        _ => None,
    }
}

/// The newest rows.
pub(super) fn search(table: Table, is: Vec<(&'static str, String)>) -> Search {
    Search { table, is, gateways: None, from: None, to: None, is_newest_first: true, after: None, most: EVENTS_MAX }
}

/// The rows, each with its JSON.
pub(super) fn found(reader: &Reader, search: &Search) -> Result<Vec<(Row, Value)>, CenterError> {
    let rows = reader.search(search)?.into_iter();
    Ok(rows.filter_map(|row| Some((serde_json::from_str(&row.body).ok()?, row))).map(|(v, row)| (row, v)).collect())
}
