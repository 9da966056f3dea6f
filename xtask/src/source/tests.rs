//! Small files, and what is seen in them.

use std::path::Path;

use super::Source;

fn parse(text: &str) -> Source {
    Source::parse(Path::new("src/sample.rs"), text.to_owned()).unwrap()
}

mod functions {
    use super::parse;

    fn check(text: &str, expect: &[(&str, usize)]) {
        let source = parse(text);
        let found: Vec<_> = source
            .functions()
            .map(|function| (function.name.as_str(), function.length))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn spans_run_from_the_signature_to_the_brace() {
        check(
            "/// Doc.\n#[inline]\nfn a(\n    x: u8,\n) {\n    x;\n}\n",
            &[("a", 5)],
        );
        check("fn a() {}", &[("a", 1)]);
    }

    #[test]
    fn methods_defaults_and_nested_functions_count() {
        check("struct S;\nimpl S {\n fn m(&self) {\n }\n}", &[("m", 2)]);
        check(
            "trait T {\n fn no_body();\n fn body() {}\n}",
            &[("body", 1)],
        );
        check(
            "fn outer() {\n fn inner() {}\n}",
            &[("outer", 3), ("inner", 1)],
        );
    }

    #[test]
    fn test_code_does_not_count() {
        check(
            "#[cfg(test)]\nmod tests {\n fn helper() {}\n}\nfn a() {}",
            &[("a", 1)],
        );
        check("#[cfg(all(test, unix))]\nfn helper() {}", &[]);
        check("#[tokio::test]\nasync fn a() {}", &[]);
        check("#[cfg(not(test))]\nfn a() {}", &[("a", 1)]);
        check(
            "#[cfg(any(test, feature = \"kit\"))]\nfn kit() {}",
            &[("kit", 1)],
        );
    }
}

mod paths {
    use super::parse;

    fn check(text: &str, expect: &[&str]) {
        let found: Vec<_> = parse(text)
            .paths()
            .iter()
            .map(|path| path.segments.join("::"))
            .collect();
        for path in expect {
            assert!(
                found.iter().any(|name| name == path),
                "{path} is not among {found:?}"
            );
        }
    }

    #[test]
    fn use_groups_are_spelled_out() {
        check(
            "use std::{io, process::{self, Command}};",
            &["std::io", "std::process::Command"],
        );
        check("use std::process::*;", &["std::process::*"]);
        check(
            "use std::{process::*, fmt};",
            &["std::process::*", "std::fmt"],
        );
    }

    #[test]
    fn paths_inside_macro_calls_are_seen() {
        check(
            "fn a() { m!(x => tokio::process::Command::new()) }",
            &["tokio::process::Command::new"],
        );
    }

    #[test]
    fn prose_is_not_a_path() {
        let source = parse(
            "/// See `std::process::Command`.\n// std::process\nconst A: &str = \"std::process\";",
        );
        assert!(
            !source
                .paths()
                .iter()
                .any(|path| path.segments.contains(&"process".to_owned()))
        );
    }
}

mod unwraps {
    use super::parse;

    fn check(text: &str, expect: &[usize]) {
        assert_eq!(parse(text).unwraps(), expect);
    }

    #[test]
    fn calls_are_found_by_line() {
        check("fn a() {\n x.unwrap();\n y.expect(\"why\");\n}", &[2, 3]);
        check("fn a() { m!(x.unwrap()) }", &[1]);
    }

    #[test]
    fn look_alikes_are_not() {
        check(
            "fn a() { x.unwrap_or(1); p.expect(Token::Comma); unwrap(); }",
            &[],
        );
        check("#[test]\nfn a() { x.unwrap(); }", &[]);
    }
}
