//! Caveats about the host, each with its fix.

use crate::sample::{Accelerator, Host, KvmDegree, Results, Setting, TargetRecord};

/// Checks in the order of their usual effect, largest first.
pub(super) const FACTS: [fn(&Results) -> Option<String>; 16] = [
    |r| emulated(&r.host),
    |r| virtualised(&r.host),
    |r| neighbours(&r.host),
    |r| governor(&r.host),
    |r| turbo(&r.host),
    frequencies,
    |r| smt(&r.host),
    numa,
    |r| swap(&r.host),
    |r| ksm(&r.host),
    |r| thp(&r.host),
    |r| clock(&r.host),
    |r| mitigations(&r.host),
    |r| untuned(&r.host),
    nesting,
    without_hardware,
];

pub(super) fn facts(results: &Results) -> Vec<String> {
    FACTS.iter().filter_map(|fact| fact(results)).collect()
}

/// A VM on KVM on a host that is itself a guest.
fn nesting(results: &Results) -> Option<String> {
    let hypervisor = results.host.virtualised.as_deref().filter(|v| *v != "none")?;
    // Earlier versions did not record KVM's degree.
    let is_nested = |t: &&TargetRecord| t.kvm.is_none_or(|kvm| kvm.degree == KvmDegree::Nested);
    let on_kvm = results.targets.iter().filter(|t| t.accelerator == Accelerator::Kvm);
    let nested: Vec<&str> = on_kvm.filter(is_nested).map(|t| t.name.as_str()).collect();
    (!nested.is_empty()).then(|| {
        format!(
            "{} ran nested, a VM within a VM of {hypervisor}: VM exits cost a multiple of those on bare metal; use a bare-metal host for figures of VMs",
            nested.join(" and ")
        )
    })
}

/// VMs on KVM without the processor's virtualisation. The run itself warns of KVM that emulates or is broken.
fn without_hardware(results: &Results) -> Option<String> {
    let degree = KvmDegree::Paravirtual;
    let on_it = |t: &&TargetRecord| {
        t.accelerator == Accelerator::Kvm && t.kvm.is_some_and(|kvm| kvm.degree == degree)
    };
    let names: Vec<&str> = results.targets.iter().filter(on_it).map(|t| t.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        let (names, name, explanation) = (names.join(" and "), degree.name(), degree.explanation());
        format!("{names} ran on KVM that is {name} (pvm): {explanation}; use a host with VMX or SVM for that")
    })
}

fn emulated(host: &Host) -> Option<String> {
    let emulator = host.processor_emulator.as_deref()?;
    Some(format!(
        "the host's processor is itself emulated ({emulator}): figures show that targets work and how they compare under it, and no figure is a speed; use a real processor for speeds"
    ))
}

fn virtualised(host: &Host) -> Option<String> {
    let hypervisor = host.virtualised.as_deref().filter(|v| *v != "none")?;
    Some(format!(
        "the host is itself virtual ({hypervisor}): nested virtualisation can slow VMs by half or more, and neighbours can't be seen; use a bare-metal host where it matters"
    ))
}

fn neighbours(host: &Host) -> Option<String> {
    let count = |n: Option<u32>, what: &str| {
        let n = n.filter(|n| *n > 0)?;
        Some(format!("{n} other {what}{}", if n == 1 { "" } else { "s" }))
    };
    let found = [count(host.other_containers, "container"), count(host.other_vms, "VM")];
    let found: Vec<String> = found.into_iter().flatten().collect();
    (!found.is_empty()).then(|| {
        format!(
            "running beside this run: {}; they use CPU and memory, and share the engine's daemons: stop them (docker ps, virsh list) and run again",
            found.join(" and ")
        )
    })
}

fn governor(host: &Host) -> Option<String> {
    let governor = host.governor.as_deref().filter(|g| *g != "performance")?;
    Some(format!(
        "the CPU governor is {governor}, not performance: the clock rate follows the load; run with --tune, or cpupower frequency-set -g performance"
    ))
}

fn turbo(host: &Host) -> Option<String> {
    // Under a hypervisor, its host sets the clock rate.
    let bare = host.virtualised.as_deref() == Some("none");
    (bare && host.turbo == Some(true)).then(|| {
        "turbo is on: the clock rate varies with heat and with how many cores are busy; run with --tune, which turns it off during the run".into()
    })
}

