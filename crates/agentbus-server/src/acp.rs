//! `/acp`: the bus as an ACP agent, with one JSON-RPC message in each text frame of a WebSocket.
//!
//! What the messages mean is the business of [`Editors`]; here they are carried. A connection that
//! breaks takes nothing along: sessions and their turns belong to the bus.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agentbus::{TargetKind, Text};
use agentbus_acp::Editors;
use agentbus_acp::serve::{Targets, Visit};
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSender};

use crate::error::Failure;
use crate::extract::Query;
use crate::limits;
use crate::routes::context;
use crate::server::Place;
use crate::state::App;
use crate::ws::{self, Fault, Parting};

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
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let editors = app.config.editors.clone().ok_or_else(|| {
        Failure::invalid("this host keeps no sessions, so that editors cannot open any")
    })?;
    let visit = visit(
        &app,
        wishes.agent,
        context::other_tenant(&headers, &app.bus)?,
    );
    let upgrade = upgrade?
        .max_message_size(agentbus_acp::limits::LINE_BYTES)
        .max_frame_size(agentbus_acp::limits::LINE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| {
        let tasks = app.tasks.clone();
        tasks.track_future(async move {
            app.metrics.sockets.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = serve(&app, editors, visit, socket) => {}
                () = ws::overdue(&app) => {}
            }
            app.metrics.sockets.fetch_sub(1, Ordering::Relaxed);
            // The connection counts for as long as the socket lives.
            drop(place);
        })
    }))
}

/// What an editor may choose from: what there is in its tenant.
fn visit(app: &Arc<App>, agent: Option<String>, tenant: Option<Text>) -> Visit {
    let (known, of) = (Arc::clone(app), tenant.clone());
    Visit {
        agent,
        targets: Targets::new(move || targets(&known, of.as_deref())),
        tenant: tenant.map(|tenant| tenant.to_string()),
    }
}

async fn serve(app: &Arc<App>, editors: Editors, visit: Visit, socket: WebSocket) {
    let (sink, incoming) = socket.split();
    let (sender, frames) = mpsc::channel(limits::ACP_OUTGOING);
    let broken = CancellationToken::new();
    let (parting, left) = (Parting::default(), CancellationToken::new());
    let writing = ws::write(sink, frames, broken.clone(), parting.clone());
    // The writer does not close before it is known why.
    let held = sender.clone();
    let outgoing = PollSender::new(sender).sink_map_err(io::Error::other);
    let messages = read(incoming, parting.clone(), left.clone());
    let served = editors.serve(visit, messages, outgoing, app.hang_up.clone());
    let serving = async move {
        let why = tokio::select! {
            served = served => match served {
                Ok(()) => Some("too many messages that are none".to_owned()),
                Err(error) => {
                    tracing::debug!(%error, "an editor was cut off");
                    Some(error.to_string())
                }
            },
            () = broken.cancelled() => None,
        };
        if let Some(why) = why.filter(|_| !left.is_cancelled() && !app.hang_up.is_cancelled()) {
            parting.because(&Fault::policy(why));
        }
        drop(held);
    };
    tokio::join!(serving, writing);
}

/// The messages of a client, until it leaves, is silent for too long, or sends what is no text;
/// `left` is told of that.
fn read(
    incoming: SplitStream<WebSocket>,
    parting: Parting,
    left: CancellationToken,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let begin = (incoming, parting, left);
    stream::unfold(begin, |(mut incoming, parting, left)| async move {
        match next(&mut incoming).await {
            Ok(text) => Some((Ok(text), (incoming, parting, left))),
            Err(ended) => {
                if let Some(fault) = ended {
                    parting.because(&fault);
                }
                left.cancel();
                None
            }
        }
    })
}

/// The next message; a fault of the client is the end, as is `Err(None)`, when it has left.
async fn next(incoming: &mut SplitStream<WebSocket>) -> Result<String, Option<Fault>> {
    loop {
        let message = tokio::time::timeout(ws::SILENCE_MAX, incoming.next()).await;
        let message =
            message.map_err(|_| Some(Fault::policy("nothing came for too long, not even pong")))?;
        match message.ok_or(None::<Fault>)?.map_err(Fault::found)? {
            Message::Text(text) => return Ok(text.to_string()),
            Message::Binary(_) => {
                return Err(Some(Fault::unsupported("messages are text, not binary")));
            }
            Message::Close(_) => return Err(None),
            // The library answers pings itself.
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// Everything that can be called in a tenant, or else in that of the bus, whoever serves it.
fn targets(app: &App, tenant: Option<&str>) -> Vec<String> {
    let own = app.bus.targets().into_iter();
    let own = own
        .filter(|target| tenant.is_none() && target.kind != TargetKind::Events)
        .map(|target| target.name);
    let others = app.agents.list().into_iter();
    let others = others.filter(|served| served.tenant.as_deref() == tenant);
    own.chain(others.map(|served| served.name)).collect()
}
