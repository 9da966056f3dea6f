//! The workspace as its manifests describe it.
//!
//! Reads the root `Cargo.toml` and one manifest per member, and finds the production sources.
//! It does not ask cargo, so it works on a tree that does not resolve yet.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::failure::Failure;
use crate::source::Source;

/// The root of the workspace with its parsed manifest and members.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    manifest: Table,
    packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// The package name, which is not always the name of its folder.
    pub(crate) name: String,
    /// The folder, relative to the root.
    pub(crate) folder: PathBuf,
    /// The whole manifest.
    pub(crate) manifest: Table,
}

impl Workspace {
    /// Opens the workspace this tool belongs to.
    pub(crate) fn open() -> Result<Self, Failure> {
        // Cargo sets the variable at run time; the built-in path serves a directly started binary.
        let own = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let own = PathBuf::from(own);
        Self::open_at(own.parent().unwrap_or(&own))
    }

    /// Opens the workspace whose root manifest lies in `root`.
    pub(crate) fn open_at(root: &Path) -> Result<Self, Failure> {
        let manifest = read_manifest(root)?;
        let packages = member_folders(root, &manifest)?
            .into_iter()
            .map(|folder| Package::open(root, folder))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            root: root.to_owned(),
            manifest,
            packages,
        })
    }

    /// Returns the folder of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the root manifest.
    pub(crate) fn manifest(&self) -> &Table {
        &self.manifest
    }

    /// Returns every member, ordered by folder.
    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Parses the production sources of a member; files that only tests compile are left out.
    pub(crate) fn sources(&self, package: &Package) -> Result<Vec<Source>, Failure> {
        let mut paths = Vec::new();
        let folder = self.root.join(&package.folder).join("src");
        if folder.is_dir() {
            find_sources(&folder, &mut paths)?;
        }
        let mut sources = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| Failure::read(&path, &error))?;
            let shown = path.strip_prefix(&self.root).unwrap_or(&path);
            sources.push(Source::parse(shown, text)?);
        }
        Ok(without_test_modules(sources))
    }
}

impl Package {
    /// Reads the manifest of the member in `folder`.
    fn open(root: &Path, folder: PathBuf) -> Result<Self, Failure> {
        let manifest = read_manifest(&root.join(&folder))?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"));
        let Some(name) = name.and_then(Value::as_str) else {
            let folder = folder.display();
            return Err(Failure::new(format!(
                "{folder}/Cargo.toml names no package"
            )));
        };
        Ok(Self {
            name: name.to_owned(),
            folder,
            manifest,
        })
    }
}

/// Reads and parses `Cargo.toml` in a folder.
fn read_manifest(folder: &Path) -> Result<Table, Failure> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|error| Failure::read(&path, &error))?;
    text.parse()
        .map_err(|error| Failure::new(format!("{} is not valid TOML: {error}", path.display())))
}

/// Expands `workspace.members`; the only pattern it knows is a trailing `/*`.
fn member_folders(root: &Path, manifest: &Table) -> Result<BTreeSet<PathBuf>, Failure> {
    let members = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("members"));
    let mut folders = BTreeSet::new();
    for member in members.and_then(Value::as_array).into_iter().flatten() {
        match member.as_str().map(|name| (name, name.strip_suffix("/*"))) {
            Some((_, Some(parent))) => {
                let found = entries(&root.join(parent))?.into_iter();
                let found = found.filter(|path| path.join("Cargo.toml").is_file());
                folders.extend(found.map(|path| relative(root, &path)));
            }
            Some((name, None)) => drop(folders.insert(PathBuf::from(name))),
            None => {}
        }
    }
    Ok(folders)
}

/// Cuts the root off a path below it.
fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// Lists a folder in the order of its names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut paths = listed.map_err(|error| Failure::read(folder, &error))?;
    paths.sort();
    Ok(paths)
}

/// Collects the `.rs` files below a folder that are not named as tests.
fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for path in entries(folder)?
        .into_iter()
        .filter(|path| !is_named_as_test(path))
    {
        if path.is_dir() {
            find_sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Tells whether the name alone says that a file or folder is no production code.
fn is_named_as_test(path: &Path) -> bool {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    stem.starts_with("test")
        || (path.is_dir() && matches!(stem, "benches" | "examples" | "contract"))
}

/// Drops the files of modules that a sibling declares under `#[cfg(test)]`.
fn without_test_modules(mut sources: Vec<Source>) -> Vec<Source> {
    let tests: Vec<PathBuf> = sources.iter().flat_map(Source::test_module_stems).collect();
    sources.retain(|source| {
        let stem = source.path().with_extension("");
        !tests.iter().any(|test| stem.starts_with(test))
    });
    sources
}

#[cfg(test)]
mod tests;
