//! The table of configuration keys, from which the reference is generated.

/// One key of `agentbus.toml`.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) default: &'static str,
    /// The environment variable that overrides it; empty without one.
    pub(crate) variable: &'static str,
    /// The flag of `agentbus serve` that overrides both; empty without one.
    pub(crate) flag: &'static str,
    pub(crate) meaning: &'static str,
}

/// All keys, in the order in which a reader meets them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "listen",
        kind: "address:port",
        default: "\"127.0.0.1:39765\"",
        variable: "AGENTBUS_LISTEN",
        flag: "--listen",
        meaning: "Where to listen. An address that other machines can reach needs `auth = \"token\"` and at least one `allow_hosts`.",
    },
    Key {
        name: "data_dir",
        kind: "path",
        default: "`agentbus` in the XDG data directory",
        variable: "AGENTBUS_DATA_DIR",
        flag: "--data-dir",
        meaning: "Where the bus keeps its token and its data; mode 0700, one bus at a time.",
    },
    Key {
        name: "transport",
        kind: "URL",
        default: "\"memory://\"",
        variable: "AGENTBUS_TRANSPORT",
        flag: "--transport",
        meaning: "What carries the bus: `memory://` forgets with the process, `sqlite://PATH` keeps events and durable subscriptions in a file; `nats://`, `jetstream://`, `redis://`, `kafka://` and `amqp://` use a server. docs/transports.md compares them.",
    },
    Key {
        name: "tenant",
        kind: "name",
        default: "\"\"",
        variable: "AGENTBUS_TENANT",
        flag: "--tenant",
        meaning: "The tenant that the bus speaks and listens in: its pools, its agents and everyone who names no other. One token, and none of `events`, `invoke`, `cancel`, `dlq`; empty for none. It keeps names apart and protects nothing: whoever holds the token may name any tenant. docs/http.md says how.",
    },
    Key {
        name: "subject_prefix",
        kind: "text",
        default: "\"acp.v1\"",
        variable: "AGENTBUS_SUBJECT_PREFIX",
        flag: "--subject-prefix",
        meaning: "What all subjects of the bus begin with. Buses on one broker that shall not hear each other have different ones; peers of OpenAgentIO must be told the same. It does not begin with `_INBOX`, `amb` or a `$`, which carriers use, and none of its tokens is `events`, `invoke`, `cancel` or `dlq`.",
    },
    Key {
        name: "auth",
        kind: "\"token\" or \"off\"",
        default: "\"token\"",
        variable: "AGENTBUS_AUTH",
        flag: "--auth",
        meaning: "Whether clients must show the token. `off` is accepted on loopback only, and without further hosts or origins.",
    },
    Key {
        name: "allow_hosts",
        kind: "list of host names",
        default: "[]",
        variable: "",
        flag: "--allow-host",
        meaning: "Names under which the bus may be addressed, besides localhost, 127.0.0.1 and [::1]. Flags add to the list.",
    },
    Key {
        name: "allow_origins",
        kind: "list of origins",
        default: "[]",
        variable: "",
        flag: "--allow-origin",
        meaning: "Origins from which web pages may call, besides the bus's own. Flags add to the list.",
    },
    Key {
        name: "invoke_timeout_s",
        kind: "seconds",
        default: "30",
        variable: "",
        flag: "",
        meaning: "How long an invoke over HTTP may take.",
    },
    Key {
        name: "stream_idle_timeout_s",
        kind: "seconds",
        default: "120",
        variable: "",
        flag: "",
        meaning: "Longest silence between two frames of a stream over HTTP.",
    },
    Key {
        name: "drain_s",
        kind: "seconds",
        default: "10",
        variable: "AGENTBUS_DRAIN_S",
        flag: "--drain",
        meaning: "How long a shutdown lets work finish.",
    },
    Key {
        name: "log",
        kind: "filter",
        default: "\"info\"",
        variable: "AGENTBUS_LOG",
        flag: "--log",
        meaning: "What to log on standard error, for example `warn` or `info,agentbus=debug`.",
    },
    Key {
        name: "pools",
        kind: "list of tables",
        default: "[]",
        variable: "",
        flag: "",
        meaning: "Pools of worker processes, one `[[pools]]` each, served as the target of their `id`. The keys are those of docs/stdio.md, and `method`, which is what a payload that is only params calls.",
    },
    Key {
        name: "pool_limits",
        kind: "table",
        default: "{}",
        variable: "",
        flag: "",
        meaning: "Limits of every pool; the keys are those of docs/stdio.md.",
    },
    Key {
        name: "schemas",
        kind: "list of tables",
        default: "[]",
        variable: "",
        flag: "",
        meaning: "JSON Schemas, one `[[schemas]]` each: `event` (an event type) or `target`, and `file`. A payload that does not match is refused to whoever publishes it.",
    },
    Key {
        name: "agents",
        kind: "list of tables",
        default: "[]",
        variable: "",
        flag: "",
        meaning: "Agents that speak ACP, one `[[agents]]` each, served as the target of their `name`. `command` is the program and its arguments; `env`, `cwd` and `root` say where it runs and inside of which directory it is served files and terminals; `policy` is `ask`, `allow-once` or `deny`, and `allow_kinds` lists kinds of tool calls that are allowed once in any case; `bus_tools = false` keeps the tools of the bus from it; `limits` has `initialize_s`, `opening_s`, `cancel_s`, `decision_s`, `sessions` and `queue`. docs/acp.md explains them, and `agentbus agent add` writes them.",
    },
    Key {
        name: "mcp_profile",
        kind: "\"core\" or \"full\"",
        default: "\"core\"",
        variable: "",
        flag: "",
        meaning: "Which tools an MCP client is shown when it does not say: those that most agents need, or all of them. All of them can be called in either case.",
    },
    Key {
        name: "mcp_language",
        kind: "text",
        default: "\"English\"",
        variable: "",
        flag: "",
        meaning: "The language that agents are asked to prefer; a connection can name another.",
    },
    Key {
        name: "chat_database",
        kind: "path",
        default: "`chat.db` in the data directory",
        variable: "AGENTCHATBUS_DB",
        flag: "",
        meaning: "Where conversations are kept. A database of AgentChatBus 0.1.8 is taken over as it is.",
    },
    Key {
        name: "chat_store",
        kind: "URL",
        default: "the file of `chat_database`",
        variable: "AGENTBUS_CHAT_STORE",
        flag: "--chat-store",
        meaning: "Where conversations are kept, as a URL: `sqlite://PATH`, or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, which several buses may share. A password is better in the environment than in a file.",
    },
    Key {
        name: "chat_live_agents",
        kind: "list of names",
        default: "[]",
        variable: "",
        flag: "",
        meaning: "Targets of the bus that answer in a thread when somebody writes `@name` there, besides the `[[agents]]` of this file, which need not be named. Whoever may post may ask them.",
    },
    Key {
        name: "chat_heartbeat_timeout_s",
        kind: "seconds",
        default: "60",
        variable: "AGENTCHATBUS_HEARTBEAT_TIMEOUT",
        flag: "",
        meaning: "How long an agent counts as online after its last sign of life.",
    },
    Key {
        name: "chat_wait_timeout_s",
        kind: "seconds",
        default: "300",
        variable: "AGENTCHATBUS_WAIT_TIMEOUT",
        flag: "",
        meaning: "How long a wait lasts that names no time.",
    },
    Key {
        name: "chat_wait_min_ms",
        kind: "milliseconds",
        default: "0",
        variable: "AGENTCHATBUS_WAIT_MIN_TIMEOUT_MS",
        flag: "",
        meaning: "Shortest wait; shorter ones are raised to it.",
    },
    Key {
        name: "chat_wait_min_enforced",
        kind: "true or false",
        default: "false",
        variable: "AGENTCHATBUS_ENFORCE_MSG_WAIT_MIN_TIMEOUT",
        flag: "",
        meaning: "Whether waits shorter than `chat_wait_min_ms` are refused instead of raised. An agent that has missed messages may always ask for less, because it is answered at once.",
    },
    Key {
        name: "chat_seq_tolerance",
        kind: "number",
        default: "0",
        variable: "AGENTCHATBUS_SEQ_TOLERANCE",
        flag: "",
        meaning: "How many numbers a thread may have moved on before a strict post is refused.",
    },
    Key {
        name: "chat_mismatch_messages_max",
        kind: "number",
        default: "100",
        variable: "AGENTCHATBUS_SEQ_MISMATCH_MAX_MESSAGES",
        flag: "",
        meaning: "Most messages that a refused post is shown.",
    },
    Key {
        name: "chat_rate_limit",
        kind: "messages a minute",
        default: "30",
        variable: "AGENTCHATBUS_RATE_LIMIT",
        flag: "",
        meaning: "Most messages of one author in a minute; 0 switches the limit off.",
    },
    Key {
        name: "chat_content_filter",
        kind: "true or false",
        default: "true",
        variable: "AGENTCHATBUS_CONTENT_FILTER_ENABLED",
        flag: "",
        meaning: "Whether texts that look like secrets are refused.",
    },
    Key {
        name: "chat_thread_timeout_min",
        kind: "minutes",
        default: "0",
        variable: "AGENTCHATBUS_THREAD_TIMEOUT",
        flag: "",
        meaning: "Silence after which a thread in discussion is closed; 0 switches it off.",
    },
    Key {
        name: "chat_sweep_interval_s",
        kind: "seconds",
        default: "60",
        variable: "AGENTCHATBUS_TIMEOUT_SWEEP_INTERVAL",
        flag: "",
        meaning: "How often silent threads are looked for.",
    },
    Key {
        name: "chat_allow_posts_in_closed",
        kind: "true or false",
        default: "false",
        variable: "",
        flag: "",
        meaning: "Whether closed threads take messages, as they did in AgentChatBus 0.1.8.",
    },
    Key {
        name: "chat_enable_handoff_target",
        kind: "true or false",
        default: "false",
        variable: "AGENTCHATBUS_ENABLE_HANDOFF_TARGET",
        flag: "",
        meaning: "Whether agents see and set `handoff_target`.",
    },
    Key {
        name: "chat_enable_stop_reason",
        kind: "true or false",
        default: "false",
        variable: "AGENTCHATBUS_ENABLE_STOP_REASON",
        flag: "",
        meaning: "Whether agents see and set `stop_reason`.",
    },
    Key {
        name: "chat_enable_priority",
        kind: "true or false",
        default: "false",
        variable: "AGENTCHATBUS_ENABLE_PRIORITY",
        flag: "",
        meaning: "Whether agents see and set priorities.",
    },
    Key {
        name: "chat_expose_thread_resources",
        kind: "true or false",
        default: "false",
        variable: "AGENTCHATBUS_EXPOSE_THREAD_RESOURCES",
        flag: "",
        meaning: "Whether every thread is listed as a resource.",
    },
    Key {
        name: "chat_max_image_bytes",
        kind: "bytes",
        default: "5242880",
        variable: "AGENTCHATBUS_MAX_IMAGE_BYTES",
        flag: "",
        meaning: "Largest image that may be uploaded.",
    },
];

