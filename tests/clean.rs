//! `bootrace clean` among an operator's own containers, domains, images and files with similar names.

mod common;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bootrace::runner::tag;
use common::{cache::OwnCache, output_of};

/// The run that was killed.
const RUN: &str = "killed";
/// An operator's names: a prefix alone, a name around an instance's, and an instance's name, which the label or metadata of
/// its container, image or domain shows to be another's: they hold the run's id, and the name its hash.
const OPERATORS: [&str; 4] =
    ["bootrace-redis", "my-bootrace-0badcafe-0", "bootrace-0badcafe-1", "bootrace-build-mine"];
/// The builder of an image that was killed: no process has started at this time.
const BUILDER: &str = "1-18446744073709551615";
const UNFINISHED: &str = "new-0123456789aB";
const PODMAN: [&str; 4] = ["podman", "--remote", "--url", "unix:///run/podman/podman.sock"];
const ENGINES: [&[&str]; 2] = [&["docker"], &PODMAN];
const LIBVIRT: [(&str, &str, &str); 2] =
    [("qemu:///system", "qemu", "<type>hvm</type>"), ("lxc:///", "lxc", "<type>exe</type><init>/sh</init>")];
const LOGS: &str = "/var/log/libvirt/qemu";
const LOCKS: &str = "/run/bootrace";

fn command(words: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(arguments);
    command
}

fn run(words: &[&str], arguments: &[&str]) -> String {
    output_of(words[0], &[&words[1..], arguments].concat())
}

/// What the test makes. Dropping it removes all that is still there.
struct Made {
    cache: OwnCache,
    processes: Vec<Child>,
}

impl Made {
    fn new() -> Self {
        let made = Made { cache: OwnCache::new(), processes: Vec::new() };
        // Also from a test that was killed.
        made.remove_all();
        made
    }

    fn ours(number: usize) -> String {
        format!("{}-{number}", tag(RUN))
    }

    fn names() -> Vec<String> {
        let builds = ["-", ":"]
            .into_iter()
            .flat_map(|mark| (0..2).map(move |n| format!("bootrace-build{mark}{BUILDER}-{n}")));
        let ours = (0..9).map(Made::ours).chain([tag(RUN), UNFINISHED.into()]).chain(builds);
        ours.chain(OPERATORS.map(String::from)).collect()
    }

    fn instances(&self) -> PathBuf {
        self.cache.path("cache/instances")
    }

    fn tmp(&self) -> PathBuf {
        self.cache.path("cache/tmp")
    }

    fn cgroups() -> PathBuf {
        let memory = Path::new("/sys/fs/cgroup/memory");
        if memory.is_dir() { memory.to_owned() } else { "/sys/fs/cgroup".into() }
    }

    fn image(&self, engine: &[&str], name: &str, label: &str) {
        let empty = self.cache.path("empty.tar");
        run(&["tar"], &["--create", "--files-from=/dev/null", "--file", empty.to_str().unwrap()]);
        run(engine, &["import", "--change", &format!("LABEL {label}"), empty.to_str().unwrap(), name]);
    }

    fn container(&self, engine: &[&str], name: &str, label: &str) {
        run(engine, &["create", "--name", name, "--label", label, "bootrace-redis", "/x"]);
    }

    fn domain(&self, libvirt: (&str, &str, &str), name: &str, run_id: Option<&str>) {
        let (uri, driver, os) = libvirt;
        let metadata = run_id.map(|run_id| {
            format!(
                "<metadata><b:run xmlns:b='https://bootrace.invalid/domain/1'>{run_id}</b:run></metadata>"
            )
        });
        let xml = format!(
            "<domain type='{driver}'><name>{name}</name>{}<memory unit='MiB'>64</memory><os>{os}</os></domain>",
            metadata.unwrap_or_default()
        );
        let file = self.cache.path("domain.xml");
        fs::write(&file, xml).unwrap();
        run(&["virsh", "-c", uri], &["define", file.to_str().unwrap()]);
    }

