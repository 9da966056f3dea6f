//! The transport while it lives: what its receivers and its tasks share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use agentbus_protocol::{Pattern, Subject};
use agentbus_transport::remote::{Inboxes, Leaving, Receivers, token};
use agentbus_transport::{Drained, TransportError, TransportStats};
use lapin::BasicProperties;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::errors::NAME;
use crate::home;
use crate::kept::Kept;
use crate::limits;
use crate::line::Line;
use crate::names::Names;
use crate::outlet::{Outlet, Parcel};
use crate::seats::Seats;

/// What everything of one transport shares.
pub(crate) struct Link {
    client: String,
    names: Names,
    topics: Vec<Pattern>,
    /// The connection over which messages come in; publishes have their own.
    incoming: Arc<Line>,
    outlet: Arc<Outlet>,
    inboxes: Arc<Inboxes>,
    receivers: Receivers,
    numbers: AtomicU64,
    seats: Seats,
    kept: Kept,
    leaving: Leaving,
    published: AtomicU64,
    closed: AtomicBool,
    /// Ends what only waits.
    ending: CancellationToken,
    /// Ends the connections and the tasks.
    over: CancellationToken,
    /// What a close finishes before it hangs up: memberships and verdicts.
    lasting: TaskTracker,
    tasks: TaskTracker,
    runtime: tokio::runtime::Handle,
}

impl Link {
    /// Connects, and hears replies when this returns.
    pub(crate) async fn open(address: &Address) -> Result<Arc<Self>, TransportError> {
        let client = token();
        let names = Names::new(&address.namespace);
        let lines = tokio::try_join!(
            Line::open(address, &names, "in"),
            Line::open(address, &names, "out"),
        );
        let (incoming, outgoing) = lines.map_err(|error| Line::unreachable(address, error))?;
        let link = Arc::new(Self {
            inboxes: Arc::new(Inboxes::new(NAME, &client)),
            client,
            names,
            topics: address.topics.clone(),
            incoming: Arc::clone(&incoming),
            outlet: Arc::new(Outlet::new(Arc::clone(&outgoing))),
            receivers: Receivers::default(),
            numbers: AtomicU64::new(0),
            seats: Seats::default(),
            kept: Kept::default(),
            leaving: Leaving::default(),
            published: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
            lasting: TaskTracker::new(),
            tasks: TaskTracker::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        link.spawn(incoming.run(link.over.clone()));
        link.spawn(outgoing.run(link.over.clone()));
        let ear = home::open(&link).await?;
        link.spawn(home::run(Arc::downgrade(&link), ear, link.over.clone()));
        Ok(link)
    }

    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }

    /// Topics of AMB peers that are event types of the bus.
    pub(crate) fn topics(&self) -> &[Pattern] {
        &self.topics
    }

    pub(crate) const fn incoming(&self) -> &Arc<Line> {
        &self.incoming
    }

    pub(crate) const fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    pub(crate) const fn inboxes(&self) -> &Arc<Inboxes> {
        &self.inboxes
    }

    pub(crate) const fn receivers(&self) -> &Receivers {
        &self.receivers
    }

    /// A number for a receiver.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) const fn seats(&self) -> &Seats {
        &self.seats
    }

    pub(crate) const fn kept(&self) -> &Kept {
        &self.kept
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

    /// Starts a task that ends with the transport.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Starts a task that a close lets finish before it hangs up.
    pub(crate) fn spawn_lasting(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lasting.spawn_on(task, &self.runtime);
    }

    /// Sends a client something that is no reply, for which nobody waits.
    pub(crate) async fn tell(&self, inbox: Subject, client: &str, body: Vec<u8>) {
        let parcel = Parcel {
            exchange: "".into(),
            key: self.names.inbox(client).into(),
            properties: BasicProperties::default().with_content_type("application/json".into()),
            body,
            subject: inbox,
        };
        if let Err(error) = self.outlet.send(parcel).await {
            tracing::debug!(%error, "a notice could not be sent");
        }
    }

    pub(crate) fn stats(&self) -> TransportStats {
        TransportStats {
            published: self.published.load(Ordering::Relaxed),
            inboxes: self.inboxes.len(),
            queues: self.receivers.stats(),
        }
    }

    /// Takes no more publishes, lets receivers hand out what they have, and hangs up.
    pub(crate) async fn close(&self, drain: Duration) -> Drained {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Drained::default();
        }
        let deadline = agentbus_transport::clock::moment_in(drain);
        let mailboxes = self.inboxes.mailboxes();
        mailboxes.iter().for_each(|mailbox| mailbox.stop());
        let abandoned = self.receivers.drain(deadline).await;
        let unread: usize = mailboxes.iter().map(|mailbox| mailbox.unread()).sum();
        self.hang_up().await;
        Drained {
            abandoned: abandoned + unread,
        }
    }

    /// Lets what is under way reach the broker, then ends the connections and all tasks.
    async fn hang_up(&self) {
        self.ending.cancel();
        self.lasting.close();
        // Without a broker there is nothing to finish, and it takes back what was in our hands.
        let finished = async {
            self.lasting.wait().await;
            self.outlet.flush().await;
        };
        let _ = timeout(limits::CLOSE_TIMEOUT, finished).await;
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("client", &self.client)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever forgot to close it leaves no connection behind either.
        self.ending.cancel();
        self.over.cancel();
    }
}
