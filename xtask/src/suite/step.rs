//! One step: a check of ours, a call of cargo, or a call of cargo that runs tests.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use super::again::Failed;
use super::count::Count;
use crate::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// A named step.
pub(super) struct Step {
    /// What reports call it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) work: Work,
}

/// What a step does, and so how it is counted.
pub(super) enum Work {
    /// A check of this tool, with the name of its command; counts as one.
    Check(&'static str, fn(&Workspace) -> Result<(), Failure>),
    /// A call that passes or fails as a whole; counts as one.
    Call(Command),
    /// A call that runs tests; counts as the tests it reports.
    Tests(Command),
}

impl Step {
    /// Sets environment variables for what the step calls.
    pub(super) fn tell(&mut self, variables: &[(&'static str, String)]) {
        if let Work::Tests(command) = &mut self.work {
            command.envs(variables.iter().map(|(name, value)| (name, value)));
        }
    }

    /// Runs the step on the terminal of the caller and counts its result.
    pub(super) fn run(self, workspace: &Workspace) -> Count {
        let result = match self.work {
            Work::Check(_, check) => check(workspace).map(|()| Count::of_check(true)),
            Work::Call(command) => cargo::run(command).map(|()| Count::of_check(true)),
            Work::Tests(command) => run_tests(command, workspace),
        };
        result.unwrap_or_else(|failure| {
            eprintln!("error: {failure}");
            Count::of_check(false)
        })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(name, _) => write!(f, "cargo xtask {name}"),
            Self::Call(command) | Self::Tests(command) => f.write_str(&cargo::show(command)),
        }
    }
}

/// Runs tests, and those few that failed once more.
fn run_tests(mut command: Command, workspace: &Workspace) -> Result<Count, Failure> {
    let (first, failed) = watch(&mut command)?;
    let Some(mut again) = failed.call(first, workspace, &command) else {
        return Ok(first);
    };
    println!("\nRun again, since few failed: {}", cargo::show(&again));
    let (second, _) = watch(&mut again)?;
    Ok(failed.settle(first, second))
}

/// Runs a test runner, passes its lines on as they come, and reads what they report.
fn watch(command: &mut Command) -> Result<(Count, Failed), Failure> {
    let broken = |error: std::io::Error| Failure::new(format!("cannot run the tests: {error}"));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let errors = child.stderr.take();
    let reader = thread::spawn(move || tee(errors, std::io::stderr()));
    let (mut count, mut failed) = tee(child.stdout.take(), std::io::stdout());
    let (told, hints) = reader.join().unwrap_or_default();
    count.add(told);
    failed.add(hints);
    let status = child.wait().map_err(broken)?;
    Ok((count.settle(status.success()), failed))
}

/// Copies lines from a child to the terminal and reads the count, and what failed, off them.
///
/// Lines need not be text; a terminal that has gone away does not stop the count.
pub(super) fn tee(from: Option<impl Read>, mut to: impl Write) -> (Count, Failed) {
    let (mut count, mut failed) = (Count::default(), Failed::default());
    let Some(from) = from else {
        return (count, failed);
    };
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let text = String::from_utf8_lossy(&line);
        count.read_line(&text);
        failed.read_line(&text);
        to.write_all(&line).and_then(|()| to.write_all(b"\n")).ok();
    }
    (count, failed)
}
