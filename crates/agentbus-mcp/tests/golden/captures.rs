//! The captures: how an answer is compared with one, and which are answered otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Captures that ours answers otherwise on purpose, and why. Each other one is compared.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "edit: agent edits own message over its bound MCP connection",
        "a defect: nobody could edit what was theirs",
    ),
    (
        "edit: connection that never identified an agent edits someone else's message (acts as 'system')",
        "a defect: a stranger passed for the bus",
    ),
    (
        "wait: unknown thread",
        "a defect: what the database said; ours says that there is no such thread",
    ),
    (
        "list: msg_list unknown thread",
        "a mistaken id is told as one, by every tool, and is no empty thread",
    ),
    (
        "thread: tool absent in 0.1.8? thread_close",
        "a tool of the newer release",
    ),
    (
        "thread: tool absent in 0.1.8? thread_set_state",
        "a tool of the newer release",
    ),
    (
        "thread: tool absent in 0.1.8? thread_archive",
        "a tool of the newer release",
    ),
    (
        "thread: tool absent in 0.1.8? thread_settings_get",
        "a tool of the newer release",
    ),
    (
        "meta: resource templates",
        "there were none; ours are an addition",
    ),
    (
        "meta: read chat://threads/none/transcript",
        "what cannot be read is an error of the protocol, as its revisions say",
    ),
    (
        "meta: read chat://zzz/q",
        "what cannot be read is an error of the protocol, as its revisions say",
    ),
];

/// Places of compared captures that ours lacks on purpose, and why.
const DIFFERS: &[(&str, &str)] = &[
    (
        "meta: initialize.capabilities.experimental",
        "an empty object, which names nothing",
    ),
    (
        "stdio: initialize.capabilities.experimental",
        "an empty object, which names nothing",
    ),
];

/// The captures, and what was compared with them.
pub(crate) struct Golden {
    entries: BTreeMap<String, Value>,
    compared: BTreeSet<String>,
    /// The places of [`DIFFERS`] that did differ.
    differed: BTreeSet<&'static str>,
    problems: Vec<String>,
}

impl Golden {
    /// The captures, if they are at hand.
    pub(crate) fn open() -> Option<Self> {
        let named = std::env::var_os("AGENTBUS_GOLDEN").map(PathBuf::from);
        let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden");
        let directory = named.unwrap_or(usual).join("agentchatbus");
        directory.is_dir().then(|| Self {
            entries: read(&directory),
            compared: BTreeSet::new(),
            differed: BTreeSet::new(),
            problems: Vec::new(),
        })
    }

    /// The capture of this name.
    pub(crate) fn entry(&self, name: &str) -> &Value {
        let found = self.entries.get(name);
        found.unwrap_or_else(|| panic!("there is no capture {name}"))
    }

    /// Compares the result of a tool with a capture.
    pub(crate) fn check(&mut self, file: &str, note: &str, ours: &Value) {
        let name = format!("{file}: {note}");
        let theirs = self.entry(&name)["result"].clone();
        if theirs["isError"] != ours["isError"] {
            self.problems.push(format!("{name}: isError in {ours}"));
        }
        let mut found = Vec::new();
        blocks(&name, &theirs["content"], &ours["content"], &mut found);
        self.note(name, found);
    }

    /// Compares the result of a method with a capture.
    pub(crate) fn check_value(&mut self, file: &str, note: &str, ours: &Value) {
        let name = format!("{file}: {note}");
        let theirs = self.entry(&name)["result"].clone();
        let mut found = Vec::new();
        differences(&name, &theirs, ours, &mut found);
        let text = |result: &Value| parsed(&result["contents"][0]["text"]);
        if let (Some(theirs), Some(ours)) = (text(&theirs), text(ours)) {
            differences(&format!("{name}.contents[0]"), &theirs, &ours, &mut found);
        }
        self.note(name, found);
    }

    /// Notes that a capture was compared, and what differed.
    pub(crate) fn note(&mut self, name: String, found: Vec<String>) {
        for one in found {
            match DIFFERS.iter().find(|(at, _)| one.starts_with(*at)) {
                Some((at, _)) => {
                    self.differed.insert(*at);
                }
                None => self.problems.push(one),
            }
        }
        self.compared.insert(name);
    }

