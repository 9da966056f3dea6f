//! Subjects and patterns against a naive model, and the grammar against tables.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use agentbus_protocol::{EventId, Pattern, Subject, SubjectSpace};
use proptest::prelude::*;

/// The definition, as literally as it can be written.
fn model(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => model(pattern, subject),
        ([want, pattern @ ..], [have, subject @ ..]) => want == have && model(pattern, subject),
        _ => false,
    }
}

fn patterns() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => "[ab]", 2 => Just("*".to_owned())];
    (proptest::collection::vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest {
            tokens.push(">".to_owned());
        }
        tokens.join(".")
    })
}

proptest! {
    #[test]
    fn matching_agrees_with_the_model(
        mut pattern in proptest::collection::vec(prop_oneof!["[ab]{1,2}", Just("*".to_owned())], 0..5),
        rest in any::<bool>(),
        subject in proptest::collection::vec("[ab]{1,2}", 1..6),
    ) {
        if rest || pattern.is_empty() {
            pattern.push(">".to_owned());
        }
        let parsed = Pattern::parse(&pattern.join(".")).unwrap();
        let pattern: Vec<_> = pattern.iter().map(String::as_str).collect();
        let tokens: Vec<_> = subject.iter().map(String::as_str).collect();
        prop_assert_eq!(parsed.matches(&subject.join(".")), model(&pattern, &tokens));
    }

    #[test]
    fn a_pattern_covers_another_when_it_matches_whatever_that_matches(
        one in patterns(),
        other in patterns(),
        subjects in proptest::collection::vec(proptest::collection::vec("[ab]{1}", 1..5), 64),
    ) {
        let covers = Pattern::parse(&one).unwrap().covers(&other);
        let other = Pattern::parse(&other).unwrap();
        let one = Pattern::parse(&one).unwrap();
        for subject in subjects {
            let subject = subject.join(".");
            if covers && other.matches(&subject) {
                prop_assert!(one.matches(&subject), "{} of {} and {}", subject, one, other);
            }
        }
    }

    #[test]
    fn parsing_never_panics(text in ".{0,80}") {
        let _ = Pattern::parse(&text);
        if let Ok(subject) = Subject::parse(&text) {
            prop_assert!(Pattern::parse(&text).unwrap().matches(subject.as_str()));
        }
    }

    #[test]
    fn ids_come_back_as_they_were(text in prop_oneof![".{0,40}", "[0-9a-fA-F]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"]) {
        prop_assert_eq!(EventId::parse(&text).to_string(), text);
    }

    #[test]
    fn what_a_subject_is(text in "[ab.*> é\\x00-\\x22\\x7f]{0,40}|([ab]{1,2}[.]){60,66}a|[a]{1020,1028}") {
        let printable = |c: char| c > ' ' && c != '\u{7f}' && c != '*' && c != '>';
        let tokens: Vec<_> = text.split('.').collect();
        let sound = tokens.iter().all(|token| !token.is_empty() && token.chars().all(printable));
        prop_assert_eq!(
            Subject::parse(&text).is_ok(),
            sound && tokens.len() <= 64 && text.len() <= 1024
        );
    }

    #[test]
    fn inboxes_are_inboxes(random in any::<[u64; 2]>()) {
        let inbox = Subject::inbox(random);
        prop_assert!(inbox.is_inbox());
        prop_assert_eq!(Subject::parse(inbox.as_str()).unwrap(), inbox);
    }
}

#[test]
fn the_grammar() {
    let plain = SubjectSpace::default();
    let acme = plain.with_tenant("acme").unwrap();
    let check = |subject: Subject, want: &str| assert_eq!(subject.as_str(), want);
    check(
        plain.events("order.paid").unwrap(),
        "acp.v1.events.order.paid",
    );
    check(
        acme.events("order.paid").unwrap(),
        "acp.v1.acme.events.order.paid",
    );
    check(
        plain.invoke("mcp-fs.read_file").unwrap(),
        "acp.v1.invoke.mcp-fs.read_file",
    );
    check(acme.cancel("echo").unwrap(), "acp.v1.acme.cancel.echo");
    check(acme.dlq("x").unwrap(), "acp.v1.dlq.x");
    let custom = SubjectSpace::new("agent.v9", "t").unwrap();
    check(custom.invoke("echo").unwrap(), "agent.v9.t.invoke.echo");
    assert_eq!(acme.target_of(&acme.invoke("a.b").unwrap()), Some("a.b"));
    assert_eq!(plain.target_of(&acme.invoke("a.b").unwrap()), None);
    let whose = |subject: &Subject| {
        let found = plain.tenant_and_target_of(subject);
        found.map(|(tenant, target)| (tenant.to_owned(), target.to_owned()))
    };
    let found = |tenant: &str| Some((tenant.to_owned(), "a.b".to_owned()));
    assert_eq!(whose(&acme.invoke("a.b").unwrap()), found("acme"));
    assert_eq!(whose(&plain.invoke("a.b").unwrap()), found(""));
    for other in [
        plain.events("invoke.a"),
        acme.events("x"),
        custom.invoke("a"),
    ] {
        assert_eq!(whose(&other.unwrap()), None);
    }
    assert_eq!(
        plain.event_type_of(&plain.events("x.y").unwrap()),
        Some("x.y")
    );
}

#[test]
fn what_covers_what() {
    for (one, other, expected) in [
        ("a.b", "a.b", true),
        ("a.*", "a.b", true),
        ("a.*", "a.*", true),
        ("a.>", "a.*", true),
        ("a.>", "a.b.>", true),
        ("a.>", "a.>", true),
        ("*", "a", true),
        ("a.*", "a.>", false),
        ("a.b", "a.*", false),
        ("a.>", "a", false),
        ("a.b.>", "a.>", false),
        ("*", ">", false),
    ] {
        let covers = Pattern::parse(one).unwrap().covers(other);
        assert_eq!(covers, expected, "{one} and {other}");
    }
}

