//! The command line: one file per subcommand. It calls the other modules and shows their results.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand, builder::Styles};

use crate::{
    metric::{self, Metric},
    report::clean_lines,
    scenario,
};

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
mod prepare;
mod progress;
pub mod report;
pub mod run;
mod side;
mod signals;
mod source;
mod sudo_user;

use exit::Exit;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HEADING: Style = Style::new().bold();

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
            Command::Completions(options) => completions::run(&options),
        }
    }
}

/// An end of the program with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A run failed.
    #[error("{0:#}")]
    Run(anyhow::Error),
    /// Not every target can run; standard output has the reasons.
    #[error("not every target can run")]
    Unfit,
    /// Usage or scenario error.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// NEW has regressed, or a claim is refuted.
    #[error("{0}")]
    Refuted(String),
    /// A verdict is inconclusive or a claim undecided, and `--fail-on` counts that as a failure.
    #[error("{0}")]
    Undecided(String),
    /// Ended by Ctrl-C or SIGTERM; all samples so far are kept.
    #[error("interrupted; the samples taken are kept in {}", .dir.display())]
    Interrupted { signal: u8, dir: std::path::PathBuf },
    /// A side of an A/B that the coordinator ended. The coordinator reports it, so the side prints nothing.
    #[error("interrupted")]
    SideStopped { signal: u8 },
    /// Ended before the first sample.
    #[error("interrupted before anything was measured")]
    Stopped { signal: u8 },
}

impl Failure {
    /// The exit that it leads to.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Run(_) | Failure::Unfit => Exit::Failed,
            Failure::Usage(_) => Exit::Usage,
            Failure::Refuted(_) => Exit::Refuted,
            Failure::Undecided(_) => Exit::Undecided,
            Failure::Interrupted { signal, .. }
            | Failure::SideStopped { signal }
            | Failure::Stopped { signal } => Exit::Signal(*signal),
        }
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        self.exit().code()
    }

    /// Writes the error to standard error, with its causes below it.
    pub fn print(&self) {
        let error = match self {
            Failure::Run(error) | Failure::Usage(error) => error,
            Failure::Unfit | Failure::SideStopped { .. } => return,
            _ => return print_error(&[self.to_string()]),
        };
        match error.downcast_ref::<scenario::Error>() {
            Some(scenario::Error::Invalid(problems)) => {
                problems.iter().for_each(|problem| print_error(&[problem.to_string()]));
            }
            _ => print_error(&error.chain().map(ToString::to_string).collect::<Vec<_>>()),
        }
    }
}

/// The longest message that is shown, in characters.
const LONGEST_MESSAGE: usize = 8192;

/// Writes an error and its causes, outermost first.
fn print_error(chain: &[String]) {
    let mut text = String::new();
    for (depth, message) in chain.iter().enumerate() {
        // Many errors already end with their cause's text.
        if depth > 0 && chain[depth - 1].ends_with(message.as_str()) {
            continue;
        }
        let title = if depth == 0 { "error" } else { "  because" };
        // The message may contain text of a guest or an engine: remove terminal control codes.
        let message = clean_lines(message, LONGEST_MESSAGE).replace('\n', "\n    ");
        text.push_str(&format!("{BAD}{title}:{BAD:#} {message}\n"));
    }
    // If standard error is closed, there is nowhere to report it.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Parses an option's metric of single instances.
fn metric(name: &str) -> Result<Metric, String> {
    let metric = Metric::from_name(name).filter(|metric| !metric.is_of_density());
    metric.ok_or_else(|| metric::unknown(name, Metric::of_instances()))
}

/// Writes a warning to standard error.
fn warn(message: &str) {
    let message = clean_lines(message, LONGEST_MESSAGE).replace('\n', "\n    ");
    // If standard error is closed, there is nowhere to report it.
    let _ = anstream::stderr().write_all(format!("{WARNING}warning:{WARNING:#} {message}\n").as_bytes());
}

/// Writes to standard output, with colours on a terminal. A closed pipe (`| head`) is no error.
///
/// # Errors
/// [`Failure::Run`] when writing fails otherwise.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::Error::new(e).context("writing to standard output")))
        }
        _ => Ok(()),
    }
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
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
}
