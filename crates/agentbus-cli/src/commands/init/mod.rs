//! `agentbus init`: enters the bus into the configuration of the MCP hosts on this machine.
//!
//! What would change is shown first, and only an addition is made: everything else in a file stays
//! byte for byte as it was. A copy of the file before lies beside it, from which `--undo` restores.

mod edit;
mod hosts;

use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use agentbus_transport_ws::credentials;
use serde_json::json;

use crate::args::InitArgs;
use crate::failure::{Exit, Failure};
use crate::output::Output;

use hosts::{HOSTS, Host, Variables};

/// The name under which hosts know the bus.
const NAME: &str = "agentbus";

/// What the copy of a file before is called, after the file's own name.
const BEFORE: &str = ".before-agentbus";

/// What is to be done with one file.
struct Change {
    host: &'static Host,
    file: PathBuf,
    before: Option<String>,
    /// None if the file goes away.
    after: Option<String>,
}

/// What leads `agentbus mcp` to another bus than the one of the defaults.
const LEADS: [&str; 2] = ["AGENTBUS_URL", credentials::DATA_DIR_VARIABLE];

pub(crate) fn init(asked: &InitArgs, url: &str, output: &Output) -> Result<(), Failure> {
    let variables = variables(url)?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_dir()).ok_or_else(|| {
        Failure::new(Exit::Configuration, "there is no home directory to look in")
    })?;
    let program =
        std::env::current_exe().map_err(|error| Failure::unexpected(error.to_string()))?;
    let wanted =
        |host: &Host| asked.hosts.is_empty() || asked.hosts.iter().any(|one| one == host.id);
    let unknown = asked
        .hosts
        .iter()
        .find(|one| HOSTS.iter().all(|host| host.id != **one));
    if let Some(unknown) = unknown {
        let known: Vec<_> = HOSTS.iter().map(|host| host.id).collect();
        let known = known.join(", ");
        return Err(Failure::usage(format!(
            "there is no host `{unknown}`; there are {known}"
        )));
    }
    let found = HOSTS
        .iter()
        .filter(|host| wanted(host) && host.is_installed(&home));
    let (mut changes, mut failures) = (Vec::new(), Failures::default());
    for host in found {
        let file = host.file(&home);
        let change = if asked.undo {
            undo(host, &file, &program)
        } else {
            enter(host, &file, &program, &variables)
        };
        match change {
            Ok(Ok(change)) => changes.push(change),
            Ok(Err(why)) => say(output, host, &file, why)?,
            Err(failure) => failures.note(output, host, &file, &failure)?,
        }
    }
    if changes.is_empty() && failures.is_empty() {
        output.note("nothing to change");
    }
    for change in changes {
        match settle(asked, output, &change) {
            Err(failure) if failure.exit != Exit::Usage => {
                failures.note(output, change.host, &change.file, &failure)?;
            }
            settled => settled?,
        }
    }
    failures.into_outcome()
}

/// The hosts that could not be set up; the others are, whatever is wrong with these.
#[derive(Default)]
struct Failures {
    hosts: Vec<&'static str>,
    first: Option<Exit>,
}

impl Failures {
    fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn note(
        &mut self,
        output: &Output,
        host: &'static Host,
        file: &Path,
        failure: &Failure,
    ) -> Result<(), Failure> {
        self.hosts.push(host.name);
        self.first.get_or_insert(failure.exit);
        say(output, host, file, &failure.message)
    }

    fn into_outcome(self) -> Result<(), Failure> {
        let Some(exit) = self.first else {
            return Ok(());
        };
        let hosts = self.hosts.join(", ");
        Err(Failure::new(
            exit,
            format!("not set up: {hosts}; see above"),
        ))
    }
}

/// The variables that lead to this bus, with whole paths: hosts run anywhere.
fn variables(url: &str) -> Result<Variables, Failure> {
    let mut variables = Variables::new();
    let [url_variable, directory_variable] = LEADS;
    if url.trim_end_matches('/') != format!("http://127.0.0.1:{}", agentbus_server::DEFAULT_PORT) {
        variables.insert(url_variable, url.to_owned());
    }
    let directory = std::env::var_os(directory_variable).filter(|value| !value.is_empty());
    if let Some(directory) = directory {
        let whole = std::path::absolute(directory);
        let whole = whole.map_err(|error| Failure::unexpected(error.to_string()))?;
        variables.insert(directory_variable, whole.to_string_lossy().into_owned());
    }
    Ok(variables)
}

/// The variables that an entry was written with.
fn written_with(text: &str) -> Variables {
    let value = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        let rest = rest.trim_start_matches(['"', ' ', ':', '=']);
        // Up to here the two formats differ; a text in double quotes is the same in both.
        let begin = text.len() - rest.len() - 1;
        let mut texts = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<String>();
        texts.next()?.ok()
    };
    let found = LEADS
        .into_iter()
        .filter_map(|name| Some((name, value(name)?)));
    found.collect()
}

