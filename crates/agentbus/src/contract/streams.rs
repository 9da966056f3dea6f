//! Calls with many frames.

use tokio::sync::mpsc;

use super::{Ended, Place, within};
use crate::{Error, ErrorCode, ErrorPayload};

pub async fn a_stream_of_nobody_ends_at_once(place: Place) {
    let (_agent, caller) = place.two().await;
    // It may hear of it with its first frame instead.
    let outcome = match within("the request", caller.stream("none", &1).send()).await {
        Ok(mut frames) => within("the end", frames.next()).await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(outcome, Error::NoHandler { .. }), "{outcome}");
}

pub async fn frames_arrive_in_order_and_a_dropped_stream_stops_its_handler(place: Place) {
    let (agent, caller) = place.two().await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    agent
        .handle_stream("count", move |request, out| {
            let guard = Ended(ended.clone());
            async move {
                let until: u64 = request.json()?;
                for n in 0..until {
                    out.delta(&n).await?;
                }
                drop(guard);
                out.finish(&until).await
            }
        })
        .await
        .unwrap();
    let mut frames = caller.stream("count", &place.frames()).await.unwrap();
    let mut next = 0;
    while let Some(frame) = within("a frame", frames.next()).await {
        assert_eq!(frame.unwrap().seq, next);
        next += 1;
    }
    assert_eq!(next, place.frames() + 1);
    within("the end of the first", ends.recv()).await.unwrap();

    let mut endless = caller.stream("count", &u64::MAX).await.unwrap();
    within("a frame", endless.next()).await.unwrap().unwrap();
    drop(endless);
    within("the end of the endless one", ends.recv())
        .await
        .unwrap();
}

pub async fn a_stream_that_fails_ends_with_the_error(place: Place) {
    let (agent, caller) = place.two().await;
    agent
        .handle_stream("breaks", |_, out| async move {
            out.delta(&1).await?;
            Err(Error::invalid_request("that is all there is"))
        })
        .await
        .unwrap();
    let mut frames = caller.stream("breaks", &1).await.unwrap();
    let delta = within("a frame", frames.next()).await.unwrap().unwrap();
    assert_eq!(ErrorPayload::of(&delta), None);
    let last = within("the last frame", frames.next()).await.unwrap();
    let last = last.unwrap();
    let told = ErrorPayload::of(&last).unwrap();
    assert_eq!(told.code, ErrorCode::InvalidRequest);
    assert_eq!(told.message, "that is all there is");
    assert!(within("the end", frames.next()).await.is_none());
}
