//! KVM: whether it is there and runs Linux, QEMU's user can open it, and libvirt offers it.

use std::{fs::File, io, path::Path};

use super::{Check, account::Account};
use crate::{
    cause::Cause,
    daemon::LIBVIRT,
    kind::Kind,
    probe::kvm::{self, KvmVerdict},
    sample::KvmDegree,
    sys,
    target::{libvirt::Driver, vm::inspect::Hypervisor},
};

const DEVICE: &str = "/dev/kvm";

/// Runs the probe guest.
pub async fn verdict() -> KvmVerdict {
    let probing = tokio::task::spawn_blocking(kvm::probe).await;
    probing.unwrap_or_else(|error| KvmVerdict::Broken { why: format!("the probe ended early: {error}") })
}

/// What VMs run on, as a phrase.
pub fn how(verdict: &KvmVerdict) -> &'static str {
    match verdict {
        KvmVerdict::Runs { degree: KvmDegree::Hardware, .. } => "on KVM",
        KvmVerdict::Runs { degree: KvmDegree::Nested, .. } => "on KVM (nested)",
        KvmVerdict::Runs { degree: KvmDegree::Paravirtual, .. } => "on KVM (para-virtualised)",
        KvmVerdict::Runs { .. } => "on KVM (emulated)",
        KvmVerdict::Unknown { .. } => "in a VM (KVM or TCG: unknown)",
        _ => "emulated (TCG)",
    }
}

/// The check's result for a verdict on KVM.
pub fn kvm(verdict: &KvmVerdict) -> Check {
    let (id, title) = ("kvm", "KVM");
    let emulated = "VMs will be emulated (TCG), and their figures compare with each other and say nothing about a VM \
                    on KVM";
    match verdict {
        KvmVerdict::Runs { degree: KvmDegree::Hardware, .. } => Check::ok(id, title, verdict.to_string()),
        KvmVerdict::Runs { degree: degree @ KvmDegree::Emulated, .. } => {
            Check::warning(id, title, format!("{verdict}; {}", degree.explanation()))
                .fix("accel = \"tcg\" in the scenario, or a host with hardware or nested virtualisation")
        }
        KvmVerdict::Runs { degree, .. } => {
            Check::ok(id, title, format!("{verdict}; {}", degree.explanation()))
        }
        KvmVerdict::Unknown { .. } => {
            Check::warning(id, title, verdict.to_string()).fix("bootrace doctor, when this host is less busy")
        }
        // A run is root's and so finds out.
        KvmVerdict::Missing { cause: Cause::Denied, .. } if !sys::is_root() => {
            Check::not_checked(id, title, verdict.to_string())
        }
        // The device exists, and this process may not open it.
        KvmVerdict::Missing { cause: Cause::Denied, .. } => {
            Check::warning(id, title, format!("KVM can't be used: {emulated} ({verdict})"))
                .fix("in a container, give it the device (--device /dev/kvm)")
        }
        KvmVerdict::Missing { .. } => {
            Check::warning(id, title, format!("KVM is not here: {emulated} ({verdict})"))
                .fix("run on a host with hardware or nested virtualisation, with kvm_intel or kvm_amd loaded")
        }
        _ => Check::warning(id, title, format!("KVM is here but cannot run Linux: {emulated} ({verdict})"))
            .fix("run on a host with hardware or nested virtualisation; nothing on this one fixes it"),
    }
}

/// Opens the device as QEMU's user. If that fails, libvirt probes QEMU again and again, and every start of a VM takes
/// a minute, emulated or not.
pub fn access(account: &Account) -> Option<Check> {
    let (id, title) = ("kvm.access", "KVM for QEMU's user");
    if !Path::new(DEVICE).exists() {
        return None;
    }
    if !account.is_ours() && !sys::is_root() {
        let why = format!("only root can find out what QEMU's user {} may open", account.name);
        return Some(Check::not_checked(id, title, why));
    }
    let name = &account.name;
    Some(match account.run_as(|| File::options().read(true).write(true).open(DEVICE)) {
        Ok(_) => Check::ok(id, title, format!("{name} can open {DEVICE}")),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let found = format!(
                "libvirt runs QEMU as {name}, which can't open {DEVICE} ({e}): each VM, emulated or not, takes \
                 libvirt a minute to start"
            );
            let fix = format!("sudo chgrp kvm {DEVICE} && sudo chmod 660 {DEVICE} && {}", restart_libvirt());
            Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix)
        }
        Err(e) => {
            let found = format!("{name} can't open {DEVICE}: {e}");
            Check::warning(id, title, found).fix("sudo modprobe kvm_intel || sudo modprobe kvm_amd")
        }
    })
}

/// The fix of a libvirt that remembers what it found when it started.
fn restart_libvirt() -> String {
    LIBVIRT.restart(Driver::Qemu.place())
}

/// libvirt remembers from its start whether KVM was usable.
pub fn remembered(hypervisor: &Hypervisor, access: Option<&Check>, verdict: &KvmVerdict) -> Option<Check> {
    let (id, title) = ("kvm.libvirt", "KVM for libvirt");
    access.filter(|check| check.status == super::Status::Ok)?;
    if hypervisor.offers.as_ref()?.kvm {
        return Some(Check::ok(id, title, "libvirt offers it"));
    }
    let found =
        "libvirt offers no KVM though QEMU's user can open it: libvirt keeps the state of its own start";
    let fix = restart_libvirt();
    Some(match verdict {
        KvmVerdict::Runs { .. } => Check::failed(id, title, found, &[Kind::Libvirt]).fix(fix),
        _ => Check::warning(id, title, found).fix(fix),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::target::vm::inspect::Offers;

    #[test]
    fn kvm_that_emulates_is_said_in_plain_words_and_stops_nothing() {
        let check = kvm(&KvmVerdict::Broken { why: "exit: Shutdown".into() });
        assert!(check.found.starts_with("KVM is here but cannot run Linux: VMs will be emulated (TCG)"));
        assert!(check.found.contains("exit: Shutdown"));
        assert_eq!((check.status, check.stops.len()), (Status::Warning, 0));
        let check = kvm(&KvmVerdict::Missing { cause: Cause::Unreachable, why: "no /dev/kvm".into() });
        assert!(check.found.starts_with("KVM is not here: VMs will be emulated (TCG)"), "{}", check.found);
    }

    #[test]
    fn a_host_that_is_too_busy_to_tell_is_not_said_to_emulate() {
        let unknown = KvmVerdict::Unknown { why: "106ms of CPU time".into() };
        let check = kvm(&unknown);
        assert_eq!((check.status, check.stops.len()), (Status::Warning, 0));
        assert!(check.found.contains("unknown") && !check.found.contains("emulated"), "{}", check.found);
        assert_eq!(how(&unknown), "in a VM (KVM or TCG: unknown)");
    }

    #[test]
    fn a_libvirt_that_remembers_wrongly_is_to_be_restarted() {
        let open = Check::ok("kvm.access", "", "");
        let hypervisor = Hypervisor { offers: Some(Offers::default()), ..Hypervisor::default() };
        let verdict = KvmVerdict::Broken { why: String::new() };
        let check = remembered(&hypervisor, Some(&open), &verdict).unwrap();
        assert_eq!(check.status, Status::Warning);
        assert!(check.fix.unwrap().contains("libvirtd"));
        assert_eq!(remembered(&hypervisor, None, &verdict), None);
    }
}
