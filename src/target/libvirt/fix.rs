//! Fixes for errors of libvirt and QEMU.

use std::io;

use virt::error::ErrorNumber;

use crate::{
    cause::{Cause, NEEDS_ROOT},
    target::Error,
};

const OVMF: &str = "install OVMF, the package ovmf (on ARM qemu-efi-aarch64), or run scripts/setup";

/// Texts in their errors, and the fix. The first match counts.
const SIGNS: [(&str, &str); 10] = [
    // libvirt asks polkit through it; root needs no permission.
    ("Unable to get system bus connection", NEEDS_ROOT),
    // Before the next one, whose text it contains.
    (
        "Could not access KVM",
        "scripts/setup fixes the group and mode of /dev/kvm; accel = \"tcg\" does without",
    ),
    (
        "Permission denied",
        "QEMU's user must be able to read the image cache: not below a directory of mode 0700 (BOOTRACE_CACHE names another)",
    ),
    // Texts of older and newer versions.
    ("Unable to find any firmware", OVMF),
    ("firmware that is compatible", OVMF),
    (
        "/sys/fs/cgroup/unified",
        "This host has cgroups of both versions, and a controller that is in neither's use, hugetlb say: mount it as \
         version 1 and restart libvirtd, as scripts/setup does",
    ),
    (
        "KVM internal error",
        "This host's KVM can't run what the VM runs, Linux included: it emulates instructions and knows too few \
         of them. Use accel = \"auto\" or \"tcg\", or a host with hardware or nested virtualisation",
    ),
    (
        "failed to set MSR 0x10a",
        "This host's KVM refuses a register (IA32_ARCH_CAPABILITIES) of the CPU model that the VM has: take \
         another, without arch-capabilities (host-passthrough and max have it), or accel = \"tcg\"",
    ),
    (
        "failed to set MSR",
        "This host's KVM refuses a register that the VM's CPU model or clock needs: take another CPU model, \
         or accel = \"tcg\"",
    ),
    (
        "does not provide required features",
        "This host's KVM lacks what the VM's CPU model needs: take another, such as host-passthrough, or \
         accel = \"tcg\"",
    ),
];

/// The fix for the error in `text`, if one is known.
pub fn of(text: &str) -> Option<&'static str> {
    SIGNS.iter().find(|(sign, _)| text.contains(sign)).map(|(_, fix)| *fix)
}

/// libvirt's error: what failed, the cause, and the fix.
pub fn failed(tried: impl Into<String>, error: &virt::error::Error) -> Error {
    let text = error.message().trim();
    Error::new(tried, text).by(cause(error)).with_hint(of(text))
}

/// The text of a libvirt error with its fix.
pub fn explain(error: &virt::error::Error) -> String {
    let text = error.message().trim();
    of(text).map_or_else(|| text.to_owned(), |fix| format!("{text}; fix: {fix}"))
}

fn cause(error: &virt::error::Error) -> Cause {
    use ErrorNumber::*;
    let code = error.code();
    let is = |known: &[ErrorNumber]| known.iter().any(|known| code == (*known).into());
    match () {
        () if is(&[NoConnect, NoSupport, OperationUnsupported, ConfigUnsupported]) => Cause::Unsupported,
        () if is(&[AuthFailed, AuthCancelled, AuthUnavailable, AccessDenied]) => Cause::Denied,
        () if is(&[NoDomain]) => Cause::NotFound,
        () if is(&[OperationTimeout]) => Cause::TimedOut,
        () => Cause::Other,
    }
}

/// The cause of a failed connection. Call it on the thread of the failed call, before any other libvirt call: only
/// libvirt's per-thread record has the operating system's error.
#[expect(unsafe_code, reason = "the virt crate hides the number of the system's error")]
pub fn cause_of_connecting(error: &virt::error::Error) -> Cause {
    if error.code() != ErrorNumber::SystemError.into() {
        return cause(error);
    }
    // SAFETY: libvirt keeps the thread's last error until its next call on this thread.
    let errno = unsafe { virt_sys::virGetLastError().as_ref() }.map(|error| error.int1);
    errno.map_or(Cause::Other, |errno| Cause::of_reaching(&io::Error::from_raw_os_error(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_sign_counts() {
        let kvm = "Could not access KVM kernel module: Permission denied";
        assert!(of(kvm).unwrap().contains("/dev/kvm"));
        let msr =
            |number| of(&format!("qemu-system-x86_64: error: failed to set MSR {number} to 0x69")).unwrap();
        assert!(
            msr("0x10a").contains("arch-capabilities") && !msr("0x40000021").contains("arch-capabilities")
        );
        let svm = "the CPU is incompatible with host CPU: Host CPU does not provide required features: svm";
        assert!(of(svm).unwrap().contains("CPU model"));
        assert_eq!(of("no such message"), None);
    }
}
