//! What goes on beside a run is seen in its samples, and what `--tune` sets is put back, on the real host.

mod common;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use bootrace::{
    analysis::{InterferenceKind, analyse, interference},
    sample::Results,
};
use common::{Bench, left_over};

const KSM: &str = "/sys/kernel/mm/ksm/run";

fn scenario(sampling: &str) -> Bench {
    Bench::new(&format!(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = {{ line = \"ready\" }}\n\
         [resources]\nmemory = \"256MiB\"\n[sampling]\nwarmup = 0\nidle = \"0s\"\ntimeout = \"60s\"\n{sampling}\n"
    ))
}

/// Threads that do something until dropped.
struct Hog(Arc<AtomicBool>, Vec<JoinHandle<()>>);

impl Hog {
    fn new(threads: usize, each: impl Fn(usize) + Send + Sync + Clone + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let run = |i| {
            let (stop, each) = (stop.clone(), each.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    each(i);
                }
            })
        };
        let threads = (0..threads).map(run).collect();
        Hog(stop, threads)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn assert_interference(results: &Results, kind: InterferenceKind) {
    assert!(results.samples.len() >= 4);
    for sample in &results.samples {
        let found = interference(sample, results.host.cpus);
        assert!(found.contains(&kind), "{}: {found:?} of {:?}", sample.target, sample.interference);
    }
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn a_program_that_spins_beside_a_run_is_interference() {
    let cpus = thread::available_parallelism().unwrap().get();
    let hog = Hog::new(cpus, |_| (0..100_000).for_each(|_| std::hint::spin_loop()));
    let bench = scenario("samples = 2\nsettle = \"1s\"");
    let ran = bench.run(&["--targets", "native,docker"]);
    drop(hog);
    let results = ran.results.clone().unwrap();
    ran.good();
    assert_interference(&results, InterferenceKind::BusyHost);
    let caveats = analyse(&results).caveats;
    assert!(
        caveats.iter().any(|d| d.contains("were taken while other processes used the CPUs")),
        "{caveats:#?}"
    );
    let chart = fs::read_to_string(bench.latest().join("charts/startup.svg")).unwrap();
    assert!(chart.contains("sample with interference"));
}

#[test]
#[ignore = "needs root, docker, libvirt and a kernel with PSI: scripts/test runs it"]
fn a_program_that_writes_to_disk_beside_a_run_is_interference() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = dir.path().to_owned();
    let hog = Hog::new(2, move |i| {
        let mut file = File::create(path.join(i.to_string())).unwrap();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
    });
    let bench = scenario("samples = 2\nsettle = \"1s\"");
    let ran = bench.run(&["--targets", "native,docker"]);
    drop(hog);
    let results = ran.results.clone().unwrap();
    ran.good();
    assert_interference(&results, InterferenceKind::DiskPressure);
}

#[test]
#[ignore = "needs root, docker and libvirt: scripts/test runs it"]
fn another_users_container_is_counted_and_reported() {
    let count = |results: &Results| results.host.other_containers.unwrap();
    let bench = scenario("samples = 1\nsettle = \"0s\"");
    let first = bench.run(&["--targets", "docker"]).results.unwrap();
    let before = count(&first);
    let images = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let its =
        |name: &&str| name.strip_prefix("bootrace:").is_some_and(|tag| first.image.digest.starts_with(tag));
    let image = images.lines().find(its).expect("the run has made an image");
    let other = docker(&["run", "-d", "--rm", "--entrypoint", "/bin/sleep", image, "300"]);
    let ran = bench.run(&["--targets", "docker"]);
    docker(&["rm", "-f", other.trim()]);
    let results = ran.results.as_ref().unwrap();
    assert_eq!(count(results), before + 1);
    let caveats = analyse(results).caveats;
    assert!(caveats.iter().any(|d| d.contains("other container")), "{caveats:#?}");
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// KSM, put back to what it was when the test began.
struct Ksm(String);

impl Ksm {
    fn on() -> Self {
        let before = Ksm::now();
        fs::write(KSM, "1").unwrap();
        Ksm(before)
    }

    fn now() -> String {
        fs::read_to_string(KSM).unwrap().trim().to_owned()
    }
}

impl Drop for Ksm {
    fn drop(&mut self) {
        fs::write(KSM, &self.0).unwrap();
    }
}

/// A long tuned run, once its first round is done, and what it says on from there.
fn going_on(bench: &Bench) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = bench
        .command(&["--tune", "--samples", "100", "--targets", "native"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    until(&mut lines, "round 1");
    assert_eq!(Ksm::now(), "0", "off while the run goes on");
    (child, lines)
}

fn until(lines: &mut Lines<BufReader<ChildStderr>>, start: &str) {
    lines
        .find(|line| line.as_ref().unwrap().starts_with(start))
        .unwrap_or_else(|| panic!("no {start}"))
        .unwrap();
}

fn signal(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn clean() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("clean").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs root, docker, libvirt and a kernel with KSM: scripts/test runs it"]
fn a_tuned_run_is_measured_as_tuned_and_restores_settings_also_when_it_fails() {
    let ksm = Ksm::on();
    let bench = scenario("samples = 1\nsettle = \"0s\"");
    let ran = bench.run(&["--tune", "--targets", "native"]);
    assert_eq!(Ksm::now(), "1");
    let host = ran.results.clone().unwrap().host;
    ran.good();
    assert_eq!(host.ksm, Some(false), "the facts are those of the run");
    let tuned = host.tuned.unwrap();
    let of = |name: &str| tuned.iter().find(|s| s.name == name).unwrap();
    assert_eq!((of("ksm").found.as_deref(), of("ksm").set.as_deref()), (Some("1"), Some("0")));
    assert!(of("caches").set.is_some(), "{:?}", of("caches"));
    for name in ["governor", "turbo"] {
        assert!(of(name).set.is_some() || of(name).why_not.is_some(), "{:?}", of(name));
    }

    let dies = Bench::new(
        "\n[workload]\ncommand = [\"false\"]\nready = { line = \"never\" }\n[sampling]\nsamples = 1\n",
    );
    dies.run(&["--tune", "--targets", "native"]).fails(1, &["samples failed"]);
    assert_eq!(Ksm::now(), "1");
    assert!(!Path::new("/run/bootrace/tuned/changes.json").exists());
    drop(ksm);
}

#[test]
#[ignore = "needs root, docker, libvirt and a kernel with KSM: scripts/test runs it"]
fn ctrl_c_once_or_twice_restores_tuned_settings() {
    let _ksm = Ksm::on();
    let bench = scenario("settle = \"5s\"");
    for twice in [false, true] {
        let (mut run, mut said) = going_on(&bench);
        signal(&run, "-INT");
        until(&mut said, "stopping");
        if twice {
            signal(&run, "-INT");
            until(&mut said, "stopped at once");
        }
        assert_eq!(run.wait().unwrap().code(), Some(130));
        assert_eq!(Ksm::now(), "1", "twice: {twice}");
        clean();
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root, docker, libvirt and a kernel with KSM: scripts/test runs it"]
fn after_a_kill_clean_puts_back_and_until_then_another_run_says_that_it_is_needed() {
    let _ksm = Ksm::on();
    let bench = scenario("settle = \"500ms\"");
    let (mut run, said) = going_on(&bench);
    thread::spawn(move || said.for_each(drop));
    let busy = scenario("samples = 1").run(&["--tune", "--targets", "native"]);
    busy.fails(1, &["another tuned run is active"]);
    assert!(clean().contains("no left-overs"), "a run that goes on keeps its settings");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(Ksm::now(), "0");

    let doctor = Command::new(env!("CARGO_BIN_EXE_bootrace")).args(["doctor", "--json"]).output().unwrap();
    let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let left = doctor["checks"].as_array().unwrap().iter().find(|check| check["id"] == "left_over").unwrap();
    assert!(left["found"].as_str().unwrap().contains("setting /sys/kernel/mm/ksm/run: 0, was 1"), "{left:#}");
    assert_eq!((&left["status"], left["fix"].is_string()), (&"warning".into(), true));

    let untuned = scenario("samples = 1\nsettle = \"0s\"").run(&["--targets", "native"]);
    let warnings = untuned.results.unwrap().run.warnings;
    assert!(warnings.iter().any(|w| w.contains("bootrace clean restores them")), "{warnings:?}");
    assert_eq!(Ksm::now(), "0", "only who is asked to touches settings");

    assert!(clean().contains("restored /sys/kernel/mm/ksm/run to 1\n"));
    assert_eq!(Ksm::now(), "1");
    assert_eq!(left_over(), Vec::<String>::new());
}
