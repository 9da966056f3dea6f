//! Waiting for what others post.
//!
//! ```text
//! enter: who waits, may it wait, has it to look again → look → sleep until the commit of a message
//! → look → leave: the token for the next post
//! ```
//!
//! The commit itself wakes; nothing polls. Entering and leaving are [`Promise::Soon`]: what they
//! change is worth nothing after a crash, and a waiter must not wait for the disk.

use std::time::Duration;

use tokio::sync::SemaphorePermit;

use crate::model::{Message, SyncContext, TokenSource, Waiting};
use crate::store::{MessageQuery, Promise, ThreadWatch, Tx, WaitRun, perform_detached};
use crate::{AgentId, AuthProblem, BoxFuture, Chat, ChatError, Seq, ThreadId, limits};

use super::{Core, Credentials, ProvenAgent};

/// A wait.
#[derive(Debug, Clone)]
pub struct WaitRequest {
    /// Where to wait.
    pub thread_id: ThreadId,
    /// The last number that the waiter has seen.
    pub after_seq: Seq,
    /// How long; the configured time without it.
    pub timeout: Option<Duration>,
    /// What the waiter proves itself with.
    pub credentials: Option<Credentials>,
    /// The agent that the gateway knows by its connection.
    pub known: Option<ProvenAgent>,
    /// Only messages handed to this agent count.
    pub for_agent: Option<String>,
}

impl WaitRequest {
    /// An anonymous wait for the configured time.
    #[must_use]
    pub const fn new(thread_id: ThreadId, after_seq: Seq) -> Self {
        Self {
            thread_id,
            after_seq,
            timeout: None,
            credentials: None,
            known: None,
            for_agent: None,
        }
    }
}

/// What a wait brought.
#[derive(Debug, Clone)]
pub struct Waited {
    /// New messages; none when the time was up, or when the waiter first had to get in step.
    pub messages: Vec<Message>,
    /// What the waiter needs for a strict post.
    pub sync: SyncContext,
    /// Who waited, if the waiter proved it.
    pub agent: Option<ProvenAgent>,
}

/// What entering found out.
struct Entered {
    agent: Option<ProvenAgent>,
    /// The waiter is out of step, so nothing new is an answer too.
    at_once: bool,
    current_seq: Seq,
}

/// What a look found.
struct Seen {
    messages: Vec<Message>,
    /// How far the look went.
    upto: Seq,
}

/// Clears the wait of someone who leaves without a word, such as a closed connection.
struct Leaving {
    chat: Chat,
    thread: ThreadId,
    agent: Option<AgentId>,
}

impl Chat {
    /// Waits until others have posted, or until the time is up, which is no error. Dropping the
    /// future ends the wait.
    ///
    /// # Errors
    /// Fails when there is no such thread, when the waiter does not prove who it is, or when it is
    /// sent away meanwhile.
    pub async fn wait(&self, request: WaitRequest) -> Result<Waited, ChatError> {
        let _place = self.wait_place()?;
        let thread = request.thread_id.clone();
        // Before the first look, or a message between the two would wake nobody.
        let mut watch = self.inner.store.feed().watch(&thread);
        let timeout = self.inner.core.wait_time(request.timeout);
        let entering = request.clone();
        let entered = self
            .write_with(Promise::Soon, move |core, tx| {
                core.enter(tx, &entering, timeout)
            })
            .await?;
        let mut leaving = Leaving {
            chat: self.clone(),
            thread,
            agent: entered.agent.as_ref().map(|agent| agent.id().clone()),
        };
        let seen = self.watch(&mut watch, &request, &entered, timeout).await?;
        leaving.agent = None;
        self.leave(request, entered, seen).await
    }

