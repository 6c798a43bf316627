//! `bootrace history`: the trend of figures over many runs, and its change points.

use std::path::PathBuf;

use anyhow::anyhow;

use super::{Failure, WARNING, print, say};
use crate::{
    analysis::Metric,
    report::history::{self, Shown, Wanted},
    report::parallel,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  bootrace history reports                            start-up of every target, in the terminal
  bootrace history reports --out trend                trend/index.html, history.json and charts
  bootrace history main/ release/ --metric startup --metric memory.footprint
  bootrace history ci-runs --any-host-name --target docker --json

Takes every results.json below the directories, in the order in which the runs were started; links such
as `latest` are not followed. Sides of A/Bs are counted and left out, unless --with-ab is given. Each
scenario, target, accelerator and host is a series of its own: a trend between hosts is no change. A change
is a step that a permutation test finds with p < 0.01. The test is seeded: the same runs give the same answer.

A run knows its commit from --commit, CI's variables (GITHUB_SHA, CI_COMMIT_SHA; of a pull or merge request, its
head) or git.";

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directories that contain runs, at any depth.
    #[arg(value_name = "DIR", required = true)]
    pub dirs: Vec<PathBuf>,
    /// Show this metric; repeatable.
    #[arg(long = "metric", value_name = "M", default_value = "startup", value_parser = super::metric)]
    pub metrics: Vec<Metric>,
    /// Show only this target; repeatable.
    #[arg(long = "target", value_name = "T")]
    pub targets: Vec<String>,
    /// Show only this scenario; repeatable.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<String>,
    /// Identify hosts only by processor and number of CPUs, for CI with changing host names.
    #[arg(long)]
    pub any_host_name: bool,
    /// Include the sides of A/Bs; by default they are only counted.
    #[arg(long)]
    pub with_ab: bool,
    /// Write index.html, history.json and charts into this directory.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print history.json instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 if a file is unreadable.
    #[arg(long)]
    pub strict: bool,
    /// Seed of the permutation tests.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Read files with this many threads [default: one for each CPU].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
}

/// Shows the history of all runs below the directories.
///
/// # Errors
/// [`Failure::Usage`] when there is no run; with `strict`, [`Failure::Run`] when a file is unreadable, after the output.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut metrics = options.metrics.clone();
    metrics.sort_unstable();
    metrics.dedup();
    let wanted = Wanted {
        metrics,
        targets: options.targets.clone(),
        scenarios: options.scenarios.clone(),
        any_host_name: options.any_host_name,
        with_ab: options.with_ab,
        seed: options.seed,
        threads: options.threads.map_or_else(parallel::threads, usize::from),
    };
    let shown = history::gather(&options.dirs, &wanted).map_err(|dir| {
        Failure::Usage(anyhow!(
            "reading the runs below {}: {}\nfix: give a directory that contains runs, at any depth",
            dir.path.display(),
            dir.why
        ))
    })?;
    require_series(&shown, options)?;
    if let Some(out) = &options.out {
        history::write(&shown, out).map_err(|e| Failure::Run(e.into()))?;
    }
    if options.json {
        print(
            &history::json(&shown)
                .map_err(|e| Failure::Run(anyhow!(e).context("writing the history as JSON")))?,
        )?;
        warn(&shown);
    } else {
        print(&history::table(&shown))?;
        warn(&shown);
        if let Some(out) = &options.out {
            print(&format!("report: {}\n", out.join("index.html").display()))?;
        }
    }
    match shown.left_out.len() {
        n if options.strict && n > 0 => {
            Err(Failure::Run(anyhow!("{n} of the files could not be read, which --strict makes an error")))
        }
        _ => Ok(()),
    }
}

fn require_series(shown: &Shown, options: &Options) -> Result<(), Failure> {
    if !shown.history.series.is_empty() {
        return Ok(());
    }
    warn(shown);
    let dirs: Vec<String> = options.dirs.iter().map(|dir| dir.display().to_string()).collect();
    let runs = shown.history.runs.len() + shown.others;
    if runs == 0 {
        let fix = match shown.of_an_ab {
            0 => "`bootrace run`, which writes runs to reports".into(),
            n => format!("--with-ab includes the sides of A/Bs ({n} left out)"),
        };
        return Err(Failure::Usage(anyhow!("there is no run below {}\nfix: {fix}", dirs.join(", "))));
    }
    let known: Vec<&str> = shown.known.iter().take(20).map(String::as_str).collect();
    Err(Failure::Usage(anyhow!(
        "none of the {runs} runs below {} has a good sample of the chosen scenarios, targets and metrics\nfix: choose from {}",
        dirs.join(", "),
        known.join(", ")
    )))
}

/// Lists left-out files on standard error.
fn warn(shown: &Shown) {
    let lines = history::left_out(shown);
    let Some((first, rest)) = lines.split_first() else { return };
    let mut text = format!("{WARNING}warning:{WARNING:#} {first}\n");
    rest.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    say(text.trim_end());
}
