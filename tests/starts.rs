//! Restarts and resumes: a container and a VM that ran before are started again, or resume from their saved state.

mod common;

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bootrace::sample::Sample;
use common::{Bench, left_over};

/// Each start adds a line to a file on the disk, and burns 0.3 s of CPU time before it is ready; `work` proves what
/// is there after the second one.
fn bench(start: &str, settle: &str, work: &str) -> Bench {
    let target = |kind: &str| {
        // A container that goes on with its memory is unpaused.
        let start = if kind == "docker" && start == "restore" { "unpause" } else { start };
        format!("[[target]]\nkind = \"{kind}\"\nstart = \"{start}\"\n")
    };
    Bench::new(&format!(
        r#"
[workload]
command = ["perl", "-e", '''
open my $lives, ">>", "/var/lives" or die $!; print $lives "x\n"; close $lives;
open my $mark, ">", "/dev/shm/mark" or die $!; close $mark;
1 while (times)[0] < 0.3;
$| = 1; print "ready\n"; sleep 1 while 1;
''']
ready = {{ line = "^ready$" }}
work = {{ command = ["sh", "-c", '{work}'] }}
[resources]
memory = "128MiB"
[sampling]
samples = 2
warmup = 0
settle = "{settle}"
idle = "200ms"
timeout = "60s"
{}{}"#,
        target("docker"),
        target("libvirt")
    ))
}

fn of<'a>(samples: &'a [Sample], target: &str) -> Vec<&'a Sample> {
    samples.iter().filter(|sample| sample.target == target).collect()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_restarted_instance_has_its_disk_and_a_new_memory() {
    // Docker's /dev/shm is made anew for each start, as a VM's memory is.
    let bench = bench("restart", "0s", "test $(wc -l < /var/lives) = 2");
    let samples = bench.run(&[]).good();
    assert_eq!((of(&samples, "docker").len(), of(&samples, "libvirt").len()), (2, 2));
    for sample in &samples {
        let phases = sample.timeline_ns.phases().unwrap();
        assert_eq!(Some(phases.engine + phases.boot + phases.app), sample.timeline_ns.startup());
        // The restart burns as much CPU time as the initial start, which no figure includes.
        let burnt = Duration::from_nanos(sample.cpu_ns.startup.unwrap());
        assert!(burnt > Duration::from_millis(290), "{} {burnt:?}", sample.target);
    }
    let results = bench.results().unwrap();
    for target in &results.targets {
        assert_eq!(target.options["start"], "restart", "{}", target.name);
    }
    let summary = std::fs::read_to_string(bench.latest().join("summary.md")).unwrap();
    assert!(
        summary.contains("Restart or resume. docker: a container that ran until ready and ended"),
        "{summary}"
    );
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_restored_instance_goes_on_with_its_memory() {
    let bench = bench("restore", "0s", "test $(wc -l < /var/lives) = 1 && test -e /dev/shm/mark");
    let samples = bench.run(&[]).good();
    assert_eq!((of(&samples, "docker").len(), of(&samples, "libvirt").len()), (2, 2));
    for sample in of(&samples, "docker") {
        let used = Duration::from_nanos(sample.cpu_ns.startup.unwrap());
        assert!(
            used < Duration::from_millis(290),
            "what the initial start burnt is none of the second's: {used:?}"
        );
    }
    let boots =
        |target| of(&samples, target).iter().map(|s| s.identity.clone().unwrap().boot_id).collect::<Vec<_>>();
    assert!(boots("docker").iter().all(|id| *id == common::boot_id()));
    let vms = boots("libvirt");
    assert!(vms[0] != vms[1] && vms.iter().all(|id| *id != common::boot_id()), "{vms:?}");
    assert_eq!(left_over(), Vec::<String>::new());
}

const KINDS: [(&str, &str); 4] =
    [("restart", "docker"), ("restore", "docker"), ("restart", "libvirt"), ("restore", "libvirt")];

/// A run of one target that has begun, and is stopped before its end.
fn begun(bench: &Bench, target: &str) -> Child {
    let mut run = bench.command(&["--targets", target]);
    run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until something of ours is there.
fn something_runs() {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !left_over().iter().any(|left| left.starts_with("container") || left.starts_with("domain")) {
        assert!(Instant::now() < deadline, "nothing was started");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_run_that_is_stopped_in_an_initial_start_leaves_nothing() {
    for (start, target) in KINDS {
        let bench = bench(start, "20s", "true");
        let mut run = begun(&bench, target);
        something_runs();
        thread::sleep(Duration::from_millis(500));
        rustix::process::kill_process(rustix::process::Pid::from_child(&run), rustix::process::Signal::INT)
            .unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(130), "{start}");
        assert_eq!(left_over(), Vec::<String>::new(), "{start}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn clean_removes_the_left_overs_of_a_run_killed_in_an_initial_start() {
    for (start, target) in KINDS {
        let bench = bench(start, "20s", "true");
        let mut run = begun(&bench, target);
        something_runs();
        run.kill().unwrap();
        run.wait().unwrap();
        let clean = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("clean").output().unwrap();
        assert_eq!(clean.status.code(), Some(0), "{}", String::from_utf8_lossy(&clean.stderr));
        assert_eq!(left_over(), Vec::<String>::new(), "{start}");
    }
}
