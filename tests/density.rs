//! Many at once for real: what is added stays, costs what it is known to cost, and is gone afterwards.

mod common;

use std::{
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use bootrace::{
    analysis::{analyse, density},
    sample::{Outcome, Results, density::Limit},
};
use bootrace_agent::{
    protocol::AGENT_PATH,
    reference::{READY, ReferenceWorkload},
};
use common::{Bench, left_over};

const MIB: u64 = 1 << 20;

/// Instances that hold so much anonymous memory each, so many of them, and no rounds.
fn scenario(bytes: u64, memory: &str, density: &str) -> String {
    let command =
        std::iter::once(AGENT_PATH.to_owned()).chain(ReferenceWorkload::Anonymous { bytes }.arguments());
    let command: Vec<String> = command.map(|word| format!("{word:?}")).collect();
    format!(
        "\n[workload]\ncommand = [{}]\nready = {{ line = \"^{READY}$\" }}\n[resources]\nmemory = \"{memory}\"\n\
         [sampling]\nsamples = 0\nwarmup = 0\nidle = \"500ms\"\ntimeout = \"120s\"\n[density]\nsettle = \"500ms\"\n{density}",
        command.join(", ")
    )
}

fn filled(bytes: u64, memory: &str, density: &str, targets: &str) -> (Results, Vec<density::Density>) {
    let bench = Bench::new(&scenario(bytes, memory, density));
    let ran = bench.run(&["--targets", targets]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    common::holds_to_schema(ran.results.as_ref().unwrap());
    assert_eq!(left_over(), Vec::<String>::new());
    for file in ["index.html", "summary.md", "charts/density-memory.svg", "charts/density-startup.svg"] {
        assert!(bench.latest().join(file).exists(), "{file}");
    }
    assert!(ran.stdout.contains("memory of one more"), "{}", ran.stdout);
    let results = ran.results.unwrap();
    let figures = analyse(&results).density;
    (results, figures)
}

fn each(figures: &[density::Density], target: &str) -> f64 {
    figures.iter().find(|d| d.target == target).unwrap().memory.unwrap().value
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn processes_and_containers_cost_what_they_are_known_to_hold_and_are_gone_afterwards() {
    let density = "instances = 5\nbursts = [3]\n";
    let (results, plain) = filled(0, "256MiB", density, "native,docker");
    let (_, holding) = filled(32 * MIB, "256MiB", density, "native,docker");
    for target in ["native", "docker"] {
        let more = each(&holding, target) - each(&plain, target);
        let truth = 32.0 * MIB as f64;
        assert!((more - truth).abs() < MIB as f64, "{target}: {more} bytes more for {truth}");
    }
    assert_eq!(results.density.len(), 2);
    for density in &results.density {
        assert_eq!((density.limit, density.reached(), density.died), (Some(Limit::Count), 5, 0));
        for (step, n) in density.steps.iter().zip(1..) {
            assert_eq!((step.n, step.outcome), (n, Outcome::Ok), "{:?}", step.error);
            let (t, p) = (step.timeline_ns, step.timeline_ns.phases().unwrap());
            assert_eq!(p.engine + p.boot + p.app, t.startup().unwrap());
            assert!(step.cpu_startup_ns > Some(0) && step.idle_cpu_sum_ns.is_some());
            assert_eq!(step.daemons_bytes.is_some(), density.target == "docker");
            assert!(t.gone > t.stopping && t.stopping > t.ready);
        }
        // All stay: the first is stopped only once the last was ready.
        let sums: Vec<_> = density.steps.iter().map(|step| step.footprint_sum_bytes.unwrap()).collect();
        assert!(sums.is_sorted(), "{sums:?}");
        assert_eq!((density.bursts[0].failed, density.bursts[0].ready_ns.len()), (0, 3));
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn vms_cost_what_their_guests_are_known_to_hold_and_are_gone_afterwards() {
    // More than any guest touches while it boots: less would be taken of what was touched already.
    let density = "instances = 50\nvms = 2\nbursts = [2]\n";
    let (results, some) = filled(96 * MIB, "256MiB", density, "libvirt");
    let (_, more) = filled(128 * MIB, "256MiB", density, "libvirt");
    let more = each(&more, "libvirt") - each(&some, "libvirt");
    // Huge pages scatter a VM's memory by several MiB.
    assert!((more - 32.0 * MIB as f64).abs() < 12.0 * MIB as f64, "{more} bytes more for 32 MiB");
    let density = &results.density[0];
    assert_eq!((density.limit, density.most, density.reached()), (Some(Limit::Count), 2, 2));
    assert_eq!((density.bursts[0].failed, density.bursts[0].ready_ns.len()), (0, 2));
}

/// Starts a run of many containers and waits until some are there.
fn begun(bench: &Bench) -> std::process::Child {
    let mut command = bench.command(&["--targets", "docker", "--quiet"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let steps = || bench.results().and_then(|results| Some(results.density.first()?.steps.len()));
    while steps().unwrap_or(0) < 3 {
        assert!(Instant::now() < deadline, "no three containers in two minutes");
        sleep(Duration::from_millis(100));
    }
    child
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_interrupt_in_the_middle_removes_all_and_keeps_the_readings() {
    let bench = Bench::new(&scenario(0, "256MiB", "instances = 100\n"));
    let mut child = begun(&bench);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(left_over(), Vec::<String>::new());
    let results = bench.results().unwrap();
    assert!(results.run.interrupted);
    assert_eq!(results.density[0].limit, Some(Limit::Stopped));
    assert!(results.density[0].steps[..3].iter().all(|step| step.footprint_sum_bytes.is_some()));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn clean_removes_the_left_overs_of_a_killed_run() {
    let bench = Bench::new(&scenario(0, "256MiB", "instances = 100\n"));
    let mut child = begun(&bench);
    child.kill().unwrap();
    child.wait().unwrap();
    let clean = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("clean").output().unwrap();
    assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stderr));
    assert_eq!(left_over(), Vec::<String>::new());
    let results = bench.results().unwrap();
    assert!(results.run.interrupted && results.density[0].limit.is_none());
}