    fn wait_place(&self) -> Result<SemaphorePermit<'_>, ChatError> {
        self.inner
            .waits
            .try_acquire()
            .map_err(|_| ChatError::TooMany {
                what: "waits",
                limit: limits::WAITS_MAX,
            })
    }

    /// Looks, and sleeps, until there is something to say.
    async fn watch(
        &self,
        watch: &mut ThreadWatch,
        request: &WaitRequest,
        entered: &Entered,
        timeout: Duration,
    ) -> Result<Seen, ChatError> {
        let clock = &self.inner.core.ambient.clock;
        let mut over = clock.sleep(timeout);
        let mut beat = clock.sleep(limits::WAIT_HEARTBEAT.0);
        let mut cursor = request.after_seq;
        let mut woken = false;
        loop {
            let seen = self.look_after(request, cursor).await?;
            if !seen.messages.is_empty() || entered.at_once {
                return Ok(seen);
            }
            if woken {
                self.check_still_waiting(request, entered).await?;
            }
            woken = true;
            cursor = seen.upto;
            loop {
                tokio::select! {
                    () = watch.changed() => break,
                    () = &mut over => return Ok(seen),
                    () = &mut beat => beat = self.beat(entered.agent.clone()).await?,
                }
            }
        }
    }

    async fn look_after(&self, request: &WaitRequest, cursor: Seq) -> Result<Seen, ChatError> {
        let (thread, only_for) = (request.thread_id.clone(), request.for_agent.clone());
        self.read(move |core, tx| {
            core.thread(tx, &thread)?;
            let (messages, upto) = unseen(tx, &thread, cursor, only_for.as_deref())?;
            Ok(Seen { messages, upto })
        })
        .await
    }

    /// Whoever is woken for nothing may have been sent away. Asks the writer: readers may not see
    /// yet that the wait began.
    async fn check_still_waiting(
        &self,
        request: &WaitRequest,
        entered: &Entered,
    ) -> Result<(), ChatError> {
        let Some(agent) = &entered.agent else {
            return Ok(());
        };
        let agent = agent.id().clone();
        let thread = request.thread_id.clone();
        self.write_with(Promise::Soon, move |_, tx| {
            if tx.is_waiting(&thread, &agent)? {
                return Ok(());
            }
            Err(ChatError::Kicked(agent))
        })
        .await
    }

    /// Notes that a waiter lives; when to do it again.
    async fn beat(&self, agent: Option<ProvenAgent>) -> Result<BoxFuture<'static, ()>, ChatError> {
        if let Some(agent) = agent {
            self.write_with(Promise::Soon, move |core, tx| {
                check_not_kicked(tx, &agent)?;
                Ok(tx.touch_agent(agent.id(), "msg_wait", true, core.now())?)
            })
            .await?;
        }
        Ok(self
            .inner
            .core
            .ambient
            .clock
            .sleep(limits::WAIT_HEARTBEAT.1))
    }

    async fn leave(
        &self,
        request: WaitRequest,
        entered: Entered,
        seen: Seen,
    ) -> Result<Waited, ChatError> {
        let agent = entered.agent.clone();
        let who = entered.agent;
        let thread = request.thread_id.clone();
        let seq_at_entry = entered.current_seq;
        let delivered = !seen.messages.is_empty();
        let mut sync = self
            .write_with(Promise::Soon, move |core, tx| {
                core.leave(tx, &thread, who.as_ref(), delivered, seq_at_entry)
            })
            .await?;
        let mut messages = seen.messages;
        if !messages.is_empty() {
            // Not further than what is shown: what came since is for the next wait, and a strict
            // post before that must be refused.
            sync.current_seq = seen.upto;
        } else if sync.current_seq > seen.upto {
            // It came while the wait ended. The token covers it, so it is shown. Asked of the writer:
            // it may not be committed yet, so that readers would not see it, and is told when it is.
            let (thread, upto) = (request.thread_id, seen.upto);
            let only_for = request.for_agent;
            let late = self.write_with(Promise::Stored, move |_, tx| {
                unseen(tx, &thread, upto, only_for.as_deref())
            });
            (messages, sync.current_seq) = late.await?;
        }
        Ok(Waited {
            messages,
            sync,
            agent,
        })
    }
}

impl Core {
    fn wait_time(&self, asked: Option<Duration>) -> Duration {
        let asked = asked.unwrap_or(self.config.wait_timeout);
        asked.clamp(self.config.wait_min.min(limits::WAIT_MAX), limits::WAIT_MAX)
    }

    /// Refuses a wait that is too short, where that is wanted. Who named no time gets one that is
    /// long enough.
    fn check_long_enough(&self, asked: Option<Duration>) -> Result<(), ChatError> {
        let Some(asked) = asked else { return Ok(()) };
        let min = self.config.wait_min.min(limits::WAIT_MAX);
        if !self.config.wait_min_enforced || asked >= min {
            return Ok(());
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Err(ChatError::WaitTooShort {
            asked_ms: millis(asked),
            min_ms: millis(min),
        })
    }

    fn enter(
        &self,
        tx: &mut dyn Tx,
        request: &WaitRequest,
        timeout: Duration,
    ) -> Result<Entered, ChatError> {
        let thread = &request.thread_id;
        self.thread(tx, thread)?;
        let known = self.waiter(tx, request)?;
        let current_seq = tx.current_seq(thread)?;
        let Some(known) = known else {
            self.check_long_enough(request.timeout)?;
            return Ok(Entered {
                agent: None,
                at_once: false,
                current_seq,
            });
        };
        let agent = known.id();
        let holds_none = tx.issued_tokens(thread, agent)?.is_empty();
        let at_once =
            tx.refresh_requested(thread, agent)? || (holds_none && request.after_seq < current_seq);
        // Whoever is out of step is answered at once, so it may ask for little.
        if !at_once {
            self.check_long_enough(request.timeout)?;
        }
        let now = self.now();
        let run = self.resumed_run(tx, thread, agent)?;
        let run = run.unwrap_or(WaitRun {
            since: now,
            left_at: None,
        });
        tx.put_wait_run(
            thread,
            agent,
            Some(WaitRun {
                left_at: None,
                ..run
            }),
        )?;
        let waiting = Waiting {
            thread_id: thread.clone(),
            agent_id: agent.clone(),
            entered_at: run.since,
            timeout_ms: i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX),
        };
        tx.put_waiting(&waiting, now)?;
        tx.touch_agent(agent, "msg_wait", true, now)?;
        Ok(Entered {
            agent: Some(known),
            at_once,
            current_seq,
        })
    }