/// Variables of AgentChatBus that mean nothing here.
#[derive(Debug)]
pub(crate) struct Gone {
    /// Their names, after `AGENTCHATBUS_`.
    pub(crate) names: &'static [&'static str],
    /// What there is instead.
    pub(crate) instead: &'static str,
}

/// All of them, in the order in which AgentChatBus lists them.
pub(crate) const NOT_KEPT: &[Gone] = &[
    Gone {
        names: &["REPLY_TOKEN_LEASE_SECONDS"],
        instead: "Nothing: it never had an effect. Reply tokens are good until they are used.",
    },
    Gone {
        names: &["DB_TIMEOUT"],
        instead: "Nothing: a database that another process holds is waited for for five seconds, then the answer is 503.",
    },
    Gone {
        names: &["RELOAD", "SHOW_AD"],
        instead: "Nothing: tools are not loaded anew, and there is no demonstration mode.",
    },
    Gone {
        names: &["ALLOWED_HOSTS"],
        instead: "`auth = \"token\"` and `allow_hosts`, which lists names and not the addresses of callers. Addresses are for a firewall.",
    },
    Gone {
        names: &["APP_DIR", "CONFIG_FILE", "WEB_UI_DIR", "UPLOADS_DIR"],
        instead: "`data_dir`, which holds the uploads too, and `--config FILE`. The page is part of the program.",
    },
    Gone {
        names: &[
            "CLI_WORKSPACE",
            "CURSOR_AGENT_COMMAND",
            "CODEX_COMMAND",
            "GEMINI_COMMAND",
            "COPILOT_COMMAND",
            "PTY_USE_CONPTY",
        ],
        instead: "`[[agents]]`, whose `command` and `cwd` say what is started and where.",
    },
    Gone {
        names: &["OWNER_BOOT_TOKEN", "IDE_HEARTBEAT_TIMEOUT", "WORKSPACE_DEV"],
        instead: "Nothing: no editor owns the bus, so none ends it.",
    },
    Gone {
        names: &[
            "BASE_URL",
            "THREAD_ID",
            "THREAD_NAME",
            "AGENT_ID",
            "AGENT_TOKEN",
            "AGENT_DISPLAY_NAME",
            "CURSOR_SESSION_ID",
            "CODEX_THREAD_ID",
            "CLAUDE_SESSION_ID",
            "GEMINI_SESSION_ID",
            "COPILOT_SESSION_ID",
        ],
        instead: "Nothing: they told an agent that was started who it is. Agents of `[[agents]]` are told over ACP.",
    },
];

