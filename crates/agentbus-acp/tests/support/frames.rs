//! Checks frames against the official schema of ACP v1, and fails on the first that violates it.
//!
//! The schema comes with the TypeScript SDK. Each frame is held against the one definition that its
//! method and direction name, an answer against that of the request it answers: the union of all
//! frames, which the schema offers as well, would take almost anything for an answer.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde_json::{Value, json};

use super::install::{installed, npm};

/// The TypeScript SDK, and a client that has nothing to do with it.
const TYPESCRIPT: &[&str] = &["@agentclientprotocol/sdk@2.4.0", "acpx@0.19.1"];

/// The Python SDK in an environment of its own.
const PYTHON: &[&[&str]] = &[
    &["python3", "-m", "venv", "."],
    &[
        "bin/pip",
        "install",
        "--quiet",
        "agent-client-protocol==0.12.1",
    ],
];

/// The directory with the TypeScript SDK.
pub(crate) fn typescript() -> Option<PathBuf> {
    npm("acp-typescript", TYPESCRIPT)
}

/// The interpreter that has the Python SDK.
pub(crate) fn python() -> Option<PathBuf> {
    Some(installed("acp-python", PYTHON)?.join("bin/python"))
}

/// Whether frames are held against the schema, and not only against JSON-RPC.
pub(crate) fn has_schema() -> bool {
    SCHEMA.is_some()
}

/// The schema; none where it cannot be had, and frames are then only held against JSON-RPC.
static SCHEMA: LazyLock<Option<Value>> = LazyLock::new(|| {
    let home = typescript()?;
    let file = home.join("node_modules/@agentclientprotocol/sdk/schema/v1/schema.json");
    Some(serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
});

/// Compiled definitions by name: compiling one takes longer than most tests.
static VALIDATORS: Mutex<BTreeMap<String, Arc<jsonschema::Validator>>> =
    Mutex::new(BTreeMap::new());

/// Who sent a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum From {
    Client,
    Agent,
}

/// The frames of one connection, checked as they come.
pub(crate) struct Frames {
    /// Methods of the requests under way, by who sent them and by their id.
    asked: HashMap<(From, String), String>,
    pub(crate) count: usize,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            asked: HashMap::new(),
            count: 0,
        }
    }

    /// Checks a frame; panics with the frame and what is wrong with it.
    pub(crate) fn check(&mut self, from: From, line: &str) -> Value {
        let frame: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{from:?} sent what is no JSON ({error}): {line}"));
        assert_eq!(frame["jsonrpc"], "2.0", "{from:?} sent {line}");
        self.count += 1;
        let id = frame.get("id").map(Value::to_string);
        match (id, frame["method"].as_str()) {
            (Some(id), Some(method)) => {
                let before = self.asked.insert((from, id), method.to_owned());
                assert!(before.is_none(), "the id is in use: {line}");
                Self::hold(from, method, "Request", &frame["params"], line);
            }
            (None, Some(method)) => {
                Self::hold(from, method, "Notification", &frame["params"], line);
            }
            (Some(id), None) => self.check_answer(from, &id, &frame, line),
            (None, None) => panic!("{from:?} sent neither a question nor an answer: {line}"),
        }
        frame
    }

    fn check_answer(&mut self, from: From, id: &str, frame: &Value, line: &str) {
        let other = match from {
            From::Client => From::Agent,
            From::Agent => From::Client,
        };
        if let Some(error) = frame.get("error") {
            assert!(
                frame.get("result").is_none(),
                "both result and error: {line}"
            );
            validate("Error", error, line);
            // What could not be read cannot be named.
            if id == "null" {
                return;
            }
        }
        let asked = self.asked.remove(&(other, id.to_owned()));
        let method = asked.unwrap_or_else(|| panic!("{from:?} answers what nobody asked: {line}"));
        if let Some(result) = frame.get("result") {
            Self::hold(other, &method, "Response", result, line);
        }
    }

    /// Holds a part of a frame against the definition of its method.
    fn hold(asker: From, method: &str, kind: &str, part: &Value, line: &str) {
        let Some(schema) = &*SCHEMA else { return };
        // A request of the client is served on the agent's side.
        let side = match asker {
            From::Client => "agent",
            From::Agent => "client",
        };
        let definitions = schema["$defs"].as_object().unwrap();
        let found = definitions.iter().find(|(name, definition)| {
            let at = definition["x-side"].as_str().unwrap_or_default();
            let here = at == side || at == "both" || at == "protocol";
            definition["x-method"] == method && here && name.ends_with(kind)
        });
        match found.map(|(name, _)| name.clone()) {
            Some(name) => validate(&name, part, line),
            None => assert!(
                method.starts_with('_'),
                "{asker:?} uses a method that the protocol lacks: {line}"
            ),
        }
    }
}

fn validate(definition: &str, part: &Value, line: &str) {
    let Some(schema) = &*SCHEMA else { return };
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let validator = known.entry(definition.to_owned()).or_insert_with(|| {
        let reference = format!("#/$defs/{definition}");
        let one = json!({ "$ref": reference, "$defs": schema["$defs"] });
        Arc::new(jsonschema::validator_for(&one).unwrap())
    });
    let validator = Arc::clone(validator);
    drop(known);
    if let Err(error) = validator.validate(part) {
        panic!(
            "no {definition}: {error} at {}\nin {line}",
            error.instance_path()
        );
    }
}
