//! A TOML text with its positions: reads a [`Scenario`] from it, and reports problems with line and column.

use std::{fmt, ops::Range};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::{Scenario, fix};
use crate::foreign::{LONGEST_QUOTE, cut, did_you_mean, printable, quoted};

/// Most problems to report of one file: more would hide the first ones.
const MOST_PROBLEMS: usize = 20;

/// Something wrong at one place of a scenario file, with the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or words that stand for it.
    pub origin: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Path of the key, as in `target[1].name`; empty for the file as a whole.
    pub key: String,
    /// The problem and the fix.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.origin, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// One step from a table or list to a value in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.into())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// `at!["target", 1, "name"]`
macro_rules! at {
    ($($step:expr),* $(,)?) => { &[$($crate::scenario::document::Step::from($step)),*] };
}
pub(super) use at;

/// A parsed file: values with their positions.
pub(super) struct Document<'a> {
    origin: &'a str,
    text: &'a str,
    /// As written.
    table: DeTable<'a>,
    problems: Vec<Problem>,
    /// Paths of unusable values, left out so that the rest can still be checked.
    left_out: Vec<Vec<Step>>,
}

impl<'a> Document<'a> {
    /// Fails with one problem where the text is not TOML.
    pub(super) fn parse(text: &'a str, origin: &'a str) -> Result<Self, Vec<Problem>> {
        let empty = DeTable::new();
        let mut document =
            Document { origin, text, table: empty, problems: Vec::new(), left_out: Vec::new() };
        match DeTable::parse(text) {
            Ok(table) => document.table = table.into_inner(),
            Err(error) => {
                let at = error.span().unwrap_or_default();
                document.report(at, &[], format!("this is not TOML: {}", printable(error.message())));
                return Err(document.problems);
            }
        }
        Ok(document)
    }

    /// Reads the scenario as written. Notes and leaves out each value that does not fit, as long as the rest makes
    /// a scenario; `None` where it does not.
    pub(super) fn read(&mut self) -> Option<Scenario> {
        let mut rest = self.table.clone();
        loop {
            let whole = toml::Spanned::new(0..0, rest.clone());
            let error = match Scenario::deserialize(toml::de::Deserializer::from(whole)) {
                Ok(scenario) => return Some(scenario),
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let mut at = find(&self.table, &span);
            let missing = between(error.message(), "missing field `");
            at.extend(missing.map(Step::from));
            // serde may now miss a value that was left out; its problem is noted already.
            if !self.left_out.iter().any(|left| left.starts_with(&at)) {
                let text = missing.map_or_else(|| self.explain(&error, &at), |_| fix::missing(&at));
                self.report(span, &at, text);
            }
            if missing.is_some() {
                return None;
            }
            // Leaving out an element would renumber its list: the whole list goes.
            while matches!(at.last(), Some(Step::Index(_))) {
                at.pop();
            }
            if self.problems.len() >= MOST_PROBLEMS || !remove(&mut rest, &at) {
                return None;
            }
            self.left_out.push(at);
        }
    }

    /// Notes a problem of the value at `path`, or of the nearest table around it where it has a default.
    pub(super) fn wrong(&mut self, path: &[Step], text: String) {
        if self.problems.len() >= MOST_PROBLEMS || self.left_out.iter().any(|left| left.starts_with(path)) {
            return;
        }
        let span = (0..=path.len()).rev().find_map(|n| span_of(&self.table, &path[..n])).unwrap_or_default();
        self.report(span, path, text);
    }

    /// Whether the text has a value at a path.
    pub(super) fn has(&self, path: &[Step]) -> bool {
        get(&self.table, path).is_some()
    }

    /// All problems in the order of their lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|p| (p.line, p.column));
        self.problems
    }

    fn report(&mut self, span: Range<usize>, path: &[Step], text: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(Problem {
            origin: printable(self.origin),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: show(path),
            text,
        });
    }

