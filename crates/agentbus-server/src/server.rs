//! Opens the port, accepts connections, and stops without losing what was accepted.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use agentbus::{Bus, DeadLetters};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::future::RouteFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::auth::Auth;
use crate::chat::ChatHost;
use crate::guard::AllowList;
use crate::mcp::McpHost;
use crate::state::App;
use crate::{AuthMode, Board, DataDir, ServerConfig, ServerError, limits, routes};

/// How long the accept loop rests after the system ran out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often a stopping host looks whether the accepted work is done.
const IDLE_CHECK: Duration = Duration::from_millis(5);

/// Starts hosts.
#[derive(Debug)]
pub struct Server;

/// A host that serves until it is told to stop.
#[derive(Debug)]
pub struct RunningServer {
    app: Arc<App>,
    data_dir: DataDir,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Checks the configuration, locks the data directory, opens the port and serves.
    ///
    /// # Errors
    /// Fails before anything is served; see [`ServerError`] for the reasons.
    pub async fn start(config: ServerConfig, bus: Bus) -> Result<RunningServer, ServerError> {
        config.check()?;
        check_origins(&config.allowed_origins)?;
        let data_dir = DataDir::open(&config.data_dir)?;
        let auth = match config.auth {
            AuthMode::Off => Auth::off(),
            AuthMode::Token => Auth::with_token(data_dir.token()?),
        };
        if let Some(sessions) = &config.sessions
            && let Err(error) = sessions.end_cut_turns().await
        {
            // Sessions can be served all the same; the log says with the next entry what it lacks.
            tracing::error!(%error, "turns that were cut are still open");
        }
        let chat = ChatHost::open(&config).await?;
        let listener = bind(config.listen).await?;
        let failed = |source| ServerError::Listen {
            address: config.listen,
            source,
        };
        let address = listener.local_addr().map_err(failed)?;
        let url = format!("http://{address}");
        let decisions = config.decisions.clone();
        let decisions = decisions.unwrap_or_else(|| Board::new(bus.clone()));
        let mcp = McpHost::new(&config, url, (&chat, &bus, &decisions))?;
        let letters = DeadLetters::resume(&bus).await?;
        let app = Arc::new(App {
            address,
            auth,
            allowed: AllowList::new(&config.allowed_hosts, &config.allowed_origins),
            outcomes: Default::default(),
            metrics: Default::default(),
            started: Instant::now(),
            agents: Default::default(),
            stopping: CancellationToken::new(),
            hang_up: CancellationToken::new(),
            tasks: TaskTracker::new(),
            chat,
            mcp,
            decisions,
            letters,
            bus,
            config,
        });
        crate::chat::start(&app).await?;
        crate::mcp::start(&app);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&app)));
        Ok(RunningServer {
            app,
            data_dir,
            accepting,
        })
    }
}