/// Whether the scenario chooses the CPUs that instances are bound to.
fn chosen_cpus(results: &Results) -> bool {
    results.run.scenario["resources"]["cpus"].is_string()
}

fn frequencies(results: &Results) -> Option<String> {
    let ranges = results.host.frequencies.len();
    (ranges > 1 && !chosen_cpus(results)).then(|| {
        format!(
            "the host's CPUs have {ranges} different ranges of clock rate, and instances are bound to the highest-numbered, which may be the slower ones: choose CPUs in [resources], for example cpus = \"0-3\" (lscpu -e lists them)"
        )
    })
}

fn smt(host: &Host) -> Option<String> {
    (host.smt == Some(true)).then(|| {
        "SMT is on: work on a core's other thread slows an instance down unnoticed; turn it off until the next boot: echo off > /sys/devices/system/cpu/smt/control".into()
    })
}

fn numa(results: &Results) -> Option<String> {
    let nodes = results.host.numa_nodes.filter(|n| *n > 1 && !chosen_cpus(results))?;
    Some(format!(
        "the host has {nodes} NUMA nodes: memory of another node is slower, and instances may get either; choose CPUs of one node in [resources], for example cpus = \"0-3\" (lscpu -e lists them)"
    ))
}

fn swap(host: &Host) -> Option<String> {
    if host.swap_bytes == 0 {
        return None;
    }
    let used = host.swap_used_bytes.filter(|used| *used > 0);
    let used = used.map(|used| format!(", {} of them in use", used.div_ceil(1 << 20))).unwrap_or_default();
    Some(format!(
        "the host has {} MiB of swap{used}: only memory.swap includes swapped-out pages; turn swap off for the run (swapoff -a), or run with --tune, which makes the kernel avoid it",
        host.swap_bytes.div_ceil(1 << 20)
    ))
}

fn ksm(host: &Host) -> Option<String> {
    if host.ksm == Some(true) {
        return Some(
            "kernel same-page merging (KSM) is on: VMs share pages and seem smaller than they are; run with --tune, or echo 0 > /sys/kernel/mm/ksm/run".into(),
        );
    }
    let pages = host.ksm_pages.filter(|pages| *pages > 0)?;
    Some(format!(
        "kernel same-page merging (KSM) is off, but {pages} pages are still merged from before; unmerge them: echo 2 > /sys/kernel/mm/ksm/run"
    ))
}

fn thp(host: &Host) -> Option<String> {
    (host.thp.as_deref() == Some("always")).then(|| {
        "transparent huge pages are always on: memory grows in steps of 2 MiB whether it is used or not; limit them to madvise: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".into()
    })
}

fn clock(host: &Host) -> Option<String> {
    let clock = host.clock_source.as_deref().filter(|c| matches!(*c, "hpet" | "acpi_pm" | "jiffies"))?;
    Some(format!(
        "the host's clock source is {clock}: reading the time is slow or coarse; if /sys/devices/system/clocksource/clocksource0/available_clocksource has tsc, write that to current_clocksource in the same directory"
    ))
}

/// Only where the user switched them off: the host is then faster than most, especially at starting processes.
fn mitigations(host: &Host) -> Option<String> {
    const COSTLY: [&str; 4] = ["meltdown", "spectre_v2", "mds", "l1tf"];
    let open = host.mitigations.iter().filter(|m| m.state.starts_with("Vulnerable"));
    let open: Vec<&str> = open.map(|m| m.name.as_str()).filter(|name| COSTLY.contains(name)).collect();
    (!open.is_empty()).then(|| {
        format!(
            "mitigations of processor vulnerabilities are off ({}): system calls and VM exits are cheaper than on most hosts; compare only with similar hosts, or boot without mitigations=off",
            open.join(", ")
        )
    })
}

fn untuned(host: &Host) -> Option<String> {
    let left: Vec<(&str, &str)> = host
        .tuned
        .iter()
        .flatten()
        .filter_map(|Setting { name, why_not, .. }| Some((name.as_str(), why_not.as_deref()?)))
        .collect();
    let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
    let reasons: Vec<String> = left.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    (!left.is_empty()).then(|| {
        format!(
            "--tune could not set {}: set it by hand, in the firmware, or on the machine below a VM or container. Why: {}",
            names.join(", "),
            reasons.join("; ")
        )
    })
}
