//! Opens a transport from its URL.

use std::sync::Arc;

use agentbus_transport::{MemoryTransport, Transport};

use crate::Error;

/// Opens the transport that a URL names.
pub(crate) async fn transport(url: &str, agent_id: &str) -> Result<Arc<dyn Transport>, Error> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("memory") => Ok(Arc::new(MemoryTransport::new())),
        #[cfg(feature = "ws")]
        Some("http" | "ws") => {
            let remote = agentbus_transport_ws::WsTransport::connect(url, agent_id).await?;
            Ok(Arc::new(remote))
        }
        _ => {
            let known = "memory:// and http://HOST:PORT of a running `agentbus serve`";
            Err(Error::Setup(format!(
                "`{url}` names no transport; this version knows {known}"
            )))
        }
    }
}
