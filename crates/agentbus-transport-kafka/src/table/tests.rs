use super::*;

const OWN: &str = "me";

/// Takes records in, each with its place as its number.
fn read(table: &Table, from: i64, records: &[(&str, Option<&str>)]) -> Vec<Change> {
    let numbered = (from..).zip(records);
    let changes = numbered.map(|(at, (key, value))| {
        let value = value.map(str::as_bytes);
        table.apply(at, 0, key, value, OWN)
    });
    changes.collect()
}

const NAME: (&str, Option<&str>) = ("durable d", Some(r#"{"pattern":"a.b"}"#));
const MEMBER: &str = r#"{"pattern":"a.b","durable":"d"}"#;
const REMOVAL: &str = r#"{"pattern":"a.b","durable":"d","removes":true}"#;

#[test]
fn a_name_that_nobody_uses_is_removed_and_its_next_life_is_another() {
    let table = Table::default();
    read(&table, 0, &[NAME]);
    assert_eq!(table.life("d"), Some(0));
    read(&table, 1, &[NAME]);
    assert_eq!(table.life("d"), Some(0), "the same again is the same life");
    assert_eq!(read(&table, 2, &[("durable d", None)]), [Change::None]);
    assert_eq!(table.life("d"), None);
    read(&table, 3, &[NAME]);
    assert_eq!(table.life("d"), Some(3));
}

#[test]
fn whoever_removes_a_name_does_so_from_its_line() {
    let table = Table::default();
    // The removal stood first; the member waits for its end.
    let line = [("member x/1", Some(REMOVAL)), ("member y/1", Some(MEMBER))];
    read(&table, 0, &[NAME]);
    read(&table, 1, &line);
    assert_eq!(read(&table, 3, &[("durable d", None)]), [Change::None]);
    assert_eq!(table.durable("d"), None);
}

#[test]
fn whoever_has_lost_its_place_takes_a_name_from_nobody() {
    let table = Table::default();
    let lost = [
        NAME,
        ("member x/1", Some(REMOVAL)),
        ("member x/1", None),
        ("member y/1", Some(MEMBER)),
    ];
    read(&table, 0, &lost);
    let known = Durable {
        pattern: "a.b".to_owned(),
        group: None,
    };
    let restored = Change::Overwritten("d".to_owned(), known.clone());
    assert_eq!(read(&table, 4, &[("durable d", None)]), [restored]);
    assert_eq!(table.durable("d"), Some((known, 0)));
}

#[test]
fn the_line_is_in_the_order_of_the_table() {
    let table = Table::default();
    let line = [
        ("member x/1", Some(MEMBER)),
        ("member y/1", Some(REMOVAL)),
        ("member z/1", Some(MEMBER)),
    ];
    read(&table, 0, &line);
    let before = |id, removes| table.before("d", id, removes);
    assert_eq!(before("x/1", false), None);
    assert_eq!(before("x/1", true), None);
    assert_eq!(before("y/1", false).as_deref(), Some("x/1"));
    assert_eq!(before("y/1", true), None);
    assert_eq!(before("z/1", true).as_deref(), Some("y/1"));
    // One that was taken for gone stands behind everybody.
    assert_eq!(before("w/1", false).as_deref(), Some("x/1"));
    assert!(table.holds("y/1") && !table.holds("w/1"));
    let members = table.members_of("d");
    let members: Vec<_> = members.iter().map(|id| &**id).collect();
    assert_eq!(members, ["x/1", "z/1"]);
}

#[test]
fn a_removal_hears_nothing() {
    let table = Table::default();
    read(&table, 0, &[("member x/1", Some(REMOVAL))]);
    assert!(!table.route("a.b").0.has_receiver(true));
    read(&table, 1, &[("member y/1", Some(MEMBER))]);
    assert!(table.route("a.b").0.has_receiver(true));
}
