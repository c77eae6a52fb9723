//! Sessions: made from the token at the login, kept in memory only, ended after a named time and at the logout.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::lock;

/// How long a session lasts, in seconds: a shift. Then the person logs in again.
pub const SESSION_S: u64 = 12 * 3_600;
/// Sessions at once. Where one more is made, the oldest ends.
pub const SESSIONS_MAX: usize = 64;

/// What stands for a session in memory: the hash of its id, so that the time of a look-up shows nothing of the id.
pub type SessionKey = [u8; 32];

struct Session<W> {
    who: W,
    until: Instant,
}

/// The sessions, each with whose it is.
pub struct Sessions<W>(Mutex<HashMap<SessionKey, Session<W>>>);

impl<W> Default for Sessions<W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W: Clone> Sessions<W> {
    /// A new session; gives its id, which only the browser keeps. Fails when the operating system gives no random numbers.
    pub fn open(&self, who: W) -> Result<String, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let id = hex::encode(random);
        let now = Instant::now();
        let mut sessions = lock(&self.0);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.until).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key(&id), Session { who, until: now + Duration::from_secs(SESSION_S) });
        Ok(id)
    }

    /// Whose session this is, and for how much longer; `None`: it does not exist or has ended.
    pub fn of(&self, key: &SessionKey) -> Option<(W, Duration)> {
        let sessions = lock(&self.0);
        let session = sessions.get(key)?;
        let left = session.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (session.who.clone(), left))
    }

    /// Ends a session.
    pub fn close(&self, key: &SessionKey) {
        lock(&self.0).remove(key);
    }
}

/// What stands for the session `id`.
#[must_use]
pub fn key(id: &str) -> SessionKey {
    Sha256::digest(id).into()
}

/// The session that a request names in the cookie `cookie`.
#[must_use]
pub fn named(headers: &HeaderMap, cookie: &str) -> Option<SessionKey> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie).map(|(_, id)| key(id))
}

/// Gives the browser the session `id` in the cookie `cookie`; `None`: takes it away. It is for this console only: no script reads it,
/// and no other page makes the browser send it.
pub(crate) fn with_cookie(mut response: Response, cookie: &str, id: Option<&str>, is_https: bool) -> Response {
    let secure = if is_https { "; Secure" } else { "" };
    let (id, seconds) = id.map_or(("", 0), |id| (id, SESSION_S));
    let text = format!("{cookie}={id}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> String {
        name.to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_its_time_and_at_the_logout() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.open(who("Li")).unwrap(), sessions.open(who("Wang")).unwrap());
        assert_ne!(one, two);
        assert_eq!(sessions.of(&key(&one)).unwrap().0, who("Li"));
        sessions.close(&key(&two));
        assert_eq!(sessions.of(&key(&two)), None);
        tokio::time::advance(Duration::from_secs(SESSION_S - 1)).await;
        assert!(sessions.of(&key(&one)).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(sessions.of(&key(&one)), None);
        assert_eq!(sessions.of(&key("")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_sessions_the_oldest_ends() {
        let sessions = Sessions::default();
        let mut ids = Vec::new();
        for _ in 0..=SESSIONS_MAX {
            ids.push(sessions.open(who("Li")).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let open: Vec<bool> = ids.iter().map(|id| sessions.of(&key(id)).is_some()).collect();
        assert!(!open[0] && open[1..].iter().all(|open| *open), "{open:?}");
    }
}
