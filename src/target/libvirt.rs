//! The workload in a libvirt virtual machine: the image's own kernel and an initramfs that holds
//! the agent, passed to QEMU directly; the image's disk below a copy-on-write overlay.

use std::{fs, io, path::PathBuf};

use async_trait::async_trait;
use tokio::task::spawn_blocking;
use virt::{connect::Connect, domain::Domain, error::ErrorNumber};

use super::{Cpus, Error, Instance, Target, Ticket};
use crate::{
    image::VmFiles,
    probe::{Scope, kvm, process},
    sample::{self, Accelerator},
    scenario::{self, Accel, Resources},
};

pub mod inspect;
pub mod left_over;
pub mod xml;

/// Name of an instance's disk in its directory.
pub const DISK: &str = "disk.qcow2";

/// The libvirt that LIBVIRT_DEFAULT_URI names, as for virsh; none: the host's own QEMU driver.
pub fn uri() -> String {
    std::env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| "qemu:///system".into())
}

/// Start-up of every domain's name: what `clean` looks for, beside the metadata.
const PREFIX: &str = "bootrace-";

fn explain(error: &virt::error::Error) -> String {
    let text = error.message().trim().to_owned();
    let mend = [
        ("Failed to connect socket", "is libvirtd running? scripts/setup starts it"),
        ("authentication", "run bootrace with sudo, or join the libvirt group"),
        (
            "Permission denied",
            "QEMU's user must be able to read the image cache: not below a directory of mode 0700 (BOOTRACE_CACHE names another)",
        ),
        (
            "Could not access KVM",
            "scripts/setup mends the group and mode of /dev/kvm; accel = \"tcg\" does without",
        ),
    ];
    match mend.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, mend)) => format!("{text}. {mend}"),
        None => text,
    }
}

/// Runs a libvirt call, which blocks, off the async threads.
async fn blocking<T: Send + 'static>(
    tried: String,
    call: impl FnOnce() -> Result<T, virt::error::Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(call).await {
        Ok(result) => result.map_err(|e| Error::new(tried, explain(&e))),
        Err(e) => Err(Error::new(tried, e)),
    }
}

/// Connects to the libvirt of [`uri`].
///
/// # Errors
/// When nothing answers there, with the reason and the mend.
pub async fn connect() -> Result<Connect, Error> {
    let uri = uri();
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

pub struct Libvirt {
    name: String,
    connection: Connect,
    files: VmFiles,
    resources: Resources,
    network: bool,
    accelerator: Accelerator,
    reason: String,
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
        let connection = connect().await?;
        let (accelerator, reason) = accelerate(spec.accel.unwrap_or_default()).await?;
        let asked = connection.clone();
        let versions = blocking("asking libvirt for its version".into(), move || {
            Ok((asked.lib_version().ok().map(version), asked.hyp_version().ok().map(version)))
        })
        .await?;
        Ok(Libvirt {
            name: spec.name.clone(),
            connection,
            files,
            resources: resources.clone(),
            network,
            accelerator,
            reason,
            cpus: Cpus::choose(resources.cpus)?,
            versions,
        })
    }
}

/// libvirt gives versions as major * 1,000,000 + minor * 1,000 + release.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

async fn accelerate(asked: Accel) -> Result<(Accelerator, String), Error> {
    if asked == Accel::Tcg {
        return Ok((Accelerator::Tcg, "asked for by the scenario".into()));
    }
    let verdict = spawn_blocking(kvm::probe).await.map_err(|e| Error::new("probing KVM", e))?;
    match (asked, matches!(verdict, kvm::Verdict::Hardware { .. })) {
        (_, true) => Ok((Accelerator::Kvm, verdict.to_string())),
        (Accel::Kvm, false) => Err(Error::new(
            "using KVM as the scenario asks",
            format!("{verdict}. accel = \"auto\" would emulate"),
        )),
        _ => Ok((Accelerator::Tcg, verdict.to_string())),
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

    fn versions(&self, host: &mut sample::Host) {
        (host.libvirt, host.qemu) = self.versions.clone();
    }

    fn daemons(&self) -> Vec<u32> {
        process::named(&["libvirtd", "virtqemud", "virtlogd"])
    }

    async fn stage(&self, ticket: &Ticket) -> Result<Box<dyn Instance>, Error> {
        Ok(Box::new(Vm {
            connection: self.connection.clone(),
            name: ticket.instance.clone(),
            xml: self.domain_xml(ticket),
            template: self.files.overlay.clone(),
            overlay: ticket.dir.join(DISK),
            domain: None,
        }))
    }
}

impl Libvirt {
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
    connection: Connect,
    name: String,
    xml: String,
    template: PathBuf,
    overlay: PathBuf,
    domain: Option<Domain>,
}

#[async_trait]
impl Instance for Vm {
    async fn start(&mut self) -> Result<(), Error> {
        let failed = |e: io::Error| Error::new(format!("making {}", self.overlay.display()), e);
        fs::copy(&self.template, &self.overlay).map_err(failed)?;
        let (connection, xml) = (self.connection.clone(), self.xml.clone());
        let create = move || {
            // AUTODESTROY: libvirt ends the domain when this connection ends, however that comes.
            connection.create_domain_xml(&xml, virt_sys::VIR_DOMAIN_START_AUTODESTROY)
        };
        self.domain = Some(blocking(format!("creating domain {}", self.name), create).await?);
        Ok(())
    }

    fn scope(&self, leader: u32) -> Scope {
        Scope { leader, engine: vec![leader] }
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let log = fs::read(log_of(&self.name)).ok()?;
        let text = String::from_utf8_lossy(&log[log.len().saturating_sub(2048)..]).into_owned();
        let telling =
            |line: &&str| line.contains("qemu-system") || line.contains("KVM") || line.contains("error");
        let lines: Vec<_> =
            text.lines().filter(telling).filter(|l| !l.contains("/usr/bin/qemu-system")).collect();
        (!lines.is_empty()).then(|| format!("QEMU's log says: {}", lines.join("; ")))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let (connection, name, known) = (self.connection.clone(), self.name.clone(), self.domain.take());
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
        remove_log(&self.name).map(drop)
    }
}

/// libvirt keeps what each QEMU printed for good; our names never come again.
fn log_of(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/log/libvirt/qemu/{name}.log"))
}

/// True when there was one.
fn remove_log(name: &str) -> Result<bool, Error> {
    let log = log_of(name);
    match fs::remove_file(&log) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::new(format!("removing {}", log.display()), e)),
    }
}
