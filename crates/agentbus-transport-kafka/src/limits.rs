//! Every limit of the transport, with its reason.

use std::time::Duration;

/// Longest wait for the first answer of a broker; one on another continent answers in a tenth.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest pause between two attempts to reach a lost broker. Attempts never end: a bus that
/// outlives its broker's restart is worth more than an early error.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the answer to one request about topics and offsets.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before such a request is made again, because a topic that was just made is not known to
/// every broker at once.
pub const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Longest time over which a publish or a verdict is tried again before it fails. Longer than the
/// restart of a broker takes.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait until a subscription is known to the other side, over reconnects.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for the removal of a durable name. Longer than it takes to know whether a client
/// that has the name is gone, and then to have an answer of the broker.
pub const REMOVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time that a stopped subscription waits for what was published before, and a close for
/// what is under way.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the lanes are read for a member of a group that has left, and that was the last to
/// listen. What was dealt to it before is tried for as long as this, and whoever waits for an
/// answer has to be told.
pub const LAST_DEALT: Duration = PUBLISH_TIMEOUT;

/// Longest time that a broker keeps a question for new messages open. It answers when there are
/// any; this is only how long an idle connection stays silent.
pub const FETCH_WAIT: Duration = Duration::from_millis(200);

/// Most messages, and most of their bytes, that wait in the client to be sent. Beyond it publishers
/// wait. It is what is held while the broker is away.
pub const OUTGOING: usize = 100_000;

/// Bytes of the messages that wait to be sent.
pub const OUTGOING_BYTES: usize = 64 << 20;

/// Pause of a publisher that found the client's queue full.
pub const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Bytes of messages that the client holds which nobody has looked at yet.
pub const INCOMING_BYTES: usize = 16 << 20;

/// Largest message of a topic: the largest envelope, and what AMB and Kafka write around it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// How long calls and replies stay on the broker's disk. Nobody reads them later than at once, but
/// a client that was cut off for less finds what it missed.
pub const CALLS_RETENTION: Duration = Duration::from_secs(600);

/// Partitions for replies. A client reads one of them, so this divides what each client hears of
/// the replies to others.
pub const REPLY_PARTITIONS: i32 = 8;

/// Partitions for the ledgers of durable names, for the same reason.
pub const WORK_PARTITIONS: i32 = 4;

/// How often a client shows that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// Beats of our own that were heard since the last one of somebody else, after which that one is
/// gone. Counted in our own beats, so that a broker that stands still kills nobody.
pub const MISSED_BEATS: u64 = 3;

/// Silence after which a client counts as gone that was silent already when we came.
pub const CLIENT_LIFE: Duration = Duration::from_secs(10);

/// Time for the last replies of a client that has left, which travel on another topic than the
/// news that it has.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Most members, durable names and clients that the bus knows of. A peer could otherwise fill our
/// memory by joining.
pub const TABLE_ENTRIES: usize = 200_000;

/// Most inboxes elsewhere, and clients, that are known to have left. The oldest is forgotten, which
/// costs one message to learn it again.
pub const GONE_INBOXES: usize = 10_000;

/// Most durable subscriptions and replays of one transport: each has a consumer with threads of its
/// own in the client library.
pub const DURABLES_MAX: usize = 256;

/// Messages of a durable name that are looked at ahead of the oldest unsettled one. Beyond it the
/// log waits, so that one message that nobody settles does not make the ledger grow for ever.
pub const LEDGER_WINDOW: usize = 16_384;

/// Entries of the ledger that one record may speak of.
pub const CLAIM_BATCH: usize = 256;

/// How long a member leaves a message to the one whose turn it is before it takes it.
pub const STEAL_DELAY: Duration = Duration::from_millis(10);

/// Longest time between two looks for messages whose lease has ended or whose delay is over.
pub const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// How often the place up to which a durable name has settled everything is committed. What was
/// settled since is in the ledger; this bounds how much of it is read again.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Delay before a message comes again whose handler dropped it without a word, so that a handler
/// which always panics does not spin.
pub const ABANDONED_DELAY: Duration = Duration::from_millis(100);

/// Most deliveries that one member has in its hands.
pub const PREFETCH_MAX: usize = 10_000;

/// Longest name of a namespace, in bytes: it stands before the name of every topic.
pub const NAMESPACE_BYTES_MAX: usize = 64;
