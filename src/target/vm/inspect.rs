//! Asks libvirt for its capabilities, and tries them with a small domain.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bootrace_agent::protocol::PORT_NAME;
use quick_xml::{
    Reader,
    escape::escape,
    events::{BytesStart, Event},
};

use super::machine;
use crate::{
    sample::Accelerator,
    target::{
        Error,
        libvirt::{Driver, METADATA_URI, blocking, connect_to, left_over, log, version},
    },
};

/// A libvirt that answers, with its version.
#[derive(Debug, Clone, Default)]
pub struct Hypervisor {
    pub libvirt: Option<String>,
    pub qemu: Option<String>,
    /// `None` until it was asked.
    pub offers: Option<Offers>,
}

/// Its capabilities for full virtualisation on this host's architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offers {
    /// Path of QEMU's program.
    pub emulator: Option<String>,
    pub tcg: bool,
    pub kvm: bool,
    /// The uid and gid that QEMU runs as; `None`: those of this process.
    pub account: Option<(u32, u32)>,
}

/// Connects and asks only for libvirt's own version.
///
/// # Errors
/// When it does not answer.
pub async fn inspect() -> Result<Hypervisor, Error> {
    let connection = connect_to(Driver::Qemu, Driver::Qemu.uri()).await?;
    blocking("asking libvirt for its version".into(), move || {
        Ok(Hypervisor { libvirt: connection.lib_version().ok().map(version), ..Hypervisor::default() })
    })
    .await
}

/// QEMU's version, and libvirt's offers with it. libvirt may probe every QEMU of the host before it answers.
///
/// # Errors
/// When it does not answer.
pub async fn offers() -> Result<(Option<String>, Offers), Error> {
    let connection = connect_to(Driver::Qemu, Driver::Qemu.uri()).await?;
    blocking("asking libvirt for its capabilities".into(), move || {
        let offers = Offers::parse(&connection.capabilities()?, std::env::consts::ARCH);
        // Fails if there is no emulator.
        Ok((connection.hyp_version().ok().map(version), offers))
    })
    .await
}

