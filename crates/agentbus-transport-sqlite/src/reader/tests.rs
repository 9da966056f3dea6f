//! What a read looks at, counted in rows.

use agentbus_protocol::{Envelope, EventId, EventType, Payload, Stamp, Subject, Timestamp};
use rusqlite::params;

use super::*;
use crate::options::Options;
use crate::record::Record;
use crate::schema;

/// Events in front of what is looked for: more than one read may look at.
const EVENTS: u64 = limits::SCAN_MAX as u64 + 10;

fn clock() -> Clock {
    Options::new("unused").clock
}

fn put(connection: &Connection, seq: u64, subject: &str, priority: Priority) {
    let stamp = Stamp {
        event_id: EventId::v7(seq, &[7; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::from("test.case"));
    envelope.payload = Some(Payload::json(&seq).unwrap());
    let mut message = Message::new(Subject::parse(subject).unwrap(), envelope);
    message.priority = priority;
    let record = Record::new(Arc::new(message), &clock()).unwrap();
    let sql = "INSERT INTO messages (seq, at_ms, priority, checksum, subject, envelope)
               VALUES (?1, 0, ?2, ?3, ?4, ?5)";
    let (number, checksum) = (priority.number(), record.checksum);
    connection
        .execute(
            sql,
            params![seq, number, checksum, subject, record.envelope],
        )
        .unwrap();
}

/// A log of events with two dead letters at its end, the second of high priority, and an event that
/// is called like one.
fn log(path: &Path) -> Connection {
    std::fs::write(path, "").unwrap();
    let connection = schema::open_writer(path).unwrap();
    let events =
        "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1)
                  INSERT INTO messages (seq, at_ms, priority, checksum, subject, envelope)
                  SELECT seq, 0, 5, 0, 'acp.v1.events.order.paid', x'00' FROM n";
    connection.execute(events, [EVENTS]).unwrap();
    put(
        &connection,
        EVENTS + 1,
        "acp.v1.dlq.order.paid",
        Priority::Normal,
    );
    put(
        &connection,
        EVENTS + 2,
        "acp.v1.dlq.order.paid",
        Priority::High,
    );
    put(
        &connection,
        EVENTS + 3,
        "acp.v1.events.dlq.sent",
        Priority::Normal,
    );
    connection
}

fn read(connection: &Connection, pattern: &str) -> Fetched {
    let wanted = Wanted {
        cursors: Cursors::at(0),
        pattern: Pattern::parse(pattern).unwrap(),
        max: limits::FETCH_MAX,
        upto: EVENTS + 3,
    };
    fetch(connection, &wanted, &clock()).unwrap()
}

fn numbers(fetched: &Fetched) -> Vec<u64> {
    fetched.messages.iter().map(|(seq, _)| *seq).collect()
}

#[test]
fn dead_letters_are_found_without_a_walk_through_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let connection = log(&dir.path().join("bus.db"));
    for pattern in ["acp.v1.dlq.>", "acp.*.dlq.order.*", "acp.v1.dlq.order.paid"] {
        let found = read(&connection, pattern);
        assert_eq!(numbers(&found), [EVENTS + 2, EVENTS + 1], "{pattern}");
        assert!(!found.more && found.damaged == 0, "{pattern}: {found:?}");
        assert_eq!(found.cursors, Cursors::at(EVENTS + 3), "{pattern}");
    }
    let event = read(&connection, "acp.v1.events.dlq.>");
    assert_eq!((numbers(&event), event.more), (vec![EVENTS + 3], false));
    // Everything else is still looked at row by row, within a bound.
    let walked = read(&connection, "acp.v1.*.order.sent");
    assert!(walked.more && walked.messages.is_empty(), "{walked:?}");
}

#[test]
fn the_plan_of_each_lane_uses_the_index_of_the_letters() {
    let dir = tempfile::tempdir().unwrap();
    let connection = log(&dir.path().join("bus.db"));
    let letters = Pattern::parse("acp.v1.dlq.>").unwrap();
    for lane in 0..LANES {
        let sql = format!("EXPLAIN QUERY PLAN {}", of_lane(lane, &letters));
        let plan = connection.query_row(&sql, (0, 1, 5), |row| row.get::<_, String>(3));
        let plan = plan.unwrap();
        let sought = "SEARCH messages USING INDEX letters (priority=? AND seq>? AND seq<?)";
        assert_eq!(plan, sought, "lane {lane}");
    }
}

#[test]
fn a_log_of_the_first_version_gets_the_index_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus.db");
    let old = log(&path);
    let undo = "DROP INDEX letters; PRAGMA user_version = 1;";
    old.execute_batch(undo).unwrap();
    drop(old);
    let found = read(&schema::open_writer(&path).unwrap(), "acp.v1.dlq.>");
    assert_eq!(numbers(&found), [EVENTS + 2, EVENTS + 1]);
    assert!(!found.more, "{found:?}");
}
