//! The command line: one file per subcommand. It calls the other modules and shows their results.

use anstyle::AnsiColor;
use clap::{CommandFactory, Parser, Subcommand, builder::Styles};

use crate::metric::{self, Metric};

pub mod ab;
mod build;
pub mod calibrate;
pub mod check;
pub mod claims;
pub mod clean;
pub mod compare;
pub mod completions;
mod density;
pub mod doctor;
pub mod exit;
pub mod export;
mod git;
pub mod history;
pub mod image;
pub mod list;
pub mod options;
mod output;
mod prepare;
mod progress;
pub mod report;
mod resume;
pub mod run;
pub(crate) mod side;
mod signals;
pub(crate) mod source;
mod subject;
mod sudo_user;

use output::written;
use output::{BAD, GOOD, HEADING, WARNING, say, warn};
pub use output::{Failure, answer, print};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const ABOUT: &str = "\
Run one workload from one root file system as a process, in containers and in VMs,
and report the difference with confidence intervals.";

const AFTER_HELP: &str = "\
Examples:
  bootrace run                                    the quickstart scenario on every target
  bootrace run redis --targets native,docker      a shipped scenario, without the VM
  bootrace run ./my.toml --samples 40 --seed 7    a scenario of your own
  bootrace ab --base old.toml --new new.toml      two sides, interleaved on this host
  bootrace check ./my.toml                        validate a scenario offline
  bootrace list                                   scenarios, and the targets that can run here
  bootrace export reports/latest --format csv     every sample, for other programs; other formats too
  bootrace calibrate                              reference workloads: the error of the figures here
  bootrace compare BASE NEW                       two runs; exit code 3 if NEW has regressed
  bootrace doctor                                 what a run needs here, with fixes
  bootrace history reports                        the trend over all runs, and its change points

A run writes reports/RUN/index.html, results.json, summary.md and charts;
reports/latest is the newest.

Environment:
  NO_COLOR        no colours, as when the output is no terminal
  RUST_LOG        what is logged to standard error, as in bootrace=debug
  BOOTRACE_CACHE  where images are kept, else /var/cache/bootrace
  BOOTRACE_STATE  where this host's noise floor is kept, else /var/lib/bootrace";

const RUN_EXAMPLES: &str = "\
Examples:
  bootrace run                                    the quickstart scenario on every target
  bootrace run redis nginx --samples 40           two shipped scenarios, one after the other
  bootrace run ./my.toml --targets native,docker  a scenario of your own, without the VM
  bootrace run --seed 7 --json > results.json     in the order of seed 7, for programs
  bootrace run density --targets docker           how many fit at once, and the cost of one more
  bootrace run bench/startup.toml --build         what your clone builds, by the scenario's [build]
  bootrace run --resume reports/latest            the rest of a run that was killed or interrupted
  bootrace run --tune                             set governor, turbo, KSM and caches; restore them
  bootrace run ./my.toml --fail-on undecided      exit with 4 if a claim is undecided";

const CHECK_EXAMPLES: &str = "\
Examples:
  bootrace check ./my.toml
  bootrace check scenarios/*.toml && echo valid

Reads the files alone. Each error has its file, line, column, key and a fix. The run itself checks that this
host has the CPUs, runtimes, networks and CPU models that a scenario names.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "bootrace", version, about = ABOUT, styles = STYLES, after_help = exit::help(AFTER_HELP))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Say more on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios on their targets; write results and a report.
    #[command(after_help = exit::help(RUN_EXAMPLES))]
    Run(run::Options),
    /// Compare two sides on this host, interleaved: the present state and its replacement.
    #[command(after_help = exit::help(ab::EXAMPLES))]
    Ab(ab::Options),
    /// Regenerate a run's report from its results.json.
    Report(report::Options),
    /// Compare two runs; exit with 3 if the new one has regressed.
    #[command(after_help = exit::help(compare::EXAMPLES))]
    Compare(compare::Options),
    /// Export a run for other programs.
    #[command(after_help = exit::help(export::EXAMPLES))]
    Export(export::Options),
    /// Show the trend over many runs, and its change points.
    #[command(after_help = exit::help(history::EXAMPLES))]
    History(history::Options),
    /// Validate scenarios offline; each error has its line and a fix.
    #[command(after_help = exit::help(CHECK_EXAMPLES))]
    Check(check::Options),
    /// Run reference workloads and report the error of the figures on this host.
    #[command(after_help = exit::help(calibrate::EXAMPLES))]
    Calibrate(calibrate::Options),
    /// Check what a run needs on this host; each failure has its fix.
    #[command(after_help = exit::help(doctor::AFTER_HELP))]
    Doctor(doctor::Options),
    /// List scenarios, and the targets that can run on this host.
    List(list::Options),
    /// Build, list and prune images.
    Image(image::Options),
    /// Remove the left-overs of runs that ended badly, and restore the settings that they tuned.
    Clean(clean::Options),
    /// Print a completion script for a shell.
    #[command(after_help = completions::AFTER_HELP)]
    Completions(completions::Options),
}

impl Command {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// With the [`Failure`] that decides the exit code.
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Command::Run(options) => run::verdict(&run::run(&options)?, options.fail_on),
            Command::Ab(options) => ab::run(&options),
            Command::Report(options) => report::run(&options),
            Command::Compare(options) => compare::run(&options),
            Command::Export(options) => export::run(&options),
            Command::History(options) => history::run(&options),
            Command::Check(options) => check::run(&options),
            Command::Calibrate(options) => calibrate::run(&options),
            Command::Doctor(options) => doctor::run(&options),
            Command::List(options) => list::run(&options),
            Command::Image(options) => image::run(&options),
            Command::Clean(options) => clean::run(&options),
            Command::Completions(options) => completions::run(&options, Cli::command()),
        }
    }
}

/// Parses an option's metric of single instances.
pub(crate) fn metric(name: &str) -> Result<Metric, String> {
    let metric = Metric::from_name(name).filter(|metric| !metric.is_of_density());
    metric.ok_or_else(|| metric::unknown(name, Metric::of_instances()))
}

/// Sends the log to standard error: warnings, or the levels of RUST_LOG or `-v`.
pub fn log(verbose: u8) {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;

    let default = match verbose {
        0 => "warn",
        1 => "bootrace=info,warn",
        _ => "bootrace=trace,debug",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(_) if verbose == 0 => EnvFilter::from_default_env(),
        _ => EnvFilter::new(default),
    };
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // They are errors of standard error, and it would report them there, or panic.
        .log_internal_errors(false)
        .init();
}
