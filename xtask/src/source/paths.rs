//! The paths a file names, read from its tokens.
//!
//! Tokens see what a syntax tree hides: the inside of macro calls. Comments are gone before this
//! runs, and a path in a string is text, so a mention in prose is never a finding.

use std::iter::Peekable;

use proc_macro2::token_stream::IntoIter;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path such as `std::process::Command` and the line it ends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its segments; a glob import ends in `*`.
    pub(crate) segments: Vec<String>,
    /// The line of the last segment.
    pub(crate) line: usize,
}

/// Collects every path of a token stream.
pub(super) fn collect(tokens: &TokenStream) -> Vec<NamedPath> {
    let mut found = Vec::new();
    walk(tokens, &[], &mut found);
    found
}

/// Walks over one group; `prefix` is what a `use` group continues.
fn walk(tokens: &TokenStream, prefix: &[String], found: &mut Vec<NamedPath>) {
    let mut trees = tokens.clone().into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Ident(name) => {
                let mut segments = prefix.to_vec();
                segments.push(name.to_string());
                follow(&mut trees, segments, name.span().start().line, found);
            }
            TokenTree::Group(group) => walk(&group.stream(), &[], found),
            TokenTree::Punct(punct) if punct.as_char() == '*' && !prefix.is_empty() => {
                let mut segments = prefix.to_vec();
                segments.push(String::from("*"));
                found.push(NamedPath {
                    segments,
                    line: punct.span().start().line,
                });
            }
            _ => {}
        }
    }
}

/// Follows a path that has begun over `::name`, into `::{…}` and to `::*`.
fn follow(
    trees: &mut Peekable<IntoIter>,
    mut segments: Vec<String>,
    mut line: usize,
    found: &mut Vec<NamedPath>,
) {
    while take_colons(trees) {
        match trees.peek() {
            Some(TokenTree::Ident(name)) => {
                line = name.span().start().line;
                segments.push(name.to_string());
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                walk(&group.stream(), &segments, found);
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => {
                segments.push(String::from("*"));
            }
            _ => break,
        }
        trees.next();
    }
    found.push(NamedPath { segments, line });
}

/// Consumes `::` when it comes next.
///
/// A single colon, as in `name: Type`, ends the path as well, so consuming it loses nothing.
fn take_colons(trees: &mut Peekable<IntoIter>) -> bool {
    fn take(trees: &mut Peekable<IntoIter>) -> bool {
        let colon = |tree: &TokenTree| matches!(tree, TokenTree::Punct(p) if p.as_char() == ':');
        trees.next_if(colon).is_some()
    }
    take(trees) && take(trees)
}
