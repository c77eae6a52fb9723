//! Who asks: bearer tokens, compared in constant time, and what each client may.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::failure::Failure;
use super::metrics::Metrics;
use crate::access::change::Op;
use crate::access::id::GatewayId;
use crate::config::ClientSpec;
use crate::wire::allowed::OpName;
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::ops::name_of;

/// Wrong tokens from one address in a minute; beyond, more of them are answered 429 without being looked at. A right token is always
/// taken, because several clients may share the address of a proxy.
const WRONG_A_MINUTE_MAX: u32 = 30;
/// Addresses whose wrong tokens are counted at once; beyond, all others share one count.
const ADDRESSES_MAX: usize = 4_096;
/// How long wrong tokens count.
const MINUTE: Duration = Duration::from_secs(60);

/// The clients, each with the hash of its token.
pub(super) type Clients = Arc<[([u8; 32], Arc<ClientSpec>)]>;

/// The clients, and the wrong tokens of late.
pub(super) struct Doorkeeper {
    clients: watch::Sender<Clients>,
    wrong: Mutex<Wrong>,
    metrics: Metrics,
}

struct Wrong {
    since: Instant,
    by_address: HashMap<Option<IpAddr>, u32>,
}

impl Doorkeeper {
    pub(super) fn new(clients: &[ClientSpec], metrics: Metrics) -> Self {
        let clients = watch::Sender::new(hashed(clients));
        Self { clients, wrong: Mutex::new(Wrong { since: Instant::now(), by_address: HashMap::new() }), metrics }
    }

    /// From now on these are the clients, and no others.
    pub(super) fn replace(&self, clients: &[ClientSpec]) {
        self.clients.send_replace(hashed(clients));
    }

    /// The clients, for an answer that lasts longer than a change of them.
    pub(super) fn clients(&self) -> watch::Receiver<Clients> {
        self.clients.subscribe()
    }

    pub(super) fn client(&self, token: Option<&str>, from: Option<IpAddr>) -> Result<Arc<ClientSpec>, Failure> {
        let presented = hash(token.unwrap_or_default());
        // Every client is compared, also after one was found.
        let is = |known: &[u8; 32]| bool::from(known.as_slice().ct_eq(presented.as_slice()));
        let mut found = None;
        for (known, client) in self.clients.borrow().iter() {
            if is(known) {
                found = Some(Arc::clone(client));
            }
        }
        if let Some(client) = found.filter(|_| token.is_some()) {
            return Ok(client);
        }
        self.metrics.wrong_tokens.inc();
        if self.is_too_often(from) {
            let message =
                format!("more than {WRONG_A_MINUTE_MAX} wrong tokens in a minute from this address; wait a minute");
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_tokens", message));
        }
        let what = if token.is_some() { "the token is of no client" } else { "a token is needed" };
        let message = format!("{what}; send `Authorization: Bearer TOKEN` with a token of `[[client]]`");
        Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
    }

    fn is_too_often(&self, from: Option<IpAddr>) -> bool {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.since.elapsed() >= MINUTE {
            wrong.since = Instant::now();
            wrong.by_address.clear();
        }
        let is_known = wrong.by_address.contains_key(&from) || wrong.by_address.len() < ADDRESSES_MAX;
        let count = wrong.by_address.entry(from.filter(|_| is_known)).or_insert(0);
        *count = count.saturating_add(1);
        *count > WRONG_A_MINUTE_MAX
    }
}

/// Hashes are of equal length, so that the time of a comparison shows nothing.
fn hashed(clients: &[ClientSpec]) -> Clients {
    clients.iter().map(|client| (hash(client.token.expose()), Arc::new(client.clone()))).collect()
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The client that asks.
pub(super) struct Client(pub(super) Arc<ClientSpec>);

impl FromRequestParts<Shared> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Failure> {
        let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        api.doorkeeper.client(header.and_then(bearer), from).map(Self)
    }
}

/// The token of an `Authorization` header with the scheme `Bearer`.
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl Client {
    /// The same client among `clients`, with what it may now; `None`: it is no longer there, or has another token.
    pub(super) fn among(&self, clients: &Clients) -> Option<Self> {
        let is_same = |other: &ClientSpec| other.name == self.0.name && other.token == self.0.token;
        clients.iter().map(|(_, client)| client).find(|client| is_same(client)).map(|client| Self(Arc::clone(client)))
    }

    /// Whether it may read.
    pub(super) fn reads(&self) -> Result<(), Failure> {
        let message = || format!("client `{}` may not read; add `read` to its `may`", self.0.name);
        if self.0.may_read { Ok(()) } else { Err(Failure::forbidden("forbidden", message())) }
    }

    /// Whether it may see and change `gateway`.
    pub(super) fn has(&self, gateway: &GatewayId) -> bool {
        self.0.gateways.as_ref().is_none_or(|own| own.contains(gateway))
    }

    /// An error unless it may see and change `gateway`.
    pub(super) fn needs(&self, gateway: &GatewayId) -> Result<(), Failure> {
        let message = || format!("`{gateway}` is not among the `gateways` of client `{}`", self.0.name);
        if self.has(gateway) { Ok(()) } else { Err(Failure::forbidden("forbidden_gateway", message())) }
    }

    /// An error unless it may order `op`.
    pub(super) fn orders(&self, op: OpName) -> Result<(), Failure> {
        let message = || format!("client `{}` may not order `{op}`; add it to its `may`", self.0.name);
        if self.0.may.contains(op) { Ok(()) } else { Err(Failure::forbidden("forbidden_op", message())) }
    }

    /// An error unless it may load whole lists; where the stream that enrols publishes to the whole campus, only if it has all
    /// gateways.
    pub(super) fn loads(&self, enrolling: Option<&StreamSpec>) -> Result<(), Failure> {
        if !self.0.may_load {
            let message = format!("client `{}` may not load a whole list; add `load` to its `may`", self.0.name);
            return Err(Failure::forbidden("forbidden", message));
        }
        self.reaches(OpName::Enrol, enrolling)
    }

    /// An error if `op`, which `owner` publishes, goes to gateways that it does not have.
    fn reaches(&self, op: OpName, owner: Option<&StreamSpec>) -> Result<(), Failure> {
        let is_campus = owner.is_some_and(|stream| stream.scope == Scope::Campus);
        if is_campus && self.0.gateways.is_some() {
            let message = format!(
                "`{op}` goes to every gateway, and client `{}` has only some; write `gateways = [\"*\"]`",
                self.0.name
            );
            return Err(Failure::forbidden("forbidden_gateway", message));
        }
        Ok(())
    }

    /// An error unless it may order all of `ops`; those of streams that publish to the whole campus only if it has all gateways.
    pub(super) fn orders_all<'s>(
        &self,
        ops: &[Op],
        owner: impl Fn(OpName) -> Option<&'s StreamSpec>,
    ) -> Result<(), Failure> {
        for name in ops.iter().filter_map(name_of) {
            self.orders(name)?;
            self.reaches(name, owner(name))?;
        }
        Ok(())
    }
}
