//! Calls with one reply.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Barrier, Semaphore, mpsc};

use super::{Ended, Place, within};
use crate::{Error, ErrorCode, Request};

pub async fn a_call_is_answered_and_a_missing_target_is_known_at_once(place: Place) {
    let (agent, caller) = place.two().await;
    agent
        .handle("echo", |request: Request| async move {
            Ok(request.payload().cloned())
        })
        .await
        .unwrap();
    // Ready when `handle` returned: the very first call arrives.
    let reply = within("a reply", caller.invoke("echo", &json!({"n": 1})).send()).await;
    assert_eq!(reply.unwrap().payload.unwrap().as_str(), r#"{"n":1}"#);
    let call = |target: &'static str| within("an outcome", caller.invoke(target, &1).send());
    let missing = call("none").await.unwrap_err();
    assert!(matches!(missing, Error::NoHandler { .. }), "{missing}");
    within("the end of the agent", agent.shutdown()).await;
    if place.has_late_news() {
        // The call is then given up rather than left to wait.
        let gone = call("echo").await;
        assert!(gone.is_err(), "{gone:?}");
    }
    let gone = call("echo").await.unwrap_err();
    assert!(matches!(gone, Error::NoHandler { .. }), "{gone}");
}

pub async fn an_error_of_a_handler_is_told_to_its_caller(place: Place) {
    let (agent, caller) = place.two().await;
    agent
        .handle("strict", |_: Request| async {
            Err::<(), _>(Error::invalid_request("send a number"))
        })
        .await
        .unwrap();
    let outcome = within("an outcome", caller.invoke("strict", &"one").send()).await;
    let Err(Error::Remote(told)) = outcome else {
        panic!("expected what the handler said, got {outcome:?}");
    };
    assert_eq!(told.code, ErrorCode::InvalidRequest);
    assert_eq!(told.message, "send a number");
    assert!(!told.retryable);
}

pub async fn a_call_that_is_given_up_stops_its_handler(place: Place) {
    let (agent, caller) = place.two().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let (ended, mut ends) = mpsc::unbounded_channel();
    agent
        .handle("wait", move |_: Request| {
            let (started, guard) = (started.clone(), Ended(ended.clone()));
            async move {
                let _guard = guard;
                started.send(()).unwrap();
                std::future::pending::<Result<(), Error>>().await
            }
        })
        .await
        .unwrap();
    // The caller itself stays: only its call is given up.
    let calling = caller.clone();
    let call = tokio::spawn(async move { calling.invoke("wait", &1).no_timeout().send().await });
    within("the start of the handler", starts.recv())
        .await
        .unwrap();
    assert!(
        ends.try_recv().is_err(),
        "it waits for as long as its caller"
    );
    call.abort();
    within("the end of the handler", ends.recv()).await.unwrap();
}

pub async fn handlers_work_side_by_side(place: Place) {
    const CALLS: usize = 10;
    let (agent, caller) = place.two().await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let barrier = Arc::new(Barrier::new(CALLS));
    agent
        .handle("meet", move |_: Request| {
            arrived.send(()).unwrap();
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok(())
            }
        })
        .await
        .unwrap();
    // None is answered before all have arrived.
    let calls = (0..CALLS).map(|_| caller.invoke("meet", &1).send());
    let replies = within("all replies", futures_util::future::join_all(calls)).await;
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    for _ in 0..CALLS {
        within("an arrival", arrivals.recv()).await.unwrap();
    }
}

/// Each takes one call at a time and none ends before both have one, so that neither can do the
/// work of both. Where calls are dealt by chance, there are too many for one alone.
pub async fn agents_of_one_name_share_its_calls(place: Place) {
    const CALLS: u64 = 40;
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let mut agents = Vec::new();
    for agent in 0..2 {
        let (started, gate) = (started.clone(), Arc::clone(&gate));
        let answer = move |request: Request| {
            let (started, gate) = (started.clone(), Arc::clone(&gate));
            async move {
                let n: u64 = request.json()?;
                started.send((agent, n)).unwrap();
                let _permit = gate.acquire().await;
                Ok::<_, Error>(json!(n))
            }
        };
        let bus = place.bus("agent").await;
        bus.handle("who", answer).concurrency(1).await.unwrap();
        agents.push(bus);
    }
    let caller = place.bus("caller").await;
    let calls = futures_util::future::join_all((0..CALLS).map(|n| {
        let call = caller.invoke("who", &n).no_timeout();
        async move { call.send().await.unwrap().payload.unwrap() }
    }));
    let opens = async {
        let (mut busy, mut seen) = (HashSet::new(), Vec::new());
        while busy.len() < agents.len() {
            let (agent, n) = starts.recv().await.unwrap();
            busy.insert(agent);
            seen.push(n);
        }
        gate.add_permits(agents.len());
        seen
    };
    let (replies, mut seen) = within("all replies", async { tokio::join!(calls, opens) }).await;
    for (reply, n) in replies.iter().zip(0..CALLS) {
        assert_eq!(reply.decode::<u64>().unwrap(), n);
    }
    while let Ok((_, n)) = starts.try_recv() {
        seen.push(n);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..CALLS).collect::<Vec<_>>(), "each is handled once");
}
