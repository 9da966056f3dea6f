//! Every limit of the conversation model, with its reason.

use std::time::Duration;

/// Longest content of one message: what a reader can be expected to take in at once, and small
/// enough that a page of a hundred still fits into memory.
pub const CONTENT_BYTES_MAX: usize = 1024 * 1024;

/// Longest metadata of a message, a thread or a template, as JSON text. Attachments belong into
/// uploads; metadata only points to them.
pub const METADATA_BYTES_MAX: usize = 256 * 1024;

/// Longest topic, name, label or id that a caller may choose: it is shown on one line.
pub const NAME_BYTES_MAX: usize = 1024;

/// Longest emoji of an agent: families with skin colours take 41 bytes.
pub const EMOJI_BYTES_MAX: usize = 64;

/// Longest path of a thread's workspace, as on Linux.
pub const WORKSPACE_BYTES_MAX: usize = 4096;

/// Longest system prompt or description.
pub const PROMPT_BYTES_MAX: usize = 256 * 1024;

/// Most capabilities, or skills, of one agent.
pub const ABILITIES_MAX: usize = 256;

/// Most registered agents; each is looked at by the presence check.
pub const AGENTS_MAX: usize = 100_000;

/// Most templates, which are listed without pages.
pub const TEMPLATES_MAX: usize = 1_000;

/// Most different reactions to one message, which are listed with it.
pub const REACTIONS_MAX: usize = 1_000;

/// Most threads on one page.
pub const THREADS_PAGE_MAX: usize = 200;

/// Most messages on one page.
pub const MESSAGES_PAGE_MAX: usize = 1_000;

/// Most entries on one page of a transcript, as in AgentChatBus.
pub const TRANSCRIPT_PAGE_MAX: usize = 2_000;

/// Most messages that one wait delivers; the rest comes with the next wait.
pub const WAIT_PAGE: usize = 100;

/// Most search results.
pub const SEARCH_PAGE_MAX: usize = 200;

/// Longest search query. A query is parsed with every index page it touches.
pub const QUERY_BYTES_MAX: usize = 4 * 1024;

/// Most matches that a ranked search weighs, the newest first. Ranking reads every match, so a
/// common word in a large bus would cost in proportion to the bus.
pub const RANKED_CANDIDATES_MAX: usize = 5_000;

/// Most events on one page of a reader that catches up.
pub const EVENTS_PAGE: usize = 500;

/// Most events that a slow reader may lag behind before it is sent back to the store.
pub const EVENTS_BUFFERED: usize = 4096;

/// First and longest pause before a store that failed is asked again by those who follow events:
/// short, because most troubles are over at once, and bounded by what may pass unnoticed after a
/// long one.
pub const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How long events are kept for readers that come back.
pub const EVENTS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Most events that are removed in one transaction, so that a poster never waits for the broom.
pub const PRUNE_BATCH: usize = 2_000;

/// Messages for people only, over all threads, among which cards that wait are looked for: 1024.
///
/// A card that so many others have followed is not what anybody waits for.
pub const CARDS_SEARCHED: usize = 1024;

/// How long the outcome of a write is kept for a repeated idempotency key.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// Longest idempotency key in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Most waits at one time, over all threads.
pub const WAITS_MAX: usize = 10_000;

/// Longest wait. Longer ones are cut to it: nothing between two machines stays open for a day.
pub const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// First refresh of a waiting agent's heartbeat, and every further one.
pub const WAIT_HEARTBEAT: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(40));

/// Longest pause between two waits that still counts as one: what an agent needs to call again.
pub const WAIT_PAUSE: Duration = Duration::from_secs(30);

/// Most write jobs that wait for the writer. Posters wait beyond it.
pub const WRITE_QUEUE: usize = 4096;

/// Most jobs in one transaction. Beyond it the first of them would wait noticeably for the last.
pub const WRITE_BATCH_MAX: usize = 512;

/// Messages that the search index of a file may lack: 64. Longer ones count for several.
///
/// Indexing so many takes a millisecond or two, which is what their last poster waits longer, and a
/// search that comes before.
pub const INDEX_BEHIND_MAX: usize = 64;

/// Bytes of a message that cost as much to index as a short one: 4 KiB.
pub const INDEX_UNIT_BYTES: usize = 4096;

/// Connections for reading. More only compete for the same cores.
pub const READERS: usize = 4;

/// Most read jobs that wait for a connection; beyond it a read is refused.
pub const READ_QUEUE: usize = 4096;

/// Prepared statements that each connection remembers; there are fewer in the source.
pub const STATEMENTS: usize = 256;

/// Longest time that a commit idles for posters who are known to come again: 5 ms. It is half of
/// what a flush of the disk takes where that is less.
pub const COMPANY_WAIT_MAX: Duration = Duration::from_millis(5);

/// How long a connection waits for another process that holds the database.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// New pages of 4 KiB in the write-ahead log for which it is copied into the database beside the
/// writer: 4096, which is 16 MiB. Pages that change often are copied once for all of them.
pub const WAL_SOFT_PAGES: u64 = 4096;

