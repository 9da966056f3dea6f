//! `/acp`: the bus as an ACP agent, with one JSON-RPC message in each text frame of a WebSocket.
//!
//! What the messages mean is the business of [`Editors`]; here they are carried. A connection that
//! breaks takes nothing along: sessions and their turns belong to the bus.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentbus::TargetKind;
use agentbus_acp::Editors;
use agentbus_acp::serve::{Targets, Visit};
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSender};

use crate::error::Failure;
use crate::extract::Query;
use crate::limits;
use crate::server::Place;
use crate::state::App;
use crate::ws;

/// What a connection wishes.
#[derive(Debug, Deserialize)]
pub(crate) struct Wishes {
    /// Who serves every session; without it, each session chooses.
    agent: Option<String>,
}

pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    Query(wishes): Query<Wishes>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    Extension(place): Extension<Place>,
) -> Result<Response, Failure> {
    let editors = app.config.editors.clone().ok_or_else(|| {
        Failure::invalid("this host keeps no sessions, so that editors cannot open any")
    })?;
    let upgrade = upgrade?
        .max_message_size(agentbus_acp::limits::LINE_BYTES)
        .max_frame_size(agentbus_acp::limits::LINE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks.clone();
        tasks.track_future(async move {
            app.metrics.sockets.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = serve(&app, editors, wishes.agent, socket) => {}
                () = ws::overdue(&app) => {}
            }
            app.metrics.sockets.fetch_sub(1, Ordering::Relaxed);
            // The connection counts for as long as the socket lives.
            drop(place);
        })
    }))
}

async fn serve(app: &Arc<App>, editors: Editors, agent: Option<String>, socket: WebSocket) {
    let (sink, incoming) = socket.split();
    let (sender, frames) = mpsc::channel(limits::ACP_OUTGOING);
    let broken = CancellationToken::new();
    let writing = ws::write(sink, frames, broken.clone());
    let outgoing = PollSender::new(sender).sink_map_err(io::Error::other);
    let known = Arc::clone(app);
    let visit = Visit {
        agent,
        targets: Targets::new(move || targets(&known)),
    };
    let served = editors.serve(visit, read(incoming), outgoing, app.hang_up.clone());
    let serving = async move {
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::debug!(%error, "an editor was cut off");
            },
            () = broken.cancelled() => {}
        }
    };
    tokio::join!(serving, writing);
}

/// The messages of a client, until it leaves, is silent for too long, or sends what is no text.
fn read(
    incoming: SplitStream<WebSocket>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    stream::unfold(incoming, |mut incoming| async move {
        loop {
            let message = tokio::time::timeout(ws::SILENCE_MAX, incoming.next()).await;
            match message.ok()??.ok()? {
                Message::Text(text) => return Some((Ok(text.to_string()), incoming)),
                Message::Binary(_) | Message::Close(_) => return None,
                // The library answers pings itself.
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    })
}

/// Everything that can be called, whoever serves it.
fn targets(app: &App) -> Vec<String> {
    let own = app.bus.targets().into_iter();
    let own = own
        .filter(|target| target.kind != TargetKind::Events)
        .map(|target| target.name);
    let others = app.agents.list().into_iter().map(|served| served.name);
    own.chain(others).collect()
}
