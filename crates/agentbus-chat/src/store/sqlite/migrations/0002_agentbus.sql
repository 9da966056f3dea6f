-- What AgentBus adds. Nothing of the old layout is changed, so AgentChatBus still reads the rest.

-- One number, one message: the search index and every cursor rest on it.
CREATE UNIQUE INDEX messages_seq ON messages (seq);
CREATE INDEX IF NOT EXISTS messages_thread ON messages (thread_id, seq);
CREATE INDEX messages_reply ON messages (reply_to_msg_id) WHERE reply_to_msg_id IS NOT NULL;
-- The rate limit counts an author's latest messages; without an index it would read them all.
CREATE INDEX messages_author ON messages (author, created_at);
CREATE INDEX messages_stop ON messages (stop_reason) WHERE stop_reason IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS threads_topic ON threads (topic);
CREATE INDEX IF NOT EXISTS threads_created ON threads (created_at, id);
CREATE INDEX tokens_unspent ON reply_tokens (thread_id, agent_id) WHERE status = 'issued';
CREATE UNIQUE INDEX IF NOT EXISTS reactions_once ON reactions (message_id, agent_id, reaction);
CREATE INDEX IF NOT EXISTS edits_of ON message_edits (message_id, version);
CREATE INDEX events_thread ON events (thread_id, id) WHERE thread_id IS NOT NULL;
CREATE INDEX agents_name ON agents (name);

-- Who has written where; the coordinator asks every ten seconds.
CREATE TABLE participants (
    thread_id TEXT NOT NULL, agent_id TEXT NOT NULL, PRIMARY KEY (thread_id, agent_id)
) WITHOUT ROWID;
INSERT INTO participants
    SELECT DISTINCT thread_id, author_id FROM messages
    WHERE author_id IS NOT NULL AND author_id <> 'system';

-- Waits that follow each other closely count as one.
CREATE TABLE wait_runs (
    thread_id TEXT NOT NULL, agent_id TEXT NOT NULL, since TEXT NOT NULL, left_at TEXT,
    PRIMARY KEY (thread_id, agent_id)
) WITHOUT ROWID;

-- Who did what; never removed.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, actor TEXT NOT NULL,
    action TEXT NOT NULL, thread_id TEXT, subject TEXT
);

-- Outcomes of writes under an idempotency key.
CREATE TABLE outcomes (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, outcome TEXT NOT NULL, at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX outcomes_at ON outcomes (at);

-- Words, by the number of their message, so that the newest matches come first without sorting.
-- The text itself stays in the messages.
CREATE VIRTUAL TABLE chat_search USING fts5 (content, content = 'messages', content_rowid = 'seq');
INSERT INTO chat_search (rowid, content) SELECT seq, content FROM messages;
-- Scripts that put no spaces between words are found by their characters.
CREATE VIRTUAL TABLE chat_search_cjk USING fts5 (
    content, content = 'messages', content_rowid = 'seq', tokenize = 'trigram'
);
INSERT INTO chat_search_cjk (rowid, content)
    SELECT seq, content FROM messages WHERE content GLOB '*[⺀-鿿가-힯豈-﫿]*';

CREATE TRIGGER chat_search_insert AFTER INSERT ON messages BEGIN
    INSERT INTO chat_search (rowid, content) VALUES (new.seq, new.content);
END;
CREATE TRIGGER chat_search_update AFTER UPDATE OF content ON messages BEGIN
    INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', old.seq, old.content);
    INSERT INTO chat_search (rowid, content) VALUES (new.seq, new.content);
END;
CREATE TRIGGER chat_search_delete AFTER DELETE ON messages BEGIN
    INSERT INTO chat_search (chat_search, rowid, content) VALUES ('delete', old.seq, old.content);
END;
CREATE TRIGGER chat_search_cjk_insert AFTER INSERT ON messages
WHEN new.content GLOB '*[⺀-鿿가-힯豈-﫿]*' BEGIN
    INSERT INTO chat_search_cjk (rowid, content) VALUES (new.seq, new.content);
END;
-- One trigger, because the order of two would not be certain.
CREATE TRIGGER chat_search_cjk_update AFTER UPDATE OF content ON messages
WHEN old.content GLOB '*[⺀-鿿가-힯豈-﫿]*' OR new.content GLOB '*[⺀-鿿가-힯豈-﫿]*' BEGIN
    INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content)
        SELECT 'delete', old.seq, old.content WHERE old.content GLOB '*[⺀-鿿가-힯豈-﫿]*';
    INSERT INTO chat_search_cjk (rowid, content)
        SELECT new.seq, new.content WHERE new.content GLOB '*[⺀-鿿가-힯豈-﫿]*';
END;
CREATE TRIGGER chat_search_cjk_delete AFTER DELETE ON messages
WHEN old.content GLOB '*[⺀-鿿가-힯豈-﫿]*' BEGIN
    INSERT INTO chat_search_cjk (chat_search_cjk, rowid, content)
        VALUES ('delete', old.seq, old.content);
END;
