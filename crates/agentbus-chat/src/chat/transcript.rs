//! A thread with the place of each message in it, as people read it.

use crate::model::{Message, Reaction};
use crate::store::MessageQuery;
use crate::{Chat, ChatError, MessageId, Seq, ThreadId, limits};

/// A page of a thread's messages, those for people only among them, and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// The messages, in the order of `seq`.
    pub messages: Vec<Message>,
    /// Their reactions.
    pub reactions: Vec<Reaction>,
    /// How many messages of the thread stand before the first of them.
    pub before: usize,
    /// The last of those that agents may see; 0 without one.
    pub anchor: Seq,
}

impl Chat {
    /// A page of a thread, as people read it. The number of its entries is bounded by itself.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn transcript(
        &self,
        thread: ThreadId,
        mut query: MessageQuery,
    ) -> Result<Transcript, ChatError> {
        query.limit = query.limit.clamp(1, limits::TRANSCRIPT_PAGE_MAX);
        self.read(move |core, tx| {
            core.thread(tx, &thread)?;
            let messages = tx.messages(&thread, &query)?;
            let Some(first) = messages.first().map(|message| message.seq) else {
                return Ok(Transcript {
                    messages,
                    reactions: Vec::new(),
                    before: 0,
                    anchor: 0,
                });
            };
            let seen = MessageQuery {
                before_seq: Some(first),
                for_agents: true,
                newest: true,
                limit: 1,
                ..MessageQuery::default()
            };
            let seen = tx.messages(&thread, &seen)?;
            let ids: Vec<MessageId> = messages.iter().map(|one| one.id.clone()).collect();
            Ok(Transcript {
                reactions: tx.reactions(&ids)?,
                messages,
                before: tx.count_before(&thread, first)?,
                anchor: seen.last().map_or(0, |message| message.seq),
            })
        })
        .await
    }
}
