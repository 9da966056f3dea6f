//! Adding one entry to a configuration without touching the rest of it.

use serde_json::Value;

/// Lines that are shown around a change.
const AROUND: usize = 2;

/// Adds a table to a TOML file; none if it is there.
pub(super) fn insert_toml(
    text: &str,
    root: &str,
    name: &str,
    entry: &str,
) -> Result<Option<String>, String> {
    let read: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string())?;
    match read.get(root) {
        Some(servers) if servers.get(name).is_some() => return Ok(None),
        // Its parts stand in one place, and a table of its own would be a second one.
        Some(_)
            if text
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{root} ="))) =>
        {
            return Err(format!("`{root}` is written on one line"));
        }
        _ => {}
    }
    let gap = match text {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    Ok(Some(format!("{text}{gap}[{root}.{name}]\n{entry}")))
}

/// Adds a member to an object of a JSON file, which may have comments; none if it is there.
pub(super) fn insert_json(
    text: &str,
    root: &str,
    name: &str,
    entry: &str,
) -> Result<Option<String>, String> {
    let entry: Value = serde_json::from_str(entry).map_err(|error| error.to_string())?;
    if text.trim().is_empty() {
        let whole = serde_json::json!({ root: { name: entry } });
        return Ok(Some(format!("{whole:#}\n")));
    }
    let document = Object::read(text, Scanner::start(text)?)?;
    let (object, depth, member) = match document.member(root) {
        None => (document, 1, serde_json::json!({ name: entry })),
        Some(at) => {
            let servers = Object::read(text, at)?;
            if servers.member(name).is_some() {
                return Ok(None);
            }
            (servers, 2, entry)
        }
    };
    let key = if depth == 1 { root } else { name };
    let indent = "  ".repeat(depth);
    let body = format!("{member:#}").replace('\n', &format!("\n{indent}"));
    let comma = if object.members.is_empty() { "" } else { "," };
    let end = if object.members.is_empty() && !text[object.inside..].starts_with(['\n', '\r']) {
        format!("\n{}", "  ".repeat(depth - 1))
    } else {
        String::new()
    };
    let added = format!("\n{indent}{}: {body}{comma}{end}", Value::from(key));
    let (before, after) = text.split_at(object.inside);
    Ok(Some(format!("{before}{added}{after}")))
}

/// An object of a JSON text: where its members stand.
struct Object {
    /// Behind its opening brace.
    inside: usize,
    /// Each name, and where its value begins.
    members: Vec<(String, usize)>,
}

impl Object {
    fn read(text: &str, at: usize) -> Result<Self, String> {
        let mut scanner = Scanner { text, at };
        scanner.expect('{')?;
        let inside = scanner.at;
        let mut members = Vec::new();
        loop {
            scanner.skip_blank()?;
            match scanner.peek() {
                Some('}') => return Ok(Self { inside, members }),
                Some(',') => scanner.at += 1,
                _ => {
                    let name = scanner.string()?;
                    scanner.skip_blank()?;
                    scanner.expect(':')?;
                    scanner.skip_blank()?;
                    members.push((name, scanner.at));
                    scanner.skip_value()?;
                }
            }
        }
    }

    fn member(&self, name: &str) -> Option<usize> {
        let found = self.members.iter().find(|(one, _)| one == name);
        found.map(|(_, at)| *at)
    }
}

/// Walks over JSON with comments, as editors write it.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    /// Where the document's value begins.
    fn start(text: &'t str) -> Result<usize, String> {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let mut scanner = Self { text, at };
        scanner.skip_blank()?;
        Ok(scanner.at)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.peek() != Some(wanted) {
            let line = self.text[..self.at].matches('\n').count() + 1;
            return Err(format!("line {line} should go on with `{wanted}`"));
        }
        self.at += wanted.len_utf8();
        Ok(())
    }

    fn skip_blank(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let end = rest.find("*/").ok_or("a comment does not end")?;
                self.at += end + 2;
            } else {
                match rest.chars().next() {
                    Some(blank) if blank.is_whitespace() => self.at += blank.len_utf8(),
                    _ => return Ok(()),
                }
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let begin = self.at;
        self.expect('"')?;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.at += offset + 1;
                    let whole = &self.text[begin..self.at];
                    return serde_json::from_str(whole).map_err(|error| error.to_string());
                }
                _ => {}
            }
        }
        Err("a text does not end".to_owned())
    }

    /// Goes to the end of a value. Depth is counted, not recursed into.
    fn skip_value(&mut self) -> Result<(), String> {
        let mut depth = 0_usize;
        loop {
            self.skip_blank()?;
            match self.peek() {
                None => return Err("the file ends in the middle".to_owned()),
                Some('"') => drop(self.string()?),
                Some('{' | '[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some('}' | ']' | ',') if depth == 0 => return Ok(()),
                Some('}' | ']') => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(c) => self.at += c.len_utf8(),
            }
            if depth == 0 && self.rest().trim_start().starts_with([',', '}']) {
                return Ok(());
            }
        }
    }
}

