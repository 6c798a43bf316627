//! The engine of each kind of target: everything beside the instances themselves. One implementation per kind.

use async_trait::async_trait;

use super::{
    Error, LeftOver, ResourceKind, Target, Wanted,
    container::{self, Docker},
    libvirt::{self, Driver},
    lxc::{self, Lxc},
    native::{self, Native},
    vm::{self, Libvirt},
};
use crate::{
    daemon::{self, Daemon, Place},
    image::{ContainerEngine, Image},
    kind::Kind,
    scenario::{self, Boot, Resources},
};

/// What a target's instances are made from.
pub struct Request<'a> {
    pub spec: &'a scenario::ScenarioTarget,
    pub resources: &'a Resources,
    /// `workload.network`.
    pub network: bool,
    /// Whether the image is a stock cloud image.
    pub stock: bool,
}

/// The engine of one kind of target.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Checks that it answers and its instances can be measured here.
    ///
    /// # Errors
    /// When it does not answer or they can't be measured, with the fix.
    async fn reach(&self, spec: &scenario::ScenarioTarget) -> Result<(), Error>;

    /// Checks that this host and the engine support the target's options.
    ///
    /// # Errors
    /// When they do not, with the fix.
    async fn validate(&self, spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<(), Error>;

    /// Connects the target.
    ///
    /// # Errors
    /// When the engine does not answer, or lacks something that the options name.
    async fn connect(&self, request: &Request<'_>, image: &Image) -> Result<Box<dyn Target>, Error>;

    /// Lists the left-overs of the wanted instances. An engine that was never installed has none.
    ///
    /// # Errors
    /// When the engine does not answer.
    async fn left_overs(&self, wanted: &Wanted) -> Result<Vec<LeftOver>, Error>;

    /// Removes one left-over. Succeeds if it is gone already.
    ///
    /// # Errors
    /// When it can't be removed.
    async fn remove(&self, left_over: &LeftOver) -> Result<(), Error>;
}

/// The engine of a kind.
pub fn of(kind: Kind) -> &'static dyn Engine {
    match kind {
        Kind::Native => &Process,
        Kind::Docker => &Containers(ContainerEngine::Docker),
        Kind::Podman => &Containers(ContainerEngine::Podman),
        Kind::Libvirt => &Vms,
        Kind::Lxc => &LxcContainers,
    }
}

/// The daemon of a kind, and its place for targets that name no other; `None`: the kind has no daemon.
pub fn daemon_of(kind: Kind) -> Option<(&'static Daemon, Place)> {
    let place = match kind {
        Kind::Native => return None,
        Kind::Docker => ContainerEngine::Docker.place(),
        Kind::Podman => ContainerEngine::Podman.place(),
        Kind::Libvirt => Driver::Qemu.place(),
        Kind::Lxc => Driver::Lxc.place(),
    };
    Some((daemon::of(kind)?, place))
}

fn missing(form: &str) -> Error {
    Error::new("connecting a target", format!("the image was not made as a {form}: this is a bug"))
}

struct Process;

#[async_trait]
impl Engine for Process {
    async fn reach(&self, _: &scenario::ScenarioTarget) -> Result<(), Error> {
        Ok(())
    }

    async fn validate(&self, _: &scenario::ScenarioTarget, _: &Resources) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, request: &Request<'_>, image: &Image) -> Result<Box<dyn Target>, Error> {
        let tree = image.tree.clone().ok_or_else(|| missing("tree"))?;
        Ok(Box::new(Native::new(request.spec, request.resources, request.network, tree)?))
    }

    async fn left_overs(&self, wanted: &Wanted) -> Result<Vec<LeftOver>, Error> {
        native::find_cgroups(&**wanted)
    }

    async fn remove(&self, left_over: &LeftOver) -> Result<(), Error> {
        native::discard_cgroup(left_over.name.as_ref())
    }
}

struct Containers(ContainerEngine);

#[async_trait]
impl Engine for Containers {
    async fn reach(&self, _: &scenario::ScenarioTarget) -> Result<(), Error> {
        container::is_measurable(self.0).await
    }

