//! The workload in a container of libvirt's LXC driver: with an overlay on the image's tree as for a bare process, the
//! agent as its first process, and the control socket mounted into it.
//!
//! bootrace mounts the root in the host's mount namespace, where libvirt finds it. As for a bare process this is
//! staging. libvirt's own work (namespaces, cgroups, `/proc`, `/sys` and `/dev`) is the start.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::timeout};
use virt::domain::Domain;

use super::libvirt::{
    Driver, Link, blocking, connect_to, events::Watch, fix, left_over::destroy_instance, log, uri_of, version,
};
use crate::{
    kind::{Kind, Program},
    probe::{
        Scope, cgroup,
        disk::{Files, Place},
        process,
    },
    sample,
    scenario::{self, Resources},
    target::{Cpus, EndNotice, Error, Instance, InstanceId, Target, count_containers, host_mounts, native},
};

mod xml;

/// How long libvirt may take to report a container's end.
const NOTICE: Duration = Duration::from_millis(500);

/// Checks that libvirt answers.
///
/// # Errors
/// When it does not answer, or has no such driver.
pub(super) async fn check(uri: String) -> Result<(), Error> {
    connect_to(Driver::Lxc, uri).await.map(drop)
}

/// The version of the libvirt that the environment names, else of this host's own.
///
/// # Errors
/// When it does not answer, or has no such driver.
pub async fn inspect() -> Result<Option<String>, Error> {
    let connection = connect_to(Driver::Lxc, Driver::Lxc.uri()).await?;
    blocking("asking libvirt for its version".into(), move || Ok(connection.lib_version().ok().map(version)))
        .await
}

pub struct Lxc {
    name: String,
    uri: String,
    /// Replaced when libvirtd was restarted.
    link: Mutex<Arc<Link>>,
    tree: PathBuf,
    resources: Resources,
    network: bool,
    limit_swap: bool,
    cpus: Cpus,
    libvirt: Option<String>,
}

impl Lxc {
    /// `tree` is the image's unpacked root file system. `network`: the host's network instead of none, with its
    /// resolver configuration.
    ///
    /// # Errors
    /// When libvirt does not answer, or the scenario's CPUs are not available.
    pub async fn connect(
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        tree: PathBuf,
    ) -> Result<Self, Error> {
        let uri = uri_of(spec, Driver::Lxc)?;
        let link = Link::open(Driver::Lxc, uri.clone()).await?;
        let asked = link.connection.clone();
        let libvirt = blocking("asking libvirt for its version".into(), move || {
            Ok(asked.lib_version().ok().map(version))
        })
        .await?;
        let hierarchy = cgroup::hierarchy()
            .map_err(|e| Error::new(format!("finding the cgroups of target {}", spec.name), e))?;
        // Missing if this kernel has no swap accounting. Version 2 limits swap separately.
        let limits_both = |memory: &PathBuf| memory.join("memory.memsw.limit_in_bytes").exists();
        Ok(Lxc {
            name: spec.name.clone(),
            uri,
            link: Mutex::new(link),
            tree,
            resources: resources.clone(),
            network,
            limit_swap: hierarchy.version == 1 && hierarchy.memory.as_ref().is_some_and(limits_both),
            cpus: Cpus::choose(&resources.cpus)?,
            libvirt,
        })
    }
}

impl Lxc {
    fn prepare(&self, root: &mut native::root::Root) -> io::Result<()> {
        if self.network {
            root.write_resolver(Path::new(native::RESOLVER))?;
        }
        host_mounts::in_host_namespace(|| root.mount_overlay(&self.tree))
    }
}

#[async_trait]
impl Target for Lxc {
    fn info(&self) -> sample::TargetRecord {
        sample::TargetRecord::without_vm(
            self.name.clone(),
            Kind::Lxc,
            serde_json::json!({
                "cpus": self.cpus.list(),
                "uri": self.uri,
                "network": if self.network { "host" } else { "none" },
                "root": "overlay",
                "swap_limit": self.limit_swap,
            }),
        )
    }

    fn versions(&self, host: &mut sample::Host) {
        host.report(Program::Libvirt, self.libvirt.clone());
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        let Ok(link) = Link::renewed(&self.link).await else { return };
        let connection = link.connection.clone();
        let count = blocking("counting domains".into(), move || connection.num_of_domains()).await;
        count_containers(host, count.ok());
    }

