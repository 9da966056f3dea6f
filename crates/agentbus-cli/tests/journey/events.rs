//! Events from one process to another.

use crate::bus::{Background, Bus, terminate};

/// Where bridges copy to.
const COPY: &str = "sqlite://to.db";

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

#[test]
fn subscribers_of_a_group_share_its_events() {
    let bus = Bus::start();
    let share = ["sub", "job.*", "--queue", "workers"];
    let members = [(); 2].map(|()| bus.background(&share, "listening"));
    for n in ["1", "2", "3", "4", "5", "6"] {
        // Confirmed when it is printed.
        bus.says(&["pub", "job.made", n, "--confirm"], "");
    }
    for member in &members {
        terminate(&member.child);
    }
    let said = members.map(Background::output).concat();
    let mut heard: Vec<_> = said.lines().collect();
    heard.sort_unstable();
    let each_once: Vec<_> = (1..=6).map(|n| format!("job.made {n}")).collect();
    assert_eq!(heard, each_once);
}

/// Copies live while one event is published, and checks that it is the only one in the copy.
fn copy_live(bus: &Bus) {
    bus.says(&["pub", "order.paid", "1"], "");
    let bridge = ["bridge", &bus.server.url, COPY, "--live"];
    let bridge = bus.background(&bridge, "copying");
    // Confirmed when the bridge takes it off the source, which is after it was copied.
    bus.says(&["pub", "order.paid", "2", "--confirm"], "");
    terminate(&bridge.child);
    assert_eq!(bridge.output(), "copied 1 event\n");
    let read = ["sub", ">", "--from", "beginning", "--count", "1"];
    let read = [&["--transport", COPY][..], &read].concat();
    bus.says(&read, "order.paid 2");
}

#[test]
fn a_source_that_keeps_nothing_is_copied_live() {
    let bus = Bus::start();
    let refused = bus.run(&["bridge", &bus.server.url, COPY]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("from now on with --live"), "{said}");
    copy_live(&bus);
}

#[test]
fn a_live_copy_of_a_log_leaves_the_past_and_remembers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bus = Bus::configured(dir, "transport = \"sqlite://bus.db\"\n");
    copy_live(&bus);
    let all = ["bridge", &bus.server.url, COPY, "--until-idle", "1"];
    bus.says(&all, "copied 2 events");
}
