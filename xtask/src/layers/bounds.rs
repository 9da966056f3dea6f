//! Names that only some crates may use in production code.

use crate::source::{NamedPath, Source};

/// One bound: who must not name what, and why.
struct Bound {
    who: Who,
    names: &'static [&'static [&'static str]],
    why: &'static str,
}

/// The crates a bound holds for.
enum Who {
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
}

/// The bounds of the house.
const BOUNDS: &[Bound] = &[
    Bound {
        who: Who::AllBut(&[
            "agentbus-process",
            "agentbus-stdio",
            "agentbus-benches",
            "xtask",
        ]),
        names: &[
            &["process", "Command"],
            &["process", "CommandExt"],
            &["std", "process", "*"],
            &["tokio", "process"],
            &["process_wrap"],
        ],
        why: "only agentbus-process starts processes, by argv and never through a shell",
    },
    Bound {
        who: Who::Only(&["agentbus-protocol"]),
        names: &[
            &["Instant", "now"],
            &["SystemTime", "now"],
            &["Timestamp", "now"],
            &["Zoned", "now"],
            &["Uuid", "new_v4"],
            &["Uuid", "now_v7"],
        ],
        why: "time and randomness are passed in",
    },
    Bound {
        who: Who::Only(&["agentbus-protocol"]),
        names: &[
            &["std", "net"],
            &["std", "fs"],
            &["std", "thread"],
            &["std", "env"],
        ],
        why: "the protocol crate does no I/O",
    },
];

impl Who {
    /// Tells whether the bound holds for a crate.
    fn includes(&self, package: &str) -> bool {
        match self {
            Self::AllBut(names) => !names.contains(&package),
            Self::Only(names) => names.contains(&package),
        }
    }
}

/// Returns a sentence for each path in a file that its crate must not name.
pub(super) fn check(package: &str, source: &Source) -> Vec<String> {
    let paths = source.paths();
    let bounds = BOUNDS.iter().filter(|bound| bound.who.includes(package));
    let findings = bounds.flat_map(|bound| {
        let crossed = paths.iter().filter(|path| crosses(path, bound.names));
        crossed.map(|path| finding(source, path, bound.why))
    });
    findings.collect()
}

/// Tells whether a path contains one of the names as neighbouring segments.
fn crosses(path: &NamedPath, names: &[&[&str]]) -> bool {
    names.iter().any(|name| {
        path.segments
            .windows(name.len())
            .any(|window| window == *name)
    })
}

/// Words a finding as `file:line`, the path and the reason.
fn finding(source: &Source, path: &NamedPath, why: &str) -> String {
    let (file, name) = (source.path().display(), path.segments.join("::"));
    format!("{file}:{} names {name}; {why}", path.line)
}
