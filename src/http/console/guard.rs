//! Who may: reading on loopback needs nothing; any other address, and every change, needs the token or a session made from it.
//!
//! A browser sends the cookie of a session by itself, so a request with one must come from the console's own pages (`Sec-Fetch-Site`,
//! `Origin`); the cookie is `SameSite=Strict` besides. A page of another name that resolves to this machine (DNS rebinding) reads
//! nothing: without a login the console answers to the names of loopback only.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::Shared;
use crate::access::input::Actor;
use crate::browser::bearer;
use crate::browser::origin::{own_page, text};
use crate::browser::sessions::{self, SessionKey, Sessions};
use crate::browser::tries::{MINUTE, Tries};
use crate::config::Secret;
use crate::http::api::refuse;

/// Wrong tokens from one address in a minute. Beyond, none is looked at until the minute is over.
pub const WRONG_A_MINUTE_MAX: u32 = 10;
/// Wrong tokens from all addresses in a minute. Beyond, none is looked at until the minute is over; sessions go on.
pub const WRONG_IN_SUM_A_MINUTE_MAX: u32 = 60;
/// Cards that are looked up without a login from one address in a minute, and audits searched for one: more than a person does at a screen,
/// and too few to find the hidden digits of a UID.
pub const LOOKUPS_A_MINUTE_MAX: u32 = 30;
/// The same from all addresses together.
pub const LOOKUPS_IN_SUM_A_MINUTE_MAX: u32 = 60;
/// The cookie of a session.
pub(super) const COOKIE: &str = "dormgate_session";

/// What stands for a token in memory.
pub(super) type TokenHash = [u8; 32];

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Caller {
    /// Somebody on loopback who has not logged in: reads, and sees no whole UID.
    Reader,
    /// Somebody with a session.
    Person(Actor, SessionKey),
    /// A program with the token.
    Token(TokenHash),
}

impl Caller {
    /// Whether whole UIDs are shown.
    pub(super) fn sees_uids(&self) -> bool {
        *self != Self::Reader
    }
}

/// See the module's head.
pub(super) struct Guard {
    token: watch::Receiver<Option<Secret>>,
    /// Listens on loopback.
    is_loopback: bool,
    /// Each with the hash of the token that it was made from: it ends with it.
    pub(super) sessions: Sessions<(Actor, TokenHash)>,
    wrong: Tries,
    lookups: Tries,
}

/// Why somebody may not.
type Refused = (StatusCode, String);

impl Guard {
    pub(super) fn new(token: watch::Receiver<Option<Secret>>, is_loopback: bool) -> Self {
        let wrong = Tries::new(WRONG_A_MINUTE_MAX, WRONG_IN_SUM_A_MINUTE_MAX);
        let lookups = Tries::new(LOOKUPS_A_MINUTE_MAX, LOOKUPS_IN_SUM_A_MINUTE_MAX);
        Self { token, is_loopback, sessions: Sessions::default(), wrong, lookups }
    }

    /// The token as it is now. A reload may change it.
    fn token(&self) -> Option<TokenHash> {
        self.token.borrow().as_ref().map(|token| Sha256::digest(token.expose()).into())
    }

    /// The token from now on, for whoever has to end with it.
    pub(super) fn token_changes(&self) -> watch::Receiver<Option<Secret>> {
        self.token.clone()
    }

    /// Whether somebody can log in at all.
    pub(super) fn has_token(&self) -> bool {
        self.token.borrow().is_some()
    }

    /// Whose session this is, and for how much longer; `None`: it does not exist, or has ended by itself or with its token.
    pub(super) fn session(&self, key: &SessionKey) -> Option<(Actor, Duration)> {
        let ((who, from), left) = self.sessions.of(key)?;
        (self.token() == Some(from)).then_some((who, left))
    }

