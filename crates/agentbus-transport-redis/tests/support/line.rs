//! A line to a server that breaks again and again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Most bytes that one connection carries to the server before it breaks, and from there: about
/// three times what the largest batch of a test needs, so that many break within one and yet all
/// get through in the end.
const UP: usize = 300_000;
const DOWN: usize = 10_000;

/// Passes on what comes to its port. Once it begins to break, each connection carries so many
/// bytes in a direction and is cut in the middle of whatever passes then.
pub(crate) struct Line {
    port: u16,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    breaking: AtomicBool,
    breaks: AtomicUsize,
}

impl Line {
    pub(crate) async fn to(server: u16, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let task = tokio::spawn(accept(listener, server, Arc::clone(&state), seed));
        Self { port, state, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn begin_to_break(&self) {
        self.state.breaking.store(true, Ordering::Release);
    }

    /// How often it broke.
    pub(crate) fn breaks(&self) -> usize {
        self.state.breaks.load(Ordering::Acquire)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: u16, state: Arc<State>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let (here, _) = listener.accept().await.unwrap();
        let there = TcpStream::connect((Ipv4Addr::LOCALHOST, server))
            .await
            .unwrap();
        let (up, down) = (random.random_range(0..UP), random.random_range(0..DOWN));
        tokio::spawn(connect(here, there, Arc::clone(&state), up, down));
    }
}

/// Joins two ends until one of them closes or as many bytes have passed as may. What has reached
/// one end still gets to the server after the other end has learned of the break.
async fn connect(here: TcpStream, there: TcpStream, state: Arc<State>, up: usize, down: usize) {
    let (from_here, to_here) = here.into_split();
    let (from_there, to_there) = there.into_split();
    let cut = tokio::select! {
        cut = pass(from_here, to_there, &state, up) => cut,
        cut = pass(from_there, to_here, &state, down) => cut,
    };
    if cut {
        state.breaks.fetch_add(1, Ordering::AcqRel);
    }
}

/// Passes on bytes. Returns whether it stopped because it was to break.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    mut left: usize,
) -> bool {
    let mut bytes = vec![0; 4096];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else {
            return false;
        };
        let breaking = state.breaking.load(Ordering::Acquire);
        let passed = if breaking { count.min(left) } else { count };
        if to.write_all(&bytes[..passed]).await.is_err() {
            return false;
        }
        if passed < count {
            return true;
        }
        if breaking {
            left -= passed;
        }
    }
}
