//! One domain, from its creation to its end.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{task::spawn_blocking, time::timeout};
use virt::{
    domain::{Domain, DomainState},
    enumutil::Enum,
};

use super::save::save;
use crate::{
    probe::{
        Scope,
        disk::{Files, Place},
    },
    scenario::Start,
    sys::load::Load,
    target::{
        EndNotice, Error, Instance, InstanceId, Rest,
        libvirt::{
            Driver, Link, blocking,
            events::Watch,
            fix,
            left_over::{destroy_instance, until_gone},
            log,
        },
    },
};

/// File name of an instance's disk in its directory.
pub const DISK: &str = "disk.qcow2";

/// File name of a VM's saved memory in its directory.
const SAVED: &str = "memory.saved";
/// How long a VM may take to power off after its agent was asked to stop.
const POWER_OFF: Duration = Duration::from_secs(120);

pub struct Vm {
    watch: Watch,
    link: Arc<Link>,
    name: String,
    xml: String,
    template: PathBuf,
    overlay: PathBuf,
    begins: Start,
    /// The file of its saved memory, from which it is restored.
    saved: PathBuf,
    /// Stopped or saved for its restart or restore.
    rested: bool,
    /// The raw disk below the overlay and where the image's files are on it, if known.
    base: Option<(PathBuf, Option<Files>)>,
    /// How long it took to make the overlay.
    copying: Option<Duration>,
    domain: Option<Domain>,
    /// libvirt was asked for the domain: it may exist.
    requested: bool,
    /// Text of the start's error, which `post_mortem` does not repeat; libvirt quotes QEMU in it.
    reported: String,
}

impl Vm {
    pub(super) fn new(
        link: Arc<Link>,
        instance_id: &InstanceId,
        xml: String,
        template: PathBuf,
        begins: Start,
    ) -> Self {
        Vm {
            // From before the domain's creation, so that no event is missed.
            watch: link.events.watch(&instance_id.instance),
            link,
            name: instance_id.instance.clone(),
            xml,
            template,
            overlay: instance_id.dir.join(DISK),
            begins,
            saved: instance_id.dir.join(SAVED),
            rested: false,
            base: None,
            copying: None,
            domain: None,
            requested: false,
            reported: String::new(),
        }
    }

    /// Sets the raw ext4 disk below the overlay.
    pub(super) fn over(mut self, base: (PathBuf, Option<Files>)) -> Self {
        self.base = Some(base);
        self
    }

    /// The files that belong to this VM alone: its disk, its saved memory, its UEFI variables.
    fn own_files(&self) -> Vec<PathBuf> {
        let beside = |name: &str| self.overlay.with_file_name(name);
        let more = [self.saved.clone(), beside(super::start::VARIABLES)];
        [self.overlay.clone()].into_iter().chain(more.into_iter().filter(|file| file.exists())).collect()
    }

    /// libvirt's state of the domain and the reason, if it exists and does not run.
    async fn standstill(&self) -> Option<String> {
        let domain = self.domain.clone().filter(|_| self.link.events.lost().is_none())?;
        let state = blocking(format!("asking for the state of {}", self.name), move || domain.state()).await;
        let (Enum::Known(state), reason) = state.ok()? else { return None };
        let still = matches!(state, DomainState::Paused | DomainState::Crashed | DomainState::PMSuspended);
        // The reason is in nested enums: `Known(Paused(Known(IoError)))`.
        let reason = format!("{reason:?}");
        let reason = reason.rsplit('(').next().unwrap_or_default().trim_end_matches(')').to_lowercase();
        still.then(|| format!("{state:?}: {reason}").to_lowercase())
    }
}

#[async_trait]
impl Instance for Vm {
    async fn start(&mut self) -> Result<(), Error> {
        let connection = self.link.connection.clone();
        if self.rested && self.begins == Start::Restore {
            let saved = self.saved.display().to_string();
            let restore = move || connection.restore_domain(&saved);
            return blocking(format!("restoring domain {}", self.name), restore).await;
        }
        if !self.rested {
            let failed = |e: io::Error| Error::new(format!("making {}", self.overlay.display()), e);
            let begun = Instant::now();
            fs::copy(&self.template, &self.overlay).map_err(failed)?;
            self.copying = Some(begun.elapsed());
        }
        let xml = self.xml.clone();
        // AUTODESTROY: libvirt ends the domain when this connection ends, for whatever reason. It refuses to save such
        // a domain; without the flag, the agent ends the VM when its stream ends.
        let flags = match self.begins {
            Start::Unpause | Start::Restore => 0,
            Start::Create | Start::Restart => virt_sys::VIR_DOMAIN_START_AUTODESTROY,
        };
        let create = move || connection.create_domain_xml(&xml, flags);
        let tried = format!("creating domain {}", self.name);
        self.link.stands(&tried)?;
        self.requested = true;
        let created = blocking(tried, create).await;
        self.reported = created.as_ref().err().map_or_else(String::new, |e| e.why.clone());
        self.domain = Some(created?);
        Ok(())
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        let domain = self.domain.take();
        match (self.begins, domain) {
            (Start::Restore, Some(domain)) => {
                let (tried, to) = (format!("saving domain {}", self.name), self.saved.clone());
                let saved = spawn_blocking(move || save(&domain, &to)).await;
                saved.map_err(|e| Error::new(&tried, e))?.map_err(|why| Error::new(&tried, why))?;
            }
            // Its agent powers it off. libvirt reports that shortly before it releases the name.
            _ => {
                if timeout(POWER_OFF, self.watch.end()).await.is_err() {
                    let why = format!("it did not power off in {POWER_OFF:?}: {}", Load::now().explain());
                    return Err(Error::new(format!("waiting for the end of domain {}", self.name), why));
                }
                let (connection, name) = (self.link.connection.clone(), self.name.clone());
                let gone = move || until_gone(&connection, &name);
                blocking(format!("waiting until domain {} is gone", self.name), gone).await?;
            }
        }
        self.watch = self.link.events.watch_next(&self.name);
        self.rested = true;
        Ok(Rest::Ended)
    }

    fn scope(&self, leader: u32) -> Scope {
        Scope { leader, engine: vec![leader] }
    }

    async fn disk(&mut self) -> Option<Place> {
        Some(Place {
            storage: "qcow2".into(),
            image: self.base.iter().map(|(disk, _)| disk.clone()).collect(),
            instance: self.own_files(),
            made: self.copying,
            files: self.base.clone().and_then(|(_, files)| files),
        })
    }

    fn ended(&mut self) -> Option<EndNotice> {
        let end = self.watch.end();
        Some(Box::pin(async move { format!("libvirt reports: {}", end.await) }))
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let state = self.standstill().await;
        let over = state.is_some() || self.watch.has_ended();
        let mut complaints = log::complaints(Driver::Qemu, &self.name, over).await;
        complaints.retain(|line| !self.reported.contains(line));
        let complaints = complaints.join("; ");
        let quoted = (!complaints.is_empty()).then(|| format!("QEMU's log says: {complaints}"));
        let fix = fix::of(&complaints).map(str::to_owned);
        let state = state.map(|state| format!("Its state is {state}"));
        let parts: Vec<_> = [state, quoted, fix].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(". "))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        if self.requested {
            destroy_instance(&self.link, "domain", &self.name, self.domain.take()).await?;
        }
        for file in [&self.saved, &self.overlay] {
            match fs::remove_file(file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::new(format!("removing {}", file.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        log::remove(Driver::Qemu, &self.name).map(drop)
    }
}
