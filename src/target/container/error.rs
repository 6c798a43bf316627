//! The errors of an engine's client.

use bollard::errors::Error as ClientError;

use super::runtime;
use crate::{cause::Cause, image::ContainerEngine, target::Error};

/// An engine's error: what failed, the cause, and the fix.
pub(super) fn failed(engine: ContainerEngine, tried: impl Into<String>, error: &ClientError) -> Error {
    let (text, cause) = (explain(error), cause(error));
    let hint = engine.daemon().hint(cause, engine.place());
    let hint = hint.or_else(|| runtime::hint(&text).map(str::to_owned));
    Error::new(tried, text).by(cause).with_hint(hint)
}

/// A client error with its sources, the operating system's last.
pub(super) fn explain(error: &ClientError) -> String {
    let mut text = error.to_string();
    for source in sources(error) {
        let message = source.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}

fn sources(error: &ClientError) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
}

pub(super) fn cause(error: &ClientError) -> Cause {
    match error {
        ClientError::SocketNotFoundError(_) => Cause::Unreachable,
        ClientError::RequestTimeoutError => Cause::TimedOut,
        ClientError::DockerResponseServerError { status_code: 404, .. } => Cause::NotFound,
        _ => sources(error)
            .find_map(|source| source.downcast_ref::<std::io::Error>())
            .map_or(Cause::Other, Cause::of_reaching),
    }
}

pub(super) fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
