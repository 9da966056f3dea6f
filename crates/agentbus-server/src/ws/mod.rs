//! `/v1/ws`: the operations of the bus on one WebSocket.
//!
//! The protocol is `agentbus_transport_ws::wire`. One task reads, one writes, and every
//! subscription and waiting operation has a task of its own; all of them belong to the connection
//! and end with it, which cancels what it asked for.

mod calls;
mod connection;
mod publish;
mod subscriptions;

use std::sync::Arc;

use agentbus_transport_ws::wire::FRAME_BYTES_MAX;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;

use crate::server::Place;
use crate::state::App;

pub(crate) use connection::{SILENCE_MAX, overdue, write};

pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(place): Extension<Place>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .on_upgrade(move |socket| {
            let tasks = app.tasks.clone();
            tasks.track_future(async move {
                connection::run(app, socket).await;
                // The connection counts for as long as the socket lives.
                drop(place);
            })
        })
}
