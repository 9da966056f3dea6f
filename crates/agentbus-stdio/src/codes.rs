//! Every error that the bus itself answers with, in one table.
//!
//! The table gives each fault its number, its name, whether a retry can help, and the sentence
//! that says what to do. Answers and documentation are both made from it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A reason why the bus answers a request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The line is not one JSON object.
    Parse,
    /// The line is longer than `max_input_buffer`.
    MessageTooLarge,
    /// The frame is longer than `max_input_buffer`.
    FrameTooLarge,
    /// The reserved namespace has no such method.
    UnknownBusMethod,
    /// The parameters of a bus method cannot be read.
    BadBusParams,
    /// Several pools and no `pool`.
    PoolMissing,
    /// No pool of that name.
    PoolUnknown,
    /// No worker of the pool runs, and one will.
    NoWorker,
    /// No worker of the pool runs, and none will.
    PoolGivenUp,
    /// The worker ended before it answered.
    WorkerDied,
    /// The worker wrote what no worker may write, and was ended.
    BadWorkerOutput,
    /// Too much waits for the worker.
    QueueFull,
    /// The client has too many unanswered requests.
    TooManyPending,
    /// There is no room for another session.
    TooManySessions,
    /// The name of the session is too long.
    SessionNameTooLong,
    /// There is no room for another connection.
    TooManyClients,
    /// The bus or the pool is stopping.
    ShuttingDown,
    /// The worker did not answer in time.
    TimedOut,
    /// The caller does not read what it is sent.
    TooSlow,
    /// A required extension is not offered.
    ExtensionUnavailable,
    /// Nobody uses the session in which a worker asks.
    NoClient,
    /// A worker asks without saying in which session.
    SessionRequired,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    /// The fault.
    pub fault: Fault,
    /// JSON-RPC error code.
    pub code: i32,
    /// Name in `data.code`, for programs.
    pub name: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What happened and what to do, for people.
    pub sentence: &'static str,
}

macro_rules! codes {
    ($($fault:ident $code:literal $name:literal $retryable:literal $sentence:literal;)*) => {
        /// Every error the bus answers with, ordered as in [`Fault`].
        pub const CODES: &[Code] = &[
            $(Code {
                fault: Fault::$fault,
                code: $code,
                name: $name,
                retryable: $retryable,
                sentence: $sentence,
            },)*
        ];
    };
}

codes! {
    Parse -32700 "PARSE_ERROR" false "Parse error";
    MessageTooLarge -32600 "MESSAGE_TOO_LARGE" false "Message too large";
    FrameTooLarge -32600 "FRAME_TOO_LARGE" false "Frame too large";
    UnknownBusMethod -32601 "METHOD_NOT_FOUND" false
        "the names that begin with stdio_bus/ belong to the bus, and it has no such method: \
         use stdio_bus/hello, stdio_bus/stats or stdio_bus/health";
    BadBusParams -32602 "BAD_PARAMS" false
        "the params of this bus method cannot be read: send an object of the documented shape";
    PoolMissing -32010 "POOL_MISSING" false
        "there are several pools: name one in the top-level field `pool`, or in `agentId`";
    PoolUnknown -32011 "POOL_UNKNOWN" false
        "there is no pool of that name: use one that data.pools lists";
    NoWorker -32012 "NO_WORKER" true
        "no worker of the pool is running: it is being restarted, so try again shortly";
    PoolGivenUp -32018 "POOL_GIVEN_UP" false
        "the workers of the pool ended too often and are not restarted any more: read their \
         standard error in the log of the bus, then restart the pool";
    WorkerDied -32013 "WORKER_DIED" true
        "the worker ended before it answered: send the request again if it may run twice";
    BadWorkerOutput -32019 "BAD_WORKER_OUTPUT" true
        "the worker wrote a line that is no JSON object or is too long, and was ended: let it \
         write only JSON-RPC to standard output, and everything else to standard error";
    QueueFull -32020 "QUEUE_FULL" true
        "too much waits for the worker: try again later, or run more instances";
    TooManyPending -32015 "TOO_MANY_PENDING" true
        "this client has too many unanswered requests: wait for answers, or raise max_pending";
    TooManySessions -32014 "TOO_MANY_SESSIONS" true
        "there is no room for another session: wait until one expires, or raise max_sessions";
    SessionNameTooLong -32021 "SESSION_NAME_TOO_LONG" false
        "the sessionId is longer than 4096 bytes: use a shorter one";
    TooManyClients -32022 "TOO_MANY_CLIENTS" true
        "there is no room for another connection: close one, or raise max_clients";
    ShuttingDown -32016 "SHUTTING_DOWN" true
        "the bus is stopping and takes no new work: connect again once it is back";
    TimedOut -32017 "TIMED_OUT" true
        "the worker did not answer in time: raise request_timeout_sec if it needs longer";
    TooSlow -32023 "TOO_SLOW" false
        "more waits for this caller than may: read the events of a call as they come";
    ExtensionUnavailable -32024 "EXTENSION_UNAVAILABLE" false
        "the bus does not offer a required extension: make it optional or leave it out";
    NoClient -32025 "NO_CLIENT" true
        "no client uses this session at the moment, so nobody can answer";
    SessionRequired -32026 "SESSION_REQUIRED" false
        "a request from a worker needs the top-level sessionId of the session it belongs to";
}