/// Shows a change, asks, and makes it.
fn settle(asked: &InitArgs, output: &Output, change: &Change) -> Result<(), Failure> {
    if !output.is_json() {
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        output.line(&format!("{}: {}", change.host.name, change.file.display()))?;
        output.line(&edit::difference(before.unwrap_or(""), after.unwrap_or("")))?;
    }
    if asked.dry_run {
        return say(output, change.host, &change.file, "would change");
    }
    if !asked.yes && !agreed(output)? {
        return say(output, change.host, &change.file, "left as it is");
    }
    write(change, asked.undo)?;
    let done = if asked.undo {
        "restored"
    } else {
        "written; undo with `agentbus init --undo`"
    };
    say(output, change.host, &change.file, done)
}

fn say(output: &Output, host: &Host, file: &Path, what: &str) -> Result<(), Failure> {
    if output.is_json() {
        let line = json!({ "host": host.id, "file": file, "outcome": what });
        return output.line(&line.to_string());
    }
    output.line(&format!("{}: {what}", host.name))
}

fn agreed(output: &Output) -> Result<bool, Failure> {
    if output.is_json() || !io::stdin().is_terminal() {
        let text = "nobody can be asked here; say --yes to write, or --dry-run to look";
        return Err(Failure::usage(text));
    }
    let failed = |error: io::Error| Failure::unexpected(error.to_string());
    let mut terminal = io::stderr();
    write!(terminal, "Write this? [y/N] ")
        .and_then(|()| terminal.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads a file; none if there is none.
fn read(file: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let text = format!("cannot read {}: {error}", file.display());
            Err(Failure::new(Exit::Configuration, text))
        }
    }
}

type Planned = Result<Result<Change, &'static str>, Failure>;

fn enter(host: &'static Host, file: &Path, program: &Path, variables: &Variables) -> Planned {
    let before = read(file)?;
    let entry = host.entry(program, variables);
    let text = before.as_deref().unwrap_or("");
    match host.insert(text, NAME, &entry) {
        Ok(Some(after)) => Ok(Ok(Change {
            host,
            file: file.to_owned(),
            before,
            after: Some(after),
        })),
        Ok(None) => Ok(Err("is set up already")),
        Err(why) => {
            let (name, file) = (host.name, file.display());
            let text = format!(
                "{file} cannot be changed ({why}); add the bus to {name} by hand, as docs/mcp.md shows"
            );
            Err(Failure::new(Exit::Configuration, text))
        }
    }
}

/// Restores a file, unless somebody else has changed it since: that would be lost.
fn undo(host: &'static Host, file: &Path, program: &Path) -> Planned {
    let Some(kept) = read(&copy_of(file))? else {
        return Ok(Err("was not changed by `agentbus init`"));
    };
    let before = read(file)?;
    let variables = before.as_deref().map(written_with).unwrap_or_default();
    let written = host.insert(&kept, NAME, &host.entry(program, &variables));
    if before.is_none() || written != Ok(before.clone()) {
        return Ok(Err(
            "has changed since; take the entry `agentbus` out by hand",
        ));
    }
    // An empty copy stands for no file.
    let after = Some(kept).filter(|text| !text.is_empty());
    Ok(Ok(Change {
        host,
        file: file.to_owned(),
        before,
        after,
    }))
}

fn copy_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(BEFORE);
    file.with_file_name(name)
}

fn write(change: &Change, undo: bool) -> Result<(), Failure> {
    let file = &change.file;
    let failed = |error: io::Error| {
        let text = format!("cannot write {}: {error}", file.display());
        Failure::new(Exit::NotTaken, text)
    };
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let copy = copy_of(file);
    if !undo {
        let before = change.before.as_deref().unwrap_or("");
        replace(&copy, before).map_err(failed)?;
    }
    match &change.after {
        Some(text) => replace(file, text).map_err(failed)?,
        None => std::fs::remove_file(file).map_err(failed)?,
    }
    if undo {
        std::fs::remove_file(copy).map_err(failed)?;
    }
    Ok(())
}

/// Writes a file as a whole or not at all, with the permissions that it had. A link is followed,
/// because what it points to is what the owner keeps.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = file.parent().unwrap_or(Path::new("."));
    let new = directory.join(format!(".agentbus-{}.new", std::process::id()));
    std::fs::write(&new, text)?;
    if let Ok(known) = std::fs::metadata(&file) {
        std::fs::set_permissions(&new, known.permissions())?;
    } else {
        // It may hold what is nobody else's business, such as tokens of other servers.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    }
    std::fs::rename(&new, &file)
}
