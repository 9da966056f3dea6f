//! From an address to a connection.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::TransportError;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use rand::RngExt;

use crate::address::{Address, Login, Tls, TlsMode, invalid};
use crate::events::Events;
use crate::limits;

/// Connects, or says in prose why not.
pub(crate) async fn connect(
    address: &Address,
    events: &Arc<Events>,
) -> Result<Client, TransportError> {
    let mut servers = Vec::with_capacity(address.hosts.len());
    for host in &address.hosts {
        let server: Result<ServerAddr, _> = host.parse();
        servers.push(server.map_err(|error| invalid(address.scheme, error))?);
    }
    let options = options(address, events).await?;
    let connected = options.connect(servers).await;
    connected.map_err(|error| explain(address, &error))
}

async fn options(
    address: &Address,
    events: &Arc<Events>,
) -> Result<ConnectOptions, TransportError> {
    let name = address.scheme.name();
    let events = Arc::clone(events);
    let options = ConnectOptions::new()
        .name(&address.name)
        .connection_timeout(limits::CONNECT_TIMEOUT)
        .ping_interval(limits::PING_INTERVAL)
        .client_capacity(limits::OUTGOING)
        .subscription_capacity(limits::ARRIVING)
        .reconnect_delay_callback(reconnect_delay)
        // Subjects are checked where they become subjects; see `agentbus_protocol::Subject`.
        .skip_subject_validation(true)
        .event_callback(move |event| {
            report(name, &events, &event);
            std::future::ready(())
        });
    let options = login(address, options).await?;
    Ok(encrypted(&address.tls, options))
}

async fn login(
    address: &Address,
    options: ConnectOptions,
) -> Result<ConnectOptions, TransportError> {
    Ok(match &address.login {
        Login::Nobody => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Login::Token(token) => options.token(token.clone()),
        Login::Nkey(file) => {
            let seed = read(address, "nkey", file).await?;
            options.nkey(seed.trim().to_owned())
        }
        Login::Credentials(file) => {
            let credentials = read(address, "creds", file).await?;
            options.credentials(&credentials).map_err(|error| {
                let file = file.display();
                invalid(
                    address.scheme,
                    format!("{file} holds no NATS credentials: {error}"),
                )
            })?
        }
    })
}

async fn read(address: &Address, key: &str, file: &Path) -> Result<String, TransportError> {
    tokio::fs::read_to_string(file).await.map_err(|error| {
        let reason = format!("cannot read {key}={}: {error}", file.display());
        invalid(address.scheme, reason)
    })
}

fn encrypted(tls: &Tls, mut options: ConnectOptions) -> ConnectOptions {
    options = match tls.mode {
        TlsMode::AsAsked => options,
        TlsMode::Required => options.require_tls(true),
        TlsMode::First => options.tls_first(),
    };
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

/// Grows from attempt to attempt, with a random part so that a thousand agents do not come back
/// to a restarted broker in the same millisecond.
fn reconnect_delay(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempt - 2).unwrap_or(u32::MAX).min(16);
    let delay = limits::RECONNECT_DELAY_MIN * (1 << doublings);
    let delay = delay.min(limits::RECONNECT_DELAY_MAX);
    delay.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Tells the log what happens to the connection.
fn report(transport: &'static str, events: &Events, event: &Event) {
    match event {
        Event::Connected => {
            tracing::debug!(transport, "connected");
            events.note_connection();
        }
        Event::Disconnected => {
            tracing::warn!(transport, "the server is gone; trying to reach it again");
        }
        Event::SlowConsumer(_) => {
            tracing::error!(
                transport,
                "the runtime stood still for so long that messages were lost"
            );
        }
        Event::ServerError(error) => {
            tracing::warn!(transport, %error, "the server refused something");
            events.note_refusal(error.to_string());
        }
        other => tracing::debug!(transport, %other, "the connection changed"),
    }
}

/// Words a failed connection for the one who named the address.
fn explain(address: &Address, error: &async_nats::ConnectError) -> TransportError {
    let (transport, shown) = (address.scheme.name(), address.shown());
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            TransportError::Refused {
                transport,
                reason: format!(
                    "{shown} does not accept these credentials ({error}); name them as nats://USER:PASSWORD@…, ?token=, ?nkey=FILE or ?creds=FILE"
                ),
            }
        }
        ConnectErrorKind::ServerParse => invalid(address.scheme, error),
        ConnectErrorKind::Tls => TransportError::Carrier {
            transport,
            reason: format!(
                "no encrypted connection to {shown}: {error}; ?ca=FILE names an authority to trust"
            ),
        },
        _ => TransportError::Carrier {
            transport,
            reason: format!("cannot reach {shown}: {error}; is nats-server running there?"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::reconnect_delay;
    use crate::limits;
    use std::time::Duration;

    #[test]
    fn the_pause_grows_up_to_its_limit_and_is_never_the_same_for_all() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        let pauses: Vec<_> = (0..64).map(|_| reconnect_delay(1000)).collect();
        assert!(
            pauses
                .iter()
                .all(|pause| *pause <= limits::RECONNECT_DELAY_MAX)
        );
        assert!(
            pauses
                .iter()
                .all(|pause| *pause >= limits::RECONNECT_DELAY_MAX / 2)
        );
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert!(reconnect_delay(3) <= 2 * limits::RECONNECT_DELAY_MIN);
    }
}
