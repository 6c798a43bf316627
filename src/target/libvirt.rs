//! A connection to libvirt, and what its drivers share: events, logs, left-overs, fixes. [`super::vm`] has VMs,
//! [`super::lxc`] containers.

use std::sync::Arc;

use tokio::{sync::Mutex, task::spawn_blocking};
use virt::connect::Connect;

use super::Error;
use crate::{daemon::LIBVIRT, scenario};

pub(crate) mod driver;
pub(super) mod events;
pub(crate) mod fix;
pub mod left_over;
pub(crate) mod log;
#[cfg(test)]
pub(super) mod shape;

pub use driver::Driver;
use events::Events;
pub use log::remove as remove_log;

/// Namespace of the metadata of bootrace's domains, which is their run's id.
pub const METADATA_URI: &str = "https://bootrace.invalid/domain/1";

/// The libvirt of a target: the one that it names, else the user's default, else this host's own.
///
/// # Errors
/// When its kind can't be measured there, with the reason.
pub fn uri_of(spec: &scenario::ScenarioTarget, driver: Driver) -> Result<String, Error> {
    let (uri, named) = match spec.uri() {
        Some(uri) => (uri.to_owned(), "uri"),
        None => (driver.uri(), driver.naming().map_or("the default", |naming| naming.by)),
    };
    let tried = || format!("using the libvirt {uri:?} ({named}) for target {}", spec.name);
    scenario::uri::fits(spec.kind(), &uri).map_err(|why| Error::new(tried(), why))?;
    Ok(uri)
}

/// Runs a blocking libvirt call off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    tried: String,
    call: impl FnOnce() -> Result<T, virt::error::Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(|e| fix::failed(tried, &e)),
        Err(e) => Err(Error::new(tried, e)),
    }
}

/// Connects to a libvirt.
///
/// # Errors
/// When no libvirt answers there, with the reason and the fix.
pub async fn connect_to(driver: Driver, uri: String) -> Result<Connect, Error> {
    events::start_loop().map_err(|e| Error::new("starting libvirt's event loop", e))?;
    tracing::debug!(uri, "connecting to libvirt");
    let place = driver.place_of(&uri);
    let tried = format!("connecting to libvirt at {uri}");
    let connected = spawn_blocking(move || {
        // Otherwise libvirt prints every error to standard error itself.
        virt::error::clear_error_callback();
        Connect::open(Some(&uri)).map_err(|e| (fix::cause_of_connecting(&e), e))
    })
    .await
    .map_err(|e| Error::new(&tried, e))?;
    connected.map_err(|(cause, e)| {
        let hint = driver.hint(cause).map(str::to_owned).or_else(|| LIBVIRT.hint(cause, place));
        fix::failed(tried, &e).by(cause).with_hint(hint)
    })
}

/// A connection and its events.
pub(super) struct Link {
    driver: Driver,
    pub uri: String,
    pub events: Events,
    pub connection: Connect,
}

impl Link {
    pub async fn open(driver: Driver, uri: String) -> Result<Arc<Self>, Error> {
        let connection = connect_to(driver, uri.clone()).await?;
        let at = connection.clone();
        let events = blocking("asking libvirt for events".into(), move || Events::of(&at)).await?;
        Ok(Arc::new(Link { driver, uri, events, connection }))
    }

    /// Checks that its connection still stands: what can't be asked makes nothing.
    ///
    /// # Errors
    /// When libvirt has ended it, with the reason.
    pub fn stands(&self, tried: &str) -> Result<(), Error> {
        self.events.lost().map_or(Ok(()), |why| Err(Error::new(tried, why)))
    }

    /// Another connection to the same libvirt.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> Result<Connect, Error> {
        connect_to(self.driver, self.uri.clone()).await
    }

    /// A working link: the same one, or a new one if libvirtd was restarted.
    pub async fn renewed(link: &Mutex<Arc<Self>>) -> Result<Arc<Self>, Error> {
        let mut link = link.lock().await;
        if let Some(why) = link.events.lost() {
            tracing::warn!("{why} Connecting anew");
            *link = Link::open(link.driver, link.uri.clone()).await?;
        }
        Ok(link.clone())
    }
}

/// Formats libvirt's version number: major * 1,000,000 + minor * 1,000 + release.
pub(super) fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}
