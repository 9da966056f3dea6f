//! What kind of server answers.

use agentbus_transport::{Durability, TransportError};
use redis::Value;

use crate::commands::{Commands, NAME, Order, carrier, failed};

/// Oldest version whose streams can do what is needed here.
const OLDEST: (u32, u32) = (6, 2);

/// What is known of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) durability: Durability,
}

impl Server {
    /// Asks a server what it is, and refuses one that will not do.
    pub(crate) async fn meet(commands: &Commands) -> Result<Self, TransportError> {
        let info = ask(commands, redis::cmd("INFO")).await?;
        let info: String = redis::from_redis_value(info)
            .map_err(|_| carrier("the server does not say what it is; is it a Redis server?"))?;
        check_version(field(&info, "redis_version"))?;
        if field(&info, "cluster_enabled") == "1" {
            return Err(TransportError::Refused {
                transport: NAME,
                reason: "a Redis Cluster spreads keys that must change together; use a single server, or jetstream://HOST".to_owned(),
            });
        }
        let written = field(&info, "aof_enabled") == "1";
        Ok(Self {
            durability: durability(written, &fsync(commands).await),
        })
    }
}

async fn ask(commands: &Commands, cmd: redis::Cmd) -> Result<Value, TransportError> {
    commands
        .once(&Order::One(cmd))
        .await
        .map_err(|error| failed(&error))
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

fn check_version(version: &str) -> Result<(), TransportError> {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < OLDEST {
        return Err(TransportError::Refused {
            transport: NAME,
            reason: format!(
                "the server has version {version}; streams as they are needed came with {}.{}",
                OLDEST.0, OLDEST.1
            ),
        });
    }
    Ok(())
}

/// When the server writes through to the disk; empty when it does not tell, as hosted ones do.
async fn fsync(commands: &Commands) -> String {
    let mut cmd = redis::cmd("CONFIG");
    cmd.arg("GET").arg("appendfsync");
    let answer = ask(commands, cmd).await.ok();
    let pair: Option<Vec<String>> = answer.and_then(|value| redis::from_redis_value(value).ok());
    pair.and_then(|pair| pair.into_iter().nth(1))
        .unwrap_or_default()
}

/// What an answered write survives.
///
/// The server answers after it has written its file, and with `always` after that is on the disk.
/// Snapshots alone lose whatever came after the last one.
fn durability(written: bool, fsync: &str) -> Durability {
    match (written, fsync) {
        (true, "always") => Durability::Disk,
        (true, _) => Durability::Os,
        (false, _) => Durability::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_what_the_settings_give() {
        assert_eq!(durability(true, "always"), Durability::Disk);
        assert_eq!(durability(true, "everysec"), Durability::Os);
        assert_eq!(durability(true, ""), Durability::Os);
        assert_eq!(durability(false, "always"), Durability::Memory);
    }

    #[test]
    fn a_field_of_the_server_is_found() {
        let info = "# Server\r\nredis_version:7.0.15\r\naof_enabled:1\r\n";
        assert_eq!(field(info, "redis_version"), "7.0.15");
        assert_eq!(field(info, "aof_enabled"), "1");
        assert_eq!(field(info, "nothing"), "");
    }

    #[test]
    fn an_old_server_is_refused_with_its_version() {
        check_version("7.0.15").unwrap();
        check_version("6.2.0").unwrap();
        let text = check_version("5.0.14").unwrap_err().to_string();
        assert!(text.contains("version 5.0.14"), "{text}");
    }
}