impl RunningServer {
    /// Where it listens, with the port that the system chose for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.app.address
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.app.address)
    }

    /// A link that opens the page once in a browser; without authentication, the page itself.
    #[must_use]
    pub fn console_link(&self) -> String {
        match self.app.auth.console_code() {
            Some(code) => format!("{}/open?code={code}", self.url()),
            None => self.url(),
        }
    }

    /// A token by which an agent that the bus drives is known as that agent; the one that it had
    /// before counts no more. It opens `/mcp` and nothing else.
    #[must_use]
    pub fn agent_token(&self, agent: &str) -> String {
        self.app.auth.agent_token(agent)
    }

    /// The MCP gateway, for clients that do not come over HTTP.
    #[must_use]
    pub fn mcp(&self) -> &agentbus_mcp::Gateway {
        &self.app.mcp.gateway
    }

    /// What a shell on this machine puts before `agentbus`, with a space behind it, so that it finds
    /// the token of this bus; empty where it does anyway.
    #[must_use]
    pub fn client_environment(&self) -> String {
        self.app.config.client_environment()
    }

    /// The data directory.
    #[must_use]
    pub const fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// Stops: accepts no connection, finishes requests within the configured drain time, ends
    /// long-lived streams, closes the bus.
    pub async fn shutdown(self) {
        let deadline = agentbus::transport::clock::moment_in(self.app.config.drain);
        self.app.stopping.cancel();
        self.app.mcp.gateway.stop();
        let idle = async {
            while !self.app.is_idle() {
                tokio::time::sleep(IDLE_CHECK).await;
            }
        };
        let _ = tokio::time::timeout_at(deadline, idle).await;
        if let Some(editors) = &self.app.config.editors {
            // Before they are hung up on, so that they hear why their turns end.
            editors.stop();
        }
        self.app.hang_up.cancel();
        let _ = tokio::time::timeout_at(deadline, self.app.mcp.gateway.close()).await;
        if let Some(editors) = &self.app.config.editors {
            let _ = tokio::time::timeout_at(deadline, editors.close()).await;
        }
        // The loop ends by itself: it knows the deadline too.
        let _ = self.accepting.await;
        self.app.tasks.close();
        let _ = tokio::time::timeout_at(deadline, self.app.tasks.wait()).await;
        self.app.chat.close().await;
        self.app.decisions.close().await;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        self.app.bus.close(left).await;
    }
}

fn check_origins(origins: &[String]) -> Result<(), ServerError> {
    let valid = |origin: &String| {
        let rest = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '@']))
    };
    match origins.iter().find(|origin| !valid(origin)) {
        Some(bad) => Err(ServerError::BadOrigin(bad.clone())),
        None => Ok(()),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::AddressInUse { address },
            _ => ServerError::Listen { address, source },
        })
}

/// Accepts until the host stops, then waits for the connections to finish their requests.
async fn accept(listener: TcpListener, app: Arc<App>) {
    // Made for the first connection: until then its hundred routes would only take memory.
    let router = LazyLock::new(|| routes::router(Arc::clone(&app)));
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = next(&listener, &places) => match accepted {
                Ok((stream, place)) => {
                    let stopping = app.stopping.clone();
                    connections.spawn(serve(stream, router.clone(), stopping, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    // Streams hear at the end of the drain time that they are cut, and have to pass that on.
    let patience = app.config.drain.saturating_add(limits::LAST_WORDS);
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting off what did not finish in time"
        );
    }
    connections.shutdown().await;
}

/// A connection's place among [`limits::CONNECTIONS_MAX`]; free again when its last holder drops it.
#[derive(Debug, Clone)]
pub(crate) struct Place(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // A full house leaves new connections in the system's own queue.
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small; waiting to fill a packet would only delay them.
    stream.set_nodelay(true)?;
    cut_off_if_unread(&stream)?;
    Ok((stream, place))
}

/// Lets the system end a connection whose client does not read (RFC 5482); a write timeout of our
/// own would have to watch every connection.
#[cfg(target_os = "linux")]
fn cut_off_if_unread(stream: &TcpStream) -> io::Result<()> {
    let millis = u32::try_from(limits::UNREAD_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?)
}

#[cfg(not(target_os = "linux"))]
fn cut_off_if_unread(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// The routes, for the requests of one connection.
struct Connected {
    router: Router,
    /// An upgraded connection leaves [`serve`] behind and takes the place along.
    place: Place,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Connected {
    type Response = Response;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.place.clone());
        // A router is a reference to its routes, and is always ready.
        self.router.clone().call(request)
    }
}

/// Serves one connection; when the host stops, it finishes the request it is at.
async fn serve(
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    let place = Place(Arc::new(place));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIMEOUT)
        .max_buf_size(limits::READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), Connected { router, place })
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Arc::new(Semaphore::new(1));
        let (client, accepted) =
            tokio::join!(TcpStream::connect(address), next(&listener, &places));
        let (stream, _place) = accepted.unwrap();
        let timeout = rustix::net::sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!(u128::from(timeout), limits::UNREAD_TIMEOUT.as_millis());
        drop(client);
    }
}
