//! A scenario's options of a VM: its CPU model, huge pages and disk cache mode. They are checked against this host and
//! its QEMU, since a VM that differs from the scenario is worse than none.

use std::collections::BTreeMap;

use quick_xml::{Reader, escape::escape, events::Event};
use virt::connect::Connect;

use super::{accelerator, machine};
use crate::{
    probe::huge,
    sample::Accelerator,
    scenario::{self, Bytes, DiskCache, Resources},
    target::{
        Error,
        libvirt::{Driver, blocking, connect_to},
    },
};

/// A target's resolved options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmOptions {
    /// `host-passthrough`, `host-model`, `max`, or a model that libvirt knows.
    pub cpu_model: String,
    /// The model that `host-model` means on this host.
    pub host_model: Option<String>,
    /// Size of the huge pages of the VM's memory; `None`: ordinary pages.
    pub hugepages: Option<Bytes>,
    /// `None`: the hypervisor's default.
    pub disk_cache: Option<DiskCache>,
}

/// Checks that this host supports the VM's options, before anything is built for it.
///
/// # Errors
/// When it does not, with the fix, or libvirt does not answer.
pub async fn check(uri: &str, spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<(), Error> {
    let wanted = spec.vm().cloned().unwrap_or_default();
    if wanted.hugepages == Some(true) {
        enough_huge_pages(spec, resources)?;
    }
    if wanted.cpu_model.is_some() {
        let choice = accelerator::choose(wanted.accel.unwrap_or_default()).await?;
        VmOptions::resolve(&connect_to(Driver::Qemu, uri.into()).await?, spec, resources, &choice).await?;
    }
    Ok(())
}

impl VmOptions {
    /// The options of a scenario that sets none.
    pub fn default_for(accelerator: Accelerator) -> Self {
        VmOptions {
            cpu_model: machine::cpu_model(accelerator).into(),
            host_model: None,
            hugepages: None,
            disk_cache: None,
        }
    }

    /// # Errors
    /// When the host or its QEMU does not support the target's options.
    pub(super) async fn resolve(
        connection: &Connect,
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        choice: &accelerator::Choice,
    ) -> Result<Self, Error> {
        let accelerator = choice.accelerator;
        let wanted = spec.vm().cloned().unwrap_or_default();
        let mut vm_options =
            VmOptions { disk_cache: wanted.disk_cache, ..VmOptions::default_for(accelerator) };
        if let Some(model) = &wanted.cpu_model {
            let tried = format!("giving the VM of target {} the CPU model {model}", spec.name);
            if model == "host-passthrough" && accelerator != Accelerator::Kvm {
                return Err(Error::new(
                    tried,
                    format!(
                        "it is emulated (TCG), and emulation has no host CPU to pass through; {}. Write \
                         cpu_model = \"max\" for all that emulation can, or leave it out",
                        choice.reason
                    ),
                ));
            }
            let models = Models::of(connection, accelerator).await?;
            models.has(model).map_err(|why| Error::new(tried, why))?;
            vm_options.cpu_model.clone_from(model);
            vm_options.host_model = models.host.filter(|_| model == "host-model");
        }
        if wanted.hugepages == Some(true) {
            vm_options.hugepages = Some(enough_huge_pages(spec, resources)?);
        }
        Ok(vm_options)
    }

    /// The CPU model for the results, with the meaning of `host-model`.
    pub(super) fn shown_cpu_model(&self) -> String {
        let host = self.host_model.as_ref().map_or(String::new(), |host| format!(" ({host})"));
        format!("{}{host}", self.cpu_model)
    }

    /// The `<cpu>` element. Adds RDRAND to models that lack it; the others have it if the host does.
    ///
    /// Migratable, libvirt's default: QEMU refuses to save a VM with an invariant clock (invtsc), and a restored VM is
    /// comparable with a created one only if both have the same CPU.
    pub(super) fn cpu(&self) -> String {
        match self.cpu_model.as_str() {
            "host-passthrough" => "<cpu mode='host-passthrough' migratable='on'/>".into(),
            "host-model" => "<cpu mode='host-model'/>".into(),
            "max" => "<cpu mode='maximum' migratable='on'/>".into(),
            model => {
                let random = match machine::RANDOM_FEATURE {
                    "" => String::new(),
                    feature => format!("<feature policy='require' name='{feature}'/>"),
                };
                format!(
                    "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{}</model>{random}</cpu>",
                    escape(model)
                )
            }
        }
    }

    /// The value of QEMU's `-cpu` that libvirt derives from [`VmOptions::cpu`]; `None` if it depends on the host.
    pub fn qemu_cpu(&self) -> Option<String> {
        match self.cpu_model.as_str() {
            "host-passthrough" => Some("host,migratable=on".into()),
            "host-model" => None,
            "max" => Some("max,migratable=on".into()),
            model if machine::RANDOM_FEATURE.is_empty() => Some(model.into()),
            model => Some(format!("{model},{}=on", machine::RANDOM_FEATURE)),
        }
    }

    /// The `<memoryBacking>` element. A memfd with the given page size needs no mounted hugetlbfs.
    pub(super) fn memory_backing(&self) -> String {
        self.hugepages.map_or(String::new(), |Bytes(size)| {
            format!(
                "<memoryBacking><hugepages><page size='{size}' unit='b'/></hugepages><source type='memfd'/></memoryBacking>"
            )
        })
    }

    /// The attribute of the disk's `<driver>`.
    pub(super) fn disk_cache(&self) -> String {
        self.disk_cache.map_or(String::new(), |cache| format!(" cache='{}'", cache.name()))
    }
}

/// Checks that enough huge pages are free, and returns their size.
fn enough_huge_pages(spec: &scenario::ScenarioTarget, resources: &Resources) -> Result<Bytes, Error> {
    let tried = format!("giving the VM of target {} huge pages", spec.name);
    let pool = huge::Pool::read().map_err(|e| Error::new(&tried, e))?;
    enough(pool, resources.memory.0).map_err(|why| Error::new(tried, why))?;
    Ok(Bytes(pool.page_bytes))
}

fn enough(pool: huge::Pool, memory: u64) -> Result<(), String> {
    let needed = pool.pages(memory);
    let Some(missing) = needed.checked_sub(pool.available).filter(|missing| *missing > 0) else {
        return Ok(());
    };
    Err(format!(
        "{needed} pages of {} KiB are needed and {} are free: reserve them, as root, with sysctl vm.nr_hugepages={}",
        pool.page_bytes >> 10,
        pool.available,
        pool.total + missing
    ))
}

/// The CPU models that QEMU supports here, from libvirt's domain capabilities.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Models {
    /// The supported ones of libvirt's modes.
    modes: Vec<String>,
    /// Named models; false if this host or emulation lacks a feature of the model.
    named: BTreeMap<String, bool>,
    /// The model that `host-model` is based on, before added and removed features.
    host: Option<String>,
}

