//! The state of a call that waits for answers. Its client keeps it and brings it back, so it is
//! sealed: it opens only unchanged, for the same principal, for the same call, and not for ever.

use std::collections::BTreeMap;

use rand::RngExt;
use rmcp::model::{RequestStateCodec, SealOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{Fault, Principal, limits};

/// The answers that a call has had.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) answers: BTreeMap<String, Value>,
    /// The questions that are open; the client's answers to others are not taken.
    pub(crate) asked: Vec<String>,
}

/// What a state belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Purpose(Vec<u8>);

impl Purpose {
    /// A call is the same when its method, its name and its arguments are.
    pub(crate) fn new(
        principal: &Principal,
        method: &str,
        name: &str,
        arguments: Option<&Map<String, Value>>,
    ) -> Self {
        let arguments = arguments.map(|map| Value::Object(map.clone()).to_string());
        let mut hash = Sha256::new();
        for part in [
            principal.as_str(),
            method,
            name,
            arguments.as_deref().unwrap_or("{}"),
        ] {
            // With its length, so that no two purposes run together to the same text.
            hash.update(part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().to_vec())
    }
}

/// Seals and opens states with a key of this process: a state does not outlive the bus.
pub(crate) struct Seal(RequestStateCodec);

impl Seal {
    pub(crate) fn new() -> Self {
        let key: [u8; 32] = rand::rng().random();
        Self(RequestStateCodec::new_unchecked(key))
    }

    pub(crate) fn close(&self, state: &State, purpose: &Purpose) -> Result<String, Fault> {
        let options = SealOptions::new()
            .associated_data(&purpose.0)
            .ttl(limits::STATE_TTL);
        self.0
            .seal_json_with(state, &options)
            .map_err(Fault::failed)
    }

    pub(crate) fn open(&self, sealed: &str, purpose: &Purpose) -> Result<State, Fault> {
        self.0.open_json_with(sealed, &purpose.0).map_err(|error| {
            Fault::Invalid(format!(
                "the request state cannot be used ({error}); begin the call again without it"
            ))
        })
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn purpose(principal: &str, name: &str, arguments: &Value) -> Purpose {
        let principal = Principal::new(principal);
        Purpose::new(&principal, "tools/call", name, arguments.as_object())
    }

    #[test]
    fn a_state_opens_for_its_own_purpose_only() {
        let seal = Seal::new();
        let state = State {
            answers: [("who".to_owned(), json!({ "action": "accept" }))].into(),
            asked: vec!["why".to_owned()],
        };
        let own = purpose("a", "tool", &json!({ "x": 1 }));
        let sealed = seal.close(&state, &own).unwrap();
        assert_eq!(seal.open(&sealed, &own).unwrap(), state);
        let others = [
            purpose("b", "tool", &json!({ "x": 1 })),
            purpose("a", "other", &json!({ "x": 1 })),
            purpose("a", "tool", &json!({ "x": 2 })),
        ];
        for other in others {
            assert!(seal.open(&sealed, &other).is_err());
        }
        assert!(seal.open(&format!("{sealed}x"), &own).is_err());
        assert!(Seal::new().open(&sealed, &own).is_err(), "another key");
    }
}
