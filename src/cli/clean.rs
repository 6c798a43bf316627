//! TODO
use super::Failure;
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Also what is cached.
    #[arg(long)]
    pub all: bool,
}
pub fn run(_options: &Options) -> Result<(), Failure> {
    Err(Failure::Run(anyhow::anyhow!("not written yet")))
}