impl Offers {
    /// Broken XML ends the parsing; earlier findings are kept.
    pub(crate) fn parse(capabilities: &str, architecture: &str) -> Self {
        let mut reader = Reader::from_str(capabilities);
        let (mut offers, mut path, mut text) = (Offers::default(), Vec::<String>::new(), String::new());
        let (mut ours, mut model, mut label_of_qemu) = (false, String::new(), false);
        loop {
            let event = reader.read_event();
            let (start, empty) = match &event {
                Ok(Event::Start(start)) => (Some(start), false),
                Ok(Event::Empty(start)) => (Some(start), true),
                Ok(Event::Text(bytes)) => {
                    text = bytes.trim().to_owned();
                    (None, false)
                }
                Ok(Event::End(_)) => {
                    match path.last().map(String::as_str) {
                        Some("model") => model = std::mem::take(&mut text),
                        Some("baselabel") if model == "dac" && label_of_qemu => {
                            offers.account = account(&text);
                        }
                        Some("emulator") if ours => offers.emulator = Some(std::mem::take(&mut text)),
                        Some("guest") => ours = false,
                        _ => {}
                    }
                    path.pop();
                    (None, false)
                }
                Ok(Event::Eof) | Err(_) => return offers,
                _ => (None, false),
            };
            let Some(start) = start else { continue };
            let name = start.name().as_ref().to_owned();
            match name.as_str() {
                "arch" if path.last().is_some_and(|parent| parent == "guest") => {
                    ours = attribute(start, "name").is_some_and(|name| name == architecture);
                }
                "domain" if ours => match attribute(start, "type").as_deref() {
                    Some("qemu") => offers.tcg = true,
                    Some("kvm") => offers.kvm = true,
                    _ => {}
                },
                "baselabel" => label_of_qemu = attribute(start, "type").as_deref() == Some("qemu"),
                _ => {}
            }
            if !empty {
                path.push(name);
            }
            text.clear();
        }
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    Some(start.try_get_attribute(name).ok()??.value.into_owned())
}

/// Parses `+64055:+64055`. libvirt has resolved names to numbers.
fn account(label: &str) -> Option<(u32, u32)> {
    let (user, group) = label.split_once(':')?;
    let number = |text: &str| text.trim_start_matches('+').parse().ok();
    Some((number(user)?, number(group)?))
}

/// How long it took to start and to end a domain.
#[derive(Debug, Clone, Copy)]
pub struct TrialTimes {
    pub start: Duration,
    pub end: Duration,
}

/// Starts a small paused domain that opens `disk` and connects to `socket` like an instance's, and ends it.
///
/// # Errors
/// When libvirt or QEMU fails.
pub async fn try_domain(
    name: &str,
    run: &str,
    accelerator: Accelerator,
    disk: &Path,
    socket: &Path,
) -> Result<TrialTimes, Error> {
    let connection = connect_to(Driver::Qemu, Driver::Qemu.uri()).await?;
    let text = trial_xml(name, run, accelerator, disk, socket);
    let begun = Instant::now();
    let flags = virt_sys::VIR_DOMAIN_START_AUTODESTROY | virt_sys::VIR_DOMAIN_START_PAUSED;
    let started = {
        let connection = connection.clone();
        blocking(format!("starting domain {name}"), move || connection.create_domain_xml(&text, flags)).await
    };
    let start = begun.elapsed();
    let begun = Instant::now();
    let ended = match &started {
        Ok(_) => left_over::destroy(Driver::Qemu, name).await,
        Err(_) => Ok(()),
    };
    let end = begun.elapsed();
    // `clean` finds a log that can't be removed.
    let _ = log::remove(Driver::Qemu, name);
    started?;
    ended?;
    Ok(TrialTimes { start, end })
}

fn trial_xml(name: &str, run: &str, accelerator: Accelerator, disk: &Path, socket: &Path) -> String {
    let kind = if accelerator == Accelerator::Kvm { "kvm" } else { "qemu" };
    let acpi = if cfg!(target_arch = "x86_64") { "<features><acpi/></features>" } else { "" };
    format!(
        "<domain type='{kind}'>
  <name>{name}</name>
  <metadata><bootrace:run xmlns:bootrace='{uri}'>{run}</bootrace:run></metadata>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='{arch}' machine='{machine}'>hvm</type></os>
  {acpi}
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <channel type='unix'>
      <source mode='connect' path='{socket}'/>
      <target type='virtio' name='{PORT_NAME}'/>
    </channel>
  </devices>
</domain>
",
        name = escape(name),
        uri = METADATA_URI,
        run = escape(run),
        arch = std::env::consts::ARCH,
        machine = machine::MACHINE,
        disk = escape(disk.to_string_lossy()),
        socket = escape(socket.to_string_lossy()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: &str = "<capabilities><host><cpu><model>EPYC</model></cpu>
        <secmodel><model>none</model><doi>0</doi></secmodel>
        <secmodel><model>dac</model><doi>0</doi>
          <baselabel type='kvm'>+1:+2</baselabel><baselabel type='qemu'>+64055:+108</baselabel></secmodel></host>
        <guest><os_type>hvm</os_type><arch name='i686'><emulator>/usr/bin/qemu-system-i386</emulator>
          <domain type='qemu'/><domain type='kvm'/></arch></guest>
        <guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator>
          <machine>pc</machine><domain type='qemu'/></arch></guest>
        <guest><os_type>hvm</os_type><arch name='s390x'><domain type='kvm'/></arch></guest></capabilities>";

    #[test]
    fn libvirts_capabilities_are_read_for_this_architecture_alone() {
        let expected = Offers {
            emulator: Some("/usr/bin/qemu-system-x86_64".into()),
            tcg: true,
            kvm: false,
            account: Some((64055, 108)),
        };
        assert_eq!(Offers::parse(CAPABILITIES, "x86_64"), expected);
        assert!(Offers::parse(CAPABILITIES, "i686").kvm);
    }

    #[test]
    fn nonsense_offers_nothing() {
        for text in ["", "<a", "<a></b>", "<capabilities/>"] {
            assert_eq!(Offers::parse(text, "x86_64"), Offers::default(), "{text}");
        }
    }

    #[test]
    fn hostile_names_stay_text_in_the_trial_domain() {
        let path = Path::new("/a'/><x y=\"&\">");
        let text = trial_xml("a'<b>", "r&", Accelerator::Tcg, path, path);
        assert!(!text.contains("<x ") && !text.contains("<b>") && text.contains("type='qemu'"));
    }
}
