//! `cargo xtask soak`: runs a long test for as long as is wanted.
//!
//! The same test runs for a few seconds in the suite; only its time differs.

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// How long a soak runs when nothing is said.
const SECONDS: u32 = 300;

/// The soaks: name, package, test binary and test.
const SOAKS: &[(&str, &str, &str, &str)] = &[
    ("chat", "agentbus-server", "chat", "soak::"),
    ("stdio", "agentbus-cli", "pools", "soak::"),
];

/// Runs the named soak.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let (name, seconds) = read(arguments)?;
    let Some((_, package, binary, test)) = SOAKS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = SOAKS.iter().map(|(name, ..)| *name).collect();
        return Err(Failure::new(format!(
            "there is no soak named {name:?}; there is {}",
            known.join(", ")
        )));
    };
    cargo::run(cargo::command(
        workspace,
        &["build", "--package", package, "--examples"],
    ))?;
    let call = [
        "test",
        "--package",
        package,
        "--test",
        binary,
        "--",
        test,
        "--nocapture",
    ];
    let mut command = cargo::command(workspace, &call);
    command.env("AGENTBUS_SOAK_S", seconds.to_string());
    println!("Soaking {name} for {seconds} seconds.");
    cargo::run(command)
}

/// Reads the name and, if it is there, the time.
fn read(arguments: &[String]) -> Result<(&str, u32), Failure> {
    let wrong = || Failure::new("soak takes a name and, if you like, seconds, such as `stdio 60`");
    match arguments {
        [name] => Ok((name, SECONDS)),
        [name, seconds] => Ok((name, seconds.parse().map_err(|_| wrong())?)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn check(arguments: &[&str], expect: Option<(&str, u32)>) {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(read(&arguments).ok(), expect);
    }

    #[test]
    fn a_name_is_needed_and_the_time_is_not() {
        check(&["stdio"], Some(("stdio", 300)));
        check(&["stdio", "5"], Some(("stdio", 5)));
        check(&["stdio", "soon"], None);
        check(&[], None);
    }
}
