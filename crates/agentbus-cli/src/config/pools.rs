//! The pools of the file, in the words of the crate that runs them.

use agentbus_stdio::Config as PoolsConfig;
use serde_json::json;

use super::Config;
use crate::failure::{Exit, Failure};

impl Config {
    /// Reads `pools` and `pool_limits`; `None` without pools.
    ///
    /// What is a warning in the configuration of `agentbus stdio`, where comments are written as
    /// keys, is an error here.
    pub(crate) fn pools(&self) -> Result<Option<PoolsConfig>, Failure> {
        if self.pools.is_empty() {
            return Ok(None);
        }
        let failed = |message: String| Failure::new(Exit::Configuration, message);
        let text = json!({ "pools": self.pools, "limits": self.pool_limits }).to_string();
        let config =
            PoolsConfig::parse(text.as_bytes()).map_err(|error| failed(error.to_string()))?;
        match config.warnings.first() {
            Some(warning) => Err(failed(warning.clone())),
            None => Ok(Some(config)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<PoolsConfig>, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.pools().map_err(|failure| failure.message)
    }

    #[test]
    fn pools_are_read_and_their_keys_are_checked() {
        assert_eq!(read(""), Ok(None));
        let pool = "[[pools]]\nid = \"p\"\ncommand = \"cat\"\ninstances = 2\n";
        let config = read(&format!(
            "{pool}method = \"m\"\n[pool_limits]\nmax_restarts = 7\n"
        ));
        let config = config.unwrap().unwrap();
        assert_eq!(
            (config.pools[0].instances, config.limits.max_restarts),
            (2, 7)
        );
        assert_eq!(config.pools[0].method.as_deref(), Some("m"));
        let misspelt = read(&format!("{pool}evn = {{}}\n")).unwrap_err();
        assert!(misspelt.contains("pools[0] \"p\": evn"), "{misspelt}");
        assert!(
            read("[[pools]]\nid = \"p\"\n")
                .unwrap_err()
                .contains("command")
        );
    }
}
