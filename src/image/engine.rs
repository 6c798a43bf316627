//! Docker, as far as images need it.

use std::error::Error as _;

use bollard::{Docker, errors::Error as Bollard};

use super::error::{Error, tame};

/// How much of an engine's message an error shows, in bytes.
const SHOWN: usize = 500;

/// Connects as `docker` does (`DOCKER_HOST`, else the usual socket), and speaks the engine's own version.
pub(super) async fn connect() -> Result<Docker, Error> {
    let tried = "answer";
    let mut docker = Docker::connect_with_defaults().map_err(refused(tried))?;
    // The answer to an import or export may take as long as the image is large.
    docker.set_timeout(std::time::Duration::from_secs(1800));
    docker.negotiate_version().await.map_err(refused(tried))
}

/// For `map_err`: Docker was asked to do this, and why it would not.
pub(super) fn refused(tried: impl Into<String>) -> impl FnOnce(Bollard) -> Error {
    move |error| Error::Docker { tried: tried.into(), why: why(&error) }
}

pub(super) fn is_not_found(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 404, .. })
}

/// Something else uses it.
pub(super) fn is_conflict(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 409, .. })
}

/// The engine's words; below a failed connection the system's, and what can be done.
fn why(error: &Bollard) -> String {
    if let Bollard::DockerResponseServerError { message, .. } = error {
        return tame(message, SHOWN);
    }
    let mut last: &dyn std::error::Error = error;
    let mut kind = None;
    while let Some(source) = last.source() {
        last = source;
        kind = last.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(kind);
    }
    let text = match error.source() {
        Some(_) => format!("{error}: {last}"),
        None => error.to_string(),
    };
    let mend = match kind {
        Some(std::io::ErrorKind::PermissionDenied) => "; be root or in the group docker",
        Some(std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            "; is dockerd running? scripts/setup installs and starts it"
        }
        _ => "",
    };
    format!("{}{mend}", tame(&text, SHOWN))
}
