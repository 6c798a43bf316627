use super::*;

const V1_MEMORY_STAT: &str = include_str!("samples/v1.memory.stat");
const V2_MEMORY_STAT: &str = include_str!("samples/v2.memory.stat");

/// Of a service under systemd 252 and Linux 6.1, with version 2 alone.
const SYSTEMD_V2: &str = include_str!("samples/v2.systemd.mountinfo");
const SERVICE_MEMORY_STAT: &str = include_str!("samples/v2.systemd.memory.stat");

/// A host with both versions, no systemd: each controller apart, version 2 below.
const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

/// systemd's mounts with version 1: controllers that share a hierarchy, tags before the dash.
const SYSTEMD_V1: &str = "\
27 22 0:24 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,mode=755
28 27 0:25 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
33 27 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
34 27 0:31 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
";

const V2: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

/// Inside a container without a cgroup namespace: a part of the host's hierarchy is mounted.
const CONTAINER_V1: &str =
    "1201 1200 0:30 /docker/81c9 /sys/fs/cgroup/memory ro,nosuid master:16 - cgroup cgroup rw,memory\n";

fn at(path: &str) -> Option<PathBuf> {
    Some(path.into())
}

fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

#[test]
fn a_hybrid_hosts_controllers_are_found_each_in_its_place() {
    let mounts = Mounts::parse(HYBRID);
    assert_eq!(mounts.dir("memory", "/docker/81c9"), at("/sys/fs/cgroup/memory/docker/81c9"));
    assert_eq!(mounts.dir("cpuacct", "/docker/81c9"), at("/sys/fs/cgroup/cpuacct/docker/81c9"));
    assert_eq!(mounts.dir(UNIFIED, "/machine/q"), at("/sys/fs/cgroup/unified/machine/q"));
    assert_eq!(mounts.dir("hugetlb", "/docker/81c9"), None);
}

#[test]
fn controllers_that_share_a_hierarchy_share_a_directory() {
    let mounts = Mounts::parse(SYSTEMD_V1);
    let expected = at("/sys/fs/cgroup/cpu,cpuacct/system.slice/docker.service");
    assert_eq!(mounts.dir("cpu", "/system.slice/docker.service"), expected);
    assert_eq!(mounts.dir("cpuacct", "/system.slice/docker.service"), expected);
}

#[test]
fn a_mount_of_a_part_is_taken_off_the_path() {
    let mounts = Mounts::parse(CONTAINER_V1);
    assert_eq!(mounts.dir("memory", "/docker/81c9/inner"), at("/sys/fs/cgroup/memory/inner"));
    assert_eq!(mounts.dir("memory", "/docker/81c9"), at("/sys/fs/cgroup/memory"));
    assert_eq!(mounts.dir("memory", "/docker/81c9f"), None, "another cgroup with a longer name");
    assert_eq!(mounts.dir("memory", "/docker/other"), None);
}

#[test]
fn a_cgroup_outside_of_the_namespace_has_no_directory() {
    assert_eq!(Mounts::parse(V2).dir(UNIFIED, "/../../system.slice/docker.service"), None);
}

#[test]
fn mount_points_with_spaces_are_unescaped_and_other_mounts_ignored() {
    let text =
        "1 2 0:3 / /mnt/a\\040b\\134c rw - cgroup2 none rw\n2 2 0:3 / /sys rw - sysfs none rw\nnonsense\n";
    let mounts = Mounts::parse(text);
    assert_eq!(mounts.dir(UNIFIED, "/x"), at("/mnt/a b\\c/x"));
    assert_eq!(mounts.0.len(), 1);
}

#[test]
fn cgroups_can_be_made_under_each_controller_of_version_1() {
    let hierarchy = Mounts::parse(HYBRID).hierarchy().unwrap();
    assert_eq!(hierarchy.version, 1);
    assert_eq!(hierarchy.memory, at("/sys/fs/cgroup/memory"));
    assert_eq!(hierarchy.cpuacct, at("/sys/fs/cgroup/cpuacct"));
}

