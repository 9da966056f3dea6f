-- The layout of AgentChatBus 0.1.8, so that its databases and ours are read by the same statements.
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS threads (
    id TEXT PRIMARY KEY, topic TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'discuss',
    created_at TEXT NOT NULL, updated_at TEXT, closed_at TEXT, summary TEXT, metadata TEXT,
    system_prompt TEXT, template_id TEXT
);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, thread_id TEXT NOT NULL REFERENCES threads (id), author TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'user', content TEXT NOT NULL, seq INTEGER NOT NULL,
    created_at TEXT NOT NULL, metadata TEXT, author_id TEXT, author_name TEXT,
    priority TEXT NOT NULL DEFAULT 'normal', reply_to_msg_id TEXT, edited_at TEXT,
    edit_version INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS reply_tokens (
    token TEXT PRIMARY KEY, thread_id TEXT NOT NULL REFERENCES threads (id), agent_id TEXT,
    issued_at TEXT NOT NULL, expires_at TEXT NOT NULL, consumed_at TEXT,
    status TEXT NOT NULL CHECK (status IN ('issued', 'consumed', 'expired')),
    source TEXT NOT NULL DEFAULT 'msg_wait'
        CHECK (source IN ('bus_connect', 'msg_wait', 'thread_create')),
    fast_returned_at TEXT
);
CREATE TABLE IF NOT EXISTS seq_counter (id INTEGER PRIMARY KEY CHECK (id = 1), val INTEGER NOT NULL);
INSERT OR IGNORE INTO seq_counter (id, val) VALUES (1, 0);
CREATE TABLE IF NOT EXISTS agents (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, ide TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '', description TEXT, capabilities TEXT,
    registered_at TEXT NOT NULL, last_heartbeat TEXT NOT NULL, token TEXT NOT NULL,
    display_name TEXT, alias_source TEXT CHECK (alias_source IN ('auto', 'user')),
    last_activity TEXT, last_activity_time TEXT, skills TEXT
);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, event_type TEXT NOT NULL, thread_id TEXT,
    payload TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS thread_templates (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, system_prompt TEXT,
    default_metadata TEXT, created_at TEXT NOT NULL, is_builtin INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS thread_settings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, thread_id TEXT NOT NULL UNIQUE REFERENCES threads (id),
    auto_administrator_enabled INTEGER NOT NULL DEFAULT 1,
    timeout_seconds INTEGER NOT NULL DEFAULT 60 CHECK (timeout_seconds >= 30),
    switch_timeout_seconds INTEGER NOT NULL DEFAULT 60 CHECK (switch_timeout_seconds >= 30),
    last_activity_time TEXT, auto_assigned_admin_id TEXT, auto_assigned_admin_name TEXT,
    admin_assignment_time TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    creator_admin_id TEXT, creator_admin_name TEXT, creator_assignment_time TEXT
);
CREATE TABLE IF NOT EXISTS thread_wait_states (
    thread_id TEXT NOT NULL REFERENCES threads (id), agent_id TEXT NOT NULL REFERENCES agents (id),
    entered_at TEXT NOT NULL, updated_at TEXT NOT NULL, timeout_ms INTEGER,
    PRIMARY KEY (thread_id, agent_id)
);
CREATE TABLE IF NOT EXISTS msg_wait_refresh_requests (
    thread_id TEXT NOT NULL, agent_id TEXT NOT NULL, requested_at TEXT NOT NULL, reason TEXT,
    PRIMARY KEY (thread_id, agent_id)
);
CREATE TABLE IF NOT EXISTS reactions (
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL REFERENCES messages (id), agent_id TEXT,
    agent_name TEXT, reaction TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS message_edits (
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL REFERENCES messages (id),
    old_content TEXT NOT NULL, edited_by TEXT NOT NULL, version INTEGER NOT NULL,
    created_at TEXT NOT NULL
);