/// Pages in the write-ahead log from which on the writer copies it by itself: 16 384, which is
/// 64 MiB.
///
/// A copy beside the writer never holds what was written meanwhile, so under a load without pause
/// this is what makes the log begin again; what is left to copy then is little.
pub const WAL_HARD_PAGES: u64 = 16_384;

/// Pages in the write-ahead log from which on the writer waits for those who read it, for at most
/// [`BUSY_TIMEOUT`] each time: 65 536, which is 256 MiB.
pub const WAL_LAST_PAGES: u64 = 65_536;

/// How long a connection to PostgreSQL may take, how long the handshake of one that is encrypted,
/// with the question whether it is, and how long the login. That over a socket in the file system
/// is not bounded: the driver lets nobody come between.
pub const POSTGRES_CONNECT: Duration = Duration::from_secs(5);

/// How long a node waits for another one that writes, how long one may stand still in the middle of
/// a transaction before PostgreSQL ends it, and how long bytes may lie unacknowledged.
pub const POSTGRES_STALL: Duration = Duration::from_secs(10);

/// Pause before a broken connection to PostgreSQL is tried again.
pub const POSTGRES_RECONNECT: Duration = Duration::from_millis(250);

/// How often a node asks whether its session is still there, and whether it now leads: so long the
/// work of a dead leader waits.
pub const POSTGRES_TURN: Duration = Duration::from_secs(2);

/// Longest notice to other nodes; PostgreSQL takes less than 8000 bytes. One that would be longer
/// wakes all waiters instead of naming their threads.
pub const POSTGRES_NOTICE_BYTES_MAX: usize = 7_900;

/// Longest word of the index in PostgreSQL, which takes 2046 bytes; longer ones are cut.
pub const WORD_BYTES_MAX: usize = 512;

/// Bytes of words of one message that are indexed in PostgreSQL, which takes 1 MiB with its own
/// overhead; the rest is not found.
pub const INDEXED_BYTES_MAX: usize = 384 * 1024;

/// Deepest brackets of a query: the reader calls itself for each.
pub const QUERY_DEPTH_MAX: usize = 64;

/// Words between two texts of a `NEAR` in PostgreSQL, which has to be told every distance.
pub const NEAR_WORDS: usize = 10;

/// How often the coordinator looks at threads whose agents all wait.
pub const COORDINATOR_INTERVAL: Duration = Duration::from_secs(10);

/// System messages among which the coordinator looks for its own cards.
pub const CARDS_LOOKED_AT: usize = 80;

/// Shortest and longest distance between two equal notices of the coordinator; it doubles between.
pub const NOTICE_BACKOFF: (Duration, Duration) =
    (Duration::from_secs(15), Duration::from_secs(3600));

/// How often old events and outcomes are removed.
pub const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Window in which an author's messages are counted.
pub const RATE_WINDOW: Duration = Duration::from_secs(60);

/// Smallest value of a thread's timeouts, in seconds.
pub const THREAD_TIMEOUT_MIN_S: i64 = 30;

/// Characters of a message that its event repeats.
pub const EVENT_EXCERPT_CHARS: usize = 200;

/// Rows that an import copies in one transaction.
pub const IMPORT_BATCH: usize = 1_000;

/// How far a turn may be from the message of somebody who is no live agent. Answers to answers lose
/// what was asked; a person may ask again.
pub const TURN_DEPTH_MAX: usize = 8;

/// Turns that may come of one message, over all agents and threads.
pub const TURNS_OF_ONE_MESSAGE_MAX: usize = 24;

/// Messages back and forth between two agents, after which they are left to themselves.
pub const TURN_PING_PONG: usize = 8;

/// Messages that a turn shows at most; older ones can be read with `msg_list`.
pub const TURN_BACKLOG: usize = 50;

/// Longest answer that becomes a message, as large as a post may be; the rest is left out.
pub const TURN_ANSWER_BYTES_MAX: usize = CONTENT_BYTES_MAX;

/// How long an agent may be silent in a turn. Tools take minutes, and permissions take people.
pub const TURN_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Agents in threads that are known at a time; idle ones are forgotten first, and are then shown the
/// newest messages as if they were new to the thread.
pub const TURN_SEATS_MAX: usize = 10_000;

/// Messages of which it is remembered what they came of.
pub const TURNS_REMEMBERED: usize = 10_000;

/// How long a node that does not lead keeps new messages, should nobody lead when they come: a few
/// times what it takes until another node does.
pub const TURN_UNHEARD_FOR: Duration = Duration::from_secs(60);

/// Most messages that it keeps so; of more than that the oldest are forgotten.
pub const TURN_UNHEARD_MAX: usize = 1_000;

/// How often a node that keeps some looks whether it leads now.
pub const TURN_LOOK: Duration = Duration::from_secs(1);