#[test]
fn on_version_2_all_controllers_are_in_one_place_if_the_kernel_has_them() {
    let dir = dir_with(&[("cgroup.controllers", "cpuset cpu io memory\n")]);
    let point = dir.path().to_str().unwrap();
    let hierarchy = Mounts::parse(&V2.replace("/sys/fs/cgroup", point)).hierarchy().unwrap();
    assert_eq!(hierarchy.version, 2);
    assert_eq!((hierarchy.cpu, hierarchy.memory), (at(point), at(point)));
    assert_eq!(hierarchy.cpuacct, at(point), "version 2 always counts CPU time");
    assert_eq!(hierarchy.pids, None);
}

#[test]
fn a_host_without_cgroups_has_no_hierarchy() {
    assert_eq!(Mounts::parse("1 2 0:3 / /sys rw - sysfs none rw\n").hierarchy(), None);
}

#[test]
fn a_process_has_a_path_in_each_hierarchy_and_paths_may_have_colons() {
    let places = Places::parse("4:cpu,cpuacct:/a:b/c\n2:name=systemd:/s\n0::/u\n");
    assert_eq!(places.path("cpuacct"), Some("/a:b/c"));
    assert_eq!(places.path("cpu"), Some("/a:b/c"));
    assert_eq!(places.path(UNIFIED), Some("/u"));
    assert_eq!(places.path("memory"), None);
}

#[test]
fn qemus_threads_are_below_the_cgroup_of_their_machine() {
    let scope = "/machine.slice/machine-qemu\\x2d3\\x2dnoble.scope";
    assert_eq!(instance(&format!("{scope}/libvirt/emulator")), scope);
    assert_eq!(instance(&format!("{scope}/libvirt/vcpu11")), scope);
    assert_eq!(instance(&format!("{scope}/libvirt")), scope);
    assert_eq!(instance(&format!("{scope}/emulator")), scope, "version 1 under systemd");
    let plain = "/machine/qemu-1-noble.libvirt-qemu";
    assert_eq!(instance(&format!("{plain}/emulator")), plain);
    assert_eq!(instance(&format!("{plain}/iothread1")), plain);
    assert_eq!(instance(plain), plain);
}

#[test]
fn a_containers_cgroup_is_its_own_whatever_it_is_called() {
    for path in
        ["/system.slice/docker-81c9.scope", "/docker/81c9", "/docker/vcpu", "/emulator", "/x/vcpu0a", "/"]
    {
        assert_eq!(instance(path), path);
    }
}

#[test]
fn a_systemd_inside_a_container_is_in_a_cgroup_below_its_containers() {
    assert_eq!(instance("/system.slice/docker-81c9.scope/init.scope"), "/system.slice/docker-81c9.scope");
    assert_eq!(instance("/docker/81c9/init.scope"), "/docker/81c9");
    assert_eq!(instance("/init.scope"), "/init.scope", "the host's own");
}

#[test]
fn only_a_cgroup_that_the_harness_is_not_in_is_a_process_s_own() {
    let own = |process: &str, harness: &str| {
        let parse = |path: &str| Places::parse(&format!("4:memory:{path}\n"));
        parse(process).own("memory", &parse(harness)).map(str::to_owned)
    };
    let session = "/user.slice/user-0.slice/session-1.scope";
    assert_eq!(own("/docker/81c9", "/").as_deref(), Some("/docker/81c9"));
    assert_eq!(own("/system.slice/docker.service", session).as_deref(), Some("/system.slice/docker.service"));
    assert_eq!(own("/", session), None, "all of the host");
    assert_eq!(own(session, session), None, "started from the same session");
    assert_eq!(own("/user.slice", session), None, "holds the harness");
    assert_eq!(own("/user.slice/user-0.slice/session-10.scope", session).as_deref().map(str::len), Some(41));
}

#[test]
fn a_process_is_within_its_cgroup_and_those_above_but_not_beside() {
    let places = Places::parse("0::/system.slice/docker.service/x\n");
    assert!(places.within(UNIFIED, "/system.slice/docker.service"));
    assert!(places.within(UNIFIED, "/"));
    assert!(!places.within(UNIFIED, "/system.slice/docker"));
    assert!(!places.within("cpuacct", "/system.slice/docker.service"));
}

