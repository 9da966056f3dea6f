//! Who is logged in where: tokens of providers, kept sealed, renewed before they expire.
//!
//! It promises that a token is renewed once, however many agents and processes want it at the same
//! time, and that nothing secret is in a log, in an argument of a program, or in a file that
//! others can read.
//!
//! The surprising invariant: **a token is renewed under the lock of the store.** A provider that
//! gives each refresh token once would otherwise end the login of whoever comes second.

mod browser;
mod callback;
mod error;
mod flow;
mod key;
mod metadata;
mod provider;
mod revoke;
mod token;
mod vault;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use oauth2::AccessToken;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use self::error::AuthError;
use self::flow::Flow;
pub use self::key::KeySource;
pub(super) use self::key::read_private;
use self::provider::Provider;
use self::token::Token;
use self::vault::{Lock, Tokens, Vault};
use super::{RegistryError, RegistryOptions};
use crate::worker::limits::LOGIN_WAIT_MAX;

/// The providers and the store.
#[derive(Debug)]
pub(super) struct Auth {
    providers: BTreeMap<String, Provider>,
    vault: Arc<Vault>,
    directory: PathBuf,
    /// The program that shows pages, if there is somebody to see them.
    browser: Option<String>,
    /// Whether a message that needs a login begins one.
    automatic: bool,
    /// One login at a time, so that a person sees one page.
    turn: Mutex<()>,
}

