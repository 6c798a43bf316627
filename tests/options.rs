//! What a scenario may choose of CPUs, VM, container and page cache: seen to hold, from inside or from the host.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use bootrace::probe::huge::Pool;
use common::{Bench, Ran, left_over, probe_kvm};

/// Once and quickly, with time to look at the instance from the host.
const SAMPLING: &str = "samples = 1\nsettle = \"1s\"\nidle = \"0s\"\ntimeout = \"60s\"\n";

/// A scenario whose workload is a shell's script and gets ready by this line.
fn scenario(script: &str, line: &str, rest: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", '''{script}; exec sleep infinity''']\nready = {{ line = '{line}' }}\n{rest}"
    ))
}

fn once(cpus: &str, rest: &str) -> String {
    format!("[resources]\ncpus = {cpus}\nmemory = \"128MiB\"\n[sampling]\nwarmup = 0\n{SAMPLING}{rest}")
}

/// Runs a scenario and looks at the host again and again meanwhile.
fn run_and_look(bench: &Bench, mut look: impl FnMut()) -> Ran {
    let mut child = bench.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A child that fills a pipe would wait for ever; what a run prints fits one.
    while child.try_wait().unwrap().is_none() {
        look();
        thread::sleep(Duration::from_millis(20));
    }
    Ran::new(child.wait_with_output().unwrap(), bench.results())
}

/// What could be seen of one of our QEMUs.
#[derive(Debug, Default)]
struct Qemu {
    arguments: String,
    /// Where each vCPU's thread may run, as the kernel writes it.
    vcpus: BTreeMap<String, String>,
    /// From the disk, so far.
    read_bytes: u64,
}

/// Looks at every QEMU of ours that runs, by pid.
fn look_at_qemu(seen: &mut BTreeMap<String, Qemu>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if !arguments.contains("qemu-system-") || !arguments.contains("guest=bootrace-") {
            continue;
        }
        let qemu = seen.entry(entry.file_name().to_string_lossy().into()).or_default();
        qemu.arguments = arguments;
        let value = |path: PathBuf, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
        };
        if let Some(read) = value(entry.path().join("io"), "read_bytes:") {
            qemu.read_bytes = read.parse().unwrap();
        }
        for task in fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            // Bound a moment after the thread is there: the last look counts.
            if let (true, Some(allowed)) =
                (name.starts_with("CPU "), value(task.path().join("status"), "Cpus_allowed_list:"))
            {
                qemu.vcpus.insert(name.trim().into(), allowed);
            }
        }
    }
}

/// The one QEMU of a run.
fn only(seen: BTreeMap<String, Qemu>) -> Qemu {
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.into_values().next().unwrap()
}

