//! Why there is no usable scenario.

use std::path::PathBuf;

use super::Problem;

/// Why there is no usable scenario.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file breaks rules: its problems, in the order of their lines, never empty.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    /// The file can't be read or is no text.
    #[error("reading the scenario {}: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause, and the fix where there is one.
        why: String,
    },
    /// No scenario has this name.
    #[error(
        "there is no scenario {name}{nearest}: expected one of {known}, or the path of a file, as in ./my.toml"
    )]
    Unknown {
        /// The name, quoted.
        name: String,
        /// ` (did you mean NAME?)`, or empty.
        nearest: String,
        /// Every name, separated by commas.
        known: String,
    },
    /// The scenario has no target of this name.
    #[error("scenario {scenario} has no target {target}{nearest}: its targets are {known}")]
    UnknownTarget {
        /// The scenario's name.
        scenario: String,
        /// The name that no target has, quoted.
        target: String,
        /// ` (did you mean NAME?)`, or empty.
        nearest: String,
        /// The names of the scenario's targets, separated by commas.
        known: String,
    },
    /// The scenario asks for a warm page cache, but has no warm-up rounds.
    #[error(
        "scenario {scenario} has page_cache = \"warm\", but no warm-up round fills the page cache: take at least one, or remove page_cache from its [sampling]"
    )]
    NeverWarm {
        /// The scenario's name.
        scenario: String,
    },
    /// The scenario has neither rounds nor a density run left.
    #[error(
        "scenario {scenario} has nothing to measure: it has no rounds (samples = 0), and no [density] with a selected target"
    )]
    NothingToDo {
        /// The scenario's name.
        scenario: String,
    },
}
