//! A part of an instance is killed: QEMU, the container, its shim, the agent, the workload. The run goes on.

use std::{fs, process::Command, thread, time::Duration};

use bootrace_agent::protocol::AGENT_PATH;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    case::{HELLO, PATIENCE, Row, Running, SETTLING, Then, WORKING, all_hold},
    killed::each_step_lasts,
};

/// What the host's process `pid` is: its parent and its command line.
fn process(pid: u32) -> Option<(u32, String)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some((parent, String::from_utf8_lossy(&line).replace('\0', " ")))
}

/// The first process that is wanted, as soon as there is one: other programs start it.
fn find(wanted: impl Fn(u32, &str) -> bool) -> (u32, u32) {
    for _ in 0..PATIENCE.as_millis() {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some((parent, line)) = process(pid)
                && wanted(parent, &line)
            {
                return (pid, parent);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("there is no such process");
}

/// Kills exactly this process.
pub fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// The pid of the only agent that runs on the host, and its parent's.
fn agent() -> (u32, u32) {
    find(|_, line| line.starts_with(AGENT_PATH))
}

fn kill_agent(_: &mut Running) {
    kill(agent().0);
}

fn kill_shim(_: &mut Running) {
    kill(agent().1);
}

/// The workload, or the command of its work, which only one of the two has in its command line.
fn kill_workload(_: &mut Running) {
    let agent = agent().0;
    kill(find(|parent, line| parent == agent && (line.contains("infinity"))).0);
}

fn kill_work(_: &mut Running) {
    let agent = agent().0;
    kill(find(|parent, line| parent == agent && line.starts_with("sleep 0.3")).0);
}

fn kill_container(running: &mut Running) {
    assert!(Command::new("docker").args(["kill", &running.instance]).output().unwrap().status.success());
}

/// The pid of the domain's QEMU.
pub fn qemu(running: &Running) -> u32 {
    fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", running.instance)).unwrap().trim().parse().unwrap()
}

fn kill_qemu(running: &mut Running) {
    kill(qemu(running));
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_part_that_is_killed_costs_one_sample_and_the_run_goes_on() {
    type Inject = fn(&mut Running);
    const BEFORE: &str = "the workload ended before it was ready: killed by signal 9";
    const WHILE: &str = "the workload ended while it was measured: killed by signal 9";
    const CLOSED: &str = "the instance ended: its control channel closed";
    let rows: [(_, _, _, Inject, &'static [&'static str]); 13] = [
        ("the workload killed", "native", HELLO, kill_workload, &[BEFORE]),
        ("the workload killed", "native", SETTLING, kill_workload, &[WHILE]),
        ("the workload killed", "native", WORKING, kill_workload, &[WHILE]),
        ("the work command killed", "native", WORKING, kill_work, &["the work command failed: killed by signal 9"]),
        ("the agent killed", "native", SETTLING, kill_agent, &[CLOSED, "the agent ended by signal 9"]),
        ("the workload killed", "docker", HELLO, kill_workload, &[BEFORE]),
        ("the workload killed", "docker", SETTLING, kill_workload, &[WHILE]),
        ("the work command killed", "docker", WORKING, kill_work, &["the work command failed: killed by signal 9"]),
        ("the agent killed", "docker", SETTLING, kill_agent, &[CLOSED]),
        ("docker kill", "docker", WORKING, kill_container, &[CLOSED]),
        ("the shim killed", "docker", SETTLING, kill_shim, &[CLOSED]),
        ("QEMU killed", "libvirt", HELLO, kill_qemu, &["libvirt"]),
        ("QEMU killed", "libvirt", WORKING, kill_qemu, &["libvirt"]),
    ];
    let rows = rows.map(|(fault, target, at, inject, says)| {
        Row::new(fault, target, each_step_lasts(target), (1, at), inject).ends(Some(1), says, 2, Then::Clean)
    });
    all_hold("Parts of an instance killed", &rows, []);
}
