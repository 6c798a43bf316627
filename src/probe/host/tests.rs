use super::*;

pub(super) fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root(dir.path().to_owned());
    (dir, root)
}

const CPUINFO: &str = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n\n\
                       processor\t: 1\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n";

#[test]
fn the_record_equals_the_files() {
    let (_dir, root) = host(&[
        ("proc/sys/kernel/random/boot_id", "4d2f\n"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
        ("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "performance\n"),
        ("sys/devices/system/cpu/cpufreq/policy2/scaling_governor", "powersave\n"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
        ("sys/devices/system/cpu/smt/active", "1\n"),
        ("sys/kernel/mm/ksm/run", "2\n"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ]);
    let facts = root.facts();
    assert_eq!(facts.boot_id, "4d2f");
    assert_eq!(facts.governor.as_deref(), Some("performance, powersave"));
    assert_eq!((facts.turbo, facts.smt, facts.ksm), (Some(false), Some(true), Some(false)));
    assert_eq!(facts.thp.as_deref(), Some("madvise"));
}

#[test]
fn a_missing_file_is_unknown_rather_than_off() {
    let (_dir, root) = host(&[]);
    let facts = root.facts();
    assert_eq!((facts.turbo, facts.smt, facts.ksm), (None, None, None));
    assert_eq!((facts.governor, facts.thp, facts.clock_source), (None, None, None));
    assert_eq!(root.virtualised(None), None);
    assert_eq!(root.noise(), sample::Noise::default());
}

#[test]
fn boost_is_asked_where_there_is_no_intel_driver() {
    let (_dir, root) = host(&[("sys/devices/system/cpu/cpufreq/boost", "1\n")]);
    assert_eq!(root.turbo(), Some(true));
    let policies = "sys/devices/system/cpu/cpufreq/policy";
    let each = |a: &str, b: &str| {
        let files =
            [(format!("{policies}0/boost"), a.to_owned()), (format!("{policies}1/boost"), b.to_owned())];
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let (_dir, root) = host(&files);
        root.turbo()
    };
    assert_eq!((each("0\n", "1\n"), each("0\n", "0\n")), (Some(true), Some(false)));
}

#[test]
fn a_hypervisor_is_named_by_cpuid_and_board() {
    let (_dir, root) = host(&[("proc/cpuinfo", CPUINFO), ("sys/class/dmi/id/sys_vendor", "QEMU\n")]);
    assert_eq!(root.virtualised(Some("KVMKVMKVM".into())).as_deref(), Some("KVM (QEMU)"));
    assert_eq!(root.virtualised(None).as_deref(), Some("unknown hypervisor (QEMU)"));
}

#[test]
fn bare_metal_is_recognised_whatever_cpuid_says() {
    let (_dir, root) = host(&[("proc/cpuinfo", &CPUINFO.replace("hypervisor ", ""))]);
    assert_eq!(root.virtualised(Some("GenuineJunk".into())).as_deref(), Some("none"));
}

#[test]
fn an_emulated_processor_is_recognised_by_its_bios_or_cpuid_and_distinguished_from_kvm() {
    let bare = CPUINFO.replace("hypervisor ", "");
    let emulator = |cpuinfo: &str, bios: &str, signature: &str| {
        let (_dir, root) = host(&[
            ("proc/cpuinfo", cpuinfo),
            ("sys/class/dmi/id/bios_vendor", bios),
            // Like QEMU's, also under KVM.
            ("sys/firmware/acpi/tables/FACP", "FACPt\0\0\0\x01[BOCHS BXPC"),
        ]);
        root.processor_emulator(Some(signature.to_owned()).filter(|text| !text.is_empty()))
    };
    assert_eq!(emulator(&bare, "The Bochs Project\n", "").as_deref(), Some("Bochs"));
    assert_eq!(emulator(CPUINFO, "SeaBIOS\n", "TCGTCGTCGTCG").as_deref(), Some("QEMU TCG"));
    assert_eq!(emulator(CPUINFO, "SeaBIOS\n", "KVMKVMKVM"), None);
    // A KVM guest with Bochs's BIOS still runs on the processor.
    assert_eq!(emulator(CPUINFO, "The Bochs Project\n", "KVMKVMKVM"), None);
    assert_eq!(emulator(&bare, "American Megatrends\n", "TCGTCGTCGTCG"), None);
    assert_eq!(emulator("", "The Bochs Project\n", "TCGTCGTCGTCG"), None);
}

#[test]
fn noise_is_read_from_load_pressure_and_steal() {
    let (_dir, root) = host(&[
        ("proc/loadavg", "1.25 0.80 0.60 2/345 6789\n"),
        (
            "proc/pressure/cpu",
            "some avg10=8.51 avg60=2.17 avg300=1.75 total=27590847\nfull avg10=0.00 avg60=0.00\n",
        ),
        ("proc/pressure/io", "some avg10=0.84 avg60=0.25 avg300=0.49 total=7218902\n"),
        ("proc/stat", "cpu  8682 35715 13000 167707 1141 0 159 19 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n"),
    ]);
    let noise = root.noise();
    assert_eq!(noise.load_1m, Some(1.25));
    assert_eq!((noise.psi_cpu_some_avg10, noise.psi_io_some_avg10), (Some(8.51), Some(0.84)));
    assert_eq!(noise.psi_memory_some_avg10, None);
    assert_eq!(noise.steal_ns, Some(19 * process::tick_ns()));
}

#[test]
fn this_very_host_has_processors_memory_and_a_kernel() {
    let facts = facts();
    assert!(facts.cpus > 0 && facts.memory_bytes > 0);
    assert!(!facts.kernel_release.is_empty() && !facts.boot_id.is_empty());
    assert!(facts.noise_before.load_1m.is_some());
}

#[test]
fn clock_rates_are_shown_as_a_range_and_counted_in_cpus() {
    let policy = |n: u32, file: &str| format!("sys/devices/system/cpu/cpufreq/policy{n}/{file}");
    let mut files = Vec::new();
    for (n, cpus, max, now) in [(0, "0 1", "5000000", "4000000"), (2, "2 3", "5000000", "3000000")] {
        files.push((policy(n, "related_cpus"), cpus));
        files.push((policy(n, "cpuinfo_min_freq"), "800000\n"));
        files.push((policy(n, "cpuinfo_max_freq"), max));
        files.push((policy(n, "scaling_cur_freq"), now));
    }
    files.push((policy(4, "cpuinfo_max_freq"), "3800000"));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let (_dir, root) = host(&files);
    let rate = |cpus, min_khz, max_khz, now_khz| sample::Frequency { cpus, min_khz, max_khz, now_khz };
    assert_eq!(
        root.frequencies(),
        [rate(1, None, Some(3_800_000), None), rate(4, Some(800_000), Some(5_000_000), Some(3_500_000))]
    );
}

#[test]
fn a_guest_without_frequency_policies_has_the_rate_of_its_cpuinfo() {
    let (_dir, root) = host(&[("proc/cpuinfo", "cpu MHz\t\t: 2600.000\n\ncpu MHz\t\t: 2400.000\n")]);
    let reported = sample::Frequency { cpus: 2, now_khz: Some(2_500_000), ..Default::default() };
    assert_eq!(root.frequencies(), [reported]);
    assert_eq!(host(&[]).1.frequencies(), []);
}

#[test]
fn mitigations_are_in_the_kernels_words_and_bounded() {
    let long = "x".repeat(10_000);
    let (_dir, root) = host(&[
        ("sys/devices/system/cpu/vulnerabilities/retbleed", "Vulnerable\n"),
        ("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n"),
        ("sys/devices/system/cpu/vulnerabilities/strange", &long),
    ]);
    let found = root.mitigations();
    let reported: Vec<(&str, usize)> = found.iter().map(|m| (m.name.as_str(), m.state.len())).collect();
    assert_eq!(reported, [("meltdown", 15), ("retbleed", 10), ("strange", LONGEST)]);
}

#[test]
fn nodes_nesting_swap_and_merged_pages_are_what_the_files_say() {
    let (_dir, root) = host(&[
        ("sys/devices/system/node/node0/cpulist", "0-3\n"),
        ("sys/devices/system/node/node1/cpulist", "4-7\n"),
        ("sys/devices/system/node/possible", "0-1\n"),
        ("sys/module/kvm_intel/parameters/nested", "Y\n"),
        ("sys/kernel/mm/ksm/pages_sharing", "1234\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("proc/cpuinfo", "processor\t: 0\nmicrocode\t: 0xf4\n"),
    ]);
    let facts = root.facts();
    assert_eq!((facts.numa_nodes, facts.nested, facts.ksm_pages), (Some(2), Some(true), Some(1234)));
    assert_eq!((facts.swappiness, facts.microcode.as_deref()), (Some(60), Some("0xf4")));
    let (_dir, amd) = host(&[("sys/module/kvm_amd/parameters/nested", "0\n")]);
    assert_eq!((amd.nested(), amd.numa_nodes()), (Some(false), None));
    assert_eq!(host(&[]).1.nested(), None);
}
