//! The official JSON schema as the judge of every line, both ways.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The package that ships the schema, and the Node for the agent that is built on it.
const INSTALL: &[&str] = &[
    "npm",
    "install",
    "--no-audit",
    "--no-fund",
    "--silent",
    "node@22.23.3",
    "@agentclientprotocol/sdk@2.4.0",
];

/// Installations go one after the other, because tests share a directory.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Returns a directory in which these commands have run; `None` if they cannot run here.
pub(crate) fn installed(name: &str, commands: &[&[&str]]) -> Option<PathBuf> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let wanted = format!("{commands:?}");
    let done = directory.join("installed");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == wanted) {
        return Some(directory);
    }
    std::fs::create_dir_all(&directory).unwrap();
    for command in commands {
        let mut run = Command::new(command[0]);
        run.args(&command[1..]).current_dir(&directory);
        let ran = run.stdin(Stdio::null()).stdout(Stdio::null()).status();
        if !ran.is_ok_and(|status| status.success()) {
            println!("SKIPPED: `{}` does not work here", command.join(" "));
            return None;
        }
    }
    std::fs::write(done, wanted).unwrap();
    Some(directory)
}

/// The directory with the TypeScript SDK.
pub(crate) fn typescript() -> Option<PathBuf> {
    installed("acp-typescript", &[INSTALL])
}

/// One validator for the parameters and one for the result of each method.
struct Judge {
    params: HashMap<String, Validator>,
    results: HashMap<String, Validator>,
    error: Validator,
}

fn judge() -> Option<&'static Judge> {
    static JUDGE: OnceLock<Option<Judge>> = OnceLock::new();
    let judge = JUDGE.get_or_init(|| {
        let file =
            typescript()?.join("node_modules/@agentclientprotocol/sdk/schema/v1/schema.json");
        let schema: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        Some(Judge::new(&schema["$defs"]))
    });
    judge.as_ref()
}

impl Judge {
    fn new(defs: &Value) -> Self {
        let of = |name: &str| {
            let schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$ref": format!("#/$defs/{name}"), "$defs": defs });
            jsonschema::validator_for(&schema).unwrap()
        };
        let (mut params, mut results) = (HashMap::new(), HashMap::new());
        for (name, def) in defs.as_object().unwrap() {
            let Some(method) = def["x-method"].as_str() else {
                continue;
            };
            match name.ends_with("Response") {
                true => results.insert(method.to_owned(), of(name)),
                false => params.insert(method.to_owned(), of(name)),
            };
        }
        assert!(
            params.len() > 20 && results.len() > 15,
            "the schema has another form"
        );
        Self {
            params,
            results,
            error: of("Error"),
        }
    }

    /// Judges one line; `asked` holds the methods of requests that wait for their answer.
    fn check(
        &self,
        line: &str,
        asked: &mut HashMap<String, String>,
        other: &mut HashMap<String, String>,
    ) {
        let message: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        let id = message.get("id").map(Value::to_string);
        if let Some(method) = message["method"].as_str() {
            if let Some(id) = id {
                assert!(
                    asked.insert(id, method.to_owned()).is_none(),
                    "the id is in use: {line}"
                );
            }
            match self.params.get(method) {
                Some(schema) => valid(schema, &message["params"], line),
                None => assert!(method.starts_with('_'), "unknown method: {line}"),
            }
            return;
        }
        let id = id.unwrap_or_else(|| panic!("neither method nor id: {line}"));
        let method = other
            .remove(&id)
            .unwrap_or_else(|| panic!("nobody asked: {line}"));
        match (message.get("result"), message.get("error")) {
            (Some(result), None) => valid(&self.results[&method], result, line),
            (None, Some(error)) => valid(&self.error, error, line),
            _ => panic!("neither result nor error: {line}"),
        }
    }
}

fn valid(schema: &Validator, value: &Value, line: &str) {
    if let Some(error) = schema.iter_errors(value).next() {
        panic!("{error} at {} in {line}", error.instance_path());
    }
}

/// Holds a recording against the schema and returns how many lines it had; `None` without a schema.
pub(crate) fn check(recording: &str) -> Option<usize> {
    let judge = judge()?;
    let (mut ours, mut theirs) = (HashMap::new(), HashMap::new());
    for line in recording.lines() {
        match line.split_at(2) {
            ("> ", line) => judge.check(line, &mut ours, &mut theirs),
            ("< ", line) => judge.check(line, &mut theirs, &mut ours),
            _ => panic!("no mark: {line}"),
        }
    }
    Some(recording.lines().count())
}

#[test]
fn the_judge_refuses_what_the_schema_does() {
    if judge().is_none() {
        return;
    }
    let init = r#"> {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}"#;
    assert_eq!(check(init), Some(1));
    for bad in [
        r#"> {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"one"}}"#,
        r#"> {"jsonrpc":"2.0","id":1,"method":"session/promt","params":{}}"#,
        r#"< {"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"< {"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"tool_call"}}}"#,
    ] {
        assert!(std::panic::catch_unwind(|| check(bad)).is_err(), "{bad}");
    }
    let answered = format!(
        "{init}\n< {}",
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":true}}"#
    );
    assert!(std::panic::catch_unwind(|| check(&answered)).is_err());
}
