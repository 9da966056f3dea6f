//! A list of names as a frame, and where it ends.

use agentbus::ErrorCode;
use serde_json::{Value, json};

use super::*;

fn named(name: &str) -> DurableInfo {
    DurableInfo {
        name: name.to_owned(),
        group: None,
        pattern: "acp.v1.events.>".to_owned(),
        members: Some(1),
        unsettled: 2,
        seen: 3,
        behind: 4,
    }
}

#[test]
fn a_list_is_one_frame_with_all_names() {
    let mut shared = named("b");
    shared.group = Some("g".to_owned());
    let frame = listing(7, vec![named("a"), shared]).unwrap();
    let frame: Value = serde_json::from_str(&frame).unwrap();
    let told = |name: &str| {
        json!({
            "name": name, "pattern": "acp.v1.events.>",
            "members": 1, "unsettled": 2, "seen": 3, "behind": 4,
        })
    };
    let mut in_group = told("b");
    in_group["group"] = json!("g");
    let told = json!({ "durables": { "id": 7, "durables": [told("a"), in_group] } });
    assert_eq!(frame, told);
    assert_eq!(
        listing(8, Vec::new()).unwrap(),
        r#"{"durables":{"id":8,"durables":[]}}"#
    );
}

/// The last byte that fits is sent; one more would end the connection.
#[test]
fn a_list_that_is_larger_than_a_frame_is_an_error() {
    let around = listing(1, vec![named("")]).unwrap().len();
    let longest = "n".repeat(FRAME_BYTES_MAX - around);
    let frame = listing(1, vec![named(&longest)]).unwrap();
    assert_eq!(frame.len(), FRAME_BYTES_MAX);
    let refused = listing(1, vec![named(&format!("{longest}n"))]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    assert!(!refused.is_retryable());
    let said = refused.to_string();
    assert!(
        said.contains("all 1 has") && said.contains("/v1/durables"),
        "{said}"
    );
}
