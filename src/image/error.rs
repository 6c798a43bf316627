//! Errors of building an image.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why an image is not available, with the fix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scenario's `[image]` is wrong.
    #[error("[image] {0}")]
    Scenario(String),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// A spawned program failed. `output` is the end of its output, `code` its exit code if it has one.
    #[error("`{command}` {outcome}: {output}")]
    Tool { command: String, outcome: String, output: String, code: Option<i32> },
    #[error("{program} is not installed: install the package {package}, or run scripts/setup")]
    MissingTool { program: &'static str, package: &'static str },
    #[error("making an image keeps the owners of its files, which takes root: run it with sudo")]
    NotRoot,
    #[error("{engine} would not {tried}: {why}")]
    Engine { engine: &'static str, tried: String, why: String },
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// A source of root file systems can't be reached, lacks the requested content, or can't be trusted.
    #[error("{asked} is not available: {why}")]
    Source { asked: String, why: String, origin: ErrorOrigin },
    #[error("a VM needs a kernel from its image, and {image} has none that fits: {why}")]
    NoKernel { image: String, why: String },
    /// A target boots the image's whole system, and the image has none.
    #[error(
        "a target with boot = \"systemd\" or \"firmware\", or init = \"systemd\", starts the whole system of its image, and {image} has none that starts: {why}"
    )]
    NoSystem { image: String, why: String },
    /// The root file system is unusable.
    #[error("the root file system of {image}: {why}")]
    Tree { image: String, why: String },
    /// A disk image is unusable.
    #[error("{image} can't be used: {why}")]
    Disk { image: String, why: String },
    #[error("the cache directory {}: {why}", dir.display())]
    Cache { dir: PathBuf, why: String },
    #[error("interrupted: no unfinished image is kept")]
    Interrupted,
    /// A signal interrupted the build.
    #[error("interrupted: no unfinished image is kept")]
    Signalled { signal: u8 },
}

impl Error {
    /// For `map_err`: an error with the action and the file.
    pub(super) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { doing, path: path.as_ref().into(), source }
    }

    /// How the failure of a source was found, if another source may work; else `None`.
    pub(super) fn about_the_source(&self) -> Option<ErrorOrigin> {
        match self {
            Error::Source { origin, .. } => Some(*origin),
            _ => None,
        }
    }
}

/// The refusal of an engine: the action, and the reason with the fix.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{tried}: {why}; fix: {hint}")]
pub struct Refusal {
    pub tried: String,
    pub why: String,
    pub hint: String,
}

/// How bootrace found that a source is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOrigin {
    /// On this host: the check is cheap, and the cause may be fixed at any time.
    Here,
    /// By a request to the source, which takes time.
    There,
}