    /// Whether `caller` is let in at all by what it was let in by before.
    pub(super) fn still_admits(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Reader => true,
            Caller::Person(_, session) => self.session(session).is_some(),
            Caller::Token(token) => self.token() == Some(*token),
        }
    }

    /// Compares a token, in constant time; gives its hash. One that comes after too many wrong ones is not looked at.
    pub(super) fn compare(&self, presented: &str, from: Option<IpAddr>) -> Result<TokenHash, Refused> {
        let Some(token) = self.token() else { return Err(no_token()) };
        if self.wrong.are_too_many(from) {
            let why = "too many wrong tokens in the last minute; wait a minute and try again";
            return Err((StatusCode::TOO_MANY_REQUESTS, why.to_owned()));
        }
        // Hashes are of equal length, so that the time of a comparison shows nothing.
        let presented: TokenHash = Sha256::digest(presented).into();
        if bool::from(token.as_slice().ct_eq(presented.as_slice())) {
            return Ok(token);
        }
        self.wrong.count(from);
        Err((StatusCode::UNAUTHORIZED, "the token is wrong; it is in the file of `[http] token_file`".to_owned()))
    }

    /// Counts a request without a login that names a card: its answer shows whether there is such a UID.
    pub(super) fn look_up(&self, caller: &Caller, uri: &Uri, from: Option<IpAddr>) -> Result<(), Refused> {
        if caller.sees_uids() || !names_card(uri) {
            return Ok(());
        }
        if self.lookups.are_too_many(from) {
            let why = "too many cards were looked up without a login in the last minute; log in, or wait a minute and try again";
            return Err((StatusCode::TOO_MANY_REQUESTS, why.to_owned()));
        }
        self.lookups.count(from);
        Ok(())
    }

    /// Whose request this is.
    pub(super) fn caller(&self, method: &Method, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Caller, Refused> {
        if let Some(authorization) = text(headers, header::AUTHORIZATION.as_str()) {
            let token = bearer(authorization).ok_or_else(|| {
                let why = "`Authorization`: `Bearer TOKEN` is wanted";
                (StatusCode::UNAUTHORIZED, why.to_owned())
            })?;
            return self.compare(token, from).map(Caller::Token);
        }
        own_page(method, headers).map_err(|why| (StatusCode::FORBIDDEN, why.to_owned()))?;
        if let Some(session) = sessions::named(headers, COOKIE)
            && let Some((who, _)) = self.session(&session)
        {
            return Ok(Caller::Person(who, session));
        }
        if !method.is_safe() {
            return Err(if self.has_token() { needs_login("to change anything") } else { no_token() });
        }
        if self.is_loopback && is_loopback_name(headers) {
            return Ok(Caller::Reader);
        }
        Err(if self.has_token() { needs_login("here") } else { no_token() })
    }
}

fn needs_login(what: &str) -> Refused {
    (StatusCode::UNAUTHORIZED, format!("a login is needed {what}, or `Authorization: Bearer TOKEN`"))
}

fn no_token() -> Refused {
    let why = "no token is configured, so nothing can be changed here: set `[http] token_file` and start again";
    (StatusCode::FORBIDDEN, why.to_owned())
}

/// Whether the request was sent to a name of loopback, and to no name that only resolves to it.
fn is_loopback_name(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST.as_str()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(host, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a request names a card: the page of a card, and a filter of the audit.
fn names_card(uri: &Uri) -> bool {
    let has_uid = |query: Vec<(String, String)>| query.iter().any(|(key, _)| key == "uid");
    uri.path() == "/api/v1/card" || super::asked(uri).is_ok_and(has_uid)
}

/// The address of who asks.
pub(super) fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}

/// Lets through who may, and hands on who it is.
pub(super) async fn admit(State(console): State<Shared>, mut request: Request, next: Next) -> Response {
    let from = address(&request);
    let caller = console.guard.caller(request.method(), request.headers(), from);
    let admitted = caller.and_then(|caller| console.guard.look_up(&caller, request.uri(), from).map(|()| caller));
    match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err((status, why)) => refusal(status, why),
    }
}

/// What somebody gets who may not.
pub(super) fn refusal(status: StatusCode, why: String) -> Response {
    let mut response = refuse(status, why).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, MINUTE.as_secs().into());
    }
    response
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
