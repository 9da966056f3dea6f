//! Keeps the search index in step with the messages.
//!
//! The triggers of the layout would do it, and do so should AgentChatBus write to the file again.
//! The writer has them switched off: FTS5 writes a segment to the disk whenever a savepoint ends,
//! and every job has one. So new messages are collected, and indexed once for the transaction.
//! Whoever needs the index before that, to search or to change what it holds, has it brought up to
//! date first.

use super::tx::{Result, SqliteTx};
use crate::store::snippet::has_no_spaces;
use crate::{MessageId, Seq, ThreadId};

const ADD: &str = "INSERT INTO chat_search (rowid, content) VALUES (?1, ?2)";
const ADD_CJK: &str = "INSERT INTO chat_search_cjk (rowid, content) VALUES (?1, ?2)";
const REMOVE: &str =
    "INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', ?1, ?2)";
const REMOVE_CJK: &str =
    "INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content) VALUES ('delete', ?1, ?2)";

/// Messages of this transaction that the index has to hold at its end, as many as its jobs store.
#[derive(Debug, Default)]
pub(super) struct Pending {
    messages: Vec<(Seq, String)>,
    /// How many of them it holds already.
    done: usize,
}

/// How far a transaction was when a job began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    messages: usize,
    done: usize,
}

impl SqliteTx<'_> {
    /// Indexes a new message before the transaction ends.
    pub(super) fn index_later(&self, seq: Seq, content: &str) {
        let mut pending = self.pending.borrow_mut();
        pending.messages.push((seq, content.to_owned()));
    }

    /// Brings the index up to date.
    pub(super) fn index_now(&self) -> Result<()> {
        let mut pending = self.pending.borrow_mut();
        while let Some((seq, content)) = pending.messages.get(pending.done) {
            self.index([ADD, ADD_CJK], *seq, content)?;
            pending.done += 1;
        }
        Ok(())
    }

    pub(super) fn mark_index(&self) -> Mark {
        let pending = self.pending.borrow();
        Mark {
            messages: pending.messages.len(),
            done: pending.done,
        }
    }

    /// Forgets what a job did whose changes are undone. What it had indexed of earlier jobs is
    /// undone with them, and has to be indexed again.
    pub(super) fn undo_index(&self, mark: Mark) {
        let mut pending = self.pending.borrow_mut();
        pending.messages.truncate(mark.messages);
        pending.done = mark.done;
    }

    /// Indexes a message under the words that it is about to have.
    pub(super) fn reindex(&self, id: &MessageId, content: &str) -> Result<()> {
        self.index_now()?;
        let sql = "SELECT seq, content FROM messages WHERE id = ?1 AND content <> ?2";
        let old: Option<(Seq, String)> = self.one(sql, [id.as_str(), content], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        if let Some((seq, old)) = old {
            self.index([REMOVE, REMOVE_CJK], seq, &old)?;
            self.index([ADD, ADD_CJK], seq, content)?;
        }
        Ok(())
    }

    /// Takes the messages of a thread, which are about to be removed, out of the index.
    pub(super) fn unindex(&self, thread: &ThreadId) -> Result<()> {
        self.index_now()?;
        let mut after: Seq = 0;
        loop {
            let sql = "SELECT seq, content FROM messages WHERE thread_id = ?1 AND seq > ?2 \
                       ORDER BY seq LIMIT 100";
            let page: Vec<(Seq, String)> = self.all(sql, (thread.as_str(), after), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = *last;
            for (seq, content) in &page {
                self.index([REMOVE, REMOVE_CJK], *seq, content)?;
            }
        }
    }

    fn index(&self, [words, characters]: [&str; 2], seq: Seq, content: &str) -> Result<()> {
        self.run(words, (seq, content))?;
        if content.chars().any(has_no_spaces) {
            self.run(characters, (seq, content))?;
        }
        Ok(())
    }
}