impl Models {
    async fn of(connection: &Connect, accelerator: Accelerator) -> Result<Self, Error> {
        let connection = connection.clone();
        let kind = machine::domain_type(accelerator);
        let asked = blocking("asking libvirt for the CPU models of this host's QEMU".into(), move || {
            connection.domain_capabilities(
                None,
                Some(std::env::consts::ARCH),
                Some(machine::MACHINE),
                Some(kind),
                0,
            )
        });
        let asked = asked.await?;
        Models::parse(&asked).map_err(|e| Error::new("reading libvirt's domain capabilities", e))
    }

    pub(crate) fn parse(capabilities: &str) -> Result<Self, quick_xml::Error> {
        let mut reader = Reader::from_str(capabilities);
        let mut models = Models::default();
        // The parser's state: inside <cpu>, the current <mode>, and whether the current <model> is usable.
        let (mut in_cpu, mut within, mut usable) = (false, String::new(), None);
        loop {
            match reader.read_event()? {
                Event::Eof => return Ok(models),
                Event::Start(tag) | Event::Empty(tag) => {
                    let attribute = |name: &str| {
                        let attribute = tag.try_get_attribute(name).ok().flatten()?;
                        Some(attribute.value.into_owned())
                    };
                    match tag.name().as_ref() {
                        "cpu" => in_cpu = true,
                        "mode" if in_cpu => {
                            let name = attribute("name").unwrap_or_default();
                            if attribute("supported").as_deref() == Some("yes") {
                                models.modes.push(name.clone());
                            }
                            within = name;
                        }
                        "model" if in_cpu => usable = Some(attribute("usable").as_deref() != Some("no")),
                        _ => {}
                    }
                }
                Event::Text(text) => {
                    let Some(usable) = usable.take() else { continue };
                    match within.as_str() {
                        "custom" => drop(models.named.insert(text.to_string(), usable)),
                        "host-model" => models.host = Some(text.to_string()),
                        _ => {}
                    }
                }
                Event::End(tag) if tag.name().as_ref() == "cpu" => in_cpu = false,
                _ => {}
            }
        }
    }

