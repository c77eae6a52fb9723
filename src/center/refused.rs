//! What gateways refuse for its content (wire contract, 2.3). A center signs none of it; where a journal has some all the same, written
//! by hand or by an older program, it uses up its number and changes nothing, here as at the gateways.

use super::owners::Earlier;
use super::{CardChange, Center, CenterError, Content, Plan, Storage, visitors};
use crate::access::change::{ErrorCode, Op, OpError, Position};
use crate::access::id::{GatewayId, Timestamp};
use crate::wire::envelope::Scope;
use crate::wire::limits::MESSAGE_BYTES_MAX;
use crate::wire::ops::{self, name_of};
use crate::wire::snapshot;

impl CenterError {
    /// An op that alone makes a message longer than a gateway takes.
    pub(super) fn too_long(op: &Op, bytes: usize) -> Self {
        let what = format!("it makes a message of {bytes} bytes, {MESSAGE_BYTES_MAX} are allowed");
        Self::Refused { what: named(op), error: OpError::message(ErrorCode::TooLarge, what) }
    }
}

fn named(op: &Op) -> String {
    name_of(op).map_or_else(|| "op".to_owned(), |name| format!("`{name}`"))
}

impl Content {
    /// What counts of it: nothing that gateways refuse.
    pub(super) fn judged(self, at: Position) -> Self {
        let is_refused = match &self {
            Self::Changes(ops) => ops.iter().any(|op| ops::check(op, None).is_err()),
            Self::Snapshot(entries) => snapshot::check(entries, at).is_err(),
            Self::Refused => true,
        };
        if is_refused { Self::Refused } else { self }
    }
}

impl<S: Storage> Center<S> {
    /// The ops of each stream, in its place, as they are to be published: a visitor's enrolment has an end, and gateways refuse none.
    pub(super) fn shares(
        &self,
        to: Option<&GatewayId>,
        ops: &[Op],
        now: Timestamp,
    ) -> Result<Vec<Vec<Op>>, CenterError> {
        let mut shares: Vec<Vec<Op>> = vec![Vec::new(); self.streams.len()];
        let mut earlier: Vec<Earlier<'_>> = Vec::new();
        for (op, place) in ops.iter().zip(0_u32..) {
            let name = name_of(op).ok_or(CenterError::NoOp)?;
            let owned = self.streams.iter().zip(&mut shares).find(|(stream, _)| stream.spec.allowed.contains(name));
            let (stream, share) = owned.ok_or(CenterError::NoOwner(name))?;
            if stream.spec.scope == Scope::Gateway && to.is_none() {
                return Err(CenterError::NoGateway(stream.spec.name.clone()));
            }
            let audience = self.audience(stream, to)?;
            if let Some(audience) = &audience {
                self.check_owner(op, audience, &earlier)?;
                earlier.push((audience.clone(), op));
            }
            let op = match op {
                Op::Enrol { uid, enrolment } => {
                    let list = audience.and_then(|audience| self.lists.get(&audience));
                    let enrolment = visitors::complete(list, *uid, enrolment, (&self.zone, now))?;
                    Op::Enrol { uid: *uid, enrolment }
                }
                _ => op.clone(),
            };
            ops::check(&op, Some(place)).map_err(|error| CenterError::Refused { what: named(&op), error })?;
            share.push(op);
        }
        Ok(shares)
    }
}

impl Plan {
    /// The plan, unless it enrols a card for what gateways refuse. What stays as it is was published before.
    pub(super) fn checked(self) -> Result<Self, CenterError> {
        self.changes.iter().try_for_each(|(uid, change)| {
            let (CardChange::Added(to) | CardChange::Updated { to, .. }) = change else { return Ok(()) };
            let op = Op::Enrol { uid: *uid, enrolment: to.clone() };
            let what = || format!("{} of card `{uid}`", named(&op));
            ops::check(&op, None).map_err(|error| CenterError::Refused { what: what(), error })
        })?;
        Ok(self)
    }
}
