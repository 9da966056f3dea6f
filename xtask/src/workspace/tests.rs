//! A small workspace on disk, opened and searched.

use std::fs;
use std::path::Path;

use super::Workspace;

/// Writes the files below a fresh folder and returns what `inspect` says about the workspace.
fn check(files: &[(&str, &str)], inspect: impl Fn(&Workspace) -> Vec<String>, expect: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, text).unwrap();
    }
    let workspace = Workspace::open_at(folder.path()).unwrap();
    assert_eq!(inspect(&workspace), expect);
}

fn names(workspace: &Workspace) -> Vec<String> {
    workspace
        .packages()
        .iter()
        .map(|package| package.name.clone())
        .collect()
}

fn sources(workspace: &Workspace) -> Vec<String> {
    let sources = workspace.sources(&workspace.packages()[0]).unwrap();
    sources
        .iter()
        .map(|source| source.path().display().to_string())
        .collect()
}

const ROOT: (&str, &str) = ("Cargo.toml", "[workspace]\nmembers = ['crates/*', 'tool']");

#[test]
fn members_come_from_patterns_and_names() {
    let files = [
        ROOT,
        ("crates/b/Cargo.toml", "[package]\nname = 'agentbus-b'"),
        ("crates/a/Cargo.toml", "[package]\nname = 'agentbus-a'"),
        ("crates/empty/notes.txt", ""),
        ("tool/Cargo.toml", "[package]\nname = 'tool'"),
    ];
    check(&files, names, &["agentbus-a", "agentbus-b", "tool"]);
}

#[test]
fn production_sources_leave_tests_out() {
    let files = [
        ROOT,
        ("crates/a/Cargo.toml", "[package]\nname = 'agentbus-a'"),
        ("crates/a/src/lib.rs", "mod x;\n#[cfg(test)]\nmod fixtures;"),
        ("crates/a/src/fixtures.rs", ""),
        ("crates/a/src/x.rs", "#[cfg(test)] mod samples;"),
        ("crates/a/src/x/samples.rs", ""),
        ("crates/a/src/x/tests.rs", ""),
        ("crates/a/src/tests/deep.rs", ""),
        ("crates/a/src/x/y.rs", ""),
        ("tool/Cargo.toml", "[package]\nname = 'tool'"),
    ];
    check(
        &files,
        sources,
        &[
            "crates/a/src/lib.rs",
            "crates/a/src/x/y.rs",
            "crates/a/src/x.rs",
        ],
    );
}
