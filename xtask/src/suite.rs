//! `cargo xtask test`: every check and every test, and one last line that says how it went.
//!
//! A failing step never stops the ones after it, so one run shows everything. A check counts as
//! one; a step that runs tests counts as its tests. A step that dies without saying how many
//! tests failed counts as one failure, so silence is never taken for success.

mod again;
mod count;
mod room;
mod step;

use std::process::{Command, ExitCode};
use std::time::Instant;

use self::count::Count;
use self::step::{Step, Work};
use crate::failure::Failure;
use crate::services::Running;
use crate::workspace::Workspace;
use crate::{cargo, conformance, layers, measure};

/// Runs all steps; `filters` choose among the tests by name.
///
/// The services that tests need are up while the steps run and are stopped after the last one,
/// however it ended; one that ended on its own is told.
pub(crate) fn run(workspace: &Workspace, filters: &[String]) -> Result<ExitCode, Failure> {
    room::warn(workspace);
    let services = Running::start(workspace)?;
    let temporary = room::temporary()?;
    let mut variables = services.variables.clone();
    variables.push(("TMPDIR", temporary.path().display().to_string()));
    let mut steps = steps(workspace, filters);
    steps.iter_mut().for_each(|step| step.tell(&variables));
    let total = steps.len();
    let mut sum = Count::default();
    for (step, number) in steps.into_iter().zip(1..) {
        println!("\nStep {number} of {total}, {}: {}", step.name, step.work);
        let (name, start) = (step.name, Instant::now());
        let count = step.run(workspace);
        let time = start.elapsed().as_secs_f64();
        println!("Step {number}, {name}: {count} in {time:.1} s");
        sum.add(count);
    }
    services.tell_ended();
    if sum.flaky > 0 {
        println!(
            "\nOf the passed, {} failed at first: look for `flaky:` or `FLAKY` above.",
            sum.flaky
        );
    }
    println!("\n{sum}");
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lists the steps in the order in which they run: the quick ones first.
fn steps(workspace: &Workspace, filters: &[String]) -> Vec<Step> {
    let call = |name, line| Step {
        name,
        work: Work::Call(cargo::line(workspace, line)),
    };
    let check = |name, check| Step {
        name,
        work: Work::Check(name, check),
    };
    let tests = |name, line| Step {
        name,
        work: Work::Tests(filtered(workspace, line, filters)),
    };
    vec![
        call("format", "fmt --all --check"),
        call("lints", "clippy --workspace --all-targets -- -D warnings"),
        check("layers", layers::run),
        check("measure", measure::run),
        call("build", "build --workspace --bins --examples"),
        tests("tests", &runner(workspace)),
        check("conformance mcp", conformance::mcp),
        tests("doc tests", "test --workspace --doc --no-fail-fast --"),
        // The command and the library share the name of their pages; the library's come last.
        docs(
            workspace,
            "docs of the command",
            "doc --no-deps --package agentbus-cli",
        ),
        docs(
            workspace,
            "docs",
            "doc --no-deps --workspace --exclude agentbus-cli",
        ),
    ]
}

/// Longest time that one test program may take. The slowest needs minutes on a busy machine; one that
/// hangs must not take the whole run with it.
const PROGRAM_SECONDS: &str = "1200";

/// Chooses the test runner: nextest when it is installed, cargo's own otherwise.
///
/// Cargo's own leaves benches out: a bench without the test harness prints no result.
fn runner(workspace: &Workspace) -> String {
    // In the foreground, so that Ctrl-C reaches the programs.
    let guard =
        format!("target.'cfg(all())'.runner=['timeout','--foreground','{PROGRAM_SECONDS}']");
    let call = if cargo::has(workspace, "nextest") {
        "nextest run --workspace --no-fail-fast --no-tests pass --retries 1"
    } else {
        "test --workspace --lib --bins --tests --examples --no-fail-fast --"
    };
    format!("--config {guard} {call}")
}

/// Prepares a test run that the filters narrow.
fn filtered(workspace: &Workspace, line: &str, filters: &[String]) -> Command {
    let mut command = cargo::line(workspace, line);
    command.args(filters);
    command
}

/// Prepares a step that builds documentation and takes a warning for a failure.
fn docs(workspace: &Workspace, name: &'static str, line: &str) -> Step {
    let mut command = cargo::line(workspace, line);
    command.env("RUSTDOCFLAGS", "-D warnings");
    Step {
        name,
        work: Work::Call(command),
    }
}

#[cfg(test)]
mod tests;
