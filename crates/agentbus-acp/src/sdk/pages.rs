//! The list of sessions, page by page.

use super::serving::schema::{
    AgentResponse, ListSessionsRequest, ListSessionsResponse, SessionInfo,
};
use super::serving::{self, Answer};
use crate::limits::SESSIONS_PAGE;

/// Answers with the page that is asked for. A cursor is the number of sessions in front of it.
pub(crate) fn page(
    request: &ListSessionsRequest,
    sessions: impl Iterator<Item = SessionInfo>,
) -> Answer {
    let from = match &request.cursor {
        None => 0,
        Some(cursor) => cursor.parse().map_err(|_| {
            let text = format!("`{cursor}` is no cursor of a list; begin without one");
            serving::invalid(text)
        })?,
    };
    let mut rest = sessions.skip(from).peekable();
    let page = rest.by_ref().take(SESSIONS_PAGE).collect();
    let next = rest.peek().map(|_| (from + SESSIONS_PAGE).to_string());
    let response = ListSessionsResponse::new(page).next_cursor(next);
    Ok(AgentResponse::ListSessionsResponse(response))
}
