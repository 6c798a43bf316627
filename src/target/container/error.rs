//! The errors of an engine's client.

use bollard::errors::Error as ClientError;

use super::runtime;
pub(super) use crate::image::{cause, explain};
use crate::{cause::Cause, image::ContainerEngine, target::Error};

/// An engine's error: what failed, the cause, and the fix.
pub(super) fn failed(engine: ContainerEngine, tried: impl Into<String>, error: &ClientError) -> Error {
    let (mut text, cause) = (explain(error), cause(error));
    if cause == Cause::Unreachable {
        text = format!("{} does not answer: {text}", engine.name());
    }
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
