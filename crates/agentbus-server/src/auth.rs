//! Who may speak: the token, browser sessions and console links.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Instant;

use agentbus_decisions::Voice;
use agentbus_mcp::Principal;
use axum::http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use rand::RngExt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits;

/// Characters of a secret: 256 random bits as hexadecimal digits.
pub(crate) const TOKEN_CHARS: usize = 64;

const COOKIE: &str = "agentbus_session";

/// A secret that is never logged and is compared in constant time.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn random() -> Self {
        let random: [u8; TOKEN_CHARS / 2] = rand::rng().random();
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn known(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    fn is(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a client can prove itself with.
#[derive(Debug)]
pub(crate) struct Auth {
    people: People,
    /// Agents that the bus drives, each with the token that it was started with. There are as many
    /// as the configuration names.
    agents: Mutex<BTreeMap<String, Secret>>,
}

#[derive(Debug)]
enum People {
    /// Nothing is needed.
    Off,
    /// The token, or a browser session that began with a console link.
    Token {
        token: Secret,
        /// Links that were not used yet, with the time they were made.
        links: Mutex<VecDeque<(Secret, Instant)>>,
        sessions: Mutex<VecDeque<(Secret, Instant)>>,
    },
}

impl Auth {
    pub(crate) fn off() -> Self {
        Self::of(People::Off)
    }

    pub(crate) fn with_token(token: Secret) -> Self {
        Self::of(People::Token {
            token,
            links: Mutex::default(),
            sessions: Mutex::default(),
        })
    }

    fn of(people: People) -> Self {
        Self {
            people,
            agents: Mutex::default(),
        }
    }

    /// Makes the token of an agent.
    pub(crate) fn agent_token(&self, agent: &str) -> String {
        let secret = Secret::random();
        let token = secret.expose().to_owned();
        self.agents.lock().insert(agent.to_owned(), secret);
        token
    }

    /// The agent that these headers prove to speak. Its token opens less than those of people, also
    /// where people need none.
    pub(crate) fn agent(&self, headers: &HeaderMap) -> Option<String> {
        let offered = bearer(headers)?;
        let agents = self.agents.lock();
        let known = agents.iter().find(|(_, secret)| secret.is(offered));
        known.map(|(name, _)| name.clone())
    }

    /// Whether these headers prove that somebody speaks who runs the bus.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        match &self.people {
            People::Off => true,
            People::Token {
                token, sessions, ..
            } => {
                bearer(headers).is_some_and(|offered| token.is(offered))
                    || cookie(headers).is_some_and(|offered| {
                        sessions.lock().iter().any(|(session, opened)| {
                            opened.elapsed() < limits::SESSION_TTL && session.is(offered)
                        })
                    })
            }
        }
    }

    /// Who these headers prove to speak. Holders of the token are one; so is each browser session,
    /// which is named by what its secret hashes to.
    pub(crate) fn principal(&self, headers: &HeaderMap) -> Option<Principal> {
        if let Some(agent) = self.agent(headers) {
            return Some(Principal::agent(&agent));
        }
        match &self.people {
            People::Off => Some(Principal::new("anybody")),
            People::Token { .. } if !self.admits(headers) => None,
            People::Token { token, .. } => match bearer(headers) {
                Some(offered) if token.is(offered) => Some(Principal::new("token")),
                _ => cookie(headers).map(|secret| {
                    let hash = Sha256::digest(secret.as_bytes());
                    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
                    Principal::new(&format!("browser {name}"))
                }),
            },
        }
    }

    /// For whom these headers speak when something is decided.
    pub(crate) fn voice(&self, headers: &HeaderMap) -> Voice {
        match self.principal(headers) {
            Some(principal) if principal.as_agent().is_none() => {
                Voice::Person(principal.as_str().to_owned())
            }
            // The guard lets neither an agent nor nobody through to where decisions are made.
            other => Voice::Agent(other.map_or_else(String::new, |it| it.as_str().to_owned())),
        }
    }

    /// Makes a code that opens the console once.
    pub(crate) fn console_code(&self) -> Option<String> {
        let People::Token { links, .. } = &self.people else {
            return None;
        };
        let code = Secret::random();
        let text = code.expose().to_owned();
        let mut links = links.lock();
        links.retain(|(_, made)| made.elapsed() < limits::CONSOLE_LINK_TTL);
        links.push_back((code, Instant::now()));
        Some(text)
    }

    /// Trades a console code for a session; the value of the cookie to set.
    pub(crate) fn open_session(&self, offered: &str) -> Option<String> {
        let People::Token {
            links, sessions, ..
        } = &self.people
        else {
            return None;
        };
        let mut links = links.lock();
        links.retain(|(_, made)| made.elapsed() < limits::CONSOLE_LINK_TTL);
        let at = links.iter().position(|(code, _)| code.is(offered))?;
        links.remove(at);
        let session = Secret::random();
        let cookie = format!(
            "{COOKIE}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
            session.expose(),
            limits::SESSION_TTL.as_secs()
        );
        let mut sessions = sessions.lock();
        sessions.retain(|(_, opened)| opened.elapsed() < limits::SESSION_TTL);
        if sessions.len() == limits::SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back((session, Instant::now()));
        Some(cookie)
    }
}

/// The token of `Authorization: Bearer TOKEN`; the scheme is case-insensitive (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The secret of a browser session. A browser gives the cookie to every port of this host, so it
/// counts only when the browser does not say that another page made the request (Fetch Metadata).
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return None;
    }
    let all = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}
