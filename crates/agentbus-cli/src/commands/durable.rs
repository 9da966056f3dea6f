//! `agentbus durable`.

use serde_json::json;

use super::{Api, escaped};
use crate::args::DurableVerb;
use crate::failure::Failure;

pub(crate) async fn durable(api: &Api, verb: DurableVerb) -> Result<(), Failure> {
    let DurableVerb::Remove { name } = verb;
    let path = format!("/v1/durables/{}", escaped(&name));
    api.delete(&path).await?;
    api.say(&json!({ "removed": name }), &format!("removed {name}"))
}
