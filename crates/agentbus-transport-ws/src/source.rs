//! A receiver on this side of the connection.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use agentbus_transport::{Delivery, Received, Source};
use tokio::sync::mpsc;

use crate::link::Link;
use crate::wire::ClientFrame;

/// Gets what the server sends for one subscription or inbox.
#[derive(Debug)]
pub(crate) struct WsSource {
    link: Arc<Link>,
    sub: u64,
    messages: mpsc::Receiver<Received>,
}

impl WsSource {
    pub(crate) const fn new(link: Arc<Link>, sub: u64, messages: mpsc::Receiver<Received>) -> Self {
        Self {
            link,
            sub,
            messages,
        }
    }
}

impl Source for WsSource {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Received>,
        max: usize,
    ) -> Poll<usize> {
        let first = batch.len();
        let count = ready!(self.messages.poll_recv_many(cx, batch, max.max(1)));
        for received in &mut batch[first..] {
            expire(received);
        }
        Poll::Ready(count)
    }

    fn stop(&mut self) {
        self.link.send_soon(&ClientFrame::Stop { sub: self.sub });
    }
}

impl Drop for WsSource {
    fn drop(&mut self) {
        if self.link.remove_receiver(self.sub) {
            self.link
                .send_soon(&ClientFrame::Unsubscribe { sub: self.sub });
        }
    }
}

/// Withholds a message whose time ran out between the server and here.
fn expire(received: &mut Received) {
    let Received::Live(delivery) = received else {
        return;
    };
    if !delivery.message().is_expired() {
        return;
    }
    let (message, attempt) = (Arc::clone(delivery.message()), delivery.attempt());
    let told = Delivery::new(message, attempt).after_missing(delivery.missed());
    if let Received::Live(expired) = std::mem::replace(received, Received::Expired(told)) {
        // The server only has to know that nobody will act on it.
        drop(expired.reject());
    }
}
