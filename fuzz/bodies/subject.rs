//! Parsing subjects and patterns never panics, and a subject matches itself as a pattern.

use agentbus_protocol::{Pattern, Subject, SubjectSpace, TraceParent};

pub(crate) fn check(texts: (&str, &str)) {
    let (one, other) = texts;
    if let Ok(subject) = Subject::parse(one) {
        assert!(Pattern::parse(one).is_ok_and(|pattern| pattern.matches(subject.as_str())));
    }
    if let (Ok(pattern), Ok(subject)) = (Pattern::parse(one), Subject::parse(other)) {
        let _ = pattern.matches(subject.as_str());
    }
    if let Ok(space) = SubjectSpace::new(one, other) {
        let subject = space.events("x").expect("a space makes subjects");
        assert_eq!(space.event_type_of(&subject), Some("x"));
    }
    let _ = TraceParent::parse(one);
}
