//! `agentbus agent`: the `[[agents]]` of the configuration file.
//!
//! The file is its owner's: comments and order stay. What is written is read again first, and the
//! file is left alone unless it says exactly what it should.

use std::path::{Path, PathBuf};

use agentbus_acp::{AgentConfig, Policy};

use crate::args::AgentVerb;
use crate::config::{Config, DEFAULT_FILE, check_target, parse};
use crate::failure::{Exit, Failure};
use crate::output::Output;

pub(crate) fn agent(verb: AgentVerb, named: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = read(path)?;
    let config = parse(path, &text)?;
    match verb {
        AgentVerb::List => list(path, &config, output),
        AgentVerb::Add {
            name,
            root,
            policy,
            command,
        } => {
            let mut agent = AgentConfig::new(name, command);
            agent.root = root.as_deref().map(absolute).transpose()?;
            agent.policy = match policy.as_str() {
                "allow-once" => Policy::AllowOnce,
                "deny" => Policy::Deny,
                _ => Policy::Ask,
            };
            add(path, &text, config, agent, output)
        }
        AgentVerb::Remove { name } => remove(path, &text, config, &name, output),
    }
}

fn list(path: &Path, config: &Config, output: &Output) -> Result<(), Failure> {
    if config.agents.is_empty() {
        output.note(&format!("{} has no agents", path.display()));
    }
    for agent in &config.agents {
        if output.is_json() {
            let json = serde_json::to_string(agent);
            output.line(&json.map_err(|error| Failure::unexpected(error.to_string()))?)?;
        } else {
            output.line(&format!("{}  {}", agent.name, agent.command.join(" ")))?;
        }
    }
    Ok(())
}

fn add(
    path: &Path,
    text: &str,
    mut config: Config,
    agent: AgentConfig,
    output: &Output,
) -> Result<(), Failure> {
    agent
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    let name = agent.name.clone();
    check_target(&name).map_err(|why| Failure::usage(format!("{why}; choose another name")))?;
    if config
        .pools
        .iter()
        .any(|pool| pool.get("id").and_then(|id| id.as_str()) == Some(&name))
    {
        return Err(Failure::usage(format!(
            "{} has a pool `{name}`, and both would be the same target; choose another name",
            path.display()
        )));
    }
    if config.agents.iter().any(|known| known.name == name) {
        return Err(Failure::usage(format!(
            "{} has an agent `{name}` already; remove it first, or choose another name",
            path.display()
        )));
    }
    let block = toml::to_string(&agent).map_err(|error| Failure::unexpected(error.to_string()))?;
    // Settings at their default say nothing.
    let block: String = block
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| *line != "bus_tools = true")
        .map(|line| format!("{line}\n"))
        .collect();
    let before = text.trim_end();
    let gap = if before.is_empty() { "" } else { "\n\n" };
    config.agents.push(agent);
    write(path, &format!("{before}{gap}[[agents]]\n{block}"), &config)?;
    output.line(&format!("added {name} to {}", path.display()))?;
    output.note(&format!(
        "start it with `agentbus serve --config {}`, then `agentbus invoke --stream {name} \'\"hello\"\'`",
        path.display()
    ));
    Ok(())
}

fn remove(
    path: &Path,
    text: &str,
    mut config: Config,
    name: &str,
    output: &Output,
) -> Result<(), Failure> {
    let Some(at) = config.agents.iter().position(|agent| agent.name == name) else {
        return Err(Failure::usage(format!(
            "{} has no agent `{name}`",
            path.display()
        )));
    };
    config.agents.remove(at);
    write(path, &without_block(text, at), &config)?;
    output.line(&format!("removed {name} from {}", path.display()))
}

/// The text without its agent of this number: from its header to the next header that is not a
/// table of it.
fn without_block(text: &str, at: usize) -> String {
    let header = |line: &str| line.trim_start().starts_with("[[agents]]");
    let (mut seen, mut inside) = (0, false);
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        if header(line) {
            inside = seen == at;
            seen += 1;
        } else if line.starts_with('[') && !line.starts_with("[agents.") {
            inside = false;
        }
        if !inside {
            kept.push_str(line);
        }
    }
    kept
}

