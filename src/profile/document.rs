//! A TOML document read with positions: the configuration and the device profiles.
//!
//! Reads everything, collects every diagnostic with its line, its key's path and a remedy, and never stops at the first.
//! serde would: it gives up at the first error and cannot say what else is wrong. Keys that nobody asked for are errors.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Diagnostics;
use crate::wire::spelling::{hint, nearest};

pub use super::diagnostic::{Diagnostic, Place};

/// Parses `text` and hands its top-level table to `read`; `read` asks for the keys it knows.
///
/// # Errors
/// Every diagnostic found, in the order of the document. What `read` returned is then dropped.
pub fn read<T>(text: &str, read: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Vec<Diagnostic>> {
    let diagnostics = Diagnostics::for_text(text);
    let (root, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        diagnostics.add(
            error.span().unwrap_or(0..0),
            "",
            format!("not TOML: {}", in_words(error.message().lines().next().unwrap_or("syntax error"))),
        );
    }
    // With broken syntax, keys may be missing from the tree only because they were not understood.
    let found = diagnostics.take();
    if !found.is_empty() {
        return Err(found);
    }
    let span = root.span();
    let mut table = Table::new(root.get_ref(), span, String::new(), diagnostics.clone());
    let value = read(&mut table);
    table.finish();
    let found = diagnostics.take();
    if found.is_empty() { Ok(value) } else { Err(found) }
}

/// The parser's words, and what to do where they do not say it.
fn in_words(said: &str) -> String {
    if said == "duplicate key" {
        return format!("{said}: it stands here for the second time; keep one of them");
    }
    said.to_owned()
}

/// One table of the document. Every `get` marks its key as known; `Table::finish` reports the rest.
pub struct Table<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    path: String,
    asked: Vec<&'static str>,
    /// The keys are names that the user chose, so none is unknown.
    names_are_free: bool,
    diagnostics: Diagnostics,
}

/// One value of the document, with its place.
pub struct Value<'a> {
    value: &'a Spanned<DeValue<'a>>,
    path: String,
    diagnostics: Diagnostics,
}

impl<'a> Table<'a> {
    fn new(table: &'a DeTable<'a>, span: Range<usize>, path: String, diagnostics: Diagnostics) -> Self {
        Self { table, span, path, asked: Vec::new(), names_are_free: false, diagnostics }
    }

    /// The table's path in the document, e.g. `portal[2]`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the table begins.
    #[must_use]
    pub fn place(&self) -> Place {
        self.diagnostics.place(&self.span, &self.path)
    }

    fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Reports a diagnostic at the table itself.
    pub fn diagnostic(&self, message: impl Into<String>) {
        self.diagnostics.add(self.span.clone(), &self.path, message);
    }

    /// Reports a diagnostic at `key`, or at the table if the key is not there.
    pub fn diagnostic_at(&self, key: &str, message: impl Into<String>) {
        let span = self.table.get_key_value(key).map_or(self.span.clone(), |(k, _)| k.span());
        self.diagnostics.add(span, &self.child_path(key), message);
    }

    /// Reports a diagnostic that was found by somebody else at a place of this document.
    pub fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.report(diagnostic);
    }

    /// Whether `key` is there, without marking it as known.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// All keys of a table whose keys are names that the user chose; marks them all as known.
    pub fn entries(&mut self) -> Vec<(String, Value<'a>)> {
        self.give_up();
        let all = self.table.iter().map(|(key, value)| {
            let name = key.get_ref().to_string();
            let path = self.child_path(&name);
            (name, Value { value, path, diagnostics: self.diagnostics.clone() })
        });
        all.collect()
    }

    /// The value of `key`, if it is there.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        Some(Value { value, path: self.child_path(key), diagnostics: self.diagnostics.clone() })
    }

    /// The value of `key`; a diagnostic if it is not there.
    pub fn need(&mut self, key: &'static str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.diagnostics.add(self.span.clone(), &self.path, format!("`{key}` is missing"));
        }
        value
    }

    /// The value of `key`; a diagnostic that says what to write if it is not there.
    pub fn need_or(&mut self, key: &'static str, remedy: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.diagnostics.add(self.span.clone(), &self.path, format!("`{key}` is missing: {remedy}"));
        }
        value
    }

    /// The sub-table `key`, read by `read`; nothing if it is not there.
    pub fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        self.get(key)?.table(read)
    }

    /// The array of tables `key` (`[[key]]`), each read by `read`; empty if it is not there.
    pub fn tables<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Table<'a>) -> T) -> Vec<T> {
        let Some(value) = self.get(key) else { return Vec::new() };
        value.items().into_iter().filter_map(|item| item.table(&mut read)).collect()
    }

    /// Text, if the key is there.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.get(key)?.text()
    }

    /// A truth value, or `default`.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|v| v.flag()).unwrap_or(default)
    }

    /// A whole number in `range`, or `default`.
    pub fn number(&mut self, key: &'static str, range: Range<i64>, default: i64) -> i64 {
        self.get(key).and_then(|v| v.number(range)).unwrap_or(default)
    }

    /// One of `names`, or `default`.
    pub fn choice<T: Copy>(&mut self, key: &'static str, names: &[(&str, T)], default: T) -> T {
        self.get(key).and_then(|v| v.choice(names)).unwrap_or(default)
    }

    /// Reports no key that nobody asked for: without what is missing it is not known which belong here.
    pub fn give_up(&mut self) {
        self.names_are_free = true;
    }

    /// Reports the keys nobody asked for. Called by [`read`] and [`Value::table`].
    fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.names_are_free || self.asked.contains(&name) {
                continue;
            }
            let hint = hint(name, self.asked.iter().copied());
            self.diagnostics.add(key.span(), &self.child_path(name), format!("unknown key; {hint}"));
        }
    }
}

