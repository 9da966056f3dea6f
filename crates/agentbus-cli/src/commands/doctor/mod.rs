//! `agentbus doctor`: looks at the bus of this machine and says what is wrong.
//!
//! It repairs nothing, takes no lock of a bus and makes no file; a database that is in use is read as
//! SQLite lets its readers. A broker it connects to as every command
//! does that is given its URL, and to the server of a store as a bus does, without making tables.

mod address;
mod carriers;
mod databases;
mod directory;
mod locks;
mod programs;

use std::path::{Path, PathBuf};

use agentbus_transport_ws::credentials;
use serde::Serialize;

use super::serve::server_config;
use crate::args::Serve;
use crate::config::{self, Config, not_kept};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::plain;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Wrong,
}

/// One check and what to do next.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    state: State,
    detail: String,
    /// Empty where there is nothing to do.
    hint: String,
}

impl Check {
    fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Ok,
            detail: detail.into(),
            hint: String::new(),
        }
    }

    fn warning(
        check: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Warning,
            hint: hint.into(),
            ..Self::ok(check, detail)
        }
    }

    fn wrong(check: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state: State::Wrong,
            ..Self::warning(check, detail, hint)
        }
    }

    /// The check as a line. Much of it may be of others: a file, or whoever listens.
    fn line(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Wrong => "wrong",
        };
        let Self {
            check,
            detail,
            hint,
            ..
        } = self;
        let next = match hint.as_str() {
            "" => String::new(),
            hint => format!("; {hint}"),
        };
        plain::line(&format!("{state:9}{check}: {detail}{next}"))
    }
}

/// Looks at what `serve` would use, and at the bus where clients look for it.
pub(crate) async fn doctor(
    serve: Serve,
    transport: Option<String>,
    url: &str,
    file: Option<&Path>,
    output: &Output,
) -> Result<(), Failure> {
    let mut report = Report {
        output,
        checks: Vec::new(),
    };
    let config = configuration(serve, transport, file, &mut report)?;
    match data_dir(&config) {
        None => report.say(Check::wrong(
            "data directory",
            "there is no home directory to have it in",
            "name one with --data-dir",
        ))?,
        Some(path) => {
            report.all(directory::checks(&path))?;
            report.all(databases::checks(&config, &path))?;
            report.all(address::checks(url, &config, &path).await)?;
        }
    }
    report.say(carriers::transport(&config.transport).await)?;
    report.all(carriers::store(&config).await)?;
    report.all(programs::checks(&config))?;
    report.end()
}

/// What was found so far. For people each line is printed as it is found, since some take seconds.
struct Report<'a> {
    output: &'a Output,
    checks: Vec<Check>,
}

impl Report<'_> {
    fn say(&mut self, check: Check) -> Result<(), Failure> {
        if !self.output.is_json() {
            self.output.line(&check.line())?;
        }
        self.checks.push(check);
        Ok(())
    }

    fn all(&mut self, checks: impl IntoIterator<Item = Check>) -> Result<(), Failure> {
        checks.into_iter().try_for_each(|check| self.say(check))
    }

    fn end(self) -> Result<(), Failure> {
        if self.output.is_json() {
            let json = serde_json::to_string(&self.checks);
            let json = json.map_err(|error| Failure::unexpected(error.to_string()))?;
            self.output.line(&json)?;
        }
        let wrong = |check: &&Check| check.state == State::Wrong;
        match (self.checks.iter().filter(wrong).count(), self.checks.len()) {
            (0, _) => Ok(()),
            (wrong, all) => {
                let message = format!("{wrong} of {all} checks found something wrong");
                Err(Failure::new(Exit::Unwell, message))
            }
        }
    }
}

/// Reads the configuration as `serve` would. Where it is wrong, the other checks use the defaults,
/// under what the environment and flags say.
fn configuration(
    serve: Serve,
    transport: Option<String>,
    file: Option<&Path>,
    report: &mut Report<'_>,
) -> Result<Config, Failure> {
    const CHECK: &str = "configuration";
    let source = config::source(file);
    let loaded = config::load(file).and_then(Config::in_this_environment);
    let (config, read) = match loaded {
        Ok(config) => (serve.merge(transport, config), Ok(())),
        Err(failure) => (serve.merge(transport, Config::default()), Err(failure)),
    };
    report.say(match (read, checked(&config), not_kept()) {
        (Err(failure), ..) => Check::wrong(
            CHECK,
            failure.message,
            "mend it; what follows is checked without the file",
        ),
        (_, Err(failure), _) => Check::wrong(CHECK, failure.message, "mend it"),
        (_, _, Some(told)) => Check::warning(CHECK, source, told),
        _ => Check::ok(CHECK, source),
    })?;
    Ok(config)
}

/// What `serve` checks before it starts anything.
fn checked(config: &Config) -> Result<(), Failure> {
    config.check_names()?;
    config.schemas()?;
    server_config(config).map(drop)
}

fn data_dir(config: &Config) -> Option<PathBuf> {
    config.data_dir.clone().or_else(credentials::data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_that_nobody_else_writes() {
        let check = Check::wrong("address", "it says \u{1b}[2J\nok fine", "leave");
        assert_eq!(
            check.line(),
            "wrong    address: it says \\u{1b}[2J\\nok fine; leave"
        );
        assert_eq!(Check::ok("token", "opens").line(), "ok       token: opens");
    }
}
