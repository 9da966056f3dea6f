//! Closing a thread as the end of a meeting: who was in it reads who has closed it, and what came of it.
//!
//! What the bus says about it is part of the thread's history before the thread is closed, and is
//! said once. Who may close a meeting is for the gateway to check; here any agent may.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::{Thread, ThreadState};
use crate::store::Tx;
use crate::{AgentId, Chat, ChatError, ThreadId};

use super::Core;
use super::decision::label;
use super::guidance::card;
use super::threads::check_summary;

/// What the bus says when a meeting is closed.
const CLOSED: &str = "meeting_closed_notice";

/// A meeting that is closed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClosedMeeting {
    /// The thread.
    pub thread: Thread,
    /// Whether it was closed before.
    pub already_closed: bool,
}

impl Chat {
    /// Closes a thread in the name of an agent, and says in it who has closed it and what came of it.
    /// One that is closed already hears nothing; it keeps its summary unless there is another.
    ///
    /// # Errors
    /// Fails when there is no such thread or agent, or when the summary is not allowed.
    pub async fn close_meeting(
        &self,
        id: ThreadId,
        agent: AgentId,
        summary: Option<String>,
    ) -> Result<ClosedMeeting, ChatError> {
        check_summary(summary.as_deref())?;
        self.write(move |core, tx| core.close_meeting(tx, &id, &agent, summary))
            .await
    }
}

impl Core {
    fn close_meeting(
        &self,
        tx: &mut dyn Tx,
        id: &ThreadId,
        closer: &AgentId,
        summary: Option<String>,
    ) -> Result<ClosedMeeting, ChatError> {
        let thread = self.thread(tx, id)?;
        let already_closed = thread.status == ThreadState::Closed;
        if already_closed && summary.is_none() {
            return Ok(ClosedMeeting {
                thread,
                already_closed,
            });
        }
        let agent = tx.agent(closer)?;
        let agent = agent.ok_or_else(|| ChatError::AgentNotFound(closer.clone()))?;
        if let Some(summary) = &summary {
            // Agents read it as they read a message, so it is held to the same.
            self.filter("summary", summary)?;
        }
        if !already_closed {
            let fields = json!({ "closed_by_id": agent.id, "closed_by_name": agent.shown_name(),
                "closed_by_emoji": agent.emoji() });
            let content = notice(&label(&agent), summary.as_deref());
            self.say(tx, id, content, card(id, CLOSED, false, fields))?;
        }
        Ok(ClosedMeeting {
            thread: self.close(tx, &agent.name, thread, summary)?,
            already_closed,
        })
    }
}

fn notice(who: &str, summary: Option<&str>) -> String {
    match summary.map(str::trim).filter(|text| !text.is_empty()) {
        Some(summary) => format!("{who} has closed this thread. What came of it: {summary}"),
        None => format!("{who} has closed this thread, without a summary."),
    }
}
