//! One client connection.

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use super::Shared;
use super::hub::End;
use super::inlet::{self, Descriptor};
use super::outlet::Outlet;
use crate::framing::Splitter;
use crate::router::ClientId;

/// How a client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It said all that it had to say.
    Input,
    /// It was cut off, or the bus is over.
    Cut,
}

/// Serves a client until it leaves; both descriptors must not block.
pub(super) async fn serve(shared: Arc<Shared>, input: Arc<OwnedFd>, output: Arc<OwnedFd>) {
    let reader = match Descriptor::new(input) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be read");
            return;
        }
    };
    let client = shared.hub.lock().add_client(Outlet::new(output));
    shared.spawn_flusher(End::Client(client));
    let ended = read(&shared, client, reader).await;
    if ended == Ended::Input {
        shared.answered(client).await;
    }
    shared.hub.lock().remove_client(client);
    shared.changed.notify_waiters();
}

async fn read(shared: &Shared, client: ClientId, mut reader: Descriptor) -> Ended {
    let limits = &shared.config.limits;
    let mut splitter = Splitter::new(shared.config.framing, limits.max_input_buffer);
    let signals = match shared.hub.lock().outlet(End::Client(client)) {
        Some(outlet) => outlet.signals(),
        None => return Ended::Cut,
    };
    loop {
        wait_for_room(shared, client).await;
        let is_over = || {
            let mut hub = shared.hub.lock();
            hub.outlet(End::Client(client))
                .is_none_or(|outlet| outlet.is_over())
        };
        // Registered before the look, so that an end in between is not missed.
        let mut over = pin!(signals.room.notified());
        over.as_mut().enable();
        if is_over() {
            return Ended::Cut;
        }
        let taken = tokio::select! {
            taken = inlet::read(&mut reader, |bytes| take(shared, client, &mut splitter, bytes)) => taken,
            () = over => continue,
            () = shared.over.cancelled() => return Ended::Cut,
        };
        match taken {
            Some(true) => {}
            Some(false) => shared.flushed(client).await,
            None => return Ended::Input,
        }
    }
}

/// Takes what was read; `false` when the connection cannot go on.
fn take(shared: &Shared, client: ClientId, splitter: &mut Splitter, bytes: &[u8]) -> bool {
    let now = Instant::now();
    let mut hub = shared.hub.lock();
    let fed = splitter.feed(bytes, |message| hub.route_from_client(client, message, now));
    hub.write();
    match fed {
        Ok(()) => true,
        Err(error) => {
            hub.refuse_length(client, error);
            false
        }
    }
}

/// Waits while the client does not take its answers, or a worker not what it sends.
async fn wait_for_room(shared: &Shared, client: ClientId) {
    let mut paused = false;
    loop {
        let pause = shared
            .hub
            .lock()
            .pause(client, &shared.config.limits, paused);
        let Some(pause) = pause else {
            return;
        };
        let mut room = pin!(pause.room.room.notified());
        room.as_mut().enable();
        if shared
            .hub
            .lock()
            .pause(client, &shared.config.limits, true)
            .is_none()
        {
            return;
        }
        paused = true;
        tokio::select! {
            () = room => {}
            () = shared.over.cancelled() => return,
        }
    }
}
