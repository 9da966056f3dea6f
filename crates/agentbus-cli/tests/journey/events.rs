//! Events from one process to another.

use crate::bus::Bus;

#[test]
fn an_event_reaches_a_subscriber_in_another_process() {
    let bus = Bus::start();
    let listener = bus.background(&["sub", "order.>", "--count", "1"], "listening");
    assert!(
        bus.run(&["pub", "order.paid", "{\"n\":1}", "--confirm"])
            .status
            .success()
    );
    assert_eq!(listener.output(), "order.paid {\"n\":1}\n");
}
