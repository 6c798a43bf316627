//! One domain, from its creation to its end.

use std::{fs, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use virt::{
    domain::{Domain, DomainState},
    enumutil::Enum,
};

use super::{
    DISK, Link, blocking, connect_to, events::Watch, left_over::destroy_by_name, log, log::Driver, mend,
};
use crate::{
    probe::Scope,
    target::{Ended, Error, Instance, Ticket},
};

pub struct Vm {
    watch: Watch,
    link: Arc<Link>,
    name: String,
    xml: String,
    template: PathBuf,
    overlay: PathBuf,
    domain: Option<Domain>,
    /// What the start's error has told, which needs no telling again; libvirt quotes QEMU in it.
    told: String,
}

impl Vm {
    pub(super) fn new(link: Arc<Link>, ticket: &Ticket, xml: String, template: PathBuf) -> Self {
        Vm {
            // From before the domain is there, so nothing of it is missed.
            watch: link.events.watch(&ticket.instance),
            link,
            name: ticket.instance.clone(),
            xml,
            template,
            overlay: ticket.dir.join(DISK),
            domain: None,
            told: String::new(),
        }
    }

    /// Where it is there and stands still: its state and the reason, as libvirt gives them.
    async fn standstill(&self) -> Option<String> {
        let domain = self.domain.clone().filter(|_| self.link.events.lost().is_none())?;
        let state = blocking(format!("asking for the state of {}", self.name), move || domain.state()).await;
        let (Enum::Known(state), reason) = state.ok()? else { return None };
        let still = matches!(state, DomainState::Paused | DomainState::Crashed | DomainState::PMSuspended);
        // The reason is one of several enums, each of them in two more: `Known(Paused(Known(IoError)))`.
        let reason = format!("{reason:?}");
        let reason = reason.rsplit('(').next().unwrap_or_default().trim_end_matches(')').to_lowercase();
        still.then(|| format!("{state:?}: {reason}").to_lowercase())
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
        self.told = created.as_ref().err().map_or_else(String::new, |e| e.why.clone());
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
        let state = self.standstill().await;
        let over = state.is_some() || self.watch.has_ended();
        let mut complaints = log::complaints(Driver::Qemu, &self.name, over).await;
        complaints.retain(|line| !self.told.contains(line));
        let complaints = complaints.join("; ");
        let quoted = (!complaints.is_empty()).then(|| format!("QEMU's log says: {complaints}"));
        let mend = mend::of(&complaints).map(str::to_owned);
        let state = state.map(|state| format!("Its state is {state}"));
        let parts: Vec<_> = [state, quoted, mend].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(". "))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let (name, mut known) = (self.name.clone(), self.domain.take());
        let mut connection = self.link.connection.clone();
        if self.link.events.lost().is_some() {
            // libvirtd may have been restarted, and the domain have outlived that.
            (connection, known) = (connect_to(self.link.uri.clone()).await?, None);
        }
        // A create call that was given up on may have made it all the same.
        let destroy = move || destroy_by_name(&connection, &name, known);
        blocking(format!("destroying domain {}", self.name), destroy).await?;
        match fs::remove_file(&self.overlay) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(format!("removing {}", self.overlay.display()), e))
            }
            _ => Ok(()),
        }
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        log::remove(Driver::Qemu, &self.name).map(drop)
    }
}
