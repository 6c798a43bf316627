//! Other engines for real: containers by crun, podman's, libvirt's, beside Docker's own and a bare process.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, chown, symlink},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bootrace::{
    kind::Program,
    sample::{Outcome, Sample},
};
use bootrace_agent::{
    protocol::AGENT_PATH,
    reference::{READY, ReferenceWorkload},
};
use common::{Bench, LIST_INTERFACES, Ran, boot_id, bootrace, cache::OwnCache, left_over, ran_the_same};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const TARGETS: &str = r#"
[[target]]
kind = "native"
[[target]]
kind = "docker"
[[target]]
kind = "docker"
name = "crun"
runtime = "crun"
[[target]]
kind = "podman"
[[target]]
kind = "lxc"
name = "libvirt-lxc"
"#;

fn scenario(settle: &str, more: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = {{ line = \"^ready$\" }}\n\
         {more}\n[resources]\ncpus = 1\nmemory = \"128MiB\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"{settle}\"\nidle = \"0s\"\ntimeout = \"60s\"\n{TARGETS}"
    ))
}

/// What helpers of an engine leave goes a moment after the engine's answer.
fn left_after_a_moment() -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = left_over();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// An agent in a container, seen from the host.
#[derive(Debug)]
struct Seen {
    pid: u32,
    cpus: String,
    memory_limit: Option<u64>,
}

fn read(path: impl Into<PathBuf>) -> String {
    fs::read_to_string(path.into()).unwrap_or_default()
}

/// Agents by the program that is their parent.
fn agents() -> BTreeMap<String, Seen> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let is_agent =
            || fs::read(entry.path().join("cmdline")).unwrap_or_default().starts_with(AGENT_PATH.as_bytes());
        if !is_agent() {
            continue;
        }
        let status = read(entry.path().join("status"));
        let field = |key: &str| {
            status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
        };
        let parent = read(format!("/proc/{}/comm", field("PPid:"))).trim().to_owned();
        let groups = read(entry.path().join("cgroup"));
        let of = |controller: &str| {
            let line = groups.lines().find(|line| line.split(':').nth(1) == Some(controller))?;
            line.splitn(3, ':').nth(2).map(str::to_owned)
        };
        let limit = match of("memory") {
            Some(group) => read(format!("/sys/fs/cgroup/memory{group}/memory.limit_in_bytes")),
            None => read(format!("/sys/fs/cgroup{}/memory.max", of("").unwrap_or_default())),
        };
        let memory_limit = limit.trim().parse().ok();
        // One that has ended meanwhile had the root's cgroup and limits already; its memory goes before its cgroup.
        if !is_agent() {
            continue;
        }
        found.insert(parent, Seen { pid, cpus: field("Cpus_allowed_list:"), memory_limit });
    }
    found
}