    async fn validate(&self, spec: &scenario::ScenarioTarget, _: &Resources) -> Result<(), Error> {
        container::check(self.0, spec).await
    }

    async fn connect(&self, request: &Request<'_>, image: &Image) -> Result<Box<dyn Target>, Error> {
        let reference = match self.0 {
            ContainerEngine::Docker => &image.docker,
            ContainerEngine::Podman => &image.podman,
        };
        let reference = reference.clone().ok_or_else(|| missing("container image"))?;
        Ok(Box::new(
            Docker::connect(self.0, request.spec, request.resources, request.network, reference).await?,
        ))
    }

    async fn left_overs(&self, wanted: &Wanted) -> Result<Vec<LeftOver>, Error> {
        // An engine that need not be here and has no socket was never used. A search elsewhere fails and is reported.
        match self.0.kind().is_standard() || self.0.may_exist() {
            true => container::left_over::find(self.0, &**wanted).await,
            false => Ok(Vec::new()),
        }
    }

    async fn remove(&self, left_over: &LeftOver) -> Result<(), Error> {
        match left_over.kind {
            ResourceKind::Image => container::left_over::remove_image(self.0, &left_over.name).await,
            ResourceKind::Container
            | ResourceKind::Domain
            | ResourceKind::Log
            | ResourceKind::Process
            | ResourceKind::Cgroup
            | ResourceKind::Mount
            | ResourceKind::Files
            | ResourceKind::Lock => container::left_over::remove_container(self.0, &left_over.name).await,
        }
    }
}

struct Vms;

#[async_trait]
impl Engine for Vms {
    async fn reach(&self, spec: &scenario::ScenarioTarget) -> Result<(), Error> {
        libvirt::connect_to(Driver::Qemu, libvirt::uri_of(spec, Driver::Qemu)?).await.map(drop)
    }

    async fn validate(&self, spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<(), Error> {
        vm::check(spec, resources).await
    }

    async fn connect(&self, request: &Request<'_>, image: &Image) -> Result<Box<dyn Target>, Error> {
        let Request { spec, resources, network, stock } = *request;
        if stock && spec.boot() == Some(Boot::Firmware) {
            let files = image.stock.as_ref().ok_or_else(|| missing("cloud image with its seed"))?;
            return Ok(Box::new(Libvirt::connect_stock(spec, resources, network, files).await?));
        }
        let files = image.vm.clone().ok_or_else(|| missing("VM disk"))?;
        Ok(Box::new(Libvirt::connect(spec, resources, network, files).await?))
    }

    async fn left_overs(&self, wanted: &Wanted) -> Result<Vec<LeftOver>, Error> {
        libvirt::left_over::find(Driver::Qemu, wanted.clone()).await
    }

    async fn remove(&self, left_over: &LeftOver) -> Result<(), Error> {
        libvirt::left_over::destroy(Driver::Qemu, &left_over.name).await
    }
}

struct LxcContainers;

#[async_trait]
impl Engine for LxcContainers {
    async fn reach(&self, spec: &scenario::ScenarioTarget) -> Result<(), Error> {
        lxc::check(libvirt::uri_of(spec, Driver::Lxc)?).await
    }

    async fn validate(&self, spec: &scenario::ScenarioTarget, _: &Resources) -> Result<(), Error> {
        self.reach(spec).await
    }

    async fn connect(&self, request: &Request<'_>, image: &Image) -> Result<Box<dyn Target>, Error> {
        let tree = image.tree.clone().ok_or_else(|| missing("tree"))?;
        Ok(Box::new(Lxc::connect(request.spec, request.resources, request.network, tree).await?))
    }

    async fn left_overs(&self, wanted: &Wanted) -> Result<Vec<LeftOver>, Error> {
        libvirt::left_over::find(Driver::Lxc, wanted.clone()).await
    }

    async fn remove(&self, left_over: &LeftOver) -> Result<(), Error> {
        libvirt::left_over::destroy(Driver::Lxc, &left_over.name).await
    }
}
