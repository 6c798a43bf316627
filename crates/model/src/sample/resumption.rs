//! What lets an interrupted run go on, and the record that it did.

use serde::{Deserialize, Serialize};

/// The file that a scenario was read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ScenarioFile {
    /// Its absolute path on the host.
    pub path: String,
    /// sha256 of the scenario as in the file, without options of the command line, every default filled in: comments
    /// don't count.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-f]{64}$")))]
    pub digest: String,
}

/// One time that `bootrace run --resume` went on with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Resumption {
    /// RFC 3339, UTC.
    #[cfg_attr(test, schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$")))]
    pub at: String,
    /// Number of samples that the run had by then, warm-up included.
    pub samples: u32,
    /// Time from the last of them until `at` by the host's wall clock, in whole seconds: in none of the run's times.
    pub pause_ns: u64,
}
