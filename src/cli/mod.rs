//! The command line: one file per subcommand; knows all, decides little.

pub mod report;
pub mod run;

/// What ends the program with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 1: a run failed.
    #[error("{0:#}")]
    Run(anyhow::Error),
    /// 2: usage or scenario error.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// 3: regressed, or a claim refuted.
    #[error("{0}")]
    Refuted(String),
    /// 4: inconclusive or undecided, where asked for.
    #[error("{0}")]
    Undecided(String),
    /// 128 + signal: ended by Ctrl-C or SIGTERM, everything taken kept.
    #[error("interrupted; the samples taken are kept in {}", .dir.display())]
    Interrupted { signal: u8, dir: std::path::PathBuf },
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Failure::Run(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Refuted(_) => 3,
            Failure::Undecided(_) => 4,
            Failure::Interrupted { signal, .. } => 128 + signal,
        }
    }
}
