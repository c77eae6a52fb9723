//! Sessions: made from the token at the login, kept in memory only, ended after a named time and at the logout.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::access::input::Actor;

/// How long a session lasts, in seconds: a shift. Then the person logs in again.
pub const SESSION_S: u64 = 12 * 3_600;
/// Sessions at once. Where one more is made, the oldest ends.
pub const SESSIONS_MAX: usize = 64;

/// What stands for a session in memory: the hash of its id, so that the time of a look-up shows nothing of the id.
pub(super) type SessionKey = [u8; 32];
/// What stands for a token in memory.
pub(super) type TokenHash = [u8; 32];

struct Session {
    who: Actor,
    /// The token that it was made from: it ends with it.
    from: TokenHash,
    until: Instant,
}

/// The sessions.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<SessionKey, Session>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session, made from a token; gives its id, which only the browser keeps.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub(super) fn open(&self, who: Actor, from: TokenHash) -> Result<String, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let id = hex::encode(random);
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, session)| session.until).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key(&id), Session { who, from, until: now + Duration::from_secs(SESSION_S) });
        Ok(id)
    }

    /// Whose session this is, and for how much longer, while its token is `token`; `None`: it does not exist or has ended.
    pub(super) fn of(&self, key: &SessionKey, token: TokenHash) -> Option<(Actor, Duration)> {
        let sessions = self.lock();
        let session = sessions.get(key).filter(|session| session.from == token)?;
        let left = session.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (session.who.clone(), left))
    }

    /// Ends a session.
    pub(super) fn close(&self, key: &SessionKey) {
        self.lock().remove(key);
    }
}

/// What stands for the session `id`.
pub(super) fn key(id: &str) -> SessionKey {
    Sha256::digest(id).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: TokenHash = [7; 32];

    fn who(name: &str) -> Actor {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_after_its_time_and_at_the_logout() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.open(who("Li"), TOKEN).unwrap(), sessions.open(who("Wang"), TOKEN).unwrap());
        assert_ne!(one, two);
        assert_eq!(sessions.of(&key(&one), TOKEN).unwrap().0, who("Li"));
        sessions.close(&key(&two));
        assert_eq!(sessions.of(&key(&two), TOKEN), None);
        tokio::time::advance(Duration::from_secs(SESSION_S - 1)).await;
        assert!(sessions.of(&key(&one), TOKEN).is_some());
        assert_eq!(sessions.of(&key(&one), [8; 32]), None, "the token has changed");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(sessions.of(&key(&one), TOKEN), None);
        assert_eq!(sessions.of(&key(""), TOKEN), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_sessions_the_oldest_ends() {
        let sessions = Sessions::default();
        let mut ids = Vec::new();
        for _ in 0..=SESSIONS_MAX {
            ids.push(sessions.open(who("Li"), TOKEN).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let open: Vec<bool> = ids.iter().map(|id| sessions.of(&key(id), TOKEN).is_some()).collect();
        assert!(!open[0] && open[1..].iter().all(|open| *open), "{open:?}");
    }
}
