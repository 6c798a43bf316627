//! Each test is its own sandboxed child: it starts the test program again for itself alone, with the number of a job.

use std::{
    env, fs,
    io::Write,
    path::Path,
    process::{abort, exit},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    process::{getpgrp, getpid, kill_process},
    time::{ClockId, clock_gettime},
};

use super::*;
use crate::probe::process::tree;

const SHORT: Duration = Duration::from_millis(100);
/// Longer than any job here takes on any host.
const ENOUGH: Patience = Patience { cpu: Duration::from_secs(60), wall: Duration::from_secs(60) };
const JOB: &str = "BOOTRACE_TEST_JOB";

/// Starts `test` again, as a process in which [`job`] is `job`.
pub fn again<T: Fn()>(_: &T, job: usize) -> Command {
    let (_, test) = std::any::type_name::<T>().split_once("::").unwrap();
    let mut command = Command::new("/proc/self/exe");
    command.args([test, "--exact", "--include-ignored", "--test-threads=1"]).env(JOB, job.to_string());
    command
}

/// The job of this process, if it is a test's child.
pub fn job() -> Option<usize> {
    // The last output of the test harness has no end of line.
    let job = env::var(JOB).ok()?.parse().unwrap();
    say("");
    Some(job)
}

/// Writes to the real standard output, which the test harness does not capture.
fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn confine_to_parent() {
    confine(getppid().unwrap()).unwrap();
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(ENOUGH.wall);
    }
}

/// This thread has no child any more.
fn no_child_is_left() -> bool {
    fs::read_to_string("/proc/thread-self/children").unwrap().is_empty()
}

#[test]
fn a_child_that_ends_leaves_its_output() {
    if job().is_some() {
        confine_to_parent();
        say("found 7");
        exit(0);
    }
    let (said, end) = run(again(&a_child_that_ends_leaves_its_output, 0), ENOUGH);
    assert!(matches!(end, End::Done), "{end:?}");
    assert!(said.ends_with("\nfound 7\n"), "{said}");
    assert!(no_child_is_left());
}

#[test]
fn a_child_that_computes_for_ever_ends_at_its_cpu_limit_and_its_output_is_kept() {
    if job().is_some() {
        confine_to_parent();
        say("computing");
        loop {
            std::hint::spin_loop();
        }
    }
    let this = again(&a_child_that_computes_for_ever_ends_at_its_cpu_limit_and_its_output_is_kept, 0);
    let (said, end) = run(this, Patience { cpu: SHORT, ..ENOUGH });
    let End::Spent { cpu } = end else { panic!("{end:?}") };
    assert!(cpu >= SHORT);
    assert!(said.ends_with("\ncomputing\n"), "{said}");
    assert!(no_child_is_left());
}

#[test]
fn a_child_that_sleeps_in_the_kernel_is_ended() {
    if job().is_some() {
        confine_to_parent();
        sleep_for_ever();
    }
    let patience = Patience { wall: SHORT * 5, ..ENOUGH };
    let (_, end) = run(again(&a_child_that_sleeps_in_the_kernel_is_ended, 0), patience);
    let End::Starved { wall, .. } = end else { panic!("{end:?}") };
    assert_eq!(wall, patience.wall);
    assert!(no_child_is_left());
}

#[test]
fn a_childs_start_is_not_counted() {
    let mut command = Command::new("sh");
    command.args(["-c", "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo started; sleep 0.3"]);
    let (said, end) = run(command, Patience { cpu: SHORT / 2, ..ENOUGH });
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(said, "started\n");
}

/// The case that was once taken for a broken KVM: after 400 ms the child had got 106 ms of CPU time.
#[test]
fn a_child_that_the_host_is_too_busy_for_is_given_its_cpu_time_however_long_that_takes() {
    if job().is_some() {
        let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let begun = used();
        while used() - begun < SHORT {}
        say("done");
        exit(0);
    }
    let stop = AtomicBool::new(false);
    let spin = || {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop()
        }
    };
    let others = 4 * thread::available_parallelism().unwrap().get();
    let begun = Instant::now();
    let (said, end) = thread::scope(|scope| {
        (0..others).for_each(|_| drop(scope.spawn(spin)));
        let this =
            again(&a_child_that_the_host_is_too_busy_for_is_given_its_cpu_time_however_long_that_takes, 0);
        let ran = run(this, Patience { cpu: SHORT * 2, ..ENOUGH });
        stop.store(true, Ordering::Relaxed);
        ran
    });
    assert!(matches!(end, End::Done), "{end:?} after {:?}", begun.elapsed());
    assert!(said.ends_with("\ndone\n"), "{said}");
}