#[test]
fn version_1_memory_is_that_of_the_whole_subtree_with_shmem_apart_from_page_cache() {
    let dir = dir_with(&[
        ("memory.stat", V1_MEMORY_STAT),
        ("memory.kmem.usage_in_bytes", "802816\n"),
        ("memory.kmem.tcp.usage_in_bytes", "4096\n"),
    ]);
    let expected = Memory {
        anon: 200_364_032,
        shmem: 1_048_576,
        file: 27_234_304 - 1_048_576,
        kernel: Some(802_816 + 4096),
    };
    assert_eq!(v1::memory(dir.path()).unwrap(), expected);
}

#[test]
fn kernel_memory_that_is_not_accounted_for_is_not_known_rather_than_none() {
    let without = dir_with(&[("memory.stat", V1_MEMORY_STAT)]);
    assert_eq!(v1::memory(without.path()).unwrap().kernel, None);
    let off = dir_with(&[("memory.stat", V1_MEMORY_STAT), ("memory.kmem.usage_in_bytes", "0\n")]);
    assert_eq!(v1::memory(off.path()).unwrap().kernel, None);
}

#[test]
fn version_2_memory_has_sockets_in_its_kernel_memory_and_shmem_apart_from_page_cache() {
    let dir = dir_with(&[("memory.stat", V2_MEMORY_STAT)]);
    let expected = Memory {
        anon: 4_370_432,
        shmem: 1_048_576,
        file: 9_035_776 - 1_048_576,
        kernel: Some(1_421_312 + 8192),
    };
    assert_eq!(v2::memory(dir.path()).unwrap(), expected);
}

#[test]
fn swap_is_read_where_it_is_accounted_for_and_unknown_elsewhere() {
    let swapped = V1_MEMORY_STAT.replace("total_swap 0", "total_swap 8192");
    let v1_dir = dir_with(&[("memory.stat", &swapped)]);
    assert_eq!(v1::swap(v1_dir.path()).unwrap(), Some(8192));
    let off = dir_with(&[("memory.stat", &V1_MEMORY_STAT.replace("total_swap 0\n", ""))]);
    assert_eq!(v1::swap(off.path()).unwrap(), None);
    let v2_dir = dir_with(&[("memory.swap.current", "4096\n")]);
    assert_eq!(v2::swap(v2_dir.path()).unwrap(), Some(4096));
    assert_eq!(v2::swap(dir_with(&[]).path()).unwrap(), None);
    assert!(v2::swap(Path::new("/gone")).unwrap_err().gone, "a cgroup that is gone has not no swap");
}