    /// A directory with a mount of `source` and a process that has it as its root.
    fn files(&mut self, name: &str, source: &Path) {
        let root = self.instances().join(name).join("root");
        let mounted = root.join("data");
        fs::create_dir_all(&mounted).unwrap();
        run(&["mount"], &["--bind", source.to_str().unwrap(), mounted.to_str().unwrap()]);
        let sleep = fs::canonicalize("/bin/sleep").unwrap();
        let libraries = run(&["ldd"], &[sleep.to_str().unwrap()]);
        let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
        for file in libraries.chain([&*sleep]) {
            let copy = root.join(file.strip_prefix("/").unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(file, copy).unwrap();
        }
        let mut chroot = Command::new("chroot");
        self.processes.push(chroot.arg(&root).arg(sleep).arg("1000").spawn().unwrap());
        let pid = self.processes.last().unwrap().id();
        while root_of(pid).as_deref() != Some(&*root) {
            std::thread::yield_now();
        }
    }

    /// Everything with one of the names, as `clean` calls it.
    fn inventory(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (engine, of) in ENGINES.into_iter().zip(["", "podman "]) {
            let containers = run(engine, &["ps", "--all", "--format", "{{.Names}}"]);
            found.extend(containers.lines().map(|name| format!("{of}container {name}")));
            let images = run(engine, &["images", "--format", "{{.Repository}}:{{.Tag}}"]);
            found.extend(images.lines().map(|name| format!("{of}image {name}")));
        }
        for ((uri, ..), of) in LIBVIRT.into_iter().zip(["", "lxc "]) {
            let domains = run(&["virsh", "-q", "-c", uri], &["list", "--all", "--name"]);
            found.extend(domains.lines().map(|name| format!("{of}domain {name}")));
        }
        for (kind, dir) in [
            ("files", self.instances()),
            ("unfinished build", self.tmp()),
            ("cgroup", Made::cgroups()),
            ("cgroup", Made::cgroups().join("bootrace")),
            ("log", LOGS.into()),
            ("lock", LOCKS.into()),
        ] {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| format!("{kind} {}", entry.path().display())));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        found.extend(points.map(|point| format!("mount {point}")));
        let names = Made::names();
        found.retain(|line| names.iter().any(|name| line.contains(name)));
        let pids = self.processes.iter().map(Child::id);
        let with_root =
            pids.filter(|pid| root_of(*pid).is_some_and(|root| root.starts_with(self.instances())));
        found.extend(with_root.map(|pid| format!("process {pid}")));
        found.sort();
        found
    }

    fn remove_all(&self) {
        let quietly = |words: &[&str], arguments: &[&str]| {
            let _ = command(words, arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        };
        for name in Made::names() {
            for engine in ENGINES {
                quietly(engine, &["rm", "--force", &name]);
                quietly(engine, &["rmi", "--force", &name]);
                quietly(engine, &["rmi", "--force", &format!("bootrace-trial:{name}")]);
            }
            for (uri, ..) in LIBVIRT {
                quietly(&["virsh", "-c", uri], &["undefine", &name]);
            }
            for parent in ["", "bootrace"] {
                let _ = fs::remove_dir(Made::cgroups().join(parent).join(&name));
            }
            for file in
                [format!("{LOGS}/{name}.log"), format!("{LOGS}/{name}.log.0"), format!("{LOCKS}/{name}")]
            {
                let _ = fs::remove_file(file);
            }
            quietly(
                &["umount", "--lazy"],
                &[self.instances().join(&name).join("root/data").to_str().unwrap()],
            );
        }
        let _ = fs::remove_dir(Made::cgroups().join("bootrace"));
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.remove_all();
    }
}

fn root_of(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/root")).ok()
}

#[test]
#[ignore = "needs docker, podman, libvirt and its LXC driver: scripts/test runs it"]
fn clean_removes_what_runs_left_and_nothing_that_an_operator_named_alike() {
    let mut made = Made::new();
    for dir in [made.instances(), made.tmp(), Made::cgroups().join("bootrace"), LOCKS.into(), LOGS.into()] {
        fs::create_dir_all(dir).unwrap();
    }
    let precious = made.cache.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "").unwrap();

