//! `cargo xtask crash`: the crash tests of the carriers, with as many seeded runs as are wanted.
//!
//! The same tests make a few runs in the suite; only their number differs.

use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// How many runs each carrier gets when nothing is said.
const RUNS: u32 = 200;

/// The carriers and their packages; each has a test binary `crash`.
const CARRIERS: &[(&str, &str)] = &[
    ("SQLite", "agentbus-transport-sqlite"),
    ("JetStream", "agentbus-transport-nats"),
];

/// Which of a binary's tests makes the runs; the others are the processes that it kills.
const TEST: &str = "nothing_acknowledged_is_lost";

/// Makes the runs, one carrier after the other.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let runs = read(arguments)?;
    for (name, package) in CARRIERS {
        let call = ["test", "--package", package, "--test", "crash", "--", TEST];
        let mut command = cargo::command(workspace, &call);
        command.env("AGENTBUS_CRASH_RUNS", runs.to_string());
        println!("Killing the processes of {name} in {runs} seeded runs.");
        cargo::run(command)?;
    }
    Ok(())
}

/// Reads the number of runs, if it is there.
fn read(arguments: &[String]) -> Result<u32, Failure> {
    let wrong = || Failure::new("crash takes a number of runs, if you like, such as `20`");
    match arguments {
        [] => Ok(RUNS),
        [runs] => match runs.parse::<u32>() {
            Ok(runs @ 1..) => Ok(runs),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn check(arguments: &[&str], expect: Option<u32>) {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(read(&arguments).ok(), expect);
    }

    #[test]
    fn a_number_of_runs_may_be_given() {
        check(&[], Some(200));
        check(&["5"], Some(5));
        check(&["0"], None);
        check(&["many"], None);
        check(&["5", "6"], None);
    }
}