    /// Fails unless everything was compared that is not left out, and was alike.
    pub(crate) fn finish(self) {
        let problems = &self.problems;
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        let left_out: BTreeSet<_> = LEFT_OUT
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let both: Vec<_> = left_out.intersection(&self.compared).collect();
        assert!(both.is_empty(), "left out and compared: {both:?}");
        let all: BTreeSet<_> = self.entries.keys().cloned().collect();
        let known: BTreeSet<_> = left_out.union(&self.compared).cloned().collect();
        let neither: Vec<_> = all.difference(&known).collect();
        assert!(
            neither.is_empty(),
            "neither compared nor left out: {neither:?}"
        );
        let gone: Vec<_> = known.difference(&all).collect();
        assert!(gone.is_empty(), "left out, but not captured: {gone:?}");
        let differs: BTreeSet<_> = DIFFERS.iter().map(|(at, _)| *at).collect();
        assert_eq!(
            differs, self.differed,
            "a place that was to differ is alike"
        );
        println!("{} captures compared", self.compared.len());
        for (name, reason) in LEFT_OUT {
            println!("left out: {name}: {reason}");
        }
    }
}

/// Reads the captures of MCP and of standard input and output, by file and note.
fn read(directory: &Path) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let Some(file) = stem.strip_prefix("py018-") else {
            continue;
        };
        let Some(file) = file
            .strip_prefix("mcp-")
            .or((file == "stdio").then_some(file))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let entries: Vec<Value> = serde_json::from_str(&text).unwrap();
        for entry in entries {
            let known = all.insert(name(file, &entry), entry);
            assert!(known.is_none(), "two captures of one name: {known:?}");
        }
    }
    all
}

fn name(file: &str, entry: &Value) -> String {
    let note = entry["note"].as_str().unwrap();
    // Several tools share this note.
    match note {
        "tool absent in 0.1.8?" => format!("{file}: {note} {}", entry["tool"].as_str().unwrap()),
        _ => format!("{file}: {note}"),
    }
}

fn parsed(text: &Value) -> Option<Value> {
    serde_json::from_str(text.as_str()?).ok()
}

/// Compares blocks of content: as many, of the same kinds, that say the same.
fn blocks(at: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    let (theirs, ours) = (theirs.as_array().unwrap(), ours.as_array().unwrap());
    if theirs.len() != ours.len() {
        found.push(format!("{at}: {} blocks became {ours:?}", theirs.len()));
    }
    for (n, (one, other)) in theirs.iter().zip(ours).enumerate() {
        let at = format!("{at}#{n}");
        if one["type"] != other["type"] {
            found.push(format!("{at}: {one} became {other}"));
        }
        let text = |block: &Value| block["text"].as_str().unwrap_or_default().to_owned();
        let (one, other) = (text(one), text(other));
        match serde_json::from_str::<Value>(&one) {
            Ok(one) => {
                let other = serde_json::from_str(&other).unwrap_or_default();
                differences(&at, &one, &other, found);
            }
            Err(_) => {
                // What every agent is told is in our own words.
                let guidance = one.starts_with("**SYSTEM DIRECTIVE");
                if !guidance && said(&one) != said(&other) {
                    found.push(format!("{at}: {one} became {other}"));
                }
            }
        }
    }
}

/// What a text says, without the time at its end or the particulars after a colon.
fn said(text: &str) -> &str {
    match text.starts_with('[') {
        true => text.rsplit_once(' ').map_or(text, |(said, _)| said),
        false => text.split(':').next().unwrap_or(text),
    }
}

/// Where a value lacks something that the captured one has, or has it in another type. Lists have
/// the same length, and what is named an error or an action is the same word for word.
fn differences(at: &str, theirs: &Value, own: &Value, found: &mut Vec<String>) {
    match (theirs, own) {
        (Value::Null, _) => {}
        (Value::Object(theirs), Value::Object(own)) => {
            for (key, value) in theirs {
                let at = format!("{at}.{key}");
                let Some(mine) = own.get(key) else {
                    found.push(format!("{at} is missing"));
                    continue;
                };
                if ["error", "action"].contains(&key.as_str()) && value != mine {
                    found.push(format!("{at}: {value} became {mine}"));
                }
                differences(&at, value, mine, found);
            }
        }
        (Value::Array(theirs), Value::Array(own)) => {
            if theirs.len() != own.len() {
                let lengths = (theirs.len(), own.len());
                found.push(format!("{at}: {} became {}", lengths.0, lengths.1));
            }
            for (n, (one, other)) in theirs.iter().zip(own).enumerate() {
                differences(&format!("{at}[{n}]"), one, other, found);
            }
        }
        _ if std::mem::discriminant(theirs) != std::mem::discriminant(own) => {
            found.push(format!("{at}: {theirs} became {own}"));
        }
        _ => {}
    }
}
