-- Times are microseconds since 1970, JSON is text, and every text compares byte by byte, whatever
-- the locale of the server.

-- The one row that every writing transaction locks first: so there is one writer at a time over
-- all nodes, and numbers become visible in their order. It counts messages, events and nodes.
CREATE TABLE counters (
    id INT PRIMARY KEY CHECK (id = 1), seq BIGINT NOT NULL, event BIGINT NOT NULL, node INT NOT NULL
);
INSERT INTO counters VALUES (1, 0, 0, 0);

CREATE TABLE threads (
    id TEXT COLLATE "C" PRIMARY KEY, topic TEXT COLLATE "C" NOT NULL UNIQUE, status TEXT NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT, closed_at BIGINT, summary TEXT, metadata TEXT,
    system_prompt TEXT, template_id TEXT
);
CREATE INDEX threads_created ON threads (created_at, id);

CREATE TABLE messages (
    seq BIGINT PRIMARY KEY, id TEXT COLLATE "C" NOT NULL UNIQUE,
    thread_id TEXT COLLATE "C" NOT NULL REFERENCES threads (id), author TEXT COLLATE "C" NOT NULL,
    author_id TEXT COLLATE "C", author_name TEXT, role TEXT NOT NULL, content TEXT NOT NULL,
    created_at BIGINT NOT NULL, metadata TEXT, priority TEXT NOT NULL, reply_to TEXT COLLATE "C",
    edited_at BIGINT, edit_version BIGINT NOT NULL, human_only BOOLEAN NOT NULL, stop_reason TEXT,
    -- The words of the content, taken apart by us: so every store finds the same.
    words TSVECTOR NOT NULL
);
CREATE INDEX messages_thread ON messages (thread_id, seq);
CREATE INDEX messages_author ON messages (author, created_at);
CREATE INDEX messages_created ON messages (created_at);
CREATE INDEX messages_reply ON messages (reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX messages_stop ON messages (stop_reason) WHERE stop_reason IS NOT NULL;
-- Without a list of pending entries, which some later search would have to work off.
CREATE INDEX messages_words ON messages USING gin (words) WITH (fastupdate = off);

CREATE TABLE message_edits (
    id TEXT COLLATE "C" PRIMARY KEY, message_id TEXT COLLATE "C" NOT NULL REFERENCES messages (id),
    version BIGINT NOT NULL, old_content TEXT NOT NULL, edited_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX edits_of ON message_edits (message_id, version);

CREATE TABLE reactions (
    id TEXT COLLATE "C" PRIMARY KEY, message_id TEXT COLLATE "C" NOT NULL REFERENCES messages (id),
    agent_id TEXT COLLATE "C", agent_name TEXT, reaction TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL, n BIGSERIAL,
    UNIQUE (message_id, agent_id, reaction)
);

CREATE TABLE participants (
    thread_id TEXT COLLATE "C", agent_id TEXT COLLATE "C", PRIMARY KEY (thread_id, agent_id)
);

CREATE TABLE agents (
    id TEXT COLLATE "C" PRIMARY KEY, name TEXT COLLATE "C" NOT NULL, ide TEXT NOT NULL,
    model TEXT NOT NULL, description TEXT, capabilities TEXT NOT NULL, skills TEXT NOT NULL,
    registered_at BIGINT NOT NULL, last_heartbeat BIGINT NOT NULL, display_name TEXT,
    alias_source TEXT NOT NULL, last_activity TEXT, last_activity_time BIGINT, token TEXT NOT NULL,
    n BIGSERIAL
);
CREATE INDEX agents_name ON agents (name);

CREATE TABLE thread_settings (
    thread_id TEXT COLLATE "C" PRIMARY KEY REFERENCES threads (id), auto_administrator BOOLEAN NOT NULL,
    timeout_s BIGINT NOT NULL, switch_timeout_s BIGINT NOT NULL, last_activity_time BIGINT,
    assigned_id TEXT, assigned_name TEXT, assigned_at BIGINT,
    creator_id TEXT, creator_name TEXT, creator_at BIGINT,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
);

CREATE TABLE reply_tokens (
    token TEXT COLLATE "C" PRIMARY KEY, thread_id TEXT COLLATE "C" NOT NULL REFERENCES threads (id),
    agent_id TEXT COLLATE "C", issued_at BIGINT NOT NULL, consumed_at BIGINT, source TEXT NOT NULL,
    n BIGSERIAL
);
CREATE INDEX tokens_unspent ON reply_tokens (thread_id, agent_id) WHERE consumed_at IS NULL;

-- A wait is served by a node, and ends with it.
CREATE TABLE waits (
    thread_id TEXT COLLATE "C" REFERENCES threads (id), agent_id TEXT COLLATE "C" REFERENCES agents (id),
    entered_at BIGINT NOT NULL, timeout_ms BIGINT NOT NULL, node INT NOT NULL,
    PRIMARY KEY (thread_id, agent_id)
);
CREATE TABLE wait_runs (
    thread_id TEXT COLLATE "C", agent_id TEXT COLLATE "C", since BIGINT NOT NULL, left_at BIGINT,
    PRIMARY KEY (thread_id, agent_id)
);
CREATE TABLE refreshes (
    thread_id TEXT COLLATE "C", agent_id TEXT COLLATE "C", requested_at BIGINT NOT NULL, reason TEXT,
    PRIMARY KEY (thread_id, agent_id)
);

CREATE TABLE templates (
    id TEXT COLLATE "C" PRIMARY KEY, name TEXT COLLATE "C" NOT NULL, description TEXT,
    system_prompt TEXT, default_metadata TEXT, created_at BIGINT NOT NULL, is_builtin BOOLEAN NOT NULL
);

CREATE TABLE events (
    id BIGINT PRIMARY KEY, kind TEXT NOT NULL, thread_id TEXT COLLATE "C", payload TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX events_thread ON events (thread_id, id) WHERE thread_id IS NOT NULL;

-- Who did what; never removed.
CREATE TABLE audit (
    id BIGSERIAL PRIMARY KEY, at BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
    thread_id TEXT, subject TEXT
);
CREATE INDEX audit_of ON audit (action, subject);

-- A key holds a zero byte between its parts, which no text may.
CREATE TABLE outcomes (
    key BYTEA PRIMARY KEY, fingerprint TEXT NOT NULL, outcome TEXT NOT NULL, at BIGINT NOT NULL
);
CREATE INDEX outcomes_at ON outcomes (at);
