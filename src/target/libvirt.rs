//! The workload in a libvirt virtual machine: the image's own kernel and an initramfs that holds
//! the agent, passed to QEMU directly; the image's disk below a copy-on-write overlay.

use std::{fs, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::{sync::Mutex, task::spawn_blocking};
use virt::{
    connect::Connect,
    domain::{Domain, DomainState, DomainStateReasonEnum},
    enumutil::Enum,
    error::ErrorNumber,
};

use super::{Cpus, Ended, Error, Instance, Target, Ticket};
use crate::{
    image::VmFiles,
    probe::{Scope, kvm, process},
    sample::{self, Accelerator},
    scenario::{self, Accel, Resources},
};

pub mod events;
mod log;
mod mend;
pub mod xml;

use events::{Events, Watch};

/// Name of an instance's disk in its directory.
pub const DISK: &str = "disk.qcow2";

/// The libvirt that LIBVIRT_DEFAULT_URI names, as for virsh; none: the host's own QEMU driver.
pub fn uri() -> String {
    std::env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| "qemu:///system".into())
}

/// Start-up of every domain's name: what `clean` looks for, beside the metadata.
const PREFIX: &str = "bootrace-";

/// Runs a libvirt call, which blocks, off the async threads.
async fn blocking<T: Send + 'static>(
    tried: String,
    call: impl FnOnce() -> Result<T, virt::error::Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(|e| Error::new(tried, mend::explain(&e))),
        Err(e) => Err(Error::new(tried, e)),
    }
}

/// Connects to the libvirt of [`uri`].
///
/// # Errors
/// When nothing answers there, with the reason and the mend.
pub async fn connect() -> Result<Connect, Error> {
    let uri = uri();
    events::start_loop().map_err(|e| Error::new("starting libvirt's event loop", e))?;
    tracing::debug!(uri, "connecting to libvirt");
    let connected = blocking(format!("connecting to libvirt at {uri}"), move || {
        // libvirt would print every error to standard error by itself.
        virt::error::clear_error_callback();
        Connect::open(Some(&uri))
    })
    .await;
    connected.map_err(|e| {
        let absent = ["No such file", "Connection refused"].iter().any(|sign| e.why.contains(sign));
        Error { absent, ..e }
    })
}

/// A connection and what is heard at it.
struct Link {
    events: Events,
    connection: Connect,
}

impl Link {
    async fn open() -> Result<Arc<Self>, Error> {
        let connection = connect().await?;
        let at = connection.clone();
        let events = blocking("asking libvirt for events".into(), move || Events::of(&at)).await?;
        Ok(Arc::new(Link { events, connection }))
    }
}

pub struct Libvirt {
    name: String,
    /// Made anew when libvirtd was restarted.
    link: Mutex<Arc<Link>>,
    files: VmFiles,
    resources: Resources,
    network: bool,
    accelerator: Accelerator,
    reason: String,
    /// What makes figures of this accelerator doubtful.
    warning: Option<String>,
    cpus: Cpus,
    versions: (Option<String>, Option<String>),
}

impl Libvirt {
    /// `network`: QEMU's user network in place of none.
    ///
    /// # Errors
    /// When libvirt does not answer, or `accel = "kvm"` is asked for where KVM can't be used.
    pub async fn connect(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        files: VmFiles,
    ) -> Result<Self, Error> {
        let link = Link::open().await?;
        let (accelerator, reason, warning) = accelerate(spec.accel.unwrap_or_default()).await?;
        let asked = link.connection.clone();
        let versions = blocking("asking libvirt for its version".into(), move || {
            Ok((asked.lib_version().ok().map(version), asked.hyp_version().ok().map(version)))
        })
        .await?;
        Ok(Libvirt {
            name: spec.name.clone(),
            link: Mutex::new(link),
            files,
            resources: resources.clone(),
            network,
            accelerator,
            reason,
            warning,
            cpus: Cpus::choose(resources.cpus)?,
            versions,
        })
    }
}

/// libvirt gives versions as major * 1,000,000 + minor * 1,000 + release.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

/// The accelerator, why, and what makes its figures doubtful.
async fn accelerate(asked: Accel) -> Result<(Accelerator, String, Option<String>), Error> {
    if asked == Accel::Tcg {
        return Ok((Accelerator::Tcg, "asked for by the scenario".into(), None));
    }
    let verdict = spawn_blocking(kvm::probe).await.map_err(|e| Error::new("probing KVM", e))?;
    decide(asked, &verdict)
}