    pub(crate) fn has(&self, model: &str) -> Result<(), String> {
        let mode = if model == "max" { "maximum" } else { model };
        if self.modes.iter().any(|known| known == mode && known != "custom") {
            return Ok(());
        }
        let why = match self.named.get(model) {
            Some(true) => return Ok(()),
            Some(false) => "this host's QEMU can't give a guest all that it has",
            None => "this host's QEMU has none of this name",
        };
        let modes = self.modes.iter().filter(|mode| *mode != "custom");
        let modes = modes.map(|mode| if mode == "maximum" { "max" } else { mode });
        let usable = self.named.iter().filter(|(_, usable)| **usable).map(|(name, _)| name.as_str());
        Err(format!("{why}: it can give {}", modes.chain(usable).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: &str = "<domainCapabilities><os supported='yes'><enum name='firmware'/></os>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='yes'><enum name='maximumMigratable'><value>on</value></enum></mode>
    <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model><feature policy='require' name='x'/></mode>
    <mode name='custom' supported='yes'>
      <model usable='yes' vendor='unknown'>qemu64</model>
      <model usable='no' vendor='Intel'>Skylake-Server</model>
    </mode>
  </cpu>
  <devices><video supported='yes'><enum name='modelType'><value>vga</value></enum></video></devices>
</domainCapabilities>";

    #[test]
    fn a_model_is_one_that_qemu_has_and_this_host_can_do() {
        let models = Models::parse(CAPABILITIES).unwrap();
        assert_eq!(models.host.as_deref(), Some("EPYC"));
        for model in ["max", "host-model", "qemu64"] {
            assert_eq!(models.has(model), Ok(()), "{model}");
        }
        let can = "it can give max, host-model, qemu64";
        for (model, why) in [
            ("host-passthrough", "this host's QEMU has none of this name"),
            ("custom", "this host's QEMU has none of this name"),
            ("EPYC", "this host's QEMU has none of this name"),
            ("Skylake-Server", "this host's QEMU can't give a guest all that it has"),
        ] {
            assert_eq!(models.has(model), Err(format!("{why}: {can}")), "{model}");
        }
    }

    #[test]
    fn too_few_huge_pages_say_how_many_to_reserve() {
        let pool = huge::Pool { page_bytes: 2 << 20, total: 10, available: 4 };
        assert_eq!(enough(pool, 8 << 20), Ok(()));
        assert_eq!(
            enough(pool, 257 << 20),
            Err("129 pages of 2048 KiB are needed and 4 are free: reserve them, as root, with sysctl vm.nr_hugepages=135".into())
        );
    }
}