/// Writes the file if it then says what the configuration says.
fn write(path: &Path, text: &str, wanted: &Config) -> Result<(), Failure> {
    let same = parse(path, text)
        .ok()
        .and_then(|read| toml::to_string(&read).ok());
    if same.is_none() || same != toml::to_string(wanted).ok() {
        return Err(Failure::new(
            Exit::Configuration,
            format!(
                "{} is written in a way that only you can change; edit its [[agents]] by hand",
                path.display()
            ),
        ));
    }
    // In one step, so that nobody ever reads half of it.
    let fresh = path.with_extension("toml.new");
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| {
            let message = format!("cannot write {}: {error}", path.display());
            Failure::new(Exit::Configuration, message)
        })
}

fn read(path: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Failure::new(Exit::Configuration, message))
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        let path = path.display();
        Failure::usage(format!(
            "--root {path}: {why}; name a directory that is there"
        ))
    };
    let root = path.canonicalize().map_err(|error| refused(&error))?;
    match root.is_dir() {
        true => Ok(root),
        false => Err(refused(&"is no directory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(path: &Path, words: &[&str]) -> Result<(), String> {
        use clap::Parser;
        let words = ["agentbus", "agent"]
            .into_iter()
            .chain(words.iter().copied());
        let args = crate::args::Args::parse_from(words);
        let crate::args::Command::Agent(verb) = args.command else {
            panic!("another command");
        };
        agent(verb, Some(path), &Output::new(true)).map_err(|failure| failure.message)
    }

    #[test]
    fn agents_come_and_go_and_the_rest_of_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbus.toml");
        let before = "# mine\nlog = \"warn\" # quiet\n";
        std::fs::write(&path, before).unwrap();
        run(&path, &["add", "one", "--", "npx", "-y", "agent"]).unwrap();
        run(
            &path,
            &["add", "two", "--policy", "deny", "--root", "/", "--", "cat"],
        )
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let block = "[[agents]]\nname = \"one\"\ncommand = [\"npx\", \"-y\", \"agent\"]\npolicy = \"ask\"\n";
        assert!(text.starts_with(before) && text.contains(block), "{text}");
        let config = parse(&path, &text).unwrap();
        assert_eq!(
            (config.agents[1].policy, config.log.as_str()),
            (Policy::Deny, "warn")
        );
        let twice = run(&path, &["add", "two", "--", "cat"]).unwrap_err();
        assert!(twice.contains("has an agent `two` already"), "{twice}");
        for (words, says) in [
            (&["add", "my agent", "--", "cat"][..], "choose another name"),
            (&["add", "agentbus.agents", "--", "cat"], "the bus's own"),
            (
                &["add", "x", "--root", "/no/such", "--", "cat"],
                "--root /no/such: ",
            ),
            (
                &["add", "x", "--root", "/dev/null", "--", "cat"],
                "is no directory",
            ),
        ] {
            let refused = run(&path, words).unwrap_err();
            assert!(refused.contains(says), "{words:?}: {refused}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        run(&path, &["remove", "one"]).unwrap();
        assert!(run(&path, &["remove", "one"]).is_err());
        run(&path, &["remove", "two"]).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().trim_end(),
            before.trim_end()
        );
    }

    #[test]
    fn the_name_of_a_pool_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbus.toml");
        std::fs::write(&path, "[[pools]]\nid = \"one\"\ncommand = \"cat\"\n").unwrap();
        let taken = run(&path, &["add", "one", "--", "cat"]).unwrap_err();
        assert!(taken.contains("has a pool `one`"), "{taken}");
        run(&path, &["add", "two", "--", "cat"]).unwrap();
    }

    #[test]
    fn a_file_that_is_written_otherwise_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agentbus.toml");
        let inline = "agents = [{ name = \"one\", command = [\"cat\"] }]\n";
        std::fs::write(&path, inline).unwrap();
        for words in [&["remove", "one"][..], &["add", "two", "--", "cat"]] {
            assert!(
                run(&path, words).unwrap_err().contains("by hand"),
                "{words:?}"
            );
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), inline);
    }
}
