//! What publishers, subscribers and the writer share.

use std::sync::Arc;

use agentbus_transport::{Durability, TransportError};
use parking_lot::Mutex;

use crate::address::Settings;
use crate::commands::Commands;
use crate::names::Names;
use crate::routes::Routes;

/// The server as it is known here, and how the bus uses it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) commands: Arc<Commands>,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) client: String,
    pub(crate) durability: Durability,
    routes: Mutex<Arc<Routes>>,
}

impl Desk {
    pub(crate) fn new(
        commands: Arc<Commands>,
        settings: Settings,
        client: String,
        durability: Durability,
    ) -> Self {
        Self {
            commands,
            names: Names::new(&settings.namespace),
            settings,
            client,
            durability,
            routes: Mutex::default(),
        }
    }

    /// The routes as they were last seen.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.lock())
    }

    /// The routes as they are.
    pub(crate) async fn reload(&self) -> Result<Arc<Routes>, TransportError> {
        let routes = Routes::load(&self.commands, &self.names).await?;
        *self.routes.lock() = Arc::clone(&routes);
        Ok(routes)
    }
}