    // The operator's.
    let of_run = format!("bootrace.run={RUN}");
    let of_build = format!("bootrace.build={BUILDER}");
    for engine in ENGINES {
        // One that was built on bootrace's has its label.
        made.image(engine, OPERATORS[0], &of_run);
        made.image(engine, &format!("bootrace-trial:{}", OPERATORS[2]), &of_run);
        for (name, label) in OPERATORS.iter().zip(["mine=1", &of_run, &of_run]) {
            made.container(engine, name, label);
        }
    }
    for libvirt in LIBVIRT {
        for (name, run_id) in OPERATORS.iter().zip([None, Some(RUN), Some(RUN)]) {
            made.domain(libvirt, name, run_id);
        }
    }
    made.container(ENGINES[0], OPERATORS[3], &of_build);
    made.image(ENGINES[0], OPERATORS[3], &of_build);
    fs::create_dir(Made::cgroups().join(OPERATORS[2])).unwrap();
    for name in &OPERATORS[..2] {
        fs::create_dir(Made::cgroups().join("bootrace").join(name)).unwrap();
        fs::create_dir(made.tmp().join(name)).unwrap();
        fs::write(Path::new(LOGS).join(format!("{name}.log")), "").unwrap();
        fs::write(Path::new(LOCKS).join(name), "").unwrap();
        made.files(name, &precious);
    }
    let operators = made.inventory();

    // The killed run's.
    for (number, engine) in ENGINES.into_iter().enumerate() {
        made.container(engine, &Made::ours(number), &of_run);
        made.image(engine, &format!("bootrace-trial:{}", Made::ours(number)), &of_run);
    }
    made.container(ENGINES[0], &format!("bootrace-build-{BUILDER}-0"), &of_build);
    made.image(ENGINES[0], &format!("bootrace-build:{BUILDER}-1"), &of_build);
    for (number, libvirt) in LIBVIRT.into_iter().enumerate() {
        made.domain(libvirt, &Made::ours(2 + number), Some(RUN));
    }
    fs::create_dir(Made::cgroups().join("bootrace").join(Made::ours(4))).unwrap();
    fs::create_dir(made.tmp().join(UNFINISHED)).unwrap();
    fs::write(Path::new(LOCKS).join(tag(RUN)), "").unwrap();
    for log in ["log", "log.0"] {
        fs::write(Path::new(LOGS).join(format!("{}.{log}", Made::ours(2))), "").unwrap();
    }
    made.files(&Made::ours(4), &precious);
    symlink(&precious, made.instances().join(Made::ours(5))).unwrap();
    let all = made.inventory();
    let ours: Vec<&String> = all.iter().filter(|line| !operators.contains(line)).collect();
    assert_eq!(ours.len(), 17, "{ours:#?}");

    let clean = |arguments: &[&str], verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
        command.arg("clean").args(arguments).env("BOOTRACE_CACHE", made.cache.path("cache"));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let names = Made::names();
        let mut lines: Vec<String> = said
            .lines()
            // What others left on this host does not concern this test.
            .filter(|line| names.iter().any(|name| line.contains(name)) || line.contains("process "))
            .map(|line| line.strip_prefix(verb).unwrap_or_else(|| panic!("{said}")).to_owned())
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(clean(&["--dry-run"], "would remove ").iter().collect::<Vec<_>>(), ours);
    assert_eq!(made.inventory(), all);
    assert_eq!(clean(&[], "removed ").iter().collect::<Vec<_>>(), ours);
    assert_eq!(made.inventory(), operators);
    assert_eq!(clean(&["--dry-run"], "would remove "), [""; 0]);
    // Neither through the mount nor through the link.
    assert_eq!(
        fs::read_dir(&precious).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>(),
        [OsStr::new("file")]
    );
}
