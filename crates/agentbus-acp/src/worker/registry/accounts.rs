//! What a person asks about logins: who is logged in, log in, log out.

use std::collections::BTreeMap;

use super::auth::{Auth, AuthError, Tell};
use super::{Keys, Pin, RegistryError, RegistryOptions, launch, methods, provider, read, source};

/// Something that can be logged in to.
#[derive(Debug, Clone)]
pub struct Account {
    /// What it is called after `--login`.
    pub name: String,
    /// A line for a person.
    pub line: String,
}

/// Tells of each provider, and of each agent in the index, whether it can be used.
///
/// # Errors
///
/// A [`RegistryError`] if a file, the index or the store of tokens cannot be read.
pub async fn accounts(options: &RegistryOptions) -> Result<Vec<Account>, RegistryError> {
    let index = source::index(options).await?;
    let keys = Keys::read(options.api_keys.as_deref())?;
    let auth = Auth::new(options)?;
    let providers = auth.status().await?;
    let state_of = |name: &str| {
        let mut found = providers.iter().filter(|(known, _)| known == name);
        found.next().map_or("", |(_, state)| state.as_str())
    };
    let mut accounts: Vec<_> = providers
        .iter()
        .map(|(name, state)| Account {
            name: name.clone(),
            line: format!("{name} (provider): {state}"),
        })
        .collect();
    accounts.extend(index.entries().map(|entry| {
        let keyed = keys.agents.contains_key(&entry.id);
        let state = match (provider(entry, &auth), entry.auth_required) {
            _ if keyed => "has a key".to_owned(),
            (Some(provider), _) => format!("by {provider}: {}", state_of(provider)),
            (None, true) => "needs a key".to_owned(),
            (None, false) => "needs none".to_owned(),
        };
        Account {
            name: entry.id.clone(),
            line: format!("{} ({} {}): {state}", entry.id, entry.name, entry.version),
        }
    }));
    Ok(accounts)
}

/// Logs a person in at a provider, or at an agent of the index by the agent's own method.
///
/// # Errors
///
/// A [`RegistryError`]; [`RegistryError::Auth`] if the login came to nothing.
pub async fn log_in(
    options: &RegistryOptions,
    name: &str,
    method: Option<&str>,
    tell: Tell<'_>,
) -> Result<(), RegistryError> {
    let auth = Auth::new(options)?;
    if auth.has(name) && method.is_none() {
        return Ok(auth.log_in(name, tell).await?);
    }
    let index = source::index(options).await?;
    let entry = index
        .get(name)
        .ok_or_else(|| AuthError::Unknown(name.to_owned()))?;
    if let (Some(provider), None) = (provider(entry, &auth), method) {
        return Ok(auth.log_in(provider, tell).await?);
    }
    let keys = Keys::read(options.api_keys.as_deref())?;
    let pins: BTreeMap<String, Pin> = read(options.pins.as_deref())?;
    let program = launch::program(entry, &keys, pins.get(name), &options.data_directory).await;
    let program = program.map_err(|refusal| AuthError::Agent {
        agent: name.to_owned(),
        why: refusal.sentence().to_owned(),
    })?;
    Ok(methods::log_in(name, program, method, options.grace, tell).await?)
}

/// Forgets the token of a provider, or all of them, and has the providers revoke them. What became
/// of each is told; a provider that does not revoke is no failure, since nobody is logged in here.
///
/// # Errors
///
/// A [`RegistryError`] if there is no such provider, or the store cannot be changed.
pub async fn log_out(
    options: &RegistryOptions,
    name: Option<&str>,
    tell: Tell<'_>,
) -> Result<(), RegistryError> {
    let auth = Auth::new(options)?;
    if let Some(name) = name
        && !auth.has(name)
    {
        return Err(AuthError::Unknown(name.to_owned()).into());
    }
    Ok(auth.log_out(name, tell).await?)
}