/// What a person is told while he logs in.
pub(super) type Tell<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Auth {
    /// Reads who the providers are.
    pub(super) fn new(options: &RegistryOptions) -> Result<Self, RegistryError> {
        // An empty variable is none.
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let directory = options.data_directory.join("auth");
        let source = options.token_key.clone();
        let source = source.unwrap_or_else(|| KeySource::File(directory.join("key")));
        Ok(Self {
            providers: provider::all(options.providers.as_deref(), &variable)?,
            vault: Arc::new(Vault::new(&directory, source)),
            directory,
            browser: browser::opener(&variable),
            automatic: options.automatic_login,
            turn: Mutex::new(()),
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.keys().map(String::as_str)
    }

    pub(super) fn has(&self, provider: &str) -> bool {
        self.providers.contains_key(provider)
    }

    /// Returns the provider that names an agent as its own.
    pub(super) fn claims(&self, agent: &str) -> Option<&str> {
        let claims = |provider: &Provider| provider.agents.iter().any(|one| one == agent);
        let mut found = self.providers.iter().filter(|(_, one)| claims(one));
        found.next().map(|(name, _)| name.as_str())
    }

    /// Returns a token that is good now; logs in for it if that is allowed.
    pub(super) async fn token(&self, provider: &str) -> Result<AccessToken, AuthError> {
        let known = self.tokens().await?.remove(provider);
        if let Some(token) = known.filter(|token| !token.is_due()) {
            return Ok(token.access);
        }
        match self.renewed(provider).await {
            Err(error) if error.wants_login() && self.automatic => {
                let nobody = || AuthError::Headless(error.to_string());
                self.browser.as_ref().ok_or_else(nobody)?;
                self.token_of_a_login(provider).await
            }
            token => Ok(token?.access),
        }
    }

    async fn token_of_a_login(&self, provider: &str) -> Result<AccessToken, AuthError> {
        let _turn = self.turn.lock().await;
        // Somebody may have logged in while this one waited for his turn.
        let token = match self.renewed(provider).await {
            Err(error) if error.wants_login() => {
                let browser = self.browser.as_deref();
                self.log_in_with(provider, browser, &|_| ()).await?
            }
            token => token?,
        };
        Ok(token.access)
    }

    /// Logs a person in, who is told where to go.
    pub(super) async fn log_in(&self, provider: &str, tell: Tell<'_>) -> Result<(), AuthError> {
        let _turn = self.turn.lock().await;
        let browser = self.browser.as_deref();
        self.log_in_with(provider, browser, tell).await.map(drop)
    }

    /// Logs a person in whom only a browser can tell where to go.
    pub(super) async fn log_in_here(&self, provider: &str) -> Result<(), AuthError> {
        let nobody = || AuthError::Headless("there is no browser".to_owned());
        self.browser.as_ref().ok_or_else(nobody)?;
        self.log_in(provider, &|_| ()).await
    }

    /// Forgets the token of one provider, or everything, and has providers revoke what they
    /// handed out.
    ///
    /// What is here goes first: a provider that does not answer keeps nobody logged in.
    pub(super) async fn log_out(
        &self,
        provider: Option<&str>,
        tell: Tell<'_>,
    ) -> Result<(), AuthError> {
        let forgotten = match provider {
            Some(provider) => self.forget(provider.to_owned()).await?,
            None => match self.locked(Vault::forget).await? {
                Ok(tokens) => tokens,
                Err(why) => {
                    tell(&format!(
                        "Logged out of everything on this machine. What could not be read was not \
                         revoked ({why}). It stays good until it expires, or until you end the \
                         logins on the providers' own pages."
                    ));
                    return Ok(());
                }
            },
        };
        if forgotten.is_empty() {
            tell("Nobody was logged in.");
        }
        for (name, token) in forgotten {
            tell(&revoke::farewell(&name, self.providers.get(&name), token).await);
        }
        Ok(())
    }

    async fn forget(&self, provider: String) -> Result<Tokens, AuthError> {
        let remove = move |vault: &Vault, lock: &Lock| {
            let mut removed = Tokens::new();
            vault.change(lock, |tokens| {
                removed.extend(tokens.remove_entry(&provider));
            })?;
            Ok(removed)
        };
        self.locked(remove).await
    }

    /// Tells of each provider whether somebody is logged in.
    pub(super) async fn status(&self) -> Result<Vec<(String, String)>, AuthError> {
        let tokens = self.tokens().await?;
        let state = |name: &String| match tokens.get(name) {
            None => "nobody is logged in".to_owned(),
            Some(token) if token.is_over() && token.refresh.is_none() => {
                "the login has ended".to_owned()
            }
            Some(token) => match token
                .expires
                .and_then(|at| jiff::Timestamp::from_second(at).ok())
            {
                Some(at) => format!("logged in, with a token until {at}"),
                None => "logged in".to_owned(),
            },
        };
        let names = self.providers.keys();
        Ok(names.map(|name| (name.clone(), state(name))).collect())
    }

    /// Returns a token that is good now, renewed if it must be.
    async fn renewed(&self, name: &str) -> Result<Token, AuthError> {
        let provider = self.provider(name)?;
        let lock = self.lock().await?;
        // Another process may have renewed it while this one waited.
        let known = self.tokens().await?.remove(name);
        let logged_out = || AuthError::LoggedOut {
            provider: name.to_owned(),
        };
        let known = known.ok_or_else(logged_out)?;
        if !known.is_due() {
            return Ok(known);
        }
        let renewed = match &known.refresh {
            Some(refresh) => flow::renew(name, provider, refresh).await,
            None => Err(AuthError::Ended {
                provider: name.to_owned(),
                why: "its token has expired".to_owned(),
            }),
        };
        match renewed {
            Ok(token) => {
                self.keep(&lock, name, token.clone()).await?;
                Ok(token)
            }
            // It was tried ahead of time, so that the old one serves for a while.
            Err(error) if !known.is_over() => {
                tracing::warn!(provider = name, %error, "a token cannot be renewed yet");
                Ok(known)
            }
            Err(error) => Err(error),
        }
    }

    async fn log_in_with(
        &self,
        name: &str,
        browser: Option<&str>,
        tell: Tell<'_>,
    ) -> Result<Token, AuthError> {
        let provider = self.provider(name)?;
        // Before anybody is asked for anything: what cannot be kept is not worth a login.
        self.locked(Vault::prepare).await?;
        let flow = Flow::begin(name, provider).await?;
        let page = match browser {
            Some(browser) => Some(browser::Page::open(browser, &flow.url, &self.directory).await),
            None => None,
        };
        match &page {
            Some(Ok(_)) => tell(&format!("The login at {name} goes on in the browser.")),
            Some(Err(error)) => tell(&format!(
                "The browser cannot be opened ({error}). Open this page to log in at {name}: {}",
                flow.url
            )),
            None => tell(&format!("Open this page to log in at {name}: {}", flow.url)),
        }
        let finished = timeout(LOGIN_WAIT_MAX, flow.finish()).await;
        let token = finished.map_err(|_| AuthError::Timeout(LOGIN_WAIT_MAX.as_secs()))??;
        let lock = self.lock().await?;
        self.keep(&lock, name, token.clone()).await?;
        Ok(token)
    }

    fn provider(&self, name: &str) -> Result<&Provider, AuthError> {
        let found = self.providers.get(name);
        found.ok_or_else(|| AuthError::Unknown(name.to_owned()))
    }

    async fn tokens(&self) -> Result<Tokens, AuthError> {
        let vault = Arc::clone(&self.vault);
        blocking(move || vault.read()).await
    }

    async fn lock(&self) -> Result<Arc<Lock>, AuthError> {
        let vault = Arc::clone(&self.vault);
        blocking(move || vault.lock().map(Arc::new)).await
    }

    async fn keep(&self, lock: &Arc<Lock>, name: &str, token: Token) -> Result<(), AuthError> {
        let (vault, lock, name) = (Arc::clone(&self.vault), Arc::clone(lock), name.to_owned());
        let insert = |tokens: &mut Tokens| drop(tokens.insert(name, token));
        blocking(move || vault.change(&lock, insert)).await
    }

    async fn locked<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Vault, &Lock) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let vault = Arc::clone(&self.vault);
        blocking(move || change(&vault, &vault.lock()?)).await
    }
}

/// Runs what waits for a disk or a lock.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthError> + Send + 'static,
) -> Result<T, AuthError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(AuthError::Storage {
            path: PathBuf::from("the store of tokens"),
            why: error.to_string(),
        })
    })
}
