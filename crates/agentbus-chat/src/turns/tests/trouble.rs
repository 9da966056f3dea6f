//! Turns over a store that is in trouble.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::BoxFuture;
use crate::store::{Feed, Ran, ReadJob, Tx, Work, WriteJob};

/// A store that cannot be read while it is away, that takes no writes while it is full, and that
/// keeps the next write without being sure of it where that is asked for. It may be that of a node
/// that does not lead.
#[derive(Debug)]
struct Away {
    real: Arc<dyn Store>,
    is_away: AtomicBool,
    is_full: AtomicBool,
    is_unsure: AtomicBool,
    leads: AtomicBool,
    refused: AtomicUsize,
}

impl Away {
    fn over(real: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            real,
            is_away: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_unsure: AtomicBool::new(false),
            leads: AtomicBool::new(true),
            refused: AtomicUsize::new(0),
        })
    }

    /// Waits until so much was refused in all.
    async fn has_refused(&self, count: usize) {
        let asked_again = async {
            while self.refused.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let asked_again = tokio::time::timeout(GUARD, asked_again).await;
        assert!(asked_again.is_ok(), "the store is given up");
    }
}

/// A write whose owner does not learn that it is stored.
struct Unsure(Box<dyn Work>);

impl Work for Unsure {
    fn run(self: Box<Self>, tx: &mut dyn Tx) -> Ran {
        let Ran { keep, answer } = self.0.run(tx);
        let unsure = Err(StoreError::Uncertain("cut".to_owned()));
        Ran {
            keep,
            answer: Box::new(move |_| answer(unsure)),
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        self.0.refuse(error);
    }
}

impl Store for Away {
    fn submit(&self, mut job: WriteJob) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.is_full.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Box::pin(async { Err(StoreError::Full) });
        }
        if self.is_unsure.swap(false, Ordering::SeqCst) {
            job.work = Box::new(Unsure(job.work));
        }
        self.real.submit(job)
    }

    fn submit_now(&self, job: WriteJob) -> Result<(), StoreError> {
        self.real.submit_now(job)
    }

    fn read(&self, job: ReadJob) -> BoxFuture<'_, Result<(), StoreError>> {
        if !self.is_away.load(Ordering::SeqCst) {
            return self.real.read(job);
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err(StoreError::Unreachable("away".to_owned())) })
    }

    fn feed(&self) -> &Arc<Feed> {
        self.real.feed()
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.real.close()
    }
}

#[tokio::test]
async fn mentions_that_the_store_cannot_show_at_once_are_answered_when_it_can() {
    let (real, directory) = file().await;
    let store = Away::over(real);
    let over: Arc<dyn Store> = Arc::<Away>::clone(&store);
    let room = Office::over(&["first", "second"], over, directory).await;
    for name in ["first", "second"] {
        room.agent(name, |_| "here".to_owned()).await;
    }
    store.is_away.store(true, Ordering::SeqCst);
    room.say("@first?").await;
    room.say("@second?").await;
    store.has_refused(3).await;
    store.is_away.store(false, Ordering::SeqCst);
    for name in ["first", "second"] {
        assert_eq!(room.hears(by(name)).await.content, "here");
    }
}

#[tokio::test]
async fn a_turn_that_the_store_cannot_show_at_once_begins_when_it_can() {
    let (real, directory) = file().await;
    let store = Away::over(real);
    let over: Arc<dyn Store> = Arc::<Away>::clone(&store);
    store.leads.store(false, Ordering::SeqCst);
    let room = Office::over(&["echo"], over, directory).await;
    room.agent("echo", |_| "here".to_owned()).await;
    room.say("@echo?").await;
    let asked = room.messages().await.into_iter().find(|one| one.seq == 1);
    store.is_away.store(true, Ordering::SeqCst);
    room.turns.hear(&asked.unwrap());
    store.has_refused(2).await;
    store.is_away.store(false, Ordering::SeqCst);
    assert_eq!(room.hears(by("echo")).await.content, "here");
}

