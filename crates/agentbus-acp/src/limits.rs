//! Every limit of this crate, with its reason.

use std::time::Duration;

/// Turns of one agent that are under way or wait: 256.
///
/// Each holds a prompt in memory; what comes later waits on the bus, where it costs less.
pub const TURNS_MAX: usize = 256;

/// Sessions of one agent that are remembered: 256.
///
/// An agent keeps the whole conversation of each. Beyond it, the session that has been idle the
/// longest is closed.
pub const SESSIONS_MAX: usize = 256;

/// Turns that wait for the one that runs in their session: 16.
///
/// Turns take minutes. Whoever would be the seventeenth is better told than kept.
pub const SESSION_QUEUE: usize = 16;

/// Bytes of a session's name: 255, as of every name on the bus.
pub const SESSION_NAME_BYTES: usize = 255;

/// Updates that wait for the caller of a turn: 256.
///
/// The same as frames in an inbox: a burst fits, and a caller who does not read stops the agent's
/// output instead of filling memory.
pub const UPDATES_WAITING: usize = 256;

/// Bytes of one line that an agent may write: 8 MiB.
///
/// An image in base64 is the largest thing that agents send.
pub const LINE_BYTES: usize = 8 * 1024 * 1024;

/// Lines of one process that are no message before it is given up: 64.
///
/// Enough for a banner or a stray warning; an agent that goes on like this speaks something else.
pub const GARBAGE_LINES: u32 = 64;

/// Bytes of a line of an editor that is no JSON which its answer quotes: 1 KiB, to know it by.
pub const QUOTED_BYTES: usize = 1024;

/// Requests of an agent that wait for an answer of ours: 64.
///
/// Agents ask one thing at a time for each tool that runs. Beyond it they are refused.
pub const AGENT_REQUESTS: usize = 64;

/// Lines that wait to be written to an agent: 16.
///
/// An agent that does not read has to notice; prompts are few and large.
pub const LINES_WAITING: usize = 16;

/// Text of a turn that is collected for the final frame: 2 MiB.
///
/// It has to fit into an envelope with room to spare. What is longer was streamed all the same.
pub const TEXT_BYTES: usize = 2 * 1024 * 1024;

/// How long an agent may take to answer `initialize`: 60 s.
///
/// An agent that `npx` starts may be fetched first.
pub const INITIALIZE: Duration = Duration::from_secs(60);

/// How long an agent may take to open a session: 60 s; it starts its MCP servers meanwhile.
pub const SESSION_OPENING: Duration = Duration::from_secs(60);

/// How long a cancelled turn may take to end: 10 s.
///
/// An agent has to stop its model and its tools. Afterwards its session is given up.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// How long a question waits for a person: 5 min, then it is answered `cancelled`.
///
/// Long enough to come back from another window; a turn that waits forever holds its session.
pub const DECISION: Duration = Duration::from_secs(300);

/// Silence after which the caller of a turn is told that it still waits for a decision: 20 s.
///
/// Streams end after a silence of two minutes, and a person may take longer.
pub const STILL_WAITING: Duration = Duration::from_secs(20);

/// How long a process may take to end by itself after SIGTERM: 2 s.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long the exit of a process that hung up is waited for before it is killed: 100 ms.
///
/// Those who wait for its turn have to learn of it within a quarter of a second.
pub const EXIT_GRACE: Duration = Duration::from_millis(100);

/// Longest pause between two attempts to start an agent that does not start: 30 s.
pub const RESTART_PAUSE: Duration = Duration::from_secs(30);

/// Bytes of a file that an agent may read or write through the bus: 4 MiB.
///
/// It travels as one line; larger files are not text that a model reads.
pub const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Terminals that one agent may have open: 16.
pub const TERMINALS_MAX: usize = 16;

/// Terminals that editors have opened for one process of an agent: 64.
///
/// They cost the bus a line each; the editor has limits of its own.
pub const TERMINALS_LENT: usize = 64;

/// Addresses that one process of an agent has sent people to and not called completed: 256.
///
/// As many as questions can be open on the board; editors are not told of the completion of older
/// ones.
pub const VISITS_KEPT: usize = 256;

/// Output that is kept of a terminal: 1 MiB, or less if the agent asks for less.
///
/// The oldest goes first, as the protocol says.
pub const TERMINAL_BYTES: usize = 1024 * 1024;

/// Entries of sessions that wait to be written: 4096.
pub const LOG_WAITING: usize = 4096;

/// Bytes of entries that wait to be written: 16 MiB.
///
/// Two of the longest lines. Whoever adds more waits, and with them the agent.
pub const LOG_BYTES_WAITING: usize = 16 * 1024 * 1024;

/// Entries that are committed together: 1024.
pub const LOG_GROUP: usize = 1024;

/// Entries in one group from which on the next one waits for [`LOG_LINGER`]: 32.
///
/// So many within one commit are no person's pace, and each commit wakes every reader.
pub const LOG_FLOOD: usize = 32;

/// How long a group waits to become larger while entries flood in: 1 ms.
pub const LOG_LINGER: Duration = Duration::from_millis(1);

/// Entries that a reader takes at a time: 512.
pub const LOG_PAGE: usize = 512;

/// Bytes that a reader takes at a time, but for one entry: 1 MiB.
///
/// Entries can be as long as a line of an agent, and there may be many readers.
pub const LOG_PAGE_BYTES: usize = 1024 * 1024;

/// Bytes of an agent's error that are passed on: 4 KiB.
pub const ERROR_BYTES: usize = 4 * 1024;

/// Bytes that are kept of one session: 64 MiB.
///
/// Days of work in text. Beyond it the older half is forgotten.
pub const SESSION_BYTES: u64 = 64 * 1024 * 1024;

/// Sessions that the log keeps: 1000; the one that was not used for the longest goes first.
pub const SESSIONS_KEPT: usize = 1000;

/// Requests of one editor that are under way: 256; what comes then is refused.
///
/// A person has a handful of them open.
pub const EDITOR_REQUESTS: usize = 256;

/// Sessions that one connection of an editor has open: 256.
pub const EDITOR_SESSIONS: usize = 256;

/// Agents and targets that an editor is offered: 100, of which a list can still be read.
pub const CHOICES_SHOWN: usize = 100;

/// Sessions in one page of a list: 100.
pub const SESSIONS_PAGE: usize = 100;

/// How long an editor that does not read may hold up what stands in no log: 10 s.
pub const TELL: Duration = Duration::from_secs(10);