fn decide(asked: Accel, verdict: &kvm::Verdict) -> Result<(Accelerator, String, Option<String>), Error> {
    match (asked, verdict) {
        (_, kvm::Verdict::Hardware { .. }) => Ok((Accelerator::Kvm, verdict.to_string(), None)),
        (Accel::Kvm, kvm::Verdict::Missing { .. }) => Err(Error::new(
            "using KVM as the scenario asks",
            format!("{verdict}. accel = \"auto\" would emulate"),
        )),
        (Accel::Kvm, _) => {
            let reason = format!("asked for by the scenario, in spite of the probe: {verdict}");
            let warning = format!(
                "uses KVM only because the scenario asks for it (accel = \"kvm\"): {verdict}. Its VMs may die, \
                 and their figures say nothing about KVM on hardware"
            );
            Ok((Accelerator::Kvm, reason, Some(warning)))
        }
        _ => Ok((Accelerator::Tcg, verdict.to_string(), None)),
    }
}

#[async_trait]
impl Target for Libvirt {
    fn info(&self) -> sample::Target {
        sample::Target {
            name: self.name.clone(),
            kind: "libvirt".into(),
            accelerator: self.accelerator,
            accelerator_reason: Some(self.reason.clone()),
            options: serde_json::json!({
                "cpus": self.cpus.list(),
                "boot": "direct",
                "uri": uri(),
                "machine": xml::MACHINE,
                "cpu_model": xml::cpu_model(self.accelerator),
                "network": if self.network { "user" } else { "none" },
                "kernel_command_line": xml::kernel_command_line(self.network),
            }),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warning.iter().map(|warning| format!("{} {warning}", self.name)).collect()
    }

    fn versions(&self, host: &mut sample::Host) {
        (host.libvirt, host.qemu) = self.versions.clone();
    }

    fn daemons(&self) -> Vec<u32> {
        process::named(&["libvirtd", "virtqemud", "virtlogd"])
    }

    async fn stage(&self, ticket: &Ticket) -> Result<Box<dyn Instance>, Error> {
        self.stage_domain(ticket, self.domain_xml(ticket)).await
    }
}

impl Libvirt {
    /// Stages a domain of one's own making, named as the ticket says.
    ///
    /// # Errors
    /// When the connection was lost and libvirt does not answer.
    pub async fn stage_domain(&self, ticket: &Ticket, xml: String) -> Result<Box<dyn Instance>, Error> {
        let link = self.link().await?;
        Ok(Box::new(Vm {
            watch: link.events.watch(&ticket.instance),
            link,
            name: ticket.instance.clone(),
            xml,
            template: self.files.overlay.clone(),
            overlay: ticket.dir.join(DISK),
            domain: None,
            explained: false,
        }))
    }

    async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.lock().await;
        if let Some(why) = link.events.lost() {
            tracing::warn!("{why} Connecting anew");
            *link = Link::open().await?;
        }
        Ok(link.clone())
    }

    /// The domain that an instance is; its disk is [`DISK`] in the ticket's directory.
    pub fn domain_xml(&self, ticket: &Ticket) -> String {
        xml::Machine {
            name: &ticket.instance,
            run: &ticket.run,
            accelerator: self.accelerator,
            resources: &self.resources,
            cpus: &self.cpus.list(),
            network: self.network,
            kernel: &self.files.kernel,
            initramfs: &self.files.initramfs,
            disk: &ticket.dir.join(DISK),
            socket: &ticket.socket(),
        }
        .to_xml()
    }
}

struct Vm {
    watch: Watch,
    link: Arc<Link>,
    name: String,
    xml: String,
    template: PathBuf,
    overlay: PathBuf,
    domain: Option<Domain>,
    /// The mend was told with the start's error.
    explained: bool,
}

impl Vm {
    /// Where it doesn't run: its state and the reason, as libvirt gives them.
    async fn state(&self) -> Option<String> {
        let domain = self.domain.clone().filter(|_| self.link.events.lost().is_none())?;
        let state = blocking(format!("asking for the state of {}", self.name), move || domain.state()).await;
        match state.ok()? {
            (Enum::Known(DomainState::Running), _) => None,
            (Enum::Known(state), DomainStateReasonEnum::Known(reason)) => {
                Some(format!("{state:?}: {reason:?}").to_lowercase())
            }
            (state, _) => Some(format!("{state:?}").to_lowercase()),
        }
    }
}

#[async_trait]
impl Instance for Vm {
    async fn start(&mut self) -> Result<(), Error> {
        let failed = |e: io::Error| Error::new(format!("making {}", self.overlay.display()), e);
        fs::copy(&self.template, &self.overlay).map_err(failed)?;
        let (connection, xml) = (self.link.connection.clone(), self.xml.clone());
        let create = move || {
            // AUTODESTROY: libvirt ends the domain when this connection ends, however that comes.
            connection.create_domain_xml(&xml, virt_sys::VIR_DOMAIN_START_AUTODESTROY)
        };
        let created = blocking(format!("creating domain {}", self.name), create).await;
        self.explained = created.as_ref().is_err_and(|e| mend::of(&e.why).is_some());
        self.domain = Some(created?);
        Ok(())
    }

