use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;
use crate::probe::cgroup::{Hierarchy, hierarchy};

const MIB: u64 = 1 << 20;

/// Some tenths of a second of CPU time in a shell; LOOPS makes it shorter under emulation.
const BURN: &str = "i=0; while [ $i -lt ${LOOPS:-500000} ]; do i=$((i+1)); done";

/// A shell that runs given lines, optionally in its own cgroup.
struct Shell {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    cgroups: Vec<PathBuf>,
    ended: bool,
}

impl Shell {
    fn new() -> Self {
        Self::within(Vec::new())
    }

    fn in_cgroup(name: &str) -> Self {
        let Hierarchy { version, cpu, cpuacct, memory, pids } = hierarchy().unwrap();
        let parents = BTreeSet::from_iter([cpu, cpuacct, memory, pids].into_iter().flatten());
        let own = parents.into_iter().map(|parent| {
            if version == 2 {
                fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory").unwrap();
            }
            let dir = parent.join(format!("bootrace-test-{}-{name}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            dir
        });
        Self::within(own.collect())
    }

    fn within(cgroups: Vec<PathBuf>) -> Self {
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("for dir; do echo $$ >$dir/cgroup.procs || exit; done; exec sh -s")
            .arg("sh")
            .args(&cgroups)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut shell = Shell { child, out, cgroups, ended: false };
        shell.run(":");
        shell
    }

    /// Runs a line and returns at its end.
    fn run(&mut self, line: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}\necho done").unwrap();
        let mut answer = String::new();
        self.out.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{line}");
    }

    fn scope(&self) -> Scope {
        Scope { leader: self.child.id(), engine: Vec::new() }
    }

    /// Ends the shell. Returns its and its children's CPU time in ns from the kernel's rusage.
    fn end(mut self) -> u64 {
        drop(self.child.stdin.take());
        #[expect(unsafe_code, reason = "rustix has no wait4")]
        // SAFETY: all zeros is a valid rusage, the pointers are live, and the child has not been waited for.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert!(libc::wait4(self.child.id() as i32, std::ptr::null_mut(), 0, &mut usage) > 0);
            usage
        };
        self.ended = true;
        [usage.ru_utime, usage.ru_stime]
            .iter()
            .map(|t| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000)
            .sum()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if !self.ended {
            // The group is the shell's own as long as the shell is not waited for.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
        for dir in &self.cgroups {
            // The shell's processes may take some time to end.
            for _ in 0..500 {
                if fs::remove_dir(dir).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The instance's memory before and after it runs `line`.
fn memory_around(shell: &mut Shell, line: &str) -> (sample::Memory, sample::Memory) {
    let mut meter = Meter::before(&[]).unwrap();
    meter.attach(&shell.scope()).unwrap();
    let before = meter.memory().unwrap();
    shell.run(line);
    // The cgroup's counters may lag by two seconds.
    thread::sleep(Duration::from_millis(2500));
    (before, meter.memory().unwrap())
}

fn growth(before: Option<u64>, after: Option<u64>) -> f64 {
    (after.unwrap() as f64 - before.unwrap() as f64) / MIB as f64
}

#[track_caller]
fn assert_about(mebibytes: f64, expected: f64) {
    assert!((mebibytes - expected).abs() < 0.1 * expected, "{mebibytes} MiB instead of about {expected} MiB");
}

#[track_caller]
fn assert_agree(measured_ns: u64, billed_ns: u64) {
    let ticks = 2 * process::tick_ns();
    assert!(
        measured_ns.abs_diff(billed_ns) <= billed_ns / 20 + ticks,
        "measured {measured_ns} ns, the kernel's bill says {billed_ns} ns"
    );
}

/// dd fills a buffer of 64 MiB, then waits for a reader.
const HOLD_64_MIB: &str = "dd if=/dev/zero bs=64M count=1 2>/dev/null | sleep 1000 >/dev/null & sleep 1";

#[test]
fn memory_that_a_child_touches_is_in_the_footprint_without_any_cgroup() {
    let mut shell = Shell::new();
    let (before, after) = memory_around(&mut shell, HOLD_64_MIB);
    assert_about(growth(before.footprint, after.footprint), 64.0);
    assert_eq!((after.engine_pss, after.daemons, after.workload_rss), (None, None, None));
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn memory_that_a_child_touches_is_in_the_footprint_and_in_the_cgroups_anon() {
    let mut shell = Shell::in_cgroup("anon");
    let (before, after) = memory_around(&mut shell, HOLD_64_MIB);
    assert_about(growth(before.footprint, after.footprint), 64.0);
    assert_about(growth(before.cgroup_anon, after.cgroup_anon), 64.0);
    assert!(growth(before.cgroup_file, after.cgroup_file) < 4.0);
}

/// Around the writing of 64 MiB to a new file there, by a shell in a cgroup.
fn memory_around_a_file_in(dir: &str, cgroup: &str) -> (sample::Memory, sample::Memory) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let file = dir.path().join("file");
    let write = format!("dd if=/dev/zero of={} bs=1M count=64 2>/dev/null", file.display());
    memory_around(&mut Shell::in_cgroup(cgroup), &write)
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn page_cache_is_charged_to_the_cgroup_and_not_in_the_footprint() {
    let (before, after) = memory_around_a_file_in("/var/tmp", "cache");
    assert_about(growth(before.cgroup_file, after.cgroup_file), 64.0);
    assert!(growth(before.footprint, after.footprint) < 8.0);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn files_in_a_tmpfs_are_in_the_footprint_though_nobody_maps_them() {
    let (before, after) = memory_around_a_file_in("/dev/shm", "tmpfs");
    assert_about(growth(before.footprint, after.footprint), 64.0);
    assert!(growth(before.cgroup_file, after.cgroup_file) < 4.0);
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn cpu_time_of_a_cgroup_agrees_with_the_kernels_bill() {
    let mut shell = Shell::in_cgroup("cpu");
    let mut meter = Meter::before(&[]).unwrap();
    meter.attach(&shell.scope()).unwrap();
    assert!(
        meter.instance.as_ref().is_some_and(|instance| !instance.cpu_by_tree) && meter.processes.is_empty()
    );
    shell.run(&format!("({BURN}); {BURN}"));
    let measured = meter.cpu_ns().unwrap();
    assert_agree(measured, shell.end());
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn an_instance_with_a_cgroup_of_version_2_only_is_counted_by_that() {
    let unified = Mounts::read().unwrap().dir(UNIFIED, "/").expect("a mounted cgroup2 hierarchy");
    let dir = unified.join(format!("bootrace-test-{}-unified", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let mut shell = Shell::within(vec![dir]);
    let mut meter = Meter::before(&[]).unwrap();
    meter.attach(&shell.scope()).unwrap();
    assert!(
        meter.instance.as_ref().is_some_and(|instance| !instance.cpu_by_tree) && meter.processes.is_empty()
    );
    shell.run(&format!("({BURN}); {BURN}"));
    let measured = meter.cpu_ns().unwrap();
    assert_agree(measured, shell.end());
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_daemon_with_a_cgroup_is_counted_with_all_its_helpers_and_none_of_them_twice() {
    let mut daemon = Shell::in_cgroup("daemon");
    let mut shell = Shell::in_cgroup("instance");
    let mut meter = Meter::before(&[daemon.child.id()]).unwrap();
    // A shim: a child of the daemon, in the daemon's cgroup, that outlives the measurement.
    daemon.run(&format!("({BURN}; exec sleep 1000) & pid=$!"));
    let shim = process::tree(daemon.child.id()).unwrap()[1];
    meter.attach(&Scope { leader: shell.child.id(), engine: vec![shim] }).unwrap();
    assert_eq!((meter.groups.len(), meter.processes.len()), (2, 0));
    shell.run(BURN);
    daemon.run("sleep 1; kill $pid; wait $pid");
    let measured = meter.cpu_ns().unwrap();
    assert_agree(measured, daemon.end() + shell.end());
}

#[test]
#[ignore = "needs root: scripts/test runs it"]
fn a_shims_cpu_time_is_the_instances_own_and_a_daemons_is_not() {
    let mut daemon = Shell::in_cgroup("background");
    let mut shell = Shell::in_cgroup("idle");
    let mut meter = Meter::before(&[daemon.child.id()]).unwrap();
    daemon.run(&format!("sh -c 'kill -STOP $$; {BURN}; exec sleep 1000' & pid=$!"));
    let shim = process::tree(daemon.child.id()).unwrap()[1];
    meter.attach(&Scope { leader: shell.child.id(), engine: vec![shim] }).unwrap();
    let (all, own) = (meter.cpu_ns().unwrap(), meter.own_cpu_ns().unwrap());
    let growth = || (meter.cpu_ns().unwrap() - all, meter.own_cpu_ns().unwrap() - own);

    daemon.run(BURN);
    let (of_daemon, its) = growth();
    assert!(its * 10 < of_daemon, "{its} of {of_daemon} ns");
    shell.run(BURN);
    let (all, its) = growth();
    assert_agree(its, all - of_daemon);
    // The shim continues in the daemon's cgroup.
    daemon.run("kill -CONT $pid");
    let wanted = its + of_daemon / 2;
    while growth().1 < wanted {
        thread::sleep(Duration::from_millis(10));
    }
    daemon.run("kill $pid; wait $pid");
}

#[test]
fn cpu_time_of_a_process_tree_agrees_with_the_kernels_bill_also_for_ended_children() {
    let mut shell = Shell::new();
    let mut meter = Meter::before(&[]).unwrap();
    meter.attach(&shell.scope()).unwrap();
    shell.run(&format!("({BURN}); {BURN}"));
    let measured = meter.cpu_ns().unwrap();
    assert_agree(measured, shell.end());
}

#[test]
fn a_daemons_cpu_time_counts_from_before_and_with_its_helpers() {
    let mut daemon = Shell::new();
    daemon.run(BURN);
    let meter = Meter::before(&[daemon.child.id()]).unwrap();
    let start = process::CpuTime::open(daemon.child.id()).unwrap().read_ns().unwrap();
    daemon.run(&format!("({BURN})"));
    let measured = meter.cpu_ns().unwrap();
    assert!(meter.memory().unwrap().daemons.is_some());
    assert_agree(measured, daemon.end() - start);
}

#[test]
fn an_engine_process_is_counted_once_even_if_it_is_the_leader() {
    let mut shell = Shell::new();
    let mut meter = Meter::before(&[]).unwrap();
    let leader = shell.child.id();
    meter.attach(&Scope { leader, engine: vec![leader] }).unwrap();
    shell.run(BURN);
    let memory = meter.memory().unwrap();
    assert_eq!(memory.engine_pss, memory.pss);
    let measured = meter.cpu_ns().unwrap();
    assert_agree(measured, shell.end());
}

#[test]
fn a_leader_that_has_ended_is_an_error_that_names_it() {
    let shell = Shell::new();
    let scope = shell.scope();
    let mut meter = Meter::before(&[]).unwrap();
    meter.attach(&scope).unwrap();
    shell.end();
    for error in [meter.memory().unwrap_err(), meter.cpu_ns().unwrap_err(), meter.attach(&scope).unwrap_err()]
    {
        assert!(error.path.contains(&format!("/proc/{}/", scope.leader)), "{error}");
    }
}

#[test]
fn shared_memory_counts_once_whether_it_is_mapped_or_not() {
    let pss = |shmem| Pss { anon: 10, shmem, ..Pss::default() };
    let held = |shmem| InstanceMemory { inside: pss(shmem), outside: pss(1), engine: 0 };
    assert_eq!(held(5).footprint(0), 10 + 10 + 5 + 1, "charged to another cgroup");
    assert_eq!(held(5).footprint(7), 10 + 10 + 7 + 1, "more of it than is mapped");
}

#[test]
fn swap_is_the_larger_of_cgroup_and_processes_plus_swap_outside() {
    let pss = |swap| Pss { swap, ..Pss::default() };
    let held = InstanceMemory { inside: pss(5), outside: pss(1), engine: 0 };
    assert_eq!((held.swap(0), held.swap(7)), (5 + 1, 7 + 1));
    assert_eq!(held.footprint(0), 0, "swapped-out memory is none that the host would get back");
}

#[test]
fn huge_pages_that_two_processes_map_count_once() {
    let pss = Pss { hugetlb_private: 2, hugetlb_shared: 8, ..Pss::default() };
    let mut held = InstanceMemory::default();
    held.inside.add(&pss);
    held.inside.add(&pss);
    held.outside.add(&pss);
    assert_eq!(held.footprint(0), 3 * 2 + 8);
}
