//! URI templates with variables that stand for one path segment: `chat://threads/{id}/state`.

use std::collections::BTreeMap;

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UriTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

impl UriTemplate {
    /// Takes a template apart; what is between braces is a variable.
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                break;
            };
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Self { parts }
    }

    /// Returns the values of the variables if the URI is one of the template's.
    pub(crate) fn matches(&self, uri: &str) -> Option<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        let mut rest = uri;
        for part in &self.parts {
            match part {
                Part::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Variable(name) => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let (value, after) = rest.split_at(end);
                    if value.is_empty() {
                        return None;
                    }
                    values.insert(name.clone(), value.to_owned());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expect: Option<&str>) {
        let template = UriTemplate::parse("chat://threads/{id}/state");
        let values = template.matches(uri);
        assert_eq!(values.as_ref().map(|values| values["id"].as_str()), expect);
    }

    #[test]
    fn a_variable_is_one_segment() {
        check("chat://threads/abc/state", Some("abc"));
        check("chat://threads//state", None);
        check("chat://threads/a/b/state", None);
        check("chat://threads/abc/state/more", None);
        check("chat://threads/abc", None);
    }

    #[test]
    fn a_template_without_an_end_is_a_literal() {
        assert!(UriTemplate::parse("a{b").matches("a{b").is_some());
    }
}
