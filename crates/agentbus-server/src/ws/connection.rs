//! The life of one connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentbus::protocol::SubjectSpace;
use agentbus::{Error, ErrorPayload, Receipt, Text};
use agentbus_transport_ws::carrier::Carrier;
use agentbus_transport_ws::wire::{self, ClientFrame, OPERATIONS_MAX, ServerFrame};
use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::parting::{Fault, Parting};
use super::subscriptions::Subscriptions;
use crate::limits;
use crate::state::App;

/// Longest time that a frame may wait for a client who does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a client that says nothing is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Longest silence of a client, which answers pings. A connection that was cut without a word
/// would otherwise keep its subscriptions, and their messages, for ever.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Longest time that the last frames may take when the host hangs up.
const HANG_UP_TIME: Duration = Duration::from_secs(2);

/// What a task of the connection was for, told when it ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// An invoke or a stream.
    Call(u64),
    /// A subscription or an inbox.
    Sub(u64),
    /// An operation that nobody asks about any more.
    Other,
}

/// What the operations share.
pub(super) struct Connection {
    pub(super) app: Arc<App>,
    pub(super) number: u64,
    /// The agent id under which this connection speaks.
    pub(super) agent: Text,
    /// The subjects of the bus, in the tenant that this connection speaks for.
    pub(super) space: SubjectSpace,
    pub(super) out: Out,
    pub(super) subscriptions: Subscriptions,
    pub(super) calls: HashMap<u64, AbortHandle>,
    pub(super) tasks: JoinSet<Ended>,
}

/// Frames on their way to the client, in order.
#[derive(Debug, Clone)]
pub(super) struct Out(mpsc::Sender<String>);

impl Out {
    /// Queues a frame; waits while the client does not keep up. A frame to a client that has left
    /// is dropped, and the connection's tasks with it.
    pub(super) async fn send(&self, frame: String) {
        let _ = self.0.send(frame).await;
    }

    pub(super) async fn answer(&self, id: u64, outcome: Result<Receipt, Error>) {
        let frame = match outcome {
            Ok(receipt) => ServerFrame::Ok {
                id,
                receivers: receipt.receivers,
                sequence: receipt.sequence,
                duplicate: receipt.duplicate,
                durability: receipt.durability.into(),
            },
            Err(error) => ServerFrame::Error {
                id: Some(id),
                error: error.to_payload(),
            },
        };
        self.send(wire::encode(&frame)).await;
    }
}

pub(super) async fn run(app: Arc<App>, socket: WebSocket, space: SubjectSpace) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    app.metrics.sockets.fetch_add(1, Ordering::Relaxed);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (sink, mut incoming) = socket.split();
    let (sender, frames) = mpsc::channel(limits::WS_OUTGOING);
    let out = Out(sender);
    let (broken, parting) = (CancellationToken::new(), Parting::default());
    let writing = write(sink, frames, broken.clone(), parting.clone());
    let reading = async {
        let read = async {
            let agent = greet(&app, &space, &mut incoming, &out).await?;
            let mut connection = Connection {
                app: Arc::clone(&app),
                number,
                agent,
                space,
                out: out.clone(),
                subscriptions: Subscriptions::default(),
                calls: HashMap::new(),
                tasks: JoinSet::new(),
            };
            let fault = tokio::select! {
                fault = connection.read(&mut incoming) => fault,
                () = broken.cancelled() => None,
            };
            connection.cancel_requests();
            connection.tasks.shutdown().await;
            Err::<(), Option<Fault>>(fault)
        };
        if let Err(Some(fault)) = read.await {
            parting.because(&fault);
            out.send(refusal(fault.text)).await;
        }
        // The writer ends when the last sender is gone, after the last frame.
        drop(out);
    };
    tokio::select! {
        () = async { tokio::join!(reading, writing).0 } => {}
        () = overdue(&app) => {}
    }
    app.agents.remove_all(number);
    app.metrics.sockets.fetch_sub(1, Ordering::Relaxed);
}

/// Ends when a client did not take its last frames in time.
pub(crate) async fn overdue(app: &App) {
    app.hang_up.cancelled().await;
    tokio::time::sleep(HANG_UP_TIME).await;
}

/// Writes frames, and pings when there are none. Fires `broken` when the client takes no more.
pub(crate) async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut frames: mpsc::Receiver<String>,
    broken: CancellationToken,
    parting: Parting,
) {
    loop {
        let message = match tokio::time::timeout(PING_EVERY, frames.recv()).await {
            Ok(Some(frame)) => Message::Text(frame.into()),
            Ok(None) => break,
            Err(_) => Message::Ping(Bytes::new()),
        };
        let sent = tokio::time::timeout(WRITE_TIMEOUT, sink.send(message));
        if !matches!(sent.await, Ok(Ok(()))) {
            return broken.cancel();
        }
    }
    // Says why, then goodbye, or answers that of the client, which waits to be written.
    let close = async {
        if let Some(why) = parting.frame() {
            let _ = sink.send(Message::Close(Some(why))).await;
        }
        sink.close().await
    };
    let _ = tokio::time::timeout(WRITE_TIMEOUT, close).await;
}

