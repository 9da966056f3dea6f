//! `/v1/ws`: the operations of the bus on one WebSocket.
//!
//! The protocol is `agentbus_transport_ws::wire`. One task reads, one writes, and every
//! subscription and waiting operation has a task of its own; all of them belong to the connection
//! and end with it, which cancels what it asked for.

mod calls;
mod connection;
mod durables;
mod parting;
mod publish;
mod subscriptions;

use std::sync::Arc;

use agentbus_transport_ws::wire::FRAME_BYTES_MAX;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::error::Failure;
use crate::routes::context;
use crate::server::Place;
use crate::state::App;

pub(crate) use connection::{SILENCE_MAX, overdue, write};
pub(crate) use parting::{Fault, Parting};

/// Opens a connection. A tenant in the header is that of everything it says without a full subject.
pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let own = app.bus.subjects();
    let tenant = context::tenant(&headers)?;
    let space = match tenant.is_empty() {
        true => own.clone(),
        false => own.with_tenant(&tenant).map_err(agentbus::Error::from)?,
    };
    let upgrade = upgrade?
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks.clone();
        tasks.track_future(async move {
            connection::run(app, socket, space).await;
            // The connection counts for as long as the socket lives.
            drop(place);
        })
    }))
}
