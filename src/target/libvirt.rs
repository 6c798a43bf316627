//! The workload in a libvirt virtual machine, the image's disk below a copy-on-write overlay. It boots the image's own
//! kernel with an initramfs that holds the agent, or the image's whole system ([`start`]).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{sync::Mutex, task::spawn_blocking};
use virt::connect::Connect;

use super::{Cpus, Error, Instance, Target, Ticket};
use crate::{
    image::{StockFiles, VmFiles},
    probe::{kvm, process},
    sample::{self, Accelerator},
    scenario::{self, DiskCache, Resources},
};

mod accelerator;
pub mod events;
pub mod inspect;
pub mod knobs;
pub mod left_over;
mod log;
mod mend;
mod start;
mod vm;
pub mod xml;

use events::Events;
use knobs::Knobs;
pub use knobs::check;
use start::Start;
use vm::Vm;

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
    start: Start,
    resources: Resources,
    network: bool,
    accelerator: Accelerator,
    reason: String,
    knobs: Knobs,
    /// What makes figures of this accelerator doubtful.
    warning: Option<String>,
    cpus: Cpus,
    versions: (Option<String>, Option<String>),
}

impl Libvirt {
    /// `network`: QEMU's user network in place of none.
    ///
    /// # Errors
    /// When libvirt does not answer, `accel = "kvm"` is asked for where KVM can't be used, or the host can't do what
    /// the target's options ask for.
    pub async fn connect(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        files: VmFiles,
    ) -> Result<Self, Error> {
        Self::starting(spec, resources, network, Start::of(spec, &files, network)?).await
    }

    /// VMs that boot a cloud image as it is; else as [`Self::connect`].
    ///
    /// # Errors
    /// As there.
    pub async fn connect_stock(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        files: &StockFiles,
    ) -> Result<Self, Error> {
        Self::starting(spec, resources, network, Start::stock(spec, files)?).await
    }

    async fn starting(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        start: Start,
    ) -> Result<Self, Error> {
        let link = Link::open().await?;
        let (accelerator, reason, warning) = accelerator::choose(spec.accel.unwrap_or_default()).await?;
        let knobs = Knobs::resolve(&link.connection, spec, resources, (accelerator, &reason)).await?;
        let asked = link.connection.clone();
        let versions = blocking("asking libvirt for its version".into(), move || {
            Ok((asked.lib_version().ok().map(version), asked.hyp_version().ok().map(version)))
        })
        .await?;
        Ok(Libvirt {
            name: spec.name.clone(),
            link: Mutex::new(link),
            start,
            resources: resources.clone(),
            network,
            accelerator,
            reason,
            knobs,
            warning,
            cpus: Cpus::choose(&resources.cpus)?,
            versions,
        })
    }
}

/// libvirt gives versions as major * 1,000,000 + minor * 1,000 + release.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

#[async_trait]
impl Target for Libvirt {
    fn info(&self) -> sample::Target {
        let mut options = serde_json::json!({
                "cpus": self.cpus.list(),
                "uri": uri(),
                "machine": xml::MACHINE,
                "cpu_model": self.knobs.shown_cpu_model(),
                "hugepages": self.knobs.hugepages.map_or("none".into(), |size| size.to_string()),
                "disk_cache": self.knobs.disk_cache.map_or("default", DiskCache::name),
                "network": if self.network { "user" } else { "none" },
        });
        for (key, value) in self.start.options() {
            options[key] = value;
        }
        sample::Target {
            name: self.name.clone(),
            kind: "libvirt".into(),
            accelerator: self.accelerator,
            accelerator_reason: Some(self.reason.clone()),
            options,
        }
    }

    fn warnings(&self) -> Vec<String> {
        let accelerator = self.warning.iter().map(|warning| format!("{} {warning}", self.name));
        // The session's QEMU runs as who connects.
        let system = uri().contains(":///system");
        accelerator.chain(kvm::closed_to_qemu().filter(|_| system)).collect()
    }

    fn versions(&self, host: &mut sample::Host) {
        (host.libvirt, host.qemu) = self.versions.clone();
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        let Ok(link) = self.link().await else { return };
        let connection = link.connection.clone();
        let count = blocking("counting domains".into(), move || connection.num_of_domains()).await;
        host.other_vms = count.ok();
    }

    fn boots(&self) -> bool {
        true
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
        Ok(Box::new(Vm::new(link, ticket, xml, self.start.overlay().to_path_buf())))
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
            ticket,
            accelerator: self.accelerator,
            memory: self.resources.memory,
            cpus: &self.cpus,
            knobs: &self.knobs,
            network: self.network,
            start: &self.start,
            disk: &ticket.dir.join(DISK),
            socket: &ticket.socket(),
        }
        .to_xml()
    }
}
