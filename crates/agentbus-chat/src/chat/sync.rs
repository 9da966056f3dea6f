//! Reply tokens: who may post next, and what the poster has seen.

use crate::model::{Message, SyncContext, Token, TokenSource};
use crate::store::{MessageQuery, Tx};
use crate::{AgentId, Chat, ChatError, Seq, ThreadId, limits, secret};

use super::Core;

/// A reply token that a post may spend, after all checks.
#[derive(Debug)]
pub(super) struct Spendable(pub(super) String);

impl Chat {
    /// Gives out a reply token, bound to an agent if one is named.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn sync_context(
        &self,
        thread: ThreadId,
        agent: Option<AgentId>,
    ) -> Result<SyncContext, ChatError> {
        self.write(move |core, tx| {
            core.thread(tx, &thread)?;
            core.issue(tx, &thread, agent.as_ref(), TokenSource::Create)
        })
        .await
    }

    /// After a strict post failed: withdraws the agent's tokens, so that its next wait gives it a
    /// fresh one at once.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn recover(
        &self,
        thread: ThreadId,
        agent: AgentId,
        reason: &'static str,
    ) -> Result<(), ChatError> {
        self.write(move |core, tx| {
            let now = core.now();
            tx.withdraw_tokens(&thread, &agent, None, now)?;
            Ok(tx.request_refresh(&thread, &agent, reason, now)?)
        })
        .await
    }
}

impl Core {
    /// Gives out a token with where the thread is.
    pub(super) fn issue(
        &self,
        tx: &mut dyn Tx,
        thread: &ThreadId,
        agent: Option<&AgentId>,
        source: TokenSource,
    ) -> Result<SyncContext, ChatError> {
        let token = secret::reply_token(&self.ambient);
        tx.insert_token(&Token {
            token: token.clone(),
            thread_id: thread.clone(),
            agent_id: agent.cloned(),
            issued_at: self.now(),
            consumed_at: None,
            source,
        })?;
        self.context(tx, thread, token)
    }

    pub(super) fn context(
        &self,
        tx: &dyn Tx,
        thread: &ThreadId,
        reply_token: String,
    ) -> Result<SyncContext, ChatError> {
        Ok(SyncContext {
            current_seq: tx.current_seq(thread)?,
            reply_token,
            max_new_messages: self.config.seq_tolerance,
        })
    }

    /// Withdraws an agent's tokens and gives out a new one.
    pub(super) fn renew(
        &self,
        tx: &mut dyn Tx,
        thread: &ThreadId,
        agent: &AgentId,
    ) -> Result<SyncContext, ChatError> {
        tx.withdraw_tokens(thread, agent, None, self.now())?;
        self.issue(tx, thread, Some(agent), TokenSource::Wait)
    }

    /// The checks of a strict post, in the order that its callers know.
    pub(super) fn check_strict(
        &self,
        tx: &dyn Tx,
        thread: &ThreadId,
        author: Option<&AgentId>,
        expected: Option<Seq>,
        offered: Option<&str>,
    ) -> Result<Spendable, ChatError> {
        let (Some(expected), Some(offered)) = (expected, offered) else {
            let named = [
                (expected.is_none(), "expected_last_seq"),
                (offered.is_none(), "reply_token"),
            ];
            let missing = named
                .into_iter()
                .filter_map(|(is, name)| is.then_some(name));
            return Err(ChatError::MissingSyncFields {
                missing: missing.collect(),
            });
        };
        let token = tx
            .token(offered)?
            .filter(|token| token.thread_id == *thread);
        let token = token.ok_or(ChatError::TokenInvalid)?;
        if let Some(consumed_at) = token.consumed_at {
            return Err(ChatError::TokenReplay { consumed_at });
        }
        // Someone who is not registered may spend an agent's token: it was given to them.
        let bound_elsewhere = token.agent_id.is_some() && token.agent_id.as_ref() != author;
        if author.is_some() && bound_elsewhere {
            return Err(ChatError::TokenInvalid);
        }
        self.check_seen(tx, thread, expected)?;
        Ok(Spendable(token.token))
    }

    fn check_seen(&self, tx: &dyn Tx, thread: &ThreadId, expected: Seq) -> Result<(), ChatError> {
        let current = tx.current_seq(thread)?;
        if current.saturating_sub(expected) <= self.config.seq_tolerance {
            return Ok(());
        }
        Err(ChatError::SeqMismatch {
            expected,
            current,
            new_messages: self.unseen(tx, thread, expected)?,
        })
    }

    fn unseen(
        &self,
        tx: &dyn Tx,
        thread: &ThreadId,
        after_seq: Seq,
    ) -> Result<Vec<Message>, ChatError> {
        let limit = self
            .config
            .mismatch_messages_max
            .min(limits::MESSAGES_PAGE_MAX);
        Ok(tx.messages(
            thread,
            &MessageQuery {
                after_seq,
                for_agents: true,
                // Without one, 0 would mean all.
                limit: limit.max(1),
                ..MessageQuery::default()
            },
        )?)
    }
}