/// Waits for `hello` and answers it.
async fn greet(
    app: &App,
    space: &SubjectSpace,
    incoming: &mut SplitStream<WebSocket>,
    out: &Out,
) -> Result<Text, Option<Fault>> {
    let first = tokio::time::timeout(limits::HELLO_TIMEOUT, next(incoming)).await;
    let fault = match first {
        Ok(Ok(ClientFrame::Hello { agent })) if is_name(&agent) => {
            let welcome = ServerFrame::Welcome {
                agent: agent.clone(),
                prefix: space.prefix().to_owned(),
                tenant: space.tenant().to_owned(),
                frame_bytes_max: wire::FRAME_BYTES_MAX,
                carrier: Carrier::of(&app.bus.transport().capabilities()),
                topics: shared_topics(app),
            };
            out.send(wire::encode(&welcome)).await;
            return Ok(agent.into());
        }
        Ok(Ok(_)) => Fault::policy(
            "the first frame must be a `hello` with an agent id of 1 to 255 printable characters",
        ),
        Ok(Err(ended)) => return Err(ended),
        Err(_) => Fault::policy("no `hello` came in time"),
    };
    Err(Some(fault))
}

fn shared_topics(app: &App) -> Vec<String> {
    let topics = app.bus.transport().shared_topics();
    topics.iter().map(ToString::to_string).collect()
}

fn is_name(agent: &str) -> bool {
    (1..=255).contains(&agent.len()) && !agent.chars().any(char::is_control)
}

fn refusal(problem: String) -> String {
    let code = agentbus::ErrorCode::InvalidRequest;
    wire::encode(&ServerFrame::Error {
        id: None,
        error: ErrorPayload::new(code, problem),
    })
}

/// Reads the next frame; a fault of the client is the end, as is `Err(None)`, when it has left.
async fn next(incoming: &mut SplitStream<WebSocket>) -> Result<ClientFrame, Option<Fault>> {
    loop {
        let message = tokio::time::timeout(SILENCE_MAX, incoming.next()).await;
        let message =
            message.map_err(|_| Some(Fault::policy("nothing came for too long, not even pong")))?;
        match message.ok_or(None::<Fault>)?.map_err(Fault::found)? {
            Message::Text(text) => {
                return serde_json::from_str(&text).map_err(|error| {
                    Some(Fault::invalid(format!(
                        "not a frame of this protocol: {error}"
                    )))
                });
            }
            Message::Binary(_) => {
                return Err(Some(Fault::unsupported("frames are text, not binary")));
            }
            Message::Close(_) => return Err(None),
            // The library answers pings itself.
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

impl Connection {
    /// Does what the client asks for until it leaves, or until its fault, which is returned.
    async fn read(&mut self, incoming: &mut SplitStream<WebSocket>) -> Option<Fault> {
        let hang_up = self.app.hang_up.clone();
        loop {
            tokio::select! {
                frame = next(incoming) => match frame {
                    Ok(frame) => self.take(frame).await,
                    Err(ended) => return ended,
                },
                Some(ended) = self.tasks.join_next() => self.forget(&ended),
                () = hang_up.cancelled() => return None,
            }
        }
    }

    async fn take(&mut self, frame: ClientFrame) {
        match frame {
            ClientFrame::Hello { .. } => {
                let problem = "`hello` was said already".to_owned();
                self.out.send(refusal(problem)).await;
            }
            ClientFrame::Cancel { id } => {
                if let Some(call) = self.calls.remove(&id) {
                    call.abort();
                }
            }
            ClientFrame::Stop { sub } => self.subscriptions.stop(sub),
            ClientFrame::Unsubscribe { sub } => {
                self.app.agents.remove(self.number, sub);
                if let Some(ended) = self.subscriptions.remove(sub) {
                    // The client's next frame may use the same durable name.
                    ended.cancelled().await;
                }
            }
            ClientFrame::Settle { .. } => self.settle(frame).await,
            ClientFrame::Publish { .. } => self.publish(frame).await,
            ClientFrame::Subscribe { .. } => self.subscribe(frame).await,
            ClientFrame::RemoveDurable { id, name } => self.remove_durable(id, &name).await,
            ClientFrame::ListDurables { id } => self.list_durables(id).await,
            ClientFrame::Invoke { .. } | ClientFrame::Stream { .. } => self.call(frame).await,
        }
    }

    fn forget(&mut self, ended: &Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Call(id)) => drop(self.calls.remove(id)),
            Ok(Ended::Sub(sub)) => {
                drop(self.subscriptions.remove(*sub));
                self.app.agents.remove(self.number, *sub);
            }
            Ok(Ended::Other) | Err(_) => {}
        }
    }

    /// Refuses new calls while the host stops, except from an agent that is still working on an
    /// accepted one and may need others for it.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.app.stopping.is_cancelled() && !self.subscriptions.has_unsettled() {
            return Err(agentbus::TransportError::Closed.into());
        }
        Ok(())
    }

    /// Cancels what the client had asked for and cannot hear the answer of any more.
    fn cancel_requests(&self) {
        self.subscriptions
            .requests()
            .for_each(|request| self.app.bus.cancel(request));
    }

    /// Refuses one more waiting operation when there are too many.
    pub(super) fn check_room(&self) -> Result<(), Error> {
        if self.tasks.len() < OPERATIONS_MAX + wire::SUBSCRIPTIONS_MAX {
            return Ok(());
        }
        let message = format!("more than {OPERATIONS_MAX} operations of this connection wait");
        let code = agentbus::ErrorCode::BackpressureDrop;
        Err(ErrorPayload::new(code, message).into())
    }
}
