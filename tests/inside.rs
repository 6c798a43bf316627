//! What an instance has on the disk and its isolation from its host, on real engines: known bytes are found again,
//! and each target's isolation is the one that it is known for.

mod common;

use bootrace::{
    analysis::analyse,
    sample::{Isolation, Sample},
};
use bootrace_agent::surroundings::FACTS;
use common::{Bench, boot_id, left_over, output_of};

const SAMPLING: &str = "[resources]\nmemory = \"256MiB\"\n\
    [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"300ms\"\nidle = \"0s\"\n";
const MIB: u64 = 1 << 20;

fn of<'a>(samples: &'a [Sample], target: &str) -> &'a Sample {
    samples.iter().find(|sample| sample.target == target).unwrap()
}

fn shared(isolation: &Isolation, kind: &str) -> Option<bool> {
    isolation.namespaces.iter().find(|n| n.kind == kind).unwrap_or_else(|| panic!("{isolation:?}")).shared
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn each_targets_isolation_is_that_of_its_kind() {
    let claims: String = [
        ("native", "kernel.shared", true),
        ("docker", "kernel.shared", true),
        ("libvirt", "kernel.shared", false),
        ("native", "processes.visible", true),
        ("docker", "processes.visible", false),
        ("libvirt", "processes.visible", false),
        ("native", "pagecache.shared", true),
        ("docker", "pagecache.shared", true),
        ("libvirt", "pagecache.shared", false),
    ]
    .map(|(target, fact, is)| {
        format!(
            "[[claim]]\nsays = \"{fact} of {target}\"\ntarget = \"{target}\"\nfact = \"{fact}\"\nis = {is}\n"
        )
    })
    .concat();
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = {{ line = \"^ready$\" }}\n\
         {SAMPLING}{claims}"
    ));
    // An undecided claim would make it 4, a refuted one 3.
    let samples = bench.run(&["--fail-on", "undecided"]).good();
    let seen = |target: &str| of(&samples, target).isolation.clone().unwrap();
    let (native, docker, libvirt) = (seen("native"), seen("docker"), seen("libvirt"));
    for (target, seen) in [("native", &native), ("docker", &docker), ("libvirt", &libvirt)] {
        let own = of(&samples, target).identity.as_ref().unwrap().boot_id != boot_id();
        assert_eq!(own, target == "libvirt", "{target}");
        assert!(seen.of_workload && seen.root_writable && seen.uid == Some(0), "{target}: {seen:?}");
        assert!(seen.host_processes.unwrap() > 10, "{target}: {seen:?}");
    }
    assert_eq!(shared(&native, "pid"), Some(true));
    assert!(native.processes.unwrap().abs_diff(native.host_processes.unwrap()) < 20, "{native:?}");
    for kind in ["pid", "mnt", "uts", "ipc", "net"] {
        assert_eq!(shared(&docker, kind), Some(false), "{kind}: {docker:?}");
    }
    // The agent, the workload; in a VM kernel threads too.
    assert_eq!(docker.processes, Some(2), "{docker:?}");
    assert!(libvirt.namespaces.iter().all(|n| n.shared == Some(false)), "{libvirt:?}");
    // The agent's root file system: an overlay for what shares the kernel, a disk of its own for a VM.
    let roots = [&native, &docker, &libvirt].map(|seen| seen.root_type.clone().unwrap());
    assert_eq!(roots, ["overlay", "overlay", "ext4"]);
    assert_eq!(docker.memory_limit.as_deref(), Some("268435456"));
    // Some kernels come with loop devices, which have nothing behind them.
    let mut disks = libvirt.block_device_names.clone().unwrap();
    disks.retain(|name| !name.starts_with("loop"));
    assert_eq!(disks, ["vda"]);
    for seen in [&native, &docker, &libvirt] {
        // The default of resources.capabilities.
        assert_eq!((seen.capabilities, seen.capabilities_bounding), (Some(0x5fb), Some(0x5fb)), "{seen:?}");
        assert_eq!(seen.no_new_privileges, Some(true), "{seen:?}");
    }
    assert!(!docker.sys_writable && libvirt.sys_writable);

    let page = std::fs::read_to_string(bench.latest().join("index.html")).unwrap();
    assert!(page.contains("Isolation"));
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn bytes_that_a_workload_writes_are_found_on_the_disk_and_an_overlay_copies_the_file_where_a_vm_copies_clusters()
 {
    const KNOWN: u64 = 32 * MIB;
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"head -c {KNOWN} /dev/urandom > /known && echo ready; exec sleep infinity\"]\n\
         ready = {{ line = \"^ready$\" }}\n{SAMPLING}[cow]\nfile = \"100MiB\"\n"
    ));
    let samples = bench.run(&[]).good();
    // overlay2, or overlayfs where its images are containerd's.
    let driver = output_of("docker", &["info", "--format", "{{.Driver}}"]);
    let tree = of(&samples, "native").disk.clone().unwrap().image_bytes.unwrap();
    for (target, storage, most) in
        [("native", "overlayfs", 2 * MIB), ("docker", driver.trim(), 2 * MIB), ("libvirt", "qcow2", 16 * MIB)]
    {
        let disk = of(&samples, target).disk.clone().unwrap();
        eprintln!("{target}: {disk:?}");
        assert_eq!(disk.storage.as_deref(), Some(storage));
        // Beside what was written: the overlay's directories, a journal and the other parts of clusters.
        let instance = disk.instance_bytes.unwrap();
        assert!((KNOWN..=KNOWN + most).contains(&instance), "{target}: {disk:?}");
        assert!(disk.image_bytes.unwrap() > 150 * MIB, "{target}: the image has the file: {disk:?}");
        let whole = target == "libvirt" || disk.image_bytes.unwrap() >= tree - tree / 50;
        assert!(whole, "{target}: the same files in layers: {disk:?}");
        assert!(disk.provision_ns.unwrap() > 0, "{target}");
        let copy = disk.cow.unwrap();
        assert_eq!(copy.file_bytes, 100 * MIB);
        let grown = u64::try_from(copy.grown_bytes.unwrap()).unwrap();
        match target {
            "libvirt" => assert!((64 << 10..=10 * MIB).contains(&grown), "clusters of 64 KiB: {disk:?}"),
            _ => assert!((100 * MIB..=102 * MIB).contains(&grown), "{target} copies the file: {disk:?}"),
        }
        if target != "libvirt" {
            assert!(copy.first_write_ns > copy.rewrite_ns, "{target} copies it once: {disk:?}");
        }
        // The host's clock saw the message come that was sent before, and the one after.
        assert!(copy.first_write_inside_ns > 0 && copy.rewrite_inside_ns > 0, "{target}: {disk:?}");
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

/// Prints a workload's surroundings, a line each, and ends: the harness then reports the lines.
const SURROUNDINGS: &str = r#"
for file in hosts hostname resolv.conf; do
    echo "$file $(stat -c '%a %u:%g' /etc/$file) $(sha256sum </etc/$file | cut -c 1-16)"
done
echo "/etc $(cd /etc && find . -xdev | sort | sha256sum | cut -c 1-16)"
echo "localhost $(getent ahosts localhost | cut -d ' ' -f 1 | sort -u | tr '\n' ' ')"
echo "itself $(getent ahosts bootrace | cut -d ' ' -f 1 | sort -u | tr '\n' ' ')"
echo "loopback $(grep ' lo$' /proc/net/if_inet6 | cut -d ' ' -f 1)"
echo "called $(cat /proc/sys/kernel/hostname)"
echo "place $(pwd) $(umask) $(id -u):$(id -g):$(id -G)"
echo "privileges $(grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr -d '\n\t')"
echo "environment $(env | sort | tr '\n' ' ')"
echo "files $(echo /proc/$$/fd/[0-9] | sed 's|/proc/[0-9]*/fd/||g')"
echo "signals $(grep -E '^Sig(Blk|Ign)' /proc/$$/status | tr -d '\n\t')"
echo "limits $(grep -vE 'Limit|pending|locked|processes' /proc/$$/limits | tr -s ' \n' ' ')"
echo "time $(date +%Z) $(stat -c %a /tmp /dev/shm | tr '\n' ' ')"
exit 3
"#;

#[test]
#[ignore = "needs docker, podman and libvirt with its LXC driver: scripts/test runs it"]
fn a_workload_has_the_same_surroundings_on_every_target() {
    same_surroundings("", "0:0:0");
}

#[test]
#[ignore = "needs docker, podman and libvirt with its LXC driver: scripts/test runs it"]
fn a_workloads_user_is_the_same_on_every_target() {
    same_surroundings("user = \"games\"\n", "5:60:60");
}

const EVERY_KIND: [&str; 5] = ["native", "docker", "podman", "lxc", "libvirt"];

/// The run's own comparison: mounts too, on a workload that stays.
#[test]
#[ignore = "needs docker, podman and libvirt with its LXC driver: scripts/test runs it"]
fn a_run_finds_no_difference_between_its_targets_surroundings() {
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = {{ line = \"^ready$\" }}\n\
         env = {{ A = \"1\" }}\n{SAMPLING}{}",
        EVERY_KIND.map(|kind| format!("[[target]]\nkind = \"{kind}\"\n")).concat()
    ));
    let results = bench.run(&[]).results.unwrap();
    for target in EVERY_KIND {
        let found = of(&results.samples, target).surroundings.as_ref().unwrap();
        let known: Vec<&str> =
            FACTS.iter().map(|(fact, _)| *fact).filter(|fact| !found.contains_key(*fact)).collect();
        assert_eq!(known, Vec::<&str>::new(), "{target} lacks these: {found:#?}");
        assert!(found["environment"].contains(" A PATH"), "{found:#?}");
        assert!(found["mount./dev/shm"].ends_with(", 65536 KiB"), "{found:#?}");
    }
    let differences: Vec<_> =
        analyse(&results).caveats.into_iter().filter(|caveat| caveat.contains("differ in")).collect();
    assert_eq!(differences, Vec::<String>::new());
    assert_eq!(left_over(), Vec::<String>::new());
}

fn same_surroundings(user: &str, ids: &str) {
    let targets = EVERY_KIND;
    let bench = Bench::new(&format!(
        "\n[workload]\n{user}command = [\"sh\", \"-c\", '''{SURROUNDINGS}''']\nready = {{ line = \"never\" }}\n\
         {SAMPLING}{}",
        targets.map(|kind| format!("[[target]]\nkind = \"{kind}\"\n")).concat()
    ));
    let results = bench.run(&[]).results.unwrap();
    let seen = |target: &str| -> Vec<String> {
        let error = of(&results.samples, target).error.clone().unwrap();
        let (_, lines) = error.split_once("it printed: ").unwrap_or_else(|| panic!("{error}"));
        lines.lines().map(str::to_owned).collect()
    };
    let native = seen("native");
    assert_eq!(native.len(), 15, "{native:#?}");
    for target in targets {
        let seen = seen(target);
        for (native, line) in native.iter().zip(&seen) {
            let name = line.split(' ').next().unwrap();
            // A bare process has the host's.
            let expected = match name {
                "called" if target != "native" => "called bootrace",
                _ => native.as_str(),
            };
            assert_eq!(line, expected, "{target}'s and native's");
        }
        assert_eq!(seen.len(), native.len(), "{target}: {seen:#?}");
    }
    let line = |name: &str| native.iter().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(line("place "), format!("/ 0022 {ids}"), "{native:#?}");
    assert_eq!((line("localhost "), line("itself ")), ("127.0.0.1 ::1", "127.0.1.1"), "{native:#?}");
    assert_eq!(left_over(), Vec::<String>::new());
}
