//! Each check against manifests, trees and sources held in memory.

use std::path::{Path, PathBuf};

use super::{Layer, arrows, bounds, purity};
use crate::source::Source;
use crate::workspace::Package;

#[test]
fn the_table_knows_exact_names_and_families() {
    assert_eq!(Layer::of("agentbus-transport"), Some(Layer::Transport));
    assert_eq!(Layer::of("agentbus-transport-nats"), Some(Layer::Carrier));
    assert_eq!(Layer::of("agentbus"), Some(Layer::Bus));
    assert_eq!(Layer::of("agentbus-new"), None);
}

/// Checks manifests, given as name and text after the package section.
fn check_arrows(crates: &[(&str, &str)], expect: &[&str]) {
    let root = "[workspace.dependencies]\nrenamed = { package = 'agentbus-server', path = 'x' }";
    let packages: Vec<Package> = crates
        .iter()
        .map(|(name, manifest)| Package {
            name: (*name).to_owned(),
            folder: PathBuf::from(name),
            manifest: manifest.parse().unwrap(),
        })
        .collect();
    assert_eq!(arrows::check(&root.parse().unwrap(), &packages), expect);
}

const UP: &str = "agentbus, bus (layer 3), depends on agentbus-server, host (layer 6); a dependency must point down";

#[test]
fn arrows_down_and_foreign_crates_pass() {
    let protocol = ("agentbus-protocol", "[dependencies]\nserde = '1'");
    check_arrows(
        &[
            protocol,
            ("agentbus", "[dependencies]\nagentbus-protocol = '1'"),
        ],
        &[],
    );
}

#[test]
fn arrows_up_fail_in_every_shipping_section() {
    let server = ("agentbus-server", "");
    for manifest in [
        "[dependencies]\nagentbus-server.workspace = true",
        "[build-dependencies]\nagentbus-server = '1'",
        "[target.'cfg(unix)'.dependencies]\nagentbus-server = '1'",
        "[dependencies]\nhost = { package = 'agentbus-server', path = '..' }",
        "[dependencies]\nrenamed.workspace = true",
    ] {
        check_arrows(&[server, ("agentbus", manifest)], &[UP]);
    }
}

#[test]
fn dev_dependencies_are_exempt() {
    let manifest = "[dev-dependencies]\nagentbus-server = '1'";
    check_arrows(&[("agentbus-server", ""), ("agentbus", manifest)], &[]);
}

#[test]
fn two_gateways_or_two_carriers_never_meet() {
    let gateway = "agentbus-acp, gateway (layer 5), depends on agentbus-mcp, gateway (layer 5); \
                   a dependency must point down";
    let acp = ("agentbus-acp", "[dependencies]\nagentbus-mcp = '1'");
    check_arrows(&[("agentbus-mcp", ""), acp], &[gateway]);
    let carrier = "agentbus-transport-ws, carrier (layer 2), depends on agentbus-transport-nats, \
                   carrier (layer 2); a dependency must point down";
    let ws = (
        "agentbus-transport-ws",
        "[dependencies]\nagentbus-transport-nats = '1'",
    );
    check_arrows(&[("agentbus-transport-nats", ""), ws], &[carrier]);
}

#[test]
fn an_unknown_crate_is_told_where_to_go() {
    let sentence = "agentbus-new has no layer; add it to `TABLE` in xtask/src/layers.rs";
    check_arrows(&[("agentbus-new", "")], &[sentence]);
}

fn check_purity(tree: &str, expect: &[&str]) {
    let expect: Vec<String> = expect
        .iter()
        .map(|name| {
            format!(
                "agentbus-protocol pulls in {name}; it must know no runtime, clock or randomness"
            )
        })
        .collect();
    assert_eq!(purity::check(tree), expect);
}

#[test]
fn impure_crates_are_found_anywhere_in_the_tree() {
    check_purity(
        "agentbus-protocol v0.1.0 (/x)\nbytes v1.12.0\nserde v1.0.0 (*)\n",
        &[],
    );
    check_purity(
        "bytes v1.12.0\ntokio v1.54.0\n\ntokio v1.54.0 (*)\n",
        &["tokio"],
    );
    check_purity(
        "rand_core v0.9.0\nasync-io v2.0.0\n",
        &["async-io", "rand_core"],
    );
    check_purity("timeless v1.0.0\nrandom-name v1.0.0\n", &[]);
}

fn check_bounds(package: &str, text: &str, expect: &[&str]) {
    let source = Source::parse(Path::new("src/x.rs"), text.to_owned()).unwrap();
    assert_eq!(bounds::check(package, &source), expect);
}

const SPAWN: &str = "only agentbus-process starts processes, by argv and never through a shell";

#[test]
fn starting_a_process_is_bound() {
    let names = |path: &str| format!("src/x.rs:1 names {path}; {SPAWN}");
    let text = "use std::process::{Command, ExitCode};";
    check_bounds("agentbus-server", text, &[&names("std::process::Command")]);
    check_bounds("agentbus-process", text, &[]);
    let text = "fn a() { tokio::process::Child::id() }";
    check_bounds("agentbus-cli", text, &[&names("tokio::process::Child::id")]);
    check_bounds("agentbus-cli", "fn a() { std::process::exit(1) }", &[]);
    check_bounds("agentbus-cli", "use agentbus_process::Command;", &[]);
    check_bounds(
        "agentbus-cli",
        "#[cfg(test)]\nuse std::process::Command;",
        &[],
    );
}

#[test]
fn the_protocol_crate_reads_no_clock_and_no_file() {
    let clock = "src/x.rs:1 names std::time::Instant::now; time and randomness are passed in";
    let text = "fn a() { std::time::Instant::now(); }";
    check_bounds("agentbus-protocol", text, &[clock]);
    check_bounds("agentbus", text, &[]);
    let file = "src/x.rs:1 names std::fs; the protocol crate does no I/O";
    check_bounds("agentbus-protocol", "use std::fs;", &[file]);
}
