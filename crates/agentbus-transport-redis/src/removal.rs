//! Forgetting a durable name.
//!
//! The server looks for members and removes the queue in one step, so nobody joins in between. A
//! client that was given up because it stood still, and wakes afterwards, joins anew.

use agentbus_transport::TransportError;
use agentbus_transport::remote::token;
use redis::Value;

use crate::joining::durable;
use crate::limits;
use crate::link::Link;
use crate::scripts::REMOVE;

/// Removes the queue of a durable name that nobody uses.
pub(crate) async fn remove(link: &Link, name: &str) -> Result<(), TransportError> {
    if link.is_closed() {
        return Err(TransportError::Closed);
    }
    let (desk, queue, version) = (link.desk(), format!("d:{name}"), token());
    link.leaving().wait(&queue, limits::READY_TIMEOUT).await;
    let fill = |cmd: &mut redis::Cmd| {
        cmd.arg(desk.names.base()).arg(&queue).arg(&version);
    };
    match desk.commands.script(&REMOVE, fill).await? {
        Value::Int(_) => Ok(()),
        Value::BulkString(word) if word == b"used" => {
            let reason = "is in use; end its subscriptions first";
            Err(durable(name, reason.to_owned()))
        }
        _ => Err(durable(name, "does not exist".to_owned())),
    }
}
