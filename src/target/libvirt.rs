//! The workload in a libvirt virtual machine, whose disk is a copy-on-write overlay on the image's. It boots the
//! image's own kernel with an initramfs that has the agent, or the image's whole system ([`start`]). [`lxc`] has
//! containers.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{sync::Mutex, task::spawn_blocking};
use virt::connect::Connect;

use super::{Cpus, Error, Instance, InstanceId, Target};
use crate::{
    cause,
    control::Greeting,
    image::{StockFiles, VmFiles},
    kind::{Family, Kind, Program},
    probe::{kvm, process},
    sample,
    scenario::{self, DiskCache, Resources},
};

mod accelerator;
pub mod events;
mod fix;
pub mod inspect;
pub mod left_over;
mod log;
pub mod lxc;
mod save;
mod start;
mod vm;
pub mod vm_options;
pub mod xml;

use events::Events;
pub use log::{Driver, remove as remove_log};
use start::Start;
use vm::Vm;
use vm_options::VmOptions;

/// File name of an instance's disk in its directory.
pub const DISK: &str = "disk.qcow2";

/// The libvirt that LIBVIRT_DEFAULT_URI names, as for virsh; by default the host's own QEMU driver.
pub fn uri() -> String {
    std::env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| "qemu:///system".into())
}

/// The libvirt of a target: the one that it names, else the environment's, else this host's own.
///
/// # Errors
/// When VMs can't be measured there, with the reason.
pub fn uri_of(spec: &scenario::ScenarioTarget) -> Result<String, Error> {
    let (uri, named) = match (spec.uri(), spec.kind().family()) {
        (Some(uri), _) => (uri.to_owned(), "uri"),
        (None, Family::Vm) => (uri(), "LIBVIRT_DEFAULT_URI"),
        (None, Family::Container | Family::Process) => (lxc::uri(), "LIBVIRT_DEFAULT_URI"),
    };
    let tried = || format!("using the libvirt {uri:?} ({named}) for target {}", spec.name);
    scenario::uri::fits(spec.kind(), &uri).map_err(|why| Error::new(tried(), why))?;
    Ok(uri)
}

/// Checks that libvirt answers and this host supports the target's options, before anything is built for it.
///
/// # Errors
/// When it does not, with the fix.
pub async fn check(spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<(), Error> {
    vm_options::check(&uri_of(spec)?, spec, resources).await
}

/// Prefix of every domain's name: `clean` checks it beside the metadata.
const PREFIX: &str = "bootrace-";

/// Runs a blocking libvirt call off the async threads.
async fn blocking<T: Send + 'static>(
    tried: String,
    call: impl FnOnce() -> Result<T, virt::error::Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(|e| fix::failed(tried, &e)),
        Err(e) => Err(Error::new(tried, e)),
    }
}

/// Connects to the libvirt of [`uri`].
///
/// # Errors
/// When no libvirt answers there, with the reason and the fix.
pub async fn connect() -> Result<Connect, Error> {
    connect_to(uri()).await
}

/// Connects to a libvirt.
///
/// # Errors
/// When no libvirt answers there, with the reason and the fix.
pub async fn connect_to(uri: String) -> Result<Connect, Error> {
    events::start_loop().map_err(|e| Error::new("starting libvirt's event loop", e))?;
    tracing::debug!(uri, "connecting to libvirt");
    let kind = if uri.starts_with("lxc") { Kind::Lxc } else { Kind::Libvirt };
    let tried = format!("connecting to libvirt at {uri}");
    let connected = spawn_blocking(move || {
        // Otherwise libvirt prints every error to standard error itself.
        virt::error::clear_error_callback();
        Connect::open(Some(&uri)).map_err(|e| (fix::cause_of_connecting(&e), e))
    })
    .await
    .map_err(|e| Error::new(&tried, e))?;
    connected.map_err(|(cause, e)| fix::failed(tried, &e).by(cause).with_hint(cause::hint(kind, cause)))
}

/// A connection and its events.
struct Link {
    uri: String,
    events: Events,
    connection: Connect,
}

impl Link {
    async fn open(uri: String) -> Result<Arc<Self>, Error> {
        let connection = connect_to(uri.clone()).await?;
        let at = connection.clone();
        let events = blocking("asking libvirt for events".into(), move || Events::of(&at)).await?;
        Ok(Arc::new(Link { uri, events, connection }))
    }

    /// A working link: the same one, or a new one if libvirtd was restarted.
    async fn renewed(link: &Mutex<Arc<Self>>) -> Result<Arc<Self>, Error> {
        let mut link = link.lock().await;
        if let Some(why) = link.events.lost() {
            tracing::warn!("{why} Connecting anew");
            *link = Link::open(link.uri.clone()).await?;
        }
        Ok(link.clone())
    }
}

