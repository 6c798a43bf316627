//! `bootrace clean`: removes what runs left behind that were killed.

use std::time::Duration;

use anyhow::Context;

use super::{Failure, print};
use crate::{
    image::Cache,
    runner::left_over::{self, Owner, Unseen},
    target::LeftOver,
    tune,
};

/// An engine may still be making what a killed run has asked it for; where something was found, it is looked again after
/// this.
const AFTERMATH: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Remove also what belongs to running runs.
    #[arg(long)]
    pub all: bool,
    /// Print what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
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
    let done = runtime.block_on(clean(options)).map_err(Failure::Run);
    // Without waiting for a call into an engine that hangs.
    runtime.shutdown_background();
    done
}

async fn clean(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "what a run leaves belongs to root, and an ordinary user can't even see all of it: run bootrace clean with sudo"
    );
    let cache = Cache::open(None)?;
    let whose = if options.all { Owner::Everyones } else { Owner::Ended };
    let found = left_over::find(&cache.instances_dir(), &whose).await;
    let mut failed = false;
    for Unseen { error, .. } in &found.unseen {
        if error.is_unreachable() {
            anstream::eprintln!("not looked at, since nothing answers there: {error}");
        } else {
            failed = true;
            anstream::eprintln!("{error}");
        }
    }
    let unfinished = if options.dry_run { cache.abandoned() } else { cache.sweep() };
    let unfinished = unfinished.unwrap_or_else(|e| {
        failed = true;
        anstream::eprintln!("{e}");
        Vec::new()
    });
    for build in &unfinished {
        print(&format!("{} {build}\n", if options.dry_run { "would remove" } else { "removed" }))?;
    }
    if options.dry_run {
        for thing in &found.things {
            print(&format!("would remove {thing}\n"))?;
        }
    } else if !found.things.is_empty() {
        failed |= !removed(&found.things).await?;
        tokio::time::sleep(AFTERMATH).await;
        let late = left_over::find(&cache.instances_dir(), &whose).await;
        failed |= !removed(&late.things).await?;
    }
    let settings = match options.dry_run {
        true => tune::left().into_iter().map(|setting| format!("would put back {setting}")).collect(),
        false => tune::clean().unwrap_or_else(|e| {
            failed = true;
            anstream::eprintln!("{e}");
            Vec::new()
        }),
    };
    for line in &settings {
        print(&format!("{line}\n"))?;
    }
    if found.things.is_empty() && unfinished.is_empty() && settings.is_empty() && !failed {
        let all = found.unseen.is_empty();
        print(if all {
            "nothing was left behind\n"
        } else {
            "nothing was found where it could be looked\n"
        })?;
    }
    anyhow::ensure!(
        !failed,
        "not everything could be {}",
        if options.dry_run { "looked at" } else { "removed" }
    );
    Ok(())
}

/// Removes all that can be; false where something could not, which is said.
async fn removed(things: &[LeftOver]) -> anyhow::Result<bool> {
    let mut all = true;
    for thing in things {
        match left_over::remove(thing).await {
            Ok(()) => print(&format!("removed {thing}\n"))?,
            Err(error) => {
                all = false;
                anstream::eprintln!("{error}");
            }
        }
    }
    Ok(all)
}
