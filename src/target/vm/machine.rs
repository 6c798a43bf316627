//! The machine of every VM: its type, kernel command line and processor.

use bootrace_agent::protocol::NETWORK_VARIABLE;

use crate::sample::Accelerator;

#[cfg(target_arch = "x86_64")]
pub const MACHINE: &str = "q35";
#[cfg(not(target_arch = "x86_64"))]
pub const MACHINE: &str = "virt";

/// - `quiet`: each byte on a console costs an exit.
/// - `panic=-1`: a dead kernel ends its VM at once.
/// - `cryptomgr.notests`: the kernel's self-tests of its ciphers took 0.3 s of an emulated boot of 2.0 s, and
///   no container's start has them.
pub const KERNEL_COMMAND_LINE: &str = "quiet panic=-1 cryptomgr.notests";

/// The command line; with a network it makes the agent set one up.
pub fn kernel_command_line(network: bool) -> String {
    if network {
        format!("{KERNEL_COMMAND_LINE} {NETWORK_VARIABLE}=user")
    } else {
        KERNEL_COMMAND_LINE.into()
    }
}

/// RDRAND. Without it an idle VM's kernel waits for entropy, and so does a workload that needs random numbers early.
/// `host-passthrough` has it if the host does.
#[cfg(target_arch = "x86_64")]
pub const RANDOM_FEATURE: &str = "rdrand";
#[cfg(not(target_arch = "x86_64"))]
pub const RANDOM_FEATURE: &str = "";

/// With KVM the host's CPU; emulation is fastest with QEMU's simplest model.
pub fn cpu_model(accelerator: Accelerator) -> &'static str {
    match (accelerator, cfg!(target_arch = "x86_64")) {
        (Accelerator::Kvm, _) => "host-passthrough",
        (_, true) => "qemu64",
        (_, false) => "max",
    }
}

/// The domain type of the accelerator.
pub fn domain_type(accelerator: Accelerator) -> &'static str {
    if accelerator == Accelerator::Kvm { "kvm" } else { "qemu" }
}