    fn daemons(&self) -> Vec<u32> {
        process::named(&["libvirtd", "virtlxcd", "virtlogd"])
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        let link = Link::renewed(&self.link).await?;
        let mut root = native::root::Root::new(&instance_id.dir);
        let begun = Instant::now();
        self.prepare(&mut root).map_err(|e| Error::new(format!("staging {}", instance_id.instance), e))?;
        let disk = Place {
            storage: "overlayfs".into(),
            image: vec![self.tree.clone()],
            instance: root.own(),
            made: Some(begun.elapsed()),
            files: Some(Files::Tree(self.tree.clone())),
        };
        let xml = xml::Container {
            name: &instance_id.instance,
            nonce: instance_id.nonce.text(),
            run: &instance_id.run,
            memory: self.resources.memory,
            limit_swap: self.limit_swap,
            cpus: &self.cpus,
            network: self.network,
            root: &root.merged,
            socket: &instance_id.socket(),
        }
        .to_xml();
        Ok(Box::new(Container {
            // From before its creation, so that no event is missed.
            watch: link.events.watch(&instance_id.instance),
            link,
            name: instance_id.instance.clone(),
            xml,
            root: root.merged,
            disk,
            domain: None,
            requested: false,
            reported: String::new(),
        }))
    }
}

struct Container {
    watch: Watch,
    link: Arc<Link>,
    name: String,
    xml: String,
    /// Mounted from staging to unstaging.
    root: PathBuf,
    disk: Place,
    domain: Option<Domain>,
    /// libvirt was asked for the container: it may exist.
    requested: bool,
    /// Text of the start's error, which `post_mortem` does not repeat.
    reported: String,
}

/// Rewords an event's text for a container.
fn of_container(how: &str) -> String {
    how.replace("the domain", "the container").replace("QEMU", "libvirt_lxc")
}

#[async_trait]
impl Instance for Container {
    async fn start(&mut self) -> Result<(), Error> {
        let (connection, xml) = (self.link.connection.clone(), self.xml.clone());
        let create = move || {
            // AUTODESTROY: libvirt ends the container when this connection ends, for whatever reason.
            connection.create_domain_xml(&xml, virt_sys::VIR_DOMAIN_START_AUTODESTROY)
        };
        let tried = format!("creating container {}", self.name);
        self.link.stands(&tried)?;
        self.requested = true;
        let created = blocking(tried, create).await;
        self.reported = created.as_ref().err().map_or_else(String::new, |e| e.why.clone());
        self.domain = Some(created?);
        Ok(())
    }

    fn scope(&self, leader: u32) -> Scope {
        // The parent of a container's first process is its controller, libvirt_lxc.
        Scope { leader, engine: process::parent(leader).into_iter().collect() }
    }

    fn ended(&mut self) -> Option<EndNotice> {
        let end = self.watch.end();
        Some(Box::pin(async move { format!("libvirt reports: {}", of_container(&end.await)) }))
    }

    async fn disk(&mut self) -> Option<Place> {
        Some(self.disk.clone())
    }

    async fn post_mortem(&mut self) -> Option<String> {
        // The control channel may have ended first.
        let ended = match self.domain {
            Some(_) => timeout(NOTICE, self.watch.end()).await.ok(),
            None => self.watch.ended(),
        };
        let mut complaints = log::complaints(Driver::Lxc, &self.name, ended.is_some()).await;
        complaints.retain(|line| !self.reported.contains(line));
        let complaints = complaints.join("; ");
        let said = ended.map(|how| format!("libvirt says: {}", of_container(&how)));
        let fix = fix::of(&complaints).map(str::to_owned);
        let quoted = (!complaints.is_empty()).then(|| format!("its log says: {complaints}"));
        let parts: Vec<_> = [said, quoted, fix].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(". "))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        match self.requested {
            true => destroy_instance(&self.link, "container", &self.name, self.domain.take()).await,
            false => Ok(()),
        }
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        // Comes first: the removal of the instance's directory must not walk into mounts.
        host_mounts::discard(&self.root)
            .map_err(|e| Error::new(format!("unmounting {}", self.root.display()), e))?;
        log::remove(Driver::Lxc, &self.name).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_on_domains_speak_of_containers() {
        assert_eq!(of_container("the domain stopped: QEMU died"), "the container stopped: libvirt_lxc died");
    }
}
