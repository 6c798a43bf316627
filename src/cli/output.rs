//! Output, errors and the program's ends.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::exit::Exit;
use crate::{report::clean_lines, scenario};

pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub const HEADING: Style = Style::new().bold();

/// An end of the program with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A run failed.
    #[error("{0:#}")]
    Run(anyhow::Error),
    /// Not every target can run; standard output has the reasons.
    #[error("not every target can run")]
    Unfit,
    /// The command line is wrong, and the parser has said how.
    #[error("the command line is wrong")]
    Misspelt,
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
            Failure::Misspelt | Failure::Usage(_) => Exit::Usage,
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
            Failure::Unfit | Failure::Misspelt | Failure::SideStopped { .. } => return,
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
    say(text.trim_end());
}

/// Writes a warning to standard error.
pub fn warn(message: &str) {
    let message = clean_lines(message, LONGEST_MESSAGE).replace('\n', "\n    ");
    say(&format!("{WARNING}warning:{WARNING:#} {message}"));
}

/// Writes a line to standard error. If that fails, there is nowhere to report it.
pub fn say(line: &str) {
    // Not eprintln, which panics then.
    let _ = anstream::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes to standard output, with colours on a terminal. A closed pipe (`| head`) is no error.
///
/// # Errors
/// [`Failure::Run`] when writing fails otherwise.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Judges a write to standard output.
///
/// # Errors
/// As [`print`].
pub fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(anyhow::Error::new(e).context("writing to standard output")))
        }
        _ => Ok(()),
    }
}

/// Shows the parser's answer: a help text or the version, or the error of a wrong command line.
///
/// # Errors
/// [`Failure::Misspelt`] for an error, which is shown already; else as [`print`].
pub fn answer(answer: &clap::Error) -> Result<(), Failure> {
    let shown = answer.print();
    if answer.use_stderr() { Err(Failure::Misspelt) } else { written(shown) }
}
