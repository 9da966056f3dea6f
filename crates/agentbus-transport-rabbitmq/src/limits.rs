//! Every limit of the transport, with its reason.

use std::time::Duration;

/// Longest time that one attempt to connect may take. A broker that is not there refuses at once;
/// one whose machine is overloaded has been seen to take longer than five seconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Shortest pause between two attempts to reach a lost broker; it doubles with each attempt.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(20);

/// Longest such pause. Attempts never end: a bus that outlives its broker's restart is worth more
/// than an early error.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// How often each side shows that it is alive; two missed beats are the end of a connection.
pub const HEARTBEAT_SECONDS: u16 = 10;

/// Longest time between two looks at whether a connection still stands, besides its own events.
pub const LOOK: Duration = Duration::from_secs(1);

/// Longest wait for the answer to one request of the protocol. A declaration is written to the
/// broker's disk, which on an overloaded machine has been seen to take longer than ten seconds.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that a publish waits for the broker to come back, and then for its confirmation.
/// Longer than a restart takes.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest wait until a subscription is known to the broker, over reconnects.
pub const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that a close waits for verdicts and memberships to reach the broker.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes on their way to the broker or waiting for its confirmation; beyond it publishers wait.
pub const UNCONFIRMED: usize = 4096;

/// Channels for publishes that come back when nobody listens. On each one is under way at a time,
/// because the client library cannot tell which of several came back.
pub const ASKING_CHANNELS: usize = 8;

/// Most subscriptions of one transport. Each has a channel of its own, and RabbitMQ allows 2047 on
/// one connection unless its operator says otherwise; one is for replies.
pub const SUBSCRIPTIONS: usize = 2046;

/// Durable names whose patterns a transport remembers for its receipts; every publish is compared
/// with each.
pub const KEPT_PATTERNS: usize = 256;

/// Most messages in the queue of a durable name; beyond it publishes are refused, so that a name
/// that nobody uses does not fill the broker's disk.
pub const QUEUE_MESSAGES: u32 = 1_000_000;

/// Most messages in the queue of a group, which lies in the broker's memory; beyond it publishes
/// are refused.
pub const GROUP_MESSAGES: u32 = 100_000;

/// Most messages of one plain subscription or of the inboxes that the broker holds because the
/// connection cannot take them. The oldest goes.
pub const PASSING_MESSAGES: u32 = 1_000_000;

/// Silence after which the broker removes the queue of a group that nobody consumes: how long a
/// crashed agent's requests lie where nobody reads them.
pub const GROUP_LIFE: Duration = Duration::from_secs(6);

/// How often a member that nobody has read from yet shows that its group's queue is in use.
pub const GROUP_BEAT: Duration = Duration::from_secs(2);

/// Most messages that one member has in its hands; the protocol counts them in 16 bits.
pub const PREFETCH_MAX: usize = 10_000;

/// Delay before a message comes again whose handler dropped it without a word, so that a handler
/// which always panics does not spin.
pub const ABANDONED_DELAY: Duration = Duration::from_millis(100);

/// Longest delay of a redelivery. The member keeps the message meanwhile, and after 30 minutes the
/// broker would take the channel away from whoever keeps one.
pub const NAK_DELAY_MAX: Duration = Duration::from_secs(20 * 60);

/// Longest routing key and longest name of anything, in bytes: the protocol writes the length into
/// one of them.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest name of a namespace, in bytes: it stands before the name of every queue.
pub const NAMESPACE_BYTES_MAX: usize = 64;
