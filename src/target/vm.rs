//! The workload in a libvirt virtual machine, whose disk is a copy-on-write overlay on the image's. It boots the
//! image's own kernel with an initramfs that has the agent, or the image's whole system ([`start`]).

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{
    CONTROL_SOCKET, Cpus, Error, Instance, InstanceId, Target,
    libvirt::{Driver, Link, blocking, uri_of, version},
};
use crate::{
    control::Greeting,
    image::{StockFiles, VmFiles},
    kind::{Kind, Program},
    probe::{kvm, process},
    sample,
    scenario::{self, DiskCache, Resources},
    sys::sockets,
};

mod accelerator;
pub mod inspect;
mod instance;
pub mod machine;
pub mod options;
mod save;
mod start;
pub mod xml;

pub use instance::DISK;
use instance::Vm;
use options::VmOptions;
use start::Start;

/// Checks that libvirt answers and this host supports the target's options, before anything is built for it.
///
/// # Errors
/// When it does not, with the fix.
pub async fn check(spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<(), Error> {
    options::check(&uri_of(spec, Driver::Qemu)?, spec, resources).await
}

/// Checks that QEMU, which connects to the control socket by its path, can name one in this directory of instances.
///
/// # Errors
/// When the path is too long, with the limit.
pub fn check_socket(instances: &Path) -> Result<(), Error> {
    // A run of ten million instances has the longest names.
    let rest = format!("/bootrace-00000000-9999999/{CONTROL_SOCKET}").len();
    let (length, longest) = (instances.as_os_str().len(), sockets::LONGEST_ADDRESS - rest);
    if length <= longest {
        return Ok(());
    }
    let why =
        format!("its path has {length} characters, and that of a VM's control socket leaves it {longest}");
    let tried = format!("using {} for VMs", instances.display());
    let fix = "name a directory with a shorter path in BOOTRACE_CACHE";
    Err(Error::new(tried, why).with_hint(Some(fix)))
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
        let uri = uri_of(spec, Driver::Qemu)?;
        let link = Link::open(Driver::Qemu, uri.clone()).await?;
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

#[async_trait]
impl Target for Libvirt {
    fn info(&self) -> sample::TargetRecord {
        let mut options = serde_json::json!({
                "cpus": self.cpus.list(),
                "start": self.begins.name(),
                "uri": self.uri,
                "machine": machine::MACHINE,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_refused_with_the_limit_if_a_socket_in_it_could_not_be_named() {
        let check = |length| check_socket(Path::new(&"d".repeat(length)));
        let error = check(80).unwrap_err().to_string();
        assert!(error.contains("has 80 characters, and") && error.contains("BOOTRACE_CACHE"), "{error}");
        let longest = (0..200).take_while(|length| check(*length).is_ok()).count() - 1;
        assert!(error.contains(&format!("leaves it {longest}")), "{error}");
        // With the path of the last instance.
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(longest - dir.path().as_os_str().len() - 1);
        let socket = dir.path().join(name).join("bootrace-01234567-9999999").join(CONTROL_SOCKET);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        std::os::unix::net::UnixListener::bind(socket).unwrap();
    }
}
