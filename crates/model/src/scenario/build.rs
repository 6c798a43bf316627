//! `[build]`: the command that builds the program under test, in a checkout of the user's project.

use serde::{Deserialize, Serialize};

/// How `bootrace ab` builds a git revision, and `bootrace run --build` the user's clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Program and arguments, run in the top folder of the checkout; never passed to a shell.
    pub command: Vec<String>,
    /// A bootrace executable that the command makes, relative to that folder; it then measures the revision. None:
    /// this bootrace measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// A folder to keep for the next build of the same clone, relative to the top folder: a compiler's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}
