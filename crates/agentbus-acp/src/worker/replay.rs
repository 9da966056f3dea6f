//! A history as it is told again: text that came in pieces is told in one.

use crate::sdk::serving::schema::{ContentBlock, SessionUpdate};

/// Joins neighbouring pieces of one speaker's text.
///
/// Pieces of a prompt stay apart: they were blocks of their own.
pub(super) fn merged(updates: Vec<SessionUpdate>) -> Vec<SessionUpdate> {
    let mut merged: Vec<SessionUpdate> = Vec::new();
    for update in updates {
        if let Some(last) = merged.last_mut()
            && joined(last, &update)
        {
            continue;
        }
        merged.push(update);
    }
    merged
}

/// Appends the text of one update to another if both are text of the same speaker.
fn joined(last: &mut SessionUpdate, next: &SessionUpdate) -> bool {
    let (last, next) = match (last, next) {
        (SessionUpdate::AgentMessageChunk(last), SessionUpdate::AgentMessageChunk(next))
        | (SessionUpdate::AgentThoughtChunk(last), SessionUpdate::AgentThoughtChunk(next)) => {
            (last, next)
        }
        _ => return false,
    };
    let (ContentBlock::Text(text), ContentBlock::Text(more)) = (&mut last.content, &next.content)
    else {
        return false;
    };
    text.text.push_str(&more.text);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::serving::schema::ContentChunk;

    fn said(text: &str) -> SessionUpdate {
        SessionUpdate::AgentMessageChunk(ContentChunk::new(text.into()))
    }

    fn asked(text: &str) -> SessionUpdate {
        SessionUpdate::UserMessageChunk(ContentChunk::new(text.into()))
    }

    #[test]
    fn pieces_of_an_answer_are_told_in_one() {
        let history = vec![
            asked("a"),
            asked("b"),
            said("1"),
            said("2"),
            asked("c"),
            said("3"),
        ];
        let told = vec![asked("a"), asked("b"), said("12"), asked("c"), said("3")];
        assert_eq!(merged(history), told);
    }
}
