//! What can be chosen when a log is opened, in code or in the URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentbus_transport::TransportError;

use crate::limits;

/// Where the log is and how long it keeps what it has.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) path: PathBuf,
    pub(crate) retention: Retention,
    pub(crate) clock: Clock,
}

/// What is kept.
///
/// Age and number apply to messages that every durable subscription has settled; what one still
/// has to see stays. The size applies to all: when it is reached and nothing may be forgotten,
/// publishes fail, and nothing that was acknowledged is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Settled messages are forgotten at this age.
    pub age: Duration,
    /// Settled messages beyond this number are forgotten, the oldest first.
    pub messages: u64,
    /// The largest size of the log in bytes.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: limits::RETAIN_AGE,
            messages: limits::RETAIN_MESSAGES,
            bytes: limits::RETAIN_BYTES,
        }
    }
}

/// Where the wall-clock time comes from.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        unix_ms((self.0)())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A time as milliseconds since 1970; times before that count as 1970.
pub(crate) fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

/// A span in milliseconds, as far as SQLite can hold it.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Options {
    /// A log in this file, with the default retention.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            retention: Retention::default(),
            clock: Clock(Arc::new(SystemTime::now)),
        }
    }

    /// Sets what is kept.
    #[must_use]
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Takes the wall-clock time from elsewhere; for tests.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock(Arc::new(clock));
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `sqlite://PATH[?retain_age=7d&retain_messages=N&retain_bytes=4GiB]`. `PATH` is taken
    /// as it is: `sqlite://bus.db` is in the working directory, `sqlite:///var/bus.db` is not.
    ///
    /// # Errors
    /// Fails with a sentence that shows the right form.
    pub fn from_url(url: &str) -> Result<Self, TransportError> {
        let rest = url.strip_prefix("sqlite://").ok_or_else(|| {
            let path = url.strip_prefix("sqlite:").unwrap_or("bus.db");
            wrong(format!(
                "`{url}` is no sqlite URL; write sqlite://{path} for a path in the working directory, sqlite:///path for one from the root"
            ))
        })?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        check_path(url, path)?;
        let mut options = Self::new(path);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            options.set(option)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<(), TransportError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let retention = &mut self.retention;
        let read = match name {
            "retain_age" => read_age(value).map(|age| retention.age = age),
            "retain_messages" => value.parse().ok().map(|count| retention.messages = count),
            "retain_bytes" => read_bytes(value).map(|bytes| retention.bytes = bytes),
            _ => {
                return Err(wrong(format!(
                    "the sqlite transport has no option `{name}`; it has retain_age, retain_messages and retain_bytes"
                )));
            }
        };
        read.ok_or_else(|| {
            wrong(format!(
                "`{option}` cannot be read; write for example retain_age=7d, retain_messages=1000000 or retain_bytes=1GiB (at least 1MiB)"
            ))
        })
    }
}

fn check_path(url: &str, path: &str) -> Result<(), TransportError> {
    match path {
        "" | "/" => Err(wrong(format!(
            "`{url}` names no file; write sqlite://bus.db for one in the working directory, sqlite:///var/lib/agentbus/bus.db for one from the root"
        ))),
        ":memory:" => Err(wrong(
            "a log in memory would promise what it cannot keep; use memory:// instead".to_owned(),
        )),
        path if path.starts_with('~') => Err(wrong(format!(
            "`{url}`: `~` means something to the shell only; write the whole path, sqlite:///home/…"
        ))),
        path if path.ends_with('/') => Err(wrong(format!(
            "`{url}` names a directory; name a file in it, {url}bus.db"
        ))),
        _ => Ok(()),
    }
}

fn wrong(sentence: String) -> TransportError {
    TransportError::Address(sentence)
}

/// Reads `90s`, `15m`, `12h` or `7d`.
fn read_age(text: &str) -> Option<Duration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(seconds)?))
}

/// Reads `1048576`, `64MiB` or `4GiB`.
fn read_bytes(text: &str) -> Option<u64> {
    let (number, unit) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
        (Some(number), _) => (number, 1 << 20),
        (_, Some(number)) => (number, 1 << 30),
        _ => (text, 1),
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (bytes >= limits::RETAIN_BYTES_MIN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, path: &str) {
        assert_eq!(Options::from_url(url).unwrap().path(), Path::new(path));
    }

    fn refused(url: &str, hint: &str) {
        let error = Options::from_url(url).unwrap_err().to_string();
        assert!(error.contains(hint), "{url}: {error}");
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        check("sqlite://bus.db", "bus.db");
        check("sqlite://./data/bus.db", "./data/bus.db");
        check(
            "sqlite:///var/lib/a b/bus.db?retain_age=1h",
            "/var/lib/a b/bus.db",
        );
    }

    #[test]
    fn a_wrong_form_is_answered_with_the_right_one() {
        refused("sqlite://", "sqlite:///var/lib/agentbus/bus.db");
        refused("sqlite:bus.db", "sqlite://bus.db");
        refused("sqlite://:memory:", "memory://");
        refused("sqlite://~/bus.db", "sqlite:///home/");
        refused("sqlite:///var/", "sqlite:///var/bus.db");
        refused("sqlite://x?keep=1", "retain_age");
        refused("sqlite://x?retain_age=soon", "retain_age=7d");
        refused("sqlite://x?retain_bytes=12", "at least 1MiB");
    }

    #[test]
    fn options_are_read() {
        let url = "sqlite://x?retain_age=12h&retain_messages=5&retain_bytes=2GiB";
        let expected = Retention {
            age: Duration::from_secs(12 * 3600),
            messages: 5,
            bytes: 2 << 30,
        };
        assert_eq!(Options::from_url(url).unwrap().retention, expected);
    }
}