    fn scope(&self, leader: u32) -> Scope {
        Scope { leader, engine: vec![leader] }
    }

    fn ended(&mut self) -> Option<Ended> {
        let end = self.watch.end();
        Some(Box::pin(async move { format!("libvirt reports: {}", end.await) }))
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let state = self.state().await;
        let over = state.is_some() || self.watch.has_ended();
        let complaints = log::complaints(&self.name, over).await.join("; ");
        let quoted = (!complaints.is_empty()).then(|| format!("QEMU's log says: {complaints}"));
        let mend = mend::of(&complaints).filter(|_| !self.explained).map(str::to_owned);
        let state = state.map(|state| format!("Its state is {state}"));
        let parts: Vec<_> = [state, quoted, mend].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(". "))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let (name, mut known) = (self.name.clone(), self.domain.take());
        let mut connection = self.link.connection.clone();
        if self.link.events.lost().is_some() {
            // libvirtd may have been restarted, and the domain have outlived that.
            (connection, known) = (connect().await?, None);
        }
        let destroy = move || {
            // A create call that was given up on may have made it all the same.
            let domain = known.map_or_else(|| connection.lookup_domain_by_name(&name), Ok);
            match domain.and_then(|d| d.destroy()) {
                Err(e)
                    if e.code() == ErrorNumber::NoDomain.into()
                        || e.code() == ErrorNumber::OperationInvalid.into() =>
                {
                    Ok(())
                }
                result => result,
            }
        };
        blocking(format!("destroying domain {}", self.name), destroy).await?;
        match fs::remove_file(&self.overlay) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(format!("removing {}", self.overlay.display()), e))
            }
            _ => Ok(()),
        }
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        log::remove(&self.name).map(drop)
    }
}

/// Destroys every domain that is ours by name and metadata; gives their names.
///
/// # Errors
/// When libvirt does not answer or will not destroy one.
pub async fn clean(keep: impl Fn(&str) -> bool + Send + 'static) -> Result<Vec<String>, Error> {
    let connection = connect().await?;
    blocking("destroying left-over domains".into(), move || {
        let mut removed = Vec::new();
        for domain in connection.list_all_domains(0)? {
            let name = domain.name()?;
            if name.starts_with(PREFIX) && !keep(&name) && domain.xml_desc(0)?.contains(xml::METADATA_URI) {
                domain.destroy()?;
                removed.push(format!("domain {name}"));
            }
        }
        Ok(removed)
    })
    .await
}

/// Removes the logs of domains of ours that are no more; gives their paths.
///
/// # Errors
/// When one can't be removed.
pub fn clean_logs(keep: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for entry in fs::read_dir("/var/log/libvirt/qemu").into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
        if name.starts_with(PREFIX) && !keep(name) && log::remove(name)? {
            removed.push(format!("log {}", log::path(name).display()));
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_that_is_asked_for_is_used_with_a_warning_unless_there_is_none() {
        let emulated = kvm::Verdict::Emulated { rate: 2e6, failed: Vec::new() };
        let broken = kvm::Verdict::Broken { why: "a loop: triple fault".into() };
        for verdict in [&emulated, &broken] {
            let (accelerator, reason, warning) = decide(Accel::Kvm, verdict).unwrap();
            assert_eq!(accelerator, Accelerator::Kvm);
            assert!(reason.contains(&verdict.to_string()) && warning.unwrap().contains(&verdict.to_string()));
            let (accelerator, reason, warning) = decide(Accel::Auto, verdict).unwrap();
            assert_eq!((accelerator, reason, warning), (Accelerator::Tcg, verdict.to_string(), None));
        }
        let missing = kvm::Verdict::Missing { why: "cannot open /dev/kvm: modprobe kvm_intel".into() };
        let error = decide(Accel::Kvm, &missing).unwrap_err().to_string();
        assert!(error.contains("modprobe kvm_intel") && error.contains("accel = \"auto\""), "{error}");
        assert_eq!(decide(Accel::Auto, &missing).unwrap().0, Accelerator::Tcg);
        let hardware = kvm::Verdict::Hardware { rate: 9e8 };
        let used = decide(Accel::Kvm, &hardware).unwrap();
        assert_eq!(used, (Accelerator::Kvm, hardware.to_string(), None));
    }
}
