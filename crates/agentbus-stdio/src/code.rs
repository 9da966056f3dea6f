//! The errors with which the bus itself answers requests.

use std::fmt::Write;

/// Why the bus could not have a request answered by a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Several pools and the request names none.
    PoolMissing,
    /// The request names a pool that does not exist.
    PoolUnknown,
    /// The pool has no worker that runs.
    NoWorker,
    /// The worker ended before it answered.
    WorkerDied,
    /// The session table is full.
    TooManySessions,
    /// The client has too many requests without an answer.
    TooManyPending,
    /// The bus is shutting down.
    ShuttingDown,
    /// The worker did not answer in time.
    TimedOut,
    /// A request whose method begins with `stdio_bus/` and is none that the bus knows.
    UnknownMethod,
}

struct Row {
    code: Code,
    number: i32,
    name: &'static str,
    retryable: bool,
    message: &'static str,
}

const TABLE: [Row; 9] = [
    Row {
        code: Code::PoolMissing,
        number: -32010,
        name: "POOL_MISSING",
        retryable: false,
        message: "several pools exist; name one in the top-level field `pool`",
    },
    Row {
        code: Code::PoolUnknown,
        number: -32011,
        name: "POOL_UNKNOWN",
        retryable: false,
        message: "no pool has this name; see data.pools",
    },
    Row {
        code: Code::NoWorker,
        number: -32012,
        name: "NO_WORKER",
        retryable: true,
        message: "no worker of the pool is running; try again once one has been restarted",
    },
    Row {
        code: Code::WorkerDied,
        number: -32013,
        name: "WORKER_DIED",
        retryable: true,
        message: "the worker ended before it answered; try again if the request may run twice",
    },
    Row {
        code: Code::TooManySessions,
        number: -32014,
        name: "TOO_MANY_SESSIONS",
        retryable: true,
        message: "the session table is full; use an existing session or raise limits.max_sessions",
    },
    Row {
        code: Code::TooManyPending,
        number: -32015,
        name: "TOO_MANY_PENDING",
        retryable: true,
        message: "this client waits for too many answers; wait for some or raise limits.max_pending",
    },
    Row {
        code: Code::ShuttingDown,
        number: -32016,
        name: "SHUTTING_DOWN",
        retryable: true,
        message: "the bus is shutting down; connect again when it has been restarted",
    },
    Row {
        code: Code::TimedOut,
        number: -32017,
        name: "TIMED_OUT",
        retryable: true,
        message: "the worker did not answer within limits.request_timeout_sec",
    },
    Row {
        code: Code::UnknownMethod,
        number: -32601,
        name: "METHOD_NOT_FOUND",
        retryable: false,
        message: "the bus knows stdio_bus/hello, stdio_bus/stats and stdio_bus/health",
    },
];

impl Code {
    fn row(self) -> &'static Row {
        // The test below shows that every code has its row.
        TABLE
            .iter()
            .find(|row| row.code == self)
            .unwrap_or(&TABLE[0])
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        self.row().number
    }

    /// The name in `data.code`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.row().retryable
    }

    /// What to do about it.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().message
    }
}

/// The table of codes as it stands in the documentation.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| code | name | retryable | message |\n|---|---|---|---|\n");
    for row in &TABLE {
        let retryable = if row.retryable { "yes" } else { "no" };
        let Row {
            number,
            name,
            message,
            ..
        } = row;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {number} | `{name}` | {retryable} | {message} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row_and_a_number_of_its_own() {
        let all = [
            Code::PoolMissing,
            Code::PoolUnknown,
            Code::NoWorker,
            Code::WorkerDied,
            Code::TooManySessions,
            Code::TooManyPending,
            Code::ShuttingDown,
            Code::TimedOut,
            Code::UnknownMethod,
        ];
        for code in all {
            assert_eq!(code.row().code, code);
        }
        let mut numbers: Vec<_> = TABLE.iter().map(|row| row.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all.len());
    }
}