    /// serde's message in a scenario author's words.
    fn explain(&self, error: &toml::de::Error, at: &[Step]) -> String {
        let message = error.message();
        if let Some(key) = between(message, "unknown field `") {
            if let Some(new) = fix::renamed(key) {
                return format!("this key is called {new} now");
            }
            let known = listed(message);
            return format!("unknown key{}: expected one of {}", did_you_mean(key, &known), known.join(", "));
        }
        let written = error.span().and_then(|span| self.text.get(span)).unwrap_or_default();
        if message.starts_with("unknown variant `") {
            if let Some(new) = between(message, "unknown variant `").and_then(fix::renamed) {
                return format!("{} is called {new:?} now", cut(written));
            }
            return match fix::of(at).as_ref() {
                "" => {
                    format!("{} is not known here: write one of {}", cut(written), listed(message).join(", "))
                }
                fix => format!("{} is not known here: {fix}", cut(written)),
            };
        }
        let what = match get(&self.table, at).map(|value| value.type_str()) {
            _ if message.starts_with("invalid value: ") => format!("{} is out of range", cut(written)),
            Some("table" | "inline table") => "a table does not fit here".to_string(),
            Some("array") => "a list does not fit here".to_string(),
            Some(kind) if message.starts_with("invalid type: ") => {
                format!("{} is {} {kind}", cut(written), if kind.starts_with('i') { "an" } else { "a" })
            }
            _ => return printable(message),
        };
        format!("{what}: {}", fix::of(at))
    }
}

/// The value at a path.
fn get<'t, 'i>(table: &'t DeTable<'i>, path: &[Step]) -> Option<&'t DeValue<'i>> {
    let (first, rest) = path.split_first()?;
    let Step::Key(key) = first else { return None };
    let mut value = table.get(key.as_str())?.get_ref();
    for step in rest {
        value = match step {
            Step::Key(key) => value.as_table()?.get(key.as_str())?.get_ref(),
            Step::Index(index) => value.as_array()?.get(*index)?.get_ref(),
        };
    }
    Some(value)
}

/// Where the value at a path is written; the start of the file for the empty path.
fn span_of(table: &DeTable<'_>, path: &[Step]) -> Option<Range<usize>> {
    let Some((last, parents)) = path.split_last() else { return Some(0..0) };
    let parent =
        if parents.is_empty() { Some(table) } else { get(table, parents).and_then(|v| v.as_table()) };
    match last {
        Step::Key(key) => Some(parent?.get(key.as_str())?.span()),
        Step::Index(index) => Some(get(table, parents)?.as_array()?.get(*index)?.span()),
    }
}

/// The path of the innermost key or value at a span; empty if there is none.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Vec<Step> {
    fn in_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
        table.iter().any(|(key, value)| {
            path.push(Step::Key(key.get_ref().to_string()));
            let found = in_value(value.get_ref(), span, path) || key.span() == *span || value.span() == *span;
            found || path.pop().is_none()
        })
    }
    fn in_value(value: &DeValue<'_>, span: &Range<usize>, path: &mut Vec<Step>) -> bool {
        match value {
            DeValue::Table(table) => in_table(table, span, path),
            DeValue::Array(array) => array.iter().enumerate().any(|(index, value)| {
                path.push(Step::Index(index));
                let found = in_value(value.get_ref(), span, path) || value.span() == *span;
                found || path.pop().is_none()
            }),
            _ => false,
        }
    }
    let mut path = Vec::new();
    in_table(table, span, &mut path);
    path
}

/// Takes a key out of its table.
fn remove(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    match path {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => {
            table.get_mut(key.as_str()).is_some_and(|value| remove_from(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn remove_from(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(table), _) => remove(table, path),
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => {
            array.get_mut(*index).is_some_and(|value| remove_from(value.get_mut(), rest))
        }
        _ => false,
    }
}

/// The text between `start` and the next backtick.
fn between<'m>(message: &'m str, start: &str) -> Option<&'m str> {
    message.strip_prefix(start)?.split('`').next()
}

/// The names in backticks after "expected".
fn listed(message: &str) -> Vec<&str> {
    let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    expected.split('`').skip(1).step_by(2).collect()
}

/// A path as users write it.
fn show(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                let is_bare = !key.is_empty() && key.len() <= LONGEST_QUOTE && key.chars().all(bare);
                text.push_str(&if is_bare { key.clone() } else { quoted(key) });
            }
        }
    }
    text
}
