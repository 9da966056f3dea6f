//! Reads one pool of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::fields::Fields;
use super::{
    Balance, ConfigError, HANDSHAKE_KEYS, Handshake, POOL_KEYS, PoolConfig, Recycle, Restart,
    invalid,
};
use crate::limits::WORKERS;

/// Time that a handshake has where the configuration is silent.
const HANDSHAKE_TIMEOUT_SEC: u64 = 10;

pub(super) fn read(
    index: usize,
    value: &Value,
    warnings: &mut Vec<String>,
) -> Result<PoolConfig, ConfigError> {
    let place = format!("pools[{index}]");
    let Some(object) = value.as_object() else {
        return Err(invalid(
            place,
            "give an object with id, command and instances",
        ));
    };
    let mut fields = Fields::new(place.clone(), object, POOL_KEYS);
    let id = needed(&fields, "id")?;
    fields.rename(format!("{place} {id:?}"));
    let pool = PoolConfig {
        command: needed(&fields, "command")?,
        args: fields.texts("args")?,
        instances: instances(&fields)?,
        env: env(&fields)?,
        cwd: fields.text("cwd")?.map(Into::into),
        agents: fields.texts("agents")?,
        restart: restart(&fields)?,
        balance: balance(&fields)?,
        handshake: handshake(&fields, warnings)?,
        hibernate_after: seconds(&fields, "hibernate_after_sec")?,
        recycle: recycle(&fields)?,
        method: fields.text("method")?.map(str::to_owned),
        id,
    };
    fields.warn_of_unknown(warnings);
    Ok(pool)
}

fn needed(fields: &Fields<'_>, key: &'static str) -> Result<String, ConfigError> {
    match fields.text(key)? {
        Some(text) if text.contains('\0') => Err(fields.error(key, "leave out the NUL character")),
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(fields.error(key, "give a string that is not empty")),
    }
}

fn instances(fields: &Fields<'_>) -> Result<u32, ConfigError> {
    let value = fields.take("instances");
    // A number beyond all that are counted here is a whole one all the same.
    let many = |count: f64| count > f64::from(u32::MAX);
    if value.and_then(Value::as_f64).is_some_and(many) {
        return Err(fields.error("instances", format!("at most {WORKERS} may run")));
    }
    let count = value
        .and_then(Value::as_u64)
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| *count > 0);
    count.ok_or_else(|| fields.error("instances", "give a whole number, 1 or more"))
}

fn env(fields: &Fields<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(object) = fields.object("env")? else {
        return Ok(BTreeMap::new());
    };
    let pair = |(name, value): (&String, &Value)| {
        let valid = !name.is_empty() && !name.contains(['=', '\0']);
        let text = value.as_str().filter(|text| !text.contains('\0'));
        text.filter(|_| valid)
            .map(|text| (name.clone(), text.to_owned()))
    };
    let pairs: Option<_> = object.iter().map(pair).collect();
    pairs.ok_or_else(|| fields.error("env", "give an object of names and strings"))
}

fn restart(fields: &Fields<'_>) -> Result<Restart, ConfigError> {
    match fields.text("restart")? {
        None | Some("always") => Ok(Restart::Always),
        Some("on-failure") => Ok(Restart::OnFailure),
        Some("never") => Ok(Restart::Never),
        Some(_) => Err(fields.error("restart", "use always, on-failure or never")),
    }
}

fn balance(fields: &Fields<'_>) -> Result<Balance, ConfigError> {
    match fields.text("balance")? {
        None | Some("round-robin") => Ok(Balance::RoundRobin),
        Some("least-loaded") => Ok(Balance::LeastLoaded),
        Some(_) => Err(fields.error("balance", "use round-robin or least-loaded")),
    }
}

fn handshake(
    fields: &Fields<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Handshake>, ConfigError> {
    let Some(object) = fields.object("handshake")? else {
        return Ok(None);
    };
    let keys = Fields::new(fields.place_of("handshake"), object, HANDSHAKE_KEYS);
    let handshake = Handshake {
        method: needed(&keys, "method")?,
        params: params(&keys)?,
        then_notify: keys.text("then_notify")?.map(str::to_owned),
        timeout: seconds(&keys, "timeout_sec")?
            .unwrap_or(Duration::from_secs(HANDSHAKE_TIMEOUT_SEC)),
    };
    keys.warn_of_unknown(warnings);
    Ok(Some(handshake))
}

fn params(keys: &Fields<'_>) -> Result<Option<String>, ConfigError> {
    match keys.take("params") {
        None => Ok(None),
        Some(value @ (Value::Object(_) | Value::Array(_))) => Ok(Some(value.to_string())),
        Some(_) => Err(keys.error("params", "give an object or an array")),
    }
}

fn recycle(fields: &Fields<'_>) -> Result<Recycle, ConfigError> {
    let megabyte = 1024 * 1024;
    Ok(Recycle {
        max_age: seconds(fields, "max_age_sec")?,
        max_requests: positive(fields, "max_requests")?,
        max_rss_bytes: positive(fields, "max_rss_mb")?.map(|size| size.saturating_mul(megabyte)),
    })
}

fn seconds(fields: &Fields<'_>, key: &'static str) -> Result<Option<Duration>, ConfigError> {
    Ok(positive(fields, key)?.map(Duration::from_secs))
}

/// Reads a number of which 0 means "never".
fn positive(fields: &Fields<'_>, key: &'static str) -> Result<Option<u64>, ConfigError> {
    Ok(fields.whole_number(key)?.filter(|number| *number > 0))
}
