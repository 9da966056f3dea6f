//! Where a client finds its token when nobody tells it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that holds the token itself.
pub const TOKEN_VARIABLE: &str = "AGENTBUS_TOKEN";

/// The environment variable that names the data directory.
pub const DATA_DIR_VARIABLE: &str = "AGENTBUS_DATA_DIR";

/// The data directory of this user: `AGENTBUS_DATA_DIR`, else `agentbus` in the XDG data
/// directory. `None` when there is not even a home.
#[must_use]
pub fn data_dir() -> Option<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set(DATA_DIR_VARIABLE).or_else(|| {
        let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
        Some(data.join("agentbus"))
    })
}

/// A token and where it comes from.
#[derive(Clone)]
pub(crate) enum Token {
    /// The user named it, so it goes wherever the user says.
    Given(String),
    /// It was found in this machine's data directory, and is for a bus of this user alone.
    Found(String),
}

impl Token {
    pub(crate) fn expose(&self) -> &str {
        let (Self::Given(token) | Self::Found(token)) = self;
        token
    }
}

/// The token for the bus at this URL. The one of the file goes only to a bus on this machine: it
/// is this machine's, and another one has no business knowing it.
pub(crate) fn token_for(url: &str, directory: Option<&Path>) -> Option<Token> {
    from_environment().map(Token::Given).or_else(|| {
        let local = is_local(url).then(|| from_file(directory))?;
        local.map(Token::Found)
    })
}

/// What to do when the bus at a URL refuses the token that it is shown, or wants one: that depends
/// on where this program looked for it.
#[must_use]
pub fn refusal(url: &str, directory: Option<&Path>) -> String {
    if from_environment().is_some() {
        return format!(
            "the bus refused the token in {TOKEN_VARIABLE}; unset {TOKEN_VARIABLE}, so that the one in the data directory \
             counts, or set it to the token of this bus"
        );
    }
    let directory = directory.map(Path::to_owned).or_else(data_dir);
    match directory.filter(|_| is_local(url)) {
        Some(directory) => format!(
            "the token in {} is missing, or not the one of this bus; point {DATA_DIR_VARIABLE} at the data directory of the \
             bus, or set {TOKEN_VARIABLE} to its token",
            directory.display()
        ),
        None => format!(
            "the bus wants a token; set {TOKEN_VARIABLE} to what `agentbus token` prints on its machine"
        ),
    }
}

/// Whether a URL leads to this machine, so that its bus may know the token of this user.
#[must_use]
pub fn is_local(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    // What stands before an `@` is not the host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let name = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// The token: `AGENTBUS_TOKEN`, else the file `token` in the data directory.
#[must_use]
pub fn token() -> Option<String> {
    from_environment().or_else(|| from_file(None))
}

fn from_environment() -> Option<String> {
    let token = env::var(TOKEN_VARIABLE).ok();
    token.filter(|token| !token.is_empty())
}

fn from_file(directory: Option<&Path>) -> Option<String> {
    let directory = directory.map(Path::to_owned).or_else(data_dir)?;
    let text = fs::read_to_string(directory.join("token")).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_this_machine_is_local() {
        for url in [
            "http://127.0.0.1:39765",
            "http://localhost/x",
            "ws://[::1]:1",
            "http://[::1]",
        ] {
            assert!(is_local(url), "{url}");
        }
        for url in [
            "http://example.org",
            "http://localhost.evil.example",
            "http://127.0.0.1:1@evil.example",
            "http://localhost@evil.example:1",
            "http://evil.example/@localhost",
            "http://evil.example?@127.0.0.1",
        ] {
            assert!(!is_local(url), "{url}");
        }
    }
}
