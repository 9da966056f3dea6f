//! Settings of a thread.

use serde_json::json;

use crate::model::{Admin, ThreadSettings};
use crate::store::Tx;
use crate::{Chat, ChatError, ThreadId, limits};

use super::Core;

/// What to change; the rest stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct SettingsUpdate {
    /// Whether the coordinator looks after the thread.
    pub auto_administrator_enabled: Option<bool>,
    /// How long all agents may wait before the administrator is called, in seconds.
    pub timeout_seconds: Option<i64>,
    /// How long before another administrator is proposed, in seconds.
    pub switch_timeout_seconds: Option<i64>,
}

impl Chat {
    /// The settings of a thread.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn settings(&self, id: ThreadId) -> Result<ThreadSettings, ChatError> {
        self.read(move |core, tx| core.settings(tx, &id)).await
    }

    /// Who administers a thread.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn admin(&self, id: ThreadId) -> Result<Option<Admin>, ChatError> {
        self.read(move |core, tx| Ok(core.settings(tx, &id)?.admin()))
            .await
    }

    /// Changes the settings of a thread.
    ///
    /// # Errors
    /// Fails when there is no such thread, or when a timeout is too short.
    pub async fn update_settings(
        &self,
        id: ThreadId,
        update: SettingsUpdate,
    ) -> Result<ThreadSettings, ChatError> {
        self.write(move |core, tx| {
            let mut settings = core.settings(tx, &id)?;
            let timeouts = [
                ("timeout_seconds", update.timeout_seconds),
                ("switch_timeout_seconds", update.switch_timeout_seconds),
            ];
            for (name, value) in timeouts {
                check_timeout(name, value)?;
            }
            let enabled = update.auto_administrator_enabled;
            settings.auto_administrator_enabled =
                enabled.unwrap_or(settings.auto_administrator_enabled);
            settings.timeout_seconds = update.timeout_seconds.unwrap_or(settings.timeout_seconds);
            settings.switch_timeout_seconds = update
                .switch_timeout_seconds
                .unwrap_or(settings.switch_timeout_seconds);
            settings.updated_at = core.now();
            tx.put_settings(&settings)?;
            let told = json!({ "thread_id": id,
                "auto_administrator_enabled": settings.auto_administrator_enabled,
                "timeout_seconds": settings.timeout_seconds,
                "switch_timeout_seconds": settings.switch_timeout_seconds });
            core.emit(tx, "thread.settings", Some(&id), told)?;
            core.audit(tx, "", "thread.settings", Some(&id), None)?;
            Ok(settings)
        })
        .await
    }
}

impl Core {
    /// The settings, or those of a new thread where an old database has none.
    pub(super) fn settings(&self, tx: &dyn Tx, id: &ThreadId) -> Result<ThreadSettings, ChatError> {
        let thread = self.thread(tx, id)?;
        let kept = tx.settings(id)?;
        Ok(kept.unwrap_or_else(|| ThreadSettings::new(thread.id, None, thread.created_at)))
    }
}

fn check_timeout(name: &str, value: Option<i64>) -> Result<(), ChatError> {
    let min = limits::THREAD_TIMEOUT_MIN_S;
    if value.is_some_and(|value| value < min) {
        return Err(ChatError::Invalid(format!("{name} must be at least {min}")));
    }
    Ok(())
}
