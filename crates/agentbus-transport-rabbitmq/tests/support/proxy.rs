//! A way to a broker that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Passes connections on to a broker until they are cut. Ends with its runtime.
pub(crate) struct Proxy {
    port: u16,
    cut: Arc<Notify>,
    open: Arc<AtomicBool>,
}

impl Proxy {
    /// Stands before the broker at this host and port.
    pub(crate) async fn before(place: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::default(),
            open: Arc::new(AtomicBool::new(true)),
        };
        let (cut, open) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.open));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // It counts from here on, so that no cut falls between the two lines.
                let cut = Arc::clone(&cut).notified_owned();
                if open.load(Ordering::Acquire) {
                    tokio::spawn(pass(client, place, cut));
                }
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Breaks all connections, without a word to either side.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Breaks all connections and lets nobody in until [`open`](Self::open).
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
        self.cut();
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }
}

async fn pass(mut client: TcpStream, place: &str, cut: OwnedNotified) {
    let Ok(mut server) = TcpStream::connect(place).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = cut => {}
    }
}
