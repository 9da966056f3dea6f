//! Joining in one step: register or come back, find or create the thread, read what was said.

use serde_json::Value;

use crate::model::{Admin, Message, SyncContext, Thread, TokenSource};
use crate::store::{MessageQuery, Promise, Tx};
use crate::{Chat, ChatError, Seq, TemplateId, limits};

use super::guidance::system_row;
use super::{Core, Credentials, NewAgent, NewThread, Registered};

/// A request to join.
#[derive(Debug, Clone)]
pub struct Join {
    /// The topic of the thread.
    pub topic: String,
    /// Who comes back; anyone else is registered.
    pub credentials: Option<Credentials>,
    /// Who is registered otherwise.
    pub agent: NewAgent,
    /// The last number that the agent has seen.
    pub after_seq: Seq,
    /// For a thread that is created.
    pub system_prompt: Option<String>,
    /// For a thread that is created.
    pub template: Option<TemplateId>,
    /// For a thread that is created.
    pub metadata: Option<Value>,
}

/// An agent that has joined.
#[derive(Debug, Clone)]
pub struct Connected {
    /// The agent and its token.
    pub registered: Registered,
    /// The thread.
    pub thread: Thread,
    /// Whether the thread is new.
    pub created: bool,
    /// Who administers it.
    pub admin: Option<Admin>,
    /// What was said, the newest window of it; the guidance first, if asked from the beginning.
    pub messages: Vec<Message>,
    /// Messages that agents may see in the thread.
    pub total: usize,
    /// Whether older messages were left out.
    pub truncated: bool,
    /// What the agent needs for a strict post.
    pub sync: SyncContext,
}

impl Chat {
    /// Joins a thread. The outcome holds a secret, so it is not kept for a repeated key.
    ///
    /// # Errors
    /// Fails when the credentials are wrong, or the thread would not be allowed.
    pub async fn connect(&self, join: Join) -> Result<Connected, ChatError> {
        self.write_with(Promise::Stored, move |core, tx| core.connect(tx, join))
            .await
    }
}

impl Core {
    fn connect(&self, tx: &mut dyn Tx, join: Join) -> Result<Connected, ChatError> {
        let registered = match join.credentials {
            Some(who) => Registered {
                agent: self.resume(tx, &who)?,
                token: who.token,
            },
            None => self.register(tx, join.agent)?,
        };
        let agent = registered.agent.id.clone();
        let new = NewThread {
            topic: join.topic,
            creator: agent.clone(),
            metadata: join.metadata,
            system_prompt: join.system_prompt,
            template: join.template,
            workspace: None,
        };
        let (thread, created) = self.find_or_create(tx, new)?;
        let total = tx.count_messages(&thread.id, true)?;
        let (messages, truncated) = window(tx, &thread, join.after_seq)?;
        let (id, source) = (&thread.id, TokenSource::Connect);
        tx.withdraw_tokens(id, &agent, Some(source), self.now())?;
        let sync = self.issue(tx, id, Some(&agent), source)?;
        Ok(Connected {
            admin: self.settings(tx, &thread.id)?.admin(),
            registered,
            created,
            messages,
            total,
            truncated,
            sync,
            thread,
        })
    }
}

/// The newest messages after a number, and whether older ones were left out.
fn window(tx: &dyn Tx, thread: &Thread, after_seq: Seq) -> Result<(Vec<Message>, bool), ChatError> {
    let query = MessageQuery {
        after_seq,
        for_agents: true,
        newest: true,
        limit: limits::WAIT_PAGE + 1,
        ..MessageQuery::default()
    };
    let mut messages = tx.messages(&thread.id, &query)?;
    let truncated = messages.len() > limits::WAIT_PAGE;
    if truncated {
        messages.remove(0);
    }
    if after_seq == 0 {
        messages.insert(0, system_row(thread));
    }
    Ok((messages, truncated))
}