impl Fault {
    /// Returns the row of the table for this fault.
    #[must_use]
    pub fn row(self) -> &'static Code {
        // The table is complete and in the order of the enum; a test compares the two.
        &CODES[self as usize]
    }

    /// Tells whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.row().retryable
    }
}

/// Appends an error answer to `out`, without a newline.
///
/// `id` is the raw JSON of the request's id. `data` is merged with the name and `retryable`. The
/// three faults whose exact form older clients know have no data.
pub fn write_error(out: &mut Vec<u8>, id: &[u8], fault: Fault, data: Map<String, Value>) {
    let row = fault.row();
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    let mut error = Map::new();
    error.insert("code".into(), row.code.into());
    error.insert("message".into(), row.sentence.into());
    if !matches!(
        fault,
        Fault::Parse | Fault::MessageTooLarge | Fault::FrameTooLarge
    ) {
        let mut all = Map::new();
        all.insert("code".into(), row.name.into());
        all.insert("retryable".into(), row.retryable.into());
        all.extend(data);
        error.insert("data".into(), Value::Object(all));
    }
    out.extend_from_slice(b",\"error\":");
    out.extend_from_slice(Value::Object(error).to_string().as_bytes());
    out.push(b'}');
}

/// Returns the table as Markdown, for the documentation.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from("| code | name | retryable | message |\n|---|---|---|---|\n");
    let mut rows: Vec<&Code> = CODES.iter().collect();
    // The bus's own first, in the order of their numbers; then those of JSON-RPC.
    rows.sort_by_key(|row| (row.code < -32099, -row.code));
    for row in rows {
        let retry = if row.retryable { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| {} | `{}` | {retry} | {} |",
            row.code, row.name, row.sentence
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_finds_its_own_row() {
        for (index, row) in CODES.iter().enumerate() {
            assert_eq!(row.fault as usize, index, "{}", row.name);
            assert_eq!(row.fault.row().name, row.name);
        }
        assert_eq!(CODES.len(), Fault::SessionRequired as usize + 1);
    }

    #[test]
    fn names_are_unique_and_own_codes_lie_in_the_documented_range() {
        for row in CODES {
            let same = CODES.iter().filter(|other| other.name == row.name).count();
            assert_eq!(same, 1, "{}", row.name);
            let standard = [-32700, -32600, -32601, -32602].contains(&row.code);
            assert!(standard || (-32099..=-32000).contains(&row.code));
        }
    }

    #[test]
    fn an_answer_is_one_json_object_with_the_id_as_it_was() {
        let mut line = Vec::new();
        let mut data = Map::new();
        data.insert("pools".into(), vec!["a", "b"].into());
        write_error(&mut line, br#""x\"y""#, Fault::PoolUnknown, data);
        let answer: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(answer["id"], "x\"y");
        assert_eq!(answer["error"]["code"], -32011);
        assert_eq!(answer["error"]["data"]["retryable"], false);
        assert_eq!(answer["error"]["data"]["pools"][1], "b");
    }

    #[test]
    fn the_oldest_two_answers_are_byte_for_byte_the_known_ones() {
        let mut line = Vec::new();
        write_error(&mut line, b"null", Fault::Parse, Map::new());
        let text = String::from_utf8(line).unwrap();
        assert_eq!(
            text,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#
        );
    }
}
