//! The connection to an engine.

use bollard::{Docker as Client, errors::Error as ClientError};

use super::error::not_connected;
use crate::{
    cause::Cause,
    image::{ContainerEngine, rootless},
    target::Error,
};

/// Connects to the engine that the settings name, or to the local one.
///
/// # Errors
/// When no engine answers there, with the reason and the fix.
pub async fn connect_to(engine: ContainerEngine) -> Result<Client, Error> {
    let address =
        engine.address().map_err(|unusable| Error::from(unusable.refusal.clone()).by(Cause::Unsupported))?;
    let (host, name) = (&address.uri, engine.name());
    let tried = format!("connecting to {name} at {address}");
    let failed = |e: ClientError| {
        let error = not_connected(engine, &tried, &e);
        let rootless =
            rootless::hint(engine).filter(|_| error.is_unreachable() && host == engine.usual_address());
        match rootless {
            Some(rootless) => Error { why: format!("{} ({rootless})", error.why), ..error },
            None => error,
        }
    };
    let client = ContainerEngine::client(address).map_err(failed)?;
    let client = client.negotiate_version().await.map_err(failed)?;
    tracing::debug!(host, version = %client.client_version(), "{name} answers");
    Ok(client)
}