    /// The run of waits that this one continues. Agents with short waits would otherwise never be
    /// seen to wait long.
    fn resumed_run(
        &self,
        tx: &dyn Tx,
        thread: &ThreadId,
        agent: &AgentId,
    ) -> Result<Option<WaitRun>, ChatError> {
        let now = self.now();
        let recent = |run: &WaitRun| {
            run.left_at
                .is_none_or(|left| now.since(left) <= limits::WAIT_PAUSE)
        };
        Ok(tx.wait_run(thread, agent)?.filter(recent))
    }

    fn waiter(&self, tx: &dyn Tx, request: &WaitRequest) -> Result<Option<ProvenAgent>, ChatError> {
        let Some(credentials) = &request.credentials else {
            return match &request.known {
                Some(known) if !known.holds(tx)? => {
                    Err(ChatError::Unauthenticated(AuthProblem::Token))
                }
                known => Ok(known.clone()),
            };
        };
        if credentials.agent_id.as_str().is_empty() || credentials.token.is_empty() {
            return Err(ChatError::Unauthenticated(AuthProblem::Incomplete));
        }
        let agent = self.verified(tx, credentials)?;
        Ok(Some(ProvenAgent::new(agent.id, &credentials.token)))
    }

    fn leave(
        &self,
        tx: &mut dyn Tx,
        thread: &ThreadId,
        agent: Option<&ProvenAgent>,
        delivered: bool,
        seq_at_entry: Seq,
    ) -> Result<SyncContext, ChatError> {
        self.thread(tx, thread)?;
        let Some(agent) = agent else {
            return self.issue(tx, thread, None, TokenSource::Wait);
        };
        check_not_kicked(tx, agent)?;
        let agent = agent.id();
        let now = self.now();
        let run = tx.wait_run(thread, agent)?.filter(|_| !delivered);
        let run = run.map(|run| WaitRun {
            left_at: Some(now),
            ..run
        });
        tx.put_wait_run(thread, agent, run)?;
        tx.remove_waiting(thread, agent)?;
        if delivered {
            tx.touch_agent(agent, "msg_received", false, now)?;
        }
        tx.clear_refresh(thread, agent)?;
        let held = tx.issued_tokens(thread, agent)?;
        let unchanged = !delivered && tx.current_seq(thread)? == seq_at_entry;
        match held.into_iter().next().filter(|_| unchanged) {
            // Nothing happened, so the token that the waiter has is as good as a new one.
            Some(newest) => {
                self.keep_only(tx, thread, agent, &newest)?;
                self.context(tx, thread, newest)
            }
            None => self.renew(tx, thread, agent),
        }
    }

    fn keep_only(
        &self,
        tx: &mut dyn Tx,
        thread: &ThreadId,
        agent: &AgentId,
        newest: &str,
    ) -> Result<(), ChatError> {
        for older in tx.issued_tokens(thread, agent)? {
            if older != newest {
                tx.consume_token(&older, self.now())?;
            }
        }
        Ok(())
    }
}

/// Refuses an agent that was sent away while it waited: it must neither seem online again nor get a
/// reply token, which would outlive the kick.
fn check_not_kicked(tx: &dyn Tx, agent: &ProvenAgent) -> Result<(), ChatError> {
    if agent.holds(tx)? {
        return Ok(());
    }
    Err(ChatError::Kicked(agent.id().clone()))
}

/// What agents may see after a number, and how far that is. Messages for somebody else are passed
/// over.
fn unseen(
    tx: &dyn Tx,
    thread: &ThreadId,
    after: Seq,
    only_for: Option<&str>,
) -> Result<(Vec<Message>, Seq), ChatError> {
    let mut upto = after;
    loop {
        let query = MessageQuery {
            after_seq: upto,
            for_agents: true,
            limit: limits::WAIT_PAGE,
            ..MessageQuery::default()
        };
        let mut messages = tx.messages(thread, &query)?;
        let Some(last) = messages.last() else {
            return Ok((messages, upto));
        };
        upto = last.seq;
        if let Some(target) = only_for {
            messages.retain(|message| message.meta("handoff_target") == Some(target));
        }
        if !messages.is_empty() {
            return Ok((messages, upto));
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(agent) = self.agent.take() else {
            return;
        };
        let thread = self.thread.clone();
        perform_detached(&*self.chat.inner.store, move |tx| {
            tx.put_wait_run(&thread, &agent, None)?;
            Ok(tx.remove_waiting(&thread, &agent)?)
        });
    }
}
