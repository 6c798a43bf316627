//! The command line: one file per subcommand; knows all, decides little.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use clap::{Parser, Subcommand, builder::Styles};

use crate::{
    metric::Metric,
    {
        metric,
        {report::clean_lines, scenario},
    },
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
pub mod export;
mod git;
pub mod history;
pub mod image;
pub mod list;
mod paced;
mod prepare;
mod progress;
pub mod report;
pub mod run;
mod signals;
mod source;
mod sudo_user;

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
What does it cost to run the same thing in a container and in a virtual machine?
Runs the same workload from the same root file system as a bare process, as a Docker
container and as a libvirt VM, and compares their start-up, memory and CPU.";

const AFTER_HELP: &str = "\
Examples:
  bootrace run                                    the quickstart scenario on every target
  bootrace run redis --targets native,docker      a shipped scenario, without the VM
  bootrace run ./my.toml --samples 40 --seed 7    a scenario of your own
  bootrace ab --base old.toml --new new.toml      two sides, measured in turn on this host
  bootrace check ./my.toml                        is it right? needs no engine
  bootrace list                                   what is there, and what can run on this host
  bootrace export reports/latest --format csv     every sample, for other programs; other formats too
  bootrace calibrate                              known quantities: what is the error of the figures here?
  bootrace compare BASE NEW                       is the new run worse? 3 if it is
  bootrace doctor                                 what works here, what doesn't, and the fix
  bootrace history reports                        the trend over all runs, and where it changed

A run writes reports/RUN/index.html, results.json, summary.md and charts;
reports/latest is the newest.

Exit codes:
  0    done
  1    a run failed, or more of NEW's instances did than of BASE's; of ab: a side was lost; of doctor:
       a target can't run; of calibrate: a figure is beyond its bound; of export: a target has no good
       sample; of history --strict: a file can't be read
  2    the command line or a scenario is wrong
  3    regressed, or refuted: a claim does not hold
  4    not settled, where --fail-on asks for that to be told
  130  ended by Ctrl-C (143 by SIGTERM): what was measured is kept, what was started is removed

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
  bootrace run --seed 7 --json > results.json     in a known order, for programs
  bootrace run density --targets docker           how many fit at once, and what each more costs
  bootrace run bench/startup.toml --build         what your clone builds, by the scenario's [build]
  bootrace run --tune                             governor, turbo, KSM and caches set, and put back
  bootrace run ./my.toml --fail-on undecided      every claim must be decided, and hold

Exit codes: 0 done, 1 a run failed (of a density: a failure ended it, not a limit), 2 wrong command
line or scenario, 3 a claim refuted (not with
--fail-on never), 4 a claim undecided (only with --fail-on undecided), 130 ended by Ctrl-C (what was
measured is kept).";

const CHECK_EXAMPLES: &str = "\
Examples:
  bootrace check ./my.toml
  bootrace check scenarios/*.toml && echo all of them are right

Reads the files alone and needs no engine. What is wrong is said with file, line,
column and key. Whether this host has what they name (CPUs, runtimes, networks, CPU models) is for run to say. Exit codes: 0 all are right, 2 one is not.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "bootrace", version, about = ABOUT, styles = STYLES, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Say more on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios on their targets, and write results and report.
    #[command(after_help = RUN_EXAMPLES)]
    Run(run::Options),
    /// Measure two sides in turn on this host: what is there, and what may replace it.
    #[command(after_help = ab::EXAMPLES)]
    Ab(ab::Options),
    /// Write a run's report again, from its results.
    Report(report::Options),
    /// Say whether a run is worse than another one, and end with 3 if it is.
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::Options),
    /// Write a run's figures in a form that other programs read.
    #[command(after_help = export::EXAMPLES)]
    Export(export::Options),
    /// Show how figures went over many runs, and where they changed.
    #[command(after_help = history::EXAMPLES)]
    History(history::Options),
    /// Say whether scenarios are right, and what running them takes.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(check::Options),
    /// Measure what is known, and tell the error of the figures on this host.
    #[command(after_help = calibrate::EXAMPLES)]
    Calibrate(calibrate::Options),
    /// Say what of this host a run needs works, what doesn't, and what fixes it.
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(doctor::Options),
    /// List scenarios, and targets and whether they can run on this host.
    List(list::Options),
    /// Build, list and prune images.
    Image(image::Options),
    /// Remove what runs left behind that did not end well, and put back what they tuned.
    Clean(clean::Options),
    /// Print a completion script for a shell.
    #[command(after_help = completions::AFTER_HELP)]
    Completions(completions::Options),
}

impl Command {
    /// Does what the command line asks for.
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

/// What ends the program with another code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 1: a run failed.
    #[error("{0:#}")]
    Run(anyhow::Error),
    /// 1: not every target can run, as was said on standard output.
    #[error("not every target can run")]
    Unfit,
    /// 2: usage or scenario error.
    #[error("{0:#}")]
    Usage(anyhow::Error),
    /// 3: regressed, or a claim refuted.
    #[error("{0}")]
    Refuted(String),
    /// 4: neither regressed nor not, and the caller wants it settled.
    #[error("{0}")]
    Undecided(String),
    /// 128 + signal: ended by Ctrl-C or SIGTERM, everything taken kept.
    #[error("interrupted; the samples taken are kept in {}", .dir.display())]
    Interrupted { signal: u8, dir: std::path::PathBuf },
    /// 128 + signal: a side of an A/B that was ended, whose other end says what there is to say.
    #[error("interrupted")]
    Unpaced { signal: u8 },
    /// 128 + signal: ended before anything was measured.
    #[error("interrupted before anything was measured")]
    Stopped { signal: u8 },
}

impl Failure {
    pub fn code(&self) -> u8 {
        match self {
            Failure::Run(_) | Failure::Unfit => 1,
            Failure::Usage(_) => 2,
            Failure::Refuted(_) => 3,
            Failure::Undecided(_) => 4,
            Failure::Interrupted { signal, .. }
            | Failure::Unpaced { signal }
            | Failure::Stopped { signal } => 128 + signal,
        }
    }

    /// Writes it to standard error, its causes below it.
    pub fn print(&self) {
        let error = match self {
            Failure::Run(error) | Failure::Usage(error) => error,
            Failure::Unfit | Failure::Unpaced { .. } => return,
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

/// As much of a message as anybody reads, in characters.
const LONGEST_MESSAGE: usize = 8192;

/// Writes an error and its causes, outermost first.
fn print_error(chain: &[String]) {
    let mut text = String::new();
    for (depth, message) in chain.iter().enumerate() {
        // Many errors end with their cause's text already.
        if depth > 0 && chain[depth - 1].ends_with(message.as_str()) {
            continue;
        }
        let title = if depth == 0 { "error" } else { "  because" };
        // It may hold what a guest or an engine said: nothing that acts on a terminal gets through.
        let message = clean_lines(message, LONGEST_MESSAGE).replace('\n', "\n    ");
        text.push_str(&format!("{BAD}{title}:{BAD:#} {message}\n"));
    }
    // Nothing is left to be done where standard error is gone.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The metric of single instances that an option names.
fn metric(name: &str) -> Result<Metric, String> {
    let metric = Metric::from_name(name).filter(|metric| !metric.is_of_density());
    metric.ok_or_else(|| metric::unknown(name, Metric::of_instances()))
}

/// Writes a warning to standard error.
fn warn(message: &str) {
    let message = clean_lines(message, LONGEST_MESSAGE).replace('\n', "\n    ");
    // Nothing is left to be done where standard error is gone.
    let _ = anstream::stderr().write_all(format!("{WARNING}warning:{WARNING:#} {message}\n").as_bytes());
}

/// Writes to standard output, styled where it is a terminal. A reader that has gone away (`| head`) has
/// what it wanted.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::Error::new(e).context("writing to standard output")))
        }
        _ => Ok(()),
    }
}

/// Sends the log to standard error: warnings, or what RUST_LOG or `-v` asks for.
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
