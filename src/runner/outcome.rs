//! Why an instance failed, and how its sample records it.

use std::{any::Any, panic::AssertUnwindSafe};

use bootrace_agent::protocol;
use futures_util::FutureExt;

use crate::{
    probe,
    sample::{Outcome, Sample},
    target,
};

/// Longest error text that is kept in a sample, in bytes.
const ERROR_LIMIT: usize = 4096;

/// Why an instance failed.
#[derive(Debug)]
pub(super) enum InstanceEnd {
    Failed(String),
    TimedOut(String),
    /// The user stopped the run: the instance is not at fault.
    Stopped,
}

impl From<target::Error> for InstanceEnd {
    fn from(e: target::Error) -> Self {
        InstanceEnd::Failed(e.to_string())
    }
}

impl From<probe::Error> for InstanceEnd {
    fn from(e: probe::Error) -> Self {
        InstanceEnd::Failed(format!("reading {e}"))
    }
}

impl From<protocol::FrameError> for InstanceEnd {
    fn from(e: protocol::FrameError) -> Self {
        InstanceEnd::Failed(e.to_string())
    }
}

/// Makes a panic of `work` a failure of its instance, which is then removed like any other. The run goes on.
pub(super) async fn contained<T>(
    work: impl Future<Output = Result<T, InstanceEnd>>,
) -> Result<T, InstanceEnd> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|panic| Err(InstanceEnd::Failed(panicked(&*panic))))
}

/// A failure's text for what a panic carries.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("bootrace panicked: {}: this is a bug", text.unwrap_or("without a text"))
}

/// Records a failure. The first one decides the outcome; later ones are appended to its text.
pub(super) fn fail(sample: &mut Sample, ended: InstanceEnd) {
    let (outcome, mut text) = match ended {
        InstanceEnd::Failed(text) => (Outcome::Failed, text),
        InstanceEnd::TimedOut(text) => (Outcome::TimedOut, text),
        InstanceEnd::Stopped => (Outcome::Failed, "stopped by the user".into()),
    };
    if let Some(earlier) = sample.error.take() {
        text = format!("{earlier}; then {text}");
    } else {
        sample.outcome = outcome;
    }
    sample.error = Some(bounded(text));
}

/// Cuts an error to the length that a sample keeps.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > ERROR_LIMIT {
        text.truncate(text.floor_char_boundary(ERROR_LIMIT));
        text.push_str(" ...");
    }
    text
}

/// How a program ended, with the end of its output.
pub(super) fn how(exit: &protocol::Exit) -> String {
    let end = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit status".into(),
    };
    format!("{end}; {}", printed(&exit.output))
}

/// The end of a program's output.
pub(super) fn printed(output: &str) -> String {
    match output.trim_end() {
        "" => "it printed nothing".into(),
        output => format!("it printed: {output}"),
    }
}