impl<'a> Value<'a> {
    /// The value's path in the document.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reports a diagnostic at this value.
    pub fn diagnostic(&self, message: impl Into<String>) {
        self.diagnostics.add(self.value.span(), &self.path, message);
    }

    fn wrong_type(&self, wanted: &str) {
        self.diagnostic(format!("{wanted} is wanted, this is a {}", self.value.get_ref().type_str()));
    }

    /// Text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type("text in quotes");
                None
            }
        }
    }

    /// Text that `parse` understands; its error becomes the diagnostic.
    #[must_use]
    pub fn parsed<T, E: fmt::Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        match parse(&self.text()?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.diagnostic(error.to_string());
                None
            }
        }
    }

    /// A truth value.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.wrong_type("`true` or `false`");
                None
            }
        }
    }

    /// A whole number in `range`.
    #[must_use]
    pub fn number(&self, range: Range<i64>) -> Option<i64> {
        let DeValue::Integer(digits) = self.value.get_ref() else {
            self.wrong_type("a whole number");
            return None;
        };
        match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.diagnostic(format!("a whole number from {} to {} is wanted", range.start, range.end - 1));
                None
            }
        }
    }

    /// A number with or without a fraction.
    #[must_use]
    pub fn real(&self) -> Option<f64> {
        let text = match self.value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        let number = text.parse().ok().filter(|n: &f64| n.is_finite());
        if number.is_none() {
            self.diagnostic("a finite decimal number is wanted");
        }
        number
    }

    /// One of `names`.
    #[must_use]
    pub fn choice<T: Copy>(&self, names: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = names.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let all = names.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let near = nearest(&text, names.iter().map(|(name, _)| *name));
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.diagnostic(format!("one of {all} is wanted, got `{text}`{hint}"));
        None
    }

    /// The items of an array.
    #[must_use]
    pub fn items(&self) -> Vec<Value<'a>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            self.wrong_type("a list in brackets");
            return Vec::new();
        };
        let item =
            |(i, value)| Value { value, path: format!("{}[{i}]", self.path), diagnostics: self.diagnostics.clone() };
        items.iter().enumerate().map(item).collect()
    }

    /// A table, read by `read`.
    #[must_use]
    pub fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong_type("a table");
            return None;
        };
        let mut table = Table::new(table, self.value.span(), self.path.clone(), self.diagnostics.clone());
        let value = read(&mut table);
        table.finish();
        Some(value)
    }

    /// Whether this is text rather than a table or a list.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_diagnostics_are_told_at_once_with_line_path_and_remedy() {
        let text = "[gateway]\nid = 3\ndelay_of_s = 1\n[[portal]]\nkind = \"gat\"\n";
        let diagnostics = read(text, |top| {
            top.table("gateway", |t| (t.text("id"), t.number("delay_off_s", 0..10, 0)));
            top.tables("portal", |t| (t.need("id").is_some(), t.choice("kind", &[("gate", 1), ("door", 2)], 1)));
        })
        .unwrap_err();
        let said = diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(
            said,
            "2:6: `gateway.id`: text in quotes is wanted, this is a integer\n\
             3:1: `gateway.delay_of_s`: unknown key; did you mean `delay_off_s`?\n\
             4:1: `portal[0]`: `id` is missing\n\
             5:8: `portal[0].kind`: one of `gate`, `door` is wanted, got `gat`; did you mean `gate`?"
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_told_where_and_what_to_do() {
        let said = read("a = 1\na = 2\n", |_| ()).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(said, ["2:1: not TOML: duplicate key: it stands here for the second time; keep one of them"]);
        let said = read("a = 1\n", |top| drop(top.need_or("b", "write `b = 2`"))).unwrap_err();
        assert!(said.iter().any(|m| m.to_string() == "1:1: `b` is missing: write `b = 2`"), "{said:?}");
    }

    #[test]
    fn broken_syntax_is_a_diagnostic_with_its_line() {
        let diagnostics = read("a = 1\nb = \n", |_| ()).unwrap_err();
        assert_eq!(diagnostics.first().map(|m| m.line), Some(2));
    }
}
