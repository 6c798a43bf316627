//! The sources that a run measured, and its side in an A/B.

use serde::{Deserialize, Serialize};

/// The state of the sources that a run measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    /// Commit id: lower-case hex, 7 to 64 digits.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-f]{7,64}$")))]
    pub commit: String,
    /// The branch that was checked out; null on a detached head and where unknown.
    pub branch: Option<String>,
    /// Where the repository can be read: http or https, without credentials; `URL/commit/COMMIT` is the commit's page.
    pub url: Option<String>,
    /// Whether tracked files differ from the commit; null where unknown.
    pub dirty: Option<bool>,
}

/// A run's side in an A/B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ab {
    /// `ab-<UTC time>-<seed>`, the same on both sides.
    pub id: String,
    /// The side that this run measured.
    pub side: Side,
}

/// A side of an A/B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The present version.
    Base,
    /// The candidate that may replace it.
    New,
}

impl Side {
    /// The opposite side.
    pub fn other(self) -> Side {
        match self {
            Side::Base => Side::New,
            Side::New => Side::Base,
        }
    }

    /// `base` or `new`, as in results and directory names.
    pub fn name(self) -> &'static str {
        match self {
            Side::Base => "base",
            Side::New => "new",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
