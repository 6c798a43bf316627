//! The path of a value or key in a scenario file, as in `target[1].name`.

use crate::foreign::{LONGEST_QUOTE, quoted};

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
    ($($step:expr),* $(,)?) => { &[$($crate::scenario::path::Step::from($step)),*] };
}
pub(super) use at;

/// A path as users write it.
pub(super) fn show(path: &[Step]) -> String {
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
