//! Two nodes on one database.

use std::sync::Arc;
use std::time::Duration;

use agentbus_chat::store::{PostgresStore, Store, StoreError};
use agentbus_chat::{
    Ambient, Chat, ChatConfig, ChatError, Draft, Followed, NewAgent, NewThread, ThreadId,
    WaitRequest,
};

use crate::server::{self, Server};

/// Longest time that any step may take before the test has failed.
const GUARD: Duration = Duration::from_secs(60);

pub(crate) async fn guarded<T>(what: &str, step: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(GUARD, step).await;
    done.unwrap_or_else(|_| panic!("{what} did not happen within {GUARD:?}"))
}

pub(crate) async fn node(url: &str) -> Chat {
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(url).await.unwrap());
    let config = ChatConfig {
        rate_limit: 0,
        ..ChatConfig::default()
    };
    Chat::over(store, config, Ambient::default()).await.unwrap()
}

pub(crate) async fn schema() -> String {
    tokio::task::spawn_blocking(server::schema).await.unwrap()
}

pub(crate) async fn thread(chat: &Chat) -> ThreadId {
    let agent = chat.register(NewAgent::new("IDE", "m")).await.unwrap();
    let new = NewThread::new("t", agent.agent.id);
    chat.create_thread(new).await.unwrap().thread.id
}

pub(crate) fn draft(thread: &ThreadId, text: &str) -> Draft {
    Draft::new(thread.clone(), "human", text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_woken_by_a_post_at_another_node() {
    let url = schema().await;
    let (here, there) = (node(&url).await, node(&url).await);
    let thread = thread(&here).await;
    for round in 0..20 {
        let waiting = here.clone();
        let request = WaitRequest::new(thread.clone(), round);
        let waiter = tokio::spawn(async move { waiting.wait(request).await.unwrap() });
        while here.store().feed().watched() == 0 {
            tokio::task::yield_now().await;
        }
        there.post(draft(&thread, "wake up")).await.unwrap();
        let waited = guarded("the wake-up", waiter).await.unwrap();
        assert_eq!(waited.messages[0].seq, round + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_tells_all_events_in_one_order() {
    const EACH: usize = 200;
    let url = schema().await;
    let nodes = [node(&url).await, node(&url).await];
    let thread = thread(&nodes[0]).await;
    let start = nodes[0].last_event().await.unwrap();
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(node.follow(Some(start), None).await.unwrap());
    }
    let posters = nodes.iter().flat_map(|node| {
        (0..8).map(|_| {
            let (node, thread) = (node.clone(), thread.clone());
            tokio::spawn(async move {
                for _ in 0..EACH / 8 {
                    node.post(draft(&thread, "x")).await.unwrap();
                }
            })
        })
    });
    for poster in posters.collect::<Vec<_>>() {
        guarded("the posts", poster).await.unwrap();
    }
    let newest = nodes[1].last_event().await.unwrap();
    assert_eq!(newest - start, 2 * EACH as i64);
    for mut reader in readers {
        for expected in start + 1..=newest {
            let next = guarded("an event", reader.next()).await.unwrap().unwrap();
            assert!(matches!(next, Followed::Event(event) if event.id == expected));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_leads_and_another_follows_it() {
    let url = schema().await;
    let (first, second) = (node(&url).await, node(&url).await);
    assert!(first.store().leads() && !second.store().leads());
    first.close().await;
    guarded("the succession", async {
        while !second.store().leads() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_leads_also_while_messages_keep_coming() {
    let url = schema().await;
    let (first, second) = (node(&url).await, node(&url).await);
    let thread = thread(&second).await;
    first.close().await;
    guarded("the succession", async {
        while !second.store().leads() {
            second.post(draft(&thread, "x")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_cannot_be_kept_is_refused_by_name() {
    let chat = node(&schema().await).await;
    let thread = thread(&chat).await;
    let refused = chat.post(draft(&thread, "a\0b")).await.unwrap_err();
    assert!(
        matches!(refused, ChatError::Store(StoreError::Unstorable)),
        "{refused}"
    );
    let posted = chat.post(draft(&thread, "ab")).await.unwrap();
    assert_eq!(
        posted.message.seq, 1,
        "the refused post has taken no number"
    );
}

/// Ends all sessions of the schema's nodes, as a restart of the server would.
fn cut(url: &str) {
    let mut client = postgres::Client::connect(url, postgres::NoTls).unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'agentbus' AND pid <> pg_backend_pid()";
    client.execute(sql, &[]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_made_again_and_nothing_is_missed() {
    // A server of its own, because all sessions of it are ended.
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let url = server.url().to_owned();
    let (here, there) = (node(&url).await, node(&url).await);
    let thread = thread(&here).await;
    let start = here.last_event().await.unwrap();
    let mut reader = here.follow(None, None).await.unwrap();
    let mut acknowledged = Vec::new();
    for n in 0..60 {
        if n % 20 == 10 {
            let url = url.clone();
            tokio::task::spawn_blocking(move || cut(&url))
                .await
                .unwrap();
        }
        match there.post(draft(&thread, &n.to_string())).await {
            Ok(posted) => acknowledged.push(posted.message.id),
            Err(error) => assert!(
                matches!(
                    error,
                    ChatError::Store(StoreError::Unreachable(_) | StoreError::Uncertain(_))
                ),
                "{error}"
            ),
        }
    }
    assert!(acknowledged.len() >= 50, "{}", acknowledged.len());
    let newest = there.last_event().await.unwrap();
    for expected in start + 1..=newest {
        let next = guarded("an event", reader.next()).await.unwrap().unwrap();
        assert!(matches!(next, Followed::Event(event) if event.id == expected));
    }
    for id in acknowledged {
        here.message(id).await.unwrap();
    }
    let unreachable = {
        drop(server);
        guarded("an answer", there.post(draft(&thread, "late")))
            .await
            .unwrap_err()
    };
    assert!(
        matches!(
            unreachable,
            ChatError::Store(StoreError::Unreachable(_) | StoreError::Uncertain(_))
        ),
        "{unreachable}"
    );
}
