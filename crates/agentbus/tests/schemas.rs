//! JSON Schemas at both ends of a bus.
#![allow(clippy::unwrap_used, reason = "a failing step should say where")]

use std::sync::Arc;

use agentbus::schemas::Schemas;
use agentbus::transport::{MemoryTransport, Transport};
use agentbus::{Bus, ErrorCode};
use serde_json::json;

fn schemas() -> Schemas {
    let order = json!({ "type": "object", "required": ["n"],
        "properties": { "n": { "type": "integer" }, "card": { "type": "integer" } } });
    let schemas = Schemas::default().event("order.paid", &order).unwrap();
    schemas
        .target("planner", &json!({ "type": "string" }))
        .unwrap()
}

#[tokio::test]
async fn what_does_not_match_is_refused_to_its_publisher() {
    let bus = Bus::builder("shop")
        .schemas(schemas())
        .connect()
        .await
        .unwrap();
    bus.handle("planner", |_| async { Ok(()) }).await.unwrap();
    let mut orders = bus.subscribe("order.*").await.unwrap();
    let wrong = json!({ "card": "4111 1111" });
    let refused = bus.publish("order.paid", &wrong).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    let text = refused.to_string();
    assert!(
        text.contains("the payload of order.paid does not match its schema"),
        "{text}"
    );
    assert!(
        text.contains("at /card") && text.contains("\"n\" is a required property"),
        "{text}"
    );
    assert!(
        !text.contains("4111"),
        "the value must not be repeated: {text}"
    );
    assert!(bus.publish_payload("order.paid", None).await.is_err());
    let refused = bus.invoke("planner", &json!(1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    bus.invoke("planner", &json!("plan")).await.unwrap();
    bus.publish("order.sent", &wrong).await.unwrap();
    bus.publish("order.paid", &json!({ "n": 1 })).await.unwrap();
    let first = orders.next().await.unwrap();
    assert_eq!(first.envelope().event_type.as_str(), "order.sent");
    let second = orders.next().await.unwrap();
    assert_eq!(second.envelope().event_type.as_str(), "order.paid");
}

#[tokio::test]
async fn what_others_publish_is_checked_before_its_handler() {
    let broker: Arc<dyn Transport> = Arc::new(MemoryTransport::new());
    let careless = Bus::builder("careless").transport_instance(Arc::clone(&broker));
    let careless = careless.connect().await.unwrap();
    let careful = Bus::builder("careful")
        .transport_instance(broker)
        .layer(schemas());
    let careful = careful.connect().await.unwrap();
    careful
        .handle("planner", |_| async { Ok(()) })
        .await
        .unwrap();
    let refused = careless.invoke("planner", &json!(1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    careless.invoke("planner", &json!("plan")).await.unwrap();
}

#[test]
fn a_schema_that_is_none_is_an_error() {
    for schema in [
        json!({ "type": 7 }),
        json!({ "$ref": "http://127.0.0.1:1/other.json" }),
    ] {
        let refused = Schemas::default()
            .event("a", &schema)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("the schema of `a` cannot be used"),
            "{refused}"
        );
    }
}
