//! The errors of an engine's client.

use bollard::errors::Error as ClientError;

use super::runtime;
pub(super) use crate::image::{cause, explain};
use crate::{image::ContainerEngine, target::Error};

/// An engine's error: what failed, the cause, and the fix.
pub(super) fn failed(engine: ContainerEngine, tried: impl Into<String>, error: &ClientError) -> Error {
    let mut failed = not_connected(engine, tried, error);
    if failed.is_unreachable() {
        failed.why = format!("{} does not answer: {}", engine.name(), failed.why);
    }
    failed
}

/// The same of a first connection, whose text says what does not answer.
pub(super) fn not_connected(engine: ContainerEngine, tried: impl Into<String>, error: &ClientError) -> Error {
    let (text, cause) = (explain(error), cause(error));
    let hint = engine.daemon().hint(cause, engine.place());
    let hint = hint.or_else(|| runtime::hint(&text).map(str::to_owned));
    Error::new(tried, text).by(cause).with_hint(hint)
}

pub(super) fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
