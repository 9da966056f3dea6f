//! Functions and test-only items of a file, by their lines.

use std::ops::RangeInclusive;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, Item, ItemFn, Meta, Signature, TraitItemFn};

/// One function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its bare name.
    pub(crate) name: String,
    /// The line its signature starts on.
    pub(crate) line: usize,
    /// The lines from the signature to the closing brace; attributes and docs do not count.
    pub(crate) length: usize,
}

/// What one walk over the syntax tree finds.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) functions: Vec<Function>,
    pub(super) test_lines: Vec<RangeInclusive<usize>>,
    pub(super) test_modules: Vec<String>,
}

impl Items {
    /// Walks over a whole file.
    pub(super) fn of(file: &syn::File) -> Self {
        let mut items = Self::default();
        items.visit_file(file);
        items
    }

    fn add_function(&mut self, signature: &Signature, block: &Block) {
        let line = signature.span().start().line;
        let length = block.span().end().line + 1 - line;
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            length,
        });
    }

    fn add_test_lines(&mut self, item: &impl Spanned) {
        let span = item.span();
        self.test_lines.push(span.start().line..=span.end().line);
    }
}

impl<'ast> Visit<'ast> for Items {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(is_test_only) {
            self.add_test_lines(item);
            if let Item::Mod(module) = item
                && module.content.is_none()
            {
                self.test_modules.push(module.ident.to_string());
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add_function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if function.attrs.iter().any(is_test_only) {
            self.add_test_lines(function);
        }
        self.add_function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add_function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Returns the attributes of the items that can be test-only.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Recognises `#[test]`, `#[runtime::test]`, `#[cfg(test)]` and `#[cfg(all(test, …))]`.
///
/// `any(test, feature = "…")` is production code under that feature, so it does not count.
fn is_test_only(attribute: &Attribute) -> bool {
    if attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| segment.ident == "test")
    {
        return true;
    }
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            let all = condition
                .strip_prefix("all(")
                .and_then(|rest| rest.strip_suffix(')'));
            all.unwrap_or(&condition)
                .split(',')
                .any(|part| part == "test")
        }
        _ => false,
    }
}