/// Asks an agent, does something to the store while it works on its answer, and lets it answer.
async fn answered_over(trouble: impl FnOnce(&Away)) -> (Office, Arc<Away>) {
    let (real, directory) = file().await;
    let store = Away::over(real);
    let over: Arc<dyn Store> = Arc::<Away>::clone(&store);
    let room = Office::over(&["slow"], over, directory).await;
    let (go, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (held, begins) = (Arc::clone(&go), Arc::clone(&began));
    let answer = move |_: Request| {
        let (held, begins) = (Arc::clone(&held), Arc::clone(&begins));
        async move {
            begins.notify_one();
            held.notified().await;
            Ok::<_, Error>(json!("worked out"))
        }
    };
    room.bus.handle("slow", answer).await.unwrap();
    room.say("@slow work").await;
    began.notified().await;
    trouble(&store);
    go.notify_one();
    (room, store)
}

/// Waits until the turn is over; what the thread then holds after the mention.
async fn outcome(room: &Office) -> Vec<String> {
    room.hears(|message| message.seq > 1).await;
    let key = (room.thread.clone(), "slow".to_owned());
    let is_over = async {
        while room.turns.state.lock().seats[&key].running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, is_over).await.unwrap();
    let messages = room.messages().await;
    messages[1..]
        .iter()
        .map(|one| one.content.clone())
        .collect()
}

#[tokio::test]
async fn an_answer_that_the_store_cannot_take_at_once_is_posted_when_it_can() {
    let full = |store: &Away| store.is_full.store(true, Ordering::SeqCst);
    let (room, store) = answered_over(full).await;
    store.has_refused(3).await;
    store.is_full.store(false, Ordering::SeqCst);
    assert_eq!(outcome(&room).await, ["worked out"]);
}

#[tokio::test]
async fn an_answer_of_which_the_store_is_not_sure_is_posted_once() {
    let unsure = |store: &Away| store.is_unsure.store(true, Ordering::SeqCst);
    let (room, _store) = answered_over(unsure).await;
    assert_eq!(outcome(&room).await, ["worked out"]);
}

/// An agent in a thread of a node that does not lead.
async fn at_a_follower() -> (Office, Arc<Away>) {
    let (real, directory) = file().await;
    let store = Away::over(real);
    store.leads.store(false, Ordering::SeqCst);
    let over: Arc<dyn Store> = Arc::<Away>::clone(&store);
    let room = Office::over(&["echo"], over, directory).await;
    room.agent("echo", |_| "heard".to_owned()).await;
    (room, store)
}

/// Waits until the node keeps so many messages.
async fn keeps(room: &Office, count: usize) {
    let kept = async {
        while room.turns.state.lock().unheard.len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, kept).await.unwrap();
}

#[tokio::test]
async fn a_mention_that_comes_while_nobody_leads_is_answered_by_the_next_who_does() {
    let (room, store) = at_a_follower().await;
    let asked = room.say("@echo are you there?").await;
    keeps(&room, 1).await;
    store.leads.store(true, Ordering::SeqCst);
    assert_eq!(room.hears(by("echo")).await.reply_to, Some(asked.id));
}

#[tokio::test]
async fn a_mention_that_another_node_has_taken_up_is_left_to_it() {
    let (room, store) = at_a_follower().await;
    let taken = room.say("@echo one").await;
    let opened = json!({ "agent": "echo", "upto": taken.seq });
    let told = room.chat.note("turn.opened", room.thread.clone(), opened);
    told.await.unwrap();
    let left = room.say("@echo two").await;
    keeps(&room, 2).await;
    store.leads.store(true, Ordering::SeqCst);
    assert_eq!(room.hears(by("echo")).await.reply_to, Some(left.id));
}

#[test]
fn what_is_kept_of_messages_is_limited() {
    let mut state = State::default();
    for n in 0..=limits::TURN_UNHEARD_MAX {
        let id = MessageId::new(n.to_string());
        state.unheard.push_back((Instant::now(), id));
    }
    state.forget_old();
    assert_eq!(state.unheard.len(), limits::TURN_UNHEARD_MAX);
    let oldest = state.unheard.front().unwrap();
    assert_eq!(oldest.1, MessageId::new("1"));
}
