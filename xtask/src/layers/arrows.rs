//! Arrows between the crates of the workspace, read from their manifests.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Layer;
use crate::workspace::Package;

/// The sections whose crates end up in what we ship.
const SECTIONS: [&str; 2] = ["dependencies", "build-dependencies"];

/// Returns a sentence for each crate without a layer and each arrow that does not point down.
pub(super) fn check(root: &Table, packages: &[Package]) -> Vec<String> {
    let members: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut findings = Vec::new();
    for package in packages {
        let Some(layer) = Layer::of(&package.name) else {
            findings.push(unknown(&package.name));
            continue;
        };
        let used = dependencies(root, &package.manifest);
        let used = used.iter().filter(|name| members.contains(name.as_str()));
        findings.extend(used.filter_map(|name| upward(&package.name, layer, name)));
    }
    findings
}

/// Says where a crate without a layer is to be entered.
fn unknown(name: &str) -> String {
    format!("{name} has no layer; add it to `TABLE` in xtask/src/layers.rs")
}

/// Describes an arrow that does not point to a strictly lower layer.
fn upward(from: &str, layer: Layer, to: &str) -> Option<String> {
    // A target without a layer has its own finding.
    let target = Layer::of(to)?;
    (target >= layer).then(|| {
        format!("{from}, {layer}, depends on {to}, {target}; a dependency must point down")
    })
}

/// Collects the package names a manifest depends on, those of target sections included.
fn dependencies(root: &Table, manifest: &Table) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let sections = tables.flat_map(|table| SECTIONS.map(|section| table.get(section)));
    let entries = sections.flatten().filter_map(Value::as_table).flatten();
    entries
        .map(|(key, value)| package_name(root, key, value))
        .collect()
}

/// Resolves a dependency key to a package: a rename stands beside it or in the workspace table.
fn package_name(root: &Table, key: &str, value: &Value) -> String {
    let shared = || {
        root.get("workspace")?
            .get("dependencies")?
            .get(key)?
            .get("package")
    };
    let renamed = value.get("package").or_else(shared).and_then(Value::as_str);
    renamed.unwrap_or(key).to_owned()
}
