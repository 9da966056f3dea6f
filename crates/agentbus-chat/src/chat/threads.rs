//! The life of a thread.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::{
    Assigned, Deleted, SyncContext, Template, Thread, ThreadPage, ThreadQuery, ThreadSettings,
    ThreadState, TokenSource,
};
use crate::store::Tx;
use crate::{AgentId, AuthProblem, Chat, ChatError, TemplateId, ThreadId, limits};

use super::{Core, json_within, within};

/// A thread before it is created.
#[derive(Debug, Clone)]
pub struct NewThread {
    /// What it is about.
    pub topic: String,
    /// The agent that creates it, and will administer it.
    pub creator: AgentId,
    /// Whatever the creator wants to remember.
    pub metadata: Option<Value>,
    /// What the creator tells every agent in it.
    pub system_prompt: Option<String>,
    /// The template to begin with.
    pub template: Option<TemplateId>,
    /// The directory that it is about.
    pub workspace: Option<String>,
}

impl NewThread {
    /// A thread without anything special.
    #[must_use]
    pub fn new(topic: impl Into<String>, creator: AgentId) -> Self {
        Self {
            topic: topic.into(),
            creator,
            metadata: None,
            system_prompt: None,
            template: None,
            workspace: None,
        }
    }
}

/// A thread that was created, or was there already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opened {
    /// The thread.
    pub thread: Thread,
    /// Whether it is new.
    pub created: bool,
    /// What its creator needs for a strict post.
    pub sync: SyncContext,
}

impl Chat {
    /// Creates a thread, or finds the one that has the topic; whatever else was asked for counts
    /// only for a new one.
    ///
    /// # Errors
    /// Fails when the creator is not registered, the template is not known, or a text not allowed.
    pub async fn create_thread(&self, new: NewThread) -> Result<Opened, ChatError> {
        self.write(move |core, tx| {
            let creator = new.creator.clone();
            let (thread, created) = core.find_or_create(tx, new)?;
            let sync = core.issue(tx, &thread.id, Some(&creator), TokenSource::Create)?;
            tx.touch_agent(&creator, "thread_create", true, core.now())?;
            Ok(Opened {
                thread,
                created,
                sync,
            })
        })
        .await
    }

    /// Finds a thread.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn thread(&self, id: ThreadId) -> Result<Thread, ChatError> {
        self.read(move |core, tx| core.thread(tx, &id)).await
    }

    /// Lists threads, the newest first, within the largest page there is.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn threads(&self, mut query: ThreadQuery) -> Result<ThreadPage, ChatError> {
        query.limit = query.limit.min(limits::THREADS_PAGE_MAX);
        self.read(move |_, tx| {
            let total = tx.count_threads(&query)?;
            let asked = query.limit;
            // One more than asked for tells whether there is more.
            query.limit = if asked == 0 { 0 } else { asked + 1 };
            let mut threads = tx.threads(&query)?;
            let has_more = asked > 0 && threads.len() > asked;
            if has_more {
                threads.truncate(asked);
            }
            Ok(ThreadPage {
                threads,
                total,
                has_more,
            })
        })
        .await
    }

    /// Sets the state of a thread. Any state may follow any other.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn set_state(&self, id: ThreadId, state: ThreadState) -> Result<Thread, ChatError> {
        self.write(move |core, tx| core.set_state(tx, &id, state, None))
            .await
    }

    /// Closes a thread with what came out of it. Closing again replaces time and summary.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn close_thread(
        &self,
        id: ThreadId,
        summary: Option<String>,
    ) -> Result<Thread, ChatError> {
        check_summary(summary.as_deref())?;
        self.write(move |core, tx| {
            let thread = core.thread(tx, &id)?;
            core.close(tx, "", thread, summary)
        })
        .await
    }

    /// Hides a thread from lists.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn archive(&self, id: ThreadId) -> Result<Thread, ChatError> {
        let kind = Some("thread.archived");
        self.write(move |core, tx| core.set_state(tx, &id, ThreadState::Archived, kind))
            .await
    }

    /// Brings a thread back into discussion, whatever it was before.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn unarchive(&self, id: ThreadId) -> Result<Thread, ChatError> {
        let kind = Some("thread.unarchived");
        self.write(move |core, tx| core.set_state(tx, &id, ThreadState::Discuss, kind))
            .await
    }

    /// Gives a thread another topic.
    ///
    /// # Errors
    /// Fails when there is no such thread, or another one has the topic.
    pub async fn rename(&self, id: ThreadId, topic: String) -> Result<Thread, ChatError> {
        check_topic(&topic)?;
        self.write(move |core, tx| {
            let mut thread = core.thread(tx, &id)?;
            let taken = tx.thread_by_topic(&topic)?;
            if taken.is_some_and(|other| other.id != thread.id) {
                return Err(ChatError::Conflict(format!(
                    "another thread has the topic '{topic}'; choose a different one"
                )));
            }
            thread.topic = topic;
            thread.updated_at = Some(core.now());
            tx.update_thread(&thread)?;
            let told = json!({ "thread_id": thread.id, "topic": thread.topic });
            core.emit(tx, "thread.updated", Some(&thread.id), told)?;
            core.audit(tx, "", "thread.rename", Some(&thread.id), None)?;
            Ok(thread)
        })
        .await
    }

    /// Removes a thread and everything in it, for good. Its numbers are not given out again.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn delete_thread(&self, id: ThreadId) -> Result<Deleted, ChatError> {
        self.write(move |core, tx| {
            let thread = core.thread(tx, &id)?;
            let deleted = Deleted {
                message_count: tx.delete_thread(&id)?,
                thread_id: thread.id,
                topic: thread.topic,
            };
            let told = json!({ "thread_id": deleted.thread_id, "topic": deleted.topic,
                "message_count": deleted.message_count });
            core.emit(tx, "thread.deleted", Some(&id), told)?;
            core.audit(tx, "", "thread.delete", Some(&id), Some(&deleted.topic))?;
            tx.wake(&id);
            Ok(deleted)
        })
        .await
    }
}

