//! What a run measured, and its part in an A/B.

use serde::{Deserialize, Serialize};

/// The state of the sources that a run measured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    /// Lower-case hex, 7 to 64 digits.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-f]{7,64}$")))]
    pub commit: String,
    pub branch: Option<String>,
    /// Where the repository can be read: http or https, without credentials; `URL/commit/COMMIT` is the commit's page.
    pub url: Option<String>,
    /// Whether tracked files were changed since the commit; null where nothing tells.
    pub dirty: Option<bool>,
}

/// Which part a run had in which A/B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ab {
    /// `ab-<UTC time>-<seed>`, the same on both sides.
    pub id: String,
    pub side: Side,
}

/// A side of an A/B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What is there already.
    Base,
    /// What may replace it.
    New,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Base => Side::New,
            Side::New => Side::Base,
        }
    }

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