#[test]
fn a_service_under_systemd_is_found_and_read_in_the_one_hierarchy() {
    let (mounts, service) = (Mounts::parse(SYSTEMD_V2), "/system.slice/bootrace-tests.service");
    assert_eq!(Places::parse(&format!("0::{service}\n")).path(UNIFIED), Some(service));
    assert_eq!(mounts.dir(UNIFIED, service), at(&format!("/sys/fs/cgroup{service}")));
    assert_eq!(mounts.dir("memory", service), None, "version 1 has no part in it");
    let dir = dir_with(&[("memory.stat", SERVICE_MEMORY_STAT)]);
    let expected = Memory { anon: 225_280, shmem: 0, file: 327_680, kernel: Some(192_512) };
    assert_eq!(v2::memory(dir.path()).unwrap(), expected);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn this_hosts_controllers_are_named_without_the_options_of_their_mounts() {
    let all = controllers().unwrap();
    assert!(all.iter().any(|name| name == "memory") && all.iter().any(|name| name == "cpuacct"), "{all:?}");
    let kernels = fs::read_to_string("/proc/cgroups").unwrap();
    for name in &all {
        // A line of the kernel's list begins with the name and a tab; version 2 has renamed one.
        let known = kernels.lines().any(|line| line.split('\t').next() == Some(name));
        assert!(known || ["io", "misc", "dmem", "rdma"].contains(&name.as_str()), "{name} in {all:?}");
    }
}

#[test]
fn before_linux_5_18_kernel_memory_is_the_sum_of_its_parts() {
    let old: String = V2_MEMORY_STAT
        .lines()
        .filter(|line| !line.starts_with("kernel "))
        .map(|line| format!("{line}\n"))
        .collect();
    let dir = dir_with(&[("memory.stat", &old)]);
    assert_eq!(v2::memory(dir.path()).unwrap().kernel, Some(49_152 + 90_112 + 2_304 + 1_204_440 + 8192));
}

#[test]
fn an_error_names_the_file_and_the_missing_field() {
    let dir = dir_with(&[("memory.stat", "anon 1\nfile 2\n")]);
    let error = v2::memory(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("memory.stat: has no \"shmem\" with a number"), "{error}");
    let error = v1::memory(&dir.path().join("none")).unwrap_err();
    assert!(error.gone && error.path.ends_with("none/memory.stat"), "{error}");
}

#[test]
fn cpu_time_is_in_ns_whichever_version_says_it() {
    let dir = dir_with(&[
        ("cpuacct.usage", "25352401\n"),
        ("cpu.stat", "usage_usec 25352\nuser_usec 8467\nsystem_usec 16884\nnice_usec 0\n"),
    ]);
    assert_eq!(CpuTime::open(dir.path(), false).unwrap().read_ns().unwrap(), 25_352_401);
    assert_eq!(CpuTime::open(dir.path(), true).unwrap().read_ns().unwrap(), 25_352_000);
}

#[test]
fn cpu_time_is_read_anew_each_time_and_nonsense_is_an_error() {
    let dir = dir_with(&[("cpuacct.usage", "1\n")]);
    let cpu = CpuTime::open(dir.path(), false).unwrap();
    fs::write(dir.path().join("cpuacct.usage"), "2\n").unwrap();
    assert_eq!(cpu.read_ns().unwrap(), 2);
    fs::write(dir.path().join("cpuacct.usage"), "nr_periods 3\n").unwrap();
    assert!(cpu.read_ns().unwrap_err().to_string().contains("cpuacct.usage: no CPU time"));
}

#[test]
fn processes_are_found_in_cgroups_below_too() {
    let dir = dir_with(&[
        ("cgroup.procs", "10\n0\n11\n"),
        ("emulator/cgroup.procs", "12\n"),
        ("a/b/cgroup.procs", "13\n"),
        ("a/cgroup.procs", ""),
    ]);
    let mut pids = pids(dir.path()).unwrap();
    pids.sort_unstable();
    assert_eq!(pids, [10, 11, 12, 13]);
}

#[test]
fn a_kill_counts_as_the_limits_only_if_the_limit_was_met_and_a_full_cgroup_needs_no_kill() {
    let v2 = |oom, kills, max, anon| {
        let events = format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kills}\noom_group_kill 0\n");
        let stat = format!("anon {anon}\nfile 400000\nshmem 0\nkernel 1000000\nsock 0\n");
        let files = [("memory.events", &*events), ("memory.max", max), ("memory.stat", &stat)];
        v2::shortage(dir_with(&files).path()).unwrap()
    };
    let (limit, killed, full) = ("67108864\n", Some(Shortage::Killed), Some(Shortage::Full));
    assert_eq!(v2(1, 1, "max\n", 0), killed);
    for (oom, kills) in [(0, 0), (0, 1), (1, 0)] {
        assert_eq!(v2(oom, kills, limit, 40_000_000), None, "the host ran out, or nothing was killed");
        assert_eq!(v2(oom, kills, "max\n", 66_000_000), None, "the limit is of another cgroup");
        assert_eq!(v2(oom, kills, limit, 66_000_000), full);
    }
    let v1 = |most: &str, kills, below, anon| {
        let control = |kills: u64| format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
        let (own, below) = (control(kills), control(below));
        let files = [
            ("memory.limit_in_bytes", "67108864\n"),
            ("memory.max_usage_in_bytes", most),
            ("memory.oom_control", &own),
            ("system.slice/memory.oom_control", &below),
            ("memory.stat", &format!("total_cache 400000\ntotal_rss {anon}\ntotal_shmem 0\n")),
            ("memory.kmem.usage_in_bytes", "1000000\n"),
        ];
        v1::shortage(dir_with(&files).path()).unwrap()
    };
    assert_eq!([v1("67108864\n", 1, 0, 0), v1("67104768\n", 0, 1, 0)], [killed; 2]);
    assert_eq!([v1("67108864\n", 0, 0, 40_000_000), v1("40000000\n", 1, 0, 0)], [None; 2]);
    assert_eq!(v1("67108864\n", 0, 0, 66_000_000), full);
    assert!(v1::shortage(Path::new("/gone")).unwrap_err().gone);
}
