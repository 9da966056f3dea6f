//! The list of durable names, on a WebSocket.
//!
//! It is what `/v1/durables` shows: a name has no tenant, so each connection is told those of all.
//! The answer is one frame with every name or an error, never a part of them: a name that is missing
//! would pass for one that is removed.

use agentbus::Error;
use agentbus::transport::DurableInfo;
use agentbus_transport_ws::durable::DurableName;
use agentbus_transport_ws::wire::{self, FRAME_BYTES_MAX, ServerFrame};

use super::connection::Connection;

impl Connection {
    /// In turn with the client's other frames: the list knows what came of those before.
    pub(super) async fn list_durables(&mut self, id: u64) {
        let known = self.app.bus.transport().durables().await;
        let listed = known.map_err(Error::from);
        match listed.and_then(|known| listing(id, known)) {
            Ok(frame) => self.out.send(frame).await,
            Err(error) => self.out.answer(id, Err(error)).await,
        }
    }
}

/// The frame that tells the names. A client hangs up on one that is larger than it takes.
fn listing(id: u64, known: Vec<DurableInfo>) -> Result<String, Error> {
    let names = known.len();
    let durables = known.into_iter().map(DurableName::from).collect();
    let frame = wire::encode(&ServerFrame::Durables { id, durables });
    if frame.len() <= FRAME_BYTES_MAX {
        return Ok(frame);
    }
    Err(Error::invalid_request(format!(
        "the durable names do not fit into one frame: the list of all {names} has {} bytes, and a frame at most {FRAME_BYTES_MAX}; ask the bus that keeps them, with `agentbus durable list` or GET /v1/durables",
        frame.len()
    )))
}

#[cfg(test)]
mod tests;
