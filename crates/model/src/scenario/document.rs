//! A TOML text with its positions: reads a [`Scenario`] from it, and reports problems with line and column.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{
    Problem, Scenario,
    deserialize::{self, Fault},
    fix,
    path::{Step, at, show},
};
use crate::foreign::{cut, did_you_mean, printable};

/// Most problems to report of one file: more would hide the first ones.
const MOST_PROBLEMS: usize = 20;

/// A parsed file: values with their positions.
pub(super) struct Document<'a> {
    origin: &'a str,
    text: &'a str,
    /// As written, without what is left out.
    table: DeTable<'a>,
    problems: Vec<Problem>,
    /// Paths of unusable values, removed so that the rest can still be checked.
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
        loop {
            let deserialize::Error { fault, mut path, span } = match deserialize::read(&self.table) {
                Ok(scenario) => return Some(scenario),
                Err(error) => error,
            };
            let missing = matches!(fault, Fault::MissingKey);
            // A value that was left out may be missing now; its problem is noted already.
            if !self.left_out.iter().any(|left| left.starts_with(&path)) {
                let text = self.explain(fault, &path, &span);
                self.report(span, &path, text);
            }
            if missing {
                return None;
            }
            // Leaving out an element would renumber its list: the whole list goes.
            while matches!(path.last(), Some(Step::Index(_))) {
                path.pop();
            }
            if self.problems.len() >= MOST_PROBLEMS || !remove(&mut self.table, &path) {
                return None;
            }
            self.left_out.push(path);
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
        get(&self.table, path).is_some() || self.left_out.iter().any(|left| left == path)
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

    /// The fault of the value or key at a path, in a scenario author's words.
    fn explain(&self, fault: Fault, path: &[Step], span: &Range<usize>) -> String {
        let written = cut(self.text.get(span.clone()).unwrap_or_default());
        let what = match fault {
            Fault::UnknownKey { key, known } => {
                return match fix::renamed(&key, known) {
                    Some(new) => format!("this key is called {new} now"),
                    None => {
                        let near = did_you_mean(&key, known);
                        format!("unknown key{near}: expected one of {}", known.join(", "))
                    }
                };
            }
            Fault::UnknownValue { value, known } => match fix::renamed(&value, known) {
                Some(new) => return format!("{written} is called {new:?} now"),
                None => format!("{written} is not known here"),
            },
            Fault::MissingKey => "this key is missing".to_string(),
            Fault::OutOfRange => format!("{written} is out of range"),
            Fault::WrongType => match get(&self.table, path) {
                Some(DeValue::Table(_)) if *path == *at!["workload", "ready"] => {
                    "this is not exactly one condition".to_string()
                }
                Some(DeValue::Table(_)) => "a table does not fit here".to_string(),
                Some(DeValue::Array(_)) => "a list does not fit here".to_string(),
                Some(DeValue::Integer(_)) => format!("{written} is an integer"),
                other => format!("{written} is a {}", other.map_or("value", DeValue::type_str)),
            },
            Fault::Refused(text) => return printable(&text),
        };
        format!("{what}: {}", fix::of(path))
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
