//! Jobs with a typed result.

use tokio::sync::oneshot;

use crate::ChatError;
use crate::store::{Promise, Ran, Store, StoreError, Tx, Work, WriteJob};

/// A function and whoever waits for its result.
struct Typed<F, T> {
    function: F,
    waiting: Option<oneshot::Sender<Result<T, ChatError>>>,
}

impl<F, T> Work for Typed<F, T>
where
    F: FnOnce(&mut dyn Tx) -> Result<T, ChatError> + Send,
    T: Send + 'static,
{
    fn run(self: Box<Self>, tx: &mut dyn Tx) -> Ran {
        let Self { function, waiting } = *self;
        let result = function(tx);
        Ran {
            keep: result.is_ok(),
            answer: Box::new(move |stored| {
                let result = stored.map_err(ChatError::from).and(result);
                if let Some(waiting) = waiting {
                    // Whoever asked may have left; what was done stays done.
                    let _ = waiting.send(result);
                }
            }),
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        if let Some(waiting) = self.waiting {
            let _ = waiting.send(Err(error.into()));
        }
    }
}

/// Runs a function in a transaction and waits for what was promised. Dropping the future does not
/// undo it.
pub(crate) async fn perform<T: Send + 'static>(
    store: &dyn Store,
    promise: Promise,
    function: impl FnOnce(&mut dyn Tx) -> Result<T, ChatError> + Send + 'static,
) -> Result<T, ChatError> {
    let (waiting, result) = oneshot::channel();
    let work = Box::new(Typed {
        function,
        waiting: Some(waiting),
    });
    store.submit(WriteJob { promise, work }).await?;
    result.await.unwrap_or_else(|_| Err(lost()))
}

/// Runs a function in a transaction for someone who is being dropped and cannot wait.
pub(crate) fn perform_detached(
    store: &dyn Store,
    function: impl FnOnce(&mut dyn Tx) -> Result<(), ChatError> + Send + 'static,
) {
    let work = Box::new(Typed {
        function,
        waiting: None,
    });
    let promise = Promise::Soon;
    if let Err(error) = store.submit_now(WriteJob { promise, work }) {
        tracing::debug!(%error, "a wait could not be cleared; it ends with its timeout");
    }
}

/// Runs a function over what is committed.
pub(crate) async fn look<T: Send + 'static>(
    store: &dyn Store,
    function: impl FnOnce(&dyn Tx) -> Result<T, ChatError> + Send + 'static,
) -> Result<T, ChatError> {
    let (waiting, result) = oneshot::channel();
    let job = Box::new(move |tx: &dyn Tx| {
        let _ = waiting.send(function(tx));
    });
    store.read(job).await?;
    result.await.unwrap_or_else(|_| Err(lost()))
}

fn lost() -> ChatError {
    StoreError::Failed("a job ended without an answer; its changes are undone".to_owned()).into()
}
