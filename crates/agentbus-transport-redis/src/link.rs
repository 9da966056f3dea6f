//! The connection while it lives: what the transport, its receivers and its tasks share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use agentbus_transport::remote::{Drain, Leaving, Receivers, token};
use agentbus_transport::{Drained, TransportError, TransportStats};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::batch::Outgoing;
use crate::commands::{Commands, NAME, Order};
use crate::desk::Desk;
use crate::hearing::Hearing;
use crate::inbox::SharedInbox;
use crate::member::Member;
use crate::names::Names;
use crate::publisher::Writer;
use crate::server::Server;
use crate::{heartbeat, limits};

/// What everything of one transport shares.
pub(crate) struct Link {
    desk: Arc<Desk>,
    inbox: Arc<SharedInbox>,
    hearing: Arc<Hearing>,
    /// To the writer; gone when publishes are not taken any more.
    outgoing: Mutex<Option<mpsc::Sender<Outgoing>>>,
    receivers: Receivers,
    members: Mutex<HashMap<u64, Weak<Member>>>,
    leaving: Leaving,
    numbers: AtomicU64,
    published: AtomicU64,
    closed: AtomicBool,
    /// Ends what only waits: pauses and the heartbeat.
    ending: CancellationToken,
    /// What a close finishes before it hangs up: memberships and verdicts.
    lasting: TaskTracker,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Link {
    /// Connects, and hears replies when this returns.
    pub(crate) async fn open(address: &Address) -> Result<Arc<Self>, TransportError> {
        let commands = Commands::new(address.client()?, CancellationToken::new());
        let met = Server::meet(&commands).await;
        let server = met.map_err(|error| unreachable_at(address, error))?;
        let client = token();
        let settings = address.settings.clone();
        let durability = settings.durability.unwrap_or(server.durability);
        let names = Names::new(&settings.namespace);
        let inbox = Arc::new(SharedInbox::new(&client, names.clone()));
        let home = names.inbox(&client);
        let (hearing, stream) =
            Hearing::open(Arc::clone(&commands), Arc::clone(&inbox), home).await?;
        let desk = Arc::new(Desk::new(commands, settings, client, durability));
        desk.reload().await?;
        let (outgoing, waiting) = mpsc::channel(limits::OUTGOING);
        let link = Arc::new(Self {
            desk: Arc::clone(&desk),
            inbox,
            hearing: Arc::clone(&hearing),
            outgoing: Mutex::new(Some(outgoing)),
            receivers: Receivers::default(),
            members: Mutex::default(),
            leaving: Leaving::default(),
            numbers: AtomicU64::new(0),
            published: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ending: CancellationToken::new(),
            lasting: TaskTracker::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        link.spawn(hearing.run(stream));
        link.spawn(Writer::new(desk, waiting).run());
        heartbeat::beat(&link.desk).await?;
        link.spawn(heartbeat::run(
            Arc::downgrade(&link),
            Arc::clone(&link.desk),
            link.ending.clone(),
        ));
        Ok(link)
    }

    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.desk.commands
    }

    pub(crate) fn names(&self) -> &Names {
        &self.desk.names
    }

    pub(crate) const fn inbox(&self) -> &Arc<SharedInbox> {
        &self.inbox
    }

    pub(crate) fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    pub(crate) const fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    pub(crate) const fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn count_publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// The way out; `None` once the transport is closed.
    pub(crate) fn outgoing(&self) -> Option<mpsc::Sender<Outgoing>> {
        self.outgoing.lock().clone()
    }

    /// Starts a task that ends with the transport.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Starts a task that a close lets finish before it hangs up.
    pub(crate) fn spawn_lasting(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lasting.spawn_on(task, &self.runtime);
    }

    /// Publishes bytes on a channel, for which nobody waits.
    pub(crate) async fn tell(&self, channel: String, data: Vec<u8>) {
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(channel).arg(data);
        if let Err(error) = self.commands().once(&Order::One(cmd)).await {
            tracing::debug!(%error, "a notice could not be sent");
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Enters a receiver, so that a close finds it.
    pub(crate) fn enter(
        &self,
        number: u64,
        receiver: Weak<dyn Drain>,
    ) -> Result<(), TransportError> {
        self.receivers.enter(NAME, number, receiver)
    }

    /// Enters a member, so that it joins again when the server has forgotten it.
    pub(crate) fn enter_member(&self, number: u64, member: Weak<Member>) {
        self.members.lock().insert(number, member);
    }

    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    pub(crate) fn leave(&self, number: u64) {
        self.members.lock().remove(&number);
        self.receivers.leave(number);
    }

    /// Says that a receiver may have handed out all it had.
    pub(crate) fn note_drained(&self) {
        self.receivers.note_drained();
    }

    pub(crate) fn stats(&self) -> TransportStats {
        TransportStats {
            published: self.published.load(Ordering::Relaxed),
            inboxes: self.inbox.calls().len(),
            queues: self.receivers.stats(),
        }
    }

    /// Takes no more publishes, lets receivers hand out what they have, and hangs up.
    pub(crate) async fn close(&self, drain: Duration) -> Drained {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Drained::default();
        }
        let deadline = agentbus_transport::clock::moment_in(drain);
        let mailboxes = self.inbox.calls().mailboxes();
        mailboxes.iter().for_each(|mailbox| mailbox.stop());
        let abandoned = self.receivers.drain(deadline).await;
        let unread: usize = mailboxes.iter().map(|mailbox| mailbox.unread()).sum();
        self.hang_up().await;
        Drained {
            abandoned: abandoned + unread,
        }
    }

    /// Lets what is under way reach the server, then ends the connections and all tasks.
    async fn hang_up(&self) {
        self.ending.cancel();
        drop(self.outgoing.lock().take());
        self.lasting.close();
        // Without a server there is nothing to finish, and the lease ends what was in our hands.
        let _ = timeout(limits::STOP_TIMEOUT, self.lasting.wait()).await;
        let _ = timeout(limits::RESPONSE_TIMEOUT, heartbeat::farewell(&self.desk)).await;
        self.commands().over().cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Says which server it is that does not answer.
fn unreachable_at(address: &Address, error: TransportError) -> TransportError {
    match error {
        TransportError::Carrier { transport, reason } => TransportError::Carrier {
            transport,
            reason: format!(
                "cannot reach {}: {reason}; {}",
                address.place(),
                address.hint()
            ),
        },
        other => other,
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("client", &self.desk.client)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever forgot to close it leaves no connection behind either.
        self.ending.cancel();
        self.commands().over().cancel();
    }
}