/// Shows what differs between two texts that differ in one place.
pub(super) fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev());
    let tail = tail.take(most).take_while(|(a, b)| a == b).count();
    let mut lines = Vec::new();
    let mut show = |mark: &str, part: &[&str]| {
        lines.extend(part.iter().map(|line| format!("  {mark} {line}")));
    };
    show(" ", &old[same.saturating_sub(AROUND)..same]);
    show("-", &old[same..old.len() - tail]);
    show("+", &new[same..new.len() - tail]);
    let end = (old.len() - tail + AROUND).min(old.len());
    show(" ", &old[old.len() - tail..end]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    // In the order of its keys: a map may keep the order of a text, or sort it.
    const ENTRY: &str = r#"{"args":["mcp"],"command":"agentbus"}"#;

    fn check(text: &str, expect: &str) {
        let changed = insert_json(text, "servers", "bus", ENTRY).unwrap();
        assert_eq!(changed.as_deref(), Some(expect));
        let again = insert_json(expect, "servers", "bus", ENTRY).unwrap();
        assert_eq!(again, None, "it is there now");
    }

    const BUS: &str = "\n    \"bus\": {\n      \"args\": [\n        \"mcp\"\n      ],\n      \
                       \"command\": \"agentbus\"\n    }";

    #[test]
    fn everything_else_stays_as_it_was() {
        check(
            "{\n  // mine\n  \"a\": [1, 2,],\n  \"servers\": {\n    \"x\": {} /* y */\n  },\n}\n",
            &format!(
                "{{\n  // mine\n  \"a\": [1, 2,],\n  \"servers\": {{{BUS},\n    \"x\": {{}} /* y */\n  }},\n}}\n"
            ),
        );
        check(
            "{\"servers\":{}}",
            &format!("{{\"servers\":{{{BUS}\n  }}}}"),
        );
        check("{}", &format!("{{\n  \"servers\": {{{BUS}\n  }}\n}}"));
    }

    #[test]
    fn a_name_inside_of_a_text_or_a_comment_is_none() {
        let text = "{ \"a\": \"\\\"servers\\\": {\", // \"servers\": {}\n \"b\": 1 }";
        let changed = insert_json(text, "servers", "bus", ENTRY).unwrap().unwrap();
        assert!(changed.starts_with("{\n  \"servers\": {"), "{changed}");
        assert!(changed.ends_with(&text[1..]), "{changed}");
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        for text in ["[]", "{ \"servers\": 1 }", "{ \"servers\": { ", "nonsense"] {
            assert!(
                insert_json(text, "servers", "bus", ENTRY).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_table_is_added_once() {
        let entry = "command = \"agentbus\"\n";
        let added = insert_toml("model = \"x\" # mine\n", "servers", "bus", entry).unwrap();
        let expect = "model = \"x\" # mine\n\n[servers.bus]\ncommand = \"agentbus\"\n";
        assert_eq!(added.as_deref(), Some(expect));
        assert_eq!(insert_toml(expect, "servers", "bus", entry), Ok(None));
        assert!(insert_toml("servers = { x = 1 }", "servers", "bus", entry).is_err());
        assert!(insert_toml("not toml", "servers", "bus", entry).is_err());
    }

    #[test]
    fn a_difference_is_shown_with_its_surroundings() {
        let shown = difference("a\nb\nc\nd\ne\n", "a\nb\nc\nnew\nd\ne\n");
        assert_eq!(shown, "    b\n    c\n  + new\n    d\n    e");
    }
}
