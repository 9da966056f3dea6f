//! `agentbus semantics`.

use agentbus::transports;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::Output;

/// Where the widest column of a comparison for people ends.
const QUESTION_WIDTH: usize = 42;
const ANSWER_WIDTH: usize = 36;

pub(crate) fn semantics(output: &Output) -> Result<(), Failure> {
    let rows = transports::rows();
    if output.is_json() {
        return json(&rows, output);
    }
    for (question, answers) in rows {
        let mut line = format!("{question:QUESTION_WIDTH$}");
        for answer in answers {
            line.push_str(&format!("{answer:ANSWER_WIDTH$}"));
        }
        output.line(line.trim_end())?;
    }
    Ok(())
}

/// One object for each transport.
fn json(rows: &[(&'static str, Vec<String>)], output: &Output) -> Result<(), Failure> {
    let count = rows.first().map_or(0, |(_, urls)| urls.len());
    for transport in 0..count {
        let mut object = Map::new();
        for (question, answers) in rows {
            let key = if question.is_empty() { "url" } else { question };
            let answer = answers.get(transport).cloned().unwrap_or_default();
            object.insert(key.to_owned(), Value::from(answer));
        }
        output.line(&Value::from(object).to_string())?;
    }
    Ok(())
}
