//! Who asks: bearer tokens, compared in constant time, and what each client may.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::Shared;
use super::failure::Failure;
use super::metrics::Metrics;
use crate::access::change::Op;
use crate::access::id::GatewayId;
use crate::access::input::Actor;
use crate::browser::bearer;
use crate::browser::origin::own_page;
use crate::browser::sessions::{self, SessionKey, Sessions};
use crate::browser::tries::Tries;
use crate::config::ClientSpec;
use crate::wire::allowed::OpName;
use crate::wire::envelope::{Scope, StreamSpec};
use crate::wire::ops::name_of;

/// Wrong tokens from one address in a minute; beyond, more of them are answered 429 without being looked at. A right token is always
/// taken, because several clients may share the address of a proxy.
const WRONG_A_MINUTE_MAX: u32 = 30;

/// The cookie of a session. That of a gateway's console has another name, because a browser sends a cookie to every port of a machine.
pub(super) const COOKIE: &str = "dormgate_center_session";

/// The clients, each with the hash of its token.
pub(super) type Clients = Arc<[([u8; 32], Arc<ClientSpec>)]>;

/// The clients, the sessions made from their tokens, and the wrong tokens of late.
pub(super) struct Doorkeeper {
    clients: watch::Sender<Clients>,
    pub(super) sessions: Sessions<Person>,
    wrong: Tries,
    metrics: Metrics,
}

/// Whose session it is: a person, who acts as a client and may what it may.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) who: Actor,
    pub(super) spec: Arc<ClientSpec>,
}

impl Doorkeeper {
    pub(super) fn new(clients: &[ClientSpec], metrics: Metrics) -> Self {
        let clients = watch::Sender::new(hashed(clients));
        // No limit for all together: one address must not keep the programs of the others out.
        let wrong = Tries::new(WRONG_A_MINUTE_MAX, u32::MAX);
        Self { clients, sessions: Sessions::default(), wrong, metrics }
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
        if self.wrong.are_too_many(from) {
            let message =
                format!("more than {WRONG_A_MINUTE_MAX} wrong tokens in a minute from this address; wait a minute");
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_wrong_tokens", message));
        }
        self.wrong.count(from);
        let what = if token.is_some() { "the token is of no client" } else { "a token is needed" };
        let message = format!("{what}; send `Authorization: Bearer TOKEN` with a token of `[[client]]`");
        Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
    }

    /// Who asks: a program by its token, or a person by a session, which counts only from the console's own pages.
    pub(super) fn asks(&self, method: &Method, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Client, Failure> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let session = sessions::named(headers, COOKIE).filter(|_| authorization.is_none());
        let Some(session) = session else {
            let spec = self.client(authorization.and_then(bearer), from)?;
            return Ok(Client { spec, person: None });
        };
        own_page(method, headers).map_err(|why| Failure::forbidden("forbidden_origin", why))?;
        let client =
            self.sessions.of(&session).map(|(Person { who, spec }, _)| Client { spec, person: Some((who, session)) });
        // The client may have been withdrawn since the login, or may more or less.
        client.and_then(|client| client.among(&self.clients.borrow())).ok_or_else(|| {
            Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", "the session has ended; log in again")
        })
    }

    /// Whether the session by which `client` asks goes on; a program has none that could end.
    pub(super) fn goes_on(&self, client: &Client) -> bool {
        client.person.as_ref().is_none_or(|(_, session)| self.sessions.of(session).is_some())
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
pub(super) struct Client {
    pub(super) spec: Arc<ClientSpec>,
    /// The person at the console who acts as it, and the session; `None`: a program.
    pub(super) person: Option<(Actor, SessionKey)>,
}

/// The address of who asks.
pub(super) fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

impl FromRequestParts<Shared> for Client {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Failure> {
        api.doorkeeper.asks(&parts.method, &parts.headers, address(&parts.extensions))
    }
}

/// The client that asks, where only one that may read is answered.
pub(super) struct MayRead(pub(super) Client);

impl FromRequestParts<Shared> for MayRead {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Failure> {
        let client = Client::from_request_parts(parts, api).await?;
        client.reads().map(|()| Self(client))
    }
}

impl Client {
    /// The same client among `clients`, with what it may now; `None`: it is no longer there, or has another token.
    pub(super) fn among(&self, clients: &Clients) -> Option<Self> {
        let is_same = |other: &ClientSpec| other.name == self.spec.name && other.token == self.spec.token;
        let found = clients.iter().map(|(_, client)| client).find(|client| is_same(client))?;
        Some(Self { spec: Arc::clone(found), person: self.person.clone() })
    }

    /// Who is responsible for what it orders: the client, and behind a colon the person at the console.
    pub(super) fn who(&self) -> String {
        let person = self.person.as_ref().map(|(who, _)| format!(":{who}")).unwrap_or_default();
        format!("{}{person}", self.spec.name)
    }

    /// Whether it may read.
    pub(super) fn reads(&self) -> Result<(), Failure> {
        let message = || format!("client `{}` may not read; add `read` to its `may`", self.spec.name);
        if self.spec.may_read { Ok(()) } else { Err(Failure::forbidden("forbidden", message())) }
    }

    /// Whether it may see and change `gateway`.
    pub(super) fn has(&self, gateway: &GatewayId) -> bool {
        self.spec.gateways.as_ref().is_none_or(|own| own.contains(gateway))
    }

    /// An error unless it may see and change `gateway`.
    pub(super) fn needs(&self, gateway: &GatewayId) -> Result<(), Failure> {
        let message = || format!("`{gateway}` is not among the `gateways` of client `{}`", self.spec.name);
        if self.has(gateway) { Ok(()) } else { Err(Failure::forbidden("forbidden_gateway", message())) }
    }

    /// An error unless it may order `op`.
    pub(super) fn orders(&self, op: OpName) -> Result<(), Failure> {
        let message = || format!("client `{}` may not order `{op}`; add it to its `may`", self.spec.name);
        if self.spec.may.contains(op) { Ok(()) } else { Err(Failure::forbidden("forbidden_op", message())) }
    }

    /// An error unless it may load whole lists; where the stream that enrols publishes to the whole campus, only if it has all
    /// gateways.
    pub(super) fn loads(&self, enrolling: Option<&StreamSpec>) -> Result<(), Failure> {
        if !self.spec.may_load {
            let message = format!("client `{}` may not load a whole list; add `load` to its `may`", self.spec.name);
            return Err(Failure::forbidden("forbidden", message));
        }
        self.reaches(OpName::Enrol, enrolling)
    }

    /// An error if `op`, which `owner` publishes, goes to gateways that it does not have.
    fn reaches(&self, op: OpName, owner: Option<&StreamSpec>) -> Result<(), Failure> {
        let is_campus = owner.is_some_and(|stream| stream.scope == Scope::Campus);
        if is_campus && self.spec.gateways.is_some() {
            let message = format!(
                "`{op}` goes to every gateway, and client `{}` has only some; write `gateways = [\"*\"]`",
                self.spec.name
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
