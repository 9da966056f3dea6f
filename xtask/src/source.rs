//! One Rust source file, parsed far enough to be measured and searched.
//!
//! Lines are counted from one. Whatever only tests compile is marked by its lines and left out of
//! every answer. Code inside macro calls is seen as tokens, not as functions.

mod items;
mod paths;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

pub(crate) use self::items::Function;
pub(crate) use self::paths::NamedPath;
use crate::failure::Failure;

/// A parsed source file.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    tokens: TokenStream,
    items: items::Items,
}

impl Source {
    /// Parses a file; `path` is what reports show.
    pub(crate) fn parse(path: &Path, text: String) -> Result<Self, Failure> {
        let invalid =
            |error: String| Failure::new(format!("{} is not valid Rust: {error}", path.display()));
        let file = syn::parse_file(&text).map_err(|error| invalid(error.to_string()))?;
        let tokens = text
            .parse()
            .map_err(|error: proc_macro2::LexError| invalid(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            tokens,
            items: items::Items::of(&file),
            text,
        })
    }

    /// Returns the path that reports show.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the production lines in order, blank ones and comments included.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        let numbered = self.text.lines().zip(1..);
        numbered
            .filter(|(_, number)| !self.is_test_line(*number))
            .map(|(line, _)| line)
    }

    /// Returns the production functions that have a body.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &Function> {
        self.items
            .functions
            .iter()
            .filter(|function| !self.is_test_line(function.line))
    }

    /// Returns every path the production code names, with `use` groups spelled out.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let mut found = paths::collect(&self.tokens);
        found.retain(|path| !self.is_test_line(path.line));
        found
    }

    /// Returns the lines of production code that call `.unwrap()` or `.expect("…")`.
    pub(crate) fn unwraps(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        find_unwraps(&self.tokens, &mut lines);
        lines.retain(|line| !self.is_test_line(*line));
        lines
    }

    /// Returns where the out-of-line modules under `#[cfg(test)]` live, without extension.
    pub(crate) fn test_module_stems(&self) -> impl Iterator<Item = PathBuf> {
        let stem = self
            .path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let folder = match stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            _ => folder.join(stem),
        };
        self.items
            .test_modules
            .iter()
            .map(move |name| folder.join(name))
    }

    /// Tells whether only tests compile a line.
    fn is_test_line(&self, line: usize) -> bool {
        self.items
            .test_lines
            .iter()
            .any(|lines: &RangeInclusive<usize>| lines.contains(&line))
    }
}

/// Collects the lines of panicking calls, inside macro calls too.
fn find_unwraps(tokens: &TokenStream, lines: &mut Vec<usize>) {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    for window in trees.windows(3) {
        if let [
            TokenTree::Punct(dot),
            TokenTree::Ident(name),
            TokenTree::Group(arguments),
        ] = window
            && dot.as_char() == '.'
            && is_unwrap(&name.to_string(), arguments)
        {
            lines.push(name.span().start().line);
        }
    }
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            find_unwraps(&group.stream(), lines);
        }
    }
}

/// Tells the panicking calls from a parser's own `expect(token)`, which takes no text.
fn is_unwrap(name: &str, arguments: &Group) -> bool {
    if arguments.delimiter() != Delimiter::Parenthesis {
        return false;
    }
    match (name, arguments.stream().into_iter().next()) {
        ("unwrap", None) => true,
        ("expect", Some(TokenTree::Literal(text))) => text.to_string().ends_with('"'),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
