//! Why an image could not be had.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why an image could not be had, and what can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scenario asks for what can't be.
    #[error("[image] {0}")]
    Scenario(String),
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// A spawned program failed; `output` is the end of what it said.
    #[error("`{command}` {outcome}: {output}")]
    Tool { command: String, outcome: String, output: String },
    #[error("{program} is not installed: install the package {package}, or run scripts/setup")]
    MissingTool { program: &'static str, package: &'static str },
    #[error(
        "making an image keeps the owners of its files, which takes root: run it once with sudo, with the same \
         BOOTRACE_CACHE"
    )]
    NotRoot,
    #[error("Docker would not {tried}: {why}")]
    Docker { tried: String, why: String },
    /// A source of root file systems did not give what was asked for.
    #[error("{asked} can't be had: {why}")]
    Source { asked: String, why: String },
    #[error("a VM needs a kernel from its image, and {image} has none that fits: {why}")]
    NoKernel { image: String, why: String },
    /// The root file system is not as it should be.
    #[error("the root file system of {image}: {why}")]
    Tree { image: String, why: String },
    #[error("the cache directory {}: {why}", dir.display())]
    Cache { dir: PathBuf, why: String },
    #[error("interrupted: nothing half-made is kept")]
    Interrupted,
}

impl Error {
    /// For `map_err`: what was being done to which file.
    pub(super) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { doing, path: path.as_ref().into(), source }
    }

    /// True when another source may do where this one failed.
    pub(super) fn is_about_the_source(&self) -> bool {
        matches!(self, Error::Source { .. })
    }
}

/// Foreign text made fit for a terminal: control characters escaped, at most `max` bytes, its end
/// kept, since that is where programs say why they failed.
pub(super) fn tame(text: &str, max: usize) -> String {
    let text = text.trim();
    let start = text.ceil_char_boundary(text.len().saturating_sub(max));
    let mut tame = String::from(if start > 0 { "..." } else { "" });
    for c in text[start..].chars() {
        match c {
            '\n' => tame.push_str(" | "),
            c if c.is_control() => tame.extend(c.escape_default()),
            c => tame.push(c),
        }
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_bounded_and_cannot_move_the_cursor() {
        assert_eq!(tame("\u{1b}[2Jno\nroom\n", 100), "\\u{1b}[2Jno | room");
        assert_eq!(tame("abcdef", 3), "...def");
        assert_eq!(tame("aé", 1), "...");
    }
}
