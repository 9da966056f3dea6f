//! Targets of other tenants than that of the bus, as sessions name them.
//!
//! A session says by one name who serves it, in the log too. Such a target is `NAME (TENANT)` there,
//! so that the session stays in its tenant, whichever editor takes it up again. No target has a
//! blank in its name, so this is the name of no other.

/// The name of a target in a session.
pub(super) fn name(target: &str, tenant: Option<&str>) -> String {
    match tenant {
        Some(tenant) => format!("{target} ({tenant})"),
        None => target.to_owned(),
    }
}

/// The target of such a name, and its tenant if that is not the one of the bus.
pub(super) fn target(name: &str) -> (&str, Option<&str>) {
    let inner = name.strip_suffix(')');
    let parts = inner.and_then(|inner| inner.rsplit_once(" ("));
    parts.map_or((name, None), |(target, tenant)| (target, Some(tenant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: &str, tenant: Option<&str>, expect: &str) {
        assert_eq!(name(of, tenant), expect);
        assert_eq!(target(expect), (of, tenant));
    }

    #[test]
    fn a_name_says_the_tenant_unless_it_is_that_of_the_bus() {
        check("count", None, "count");
        check("count", Some("acme"), "count (acme)");
        check("count(x)", None, "count(x)");
        check("count(x)", Some("a)("), "count(x) (a)()");
    }
}
