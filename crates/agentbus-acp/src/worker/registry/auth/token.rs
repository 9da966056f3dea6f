//! What a provider handed out.

use oauth2::basic::BasicTokenResponse;
use oauth2::{AccessToken, RefreshToken, TokenResponse};
use serde::{Deserialize, Serialize};

use crate::worker::limits::REFRESH_AHEAD;

/// A token with what renews it. Its parts show nothing of themselves in logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) access: AccessToken,
    pub(super) refresh: Option<RefreshToken>,
    /// Seconds since 1970; none if the provider does not say.
    pub(super) expires: Option<i64>,
    /// From when on a new one is fetched.
    renew: Option<i64>,
}

impl Token {
    /// Takes an answer; one without a refresh token leaves the old one in force.
    pub(super) fn new(answer: &BasicTokenResponse, old: Option<RefreshToken>) -> Self {
        let now = now();
        let life = answer.expires_in().map(|life| life.as_secs());
        let seconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // A token that lives for a minute must not be renewed with each message.
        let ahead = |life: u64| REFRESH_AHEAD.as_secs().min(life / 2);
        Self {
            access: answer.access_token().clone(),
            refresh: answer.refresh_token().cloned().or(old),
            expires: life.map(|life| now.saturating_add(seconds(life))),
            renew: life.map(|life| now.saturating_add(seconds(life - ahead(life)))),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.renew.is_some_and(|renew| renew <= now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= now())
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