impl Core {
    pub(super) fn thread(&self, tx: &dyn Tx, id: &ThreadId) -> Result<Thread, ChatError> {
        tx.thread(id)?
            .ok_or_else(|| ChatError::ThreadNotFound(id.clone()))
    }

    /// Finds the thread of a topic, or creates it; whether it was created.
    pub(super) fn find_or_create(
        &self,
        tx: &mut dyn Tx,
        new: NewThread,
    ) -> Result<(Thread, bool), ChatError> {
        let creator = tx
            .agent(&new.creator)?
            .ok_or(ChatError::Unauthenticated(AuthProblem::Creator))?;
        check_topic(&new.topic)?;
        let template = self.template_of(tx, new.template.as_ref())?;
        if let Some(prompt) = &new.system_prompt {
            within("system_prompt", prompt.len(), limits::PROMPT_BYTES_MAX)?;
            self.filter("system_prompt", prompt)?;
        }
        json_within("metadata", new.metadata.as_ref())?;
        let workspace = new.workspace.as_ref().map_or(0, String::len);
        within("workspace", workspace, limits::WORKSPACE_BYTES_MAX)?;
        if let Some(thread) = tx.thread_by_topic(&new.topic)? {
            return Ok((thread, false));
        }
        let now = self.now();
        let (prompt, metadata) = match template {
            Some(template) => (template.system_prompt, template.default_metadata),
            None => (None, None),
        };
        let thread = Thread {
            id: ThreadId::new(self.ambient.uuid()),
            topic: new.topic,
            status: ThreadState::Discuss,
            created_at: now,
            updated_at: Some(now),
            closed_at: None,
            summary: None,
            metadata: new.metadata.or(metadata),
            system_prompt: new.system_prompt.or(prompt),
            template_id: new.template,
            workspace: new.workspace,
        };
        tx.insert_thread(&thread)?;
        let admin = Assigned {
            id: creator.id.clone(),
            name: Some(creator.shown_name().to_owned()),
            at: Some(now),
        };
        tx.put_settings(&ThreadSettings::new(thread.id.clone(), Some(admin), now))?;
        let told = json!({ "thread_id": thread.id, "topic": thread.topic });
        self.emit(tx, "thread.new", Some(&thread.id), told)?;
        self.audit(tx, &creator.name, "thread.create", Some(&thread.id), None)?;
        Ok((thread, true))
    }

    fn template_of(
        &self,
        tx: &dyn Tx,
        id: Option<&TemplateId>,
    ) -> Result<Option<Template>, ChatError> {
        let Some(id) = id else { return Ok(None) };
        let found = tx.template(id)?;
        let found = found.ok_or_else(|| ChatError::TemplateNotFound(id.clone()))?;
        Ok(Some(found))
    }

    /// Closes a thread in the name of an actor.
    pub(super) fn close(
        &self,
        tx: &mut dyn Tx,
        actor: &str,
        mut thread: Thread,
        summary: Option<String>,
    ) -> Result<Thread, ChatError> {
        let now = self.now();
        thread.status = ThreadState::Closed;
        thread.closed_at = Some(now);
        thread.updated_at = Some(now);
        thread.summary = summary;
        tx.update_thread(&thread)?;
        let told = json!({ "thread_id": thread.id, "summary": thread.summary });
        self.emit(tx, "thread.closed", Some(&thread.id), told)?;
        self.audit(tx, actor, "thread.close", Some(&thread.id), None)?;
        Ok(thread)
    }

    fn set_state(
        &self,
        tx: &mut dyn Tx,
        id: &ThreadId,
        state: ThreadState,
        kind: Option<&'static str>,
    ) -> Result<Thread, ChatError> {
        let mut thread = self.thread(tx, id)?;
        thread.status = state;
        thread.updated_at = Some(self.now());
        tx.update_thread(&thread)?;
        let told = json!({ "thread_id": id, "state": state });
        self.emit(tx, "thread.state", Some(id), told)?;
        if let Some(kind) = kind {
            self.emit(tx, kind, Some(id), json!({ "thread_id": id }))?;
        }
        self.audit(tx, "", "thread.state", Some(id), Some(state.as_str()))?;
        Ok(thread)
    }
}

/// Refuses a summary that is too long.
pub(super) fn check_summary(summary: Option<&str>) -> Result<(), ChatError> {
    let bytes = summary.map_or(0, str::len);
    within("summary", bytes, limits::PROMPT_BYTES_MAX)
}

fn check_topic(topic: &str) -> Result<(), ChatError> {
    within("topic", topic.len(), limits::NAME_BYTES_MAX)?;
    if topic.trim().is_empty() {
        return Err(ChatError::invalid("topic must not be empty"));
    }
    Ok(())
}
