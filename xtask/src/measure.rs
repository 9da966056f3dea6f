//! `cargo xtask measure`: the shape of the production code, in numbers.
//!
//! Short functions, small files and documentation where strangers read are house rules; this is
//! their check. Files of tests, benches and examples do not count, nor do inline test modules.

mod limits;
mod tape;

use crate::failure::Failure;
use crate::source::Source;
use crate::workspace::{Package, Workspace};

use self::tape::Tape;

/// The crates strangers read; all others are internal.
const PUBLIC: &[&str] = &["agentbus", "agentbus-protocol", "agentbus-transport"];

/// Measures every crate and the tooling, prints the table, and fails past a limit.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut all = Tape::default();
    let (mut public, mut internal) = (Tape::default(), Tape::default());
    println!("{}", tape::HEADER);
    for package in workspace
        .packages()
        .iter()
        .filter(|package| is_measured(package))
    {
        let tape = measure(&workspace.sources(package)?);
        println!("{}", tape.row(&package.name));
        all.add(&tape);
        let kind = if is_public(package) {
            &mut public
        } else {
            &mut internal
        };
        kind.add(&tape);
    }
    println!("{}", public.row("public crates"));
    println!("{}", internal.row("internal crates"));
    println!("{}", all.row("all"));
    Failure::unless_empty("the code is past its limits", &limits::check(&all))
}

/// Measures the files of one crate.
fn measure(sources: &[Source]) -> Tape {
    let mut tape = Tape::default();
    sources.iter().for_each(|source| tape.read(source));
    tape
}

/// Tells whether a member is production code: a crate of the house or this tool.
fn is_measured(package: &Package) -> bool {
    package.folder.starts_with("crates") || package.name == "xtask"
}

/// Tells whether strangers read a crate.
fn is_public(package: &Package) -> bool {
    PUBLIC.contains(&package.name.as_str())
}

#[cfg(test)]
mod tests;