/// Writes the reference, which is docs/configuration.md.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         `agentbus serve` reads `agentbus.toml` in its working directory, or the file that \
         `--config FILE` or `AGENTBUS_CONFIG` names. The environment overrides the file, and \
         flags override the environment. A key that is not listed here is an error, with its line \
         and the nearest key there is. The keys that decide who may use the bus, where its data goes \
         or what runs here (`auth`, `allow_hosts`, `allow_origins`, `data_dir`, `transport`, `tenant`, `subject_prefix`, `pools`, `schemas`, `agents`, \
         `chat_database`, `chat_store`, `chat_live_agents`, `mcp_language`, `chat_content_filter`, `chat_rate_limit`, `chat_max_image_bytes`, \
         and a `listen` that is not loopback) count only in a file that was named: a directory may \
         have been filled by somebody else. `serve` refuses another file that sets them, `agentbus mcp` \
         and `agentbus acp` leave them out and say so.\n\n\
         | key | value | default | environment | flag |\n|---|---|---|---|---|\n",
    );
    for key in KEYS {
        let cell = |text: &str| {
            if text.is_empty() {
                String::new()
            } else {
                format!("`{text}`")
            }
        };
        let default = key.default.replace('`', "");
        let row = [key.name, key.kind, &default, key.variable, key.flag]
            .map(cell)
            .join(" | ");
        text.push_str(&format!("| {row} |\n"));
    }
    for key in KEYS {
        text.push_str(&format!("\n**`{}`** {}\n", key.name, key.meaning));
    }
    text.push_str(
        "\n`AGENTCHATBUS_ADMIN_TOKEN` has no key, because it is a secret: with it set, changing settings over \
         `PUT /api/settings` needs it in `X-Admin-Token`.\n",
    );
    text.push_str(&not_kept());
    text.push_str("\nThis page is generated from the table of keys in the source.\n");
    text
}

/// What became of the other variables of AgentChatBus.
fn not_kept() -> String {
    let mut text = String::from(
        "\n`AGENTCHATBUS_HOST` and `AGENTCHATBUS_PORT` are the two halves of `listen`, and \
         `AGENTCHATBUS_RATE_LIMIT_ENABLED`, switched off, makes `chat_rate_limit` 0. The other variables of \
         AgentChatBus mean nothing here, and a bus that starts with one of them says so in its log:\n\n\
         | environment | instead |\n|---|---|\n",
    );
    for gone in NOT_KEPT {
        let names = gone.names.iter();
        let names: Vec<_> = names.map(|name| format!("`AGENTCHATBUS_{name}`")).collect();
        text.push_str(&format!("| {} | {} |\n", names.join(", "), gone.instead));
    }
    text
}
