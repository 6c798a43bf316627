//! Failures of this crate.

use std::path::PathBuf;

/// A failure to write a report or to read results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("writing {}: {why}", .path.display())]
    Write {
        /// File to write.
        path: PathBuf,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// A chart could not be drawn.
    #[error("drawing the chart {chart}: {why}")]
    Chart {
        /// Name of the chart.
        chart: &'static str,
        /// Error of the drawing library.
        why: String,
    },
    /// A file could not be read.
    #[error("reading {}: {why}", .path.display())]
    Read {
        /// File to read.
        path: PathBuf,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// A file is not valid JSON of its schema.
    #[error(
        "{} is damaged or no file of bootrace: {why}; fix: copy it from the run again",
        .path.display()
    )]
    Damaged {
        /// File that was read.
        path: PathBuf,
        /// The first error in it.
        why: String,
    },
    /// A file has the schema of another version.
    #[error(
        "{} has the schema {found:?}, this version reads {reads:?}; fix: use the bootrace that wrote it",
        .path.display()
    )]
    Foreign {
        /// File that was read.
        path: PathBuf,
        /// Its schema, at most 80 characters.
        found: String,
        /// The schema that this version reads.
        reads: &'static str,
    },
}
