//! What the workers bound, and why there.

use std::time::Duration;

/// Updates that an agent of ours may have said and its client not yet read, or their KiB if they are
/// longer: enough to keep a fast client busy, and about a megabyte at most.
pub(crate) const UPDATES_UNWRITTEN_MAX: usize = 1024;

/// Requests whose answers are not written yet; a client that reads none of them is not listened to
/// any more.
pub(crate) const ANSWERS_UNWRITTEN_MAX: usize = 1024;

/// What requests under way get to be answered when the input ends: an echo needs none of it, and
/// nobody should wait for a program whose input he closed.
pub(crate) const END_GRACE: Duration = Duration::from_millis(500);

/// What cancelled turns get to say so before the connection is closed under them.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(2);

/// Longest line from a client: as long as the process bus passes on by default.
pub(crate) const LINE_BYTES: usize = 10 * 1024 * 1024;

/// Routing ids remembered for requests without an answer. One that waits behind this many gets its
/// answer without the routing id, which the bus then finds by the request's own id.
pub(crate) const ROUTED_REQUESTS_MAX: usize = 10_000;

/// Sessions whose routing id is remembered, at two short strings each; the half that spoke last is
/// kept in any case.
pub(crate) const ROUTED_SESSIONS_MAX: usize = 10_000;

/// Sessions open at a time; each may have processes of its own.
pub(crate) const SESSIONS_OPEN_MAX: usize = 256;

/// Prompts of one session that wait behind the running one: more than a person types ahead.
pub(crate) const PROMPTS_WAITING_MAX: usize = 16;

/// Sessions kept on disk; the one that was silent for longest makes room.
pub(crate) const SESSIONS_KEPT_MAX: usize = 1000;

/// Bytes of one session's history, on disk and in memory. What is older than the newer half is
/// forgotten, whole turns at a time.
pub(crate) const HISTORY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Characters of a session's title, which is the beginning of its first prompt.
pub(crate) const TITLE_CHARS_MAX: usize = 80;

/// MCP servers of one session, each a process or a connection.
pub(crate) const SERVERS_MAX: usize = 32;

/// Tools of one session, over all of its servers; a model reads all of them with each request.
pub(crate) const TOOLS_MAX: usize = 512;

/// Longest that an MCP server may take to start and to say who it is. Package runners fetch
/// their package first.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest that an MCP server may take to list its tools.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest that a tool may run. Builds and test suites take minutes; what takes longer hangs.
pub(crate) const TOOL_TIMEOUT: Duration = Duration::from_secs(600);

/// What an MCP server gets to end after its input is closed.
pub(crate) const SERVER_GRACE: Duration = Duration::from_secs(1);

/// Longest `/wait` of the echo engine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(600);

/// Times that a model may call tools before its turn ends. People stop reading long before.
pub(crate) const ROUNDS_MAX: usize = 32;

/// Calls in one answer of a model.
pub(crate) const CALLS_MAX: usize = 64;

/// Bytes of one answer of a model, more than any of them can write.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest silence of an endpoint, before its answer or in the middle of it. Models that think
/// first are silent for a minute.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(180);

/// Times that a request is sent again because the endpoint asked for a pause.
pub(crate) const RETRIES_MAX: usize = 3;

/// Longest pause that is made; a person who waits longer should know why.
pub(crate) const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Bytes of an endpoint's refusal that are shown.
pub(crate) const REFUSAL_BYTES_MAX: usize = 2000;

/// Longest wait for the words of a refusal; that it is one is known already.
pub(crate) const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes of a registry's index; the public one has a tenth of it.
pub(crate) const INDEX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Longest that an index may take to arrive; there is a copy of the last one.
pub(crate) const INDEX_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an agent's archive; the largest ones bring their own Node.
pub(crate) const ARCHIVE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Longest that an archive may take to arrive.
pub(crate) const ARCHIVE_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes that an archive may unpack to, and files: a small one can hold a disk full of zeros.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The most files of them; an agent that brings its own Node has some ten thousand.
pub(crate) const UNPACKED_FILES_MAX: usize = 200_000;

/// Requests of clients, and questions of agents, that wait for an answer in the launcher.
pub(crate) const LAUNCHED_PENDING_MAX: usize = 10_000;

/// Lines that wait for a launched agent, while it starts or because it does not read.
pub(crate) const LAUNCHED_QUEUE: usize = 256;

/// Lines of launched agents that wait for the client to read; the agents then wait too.
pub(crate) const LAUNCHED_EVENTS: usize = 256;

/// Longest that a launched agent may say nothing once it was first asked: a package runner fetches
/// the package before the agent is there to answer.
pub(crate) const FIRST_WORD_MAX: Duration = Duration::from_secs(120);

/// Longest wait for a cancelled prompt's answer; the connection is opened anew after it.
pub(crate) const CANCEL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Longest that an MCP client waits to hear the agent's own name.
pub(crate) const HELLO_WAIT_MAX: Duration = Duration::from_secs(5);

/// Calls of the proxy's tool at a time; all but one of them wait.
pub(crate) const PROXY_CALLS_MAX: usize = 64;

/// Answers of the proxy that its client has not read.
pub(crate) const PROXY_ANSWERS: usize = 64;

/// Tokens kept at a time, one for each provider.
pub(crate) const TOKENS_MAX: usize = 64;

/// How long before its end a token is renewed, or half of its life if that is shorter: what an
/// agent does with it takes a while.
pub(crate) const REFRESH_AHEAD: Duration = Duration::from_secs(5 * 60);

/// Longest that a person may take to log in.
pub(crate) const LOGIN_WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// Longest that an agent's own login in a terminal may take; people look up passwords.
pub(crate) const TERMINAL_LOGIN_MAX: Duration = Duration::from_secs(10 * 60);

/// Longest that a provider may take to answer a program.
pub(crate) const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a provider's metadata.
pub(crate) const METADATA_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a provider's answer with a token; a token is a few kilobytes.
pub(crate) const TOKEN_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Connections to the port that a browser comes back to; it opens one or two.
pub(crate) const CALLBACKS_AT_A_TIME: usize = 8;

/// Answers to other logins that end this one: somebody guesses, or has many windows open.
pub(crate) const FOREIGN_CALLBACKS_MAX: usize = 16;

/// Login methods that are looked at, of all that an agent names.
pub(crate) const AUTH_METHODS_MAX: usize = 50;

/// Characters in the name of a login method; what is longer is no name.
pub(crate) const AUTH_METHOD_CHARS_MAX: usize = 128;
