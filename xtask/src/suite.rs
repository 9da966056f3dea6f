//! `cargo xtask test`: every check and every test, and one last line that says how it went.
//!
//! A failing step never stops the ones after it, so one run shows everything. A check counts as
//! one; a step that runs tests counts as its tests. A step that dies without saying how many
//! tests failed counts as one failure, so silence is never taken for success.

mod count;
mod step;

use std::process::{Command, ExitCode};
use std::time::Instant;

use self::count::Count;
use self::step::{Step, Work};
use crate::failure::Failure;
use crate::workspace::Workspace;
use crate::{cargo, layers, measure};

/// The package of the `agentbus` command.
const COMMAND: &str = "agentbus-cli";

/// Runs all steps; `filters` choose among the tests by name.
pub(crate) fn run(workspace: &Workspace, filters: &[String]) -> Result<ExitCode, Failure> {
    let steps = steps(workspace, filters);
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
    println!("\n{sum}");
    Ok(if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lists the steps in the order in which they run: the quick ones first.
fn steps(workspace: &Workspace, filters: &[String]) -> Vec<Step> {
    let call = |arguments: &[&str]| cargo::command(workspace, arguments);
    let check = |name, arguments: &[&str]| Step {
        name,
        work: Work::Call(call(arguments)),
    };
    let docs = |scope: &[&str]| {
        let mut command = call(&["doc", "--no-deps"]);
        command.args(scope).env("RUSTDOCFLAGS", "-D warnings");
        Work::Call(command)
    };
    let mut doc_tests = call(&["test", "--workspace", "--doc", "--no-fail-fast", "--"]);
    doc_tests.args(filters);
    vec![
        check("format", &["fmt", "--all", "--check"]),
        check(
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
        Step {
            name: "layers",
            work: Work::Check("layers", layers::run),
        },
        Step {
            name: "measure",
            work: Work::Check("measure", measure::run),
        },
        check("build", &["build", "--workspace", "--bins", "--examples"]),
        Step {
            name: "tests",
            work: Work::Tests(tests(workspace, filters)),
        },
        Step {
            name: "doc tests",
            work: Work::Tests(doc_tests),
        },
        // The command and the library share the name of their pages; the library's come last.
        Step {
            name: "docs of the command",
            work: docs(&["--package", COMMAND]),
        },
        Step {
            name: "docs",
            work: docs(&["--workspace", "--exclude", COMMAND]),
        },
    ]
}

/// Chooses the test runner: nextest when it is installed, cargo's own otherwise.
///
/// Cargo's own leaves benches out: a bench without the test harness prints no result.
fn tests(workspace: &Workspace, filters: &[String]) -> Command {
    let nextest = [
        "nextest",
        "run",
        "--workspace",
        "--no-fail-fast",
        "--no-tests",
        "pass",
    ];
    let own = [
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--examples",
        "--no-fail-fast",
        "--",
    ];
    let arguments: &[&str] = if cargo::has(workspace, "nextest") {
        &nextest
    } else {
        &own
    };
    let mut command = cargo::command(workspace, arguments);
    command.args(filters);
    command
}

#[cfg(test)]
mod tests;
