//! Left-over domains, and the logs that libvirt keeps of them.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use virt::{connect::Connect, domain::Domain, error::ErrorNumber};

use super::{Driver, Link, METADATA_URI, blocking, connect_to, log};
use crate::{
    cause::Cause,
    target::{
        Error, LeftOver, ResourceKind, Wanted,
        instance_name::{is_instance, is_instance_of},
    },
};

/// How long libvirt may take to release the name of a domain that has ended.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes a definition with all that libvirt keeps for it.
const UNDEFINE: u32 = virt_sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | virt_sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | virt_sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | virt_sys::VIR_DOMAIN_UNDEFINE_NVRAM;

/// A connection to the driver's libvirt: if the environment names another driver's, this host's own.
async fn connect_of(driver: Driver) -> Result<Connect, Error> {
    let uri = driver.uri();
    connect_to(driver, if driver.has(&uri) { uri } else { driver.usual_uri().into() }).await
}

/// Finds bootrace's domains, by name and metadata, whose name is `wanted`; none if libvirt lacks the driver.
///
/// # Errors
/// When libvirt does not answer.
pub async fn find(driver: Driver, wanted: Wanted) -> Result<Vec<LeftOver>, Error> {
    let connection = match connect_of(driver).await {
        // A libvirt without the driver has no containers. If this host's own does not answer, the search for VMs reports it.
        Err(e) if driver == Driver::Lxc && e.cause == Cause::Unsupported => return Ok(Vec::new()),
        Err(e)
            if driver == Driver::Lxc
                && e.is_unreachable()
                && [Driver::Lxc, Driver::Qemu].into_iter().all(Driver::is_usual) =>
        {
            return Ok(Vec::new());
        }
        connection => connection?,
    };
    let engine = Some(driver.kind());
    blocking("listing domains".into(), move || {
        let mut found = Vec::new();
        for domain in connection.list_all_domains(0)? {
            if let Some(name) = ours(&domain, &*wanted)? {
                found.push(LeftOver {
                    kind: ResourceKind::Domain,
                    engine,
                    name: name.clone(),
                    instance: name,
                });
            }
        }
        Ok(found)
    })
    .await
}

/// The name of a wanted bootrace domain; `None` also for one that is gone already. The run's id in its metadata must
/// agree with its name.
fn ours(domain: &Domain, wanted: impl Fn(&str) -> bool) -> Result<Option<String>, virt::error::Error> {
    let name = domain.name()?;
    if !is_instance(&name) || !wanted(&name) {
        return Ok(None);
    }
    let kind = virt_sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    match domain.metadata(kind, Some(METADATA_URI), 0) {
        Ok(element) => Ok(run_of(&element).is_some_and(|run| is_instance_of(&name, &run)).then_some(name)),
        Err(e)
            if e.code() == ErrorNumber::NoDomain.into()
                || e.code() == ErrorNumber::NoDomainMetadata.into() =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The text of a metadata element, which is a run's id.
fn run_of(element: &str) -> Option<String> {
    let (text, _) = element.split_once('>')?.1.split_once('<')?;
    Some(quick_xml::escape::unescape(text).ok()?.trim().to_owned())
}

/// Destroys a domain that [`find`] found, and its definition if someone has defined it. Succeeds if it is gone already.
///
/// # Errors
/// When libvirt does not answer or refuses to destroy it.
pub async fn destroy(driver: Driver, name: &str) -> Result<(), Error> {
    let connection = connect_of(driver).await?;
    let tried = format!("destroying domain {name}");
    let name = name.to_owned();
    blocking(tried, move || {
        let domain = match connection.lookup_domain_by_name(&name) {
            Err(e) if e.code() == ErrorNumber::NoDomain.into() => return Ok(()),
            domain => domain?,
        };
        // Another one may have got the name since the search.
        if ours(&domain, |_| true)?.is_none() {
            return Ok(());
        }
        let defined = domain.is_persistent().unwrap_or(false);
        destroy_by_name(&connection, &name, Some(domain.clone()))?;
        match driver {
            _ if !defined => Ok(()),
            Driver::Qemu => domain.undefine_flags(UNDEFINE),
            // This driver has no flags.
            Driver::Lxc => domain.undefine(),
        }
    })
    .await
}

/// Destroys an instance, which is a `noun` to users. Succeeds if it is gone.
///
/// # Errors
/// When libvirt does not answer, or can't destroy it.
pub(in crate::target) async fn destroy_instance(
    link: &Link,
    noun: &str,
    name: &str,
    mut known: Option<Domain>,
) -> Result<(), Error> {
    let mut connection = link.connection.clone();
    if link.events.lost().is_some() {
        // libvirtd may have been restarted, and the instance may have survived that.
        (connection, known) = (link.connect().await?, None);
    }
    let tried = format!("destroying {noun} {name}");
    let name = name.to_owned();
    // A create call that was given up may have succeeded all the same.
    blocking(tried, move || destroy_by_name(&connection, &name, known)).await
}

/// Destroys the domain of this name, looked up unless `known`. Succeeds if it is gone or ends meanwhile.
fn destroy_by_name(
    connection: &Connect,
    name: &str,
    known: Option<Domain>,
) -> Result<(), virt::error::Error> {
    let domain = known.map_or_else(|| connection.lookup_domain_by_name(name), Ok);
    match domain.and_then(|domain| domain.destroy()) {
        Err(e)
            if e.code() == ErrorNumber::NoDomain.into()
                || e.code() == ErrorNumber::OperationInvalid.into() =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Returns when libvirt has no domain of this name any more, shortly after its end event, or after a limit. If the
/// domain stays, the start of the next one with its name fails with a clear error.
pub(in crate::target) fn until_gone(connection: &Connect, name: &str) -> Result<(), virt::error::Error> {
    let begun = Instant::now();
    while begun.elapsed() < RELEASE_TIMEOUT {
        match connection.lookup_domain_by_name(name) {
            Err(e) if e.code() != ErrorNumber::NoDomain.into() => return Err(e),
            // A lookup skips a domain that libvirt is removing, whose name a new one can't have yet; this list has it.
            Err(_) if !connection.list_defined_domains()?.iter().any(|other| other == name) => return Ok(()),
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
    Ok(())
}

/// Logs of bootrace's domains whose name is `wanted`; none if the directory can't be read.
pub fn logs(wanted: impl Fn(&str) -> bool) -> Vec<LeftOver> {
    let mut found = Vec::new();
    for driver in [Driver::Qemu, Driver::Lxc] {
        for entry in fs::read_dir(driver.logs()).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let Some(instance) = file.to_str().and_then(log::domain_of) else { continue };
            if is_instance(instance) && wanted(instance) {
                found.push(LeftOver {
                    kind: ResourceKind::Log,
                    engine: None,
                    name: entry.path().display().to_string(),
                    instance: instance.into(),
                });
            }
        }
    }
    found
}
