//! The programs that the configuration has a bus start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::Check;
use crate::config::Config;

/// A program as an entry of the configuration names it.
struct Named<'a> {
    check: String,
    command: &'a str,
    /// The search path that the entry sets for it.
    search: Option<&'a str>,
    directory: Option<&'a Path>,
}

pub(super) fn checks(config: &Config) -> Vec<Check> {
    // A pool that is wrong has been told with the configuration.
    let pools = config.pools().ok().flatten();
    let pools = pools.iter().flat_map(|pools| &pools.pools);
    let pools = pools.map(|pool| Named {
        check: format!("program of the pool {}", pool.id),
        command: &pool.command,
        search: pool.env.get("PATH").map(String::as_str),
        directory: pool.cwd.as_deref(),
    });
    let agents = config.agents.iter().filter_map(|agent| {
        Some(Named {
            check: format!("program of the agent {}", agent.name),
            command: agent.command.first()?,
            search: agent.env.get("PATH").map(String::as_str),
            directory: agent.cwd.as_deref().or(agent.root.as_deref()),
        })
    });
    pools.chain(agents).map(check).collect()
}

fn check(named: Named<'_>) -> Check {
    let Named { check, command, .. } = named;
    if let Some(directory) = named.directory.filter(|path| !path.is_dir()) {
        let detail = format!("its directory {} is not there", directory.display());
        return Check::wrong(check, detail, "make it, or name another");
    }
    let search = named.search.map(OsString::from);
    let search = search.or_else(|| env::var_os("PATH")).unwrap_or_default();
    let places = candidates(command, &search, named.directory);
    let is_there = |path: &&PathBuf| path.is_file();
    if let Some(found) = places.iter().find(|path| runs(path)) {
        return Check::ok(check, found.display().to_string());
    }
    match places.iter().find(is_there) {
        Some(found) => Check::wrong(
            check,
            format!("{} is not executable", found.display()),
            format!("`chmod +x {}`", found.display()),
        ),
        None => Check::wrong(
            check,
            format!("there is no program {command}"),
            "install it, check its spelling and PATH, or give its full path",
        ),
    }
}

fn runs(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// Where the system looks for a program: a name with a slash is a path, from where it runs.
fn candidates(command: &str, search: &OsStr, directory: Option<&Path>) -> Vec<PathBuf> {
    let from = directory.unwrap_or(Path::new(""));
    if command.contains('/') {
        return vec![from.join(command)];
    }
    let places = env::split_paths(search);
    places.map(|place| from.join(place).join(command)).collect()
}
