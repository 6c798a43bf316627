//! The connection to an engine.

use bollard::{Docker as Client, errors::Error as ClientError};

use super::error::failed;
use crate::{
    cause::Cause,
    image::{ContainerEngine, rootless},
    target::Error,
};

/// Connects to the engine that the environment names, or to the local one.
///
/// # Errors
/// When no engine answers there, with the reason and the fix.
pub async fn connect_to(engine: ContainerEngine) -> Result<Client, Error> {
    let (host, name) = (engine.address(), engine.name());
    let tried = format!("connecting to {name} at {host}");
    let failed = |e: ClientError| {
        let error = failed(engine, &tried, &e);
        let rootless =
            rootless::hint(engine).filter(|_| error.is_unreachable() && host == engine.usual_address());
        match rootless {
            Some(rootless) => Error { why: format!("{} ({rootless})", error.why), ..error },
            None => error,
        }
    };
    if let Some((why, fix)) = engine.elsewhere() {
        return Err(Error::new(&tried, why).by(Cause::Unsupported).with_hint(Some(fix)));
    }
    let client = engine.client().map_err(failed)?;
    let client = client.negotiate_version().await.map_err(failed)?;
    tracing::debug!(host, version = %client.client_version(), "{name} answers");
    Ok(client)
}