/// A root whose links, followed on the host, lead to a directory of the host.
#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn links_of_an_image_stay_inside_it_on_every_target() {
    let own = OwnCache::new();
    let (root, host) = (own.path("root"), own.path("host"));
    for dir in [root.join("etc"), host.clone(), root.join(host.strip_prefix("/").unwrap()).join("run")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::create_dir(host.join("run")).unwrap();
    fs::write(root.join("etc/os-release"), "ID=links\n").unwrap();
    // One leads to a directory of the image, one to nothing in it.
    symlink(host.join("run"), root.join("run")).unwrap();
    symlink(host.join("usr"), root.join("usr")).unwrap();
    let tar = Command::new("tar").arg("-cf").arg(own.path("root.tar")).arg("-C").arg(&root).arg(".").status();
    assert!(tar.unwrap().success());
    let workload = ReferenceWorkload::Delay { ns: 0 }.arguments();
    let bench = Bench::with_text(&format!(
        "name = \"test\"\n[image]\ntarball = {:?}\n\
         [workload]\ncommand = [{AGENT_PATH:?}, {}]\nready = {{ line = \"^{READY}$\" }}\n\
         [resources]\ncpus = 1\nmemory = \"64MiB\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"60s\"\n{TARGETS}",
        own.path("root.tar"),
        workload.map(|word| format!("{word:?}")).join(", ")
    ));
    let with_cache = |mut command: Command| {
        let output = command.env("BOOTRACE_CACHE", own.cache.dir()).output().unwrap();
        Ran::new(output, bench.results())
    };
    let samples = with_cache(bench.command(&[])).good();
    assert_eq!(samples.len(), 5);
    ran_the_same(&samples);
    let left = with_cache(bootrace(&["image", "prune", "--all"]));
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
    let host: Vec<_> = fs::read_dir(&host).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(host, ["run"]);
    assert_eq!(fs::read_dir(own.path("host/run")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn one_workload_runs_identically_in_every_engines_containers_and_leaves_nothing() {
    let bench = Bench::new(&format!(
        r#"
[workload]
command = ["sh", "-c", "echo ready; exec sleep infinity"]
ready = {{ line = "^ready$" }}
work = {{ command = ["sh", "-c", "head -c 8388608 /dev/zero | sha256sum"] }}
[resources]
cpus = 1
memory = "128MiB"
[sampling]
samples = 2
warmup = 0
settle = "500ms"
idle = "500ms"
{TARGETS}"#
    ));
    let mut child = bench.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    while child.try_wait().unwrap().is_none() {
        // The last look counts: limits may be set a moment after the process is there.
        seen.extend(agents());
        thread::sleep(Duration::from_millis(30));
    }
    let samples = Ran::new(child.wait_with_output().unwrap(), bench.results()).good();
    assert_eq!(samples.len(), 10);
    ran_the_same(&samples);
    let native: Vec<&Sample> = samples.iter().filter(|sample| sample.target == "native").collect();
    let least = |of: fn(&Sample) -> u64| native.iter().map(|sample| of(sample)).min().unwrap();
    for sample in &samples {
        let (name, identity) = (sample.target.as_str(), sample.identity.as_ref().unwrap());
        assert_eq!(identity.boot_id, boot_id(), "{name}: they all have the host's kernel");

        let (t, m, c) = (sample.timeline_ns, sample.memory_bytes, sample.cpu_ns);
        assert!(t.ready.is_some() && t.teardown().is_some(), "{name}: {t:?}");
        assert!(m.cgroup_anon.is_some() && m.cgroup_file.is_some(), "{name}: {m:?}");
        assert!(c.startup.unwrap() > 0 && c.idle_window.unwrap() >= 500_000_000, "{name}: {c:?}");
        // The same work on the same CPU, in whatever container.
        let work = least(|sample| sample.work_ns.cpu.unwrap());
        let its = sample.work_ns.cpu.unwrap();
        assert!(its > work / 4 && its < work * 4, "{name}: {its} of {work}");
        let workload = least(|sample| sample.memory_bytes.workload_rss.unwrap());
        let its = m.workload_rss.unwrap();
        assert!(its > workload / 2 && its < workload * 2, "{name}: {its} of {workload}");
        if name == "native" {
            assert!(m.engine_pss.is_none() && m.daemons.is_none(), "{m:?}");
        } else {
            // Its shim, conmon or libvirt_lxc is in the footprint.
            let bare = least(|sample| sample.memory_bytes.footprint.unwrap());
            assert!(m.engine_pss.unwrap() > 200 << 10 && m.daemons.is_some(), "{name}: {m:?}");
            assert!(m.footprint.unwrap() > bare + (100 << 10), "{name}: {m:?} and bare {bare}");
        }
    }
    for parent in ["containerd-shim", "conmon", "libvirt_lxc"] {
        let agent = &seen[parent];
        assert_eq!(agent.memory_limit, Some(128 << 20), "{parent}");
        assert!(agent.cpus.parse::<usize>().is_ok(), "{parent}: one CPU and not {:?}", agent.cpus);
    }

    let results = bench.results().unwrap();
    let option = |name: &str, key: &str| {
        let target = results.targets.iter().find(|target| target.name == name).unwrap();
        target.options[key].as_str().map(str::to_owned)
    };
    assert_eq!(option("crun", "runtime").as_deref(), Some("crun"));
    assert_ne!(option("docker", "runtime_version"), option("crun", "runtime_version"));
    assert_eq!(option("crun", "runtime_version").as_deref(), results.host.version(Program::Crun));
    assert_eq!(option("libvirt-lxc", "uri").as_deref(), Some("lxc:///"));
    for program in Program::ALL {
        assert_eq!(results.host.version(program).is_some(), program != Program::Qemu, "{program:?}");
    }
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn a_container_that_dies_is_a_failed_sample_with_its_engines_account() {
    let bench = scenario("20s", "");
    for (target, parent, accounts) in [
        ("podman", "conmon", ["podman says"].as_slice()),
        ("libvirt-lxc", "libvirt_lxc", &["libvirt says: the container", "libvirt reports: the container"]),
    ] {
        let mut command = bench.command(&["--targets", target]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let pid = loop {
            match agents().get(parent) {
                Some(agent) => break agent.pid,
                None => assert!(begun.elapsed() < Duration::from_secs(60), "no container of {target}"),
            }
            thread::sleep(Duration::from_millis(50));
        };
        // Ready, and being left alone.
        thread::sleep(Duration::from_secs(1));
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        let ran = Ran::new(child.wait_with_output().unwrap(), bench.results());
        ran.fails(1, &["1 of 1 samples failed"]);
        let sample = &ran.results.unwrap().samples[0];
        assert_eq!(sample.outcome, Outcome::Failed);
        let error = sample.error.as_deref().unwrap();
        assert!(accounts.iter().any(|account| error.contains(account)), "{target}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(70), "{target}: not by its time-out");
        assert_eq!(left_after_a_moment(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn a_workload_that_dies_is_reported_with_its_code_by_every_engine() {
    let bench = Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo no luck >&2; exit 7\"]\nready = {{ line = \"ready\" }}\n\
         [resources]\nmemory = \"128MiB\"\n\
         [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n{TARGETS}"
    ));
    let ran = bench.run(&[]);
    ran.fails(1, &["5 of 5 samples failed"]);
    for sample in ran.results.unwrap().samples {
        let error = sample.error.unwrap();
        assert!(error.contains("exit code 7; it printed: no luck"), "{}: {error}", sample.target);
    }
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn a_workload_that_meets_its_memory_limit_is_reported_so_by_every_engine() {
    let bench = |script: &str, memory: &str, sampling: &str| {
        Bench::new(&format!(
            "\n[workload]\ncommand = [\"perl\", \"-e\", '''{script}''']\nready = {{ line = \"ready\" }}\n\
             [resources]\nmemory = \"{memory}\"\n\
             [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n{sampling}\n{TARGETS}"
        ))
    };
    let errors = |ran: Ran| {
        ran.fails(1, &["samples failed"]);
        let samples = ran.results.unwrap().samples;
        samples.into_iter().map(|sample| (sample.target, sample.error.unwrap())).collect::<Vec<_>>()
    };
    let (fill, sign) = ("push @x, 'x' x 1048576 while 1", "its memory limit of 128 MiB");
    let killed = format!("{sign} was met (resources.memory): the workload ended before it was ready: killed");
    // Its programs are then in the page cache, on another cgroup's account.
    bench("$| = 1; print qq(ready\\n); sleep 1000", "512MiB", "").run(&[]).good();
    let met = errors(bench(fill, "128MiB", "").run(&[]));
    assert_eq!(met.len(), 5);
    for (target, error) in met {
        assert!(error.starts_with(&killed), "{target}: {error}");
    }
    // Here they are on its own account: the kernel may reclaim them at the limit and read them again, over and over, and
    // kill nothing.
    let cold = bench(fill, "128MiB", "timeout = \"10s\"\npage_cache = \"cold\"");
    for (target, error) in errors(cold.run(&["--targets", "native,docker,libvirt-lxc"])) {
        // Killed, full, or killed so late that the time-out comes first.
        assert!(error.starts_with(sign), "{target}: {error}");
    }
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn clean_removes_the_left_overs_of_a_killed_run_on_every_engine() {
    for (targets, parent) in [("native,podman", "conmon"), ("native,libvirt-lxc", "libvirt_lxc")] {
        let bench = scenario("20s", "");
        let mut command = bench.command(&["--targets", targets]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !agents().contains_key(parent) {
            assert!(begun.elapsed() < Duration::from_secs(90), "no container of {targets}");
            thread::sleep(Duration::from_millis(50));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("clean").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("removed files"), "{said}");
        // The host had the root mounted, and keeps it when its container is gone.
        assert_eq!(said.contains("removed mount"), parent == "libvirt_lxc", "{said}");
        assert_eq!(left_after_a_moment(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn without_a_network_there_is_loopback_alone_and_with_one_the_engines_own() {
    let look = format!("{LIST_INTERFACES}; exec sleep infinity");
    let with = |line: &str, network: bool| {
        let bench = Bench::new(&format!(
            "\n[workload]\ncommand = [\"sh\", \"-c\", '''{look}''']\nready = {{ line = \"{line}\" }}\n\
             network = {network}\n[resources]\nmemory = \"128MiB\"\n\
             [sampling]\nsamples = 1\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\ntimeout = \"20s\"\n{TARGETS}"
        ));
        let samples = bench.run(&["--targets", "podman,libvirt-lxc"]).good();
        assert_eq!(samples.len(), 2);
        let targets = bench.results().unwrap().targets;
        targets
            .iter()
            .map(|target| target.options["network"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(with("^found: lo$", false), ["none", "none"]);
    assert_eq!(with("^found:.* (eth|en|wl|docker|br|virbr|tap)[a-z0-9-]*", true), ["bridge", "host"]);
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn the_doctor_tries_every_engine_and_the_calibration_takes_them_by_name() {
    let doctor = Command::new(env!("CARGO_BIN_EXE_bootrace")).args(["doctor", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    for id in ["podman", "podman.trial", "lxc", "lxc.trial"] {
        let check = json["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap();
        assert_eq!(check["status"], "ok", "{check:#}");
    }
    let targets = json["targets"].as_array().unwrap();
    assert!(targets.iter().all(|target| target["can_run"] == true), "{targets:#?}");

    let out = tempfile::tempdir().unwrap();
    let calibrated = Command::new(env!("CARGO_BIN_EXE_bootrace"))
        .args([
            "calibrate",
            "--targets",
            "podman,lxc",
            "--checks",
            "idle",
            "--samples",
            "2",
            "--json",
            "--out",
        ])
        .arg(out.path())
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&calibrated.stdout).unwrap();
    let rows = json["rows"].as_array().unwrap();
    for target in ["podman", "lxc"] {
        // All processes that came with the instance, found without asking where they are, are in the footprint.
        let row =
            rows.iter().find(|row| row["target"] == target && row["metric"] == "memory.footprint").unwrap();
        assert_eq!(row["verdict"], "pass", "{row:#}");
    }
    assert_eq!(left_after_a_moment(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn an_engine_that_is_down_is_named_with_its_fix() {
    let bench = scenario("0s", "");
    let podman =
        bench.command(&["--targets", "podman"]).env("CONTAINER_HOST", "unix:///nowhere/podman.sock").output();
    Ran::new(podman.unwrap(), None).fails(
        1,
        &["connecting to podman at unix:///nowhere/podman.sock", "start what CONTAINER_HOST names"],
    );
    let lxc = bench
        .command(&["--targets", "libvirt-lxc"])
        .env("LIBVIRT_DEFAULT_URI", "lxc+unix:///?socket=/nowhere/libvirt-sock")
        .output();
    Ran::new(lxc.unwrap(), None).fails(1, &["/nowhere/libvirt-sock", "start what LIBVIRT_DEFAULT_URI"]);
}

#[test]
#[ignore = "needs docker, crun, podman and libvirt's LXC driver: scripts/test runs it"]
fn an_engine_that_is_elsewhere_is_no_proof_that_nothing_is_left_here() {
    let mut command = common::bootrace(&["clean", "--dry-run"]);
    let ran = Ran::new(command.env("CONTAINER_HOST", "tcp://127.0.0.1:1").output().unwrap(), None);
    ran.fails(1, &["connecting to podman at tcp://127.0.0.1:1", "fix: unset CONTAINER_HOST"]);
}

/// A root's podman of this test's own, whose operator maps the user ids of every container.
#[test]
#[ignore = "needs root and podman: scripts/test runs it"]
fn a_podman_that_maps_user_ids_by_default_gives_bootrace_containers_without() {
    let dir = tempfile::tempdir().unwrap();
    let (settings, socket) = (dir.path().join("containers.conf"), dir.path().join("podman.sock"));
    fs::write(&settings, "[containers]\nuserns = \"auto\"\n").unwrap();
    let address = format!("unix://{}", socket.display());
    let mut service = Command::new("podman")
        .args(["--cgroup-manager", "cgroupfs", "system", "service", "--time=0", &address])
        .env("CONTAINERS_CONF", &settings)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    await_podman(&socket);
    let ran = scenario("0s", "").command(&["--targets", "podman"]).env("CONTAINER_HOST", &address).output();
    service.kill().unwrap();
    service.wait().unwrap();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn await_podman(socket: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < deadline, "podman does not answer at {}", socket.display());
        thread::sleep(Duration::from_millis(50));
    }
}

/// A podman that answers for a user who is not root.
struct Rootless {
    home: tempfile::TempDir,
    service: Child,
}

impl Rootless {
    const USER: u32 = 54321;

    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        chown(home.path(), Some(Self::USER), Some(Self::USER)).unwrap();
        let socket = home.path().join("podman.sock");
        let service = Command::new("podman")
            .args(["--cgroup-manager", "cgroupfs", "system", "service", "--time=60"])
            .arg(format!("unix://{}", socket.display()))
            .current_dir(home.path())
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("USER", "rootless")])
            .envs([("HOME", home.path()), ("XDG_RUNTIME_DIR", home.path())])
            .uid(Self::USER)
            .gid(Self::USER)
            .process_group(0)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        await_podman(&socket);
        Rootless { home, service }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.home.path().join("podman.sock").display())
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        // Its user namespace is held by a process of its own.
        let group = Pid::from_child(&self.service);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.service.wait();
        for pid in bootrace::probe::process::all() {
            let is_its = fs::metadata(format!("/proc/{pid}")).is_ok_and(|about| about.uid() == Self::USER);
            if let (true, Some(pid)) = (is_its, Pid::from_raw(pid as i32)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

#[test]
#[ignore = "needs root and podman: scripts/test runs it"]
fn a_rootless_engine_is_refused_by_name_with_reason_and_fix_before_anything_is_built() {
    let rootless = Rootless::new();
    // An image that can't be had: whoever built first would say so.
    let bench = Bench::with_text(
        "name = \"test\"\n[image]\ntarball = \"none.tar\"\n\
         [workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n[[target]]\nkind = \"podman\"\n",
    );
    let address = rootless.address();
    let signs = [
        &*format!("podman at {address} (CONTAINER_HOST): it is rootless: it runs as user {}", Rootless::USER),
        "fix: set CONTAINER_HOST=unix:///run/podman/podman.sock",
    ];
    let output = bench.command(&[]).env("CONTAINER_HOST", &address).output();
    Ran::new(output.unwrap(), None).fails(1, &signs);
    // That it is none is found when it is read, and that it is missing before engines are asked.
    fs::write(bench.scenario().with_file_name("none.tar"), "no archive").unwrap();
    let mut build = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    build.args(["image", "build"]).arg(bench.scenario());
    Ran::new(build.env("CONTAINER_HOST", &address).output().unwrap(), None).fails(1, &signs);
}

#[test]
fn a_libvirt_or_podman_elsewhere_is_refused_before_anything_is_built() {
    let bench = Bench::new(
        "\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n\
         [[target]]\nkind = \"libvirt\"\n[[target]]\nkind = \"podman\"\n",
    );
    let libvirt = bench
        .command(&["--targets", "libvirt"])
        .env("LIBVIRT_DEFAULT_URI", "qemu+ssh://root@elsewhere/system")
        .output();
    Ran::new(libvirt.unwrap(), None)
        .fails(1, &["qemu+ssh://root@elsewhere/system", "LIBVIRT_DEFAULT_URI", "reached over a network"]);
    let podman =
        bench.command(&["--targets", "podman"]).env("CONTAINER_HOST", "ssh://elsewhere/podman.sock").output();
    Ran::new(podman.unwrap(), None).fails(1, &["ssh://elsewhere/podman.sock", "no socket of this host"]);

    let written = Bench::new(
        "\n[workload]\ncommand = [\"true\"]\nready = { exit = 0 }\n\
         [[target]]\nkind = \"libvirt\"\nuri = \"test:///default\"\n",
    );
    written.run(&[]).fails(2, &["target[0].uri", "driver for tests", "write \"qemu:///system\""]);
}
