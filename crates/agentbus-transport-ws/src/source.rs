//! A receiver on this side of the connection.

use std::sync::Arc;
use std::task::{Context, Poll};

use agentbus_transport::{Received, Source};
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
        self.messages.poll_recv_many(cx, batch, max.max(1))
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
