//! Keeps the search index in step with the messages.
//!
//! The triggers of the layout would do it, and do so should AgentChatBus write to the file again.
//! The writer has them switched off: indexing costs more than storing, and most of that is the
//! same for one message as for many. So a new message is only put on a list, in the transaction
//! that stores it, and the list is worked off when it is long, when somebody searches, when an
//! indexed text is about to change, and whenever the file is opened or closed.

use super::tx::{Result, SqliteTx, count};
use crate::store::snippet::has_no_spaces;
use crate::{MessageId, Seq, ThreadId, limits};

const ADD: &str = "INSERT INTO chat_search (rowid, content) VALUES (?1, ?2)";
const ADD_CJK: &str = "INSERT INTO chat_search_cjk (rowid, content) VALUES (?1, ?2)";
const REMOVE: &str =
    "INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', ?1, ?2)";
const REMOVE_CJK: &str =
    "INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content) VALUES ('delete', ?1, ?2)";

/// Messages that are read at a time to be indexed.
const PAGE: usize = 64;

impl SqliteTx<'_> {
    /// Puts a new message on the list.
    pub(super) fn index_later(&self, seq: Seq, content: &str) -> Result<()> {
        self.run("INSERT INTO chat_unindexed VALUES (?1)", [seq])?;
        let cost = 1 + content.len() / limits::INDEX_UNIT_BYTES;
        self.unindexed.set(self.unindexed.get() + cost);
        Ok(())
    }

    /// Works the list off.
    pub(super) fn index_now(&self) -> Result<()> {
        self.indexed.set(true);
        loop {
            let sql = "SELECT u.seq, m.content FROM chat_unindexed AS u \
                       CROSS JOIN messages AS m ON m.seq = u.seq ORDER BY u.seq LIMIT ?1";
            let page: Vec<(Seq, String)> =
                self.all(sql, [PAGE], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let Some((last, _)) = page.last() else {
                // What is left are messages that another program has removed.
                self.run("DELETE FROM chat_unindexed", [])?;
                return Ok(());
            };
            for (seq, content) in &page {
                self.index([ADD, ADD_CJK], *seq, content)?;
            }
            self.run("DELETE FROM chat_unindexed WHERE seq <= ?1", [last])?;
        }
    }

    /// What it costs to work the list off.
    pub(super) fn cost_unindexed(&self) -> Result<usize> {
        let sql = "SELECT coalesce(sum(1 + octet_length(m.content) / ?1), 0) \
                   FROM chat_unindexed AS u CROSS JOIN messages AS m ON m.seq = u.seq";
        Ok(count(self.value(sql, [limits::INDEX_UNIT_BYTES])?))
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
