//! Cards of the coordinator as decisions: one more way to see and to answer them.

use std::time::{Duration, UNIX_EPOCH};

use agentbus::transport::BoxFuture;
use agentbus_chat::{Card, Chat, ChatError, MessageId};
use agentbus_decisions::{
    Answer, Ask, Asker, Choice, Decision, NotTaken, Question, Source, Taken, timestamp,
};
use serde_json::{Value, json};

/// The cards of all threads.
#[derive(Debug)]
pub(super) struct Cards(pub(super) Chat);

impl Source for Cards {
    fn open(&self) -> BoxFuture<'_, Result<Vec<Decision>, String>> {
        Box::pin(async move {
            let cards = self.0.open_cards().await;
            let cards = cards.map_err(|error| error.to_string())?;
            Ok(cards.into_iter().map(shown).collect())
        })
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        given: &'a Answer,
    ) -> BoxFuture<'a, Result<Taken, NotTaken>> {
        Box::pin(async move {
            let card = self.0.card(MessageId::new(id)).await.map_err(failed)?;
            let card = card.ok_or_else(|| NotTaken::Unknown(id.to_owned()))?;
            let action = chosen(&card, given)?;
            let decision = agentbus_chat::Decision {
                thread_id: card.message.thread_id.clone(),
                action,
                candidate: None,
                source: Some(card.message.id.clone()),
            };
            let decided = self.0.decide(decision).await.map_err(failed)?;
            let option = decided.action.as_str().to_owned();
            match decided.action == action {
                true => Ok(Taken {
                    option,
                    already_decided: decided.already_decided,
                }),
                false => Err(NotTaken::Closed {
                    decided: Some(option),
                }),
            }
        })
    }
}

/// What everybody may hear of a card: that there is one. Cards are for people only, and events reach
/// agents.
pub(super) fn announced(id: &Value, thread: &Value) -> Value {
    json!({ "id": id, "type": "card", "asker": Asker::coordinator(), "thread": thread })
}

fn shown(card: Card) -> Decision {
    let Card { message, actions } = card;
    let options = actions
        .iter()
        .map(|(action, word)| Choice::plain(action.as_str(), word));
    let asker = Asker::coordinator();
    let question = Question::new(asker, message.content, Ask::Card, options.collect());
    let since = u64::try_from(message.created_at.micros()).unwrap_or(0);
    Decision {
        id: message.id.to_string(),
        question: Question {
            thread: Some(message.thread_id.to_string()),
            detail: message.metadata.unwrap_or_default(),
            ..question
        },
        since: timestamp(UNIX_EPOCH + Duration::from_micros(since)),
        // A thread waits until somebody decides.
        until: None,
    }
}

fn chosen(card: &Card, given: &Answer) -> Result<agentbus_chat::DecisionAction, NotTaken> {
    if given.content.is_some() {
        let text = "a card takes no `content`".to_owned();
        return Err(NotTaken::Unfit(text));
    }
    let words = card.actions.each_ref().map(|(action, _)| *action);
    let chosen = words.into_iter().find(|it| it.as_str() == given.option);
    chosen.ok_or_else(|| NotTaken::NoOption {
        option: given.option.clone(),
        options: words.map(|it| it.as_str().to_owned()).into(),
    })
}

fn failed(error: ChatError) -> NotTaken {
    match error {
        ChatError::Store(error) => NotTaken::Failed(error.to_string()),
        // The agent that it is about has gone, or the coordinator was switched off meanwhile.
        error => NotTaken::Refused(error.to_string()),
    }
}
