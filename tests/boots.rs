//! Whole systems: the image's own systemd as PID 1, in VMs and in a container, from the same image as all else.

mod common;

use common::{Bench, boot_id, left_over, ran_the_same};

/// Says which PID 1 it sees. Emulated boots of a whole system take most of a minute, on a busy host two.
const SCENARIO: &str = r#"
[workload]
command = ["sh", "-c", "echo \"pid 1 is $(cat /proc/1/comm)\"; exec sleep infinity"]
ready = { line = "^pid 1 is PID1$" }
[resources]
cpus = 1
memory = "512MiB"
[sampling]
samples = 1
warmup = 0
settle = "500ms"
idle = "500ms"
timeout = "180s"
"#;

/// A scenario whose targets all have a PID 1 of this name.
fn scenario(pid1: &str, targets: &str) -> Bench {
    Bench::new(&format!("{}{targets}", SCENARIO.replace("PID1", pid1)))
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn whole_systems_boot_from_the_image_of_all_other_targets_and_their_parts_add_up_to_the_boot() {
    let bench = scenario(
        ".+",
        r#"
[[target]]
kind = "native"
[[target]]
kind = "docker"
[[target]]
name = "direct"
kind = "libvirt"
[[target]]
name = "systemd"
kind = "libvirt"
boot = "systemd"
[[target]]
name = "firmware"
kind = "libvirt"
boot = "firmware"
"#,
    );
    let samples = bench.run(&[]).good();
    assert_eq!(samples.len(), 5);
    ran_the_same(&samples);
    let kernel = bench.results().unwrap().image.kernel;
    for sample in &samples {
        let (name, identity) = (sample.target.as_str(), sample.identity.as_ref().unwrap());
        assert!(sample.memory_bytes.workload_rss.unwrap() > 0, "{name}");

        let vm = !["native", "docker"].contains(&name);
        assert_eq!(identity.boot_id != boot_id(), vm, "{name}");
        assert_eq!(sample.boot_ns.is_some(), vm, "{name}");
        let Some(boot) = &sample.boot_ns else { continue };
        assert_eq!(Some(&identity.kernel_release), kernel.as_ref(), "{name}");
        assert_eq!(boot.error, None, "{name}");
        assert_eq!(boot.sum(), sample.timeline_ns.phases().unwrap().boot, "{name}: {boot:?}");
        let parts = [boot.firmware, boot.kernel, boot.initrd, boot.userspace, boot.agent_unit];
        let there = if name == "direct" { 3 } else { 5 };
        assert!(parts[..there].iter().all(|part| part.is_some_and(|ns| ns > 0)), "{name}: {boot:?}");
        assert!(parts[there..].iter().all(Option::is_none), "{name}: {boot:?}");
    }
    let startup =
        |name: &str| samples.iter().find(|s| s.target == name).and_then(|s| s.timeline_ns.startup()).unwrap();
    assert!(startup("direct") < startup("systemd"), "a whole system takes longer than an agent alone");
    let option = |name: &str, key: &str| {
        let targets = bench.results().unwrap().targets;
        targets.iter().find(|t| t.name == name).unwrap().options[key].clone()
    };
    assert_eq!(option("firmware", "firmware"), "bios");
    assert_eq!(option("firmware", "kernel_command_line"), option("systemd", "kernel_command_line"));
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn pid_1_of_a_vm_is_systemd_by_kernel_bios_and_uefi_and_it_has_its_network_before_the_workload() {
    // QEMU's user network has its gateway, 10.0.2.2, as the kernel writes it.
    let bench = Bench::new(
        r#"
[workload]
command = ["sh", "-c", "echo $(cat /proc/1/comm) $(cut -f 2,3 /proc/net/route | grep ^00000000); exec sleep infinity"]
ready = { line = "^systemd 00000000 0202000A$" }
network = true
[resources]
memory = "512MiB"
[sampling]
samples = 1
warmup = 0
settle = "0s"
idle = "0s"
timeout = "180s"
[[target]]
name = "uefi"
kind = "libvirt"
boot = "firmware"
firmware = "uefi"
[[target]]
name = "bios"
kind = "libvirt"
boot = "firmware"
[[target]]
name = "systemd"
kind = "libvirt"
boot = "systemd"
"#,
    );
    let samples = bench.run(&[]).good();
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        let boot = sample.boot_ns.as_ref().unwrap();
        assert_eq!(boot.sum(), sample.timeline_ns.phases().unwrap().boot, "{}: {boot:?}", sample.target);
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn pid_1_of_a_container_can_be_systemd_and_all_that_it_runs_is_measured_and_removed() {
    let bench = scenario(
        "systemd",
        r#"
[[target]]
kind = "docker"
init = "systemd"
"#,
    );
    let samples = bench.run(&["--samples", "2"]).good();
    assert_eq!(samples.len(), 2);
    for sample in &samples {
        assert_eq!(sample.identity.as_ref().unwrap().boot_id, boot_id());
        let boot = sample.boot_ns.as_ref().unwrap();
        assert!(boot.userspace.unwrap() > 0 && boot.agent_unit.unwrap() > 0, "{boot:?}");
        assert_eq!((boot.firmware, boot.kernel, boot.initrd), (None, None, None), "{boot:?}");
        // systemd and its journal are in it, not the workload alone; the shim is the engine's.
        let memory = sample.memory_bytes;
        assert!(memory.footprint.unwrap() > memory.workload_rss.unwrap() + (4 << 20), "{memory:?}");
        assert!(memory.engine_pss.unwrap() > 0, "{memory:?}");
    }
    assert_eq!(left_over(), Vec::<String>::new());
}
