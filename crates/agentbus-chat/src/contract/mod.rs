//! The contract kit: the promises of a store, and of conversations over it, as cases that any
//! store can run.
//!
//! ```ignore
//! agentbus_chat::contract_tests!(fixture);
//!
//! fn fixture() -> Arc<dyn Fixture> { … }
//! ```
//!
//! Time is virtual in every case, and nothing sleeps to wait for something: a case either awaits
//! what it needs, within one generous guard against hanging, or looks until it is so.

#![allow(
    clippy::unwrap_used,
    reason = "a case that cannot go on should say where"
)]
#![allow(missing_docs, reason = "the cases are named for what they check")]

mod agents;
mod coordinating;
mod events;
mod keys;
mod posting;
mod rows;
mod searching;
mod threads;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Message, SyncContext};
use crate::store::{MessageQuery, Store};
use crate::{
    Ambient, BoxFuture, Chat, ChatConfig, Credentials, Draft, ManualClock, NewAgent, NewThread,
    Proof, ProvenAgent, Registered, Seq, Stamp, Sync, SystemEntropy, ThreadId,
};

pub use agents::*;
pub use coordinating::*;
pub use events::*;
pub use keys::*;
pub use posting::*;
pub use rows::*;
pub use searching::*;
pub use threads::*;
pub use waiting::*;

/// Where the cases find stores.
pub trait Fixture: Send + std::marker::Sync {
    /// Opens the store of this fixture; the same one every time, after the last was closed.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// What a case runs in.
pub type At = Arc<dyn Fixture>;

/// Longest time that any step of a case may take before the case has failed.
const GUARD: Duration = Duration::from_secs(60);

/// Makes one test of each case.
#[macro_export]
macro_rules! contract_tests {
    ($fixture:path) => {
        $crate::contract_tests!($fixture:
            a_failed_job_leaves_nothing,
            a_panicking_job_leaves_nothing_and_others_go_on,
            panicking_looks_cost_no_reader,
            jobs_see_what_earlier_jobs_did,
            readers_see_only_what_is_committed,
            numbers_are_never_given_out_twice,
            the_feed_tells_when_readers_can_see,
            a_closed_store_takes_nothing,
            posts_have_one_order,
            sixty_four_posters_all_succeed,
            a_token_is_spent_once_however_many_try,
            strict_posts_are_checked_in_order,
            a_strict_post_gives_the_next_token,
            only_the_agent_speaks_for_itself,
            secrets_are_refused_everywhere,
            an_author_may_post_so_much_and_no_more,
            a_message_that_is_refused_is_not_stored,
            what_is_for_people_never_reaches_agents,
            a_transcript_has_places,
            edits_keep_what_was_there,
            reactions_are_there_once,
            a_reaction_is_its_agents_own,
            a_wait_ends_with_the_commit,
            a_wait_that_times_out_keeps_its_token,
            a_wait_after_a_failed_post_answers_at_once,
            a_wait_needs_whole_credentials,
            a_wait_that_is_too_short_is_raised_or_refused,
            a_wait_hears_only_what_is_handed_to_it,
            a_wait_that_is_dropped_is_forgotten,
            a_kicked_agent_waits_no_more,
            a_kick_ends_every_proof,
            any_state_follows_any_other,
            a_topic_is_one_thread,
            a_thread_remembers_its_workspace,
            closed_threads_take_nothing,
            lists_have_pages,
            deleting_leaves_nothing,
            silent_threads_close,
            templates_give_what_the_creator_leaves_open,
            exports_tell_everything,
            names_are_unique_and_tokens_hidden,
            an_agent_has_the_face_that_it_chose,
            agents_come_back_and_go,
            presence_follows_signs_of_life,
            joining_shows_the_newest_window,
            searches_find_words_phrases_and_characters,
            searches_that_cannot_be_read_are_taken_literally,
            searches_can_be_narrowed_and_ranked,
            a_search_has_pages_that_hold_still,
            the_index_follows_edits_and_deletions,
            the_index_survives_a_failed_job,
            events_come_in_order_and_survive_a_restart,
            readers_resume_without_loss,
            forgotten_events_are_announced,
            a_repeated_key_writes_once,
            an_admin_alone_is_asked_about,
            an_admin_among_others_is_called,
            a_missing_admin_is_warned_about_less_and_less,
            one_without_admin_may_be_promoted,
            a_card_takes_one_decision,
        );
    };
    ($fixture:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::contract::$case($fixture()).await;
            }
        )*
    };
}

/// Conversations over a store, with their clock.
struct Room {
    chat: Chat,
    clock: Arc<ManualClock>,
}

fn quiet() -> ChatConfig {
    ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    }
}

impl Room {
    async fn open(at: &At) -> Self {
        Self::with(at, quiet()).await
    }

    async fn with(at: &At, config: ChatConfig) -> Self {
        let now = Stamp::parse("2026-11-21T00:00:00Z").unwrap();
        Self::at_time(at, config, ManualClock::at(now)).await
    }

    async fn at_time(at: &At, config: ChatConfig, clock: Arc<ManualClock>) -> Self {
        let ambient = Ambient {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SystemEntropy),
        };
        let chat = Chat::over(at.open().await, config, ambient).await.unwrap();
        Self { chat, clock }
    }

    async fn agent(&self) -> Registered {
        self.chat
            .register(NewAgent::new("IDE", "model"))
            .await
            .unwrap()
    }

    async fn thread(&self, topic: &str) -> ThreadId {
        let creator = self.agent().await.agent.id;
        let opened = self
            .chat
            .create_thread(NewThread::new(topic, creator))
            .await;
        opened.unwrap().thread.id
    }

    async fn say(&self, thread: &ThreadId, text: &str) -> Message {
        let draft = Draft::new(thread.clone(), "human", text);
        self.chat.post(draft).await.unwrap().message
    }

    async fn token(&self, thread: &ThreadId, agent: &Registered) -> SyncContext {
        let id = Some(agent.agent.id.clone());
        self.chat.sync_context(thread.clone(), id).await.unwrap()
    }

    /// Ends when everything that was answered soon is stored as well.
    async fn flush(&self) {
        self.chat.check_search().await.unwrap();
    }

    async fn texts(&self, thread: &ThreadId) -> Vec<String> {
        let query = MessageQuery {
            limit: 1000,
            ..MessageQuery::default()
        };
        let page = self
            .chat
            .messages(thread.clone(), query, false)
            .await
            .unwrap();
        page.0.into_iter().map(|message| message.content).collect()
    }
}

fn credentials(agent: &Registered) -> Credentials {
    Credentials {
        agent_id: agent.agent.id.clone(),
        token: agent.token.clone(),
    }
}

/// What a gateway remembers of an agent that showed its token.
fn proven(agent: &Registered) -> ProvenAgent {
    ProvenAgent::new(agent.agent.id.clone(), &agent.token)
}

/// A strict post of an agent.
fn strict(thread: &ThreadId, agent: &Registered, seen: Seq, token: &str, text: &str) -> Draft {
    Draft {
        sync: Sync::Strict {
            expected_last_seq: Some(seen),
            reply_token: Some(token.to_owned()),
        },
        proof: Proof::Token(agent.token.clone()),
        ..Draft::new(thread.clone(), agent.agent.id.as_str(), text)
    }
}

async fn guarded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(GUARD, step).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {GUARD:?}"),
    }
}

/// Looks until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    guarded(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