/// The lowest-numbered CPUs that this process may use; a run without a list takes the highest.
fn lowest_cpus(count: usize) -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let allowed = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let cpus: Vec<usize> = allowed.take(count).collect();
    assert_eq!(cpus.len(), count, "this test needs {count} CPUs");
    cpus
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn listed_cpus_are_what_every_target_runs_on() {
    let cpu = lowest_cpus(1)[0];
    let look = r#"echo "$(sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status) of $(nproc)""#;
    // A VM numbers its own from 0.
    let line = format!("^({cpu}|0) of 1$");
    let bench = scenario(look, &line, &once(&format!("\"{cpu}\""), ""));
    let mut seen = BTreeMap::new();
    let samples = run_and_look(&bench, || look_at_qemu(&mut seen)).good();
    assert_eq!(samples.len(), 3);
    let vcpus: Vec<_> = only(seen).vcpus.into_values().collect();
    assert_eq!(vcpus, [cpu.to_string()]);
    let results = bench.results().unwrap();
    assert_eq!(results.run.scenario["resources"]["cpus"], cpu.to_string());
    for target in results.targets {
        assert_eq!(target.options["cpus"], cpu.to_string(), "{}", target.name);
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn cpus_that_are_not_there_are_refused_before_anything_runs() {
    let ran = scenario("echo ready", "ready", &once("\"1023\"", "")).run(&[]);
    ran.fails(1, &["CPU 1023 is not on this host", "resources.cpus"]);
    assert!(ran.results.is_none());
}

#[test]
#[ignore = "needs root, docker, libvirt and two CPUs: scripts/test runs it"]
fn a_vm_has_the_cpu_model_the_vcpus_and_the_disk_cache_that_it_was_given() {
    let cpus = lowest_cpus(2);
    // QEMU's plainest model is the default where there is no KVM: this must be another one.
    let look = r#"
        model=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)
        case $model in "QEMU Virtual CPU"*) echo "it is still $model"; exit 3;; esac
        echo "$(nproc) CPUs""#;
    let target = "[[target]]\nkind = \"libvirt\"\ncpu_model = \"max\"\ndisk_cache = \"none\"\n";
    let list = format!("\"{}-{}\"", cpus[0], cpus[1]);
    let bench = scenario(look, "^2 CPUs$", &once(&list, target));
    let mut seen = BTreeMap::new();
    run_and_look(&bench, || look_at_qemu(&mut seen)).good();
    let qemu = only(seen);
    assert_eq!(qemu.vcpus.len(), 2, "{qemu:?}");
    assert!(qemu.arguments.contains(" -cpu max"), "{qemu:?}");
    assert!(qemu.arguments.contains(r#""cache":{"direct":true,"no-flush":false}"#), "{qemu:?}");
    let options = bench.results().unwrap().targets[0].options.clone();
    assert_eq!((&options["cpu_model"], &options["disk_cache"]), (&"max".into(), &"none".into()));
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn a_cpu_model_that_this_host_cannot_give_is_refused_with_those_that_it_can() {
    let with = |model: &str| {
        let target = format!("[[target]]\nkind = \"libvirt\"\ncpu_model = \"{model}\"\n");
        scenario("echo ready", "ready", &once("1", &target)).run(&[])
    };
    let unknown = with("nosuch");
    unknown.fails(1, &["target libvirt", "CPU model nosuch", "none of this name", "max"]);
    assert!(unknown.results.is_none());
    let passed_through = with("host-passthrough");
    if probe_kvm().runs_linux() {
        passed_through.good();
    } else {
        passed_through.fails(1, &["host-passthrough", "emulated (TCG)", "cpu_model = \"max\""]);
    }
}

/// The host's number of huge pages, put back at the end.
struct HugePages(u64);

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

impl HugePages {
    fn of_host() -> Self {
        HugePages(fs::read_to_string(NR_HUGEPAGES).unwrap().trim().parse().unwrap())
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        fs::write(NR_HUGEPAGES, self.0.to_string()).unwrap();
    }
}

#[test]
#[ignore = "needs root, docker, libvirt and memory free for huge pages: scripts/test runs it"]
fn a_vm_of_huge_pages_has_its_memory_from_the_pool_and_needs_enough_of_them() {
    let host = HugePages::of_host();
    let target = "[[target]]\nkind = \"libvirt\"\nhugepages = true\n";
    let bench = scenario("echo ready", "^ready$", &once("1", target));
    // What others hold of the pool stays.
    fs::write(NR_HUGEPAGES, "0").unwrap();
    let none = Pool::read().unwrap();
    let needed = none.total + none.pages(128 << 20);
    let ran = bench.run(&[]);
    ran.fails(1, &["target libvirt", "huge pages", &format!("sysctl vm.nr_hugepages={needed}")]);

    fs::write(NR_HUGEPAGES, needed.to_string()).unwrap();
    assert_eq!(Pool::read().unwrap().total, needed, "this host's memory is too fragmented for this test");
    let (mut seen, mut least) = (BTreeMap::new(), u64::MAX);
    let samples = run_and_look(&bench, || {
        look_at_qemu(&mut seen);
        least = least.min(Pool::read().unwrap().available);
    });
    let samples = samples.good();
    assert_eq!(least, none.available, "the pool was used up");
    assert!(samples[0].memory_bytes.footprint.unwrap() > 128 << 20, "{:?}", samples[0].memory_bytes);
    assert!(only(seen).arguments.contains(r#""hugetlb":true"#));
    drop(host);
}

/// What Docker says of each container of ours: network, log driver, runtime, and where its log is.
fn look_at_containers(seen: &mut BTreeMap<String, Vec<String>>) {
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for id in docker(&["ps", "-q", "--filter", "label=bootrace.run"]).split_whitespace() {
        let format =
            "{{.HostConfig.NetworkMode}} {{.HostConfig.LogConfig.Type}} {{.HostConfig.Runtime}} {{.LogPath}}";
        let said: Vec<_> =
            docker(&["inspect", "--format", format, id]).split_whitespace().map(Into::into).collect();
        // One that goes meanwhile says nothing.
        if said.len() >= 3 {
            seen.insert(id.into(), said);
        }
    }
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn two_kinds_of_containers_have_the_network_log_driver_and_runtime_that_they_were_given() {
    let look = r#"echo "$(readlink /proc/self/ns/net) $(ls /sys/class/net/eth0/address)""#;
    let host = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let host = host.replace('[', r"\[").replace(']', r"\]");
    // The host's network namespace, or another one with Docker's interface.
    let line = format!("^({host}.*|.*eth0/address)$");
    let targets = "[[target]]\nkind = \"docker\"\nnetwork = \"host\"\nlog_driver = \"json-file\"\nruntime = \"runc\"\n\
                   [[target]]\nkind = \"docker\"\nname = \"bridged\"\nnetwork = \"bridge\"\n\
                   runtime = \"crun\"\n";
    let bench = scenario(look, &line, &once("1", targets));
    let mut seen = BTreeMap::new();
    run_and_look(&bench, || look_at_containers(&mut seen)).good();
    let mut said: Vec<_> = seen.values().map(|said| said[..3].join(" ")).collect();
    said.sort();
    assert_eq!(said, ["bridge none crun", "host json-file runc"]);
    let log = seen.values().find_map(|said| said.get(3)).expect("json-file has a log");
    assert!(!Path::new(log).exists(), "{log} is left behind");
    let of = |name: &str, key: &str| {
        let targets = bench.results().unwrap().targets;
        targets.into_iter().find(|target| target.name == name).unwrap().options[key].clone()
    };
    assert_eq!((of("docker", "network"), of("docker", "log_driver")), ("host".into(), "json-file".into()));
    assert_eq!((of("bridged", "network"), of("bridged", "log_driver")), ("bridge".into(), "none".into()));
    assert_eq!(left_over(), Vec::<String>::new());
}

/// A network of Docker's that goes with the test.
struct Network(&'static str);

impl Network {
    fn make(name: &'static str, subnet: &str) -> Self {
        let made =
            Command::new("docker").args(["network", "create", "--subnet", subnet, name]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Network(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let removed = Command::new("docker").args(["network", "rm", self.0]).output().unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    }
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn a_container_joins_the_network_that_it_was_given() {
    let _network = Network::make("bootrace-test-options", "10.213.77.0/24");
    // The gateway, 10.213.77.1, as the kernel writes it.
    let look = r#"while read -r _ destination gateway _; do [ "$destination" = 00000000 ] && echo "by $gateway"; done < /proc/net/route"#;
    let target = "[[target]]\nkind = \"docker\"\nnetwork = \"bootrace-test-options\"\n";
    scenario(look, "^by 014DD50A$", &once("1", target)).run(&[]).good();
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn a_missing_option_is_refused_with_the_available_ones() {
    for (option, signs) in [
        ("runtime = \"nosuch\"", ["Docker's runtime nosuch", "it has", "runc"]),
        ("network = \"nosuch\"", ["Docker's network nosuch", "it has", "bridge, host"]),
        ("log_driver = \"nosuch\"", ["Docker's log driver nosuch", "it has", "json-file"]),
    ] {
        let target = format!("[[target]]\nkind = \"docker\"\n{option}\n");
        let ran = scenario("echo ready", "ready", &once("1", &target)).run(&[]);
        ran.fails(1, &signs);
        assert!(ran.results.is_none(), "{option}");
    }
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn cold_instances_read_from_the_disk_and_warm_ones_do_not() {
    // By the process itself and the children that it waited for; perl is some megabytes.
    // One that is not as expected ends, rather than to be waited for.
    let look = r#"perl -e 1; cat /usr/bin/perl > /dev/null
        while read -r key value; do
            if [ "$key" = read_bytes: ]; then
                echo "read $value"
                case $value in UNEXPECTED) exit 3;; esac
            fi
        done < /proc/self/io"#;
    let run = |sampling: &str, (line, unexpected): (&str, &str), targets: &str| {
        let look = &look.replace("UNEXPECTED", unexpected);
        let rest = SAMPLING.replace("samples = 1", sampling);
        let rest = format!("[resources]\nmemory = \"256MiB\"\n[sampling]\n{rest}{targets}");
        let bench = scenario(look, line, &rest);
        let mut seen = BTreeMap::new();
        let ran = run_and_look(&bench, || look_at_qemu(&mut seen));
        (ran, seen)
    };
    let processes = "[[target]]\nkind = \"native\"\n[[target]]\nkind = \"docker\"\n";
    // The second sample would find what the first one read.
    let cold = "samples = 2\nwarmup = 0\npage_cache = \"cold\"";
    let warm = "samples = 1\nwarmup = 1\npage_cache = \"warm\"";
    let (ran, _) = run(cold, ("^read [0-9]{7,}$", "?|??|???|????|?????|??????"), processes);
    let results = ran.results.clone().unwrap();
    ran.good();
    assert_eq!(results.run.scenario["sampling"]["page_cache"], "cold");
    let (wall, measuring) = (results.run.wall_ns.unwrap(), results.run.measuring_ns.unwrap());
    let dropping = results.run.cache_drop_ns.unwrap();
    assert!(dropping > 0 && measuring + dropping <= wall, "{measuring} + {dropping} of {wall}");

    // A warm-up may read, and then is not ready; the measured one must be. A block of metadata may be new to it.
    let (ran, _) = run(warm, ("^read [0-9]{1,5}$", "??????*"), processes);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let results = ran.results.unwrap();
    assert_eq!(results.run.scenario["sampling"]["page_cache"], "warm");
    assert_eq!(results.run.cache_drop_ns, None);

    // Of a VM the host sees what QEMU reads: kernel, initramfs and disk.
    let vm = "[[target]]\nkind = \"libvirt\"\n";
    let (ran, cold_qemus) = run(cold, ("^read ", "none"), vm);
    ran.good();
    let (ran, warm_qemus) = run(warm, ("^read ", "none"), vm);
    ran.good();
    assert_eq!((cold_qemus.len(), warm_qemus.len()), (2, 2), "{cold_qemus:?} {warm_qemus:?}");
    let least = |qemus: &BTreeMap<_, Qemu>| qemus.values().map(|qemu| qemu.read_bytes).min().unwrap();
    let (cold, warm) = (least(&cold_qemus), least(&warm_qemus));
    assert!(cold > 8 << 20, "the kernel alone is as much: {cold}");
    assert!(warm < cold / 10, "{warm} of {cold}");
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn a_cache_that_cannot_be_dropped_is_an_error_before_the_first_sample() {
    let rest =
        once("1", "[[target]]\nkind = \"native\"\n").replace("warmup", "page_cache = \"cold\"\nwarmup");
    let bench = scenario("echo ready", "^ready$", &rest);
    let run = bench.command(&[]);
    // As a container has it.
    let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", read_only, "sh"]).arg(run.get_program()).args(run.get_args());
    let ran = Ran::new(command.output().unwrap(), bench.results());
    ran.fails(1, &["/proc/sys/vm/drop_caches", "Read-only file system", "page_cache = \"cold\"", "sudo"]);
    assert!(ran.results.is_none());
}