#[test]
fn a_child_that_crashes_or_panics_or_is_killed_is_named_and_its_parent_lives() {
    match job() {
        None => {}
        Some(0) => kill_process(getpid(), Signal::KILL).unwrap(),
        Some(1) => abort(),
        Some(_) => panic!("on purpose"),
    }
    let end = |job| {
        let this = again(&a_child_that_crashes_or_panics_or_is_killed_is_named_and_its_parent_lives, job);
        run(this, ENOUGH).1
    };
    assert!(matches!(end(0), End::Killed), "{:?}", end(0));
    for (job, how) in [(1, "signal 6 ended it"), (2, "it ended with exit code 101")] {
        let end = end(job);
        assert!(matches!(&end, End::Died(why) if why == how), "{end:?}");
    }
    assert!(no_child_is_left());
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let (_, end) = run(Command::new("/no/such/program"), ENOUGH);
    assert!(matches!(&end, End::NotStarted(why) if why.kind() == io::ErrorKind::NotFound), "{end:?}");
}

#[test]
fn a_confined_child_holds_no_file_of_its_parents() {
    if let Some(job) = job() {
        if job == 1 {
            confine_to_parent();
        }
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok()).for_each(|to| say(&to.display().to_string()));
        exit(0);
    }
    let (pipe, _other_end) = io::pipe().unwrap();
    // Unlike the pipe, this one stays open in another program.
    let inherited = rustix::io::dup(&pipe).unwrap();
    let name =
        fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inherited))).unwrap();
    let has_it = |job| {
        let (said, end) = run(again(&a_confined_child_holds_no_file_of_its_parents, job), ENOUGH);
        assert!(matches!(end, End::Done), "{end:?}: {said}");
        assert!(said.contains("/memfd:bootrace-sandbox"), "{said}");
        said.lines().any(|line| Path::new(line) == name)
    };
    assert_eq!([0, 1].map(has_it), [true, false], "unconfined, confined");
}

#[test]
fn a_terminals_signals_do_not_reach_a_child() {
    if job().is_some() {
        say(if getpgrp() == getpid() { "in a group of its own" } else { "in its parent's group" });
        exit(0);
    }
    let (said, end) = run(again(&a_terminals_signals_do_not_reach_a_child, 0), ENOUGH);
    assert!(matches!(end, End::Done), "{end:?}");
    assert!(said.ends_with("\nin a group of its own\n"), "{said}");
}

#[test]
fn a_child_writes_no_more_than_is_read() {
    if job().is_some() {
        confine_to_parent();
        loop {
            say("more");
        }
    }
    let (said, end) = run(again(&a_child_writes_no_more_than_is_read, 0), ENOUGH);
    assert!(matches!(&end, End::Died(why) if why == "signal 25 ended it"), "{end:?}");
    assert_eq!(said.len(), MAX_OUTPUT);
}

#[test]
fn a_confined_child_dies_with_its_parent() {
    const READY: &str = "BOOTRACE_TEST_READY";
    match job() {
        None => {}
        // The parent.
        Some(0) => drop(run(again(&a_confined_child_dies_with_its_parent, 1), ENOUGH)),
        // Its child.
        Some(_) => {
            confine_to_parent();
            fs::write(env::var_os(READY).unwrap(), "").unwrap();
            sleep_for_ever();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let mut parent = again(&a_confined_child_dies_with_its_parent, 0);
    let mut parent = parent.env(READY, &ready).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !ready.exists() {
        assert!(begun.elapsed() < ENOUGH.wall, "no child came up: {:?}", parent.try_wait());
        thread::sleep(PAUSE);
    }
    let [_, child] = tree(parent.id()).unwrap()[..] else { panic!("it has one child") };
    let handle = pidfd_open(Pid::from_raw(child as i32).unwrap(), PidfdFlags::empty()).unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let limit = Timespec { tv_sec: ENOUGH.wall.as_secs() as i64, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "process {child} goes on without its parent");
}

#[test]
fn a_child_whose_parent_has_already_ended_refuses_to_run() {
    if job().is_some() {
        // Nobody is their own parent.
        say(&confine(getpid()).unwrap_err().to_string());
        exit(0);
    }
    let this = again(&a_child_whose_parent_has_already_ended_refuses_to_run, 0);
    let (said, end) = run(this, ENOUGH);
    assert!(matches!(end, End::Done), "{end:?}");
    assert!(said.ends_with(" is not its parent\n"), "{said}");
}

#[test]
fn many_threads_can_run_children_at_once() {
    if let Some(job) = job() {
        confine_to_parent();
        say(&format!("found {job}"));
        exit(0);
    }
    let one = |n| {
        let (said, end) = run(again(&many_threads_can_run_children_at_once, n), ENOUGH);
        assert!(matches!(end, End::Done), "{end:?}");
        assert!(said.ends_with(&format!("\nfound {n}\n")), "{said}");
    };
    thread::scope(|scope| (1..9).for_each(|n| drop(scope.spawn(move || one(n)))));
}
