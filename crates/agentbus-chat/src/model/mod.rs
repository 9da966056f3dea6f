//! What a conversation consists of, as plain data.

mod agent;
mod event;
mod message;
mod search;
mod sync;
mod template;
mod thread;

pub use agent::{Agent, AliasSource};
pub use event::{AuditEntry, Event, NewEvent};
pub(crate) use message::is_human_only;
pub use message::{Edit, Message, Priority, Reaction, Role, STOP_REASONS};
pub use search::{Hit, SearchCursor, SearchOrder, SearchPage, SearchQuery};
pub use sync::{SyncContext, TOKEN_EXPIRES, Token, TokenSource, Waiting};
pub use template::{Template, builtin_templates};
pub use thread::{
    Admin, AdminKind, Assigned, Deleted, Thread, ThreadPage, ThreadQuery, ThreadSettings,
    ThreadState,
};
