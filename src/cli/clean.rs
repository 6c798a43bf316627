//! `bootrace clean`: removes the left-overs of killed runs.

use std::time::Duration;

use anyhow::Context;

use super::{Failure, ab::checkout, print, say};
use crate::{
    image::Cache,
    report,
    runner::left_over::{self, Owner, Unseen},
    target::LeftOver,
    tune,
};

/// The longest error that is printed, in characters.
const LONGEST: usize = 1000;
/// The time between the first and the second search: an engine may still be making what a killed run requested.
const RECHECK_DELAY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Remove also the instances of running runs.
    #[arg(long)]
    pub all: bool,
    /// Print what would be removed; remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Finds containers by label, domains by metadata, cgroups, processes and files by name, and removes them; restores
/// the settings that a tuned run left. An absent engine is reported and is no error, since it has no left-overs.
///
/// # Errors
/// [`Failure::Run`] when a left-over can't be found out or removed.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let done = runtime.block_on(clean(options)).map_err(Failure::Run);
    // Without waiting for a blocking call into an engine that hangs.
    runtime.shutdown_background();
    done
}

/// Prints an error, which may have an engine's text.
fn warn(error: impl std::fmt::Display) {
    say(&report::clean(&error.to_string(), LONGEST));
}

async fn clean(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "left-overs belong to root, and another user can't see all of them\nfix: sudo bootrace clean"
    );
    let cache = Cache::open(None)?;
    let owner = if options.all { Owner::Everyones } else { Owner::Ended };
    let found = left_over::find(&cache.instances_dir(), &owner).await;
    let mut failed = false;
    for Unseen { error, .. } in &found.unseen {
        if error.is_unreachable() {
            warn(format_args!("skipped, since the engine does not answer: {error}"));
        } else {
            failed = true;
            warn(error);
        }
    }
    let unfinished = if options.dry_run { cache.abandoned() } else { cache.sweep() };
    let unfinished = unfinished.unwrap_or_else(|e| {
        failed = true;
        warn(&e);
        Vec::new()
    });
    let verb = if options.dry_run { "would remove" } else { "removed" };
    for build in &unfinished {
        print(&format!("{verb} {build}\n"))?;
    }
    let checkouts = checkout::left(&cache);
    for left in &checkouts {
        match if options.dry_run { Ok(()) } else { left.remove() } {
            Ok(()) => print(&format!("{verb} {}\n", report::clean(&left.to_string(), LONGEST)))?,
            Err(error) => {
                failed = true;
                warn(format_args!("{error:#}"));
            }
        }
    }
    if options.dry_run {
        for left_over in &found.left_overs {
            print(&format!("would remove {left_over}\n"))?;
        }
    } else if !found.left_overs.is_empty() {
        failed |= !removed(&found.left_overs).await?;
        tokio::time::sleep(RECHECK_DELAY).await;
        let late = left_over::find(&cache.instances_dir(), &owner).await;
        failed |= !removed(&late.left_overs).await?;
    }
    let settings = match options.dry_run {
        true => tune::left(),
        false => tune::clean().unwrap_or_else(|e| {
            failed = true;
            warn(&e);
            Vec::new()
        }),
    };
    for setting in &settings {
        let line = match (&setting.original, options.dry_run) {
            (Some(original), true) => format!("would restore {} to {original}\n", setting.path.display()),
            (Some(original), false) => format!("restored {} to {original}\n", setting.path.display()),
            (None, true) => format!("would leave {setting}\n"),
            (None, false) => format!("left {setting}\n"),
        };
        print(&line)?;
    }
    let none =
        found.left_overs.is_empty() && unfinished.is_empty() && checkouts.is_empty() && settings.is_empty();
    if none && !failed {
        let all = found.unseen.is_empty();
        print(if all { "no left-overs\n" } else { "no left-overs where a search was possible\n" })?;
    }
    anyhow::ensure!(
        !failed,
        "some left-overs could not be {}; see the messages above",
        if options.dry_run { "searched for" } else { "removed" }
    );
    Ok(())
}

/// Removes left-overs and prints each. Returns false when any removal fails, after printing its error.
async fn removed(left_overs: &[LeftOver]) -> anyhow::Result<bool> {
    let mut all = true;
    for left_over in left_overs {
        match left_over::remove(left_over).await {
            Ok(()) => print(&format!("removed {left_over}\n"))?,
            Err(error) => {
                all = false;
                warn(error);
            }
        }
    }
    Ok(all)
}