#[test]
fn a_shared_topic_is_a_subject_by_itself() {
    let topics = ["orders.>", "fraud.*", "*"].map(|topic| Pattern::parse(topic).unwrap());
    let space = SubjectSpace::default().sharing(&topics).unwrap();
    for (event_type, subject) in [
        ("orders.new", "orders.new"),
        ("orders.new.eu", "orders.new.eu"),
        ("fraud.alerts", "fraud.alerts"),
        ("heartbeat", "heartbeat"),
        ("fraud.alerts.eu", "acp.v1.events.fraud.alerts.eu"),
        ("acp.v1.invoke.echo", "acp.v1.events.acp.v1.invoke.echo"),
        (
            "_INBOX.0123456789abcdef",
            "acp.v1.events._INBOX.0123456789abcdef",
        ),
    ] {
        let made = space.events(event_type).unwrap();
        assert_eq!(made.as_str(), subject);
        assert_eq!(space.event_type_of(&made), Some(event_type));
        assert!(space.takes_replies(&made), "{made}");
        let pattern = space.events_pattern(event_type).unwrap();
        assert_eq!(pattern.as_str(), subject);
    }
    let pattern = |text: &str| space.events_pattern(text).unwrap().to_string();
    assert_eq!(pattern("orders.*"), "orders.*");
    assert_eq!(pattern(">"), "acp.v1.events.>");
    assert_eq!(pattern("fraud.>"), "acp.v1.events.fraud.>");
    // A tenant shares nothing, and no call is an event.
    let acme = space.with_tenant("acme").unwrap();
    let own = acme.events("orders.new").unwrap();
    assert_eq!(own.as_str(), "acp.v1.acme.events.orders.new");
    let again = acme.with_tenant("").unwrap();
    assert_eq!(again.events("orders.new").unwrap().as_str(), "orders.new");
    assert_eq!(
        space.invoke("orders.new").unwrap().as_str(),
        "acp.v1.invoke.orders.new"
    );
}

#[test]
fn a_pattern_knows_which_topics_it_leaves_out() {
    let topics = ["orders", "fraud.*"].map(|topic| Pattern::parse(topic).unwrap());
    let space = SubjectSpace::default().sharing(&topics).unwrap();
    let check = |space: &SubjectSpace, pattern: &str, expect: &[&str]| {
        let unheard: Vec<_> = space.unheard(pattern).map(Pattern::as_str).collect();
        assert_eq!(unheard, expect, "{pattern}");
    };
    check(&space, ">", &["orders", "fraud.*"]);
    check(&space, "*", &["orders"]);
    check(&space, "fraud.>", &["fraud.*"]);
    check(&space, "*.alerts", &["fraud.*"]);
    for heard in ["orders", "fraud.*", "fraud.alerts", "order.>", "a"] {
        check(&space, heard, &[]);
    }
    check(&space.with_tenant("acme").unwrap(), ">", &[]);
    check(&SubjectSpace::default(), ">", &[]);
}

#[test]
fn topics_that_would_reach_into_the_bus_are_refused() {
    for topic in [
        ">",
        "*.>",
        "acp.>",
        "acp.v1.>",
        "acp.*.events.x",
        "_INBOX.*",
        "*.v1.invoke.x",
    ] {
        let topics = [Pattern::parse(topic).unwrap()];
        let error = SubjectSpace::default().sharing(&topics).unwrap_err();
        assert!(
            error.to_string().contains("name topics of your own"),
            "{error}"
        );
        assert!(error.to_string().contains(topic), "{error}");
    }
    let elsewhere = SubjectSpace::new("agents", "").unwrap();
    let topics = [Pattern::parse("acp.>").unwrap()];
    assert!(elsewhere.sharing(&topics).is_ok());
}

#[test]
fn a_prefix_that_means_something_else_is_refused() {
    for (prefix, token) in [
        ("_INBOX", "_INBOX"),
        ("_INBOX.bus", "_INBOX"),
        ("$JS.API", "$JS"),
        ("$SYS", "$SYS"),
        ("amb", "amb"),
        ("corp.events", "events"),
        ("invoke.bus", "invoke"),
        ("corp.cancel.bus", "cancel"),
        ("dlq", "dlq"),
    ] {
        let error = SubjectSpace::new(prefix, "").unwrap_err().to_string();
        assert!(error.contains(&format!("because of `{token}`")), "{error}");
        assert!(error.contains("name another"), "{error}");
    }
    for prefix in [
        "acp.v1",
        "_INBOXES",
        "corp._INBOX",
        "a$",
        "ambient",
        "corp.amb",
    ] {
        assert!(SubjectSpace::new(prefix, "").is_ok(), "{prefix}");
    }
}

#[test]
fn names_that_would_reach_elsewhere_are_refused() {
    let space = SubjectSpace::default();
    for tenant in [
        "a.b", ">", "*", "events", "invoke", "cancel", "dlq", "a b", "\n",
    ] {
        assert!(space.with_tenant(tenant).is_err(), "{tenant:?}");
    }
    for name in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "*",
        "a.>",
        "a b",
        "a\tb",
        "a\u{0}",
        &"x".repeat(256),
    ] {
        assert!(space.invoke(name).is_err(), "{name:?}");
        assert!(space.events(name).is_err(), "{name:?}");
    }
    for pattern in ["", "a.>.b", "a*", "*a", "a.>b", "a..b", " "] {
        assert!(space.events_pattern(pattern).is_err(), "{pattern:?}");
    }
}
