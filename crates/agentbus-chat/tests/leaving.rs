//! What is being stored while a wait ends is shown by it, or left to the next one.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use agentbus_chat::store::{Promise, Ran, StoreError, Tx, Work, WriteJob};
use agentbus_chat::{Chat, ChatConfig, Draft, NewAgent, NewThread, WaitRequest};

/// How long the wait is, and how long a step is given to reach the writer.
const WAIT: Duration = Duration::from_millis(300);

/// Longest time that the writer stands still.
const STILL: Duration = Duration::from_secs(1);

/// Has the writer stand still until it hears something, or hears nothing for too long.
struct Stand(Receiver<()>);

impl Work for Stand {
    fn run(self: Box<Self>, _: &mut dyn Tx) -> Ran {
        let _ = self.0.recv_timeout(STILL);
        Ran {
            keep: true,
            answer: Box::new(drop),
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        unreachable!("the writer refused to stand still: {error}");
    }
}

async fn stand(chat: &Chat, until: Receiver<()>) {
    let job = WriteJob {
        promise: Promise::Stored,
        work: Box::new(Stand(until)),
    };
    chat.store().submit(job).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_a_wait_covers_was_shown() {
    let directory = tempfile::tempdir().unwrap();
    let config = ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    };
    let chat = Chat::open(directory.path().join("chat.db"), config);
    let chat = chat.await.unwrap();
    let agent = chat.register(NewAgent::new("IDE", "m")).await.unwrap();
    let thread = NewThread::new("t", agent.agent.id);
    let thread = chat.create_thread(thread).await.unwrap().thread.id;
    let (waited, hears_of_wait) = channel();
    let waiting = tokio::spawn({
        let request = WaitRequest {
            timeout: Some(WAIT),
            ..WaitRequest::new(thread.clone(), 0)
        };
        let chat = chat.clone();
        async move {
            let outcome = chat.wait(request).await.unwrap();
            let _ = waited.send(());
            outcome
        }
    });
    // So long the wait needs to begin.
    tokio::time::sleep(WAIT / 3).await;
    let (go, hears_go) = channel();
    stand(&chat, hears_go).await;
    let posting = tokio::spawn({
        let (chat, draft) = (chat.clone(), Draft::new(thread.clone(), "p", "x"));
        async move { chat.post(draft).await.unwrap() }
    });
    // The wait ends, and what it asks of the writer stands behind the post. What comes behind both
    // keeps their commit from being made until the wait has told what it saw, if it would so soon.
    tokio::time::sleep(WAIT * 2).await;
    stand(&chat, hears_of_wait).await;
    go.send(()).unwrap();
    let (waited, posted) = (waiting.await.unwrap(), posting.await.unwrap());
    let shown: Vec<_> = waited.messages.iter().map(|message| message.seq).collect();
    assert_eq!(
        shown.contains(&posted.message.seq),
        waited.sync.current_seq >= posted.message.seq
    );
    chat.close().await;
}
