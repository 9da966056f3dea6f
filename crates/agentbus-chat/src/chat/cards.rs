//! Cards of the coordinator that wait for a person, over all threads.

use crate::model::{Message, ThreadState};
use crate::store::Tx;
use crate::{Chat, ChatError, DecisionAction, MessageId, limits};

use super::Core;
use super::coordinator::cards::{SWITCH_CARD, TAKEOVER_CARD};

/// A card.
#[derive(Debug, Clone)]
pub struct Card {
    /// The message that it is.
    pub message: Message,
    /// What can be decided, with the words for it.
    pub actions: [(DecisionAction, String); 2],
}

impl Chat {
    /// The cards that wait for a person, the oldest first. A thread that is closed or archived waits
    /// for nobody.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn open_cards(&self) -> Result<Vec<Card>, ChatError> {
        self.read(Core::open_cards).await
    }

    /// A card, open or not; nothing if there is no such message, or it asks nothing.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn card(&self, id: MessageId) -> Result<Option<Card>, ChatError> {
        self.read(move |_, tx| Ok(tx.message(&id)?.and_then(Card::read)))
            .await
    }
}

impl Core {
    fn open_cards(&self, tx: &dyn Tx) -> Result<Vec<Card>, ChatError> {
        let mut open = Vec::new();
        for message in tx.newest_for_people(limits::CARDS_SEARCHED)? {
            let Some(card) = Card::read(message).filter(Card::is_open) else {
                continue;
            };
            let thread = tx.thread(&card.message.thread_id)?;
            let over = [ThreadState::Closed, ThreadState::Archived];
            if thread.is_some_and(|thread| !over.contains(&thread.status)) {
                open.push(card);
            }
        }
        Ok(open)
    }
}

impl Card {
    fn read(message: Message) -> Option<Self> {
        let actions = actions_of(message.meta("ui_type")?)?;
        let buttons = message
            .metadata
            .as_ref()
            .map(|fields| &fields["ui_buttons"]);
        let word = |action: DecisionAction| {
            let buttons = buttons
                .and_then(|list| list.as_array())
                .into_iter()
                .flatten();
            let mut buttons = buttons.filter(|button| button["action"] == action.as_str());
            let label = buttons.next().and_then(|button| button["label"].as_str());
            label.unwrap_or(action.as_str()).to_owned()
        };
        let actions = actions.map(|action| (action, word(action)));
        Some(Self { message, actions })
    }

    fn is_open(&self) -> bool {
        self.message.meta("decision_status") != Some("resolved")
    }
}

/// What can be decided on a card of this kind.
pub(super) fn actions_of(kind: &str) -> Option<[DecisionAction; 2]> {
    match kind {
        SWITCH_CARD => Some([DecisionAction::Keep, DecisionAction::Switch]),
        TAKEOVER_CARD => Some([DecisionAction::Cancel, DecisionAction::Takeover]),
        _ => None,
    }
}
