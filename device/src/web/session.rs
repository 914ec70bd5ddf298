//! Who is signed in: a bounded table of sessions that end by themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::random::{self, NoRandomness};

/// More sessions than people at a board; with one more, the longest unused one ends.
const MAX_SESSIONS: usize = 32;

/// The sessions of a server.
#[derive(Debug)]
pub struct Sessions {
    /// By the SHA-256 of the token, so that neither a look-up's time nor a memory dump tells one.
    table: Mutex<HashMap<[u8; 32], Session>>,
    longest: Duration,
    idle: Duration,
}

#[derive(Debug)]
struct Session {
    csrf: String,
    started: Instant,
    used: Instant,
}

/// A session that holds at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// What every form of the session must carry.
    pub csrf: String,
}

impl SignedIn {
    /// Whether a form's token is the session's; takes the same time for every wrong one.
    pub fn vouches_for(&self, token: &str) -> bool {
        self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

/// Whether a request shows that someone is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A person asked: the idle time starts anew.
    Person,
    /// The page refreshed itself.
    Page,
}

impl Sessions {
    /// No session yet. One ends after `longest`, or `idle` after the last use by a person.
    pub fn new(longest: Duration, idle: Duration) -> Self {
        Self { table: Mutex::default(), longest, idle }
    }

    /// Starts a session and gives its token: 256 random bits in hexadecimal digits.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn start(&self, now: Instant) -> Result<String, NoRandomness> {
        let token = random::token()?;
        let session = Session { csrf: random::token()?, started: now, used: now };
        let mut table = self.lock();
        table.retain(|_, session| self.holds(session, now));
        if table.len() >= MAX_SESSIONS {
            let oldest = table.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            oldest.map(|key| table.remove(&key));
        }
        table.insert(key(&token), session);
        Ok(token)
    }

    /// The session of a token, while it holds.
    pub fn find(&self, token: &str, by: Use, now: Instant) -> Option<SignedIn> {
        let mut table = self.lock();
        let session = table.get_mut(&key(token)).filter(|session| self.holds(session, now))?;
        if by == Use::Person {
            session.used = now;
        }
        Some(SignedIn { csrf: session.csrf.clone() })
    }

    /// Ends a session.
    pub fn end(&self, token: &str) {
        self.lock().remove(&key(token));
    }

    fn holds(&self, session: &Session, now: Instant) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        since(session.started) < self.longest && since(session.used) < self.idle
    }

    /// A panic elsewhere leaves the table whole, so its poison means nothing.
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sessions() -> (Sessions, Instant) {
        (Sessions::new(60 * MINUTE, 10 * MINUTE), Instant::now())
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it() {
        let (sessions, start) = sessions();
        let token = sessions.start(start).expect("a session");
        for minute in [9, 18] {
            assert!(sessions.find(&token, Use::Person, start + minute * MINUTE).is_some());
        }
        // A page that refreshes itself does not keep the session alive.
        assert!(sessions.find(&token, Use::Page, start + 27 * MINUTE).is_some());
        assert!(sessions.find(&token, Use::Person, start + 28 * MINUTE).is_none());
    }

    #[test]
    fn a_session_ends_even_in_use() {
        let (sessions, start) = sessions();
        let token = sessions.start(start).expect("a session");
        for minute in (5..60).step_by(5) {
            assert!(sessions.find(&token, Use::Person, start + minute * MINUTE).is_some());
        }
        assert!(sessions.find(&token, Use::Person, start + 60 * MINUTE).is_none());
    }

    #[test]
    fn an_ended_or_invented_session_is_none() {
        let (sessions, start) = sessions();
        let token = sessions.start(start).expect("a session");
        assert!(sessions.find("", Use::Person, start).is_none());
        assert!(sessions.find(&token.to_uppercase(), Use::Person, start).is_none());
        sessions.end(&token);
        assert!(sessions.find(&token, Use::Person, start).is_none());
    }

    #[test]
    fn the_table_has_a_bound_and_drops_the_longest_unused() {
        let (sessions, start) = sessions();
        let tokens: Vec<String> = (0..=MAX_SESSIONS as u32)
            .map(|second| sessions.start(start + second * Duration::from_secs(1)).expect("one"))
            .collect();
        let now = start + MINUTE;
        assert!(sessions.find(&tokens[0], Use::Person, now).is_none());
        assert!(tokens[1..].iter().all(|t| sessions.find(t, Use::Person, now).is_some()));
    }

    #[test]
    fn only_the_sessions_own_token_vouches() {
        let (sessions, start) = sessions();
        let [one, two] = [0, 1].map(|_| sessions.start(start).expect("a session"));
        let [one, two] = [one, two].map(|t| sessions.find(&t, Use::Person, start).expect("holds"));
        assert!(one.vouches_for(&one.csrf));
        assert!(!one.vouches_for(&two.csrf) && !one.vouches_for(""));
    }
}
