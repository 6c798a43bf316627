//! `bootrace clean`: removes what runs left behind that were killed.

use anyhow::Context;

use super::{Failure, print};
use crate::{
    image::Cache,
    runner::{self, Lock},
    target::{docker, libvirt, native},
    tune,
};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Also what belongs to runs that still go on.
    #[arg(long)]
    pub all: bool,
}

/// Finds containers by label, domains by metadata, cgroups, processes and files by name, and removes them;
/// puts back the settings that a tuned run left.
/// An engine that is not there can have nothing left: it is said, and is no error.
///
/// # Errors
/// When something was found and could not be removed.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    runtime.block_on(clean(options.all)).map_err(Failure::Run)
}

async fn clean(all: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "what a run leaves belongs to root, and an ordinary user can't even see all of it: run bootrace clean with sudo"
    );
    let cache = Cache::open(None)?;
    let keep = move |name: &str| !all && Lock::is_held_for(name);
    let found = [
        docker::clean(keep).await,
        libvirt::clean(keep).await,
        libvirt::clean_logs(keep),
        native::clean(keep),
        runner::clean(&cache.instances_dir(), keep),
    ];
    let (mut removed, mut failed) = (Vec::new(), false);
    for result in found {
        match result {
            Ok(names) => removed.extend(names),
            Err(e) if e.absent => anstream::eprintln!("not looked at, since nothing answers there: {e}"),
            Err(e) => {
                failed = true;
                anstream::eprintln!("{e}");
            }
        }
    }
    let settings = tune::clean().unwrap_or_else(|e| {
        failed = true;
        anstream::eprintln!("{e}");
        Vec::new()
    });
    for line in &settings {
        print(&format!("{line}\n"))?;
    }
    for name in &removed {
        print(&format!("removed {name}\n"))?;
    }
    if removed.is_empty() && settings.is_empty() && !failed {
        print("nothing was left behind\n")?;
    }
    anyhow::ensure!(!failed, "not everything could be removed");
    Ok(())
}
