//! Where a client finds its token when nobody tells it.

use std::env;
use std::fs;
use std::path::PathBuf;

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

/// The token: `AGENTBUS_TOKEN`, else the file `token` in the data directory.
#[must_use]
pub fn token() -> Option<String> {
    let from_environment = env::var(TOKEN_VARIABLE)
        .ok()
        .filter(|token| !token.is_empty());
    from_environment.or_else(|| {
        let text = fs::read_to_string(data_dir()?.join("token")).ok()?;
        Some(text.trim().to_owned()).filter(|token| !token.is_empty())
    })
}