pub struct Libvirt {
    name: String,
    uri: String,
    /// Replaced when libvirtd was restarted.
    link: Mutex<Arc<Link>>,
    start: Start,
    resources: Resources,
    network: bool,
    choice: accelerator::Choice,
    vm_options: VmOptions,
    begins: scenario::Start,
    cpus: Cpus,
    versions: (Option<String>, Option<String>),
}

impl Libvirt {
    /// `network`: QEMU's user network instead of none.
    ///
    /// # Errors
    /// When libvirt does not answer, the scenario has `accel = "kvm"` and KVM can't be used, or the host does not
    /// support the target's options.
    pub async fn connect(
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        files: VmFiles,
    ) -> Result<Self, Error> {
        Self::starting(spec, resources, network, Start::of(spec, &files, network)?).await
    }

    /// As [`Self::connect`], for VMs that boot an unchanged cloud image.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    pub async fn connect_stock(
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        files: &StockFiles,
    ) -> Result<Self, Error> {
        Self::starting(spec, resources, network, Start::stock(spec, files)?).await
    }

    async fn starting(
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        start: Start,
    ) -> Result<Self, Error> {
        let uri = uri_of(spec)?;
        let link = Link::open(uri.clone()).await?;
        let choice = accelerator::choose(spec.vm().and_then(|vm| vm.accel).unwrap_or_default()).await?;
        let vm_options = VmOptions::resolve(&link.connection, spec, resources, &choice).await?;
        let asked = link.connection.clone();
        let versions = blocking("asking libvirt for its version".into(), move || {
            Ok((asked.lib_version().ok().map(version), asked.hyp_version().ok().map(version)))
        })
        .await?;
        Ok(Libvirt {
            name: spec.name.clone(),
            uri,
            link: Mutex::new(link),
            start,
            resources: resources.clone(),
            network,
            choice,
            vm_options,
            begins: spec.start,
            cpus: Cpus::choose(&resources.cpus)?,
            versions,
        })
    }
}

/// Formats libvirt's version number: major * 1,000,000 + minor * 1,000 + release.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

#[async_trait]
impl Target for Libvirt {
    fn info(&self) -> sample::TargetRecord {
        let mut options = serde_json::json!({
                "cpus": self.cpus.list(),
                "start": self.begins.name(),
                "uri": self.uri,
                "machine": xml::MACHINE,
                "cpu_model": self.vm_options.shown_cpu_model(),
                "hugepages": self.vm_options.hugepages.map_or("none".into(), |size| size.to_string()),
                "disk_cache": self.vm_options.disk_cache.map_or("default", DiskCache::name),
                "network": if self.network { "user" } else { "none" },
        });
        for (key, value) in self.start.options() {
            options[key] = value;
        }
        sample::TargetRecord {
            name: self.name.clone(),
            kind: Kind::Libvirt,
            accelerator: self.choice.accelerator,
            accelerator_reason: Some(self.choice.reason.clone()),
            kvm: self.choice.kvm,
            options,
        }
    }

    fn begins(&self) -> scenario::Start {
        self.begins
    }

    fn greeting(&self) -> Greeting {
        self.start.greeting()
    }

    fn warnings(&self) -> Vec<String> {
        let accelerator = self.choice.warning.iter().map(|warning| format!("{} {warning}", self.name));
        // A session's QEMU runs as the connecting user.
        let system = self.uri.contains(":///system");
        accelerator.chain(kvm::closed_to_qemu().filter(|_| system)).collect()
    }

    fn versions(&self, host: &mut sample::Host) {
        let (libvirt, qemu) = self.versions.clone();
        host.report(Program::Libvirt, libvirt);
        host.report(Program::Qemu, qemu);
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        let Ok(link) = Link::renewed(&self.link).await else { return };
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

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        self.stage_domain(instance_id, self.domain_xml(instance_id)).await
    }
}

impl Libvirt {
    /// Stages a domain of other XML, named by the id.
    ///
    /// # Errors
    /// When the connection was lost and libvirt does not answer.
    pub async fn stage_domain(
        &self,
        instance_id: &InstanceId,
        xml: String,
    ) -> Result<Box<dyn Instance>, Error> {
        let link = Link::renewed(&self.link).await?;
        let (template, base) = (self.start.overlay().to_path_buf(), self.start.base());
        Ok(Box::new(Vm::new(link, instance_id, xml, template, self.begins).over(base)))
    }

    /// An instance's domain XML. Its disk is [`DISK`] in the instance's directory.
    pub fn domain_xml(&self, instance_id: &InstanceId) -> String {
        xml::Machine {
            instance_id,
            accelerator: self.choice.accelerator,
            memory: self.resources.memory,
            cpus: &self.cpus,
            vm_options: &self.vm_options,
            network: self.network,
            start: &self.start,
            disk: &instance_id.dir.join(DISK),
            socket: &instance_id.socket(),
        }
        .to_xml()
    }
}
