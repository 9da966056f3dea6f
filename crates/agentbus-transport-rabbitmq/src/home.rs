//! What a connection hears that is meant for it alone: replies to its calls.

use std::sync::{Arc, Weak};

use agentbus_protocol::Subject;
use agentbus_transport::TransportError;
use agentbus_transport::remote::amb;
use tokio_util::sync::CancellationToken;

use crate::ear::Ear;
use crate::limits;
use crate::line::backoff;
use crate::link::Link;

/// Makes the queue of replies. It is bound to the exchange as well, where AMB peers reply.
pub(crate) async fn open(link: &Link) -> Result<Ear, TransportError> {
    let queue = link.names().inbox(link.client());
    let key = format!("_INBOX.{}.#", link.client());
    Ear::open(link, &queue, &key, limits::READY_TIMEOUT).await
}

/// Deals out replies until the transport is over. Knows the link only while somebody else does.
pub(crate) async fn run(link: Weak<Link>, mut ear: Ear, over: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => return,
            () = hear(&link, &mut ear) => {}
        }
        let again = open_again(&link);
        ear = tokio::select! {
            () = over.cancelled() => return,
            ear = again => match ear {
                Some(ear) => ear,
                None => return,
            },
        };
    }
}

/// Opens it again; the broker may take a while to notice that the old connection is gone, and
/// holds its name until then.
async fn open_again(link: &Weak<Link>) -> Option<Ear> {
    let mut pause = backoff();
    loop {
        let link = link.upgrade()?;
        match open(&link).await {
            Ok(ear) => return Some(ear),
            Err(error) => tracing::debug!(%error, "replies cannot be heard yet"),
        }
        drop(link);
        pause.wait().await;
    }
}

async fn hear(link: &Weak<Link>, ear: &mut Ear) {
    while let Some(delivery) = ear.next().await {
        let Some(link) = link.upgrade() else { return };
        let read = match amb::decode(&delivery.data.into()) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "a reply cannot be read");
                continue;
            }
        };
        let inbox = read.message.subject.clone();
        if let Some((client, notice)) = link.inboxes().take(read) {
            answer(&link, inbox, client, notice);
        }
    }
}

/// Tells a replier that its reader has left. One that does not hear it goes on writing to nobody,
/// which is no harm.
fn answer(link: &Arc<Link>, inbox: Subject, client: String, notice: Vec<u8>) {
    let held = Arc::downgrade(link);
    link.spawn(async move {
        if let Some(link) = held.upgrade() {
            link.tell(inbox, &client, notice).await;
        }
    });
}
